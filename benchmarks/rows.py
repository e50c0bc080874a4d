"""What `make bench` measures: sizes, machine and roofline, rows, growth, and all in Markdown."""

import platform
import re
import statistics
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import torch
from timing import Prepare, Work, in_turn, peak_mib
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from localmi.train.device import choose_device, choose_dtype

PACKAGES = "torch", "torchvision", "transformers", "numpy", "scikit-learn"
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
    "attended": (  # images, texts, regions, words, D: reports, sentences, few of a paper's sizes
        *((32, 32, 16, 47, 128), (32, 32, 64, 47, 128)),
        *((32, 32, 16, 10, 128), (8, 16, 361, 47, 256)),
    ),
    "texts": (32, 64, 128, 256),
}
GPU = {"slow_repeats": 9, "side": 8192, "copied_mib": 2048, "batch": 64, "text_batch": 64}
QUICK = {
    **{"repeats": 2, "slow_repeats": 1, "side": 256, "copied_mib": 4, "batch": 4, "text_batch": 2},
    **{"pairs": 16, "samples": 300, "images": 64, "image_size": 64, "batches": (2, 4)},
    "bert": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
    "changes": {"batch_size": 4, "image_size": 128},
    **{"regions": (4, 16), "lengths": (16, 32), "attended": ((4, 4, 4, 5, 8),), "texts": (4, 16)},
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
        in_float32, flop = product(self.sizes.side, torch.float32, self.device)
        in_bfloat16, _ = product(self.sizes.side, torch.bfloat16, self.device)
        of_each = [flop, flop, 2 * source.nbytes]
        ways = {
            "float32, GFLOP/s": in_float32,
            "bfloat16, GFLOP/s": in_bfloat16,
            "copy, GB/s": partial(torch.empty_like(source).copy_, source),
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


def product(side: int, dtype: torch.dtype, device: str) -> tuple[Work, int]:
    """A product of square matrices, and its multiplications and additions."""
    square = torch.randn(side, side, device=device).to(dtype)
    return partial(torch.mm, square, square), 2 * side**3


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
        if not rows:
            continue
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
