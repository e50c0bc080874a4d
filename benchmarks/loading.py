"""How fast batches come from a cache: against decoding, augmentation and a training step.

    python benchmarks/loading.py                              about 2 minutes on one core

A cache of --images random images of 256 x 256 with sentences is written to a temporary folder, and
full-size JPEGs (2544 x 3056) beside it. All ways take turns in one process on one thread, the
median over --repeats; what counts is the ratio. The pages of the cache are in memory, as they are
once an epoch is done and the memory is large enough: a disk has its own speed.

The training step is that of notebook 07 at its defaults, on the example study.
"""

import argparse
import json
import platform
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from timing import Work, in_turn, timed

from localmi.data.augment import Augmentation
from localmi.data.batches import SplitData, TrainingBatches, normalise
from localmi.data.cache.cache import Cache
from localmi.data.cache.image_rows import ImageRows
from localmi.data.cache.shards import shard_file
from localmi.data.cache.tables import SENTENCE_COLUMNS
from localmi.data.images import read_image
from localmi.model.text import TextEncoder, TokenTable
from localmi.study import load_study
from localmi.train.config import TrainConfig
from localmi.train.pretraining import Pretraining

SIZE, SHARD_ROWS = 256, 4096
FULL_SIZE = (2544, 3056)  # width and height of most files of MIMIC-CXR-JPG
SENTENCES = 6  # of a report
WORDS = ("no", "left", "right", "pleural", "effusion", "small", "large", "lung", "opacity")
SMALL = {  # the defaults of notebook 07
    "image_size": 128,
    "temperature_end": 0.05,
    "sentences": "all",
    "region_context": "region",
    "cells_after": 2,
    "local_stage": 4,
    "text_pooling": "mean",
    "text_learning_rate": 0.0,
    "critic": "separable",
    "critic_hidden": (256,),
    "learning_rate": 0.002,
    "learning_rate_end": 0.02,
    "weight_decay": 0.3,
    "smallest_crop": 0.75,
    "batch_size": 32,
}
BARS = {  # what must be reached
    "images a second from the cache": (5000, "at least"),
    "times as fast as decoding full-size JPEGs": (50, "at least"),
    "% of a training step spent waiting for data": (2, "less than"),
}


def write_cache(folder: Path, images: int) -> Cache:
    """A cache of random images, one a study, each with a few sentences."""
    rng = np.random.default_rng(0)
    shard, row = np.divmod(np.arange(images), SHARD_ROWS)
    for number, rows in zip(*np.unique(shard, return_counts=True), strict=True):
        np.save(shard_file(folder, number), rng.integers(0, 256, (rows, SIZE, SIZE), np.uint8))
    studies = [f"study-{number:06d}" for number in range(images)]
    manifest = pd.DataFrame({"study_id": studies, "split": "train", "view": "AP"})
    manifest["index_in_cache"] = np.arange(images)
    said = rng.choice(WORDS, (images * SENTENCES, 7))
    records = [
        (studies[number // SENTENCES], number % SENTENCES, "findings", " ".join(words), "content")
        for number, words in enumerate(said)
    ]
    return Cache(
        folder=folder,
        name="random",
        image_size=SIZE,
        manifest=manifest,
        sentences=pd.DataFrame(records, columns=SENTENCE_COLUMNS),
        rejected=pd.DataFrame(),
        data_hash="",
        images=ImageRows(folder, shard, row),
    )


def write_jpegs(folder: Path, number: int) -> list[Path]:
    """Full-size grey JPEGs, smooth with some noise: 2 to 3 MB each, like radiographs."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.jpg" for index in range(number)]
    for path in paths:
        smooth = Image.fromarray(rng.integers(40, 216, (24, 20), np.uint8)).resize(FULL_SIZE)
        noisy = np.asarray(smooth) + rng.normal(0, 3, FULL_SIZE[::-1])
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=95)
    return paths


def decode_whole(path: Path) -> None:
    """Decode every pixel, then resize: without JPEG's short cut to a smaller size."""
    with Image.open(path) as image:
        image.convert("L").resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def time_ways(cache: Cache, jpegs: list[Path], size: int, repeats: int) -> dict[str, list[float]]:
    """Seconds an image of each way; they take turns."""
    data = SplitData(cache, "train")
    batches = TrainingBatches(data, size=size, seed=0)
    tokens = TokenTable(TextEncoder(), data.texts)
    stored = batches[0].images
    pixels = normalise(stored)
    augment, generator = Augmentation(), torch.Generator().manual_seed(0)
    steps = iter(range(10**9))

    def load() -> None:
        batch = batches[next(steps)]
        tokens.select(batch.text)

    ways: dict[str, tuple[Work, int]] = {
        "decoding, whole": (lambda: decode_whole(jpegs[next(steps) % len(jpegs)]), 1),
        "decoding, as prepare does": (
            lambda: read_image(jpegs[next(steps) % len(jpegs)], SIZE),
            1,
        ),
        "loading a batch with its tokens": (load, size),
        "normalising it": (lambda: normalise(stored), size),
        "augmenting it": (lambda: augment(pixels, generator), size),
    }
    for step in range(len(data) // size):  # brings the pages into memory
        batches[step]
    found = in_turn({name: work for name, (work, _) in ways.items()}, repeats, warm_up=0)
    return {name: [one / ways[name][1] for one in times] for name, times in found.items()}


def time_training(steps: int) -> tuple[float, float]:
    """Median seconds of a training step of the small profile: waiting for data, and the rest."""
    cache = load_study(image_size=SMALL["image_size"])  # type: ignore[arg-type]
    training = Pretraining(TrainConfig.checked(**SMALL, steps=steps + 3), cache)
    batches = iter(training.batches.steps(0, steps + 3))
    waiting: list[float] = []
    working: list[float] = []
    for _ in range(steps + 3):
        with timed(waiting):
            batch = next(batches)
        with timed(working, training.device.type):
            training.train_step(batch)
    return statistics.median(waiting[3:]), statistics.median(working[3:])


def report(ways: dict[str, float], waiting: float, working: float) -> dict[str, float]:
    """Prints all figures; returns what the bars are about."""
    load = ways["loading a batch with its tokens"]
    print(f"{'way':<34} {'ms an image':>12} {'images a s':>11} {'v loading':>10}")
    for name, value in ways.items():
        print(f"{name:<34} {1e3 * value:>12.3f} {1 / value:>11,.0f} {value / load:>10.1f}")
    print(
        f"a training step: {1e3 * waiting:.2f} ms of waiting for data, {1e3 * working:.0f} of work"
    )
    reached = (
        1 / load,
        ways["decoding, as prepare does"] / load,
        100 * waiting / (waiting + working),
    )
    for (name, (bar, word)), value in zip(BARS.items(), reached, strict=True):
        good = value >= bar if word == "at least" else value < bar
        print(f"{'ok' if good else 'NOT REACHED'}: {value:,.2f} {name} ({word} {bar:,})")
    return dict(zip(BARS, reached, strict=True))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=3 * SHARD_ROWS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20, help="of training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    if options.images < options.batch or min(options.batch - 1, options.repeats) < 1:
        parser.error("a batch needs 2 images at least and --images at most, a median 1 repeat")
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        cache = write_cache(Path(name), options.images)
        jpegs = write_jpegs(Path(name), 4)
        found = time_ways(cache, jpegs, options.batch, options.repeats)
    ways = {name: statistics.median(times) for name, times in found.items()}
    reached = report(ways, *time_training(options.steps))
    if options.json:
        about = {"torch": torch.__version__, "machine": platform.machine(), **vars(options)}
        about["json"] = options.json.name
        content = {"environment": about, "seconds_an_image": ways, "reached": reached}
        options.json.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
