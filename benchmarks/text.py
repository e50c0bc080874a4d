"""The text encoder in training: what each way of saving work makes of a step, and of its memory.

    python benchmarks/text.py step --batches 16 32 --precisions bfloat16 float32
                                                  about 15 minutes on one core, 6 GB
    python benchmarks/text.py look                one minute
    python benchmarks/text.py memory --batches 64 128 256                  up to 12 GB

`step`: a whole training step at the paper's sizes on the example study, one sentence an image; the
text encoder is a BERT-base of random weights. A way and the plain step (every text of the batch,
all layers, in full) take turns in one process: CPU seconds, median over --repeats; what counts is
the ratio. `distinct`: the share of a batch's texts that are. `look`: features of the validation
texts, in the order given and by length, both in turn. `memory`: each way in a process of its own,
the highest resident memory of a forward and backward pass of the text encoder less what was
resident before. A way is skipped where its last size foretells more than --gigabytes. Linux only
(memory).
"""

import argparse
import functools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from timing import Work, in_turn, peak_mib
from transformers import AutoTokenizer, BertConfig, BertModel

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.model.bert import PACKAGED, model_location
from localmi.model.text import TextEncoder, Tokens
from localmi.study import load_study
from localmi.train.config import TrainConfig
from localmi.train.device import autocast
from localmi.train.pretraining import Pretraining
from localmi.train.text_features import TextFeatures

PLAIN = {"text_once": False}
WAYS: dict[str, dict[str, Any]] = {
    "duplicates once": {},
    "6 frozen, not kept": {"text_frozen_layers": 6, "text_keep_gigabytes": 0},
    "6 frozen": {"text_frozen_layers": 6},
    "9 frozen": {"text_frozen_layers": 9},
    "11 frozen": {"text_frozen_layers": 11},
    "checkpointing": {"text_checkpointing": True},
}
PAPER = {"same_text_is_mismatch": True, "region_select": "per_pair_max", "steps": 1000}
WORD_PIECES = 32  # of each text, for memory


def write_bert(folder: str | Path, **sizes: int) -> None:
    """A BERT of random weights, BERT-base where no sizes are named, and the packaged tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(model_location(PACKAGED))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)


@contextmanager
def bert_base() -> Iterator[str]:
    """The folder of a BERT-base of random weights, with the packaged tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        write_bert(folder)
        yield folder


def median_in_turn(ways: list[Work], repeats: int) -> list[float]:
    """Median CPU seconds of each; they take turns."""
    named = {str(number): way for number, way in enumerate(ways)}
    found = in_turn(named, repeats, clock=time.process_time)
    return [statistics.median(seconds) for seconds in found.values()]


def steps(folder: str, cache: Cache, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every way at every batch size and precision, against the plain step."""
    for precision in options.precisions:
        for batch in options.batches:
            fixed = PAPER | {"text_encoder": folder, "batch_size": batch, "precision": precision}
            plain = Pretraining(TrainConfig.checked(**fixed, **PLAIN), cache)
            texts = [plain.batches[step].text for step in range(50)]
            distinct = statistics.mean(len(text.unique()) / len(text) for text in texts)
            for name in options.ways:
                other = Pretraining(TrainConfig.checked(**(fixed | WAYS[name])), cache)
                both = plain, other
                whole = median_in_turn([run.train_step for run in both], options.repeats)
                yield {
                    **{"precision": precision, "batch": batch, "way": name, "distinct": distinct},
                    **{"plain_s": whole[0], "way_s": whole[1], "ratio": whole[0] / whole[1]},
                }


def looks(folder: str, cache: Cache, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Features of the validation texts by length, against the order given."""
    texts = SplitData(cache, "validate").texts
    encoder = TextEncoder(folder, max_tokens=64)
    for precision in options.precisions:
        dtype = getattr(torch, precision)
        with tempfile.TemporaryDirectory() as kept:
            # One that stays as it is is encoded in the order given, in `_encode`.
            given, by_length = (
                TextFeatures(encoder, frozen=frozen, cache=Path(kept), dtype=dtype)
                for frozen in (True, False)
            )
            ways = [functools.partial(one._encode, texts) for one in (given, by_length)]
            seconds = median_in_turn(ways, options.repeats)
            apart = (given._encode(texts) - by_length._encode(texts)).abs().max().item()
        names = "texts", "given_s", "by_length_s", "ratio", "largest_difference"
        values = len(texts), *seconds, seconds[0] / seconds[1], apart
        yield {"precision": precision, **dict(zip(names, values, strict=True))}


@functools.cache
def text_encoder(folder: str, checkpointing: bool, device: str) -> TextEncoder:
    encoder = TextEncoder(folder, max_tokens=64, checkpointing=checkpointing)
    return encoder.to(torch.device(device)).train()


def prepare(
    folder: str,
    batch: int,
    precision: str,
    checkpointing: bool = False,
    length: int = WORD_PIECES,
    device: str = "cpu",
) -> tuple[Work, Work]:
    """The text encoder's passes of 2 texts, which makes the gradients, and of `batch`."""
    encoder = text_encoder(folder, checkpointing, device)

    def run(texts: int) -> None:
        ids = torch.randint(1000, 20_000, (texts, length), device=device)
        with autocast(ids.device, getattr(torch, precision)):
            features = encoder(Tokens(ids, torch.ones_like(ids)))
        features.sum().backward()

    return functools.partial(run, 2), functools.partial(run, batch)


def memory(folder: str, cache: Cache, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Peaks with and without checkpointing."""
    for precision in options.precisions:
        for checkpointing in (True, False):
            last = 0.0  # MiB a text
            for batch in sorted(options.batches):
                row = {"precision": precision, "batch": batch, "checkpointing": checkpointing}
                if last * batch > 1024 * options.gigabytes:
                    yield row | {"skipped": f"about {last * batch / 1024:.0f} GiB"}
                    continue
                peak = peak_mib(prepare, folder, batch, precision, checkpointing)
                last = peak / batch
                yield row | {"peak_mib": peak}


PARTS = {"step": steps, "look": looks, "memory": memory}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], help="of a step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gigabytes", type=float, default=12, help="for the memory of a pass")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    cache = load_study(image_size=256)
    rows = []
    with bert_base() as folder:
        for row in PARTS[options.part](folder, cache, options):
            rows.append(row)
            shown = (f"{name} {_short(value)}" for name, value in row.items())
            print(" · ".join(shown), flush=True)
    if options.json:
        about = {"torch": torch.__version__, "machine": platform.machine(), **vars(options)}
        about["json"] = options.json.name
        options.json.write_text(json.dumps({"environment": about, "results": rows}, indent=2))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
