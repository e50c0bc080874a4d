"""How accurate and how fast the estimators are: nats against known nats, seconds in one process.

    python benchmarks/estimators.py accuracy --tasks 1v1-normal-0.75 --number 10000
    python benchmarks/estimators.py accuracy              all 40 tasks, about an hour on one core
    python benchmarks/estimators.py staircase             2, 4, ... 10 nats, and the cube
    python benchmarks/estimators.py speed                 2 minutes
    python benchmarks/estimators.py figure --rows a.json --out map.png    of what --json has kept

Accuracy: every figure is the value of pairs that nothing was fitted to, with its 95 % interval,
less the truth. KSG and CCA use all pairs, raw or after a map of each column. Each seed is another
draw, split and network; all count.

Speed: both sides take turns in one process, the median over --repeats; what counts is the ratio.
Of torch-mist and benchmark-mi only where `torch_mist` or `bmi` can be imported: make an
environment of its own for each (they bring their own requirements; benchmark-mi 0.1.3 wants
jax < 0.4.31 and numpy < 2), install this library there, and run this file with its Python.
"""

import argparse
import importlib
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import critic as critic_benchmark
import numpy as np
import torch
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression
from timing import Work, in_turn, timed
from torch import Tensor

from localmi.course.error_map import mean_errors, plot_errors
from localmi.course.plots import use_style
from localmi.errors import LocalMIError
from localmi.mi.bounds import infonce
from localmi.mi.critics import SeparableCritic
from localmi.mi.distributions import TASKS, Task, staircase, task
from localmi.mi.samples.baselines import gaussian_mi, ksg
from localmi.mi.samples.estimate import estimate
from localmi.mi.samples.inputs import Scale

STAIRCASE = (2.0, 4.0, 6.0, 8.0, 10.0)
Baseline = Callable[[Tensor, Tensor], float]


def after_ranks(baseline: Baseline) -> Baseline:
    """On normal scores, as `estimate` gives them to a critic, but of all pairs."""

    def scores(values: Tensor) -> Tensor:
        array = values.double().numpy()
        return Scale.of(array, "rank")(array)

    return lambda x, y: baseline(scores(x), scores(y))


BASELINES: dict[str, Baseline] = {
    "ksg": ksg,
    "ksg after ranks": after_ranks(ksg),
    "cca": gaussian_mi,
    "cca after asinh": lambda x, y: gaussian_mi(x.asinh(), y.asinh()),
    "cca after ranks": after_ranks(gaussian_mi),
}


@dataclass(frozen=True)
class Accuracy:
    """One method on one draw of one task; the interval is that of value, not of the error."""

    task: str
    truth: float
    method: str
    seed: int
    value: float | None = None
    interval95: tuple[float, float] | None = None  # the baselines have none
    cap: float | None = None
    at_cap: bool = False
    step: int | None = None
    seconds: float = 0.0
    refused: str = ""  # why a method did not take these samples


@dataclass(frozen=True)
class Speed:
    """Median seconds of two sides of one comparison."""

    what: str
    ours: float | None = None
    theirs: float | None = None
    ratio: float | None = None
    skipped: str = ""


def measure(world: Task, method: str, seed: int, options: argparse.Namespace) -> Accuracy:
    """One row: held out for the neural methods."""
    x, y = world.sample(options.number, seed)
    seconds: list[float] = []
    found: dict[str, object] = {}
    with timed(seconds):
        try:
            if method in BASELINES:
                found["value"] = BASELINES[method](x, y)
            else:
                one = estimate(
                    x,
                    y,
                    method=method,
                    critic=options.critic,
                    start=options.start,
                    steps=options.steps,
                    seed=seed,
                )
                found = {"value": one.value, "interval95": one.interval95, "step": one.step}
                found |= {"cap": one.cap if np.isfinite(one.cap) else None, "at_cap": one.at_cap}
        except LocalMIError as error:
            found["refused"] = str(error).split(". ")[0]
    row = Accuracy(world.name, world.true_mi, method, seed, seconds=seconds[0], **found)  # type: ignore[arg-type]
    print_accuracy(row)
    return row


def print_accuracy(row: Accuracy) -> None:
    """One line, at once."""
    start = f"{row.task:<50} {row.truth:>6.3f} {row.method:<15} {row.seed:>4}"
    if row.value is None:
        print(f"{start}  refused: {row.refused}", flush=True)
        return
    interval = "[{:6.3f}, {:6.3f}]".format(*row.interval95) if row.interval95 else ""
    cap = "at cap" if row.at_cap else ""
    error = row.value - row.truth
    print(
        f"{start} {row.value:>7.3f} {interval:<16} {error:>+7.3f} {row.seconds:>6.1f} {cap}",
        flush=True,
    )


def accuracy(worlds: list[Task], options: argparse.Namespace) -> list[Accuracy]:
    """Every method on every task, for every seed."""
    print(
        f"{'task':<50} {'truth':>6} {'method':<15} {'seed':>4} {'value':>7} {'95 %':<16} "
        f"{'error':>7} {'s':>6}"
    )
    return [
        measure(world, method, seed, options)
        for world in worlds
        for method in (*options.methods, *options.baselines)
        for seed in range(options.seeds)
    ]


def steps_of_staircase() -> list[Task]:
    return [staircase(mi, cubic=cubic) for cubic in (False, True) for mi in STAIRCASE]


def compared(what: str, ours: Work, theirs: Work, repeats: int) -> Speed:
    """Median seconds of both."""
    seconds = in_turn({"ours": ours, "theirs": theirs}, repeats)
    mine, other = (statistics.median(seconds[side]) for side in ("ours", "theirs"))
    return Speed(what, mine, other, other / mine)


def torch_mist_infonce() -> tuple[Work, Work]:
    """A training step of separable InfoNCE, 512 pairs, networks 20-128-128: ours, torch-mist's.

    Raises:
        ImportError: torch-mist is not there.
    """
    estimators = importlib.import_module("torch_mist.estimators")
    dim, width, number = 20, 128, 512
    peer = estimators.infonce(x_dim=dim, y_dim=dim, hidden_dims=[width, width])
    own = SeparableCritic(dim, dim, hidden=(width,), width=width)
    sizes = [sum(one.numel() for one in side.parameters()) for side in (own, peer)]
    if sizes[0] != sizes[1]:
        raise RuntimeError(f"The two critics differ: {sizes[0]} and {sizes[1]} parameters.")
    batches = torch.randn(8, 2, number, dim)  # torch-mist keeps what it computed of the last one
    for_own, for_peer = cycle(batches), cycle(batches)

    def ours() -> None:
        own.zero_grad()
        (-infonce(own(*next(for_own)), direction="image_to_text")).backward()

    def theirs() -> None:
        peer.zero_grad()
        peer.loss(*next(for_peer)).backward()

    return ours, theirs


def torch_mist(options: argparse.Namespace) -> Speed:
    what = "separable InfoNCE, N = 512: torch-mist"
    try:
        return compared(what, *torch_mist_infonce(), options.repeats)
    except ImportError as error:
        return Speed(what, skipped=f"torch_mist cannot be imported ({error})")


def concat_critics(options: argparse.Namespace) -> list[Speed]:
    """The paper's critic with 16 regions and 32 texts, forward and backward."""
    ways = ["split", "concatenated by tiling", "grown pair by pair"]
    found = critic_benchmark.median_seconds("local", 32, ways, options.repeats)
    return [
        Speed(
            f"concat critic, R = 16, B = 32: {way}",
            found["split"],
            found[way],
            found[way] / found["split"],
        )
        for way in ways[1:]
    ]


def brute_force_ksg(x: np.ndarray, y: np.ndarray, neighbours: int = 3) -> float:
    """KSG-1 with the distances of each point to all others, point by point."""
    x, y = ((one - one.mean(0)) / one.std(0) for one in (x, y))
    total = 0.0
    for i in range(len(x)):
        of_x, of_y = np.abs(x - x[i]).max(1), np.abs(y - y[i]).max(1)
        distance = np.sort(np.maximum(of_x, of_y))[neighbours]
        total += digamma((of_x < distance).sum()) + digamma((of_y < distance).sum())
    return float(digamma(neighbours) + digamma(len(x)) - total / len(x))


def nearest_neighbours(options: argparse.Namespace) -> list[Speed]:
    """KSG at 10,000 pairs of one dimension each."""
    what = "KSG, N = 10,000"
    pairs = task("1v1-normal-0.75").sample(10_000, seed=0)
    x, y = (one.double().numpy() for one in pairs)
    values = ksg(x, y), brute_force_ksg(x, y)
    if abs(values[0] - values[1]) > 1e-9:
        raise RuntimeError(f"The two KSG disagree: {values[0]} and {values[1]}.")
    repeats = max(1, min(options.repeats, 3))
    others: dict[str, Work] = {
        "brute force": lambda: brute_force_ksg(x, y),
        "scikit-learn": lambda: mutual_info_regression(x, y[:, 0], n_neighbors=3),
    }
    try:
        peer = importlib.import_module("bmi").estimators.KSGEnsembleFirstEstimator
    except ImportError as error:
        skipped = [Speed(f"{what}: benchmark-mi", skipped=f"bmi cannot be imported ({error})")]
    else:
        skipped = []
        others["benchmark-mi"] = lambda: peer(neighborhoods=(3,)).estimate(x, y)
    return skipped + [
        compared(f"{what}: {name}", lambda: ksg(x, y), theirs, repeats)
        for name, theirs in others.items()
    ]


def speed(options: argparse.Namespace) -> list[Speed]:
    """Every comparison; a ratio above 1 says that this library is faster."""
    torch.manual_seed(0)
    rows = [torch_mist(options), *concat_critics(options), *nearest_neighbours(options)]
    print(f"{'compared with':<50} {'ours, s':>9} {'theirs, s':>9} {'ratio':>7}")
    for row in rows:
        if row.skipped:
            print(f"{row.what:<50} skipped: {row.skipped}")
        else:
            print(f"{row.what:<50} {row.ours:>9.4f} {row.theirs:>9.4f} {row.ratio:>7.1f}")
    print("Where there is no gain: beside a 12-layer BERT the critic is a small part of a step.")
    return rows


def figure(options: argparse.Namespace) -> None:
    """The map of mean errors, from the files that `accuracy --json` wrote."""
    rows = [row for path in options.rows for row in json.loads(path.read_text())["results"]]
    errors = mean_errors(rows)
    use_style()
    plot_errors(errors).savefig(options.out, metadata={"Software": None})
    if options.table:
        errors.columns = [name.replace("\n", " ") for name in errors]
        (errors.round(2) + 0.0).rename_axis("task").to_csv(options.table)  # + 0: no -0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "staircase", "speed", "figure"])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="names, for accuracy")
    parser.add_argument("--methods", nargs="*", default=["infonce", "js"])
    parser.add_argument(
        "--baselines", nargs="*", default=list(BASELINES), help="none: --baselines"
    )
    parser.add_argument("--critic", default="separable")
    parser.add_argument("--start", default="gaussian", choices=["gaussian", "random"])
    parser.add_argument("--number", type=int, default=10_000, help="pairs, before the split")
    parser.add_argument("--steps", type=int, default=2000, help="at most")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="what --json wrote")
    parser.add_argument("--out", default="map.png", help="where figure draws")
    parser.add_argument("--table", type=Path, help="where figure writes the errors as well")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.what == "figure":
        return figure(options)
    torch.set_num_threads(options.threads)
    rows: list[Accuracy] | list[Speed]
    if options.what == "speed":
        rows = speed(options)
    else:
        named = options.what == "accuracy"
        worlds = [task(name) for name in options.tasks] if named else steps_of_staircase()
        rows = accuracy(worlds, options)
    if options.json:
        about = {"torch": torch.__version__} | {
            key: value for key, value in vars(options).items() if key != "json"
        }
        results = {"environment": about, "results": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
