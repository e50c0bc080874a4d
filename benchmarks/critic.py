"""How fast and how large the paper's critic is: time and peak memory over the batch size B.

One step = scores of all pairs, the max over 16 regions, InfoNCE, and the backward pass.

    python benchmarks/critic.py --batches 8 16 32                 about 3 minutes on 2 cores
    python benchmarks/critic.py --batches 8 16 32 64 128 \
        --seconds 120 --gigabytes 8                               about 20 minutes

Times: all ways take turns in one process, the median over --repeats; what counts is the ratio.
Memory: each way in a process of its own, the highest resident memory of a step less what was
resident before it (features, weights and libraries). A way is timed fewer times when it has used
up --seconds, and skipped, and said to be, where one step would, or would exceed --gigabytes,
judged by its last batch size. Linux only (memory).
"""

import argparse
import json
import math
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from timing import Work, in_turn, peak_mib
from torch import Tensor

from localmi.mi.bounds import infonce
from localmi.mi.critics import ConcatCritic, Critic, build_critic
from localmi.mi.selection import select_regions
from localmi.train.device import autocast

Way = Callable[[ConcatCritic, Tensor, Tensor], Tensor]
DIM_SENTENCE, DIM_REGION, DIM_IMAGE, NUM_REGIONS = 768, 512, 768, 16
HIDDEN = (1024, 512)
CHUNK = 1024  # pairs whose hidden layers are computed again at a time


def split(critic: ConcatCritic, x: Tensor, y: Tensor) -> Tensor:
    """The library's critic: first layer split, hidden layers kept."""
    critic.chunk = None
    return select_regions(critic(x, y))


def chunked(critic: ConcatCritic, x: Tensor, y: Tensor) -> Tensor:
    """The same, hidden layers computed again in the backward pass."""
    critic.chunk = CHUNK
    return select_regions(critic(x, y))


def winners_only(critic: ConcatCritic, x: Tensor, y: Tensor) -> Tensor:
    """Score without gradient, score the best regions again with gradient (hard max only)."""
    critic.chunk = None
    with torch.no_grad():
        region = critic(x, y).argmax(dim=1)
    return critic.chosen(x, y, region)


def tiled(critic: ConcatCritic, x: Tensor, y: Tensor) -> Tensor:
    """Concatenate all pairs at once by tiling, then the MLP."""
    images, regions, _ = x.shape
    x_tiles = x[:, :, None].expand(-1, -1, len(y), -1)
    y_tiles = y.expand(images, regions, -1, -1)
    scores: Tensor = critic.mlp(torch.cat([x_tiles, y_tiles], dim=-1))
    return select_regions(scores.squeeze(-1))


def one_pair(x: Tensor, y: Tensor, i: int, j: int) -> Tensor:
    """[N, Dx + Dy]: the regions of image i, each with sentence j behind it."""
    return torch.cat([x[i], y[j].expand(x.shape[1], -1)], dim=-1)


def listed(critic: ConcatCritic, x: Tensor, y: Tensor) -> Tensor:
    """Append one image-text pair at a time to a list, concatenate the list, then the MLP."""
    pairs = torch.cat([one_pair(x, y, i, j) for i in range(len(x)) for j in range(len(y))])
    scores: Tensor = critic.mlp(pairs)
    return scores.reshape(len(x), len(y), -1).max(dim=-1).values


def grown(critic: ConcatCritic, x: Tensor, y: Tensor) -> Tensor:
    """The same, but the tensor of pairs grows by one at a time, as in the paper's public code.

    Every pair copies all pairs before it: the copies grow with the fourth power of B.
    """
    pairs = x.new_empty(0, x.shape[-1] + y.shape[-1])
    for i in range(len(x)):
        for j in range(len(y)):
            pairs = torch.cat([pairs, one_pair(x, y, i, j)])
    scores: Tensor = critic.mlp(pairs)
    return scores.reshape(len(x), len(y), -1).max(dim=-1).values


WAYS: dict[str, Way] = {
    "split": split,
    "split, chunked": chunked,
    "split, winners only": winners_only,
    "concatenated by tiling": tiled,
    "concatenated as a list": listed,
    "grown pair by pair": grown,
}
SETTINGS = {"local": (NUM_REGIONS, DIM_REGION), "global": (1, DIM_IMAGE)}


@dataclass(frozen=True)
class Result:
    """One way at one batch size."""

    setting: str  # "local": 16 regions of 512, "global": one image vector of 768
    way: str
    batch: int
    seconds: float | None = None  # median of a step
    ratio: float | None = None  # to the split critic, same batch size
    peak_mib: float | None = None
    skipped: str = ""


def build(
    setting: str, batch: int, kind: str = "concat", regions: int = 0
) -> tuple[Critic, Tensor, Tensor]:
    """A critic, regions [B, N, D] and sentences [B, E]; N of the setting, where not given."""
    number, dim = SETTINGS[setting]
    regions = regions or number
    torch.manual_seed(0)
    critic = build_critic(kind, dim, DIM_SENTENCE, HIDDEN)
    x = torch.randn(batch, regions, dim, requires_grad=True)
    y = torch.randn(batch, DIM_SENTENCE, requires_grad=True)
    return critic, x, y


def step(way: Way, critic: Critic, x: Tensor, y: Tensor) -> float:
    """One loss and its gradients; returns the loss."""
    critic.zero_grad()
    x.grad = y.grad = None
    loss = -infonce(way(critic, x, y))
    loss.backward()
    return loss.item()


def median_seconds(
    setting: str, batch: int, ways: list[str], repeats: int, limit: float = math.inf
) -> dict[str, float]:
    """Median time of a step of each way; they take turns, so that all meet the same machine.

    A way that has used `limit` seconds is not timed again, but once at least.
    """
    critic, x, y = build(setting, batch)
    losses = [step(WAYS[way], critic, x, y) for way in ways]  # also warms up
    if not all(math.isclose(loss, losses[0], abs_tol=1e-4) for loss in losses):
        raise RuntimeError(
            f"The ways disagree on the loss: {dict(zip(ways, losses, strict=True))}"
        )
    works = {way: partial(step, WAYS[way], critic, x, y) for way in ways}
    seconds = in_turn(works, repeats, warm_up=0, limit=limit)
    return {way: statistics.median(times) for way, times in seconds.items()}


def prepare(
    setting: str,
    batch: int,
    way: str,
    kind: str = "concat",
    regions: int = 0,
    precision: str = "float32",
    device: str = "cpu",
) -> tuple[Work, Work]:
    """One step of 2 pairs, and one of `batch`, of any critic ("split": as it is)."""

    def scored(critic: ConcatCritic, x: Tensor, y: Tensor) -> Tensor:
        with autocast(x.device, getattr(torch, precision)):
            return WAYS[way](critic, x, y)

    with torch.device(device):
        small, large = (
            partial(step, scored, *build(setting, size, kind, regions)) for size in (2, batch)
        )
    return small, large


def too_large(last: Result | None, batch: int, limits: argparse.Namespace) -> str:
    """Why a way is not tried at this batch size, judged by its last one."""
    if last is None:
        return ""
    if last.skipped:
        return "as at the size before"
    growth = (batch / last.batch) ** 2  # the pairs
    seconds = growth * (last.seconds or 0)
    gigabytes = growth * (last.peak_mib or 0) / 1024
    if seconds > limits.seconds:
        return f"more than {seconds:.0f} s a step"
    if gigabytes > limits.gigabytes and last.way != "split, chunked":
        return f"about {gigabytes:.0f} GiB"
    return ""


def measure(setting: str, options: argparse.Namespace) -> list[Result]:
    """Every way at every batch size."""
    results: list[Result] = []
    last: dict[str, Result] = {}
    for batch in sorted(options.batches):
        reasons = {way: too_large(last.get(way), batch, options) for way in WAYS}
        ways = [way for way in WAYS if not reasons[way]]
        seconds = (
            median_seconds(setting, batch, ways, options.repeats, options.seconds) if ways else {}
        )
        for way in WAYS:
            peak = None
            if way in ways:
                peak = peak_mib(prepare, setting, batch, way, threads=options.threads)
            ratio = seconds[way] / seconds["split"] if {way, "split"} <= set(ways) else None
            last[way] = Result(setting, way, batch, seconds.get(way), ratio, peak, reasons[way])
            results.append(last[way])
            print_row(last[way])
    return results


def print_row(row: Result) -> None:
    """One line of the table, at once: the larger sizes take a while."""
    start = f"{row.setting:<7} {row.way:<23} {row.batch:>4}"
    if row.skipped:
        print(f"{start}  skipped: {row.skipped}", flush=True)
        return
    ratio = f"{row.ratio:>8.2f}" if row.ratio else f"{'':>8}"
    print(f"{start} {row.seconds:>9.4f} {ratio} {row.peak_mib:>10.0f}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20, help="for one way at one size")
    parser.add_argument("--gigabytes", type=float, default=4, help="for one step")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    if min(options.batches) < 2 or options.repeats < 1:
        parser.error("a batch needs at least 2 pairs, and a median at least 1 repeat")
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print(f"{'setting':<7} {'way':<23} {'B':>4} {'s a step':>9} {'v split':>8} {'peak MiB':>10}")
    results = [row for setting in SETTINGS for row in measure(setting, options)]
    if options.json:
        about = {
            "torch": torch.__version__,
            "threads": options.threads,
            "repeats": options.repeats,
        }
        rows = [asdict(row) for row in results]
        about["machine"] = platform.machine()
        options.json.write_text(json.dumps({"environment": about, "results": rows}, indent=2))


if __name__ == "__main__":
    main()
