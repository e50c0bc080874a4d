"""The benchmarks are run by hand; what they import must be there, and be what it is called."""

import importlib
import json
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from unittest import mock

import pandas as pd
import pytest
import torch
from places import ROOT

from localmi.course.error_map import NAMES
from localmi.mi.bounds import infonce
from localmi.mi.critics import ConcatCritic
from localmi.model.limitr import Dropout
from localmi.train.device import keep_freed_memory

FOLDER = ROOT / "benchmarks"
Find = Callable[[str], ModuleType]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Find:
    """A module of the folder, by name."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.stem)
def test_a_benchmark_can_be_started(path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
    runpy.run_path(str(path), run_name="imported")


def test_after_ranks_a_bend_of_a_column_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    baselines = runpy.run_path(str(FOLDER / "estimators.py"))["BASELINES"]
    assert set(baselines) <= set(NAMES), "a heading in the map for each"
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x + torch.randn(400, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for name in ("ksg", "cca"):
        of_ranks, of_raw = baselines[f"{name} after ranks"], baselines[name]
        assert of_ranks(x, y**3) == pytest.approx(of_ranks(x, y), abs=1e-6)
        assert of_raw(x, y**3) != pytest.approx(of_raw(x, y), abs=1e-2)


def test_the_map_of_errors_is_written_as_a_table_too(
    benchmark: Find, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = {"task": "1v1-normal-0.75", "truth": 0.41, "method": "ksg"}
    runs = [row | {"seed": seed, "value": value} for seed, value in enumerate((0.43, 0.40))]
    rows = tmp_path / "rows.json"
    rows.write_text(
        json.dumps({"results": [*runs, row | {"method": "cca", "seed": 0, "value": None}]})
    )
    out, table = tmp_path / "map.png", tmp_path / "errors.csv"
    asked = ["figure", "--rows", str(rows), "--out", str(out), "--table", str(table)]
    monkeypatch.setattr(sys, "argv", ["estimators.py", *asked])
    benchmark("estimators").main()
    found = pd.read_csv(table, index_col="task")
    assert list(found) == ["KSG", "Gaussian"], "the map's headings, on one line"
    assert found["KSG"].item() == pytest.approx(0.01, abs=0.006), "value less truth, to hundredths"
    assert found["Gaussian"].isna().item(), "what was refused stays open"
    assert out.stat().st_size > 1000


# --- What takes turns, and how it is timed and weighed ---


def test_ways_take_turns_after_a_warm_up_that_is_not_timed(benchmark: Find) -> None:
    calls: list[str] = []
    ways = {name: partial(calls.append, name) for name in "ab"}
    ticks = iter(range(100))
    found = benchmark("timing").in_turn(ways, 3, warm_up=2, clock=lambda: next(ticks))
    assert "".join(calls) == "ab" * 5
    assert found == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_a_way_that_has_used_its_time_is_timed_once(benchmark: Find) -> None:
    ticks = iter([0, 9, 10, 11, 12, 13, 14, 15])
    found = benchmark("timing").in_turn(
        {"slow": int, "fast": int}, 3, warm_up=0, limit=5, clock=lambda: next(ticks)
    )
    assert found == {"slow": [9], "fast": [1, 1, 1]}


def test_on_a_gpu_its_own_events_are_read_after_it_was_waited_for(benchmark: Find) -> None:
    said: list[str] = []
    first, last = mock.Mock(), mock.Mock()
    first.record.side_effect = partial(said.append, "first")
    last.record.side_effect = partial(said.append, "last")
    first.elapsed_time.side_effect = lambda end: said.append("read") or 20.0 * (end is last)
    seconds: list[float] = []
    with (
        mock.patch("torch.cuda.Event", side_effect=[first, last]),
        mock.patch("torch.cuda.synchronize", side_effect=partial(said.append, "wait")),
        benchmark("timing").timed(seconds, "cuda"),
    ):
        said.append("work")
    assert said == ["wait", "first", "work", "last", "wait", "read"]
    assert seconds == [0.02]


def test_the_peak_is_that_of_the_work(benchmark: Find) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks of memory are read under Linux only")

    def prepare(mebibytes: int) -> tuple[Callable[[], object], Callable[[], object]]:
        small, large = (partial(torch.ones, size * 2**18) for size in (1, mebibytes))
        return small, large

    keep_freed_memory()  # as a run does: what a warm-up has freed must not be taken for nothing
    peak = benchmark("timing").peak_here
    for size in (160, 40):
        assert peak(prepare, (size,), "cpu", 1) == pytest.approx(size, abs=10)


# --- The baselines are what they are called ---


@pytest.mark.parametrize("number", [2, 7])
def test_open_clips_loss_is_log_k_less_infonce(benchmark: Find, number: int) -> None:
    torch.manual_seed(number)
    scores = 3 * torch.randn(number, number, dtype=torch.float64)
    expected = math.log(number) - infonce(scores)
    assert benchmark("public").clip_loss(scores).item() == pytest.approx(expected.item())


def test_word_region_attention_is_that_of_a_loop(benchmark: Find) -> None:
    public = benchmark("public")
    torch.manual_seed(0)
    regions = torch.randn(2, 5, 4, dtype=torch.float64)
    words = torch.randn(3, 6, 4, dtype=torch.float64)
    found = public.word_region_scores(regions, words)
    assert found.shape == (2, 3)
    for i, image in enumerate(regions):
        for j, report in enumerate(words):
            total = 0.0
            for word in report:
                weights = [math.exp(public.SHARPER_REGIONS * (word @ one).item()) for one in image]
                seen = sum(w * one for w, one in zip(weights, image, strict=True)) / sum(weights)
                cosine = (seen @ word / seen.norm() / word.norm()).item()
                total += math.exp(public.SHARPER_WORDS * cosine)
            assert found[i, j].item() == pytest.approx(math.log(total))


def test_pairs_that_are_appended_one_by_one_have_the_scores_of_the_critic(
    benchmark: Find,
) -> None:
    torch.manual_seed(0)
    critic = ConcatCritic(5, 3, hidden=(8, 4)).double()
    images, texts = torch.randn(4, 5).double(), torch.randn(4, 3).double()
    public = mock.Mock()
    public.training.alignment.critic = critic
    found = benchmark("public").PublicStep.scores(public, images, texts)
    torch.testing.assert_close(found, critic(images, texts))


def test_reports_are_padded_to_320_word_pieces(benchmark: Find) -> None:
    public = benchmark("public")
    public_step = mock.Mock()
    ids = torch.tensor([[7, 8, 9], [7, 9, 0]])
    public_step.training.tokens.select.return_value = public.Tokens(ids, (ids > 0).long())
    found = public.PublicStep.padded(public_step, torch.arange(2))
    assert found.input_ids.shape == found.attention_mask.shape == (2, 320)
    assert found.attention_mask.sum(dim=1).tolist() == [3, 2]
    assert found.input_ids[:, :3].tolist() == ids.tolist()


# --- Word by word ---


def test_the_ways_of_limitr_are_what_they_are_called(benchmark: Find) -> None:
    words = benchmark("words")
    size = words.Size(images=3, texts=18, regions=4, words=5, dim=8)
    losses = {}
    with mock.patch.object(Dropout, "forward", lambda _, vectors: vectors):
        for way, make in words.WAYS.items():
            torch.manual_seed(0)
            loss, leaves = make(size)
            losses[way] = loss()
            losses[way].backward()
            assert all(leaf.grad is not None for leaf in leaves)
    ours, at_once, single, *_ = losses.values()
    torch.testing.assert_close(ours, at_once)
    assert not torch.isclose(ours, single, rtol=1e-4)


def test_the_texts_of_an_image_are_no_mismatch_of_each_other(benchmark: Find) -> None:
    words = benchmark("words")
    owner, allowed = words.owners(images=2, texts=4)
    assert owner.tolist() == [0, 1, 0, 1]
    assert allowed.int().tolist() == [[0, 1, 0, 1], [1, 0, 1, 0]] * 2


def test_local_mi_beside_them_is_the_main_jobs(benchmark: Find) -> None:
    words = benchmark("words")
    config = benchmark("step").configuration("main", Path(), "float32")
    assert (config.critic, config.region_select) == ("separable", "soft")
    assert config.critic_hidden == words.MAIN_HIDDEN
    assert config.new_image_encoder().region_dim == words.MAIN_REGION
    assert config.new_text_encoder().dim == words.MAIN_SENTENCE


@pytest.mark.parametrize(("way", "growth"), [("OURS", (0.6, 1.7)), ("AT_ONCE", (3, 6))])
def test_in_chunks_memory_does_not_grow_with_the_texts(
    way: str, growth: tuple[float, float], benchmark: Find
) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks of memory are read under Linux only")
    words, timing = benchmark("words"), benchmark("timing")
    keep_freed_memory()
    few, many = (
        timing.peak_here(words.prepare, (getattr(words, way), size), "cpu", 1)
        for size in (words.Size(8, texts, 32, 40, 128) for texts in (32, 128))
    )
    assert growth[0] < many / few < growth[1]


# --- The table ---


def test_a_row_that_is_slower_than_its_baseline_says_so(benchmark: Find) -> None:
    rows = benchmark("rows")
    bench = rows.Bench("quick", 1)
    seconds = {"ours": [0.3, 0.2, 0.4], "theirs": [0.1, 0.6, 0.15], "others": [0.6, 0.6, 0.6]}
    rates = {"ours": (3e9, "copy, GB/s")}
    bench.add("group", seconds, ("ours", "theirs"), ("ours", "others"), rates=rates)
    slower, faster = bench.rows
    assert (slower["ratio"], slower["verdict"]) == (pytest.approx(0.5), "slower")
    assert (faster["ratio"], faster["verdict"]) == (pytest.approx(2), "faster")
    assert (slower["median"], slower["unit"]) == (300, "ms")
    assert slower["quartiles"] == pytest.approx([250, 350])
    assert slower["rate"] == pytest.approx(10)
    assert slower["share_of_roofline"] == pytest.approx(10 / bench.roofline[-1]["copy, GB/s"])
    found = {part: getattr(bench, part) for part in rows.PARTS}
    shown = [line for line in rows.as_markdown(found).splitlines() if "| ours |" in line]
    assert ["**slower**" in line for line in shown] == [True, False]
    assert "250 to 350" in shown[0]


def test_exponents_and_counted_products(benchmark: Find) -> None:
    rows = benchmark("rows")
    assert rows.exponent([2, 4, 16], [3 * size**1.5 for size in (2, 4, 16)]) == pytest.approx(1.5)
    assert rows.exponent([2, 4], [1.0, 0.0]) is None
    assert rows.exponent([2, 4], [1.0, None]) is None
    x, y = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5)
    assert rows.count_flop(lambda: (x @ y).sum().backward()) == 2 * (2 * 3 * 4 * 5)


@pytest.mark.slow
def test_the_whole_table_is_written(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "table.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    [written] = tmp_path.glob("*.json")
    found, shown = json.loads(written.read_text()), written.with_suffix(".md").read_text()
    assert found["machine"]["name"] in shown
    rows = {(row["what"], row["baseline"]): row for row in found["rows"]}
    assert len(rows) == len(found["rows"])
    for (what, baseline), row in rows.items():
        assert f"| {what} |" in shown
        assert f"| {baseline} |" in shown
        if "absent" in row:
            assert "torch-mist" in baseline
            continue
        assert row["ratio"] == pytest.approx(row["baseline_median"] / row["median"])
        assert (row["verdict"] == "slower") == (row["ratio"] < 1)
        assert row["unit"].startswith("ms")
        assert row["repeats"] >= 1
        for side in ("", "baseline_"):
            low, high = row[f"{side}quartiles"]
            assert low <= row[f"{side}median"] <= high
    told = " ".join(f"{what} v {baseline}" for what, baseline in rows)
    for name in (
        "open_clip",
        "scikit-learn",
        "torch-mist",
        "GLoRIA",
        "320 tokens",
        "equal tokens",
        "LIMITR in chunks",
        "one softmax",
        "local MI of 6 sentences",
    ):
        assert name in told
    for name in ("resnet18", "320 word pieces", "decoding", "all at once", "former"):
        assert name in told
    shares = {(one["step"], one["part"]): one["share_of_step"] for one in found["shares"]}
    assert len({step for step, _ in shares}) == 2
    assert all(share >= 0 for share in shares.values())
    over = {"batch", "regions", "word pieces", "texts"}
    assert {one["over"] for one in found["growth"]} == over
    for one in found["growth"]:
        assert len(one["sizes"]) == len(one["medians"]) == len(one["peaks_mib"]) > 1
