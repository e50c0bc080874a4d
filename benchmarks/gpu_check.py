"""Is training on this GPU right, and how fast is it? One command, eight minutes with 16 cores.

    make gpu-check
    make gpu-check ARGS='--seconds 120 --text-encoder FOLDER'
    python benchmarks/gpu_check.py --device cpu --images 200 --batch 8 --seconds 20 \\
        --measure 5 --ways plain channels_last

Generates a synthetic study on all cores, trains local and global MI at the paper's sizes
(07_paper.yaml) in bfloat16 for some time each, and says what was reached: images a second, the
share of the time in which kernels ran, memory, the share of the roofline (operations of a step
against a product of large matrices measured on the spot), nats on held-out patients beside the
most that there can be and beside shuffled pairs, pointing beside chance. It compares the first
step in float32 with the CPU's; of the trained networks the bounds and gradients in bfloat16 with
those in float32; and the options of the step with the plain step. Prints a table, and writes it
with all figures to benchmarks/results. Fewer images where the cores would take too long to draw.

Exit: 0, all is within its tolerance; 1, something is not, or an option failed; 2, no GPU.
"""

import argparse
import contextlib
import gc
import json
import math
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import PROFILES, count_flop, product
from step import PAPER
from text import bert_base
from timing import highest_resident, in_turn, timed
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache, build_cache
from localmi.data.sources.pairs import read_pairs
from localmi.evaluate.grounding import pointing_game
from localmi.evaluate.held_out import SplitResult
from localmi.notebook.parameter_files import read_yaml
from localmi.phantom.config import PhantomConfig
from localmi.phantom.read import Truth, finding_sentences, read_truth
from localmi.phantom.write import write_study
from localmi.ranks import cores
from localmi.statistics import mean_interval
from localmi.train.config import TrainConfig
from localmi.train.device import computed_in
from localmi.train.pretraining import CONTROL_EVERY, Pretraining

RESULTS = Path(__file__).parent / "results"
NO_GPU = 2
FRACTIONS = (0.9, 0.05, 0.05)  # of the patients
FROM_NOTHING = 1e-4  # learning rate of a BERT of random weights
STEPS_AT_ONCE = {"cuda": 20, "cpu": 2}  # between two looks at the clock
TURNS = 100  # at most
ON_CPU, IN_BFLOAT16 = "first step in float32, here v CPU", "trained, bfloat16 v float32"
NATS = {ON_CPU: 1e-3, IN_BFLOAT16: 0.05}  # the most that a bound may differ by
# A gradient may differ by so much of its length: in float32 other kernels make a hundredth, and
# in bfloat16 what is left of a small gradient is rounding.
GRADIENT = {ON_CPU: 0.05, IN_BFLOAT16: math.inf}
WAYS: dict[str, dict[str, Any]] = {  # options of the step
    "plain": {},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
}


@dataclass
class Report:
    """What was found; `seconds` of each part of the check."""

    environment: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    study: dict[str, Any] = field(default_factory=dict)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    ways: dict[str, float] = field(default_factory=dict)  # seconds a step
    failed: dict[str, str] = field(default_factory=dict)  # options of the step, and why
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        print(f"   {self.seconds[name]:.0f} s", flush=True)


# --- The study ---


def patients_of(images: float, config: PhantomConfig) -> int:
    """How many patients bring about so many images."""
    each = np.mean(config.studies_per_patient) * (1 + config.second_image)
    return max(math.ceil(1 / min(FRACTIONS)), round(images / each))


def affordable(options: argparse.Namespace, config: PhantomConfig) -> int:
    """As many images as asked, or what these cores draw in the time; a trial tells."""
    trial = 4 * options.workers
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_study(Path(folder) / "s", config, trial, (0.8, 0.1, 0.1), workers=options.workers)
        drawn = len(list(Path(folder).rglob("*.jpg")))
    a_second = drawn / (time.perf_counter() - start)
    most = int(a_second * options.drawing)
    if most >= options.images:
        return int(options.images)
    print(
        f"   {most:,} images instead of {options.images:,}: {options.workers} cores draw "
        f"{a_second:.0f} a second, and there are {options.drawing:.0f} s (--drawing)"
    )
    return most


def make_study(
    folder: Path, options: argparse.Namespace, size: int, report: Report
) -> tuple[Cache, Truth]:
    """Draws the images and prepares them, both on all cores."""
    config = PhantomConfig(image_size=size)
    with report.part("drawing the study"):
        patients = patients_of(affordable(options, config), config)
        start = time.perf_counter()
        write_study(folder / "study", config, patients, FRACTIONS, workers=options.workers)
        drawing = time.perf_counter() - start
    with report.part("preparing the cache"):
        pairs = read_pairs(folder / "study")
        cache = build_cache(pairs, folder / "cache", image_size=size, workers=options.workers)
    report.study = {
        **{"images": len(cache.manifest), "patients": patients, "image_size": size},
        **{"workers": options.workers, "drawn_a_second": len(pairs.table) / drawing},
        "prepared_a_second": len(pairs.table) / report.seconds["preparing the cache"],
    }
    return cache, read_truth(folder / "study")


# --- The step: is it right? ---


def one_step(training: Pretraining) -> dict[str, Tensor]:
    """The bound of the next step without dropout, and the gradient of each network."""
    for module in training.alignment.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = {"step, nats": torch.tensor(training.train_step())}
    for name, network in training.alignment.named_children():
        gradients = [one.grad.flatten() for one in network.parameters() if one.grad is not None]
        found[name] = torch.cat(gradients).cpu()
    return found


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, float]:
    """Difference of bounds in nats, and of each gradient as a share of the other's length."""
    return {
        name: float((one[name] - value).norm() / (value.norm() if value.ndim else 1))
        for name, value in other.items()
    }


def against_cpu(config: TrainConfig, cache: Cache) -> dict[str, float]:
    """How far the first step in float32 is from the CPU's."""
    here, there = (
        one_step(Pretraining(config.model_copy(update=changes), cache))
        for changes in ({"precision": "float32"}, {"precision": "float32", "device": "cpu"})
    )
    return apart(here, there)


def against_float32(training: Pretraining, test: SplitData) -> dict[str, float]:
    """How far trained networks are from the same in float32: on the test patients, in a step."""
    config = training.config.model_copy(update={"precision": "float32"})
    exact = Pretraining(config, training.cache)
    exact.alignment.load_state_dict(training.alignment.state_dict())
    exact.step = training.step
    bounds = [one.evaluate(test).held_out.bound.value for one in (training, exact)]
    found = {"held-out, nats": abs(bounds[0] - bounds[1])}
    return found | apart(one_step(training), one_step(exact))


def too_far(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What is beyond its tolerance, in words."""
    limits = {name: (GRADIENT[name], NATS[name]) for name in found}
    return [
        f"{name}: {part} apart by {value:.3g}, tolerance {limit:g}"
        for name, parts in found.items()
        for part, value in parts.items()
        if not value <= (limit := limits[name][part.endswith("nats")])
    ]


# --- The step: how fast is it? ---


def run_steps(training: Pretraining, number: int) -> None:
    """So many steps of the run, with all that belongs to them."""
    for _ in training.run(until=training.step + number):
        pass


def step_seconds(trainings: Mapping[str, Pretraining], seconds: float) -> dict[str, float]:
    """Seconds a step of each, the median over turns that take `seconds` in all for each."""
    device = next(iter(trainings.values())).device.type
    at_once = STEPS_AT_ONCE[device]
    ways = {name: partial(run_steps, training, at_once) for name, training in trainings.items()}
    found = in_turn(ways, TURNS, limit=seconds, device=device)
    return {name: statistics.median(times) / at_once for name, times in found.items()}


def kernel_seconds(training: Pretraining) -> float | None:
    """Seconds a step in which the GPU computes or copies; None on a CPU, which has no kernels."""
    if training.device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        run_steps(training, CONTROL_EVERY)
        torch.cuda.synchronize()
    return on_gpu(found.events()) / CONTROL_EVERY


def on_gpu(events: Iterable[Any]) -> float:
    """Seconds of what ran on the GPU: the calls that launch it are the CPU's, and a range that has
    a name (an optimiser's step) holds kernels that are there themselves."""
    return 1e-6 * sum(
        event.time_range.elapsed_us()
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )


def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a product of large square matrices: the best of some."""
    work, flop = product(PROFILES[device]["side"], dtype, device)
    return flop / min(in_turn({"product": work}, 9, device=device)["product"])


def speed(config: TrainConfig, cache: Cache, seconds: float) -> dict[str, Any]:
    """Of the step: seconds, share of kernels, operations, share of the roofline, memory."""
    training = Pretraining(config, cache)
    device = training.device.type
    step = step_seconds({"plain": training}, seconds)["plain"]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run_steps(training, CONTROL_EVERY)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else highest_resident()
    kernels, peak = kernel_seconds(training), matmul_peak(device, training.dtype)
    needed = count_flop(partial(run_steps, training, CONTROL_EVERY)) / CONTROL_EVERY
    return {
        **{"step_s": step, "kernel_share": None if kernels is None else kernels / step},
        **{"gflop_a_step": needed / 1e9, "matmul_tflop_s": peak / 1e12},
        **{"roofline_share": needed / step / peak, "peak_gib": memory / 2**30},
    }


def compare_ways(
    config: TrainConfig, cache: Cache, options: argparse.Namespace, report: Report
) -> None:
    """Seconds a step with each option, all in turns; one that fails in its first step says why."""
    trainings: dict[str, Pretraining] = {}
    for name in options.ways:
        try:
            training = Pretraining(config.model_copy(update=WAYS[name]), cache)
            run_steps(training, 1)
        except Exception as error:  # a compiler has many
            traceback.print_exc()
            report.failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            trainings[name] = training
    report.ways = step_seconds(trainings, options.measure) if trainings else {}


# --- The run ---


def train(config: TrainConfig, cache: Cache, steps: int) -> tuple[Pretraining, dict[str, Any]]:
    """Trains for so many steps."""
    changes = {"steps": steps, "evaluate_every": steps}
    training = Pretraining(config.model_copy(update=changes), cache)
    seconds: list[float] = []
    with timed(seconds, training.device.type):
        run_steps(training, steps)
    return training, {"steps": steps, "images_a_second": steps * config.batch_size / seconds[0]}


def measure(training: Pretraining, test: SplitData, truth: Truth) -> dict[str, Any]:
    """What it has learnt, on the test patients."""
    start = time.perf_counter()
    result = training.evaluate(test)
    held_out, unit = result.held_out, training.objective.unit
    return {
        **{"held_out_nats": asdict(held_out.bound), "cap": held_out.cap, "k": held_out.batch_size},
        **{"shuffled_nats": asdict(result.shuffled.bound), "test_images": len(test)},
        "at_most_nats": truth.summary["true_mi_nats"][unit],
        "evaluation_s": time.perf_counter() - start,
        **(pointing(result, truth, test, training.config.grid) if unit == "sentence" else {}),
    }


def pointing(result: SplitResult, truth: Truth, test: SplitData, grid: int) -> dict[str, Any]:
    """The pointing game of sentences on a present finding, as in chapter 7."""
    spoken = finding_sentences(truth, test)
    present = spoken[spoken["polarity"] == "present"]
    winners = result.scores.winners.numpy()[present["image"], present["number"]]
    masks = truth.masks(present["image_id"], present["finding"])
    found = pointing_game(winners, masks, grid=grid)
    interval = mean_interval(found.hit, present["patient_id"].to_numpy())
    return {"pointing": asdict(interval), "pointing_chance": float(found.chance.mean())}


# --- What is said ---


def table(report: Report, budget: float) -> str:
    """All figures in Markdown, a row each."""
    environment, study, runs = report.environment, report.study, report.runs.values()
    about = ", ".join(f"{name} {value}" for name, value in environment.items() if name != "name")
    lines = [
        f"# GPU check: {environment['name']}",
        "",
        f"{about}. Study: {study['images']:,} images of {study['image_size']}² pixels, drawn at "
        f"{study['drawn_a_second']:.0f} a second by {study['workers']} processes, prepared at "
        f"{study['prepared_a_second']:.0f} a second.",
        "",
        f"| | {' | '.join(report.runs)} |",
        f"|---|{'---|' * len(report.runs)}",
        *(f"| {name} | {' | '.join(map(say, runs))} |" for name, say in ROWS.items()),
        "",
        *_agreement_lines(report.agreement),
        *_way_lines(report.ways, report.failed),
        *_time_lines(report.seconds, budget),
    ]
    return "\n".join(lines) + "\n"


def _nats(found: Mapping[str, float]) -> str:
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


ROWS = {
    "steps": lambda run: f"{run['steps']:,} of {run['batch']}",
    "images a second, whole run": lambda run: f"{run['images_a_second']:,.0f}",
    "step, ms": lambda run: f"{1e3 * run['step_s']:.1f}",
    "share of it in which kernels ran": lambda run: _share(run["kernel_share"]),
    "operations of a step, TFLOP": lambda run: f"{run['gflop_a_step'] / 1e3:.3f}",
    "product of large matrices, TFLOP/s": lambda run: f"{run['matmul_tflop_s']:.1f}",
    "share of that roofline": lambda run: _share(run["roofline_share"]),
    "peak memory, GiB": lambda run: f"{run['peak_gib']:.1f}",
    "held-out patients, nats": lambda run: _nats(run["held_out_nats"]),
    "at most": lambda run: f"{run['at_most_nats']:.2f} (cap {run['cap']:.2f}, K = {run['k']})",
    "shuffled pairs, nats (0)": lambda run: _nats(run["shuffled_nats"]),
    "pointing": lambda run: _nats(run["pointing"]) if "pointing" in run else "–",
    "chance": lambda run: f"{run['pointing_chance']:.2f}" if "pointing" in run else "–",
    "evaluation, s": lambda run: f"{run['evaluation_s']:.1f} ({run['test_images']} images)",
}


def _share(value: float | None) -> str:
    return "no kernels" if value is None else f"{value:.0%}"


def _agreement_lines(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    parts = list(dict.fromkeys(part for values in found.values() for part in values))
    lines = [f"| apart by | {' | '.join(parts)} | tolerance |"]
    lines.append(f"|---|{'---|' * (len(parts) + 1)}")
    for name, values in found.items():
        cells = [f"{values[part]:.2g}" if part in values else "–" for part in parts]
        limit = f"{NATS[name]:g} nats"
        if GRADIENT[name] < math.inf:
            limit += f", {GRADIENT[name]:.0%} of a gradient"
        lines.append(f"| {name} | {' | '.join(cells)} | {limit} |")
    return [*lines, ""]


def _way_lines(ways: Mapping[str, float], failed: Mapping[str, str]) -> list[str]:
    first, plain = next(iter(ways.items()), ("none", 0.0))
    lines = [f"| option of the step | ms | times as fast as {first} |", "|---|---|---|"]
    for name, seconds in ways.items():
        lines.append(f"| {name} | {1e3 * seconds:.1f} | {plain / seconds:.2f} |")
    lines += [f"| {name} | failed | {why.replace('|', ' ')} |" for name, why in failed.items()]
    return [*lines, ""]


def _time_lines(seconds: Mapping[str, float], budget: float) -> list[str]:
    lines = ["| part of the check | s |", "|---|---|"]
    lines += [f"| {name} | {value:.0f} |" for name, value in seconds.items()]
    return [*lines, f"| all, of {budget:.0f} | {sum(seconds.values()):.0f} |"]


def write(out: Path, report: Report, ending: str, content: str) -> Path:
    """A file named by the GPU."""
    out.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in report.environment["name"])
    path = out / f"gpu_check-{name}.{ending}"
    path.write_text(content, encoding="utf-8")
    return path


def parse(words: Iterable[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", choices=["cuda", "cpu"], default="cuda")
    add("--images", type=int, default=20_000, help="of the study, all splits")
    add("--image-size", type=int, help="pixels a side; the paper's by default")
    add("--batch", type=int, help="images a step; the paper's by default")
    add("--seconds", type=float, default=60, help="of training, local and global each")
    add("--measure", type=float, default=8, help="seconds of steps for each measured speed")
    add("--drawing", type=float, default=150, help="seconds for drawing the study")
    add("--budget", type=float, default=480, help="seconds that all of it should take")
    add("--workers", type=int, default=cores(), help="processes that draw")
    add("--ways", nargs="+", choices=WAYS, default=[*WAYS], help="options that are compared")
    add("--text-encoder", help="a BERT's folder or hub name; a BERT-base of random weights")
    add("--out", type=Path, default=RESULTS)
    return parser.parse_args(None if words is None else list(words))


def configuration(options: argparse.Namespace, bert: str) -> dict[str, Any]:
    """The paper's sizes, as the options change them."""
    fields = read_yaml(PAPER) | {"text_encoder": bert, "device": options.device}
    fields |= {"precision": "bfloat16", "steps": 10**6}
    if options.text_encoder is None:
        fields["text_learning_rate"] = FROM_NOTHING
    named = {"image_size": options.image_size, "batch_size": options.batch}
    return fields | {name: value for name, value in named.items() if value is not None}


def environment(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    return {
        "name": computed_in(device, torch.float32)["device"],
        **{"torch": torch.__version__, "CUDA": torch.version.cuda, "cores": cores()},
        "text encoder": Path(options.text_encoder or "BERT-base of random weights").name,
    }


def one_run(
    name: str,
    config: TrainConfig,
    cache: Cache,
    truth: Truth,
    options: argparse.Namespace,
    report: Report,
) -> dict[str, Any]:
    """Speed, then training, then what was learnt."""
    with report.part(f"{name}: speed"):
        gc.collect()  # of the networks before, or their memory would be counted
        found = {"batch": config.batch_size, **speed(config, cache, options.measure)}
    with report.part(f"{name}: training"):
        steps = max(1, round(options.seconds / found["step_s"]))
        training, trained = train(config, cache, steps)
    with report.part(f"{name}: evaluation"):
        test = SplitData(cache, "test", unit=training.objective.unit)
        found |= trained | measure(training, test, truth)
        if name == "local":
            report.agreement[IN_BFLOAT16] = against_float32(training, test)
    return found


def check(options: argparse.Namespace, folder: Path, bert: str, report: Report) -> None:
    """All parts; what they find goes into the report."""
    fields = configuration(options, bert)
    configs = {name: TrainConfig.checked(**fields, objective=name) for name in ("local", "global")}
    for config in configs.values():
        config.check()  # before anything is drawn
    cache, truth = make_study(folder, options, configs["local"].image_size, report)
    torch.set_num_threads(options.workers)  # the makefile sets one, for those that draw
    with report.part("a step here and on the CPU"):
        report.agreement[ON_CPU] = against_cpu(configs["local"], cache)
    for name, config in configs.items():
        report.runs[name] = one_run(name, config, cache, truth, options, report)
    with report.part("options of the step"):
        compare_ways(configs["local"], cache, options, report)


def main(words: Iterable[str] | None = None) -> int:
    options = parse(words)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("No GPU is visible to torch: nothing was checked. (--device cpu tries the program.)")
        return NO_GPU
    report = Report()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bert = options.text_encoder or stack.enter_context(bert_base())
        try:
            check(options, folder, bert, report)
        finally:  # where a part fails, the figures of those before are kept
            report.environment = environment(options)  # asks the GPU: no forked process may have
            path = write(options.out, report, "json", json.dumps(asdict(report), indent=1) + "\n")
    text = table(report, options.budget)
    write(options.out, report, "md", text)
    print(f"\n{text}\nAll figures: {path}")
    wrong = too_far(report.agreement) + [
        f"{name} failed: {why}" for name, why in report.failed.items()
    ]
    print("\n".join(wrong) or "All is within its tolerance.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
