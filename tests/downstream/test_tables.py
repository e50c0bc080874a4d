import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labelled_study import labelled_cache
from sklearn.metrics import roc_auc_score

from localmi.__main__ import app
from localmi.data.cache.cache import Cache
from localmi.data.labels import PATHOLOGY9
from localmi.downstream import paper_tables as tables_paper
from localmi.downstream import table_cells as tables_read
from localmi.downstream import tables
from localmi.downstream.config import DownstreamConfig
from localmi.downstream.pretrained_encoder import load_image_encoder
from localmi.downstream.result import PREDICTIONS, predictions_of
from localmi.downstream.tasks import labelled_images
from localmi.errors import DataError
from localmi.evaluate.edema import EDEMA_TASKS
from localmi.files import write_table
from localmi.model.image import PAPERS
from localmi.record import write_results
from localmi.statistics import holm
from localmi.train.pretraining import Pretraining

VARIANTS = ("", "global infonce", "local infonce")
SKILL = {"": 0.0, "global infonce": 0.3, "local infonce": 1.0}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A run folder as `run_downstream` leaves it: predictions with the skill of its variant.

    words_alone: as the version before left it, which knew of no other network.
    """

    def make(
        task: str,
        origin: str = "",
        *,
        seed: int = 0,
        name: str = "",
        network: str = PAPERS,
        words_alone: bool = False,
        **changes: Any,
    ) -> Path:
        init = {"init": f"{origin}-{seed}.pt"} if origin else {}
        config = DownstreamConfig.checked(task=task, image_size=32, seed=seed, **init, **changes)
        part = labelled_images(labelled_cache(60), config)["test"]
        rng = np.random.default_rng([seed, len(origin)])
        scores = SKILL.get(origin, 0.5) * part.targets + rng.random(part.targets.shape)
        if task == "edema":
            scores /= scores.sum(axis=1, keepdims=True)
        predictions = predictions_of(task, part, scores)
        folder = (
            tmp_path / "runs" / (name or f"{task} {origin} {seed} {config.fraction} {network}")
        )
        folder.mkdir(parents=True)
        write_table(predictions.table(), folder / PREDICTIONS)
        encoder = f"{origin}, step 40: blocks 1 to 6 are loaded" if origin else "image-only: all"
        data, parameters = {"sha256": "d" * 64, "encoder": encoder}, config.as_record()
        if words_alone:  # as the version before
            del parameters["image_encoder"]
        else:
            objective, _, bound = origin.partition(" ")
            is_known = objective in ("local", "global")
            known = {"objective": objective, "bound": bound} if is_known else {}
            data |= {"architecture": network, "objective": "", "bound": ""} | known
        write_results(
            folder,
            notebook="downstream",
            parameters=parameters,
            data=data,
            metrics={},
            seconds=1,
        )
        return folder

    return make


@pytest.fixture
def grid(write: Write, tmp_path: Path) -> Path:
    for task in ("pathology9", "edema"):
        for origin in VARIANTS:
            for seed in (0, 1):
                write(task, origin, seed=seed)
    return tmp_path / "runs"


def test_both_tables(grid: Path) -> None:
    found = tables.make_tables(grid, permutations=99)
    auc = found.auc.set_index(["task", "variant", "finding"]).sort_index()
    assert len(auc) == 3 * (9 + 1 + 3 + 1)
    assert list(dict.fromkeys(found.auc["variant"])) == [
        "image-only",
        "global-infonce-tuned",
        "local-infonce-tuned",
    ]
    assert (auc["seeds"] == 2).all()
    assert ((auc["auc_low"] <= auc["auc"]) & (auc["auc"] <= auc["auc_high"])).all()

    runs = {run.seed: run for run in tables_read.read_runs(grid) if "9 local" in str(run.folder)}
    by_seed = []
    for run in runs.values():
        known, column = run.predictions, PATHOLOGY9.index("Edema")
        counted = known.mask[:, column]
        by_seed.append(
            roc_auc_score(known.targets[counted, column], known.probabilities[counted, column])
        )
    row = auc.loc[("pathology9", "local-infonce-tuned", "Edema")]
    assert row["auc"] == pytest.approx(np.mean(by_seed))
    assert row["auc_sd"] == pytest.approx(np.std(by_seed, ddof=1))
    alone = [run for run in tables_read.read_runs(grid) if "9  " in str(run.folder)]
    spread = np.std([tables._own_aucs(run) for run in alone], axis=0, ddof=1)  # [10]
    image_only = auc.loc[("pathology9", "image-only")].loc[[*PATHOLOGY9, "mean"]]
    assert spread.max() > 0
    np.testing.assert_allclose(image_only["auc_sd"], spread)
    own = auc.loc[("pathology9", "local-infonce-tuned")].drop("mean")
    mean = auc.loc[("pathology9", "local-infonce-tuned", "mean")]
    assert mean["auc"] == pytest.approx(own["auc"].mean())

    tests = found.comparisons
    assert set(zip(tests["a"], tests["b"], strict=True)) == {
        ("local-infonce-tuned", "image-only"),
        ("local-infonce-tuned", "global-infonce-tuned"),
        ("global-infonce-tuned", "image-only"),
    }
    assert len(tests) == 2 * (9 + 3 + 2) + 2  # the last pair: the means of both tasks alone
    claimed = (tests["a"] == "local-infonce-tuned") & (tests["b"] == "image-only")
    means = tests[claimed & (tests["finding"] == "mean")]
    difference = mean["auc"] - auc.loc[("pathology9", "image-only", "mean"), "auc"]
    assert means["difference"].tolist()[0] == pytest.approx(difference)
    assert means["p"].tolist() == [0.01, 0.01]  # (1 + 0) / (1 + 99): the skill is plain
    assert means["p_holm"].tolist() == [0.06, 0.06]  # of the means of three pairs and two tasks
    (one,) = tests[claimed & (tests["finding"] == "Edema")].to_dict("records")
    column = PATHOLOGY9.index("Edema")
    own = [tables._own_aucs(runs[run.seed])[column] for run in alone]
    theirs = [tables._own_aucs(run)[column] for run in alone]
    spread = np.std(np.subtract(own, theirs), ddof=1)
    assert one["difference_sd"] == pytest.approx(spread)


def test_any_number_of_workers_computes_the_same(grid: Path) -> None:
    one, two = (tables.make_tables(grid, permutations=19, workers=number) for number in (1, 2))
    pd.testing.assert_frame_equal(one.auc, two.auc)
    pd.testing.assert_frame_equal(one.comparisons, two.comparisons)


def test_holm_is_over_all_means_and_over_all_findings(grid: Path) -> None:
    tests = tables.make_tables(grid, permutations=99).comparisons
    on_means = tests["finding"] == "mean"
    for family, number in ((tests[on_means], 2 * 3), (tests[~on_means], 2 * (9 + 3))):
        assert len(family) == number
        for name in ("p", "p_method"):
            np.testing.assert_allclose(family[f"{name}_holm"], holm(family[name]))


def test_what_holds_of_the_method_is_wider(grid: Path) -> None:
    """Of two seeds, whose spread the interval over patients does not know of."""
    tests = tables.make_tables(grid, permutations=99).comparisons
    widths = (tests["method_high"] - tests["method_low"]) / (tests["high"] - tests["low"])
    assert widths.median() > 1.5
    inside = (tests["method_low"] <= 0) & (tests["method_high"] >= 0)
    assert (inside == (tests["p_method"] >= 0.05)).all()


def command(*words: object) -> int:
    """The exit code of `python -m localmi tables`."""
    with pytest.raises(SystemExit) as ended:
        app(["tables", *map(str, words)])
    return int(ended.value.code or 0)


def test_the_command_writes_parquet_csv_and_markdown(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command(grid, "--out", out, "--permutations", 19) == 0
    text = (out / "tables.md").read_text(encoding="utf-8")
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert [title.split()[1].rstrip(",") for title in titles] == ["pathology9", "edema", "Paired"]
    assert text in capsys.readouterr().out
    assert "## edema, 100 % of the labels" in text
    assert "| local-infonce-tuned | 0." in text
    assert "| pathology9 | 100 % | local-infonce-tuned | image-only | +0." in text
    for name in ("auc", "comparisons"):
        stored, as_text = pd.read_parquet(out / f"{name}.parquet"), out / f"{name}.csv"
        assert stored.to_csv(index=False, lineterminator="\n") == as_text.read_text()
    assert "patient-" not in (out / "auc.csv").read_text() + text
    assert not (out / "counts.csv").exists()


def test_the_command_counts_the_labels_of_a_study(
    grid: Path, tiny_cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()  # tables are made anew where some stand
    few = ("--permutations", 19)
    assert command(grid, "--out", out, "--data-dir", tiny_cache.folder, *few) == 0
    counts = pd.read_csv(out / "counts.csv", index_col="finding")
    assert counts.loc["Consolidation", "train, paper"] == 20_074
    assert command(grid, "--out", tmp_path / "none", "--data-dir", grid, *few) == 2
    assert "holds no cache" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_tables_are_read_back(grid: Path, tiny_cache: Cache, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    text = tables.write_tables(grid, out, data_dir=tiny_cache.folder, permutations=19)
    assert text == (out / "tables.md").read_text(encoding="utf-8")
    made, read = tables.make_tables(grid, permutations=19), tables.read_tables(out)
    pd.testing.assert_frame_equal(read.auc, made.auc)
    pd.testing.assert_frame_equal(read.comparisons, made.comparisons)
    assert read.counts is not None
    assert list(read.counts.index) == [*PATHOLOGY9, "Edema Severity"]
    (out / "counts.csv").unlink()
    assert tables.read_tables(out).counts is None


def test_tables_that_are_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no auc.csv. Name a folder that `make tables`"):
        tables.read_tables(tmp_path)
    (tmp_path / "auc.csv").write_text("task,fraction\nedema,1.0\n")
    with pytest.raises(DataError, match=r"lacks the columns \['variant', 'finding', 'auc'"):
        tables.read_tables(tmp_path)


def test_the_paper_is_copied_right() -> None:
    """Its captions give the averages of the tuned variants over both bounds, and their spread."""
    paper = tables_paper.paper_aucs()
    assert len(paper) == 9 * (9 + 3)
    assert set(paper["finding"]) == {*PATHOLOGY9, *EDEMA_TASKS}
    tuned = paper[paper["variant"].str.endswith("-tuned")]
    tuned = tuned.assign(objective=tuned["variant"].str.split("-").str[0])
    found = tuned.groupby(["task", "objective"])["auc"].agg(["mean", lambda auc: auc.std(ddof=0)])
    printed = {
        ("edema", "local"): (0.88, 0.05),
        ("edema", "global"): (0.85, 0.06),
        ("pathology9", "local"): (0.84, 0.05),
        ("pathology9", "global"): (0.81, 0.05),
    }
    for key, numbers in printed.items():
        assert found.loc[key].tolist() == pytest.approx(numbers, abs=0.0051)
    others = paper[~paper["variant"].str.endswith("-tuned")].groupby(["task", "variant"])["auc"]
    sums = others.sum().round(2)  # added up by hand
    assert sums["edema"].to_dict() == {
        "image-only": 2.41,
        "global-infonce-frozen": 2.51,
        "global-mine-frozen": 2.50,
        "local-infonce-frozen": 2.24,
        "local-mine-frozen": 2.38,
    }
    assert sums["pathology9"].to_dict() == {
        "image-only": 6.81,
        "global-infonce-frozen": 6.41,
        "global-mine-frozen": 6.34,
        "local-infonce-frozen": 6.28,
        "local-mine-frozen": 6.31,
    }


def test_a_grid_that_is_not_finished_has_tables_too(write: Write, tmp_path: Path) -> None:
    """Seeds that only one variant has do not enter its test; a variant alone has none."""
    write("edema", "local mine", seed=0)
    assert tables.make_tables(tmp_path, permutations=9).comparisons.empty
    write("edema", "local mine", seed=1)
    write("edema", "", seed=1)
    found = tables.make_tables(tmp_path, permutations=9)
    assert set(found.comparisons["seeds"]) == {1}
    assert set(found.auc["seeds"]) == {1, 2}
    assert found.auc.loc[found.auc["variant"] == "image-only", "auc_sd"].isna().all()


def test_a_folder_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path) == 2
    assert "no finished downstream run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_runs_that_do_not_belong_together(write: Write, tmp_path: Path) -> None:
    write("edema", "local mine", seed=0)
    write("edema", "local mine", seed=1, epochs=7)
    with pytest.raises(DataError, match="differ in epochs"):
        tables.make_tables(tmp_path)


def test_a_seed_that_is_there_twice(write: Write, tmp_path: Path) -> None:
    write("edema", name="one")
    write("edema", name="other")
    with pytest.raises(DataError, match="Two runs of one seed: .*one and .*other. Remove one"):
        tables.make_tables(tmp_path)


def test_runs_on_other_images(write: Write, tmp_path: Path) -> None:
    write("edema", seed=0)
    path = write("edema", "local mine", seed=1) / PREDICTIONS
    table = pd.read_parquet(path)
    write_table(table.iloc[::-1], path)
    with pytest.raises(DataError, match="tested on other images or labels"):
        tables.make_tables(tmp_path)


@pytest.mark.parametrize("words_alone", [False, True])
def test_a_checkpoint_of_unknown_origin(write: Write, tmp_path: Path, words_alone: bool) -> None:
    write("edema", "weights without a record", words_alone=words_alone)
    with pytest.raises(DataError, match="without a record, .*use a checkpoint of notebook 07"):
        tables.make_tables(tmp_path)


@pytest.mark.parametrize("bound", ["infonce", "mine"])
@pytest.mark.parametrize("objective", ["local", "global"])
def test_the_origin_of_our_checkpoints_is_read(
    build: Callable[..., Pretraining], tmp_path: Path, objective: str, bound: str
) -> None:
    """From the fields that a record takes over; the words still begin as those of old ones."""
    build(objective=objective, bound=bound).save(tmp_path / "checkpoint.pt")
    encoder = load_image_encoder(tmp_path / "checkpoint.pt")
    assert (encoder.objective, encoder.bound) == (objective, bound)
    found = tables_read.ORIGIN.match(str(encoder))
    assert found is not None
    assert found.groups() == (objective, bound)


def test_runs_of_the_version_before_are_sorted_by_their_words(
    write: Write, tmp_path: Path
) -> None:
    """Beside new ones, and into the same cells."""
    for origin in VARIANTS:
        write("edema", origin, seed=0, words_alone=True)
        write("edema", origin, seed=1)
    cells = tables_read.cells_of(tables_read.read_runs(tmp_path))
    assert {name for _, _, name in cells} == {
        "image-only",
        "global-infonce-tuned",
        "local-infonce-tuned",
    }
    for cell in cells.values():
        assert list(cell.runs) == [0, 1]
        assert {run.architecture for run in cell.runs.values()} == {PAPERS}
    old, new = cells["edema", 1.0, "local-infonce-tuned"].runs.values()
    assert (old.objective, old.bound, old.mode) == (new.objective, new.bound, new.mode)


def test_bounds_that_the_version_before_did_not_know(write: Write, tmp_path: Path) -> None:
    for bound in ("nwj", "smile"):
        write("edema", f"local {bound}")
    variants = {run.variant for run in tables_read.read_runs(tmp_path)}
    assert variants == {"local-nwj-tuned", "local-smile-tuned"}


def test_another_network_is_compared_with_its_own_kind(write: Write, tmp_path: Path) -> None:
    for origin in VARIANTS:
        write("edema", origin)
        write("edema", origin, network="resnet18", image_encoder="" if origin else "resnet18")
    found = tables.make_tables(tmp_path, permutations=9)
    papers = ["image-only", "global-infonce-tuned", "local-infonce-tuned"]
    assert set(found.auc["variant"]) == {*papers, *(f"resnet18 {name}" for name in papers)}
    tests = found.comparisons
    pairs = set(zip(tests["a"], tests["b"], strict=True))
    of_papers = {(a, b) for a, b in pairs if not a.startswith("resnet18 ")}
    assert len(of_papers) == 3
    assert pairs - of_papers == {(f"resnet18 {a}", f"resnet18 {b}") for a, b in of_papers}
    assert all(" " not in b for _, b in of_papers)
    (one,) = tests[
        (tests["a"] == "resnet18 local-infonce-tuned")
        & (tests["b"] == "resnet18 image-only")
        & (tests["finding"] == "mean")
    ].to_dict("records")
    assert one["difference"] > 0.1


def test_results_of_other_notebooks_are_passed_over(write: Write, tmp_path: Path) -> None:
    write("edema")
    (tmp_path / "results.json").write_text(json.dumps({"notebook": "07_train_local_mi"}))
    assert len(tables_read.read_runs(tmp_path)) == 1
