"""One table: each part of the method against a named baseline, on the machine it runs on.

    make bench                                    at most 12 minutes on 2 cores, 12 GB of memory
    python benchmarks/table.py --quick --out there          tiny sizes, to see that it runs

Writes `<processor or GPU>.json` and `.md`. All sides of a comparison take turns in one process:
medians and quartiles; the ratio is baseline / ours, below 1 where ours is slower. A rate counts
the multiplications and additions of matrix products and convolutions, of the loader the bytes read
and written; its share is of what a large product in the same precision, or a copy, reaches here.
Peaks are over what was held before, on a CPU in a process of its own (Linux only). The baselines
are written anew from papers and READMEs, in `public.py`.
"""

import argparse
import json
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import critic
import estimators
import loading
import numpy as np
import step
import text
import torch
import words
from public import PublicStep, clip_loss, gloria_loss
from rows import PARTS, Bench, as_markdown
from sklearn.feature_selection import mutual_info_regression
from timing import Work
from torch import Tensor, nn

from localmi.data.batches import SplitData
from localmi.mi.bounds import infonce
from localmi.mi.distributions import task
from localmi.mi.samples.baselines import ksg
from localmi.mi.selection import select_regions
from localmi.model.image import build_backbone
from localmi.study import load_study
from localmi.train import scoring
from localmi.train.config import REPORT_TOKENS
from localmi.train.device import autocast
from localmi.train.pretraining import Pretraining

RESULTS = Path(__file__).parent / "results"
WORDS = 20  # of a sentence


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
    small, large = (partial(run, pixels) for pixels in inputs)
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
        name: partial(*(critic.prepare, "local", bench.sizes.batch, *kind), device=bench.device)
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
    ways = {f"{kind} critic, soft maximum": partial(local, kind) for kind in kinds}
    pairs = [(name, theirs) for name in ways]
    ways[theirs] = lambda: gloria_loss(project(inputs[kinds[0]][1]), words).backward()
    bench.compare("region selection", ways, *pairs, precision="float32")


def encoders(bench: Bench, folder: str) -> None:
    sizes, same = bench.sizes, {"precision": bench.precision, "device": bench.device}
    pair = "the paper's image network", "torchvision's resnet18"
    ways = {
        name: partial(*(image_passes, network, sizes.batch), size=sizes.image_size, **same)
        for name, network in zip(pair, ("resnet256_6_2_1", "resnet18"), strict=True)
    }
    bench.compare("encoders", ways, pair, precision=bench.precision, peaks=True)
    ways = {
        f"text encoder, {length} word pieces": partial(
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
            ways[name] = partial(within, precision, work)
        as_published = list(ways)[1]
        pairs |= dict.fromkeys((names[0], other) for other in (as_published, *names[1:]))
    bench.compare("whole step", ways, *pairs, precision="name", slow=True)


def looks(bench: Bench) -> None:
    pair = "look at a split, by parts", "look at a split, all at once"
    ways = {name: partial(look, name == pair[1]) for name in pair}
    bench.compare("evaluation", ways, pair, precision=bench.precision, slow=True, peaks=True)


def growth(bench: Bench, folder: str) -> None:
    sizes, same = bench.sizes, {"precision": bench.precision, "device": bench.device}
    for kind in ("concat", "separable"):
        local = partial(critic.prepare, "local", way="split", kind=kind, **same)
        by_batch = {size: partial(local, batch=size) for size in sizes.batches}
        bench.grow("batch", f"{kind} critic", by_batch)
        local = partial(local, batch=sizes.batch)
        by_regions = {size: partial(local, regions=size) for size in sizes.regions}
        bench.grow("regions", f"{kind} critic", by_regions)
    images = partial(image_passes, "resnet256_6_2_1", size=sizes.image_size, **same)
    by_batch = {size: partial(images, batch=size) for size in sizes.batches}
    bench.grow("batch", "the paper's image network", by_batch)
    texts = partial(text.prepare, folder, sizes.text_batch, **same)
    by_length = {size: partial(texts, length=size) for size in sizes.lengths}
    bench.grow("word pieces", "text encoder", by_length)


def measure(profile: str, threads: int) -> dict[str, Any]:
    """The whole table; what takes most memory comes first."""
    bench = Bench(profile, threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bert-base"  # where step.py looks for it
        text.write_bert(folder, **bench.sizes.bert)
        whole_steps(bench, Path(name))
        for group in (critics, bounds, selection, words.compare, loader, looks):
            group(bench)
        encoders(bench, str(folder))
        growth(bench, str(folder))
        words.grow(bench)
    return {name: found for name, found in vars(bench).items() if name in PARTS}


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
