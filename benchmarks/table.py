"""One table: each part of the method against a named baseline, on the machine it runs on.

    make bench                                    at most 12 minutes on 2 cores, 12 GB of memory
    python benchmarks/table.py --quick --out /tmp/table          tiny sizes, to see that it runs

Writes `<processor or GPU>.json` and `.md`. All sides of a comparison take turns in one process:
medians and quartiles; the ratio is baseline / ours, below 1 where ours is slower. A rate counts
the multiplications and additions of matrix products and convolutions, of the loader the bytes read
and written; its share is of what a large product in the same precision, or a copy, reaches here.
Peaks are over what was held before, on a CPU in a process of its own (Linux only). The baselines
are written anew from papers and READMEs, in `public.py`.
"""

import argparse
import functools
import json
import platform
import re
import statistics
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import critic
import estimators
import loading
import numpy as np
import psutil
import step
import text
import torch
from public import PublicStep, clip_loss, gloria_loss
from sklearn.feature_selection import mutual_info_regression
from timing import Prepare, Work, in_turn, peak_mib
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from localmi.data.batches import SplitData
from localmi.mi.bounds import infonce
from localmi.mi.distributions import task
from localmi.mi.samples.baselines import ksg
from localmi.mi.selection import select_regions
from localmi.model.image import build_backbone
from localmi.study import load_study
from localmi.train import scoring
from localmi.train.config import REPORT_TOKENS
from localmi.train.device import autocast, choose_device, choose_dtype
from localmi.train.pretraining import Pretraining

RESULTS = Path(__file__).parent / "results"
PACKAGES = "torch", "torchvision", "transformers", "numpy", "scikit-learn"
WORDS = 20  # of a sentence
CPU = {
    "repeats": 9,
    "slow_repeats": 3,  # of what takes seconds
    "side": 2048,  # of the matrices of the roofline
    "copied_mib": 256,
    "batch": 32,  # of critics, of image encoders, of the loader
    "text_batch": 16,
    "pairs": 512,  # of a bound alone
    "samples": 10_000,  # of KSG
    "images": 4096,  # of the loader's cache
    "image_size": 256,
    "bert": {},  # sizes that are not BERT-base's
    "changes": {},  # of the configurations of a step
    "batches": (8, 16, 32, 64),
    "regions": (4, 16, 64),
    "lengths": (16, 32, 64, 128),  # word pieces
}
GPU = {"slow_repeats": 9, "side": 8192, "copied_mib": 2048, "batch": 64, "text_batch": 64}
QUICK = {
    **{"repeats": 2, "slow_repeats": 1, "side": 256, "copied_mib": 4, "batch": 4, "text_batch": 2},
    **{"pairs": 16, "samples": 300, "images": 64, "image_size": 64, "batches": (2, 4)},
    "bert": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
    "changes": {"batch_size": 4, "image_size": 128},
    **{"regions": (4, 16), "lengths": (16, 32)},
}
PROFILES = {
    "quick": CPU | QUICK,
    "cpu": CPU,
    "cuda": CPU | GPU | {"batches": (8, 32, 64, 128, 256)},
}


class Bench:
    """What is measured at the sizes of a profile, and what was found."""

    def __init__(self, profile: str, threads: int) -> None:
        self.sizes, self.threads = SimpleNamespace(**PROFILES[profile]), threads
        device = choose_device("auto")
        self.device = device.type
        self.precision = str(choose_dtype("auto", device)).removeprefix("torch.")
        self.machine = self._machine() | {"profile": profile}
        self.roofline = self._roofline()
        self.rows: list[dict[str, Any]] = []
        self.shares: list[dict[str, Any]] = []
        self.growth: list[dict[str, Any]] = []

    def _machine(self) -> dict[str, Any]:
        name, memory = processor(), psutil.virtual_memory().total
        if self.device == "cuda":
            name = torch.cuda.get_device_name()
            memory = torch.cuda.get_device_properties(0).total_memory
        return {
            **{"name": name, "device": self.device, "threads": self.threads},
            **{"memory_gib": round(memory / 2**30, 1), "precision": self.precision},
            **{"python": platform.python_version()},
            **{package: version(package) for package in PACKAGES},
        }

    def _roofline(self) -> list[dict[str, float]]:
        """What products of matrices and copies reach at best, on one thread and on all."""
        found = []
        source = torch.ones(self.sizes.copied_mib * 2**18, device=self.device)
        square = torch.randn(self.sizes.side, self.sizes.side, device=self.device)
        of_each = [2 * self.sizes.side**3] * 2 + [2 * source.nbytes]
        ways = {
            "float32, GFLOP/s": functools.partial(torch.mm, square, square),
            "bfloat16, GFLOP/s": functools.partial(torch.mm, *[square.bfloat16()] * 2),
            "copy, GB/s": functools.partial(torch.empty_like(source).copy_, source),
        }
        for threads in sorted({1, self.threads} if self.device == "cpu" else {self.threads}):
            torch.set_num_threads(threads)
            seconds = in_turn(ways, self.sizes.repeats, device=self.device)
            best = [
                amount / min(times) / 1e9
                for amount, times in zip(of_each, seconds.values(), strict=True)
            ]
            found.append({"threads": threads, **dict(zip(ways, best, strict=True))})
        return found

    def compare(
        self,
        group: str,
        ways: Mapping[str, Any],
        *pairs: tuple[str, str],
        precision: str = "",
        slow: bool = False,
        peaks: bool = False,
    ) -> None:
        """Times all ways in turn; a row for each pair (ours, baseline) of their names.

        `precision`: of what is counted, "" counts nothing, "name": it ends the way's name.
        `peaks`: the ways are to be prepared, each in a process of its own too for its memory.
        """
        works = {name: way()[1] for name, way in ways.items()} if peaks else ways
        repeats = self.sizes.slow_repeats if slow else self.sizes.repeats
        seconds = in_turn(works, repeats, device=self.device)
        rates = {}
        for ours in {ours for ours, _ in pairs} if precision else ():
            of = ours.rpartition(", ")[2] if precision == "name" else precision
            rates[ours] = count_flop(works[ours]), f"{of}, GFLOP/s"
        found = {name: self.peak(way) for name, way in ways.items()} if peaks else {}
        self.add(group, seconds, *pairs, rates=rates, peaks=found)

    def add(
        self,
        group: str,
        seconds: Mapping[str, list[float]],
        *pairs: tuple[str, str],
        unit: str = "ms",
        rates: Mapping[str, tuple[float, str]] | None = None,
        peaks: Mapping[str, float | None] | None = None,
    ) -> None:
        """A row for each pair of what was timed; of rates what is done at a time, and its peak."""
        for ours, baseline in pairs:
            median, other = (statistics.median(seconds[name]) for name in (ours, baseline))
            row = {"group": group, "what": ours, "median": 1e3 * median}
            row |= {"quartiles": quartiles(seconds[ours]), "baseline": baseline}
            row |= {"baseline_median": 1e3 * other}
            row |= {"baseline_quartiles": quartiles(seconds[baseline]), "unit": unit}
            row |= {"repeats": len(seconds[ours]), "ratio": other / median}
            row |= {"verdict": "slower" if median > other else "faster"}
            if amount := (rates or {}).get(ours):
                row |= {"rate": (rate := amount[0] / median / 1e9), "rate_unit": amount[1]}
                row |= {"share_of_roofline": rate / self.roofline[-1][amount[1]]}
            if peaks:
                row |= {"peak_mib": peaks[ours], "baseline_peak_mib": peaks[baseline]}
            self.rows.append(row)
            print(f"{group}: {ours}, {1e3 * median:.3g} {unit}, {other / median:.2f} x {baseline}")

    def peak(self, prepare: Prepare) -> float | None:
        """MiB; None where this system does not tell."""
        if self.device == "cpu" and platform.system() != "Linux":
            return None
        return peak_mib(prepare, device=self.device, threads=self.threads)

    def grow(self, over: str, what: str, prepare: Mapping[int, Prepare]) -> None:
        """Time and peak at each size, and the exponents of both."""
        works = {str(size): make()[1] for size, make in prepare.items()}
        seconds = in_turn(works, self.sizes.slow_repeats, device=self.device).values()
        medians = [1e3 * statistics.median(times) for times in seconds]
        peaks, sizes = [self.peak(make) for make in prepare.values()], list(prepare)
        row = {"what": what, "over": over, "sizes": sizes, "medians": medians, "unit": "ms"}
        row |= {"quartiles": [quartiles(times) for times in seconds]}
        row |= {"exponent": exponent(sizes, medians), "repeats": self.sizes.slow_repeats}
        row |= {"peaks_mib": peaks, "exponent_of_peak": exponent(sizes, peaks)}
        self.growth.append(row)
        print(f"growth of {what} over {over}: exponent {row['exponent']:.2f}")


def processor() -> str:
    """The name of the processor, as the system tells it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def quartiles(seconds: list[float]) -> list[float]:
    """Of milliseconds."""
    return (1e3 * np.quantile(seconds, [0.25, 0.75])).tolist()


def exponent(sizes: list[int], values: list[float]) -> float | None:
    """a of value ~ size ** a, by least squares of the logarithms; None without all values."""
    if not all(value and value > 0 for value in values):
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def count_flop(work: Work) -> int:
    """Multiplications and additions of one call, attention's written out."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def image_passes(
    name: str, batch: int, size: int, precision: str, device: str
) -> tuple[Work, Work]:
    """The global vectors of 2 images and of `batch`, each with its backward pass."""
    network = build_backbone(name, image_size=size).to(torch.device(device)).train()

    def run(pixels: Tensor) -> None:
        with autocast(pixels.device, getattr(torch, precision)):
            found = network.pooled(pixels)
        found.float().sum().backward()

    inputs = (torch.randn(number, 1, size, size, device=device) for number in (2, batch))
    small, large = (functools.partial(run, pixels) for pixels in inputs)
    return small, large


def look(at_once: bool) -> tuple[Work, Work]:
    """The validation images of the main job against its texts, by parts or all at once."""
    config = step.configuration("main", Path(), "auto")
    cache = load_study(image_size=config.image_size)
    training, data = Pretraining(config, cache), SplitData(cache, "validate")

    def small() -> None:
        training.region_scores(data.images(np.arange(2)), training.encode_texts(data.texts[:2]))

    def whole() -> None:
        with mock.patch.object(scoring, "PAIRS_AT_ONCE", 2**62):
            training.score_split(data, images_at_once=len(data))

    return small, whole if at_once else lambda: training.score_split(data)


# --- The groups of rows ---


def critics(bench: Bench) -> None:
    kept = "concat critic, hidden layers kept"
    kinds = {kept: ("split", "concat"), "concat critic, chunked": ("split, chunked", "concat")}
    kinds |= {f"{kind} critic": ("split", kind) for kind in ("separable", "bilinear")}
    ways = {
        name: functools.partial(
            *(critic.prepare, "local", bench.sizes.batch, *kind), device=bench.device
        )
        for name, kind in kinds.items()
    }
    pairs = [(name, kept) for name in kinds if name != kept]
    bench.compare("critic", ways, *pairs, precision="float32", peaks=True)


def bounds(bench: Bench) -> None:
    scores = torch.randn(*[bench.sizes.pairs] * 2, device=bench.device, requires_grad=True)
    x, y = (one.double().numpy() for one in task("1v1-normal-0.75").sample(bench.sizes.samples, 0))
    ways: dict[tuple[str, str], tuple[Work, Work]] = {
        (f"InfoNCE of {len(scores)} pairs", "open_clip's loss"): (
            lambda: infonce(scores).neg().backward(),
            lambda: clip_loss(scores).backward(),
        ),
        (f"KSG of {len(x):,} samples", "scikit-learn's mutual_info_regression"): (
            lambda: ksg(x, y),
            lambda: mutual_info_regression(x, y[:, 0], n_neighbors=3),
        ),
    }
    mist = "separable InfoNCE of 512 pairs, on the CPU", "torch-mist"
    try:
        ways[mist] = estimators.torch_mist_infonce()
    except ImportError as error:
        names = dict(zip(("what", "baseline"), mist, strict=True))
        bench.rows.append({"group": "bounds", **names, "absent": f"not imported: {error}"})
    for pair, works in ways.items():
        bench.compare("bounds", dict(zip(pair, works, strict=True)), pair)


def selection(bench: Bench) -> None:
    batch, kinds = bench.sizes.batch, ("separable", "concat")
    with torch.device(bench.device):
        inputs = {kind: critic.build("local", batch, kind) for kind in kinds}
        words = torch.randn(batch, WORDS, critic.DIM_SENTENCE, requires_grad=True)
        project = nn.Linear(critic.DIM_REGION, critic.DIM_SENTENCE)

    def local(kind: str) -> None:
        network, x, y = inputs[kind]
        infonce(select_regions(network(x, y), "soft")).neg().backward()

    theirs = f"GLoRIA-style attention of {WORDS} words"
    ways = {f"{kind} critic, soft maximum": functools.partial(local, kind) for kind in kinds}
    pairs = [(name, theirs) for name in ways]
    ways[theirs] = lambda: gloria_loss(project(inputs[kinds[0]][1]), words).backward()
    bench.compare("region selection", ways, *pairs, precision="float32")


def encoders(bench: Bench, folder: str) -> None:
    sizes, same = bench.sizes, {"precision": bench.precision, "device": bench.device}
    pair = "the paper's image network", "torchvision's resnet18"
    ways = {
        name: functools.partial(
            *(image_passes, network, sizes.batch), size=sizes.image_size, **same
        )
        for name, network in zip(pair, ("resnet256_6_2_1", "resnet18"), strict=True)
    }
    bench.compare("encoders", ways, pair, precision=bench.precision, peaks=True)
    ways = {
        f"text encoder, {length} word pieces": functools.partial(
            text.prepare, folder, sizes.text_batch, length=length, **same
        )
        for length in (text.WORD_PIECES, REPORT_TOKENS)
    }
    bench.compare("encoders", ways, tuple(ways), precision=bench.precision, slow=True, peaks=True)


def loader(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as name:
        cache = loading.write_cache(Path(name), bench.sizes.images)
        jpegs = loading.write_jpegs(Path(name), 2)
        found = loading.time_ways(cache, jpegs, bench.sizes.batch, bench.sizes.repeats)
    ours = "loading a batch with its tokens"
    pairs = [(ours, f"decoding, {how}") for how in ("as prepare does", "whole")]
    rates = {ours: (2 * loading.SIZE**2, "copy, GB/s")} if bench.device == "cpu" else None
    bench.add("loader", found, *pairs, unit="ms an image", rates=rates)


def whole_steps(bench: Bench, folder: Path) -> None:
    """Each size against its former self, then against the public code's; the shares of parts."""
    for size, what in (("main", "main job's step"), ("paper", "step at the paper's sizes")):
        config = step.configuration(size, folder, "auto", **bench.sizes.changes)
        found = step.measure(config, bench.sizes.repeats)
        pair = f"{what}, {bench.precision}", "the same in its former, plainer ways"
        seconds = [found[way]["whole"] for way in ("now", "former")]
        bench.add("whole step", dict(zip(pair, seconds, strict=True)), pair)
        now = step.medians(found)["now"]
        bench.shares += [
            {"step": pair[0], "part": part, "median": 1e3 * one, "unit": "ms"}
            | {"share_of_step": one / now["whole"]}
            for part, one in now.items()
        ]
        against_public(bench, what, Pretraining(config, load_study(image_size=config.image_size)))


def against_public(bench: Bench, what: str, own: Pretraining) -> None:
    """Over whole reports and at equal tokens, in each precision and as published."""
    public = PublicStep(own, own.cache)
    works = {
        what: own.train_step,
        f"public-style step, {REPORT_TOKENS} tokens": public.whole_reports,
        "public-style step, equal tokens": public.equal_tokens,
    }

    def within(precision: str, work: Work) -> None:
        own.dtype = getattr(torch, precision)
        work()

    ways: dict[str, Work] = {}
    pairs: dict[tuple[str, str], None] = {}
    for precision in dict.fromkeys(("float32", bench.precision)):
        names = [f"{name}, {precision}" for name in works]
        for name, work in zip(names, works.values(), strict=True):
            ways[name] = functools.partial(within, precision, work)
        as_published = list(ways)[1]
        pairs |= dict.fromkeys((names[0], other) for other in (as_published, *names[1:]))
    bench.compare("whole step", ways, *pairs, precision="name", slow=True)


def looks(bench: Bench) -> None:
    pair = "look at a split, by parts", "look at a split, all at once"
    ways = {name: functools.partial(look, name == pair[1]) for name in pair}
    bench.compare("evaluation", ways, pair, precision=bench.precision, slow=True, peaks=True)


def growth(bench: Bench, folder: str) -> None:
    sizes, same = bench.sizes, {"precision": bench.precision, "device": bench.device}
    for kind in ("concat", "separable"):
        local = functools.partial(critic.prepare, "local", way="split", kind=kind, **same)
        by_batch = {size: functools.partial(local, batch=size) for size in sizes.batches}
        bench.grow("batch", f"{kind} critic", by_batch)
        local = functools.partial(local, batch=sizes.batch)
        by_regions = {size: functools.partial(local, regions=size) for size in sizes.regions}
        bench.grow("regions", f"{kind} critic", by_regions)
    images = functools.partial(image_passes, "resnet256_6_2_1", size=sizes.image_size, **same)
    by_batch = {size: functools.partial(images, batch=size) for size in sizes.batches}
    bench.grow("batch", "the paper's image network", by_batch)
    texts = functools.partial(text.prepare, folder, sizes.text_batch, **same)
    by_length = {size: functools.partial(texts, length=size) for size in sizes.lengths}
    bench.grow("word pieces", "text encoder", by_length)


def measure(profile: str, threads: int) -> dict[str, Any]:
    """The whole table; what takes most memory comes first."""
    bench = Bench(profile, threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bert-base"  # where step.py looks for it
        text.write_bert(folder, **bench.sizes.bert)
        whole_steps(bench, Path(name))
        for group in (critics, bounds, selection, loader, looks):
            group(bench)
        encoders(bench, str(folder))
        growth(bench, str(folder))
    return {name: found for name, found in vars(bench).items() if name in PARTS}


PARTS = {
    "machine": "Machine",
    "roofline": "Roofline",
    "rows": "Against a baseline (ratio: baseline / ours)",
    "shares": "Parts of a step",
    "growth": "Growth (exponent a: size ** a)",
}


def as_markdown(found: Mapping[str, Any]) -> str:
    """The parts of a table, each a table of its own."""
    lines = []
    for part, title in PARTS.items():
        rows = found[part] if isinstance(found[part], list) else [found[part]]
        columns = dict.fromkeys(name for row in rows for name in row)
        cells = [[_cell(name, row.get(name)) for name in columns] for row in rows]
        table = [[name.replace("_", " ") for name in columns], ["---"] * len(columns), *cells]
        lines += [f"## {title}", "", *(f"| {' | '.join(row)} |" for row in table), ""]
    return "\n".join(lines)


def _cell(name: str, value: object) -> str:
    if isinstance(value, list):
        joint = " to " if isinstance(value[0], float) and "quartiles" in name else "; "
        return joint.join(_cell(name, one) for one in value)
    if isinstance(value, float):
        return f"{value:.1%}" if name.startswith("share") else f"{float(f'{value:.3g}'):,.10g}"
    if value == "slower":
        return "**slower**"
    return "" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = measure("quick" if options.quick else device, options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", found["machine"]["name"].lower()).strip("-")
    path = options.out / f"{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(as_markdown(found), encoding="utf-8")
    print(f"{path} and .md")


if __name__ == "__main__":
    main()
