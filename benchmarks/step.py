"""How long a training step takes, whole and by its parts, against the step as it was once.

    python benchmarks/step.py                                  about 1 minute on 2 cores
    python benchmarks/step.py --sizes main paper --threads 1 2 --precisions bfloat16 float32

"main" is the main job (notebook 07 with 07_main.yaml), "paper" the paper's sizes (07_paper.yaml)
at B = 16 with a BERT-base of random weights, both on the example study. The whole step is all of
`Pretraining.train_step`; the former one (`former`) does the same in plainer ways. Both take turns,
step by step, in one process, each with networks of its own; the median over --repeats; what counts
is the ratio. For the shares of its parts a step is taken apart, in the same turns: a part is its
forward and its backward pass.
"""

import argparse
import contextlib
import json
import platform
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from loading import SMALL
from text import write_bert
from timing import timed
from torch import Tensor, nn
from torch.nn import functional

from localmi.data import augment
from localmi.data.batches import normalise
from localmi.mi.scores import may_mismatch
from localmi.mi.selection import select_regions
from localmi.model import alignment, backbone, image
from localmi.model.convolution import Convolution
from localmi.notebook.parameter_files import read_yaml
from localmi.study import load_study
from localmi.train.config import TrainConfig
from localmi.train.device import autocast
from localmi.train.pretraining import CONTROL_EVERY, Pretraining

PAPER = Path(__file__).parent.parent / "notebooks" / "parameters" / "07_paper.yaml"
CONTROL = f"control, {CONTROL_EVERY}th step"
WARM_UP = 2  # steps that are not timed
AGREE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # nats, at the first step


# --- The step as it was ---


def former_block(self: image.BasicBlock, x: Tensor) -> Tensor:
    """The shortcut's convolution has a stride."""
    out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
    out = self.bn2(self.conv2(out))
    if self.downsample is not None:
        convolution, norm = self.downsample
        x = norm(functional.conv2d(x, convolution.weight, stride=self.stride))
    return functional.relu(out + x, inplace=True)


def former_cells(x: Tensor, grid: int) -> Tensor:
    """Channels come first in memory."""
    height, width = x.shape[-2] // grid, x.shape[-1] // grid
    cells = x.unflatten(3, (grid, width)).unflatten(2, (grid, height))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def former_scores(
    critic: Any, regions: Tensor, texts: Tensor, owner: Tensor, **how: Any
) -> Tensor:
    """The scores of an image's regions are copied for each of its sentences, then selected."""
    copied = critic(regions, texts)[owner]
    return select_regions(copied, how["region_select"], how["temperature"])


def former_grid(affine: Tensor, height: int, width: int) -> Tensor:
    """Torch's own multiplies for one image at a time."""
    size = [len(affine), 1, height, width]
    return functional.affine_grid(affine, size, align_corners=False)


@contextlib.contextmanager
def former() -> Iterator[None]:
    """Within it, a step is what it was before it was made faster."""
    with (
        mock.patch.object(Convolution, "forward", nn.Conv2d.forward),
        mock.patch.object(image.BasicBlock, "forward", former_block),
        mock.patch.object(backbone, "to_cells", former_cells),
        mock.patch.object(alignment, "local_scores", former_scores),
        mock.patch.object(augment, "affine_grid", former_grid),
    ):
        yield


WAYS = {"former": former, "now": contextlib.nullcontext}


# --- The sizes ---


def configuration(size: str, folder: Path, precision: str, **changes: Any) -> TrainConfig:
    """Of the main job, or of the paper's sizes with a BERT-base that is written to a folder."""
    if size == "main":
        main = SMALL | {"steps": 3500, "precision": precision}
        return TrainConfig.checked(**main | changes)
    bert = folder / "bert-base"
    if not bert.exists():
        write_bert(bert)
    fixed = {"batch_size": 16, "text_encoder": str(bert), "precision": precision}
    return TrainConfig.checked(**read_yaml(PAPER) | fixed | changes)


# --- The measurement ---


def time_parts(training: Pretraining, number: int) -> dict[str, float]:
    """Seconds of each part of one training step; the control's, as it is made in one of some."""
    spent: dict[str, list[float]] = {}

    def part(name: str) -> contextlib.AbstractContextManager[None]:
        return timed(spent.setdefault(name, []), training.device.type)

    networks, objective = training.alignment, training.objective
    in_precision = autocast(training.device, training.dtype)
    how = {"temperature": training.config.temperature}
    with part("batch"):
        batch = training.batches[number]
        rows = batch.image_study[batch.owner], batch.text_study, batch.text
        allowed = may_mismatch(*rows, same_text=training.config.same_text_is_mismatch)
    with part("augmentation"):
        pixels = normalise(batch.images.to(training.device))
        pixels = training.augmentation(pixels, torch.Generator())
    with part("image encoder"), in_precision:
        images = objective.image_features(networks.image_encoder, pixels)
    with part("text encoder"), in_precision:
        if training.frozen_texts is None:
            tokens = training.tokens.select(batch.text).to(training.device)
            texts = networks.text_encoder(tokens)
        else:
            texts = training.frozen_texts[batch.text]
    x, y = (found.detach().requires_grad_(found.requires_grad) for found in (images, texts))
    with part("critic, maximum, bound"):
        with in_precision:
            scores = objective.scores(networks.critic, x, y, batch.owner, **how)
        training.estimator(scores, allowed)[1].neg().backward()
    with part("text encoder"):
        if y.requires_grad:
            texts.backward(y.grad)
    with part("image encoder"):
        images.backward(x.grad)
    with part("optimisers"):
        for optimiser in (training.image_optimiser, training.text_optimiser):
            optimiser.step()
            optimiser.zero_grad()
    with part(CONTROL):
        with in_precision:
            scores = objective.scores(training.control, x.detach(), y.detach(), batch.owner, **how)
        training.control_estimator(scores, allowed)[1].neg().backward()
        training.control_optimiser.step()
        training.control_optimiser.zero_grad()
    found = {name: sum(seconds) for name, seconds in spent.items()}
    return found | {CONTROL: found[CONTROL] / CONTROL_EVERY}


def measure(config: TrainConfig, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of the whole step and of its parts, by way.

    Raises:
        SystemExit: the ways do not compute the same.
    """
    cache = load_study(image_size=config.image_size)
    trainings = {way: Pretraining(config, cache) for way in WAYS}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    values = []
    for number in range(WARM_UP + repeats):
        for way, training in trainings.items():
            with WAYS[way]():
                whole: list[float] = []
                with timed(whole, training.device.type):
                    values.append(training.train_step())
                found[way].append({"whole": whole[0], **time_parts(training, number)})
    if abs(values[0] - values[1]) > AGREE[training.dtype]:
        raise SystemExit(f"The ways do not compute the same: {values[0]}, {values[1]} nats.")
    return {
        way: {name: [step[name] for step in steps[WARM_UP:]] for name in steps[0]}
        for way, steps in found.items()
    }


def medians(found: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    return {
        way: {name: statistics.median(seconds) for name, seconds in parts.items()}
        for way, parts in found.items()
    }


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    """A table: milliseconds of each way, its share of the whole step, and former / now."""
    print(f"\n{title}\n{'':<24} {'former ms':>10} {'%':>4} {'now ms':>10} {'%':>4} {'ratio':>6}")
    former, now = found.values()
    for name in former:
        columns = (
            f"{1e3 * way[name]:>10.1f} {way[name] / way['whole']:>4.0%}" for way in (former, now)
        )
        print(f"{name:<24} {' '.join(columns)} {former[name] / now[name]:>6.2f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["main"], choices=["main", "paper"])
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--precisions", nargs="+", default=["auto"])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the seconds here as well")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for size in options.sizes:
            for precision in options.precisions:
                config = configuration(size, Path(name), precision)
                for threads in options.threads:
                    torch.set_num_threads(threads)
                    title = f"{size}, {precision}, threads: {threads}"
                    rows[title] = medians(measure(config, options.repeats))
                    show(title, rows[title])
    if options.json:
        about = {"torch": torch.__version__, "machine": platform.machine()}
        options.json.write_text(json.dumps({"environment": about, "seconds": rows}, indent=2))


if __name__ == "__main__":
    main()
