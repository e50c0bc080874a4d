"""What it costs to score word by word and region by region: LIMITR's attention beside others.

    python benchmarks/words.py                                  about 1 minute on 2 cores

One step = the scores of all pairs, the losses, and the backward pass; the encoders are not in it.
A text has 47 words (a report) or 10 (a sentence). LIMITR's scores in chunks of 8 texts, as the
library has them, against: the same all at once; one softmax instead of two; the word-region
attention of GLoRIA (`public.py`); local MI with the main job's critic, on as many images with one
sentence each, and with six. Then time and peak memory of LIMITR's over the number of texts.
Nothing is written: all is in the table of `make bench`, too.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from public import SHARPER_PAIRS, clip_loss, word_region_scores
from rows import PARTS, Bench, as_markdown
from timing import Work
from torch import Tensor

from localmi.mi.bounds import infonce
from localmi.mi.critics import build_critic
from localmi.model.alignment import local_scores
from localmi.model.limitr import GAMMA_SCORES, LimitrScores
from localmi.names import Attention

SENTENCES = 6  # of a report
MAIN_REGION, MAIN_SENTENCE, MAIN_HIDDEN = 256, 384, (256,)  # what the main job's critic is given
GROWN_IMAGES = 16  # beside which the texts grow
Loss = tuple[Callable[[], Tensor], Sequence[Tensor]]  # and what has a gradient


@dataclass(frozen=True)
class Size:
    """B images of N regions, M texts of L words, all of D dimensions; M is a multiple of B."""

    images: int
    texts: int
    regions: int
    words: int
    dim: int

    def __str__(self) -> str:
        return f"{self.images} x {self.regions} regions, {self.texts} x {self.words} words"


def features(*sizes: int) -> Tensor:
    return torch.randn(*sizes, requires_grad=True)


def owners(images: int, texts: int) -> tuple[Tensor, Tensor]:
    """The image of each text, [M], and which texts are mismatched, [M, M]: of other images."""
    owner = torch.arange(texts) % images
    return owner, owner[:, None] != owner


def limitr(size: Size, *, attention: Attention = "double", chunk: int = 8) -> Loss:
    """The two external losses; all words and regions are there."""
    model = LimitrScores(size.dim, attention=attention, chunk=chunk)
    regions = features(size.images, size.regions, size.dim)
    words = features(size.texts, size.words, size.dim)
    masks = [torch.ones(one.shape[:2], dtype=torch.bool) for one in (regions, words)]
    owner, allowed = owners(size.images, size.texts)

    def loss() -> Tensor:
        by_text, by_image = model(regions, masks[0], words, masks[1])
        both = (infonce(GAMMA_SCORES * one[owner], allowed) for one in (by_text, by_image))
        return -sum(both, torch.zeros(()))

    return loss, (regions, words, *model.parameters())


def gloria(size: Size) -> Loss:
    """The published loss; to it, every other text of a batch is mismatched."""
    regions = features(size.images, size.regions, size.dim)
    words = features(size.texts, size.words, size.dim)
    owner, _ = owners(size.images, size.texts)

    def loss() -> Tensor:
        return clip_loss(SHARPER_PAIRS * word_region_scores(regions, words)[owner])

    return loss, (regions, words)


def local_mi(size: Size, *, sentences: int) -> Loss:
    """So many sentences an image, each one vector."""
    critic = build_critic("separable", MAIN_REGION, MAIN_SENTENCE, MAIN_HIDDEN)
    regions = features(size.images, size.regions, MAIN_REGION)
    texts = features(sentences * size.images, MAIN_SENTENCE)
    owner, allowed = owners(size.images, len(texts))

    def loss() -> Tensor:
        scores = local_scores(critic, regions, texts, owner, region_select="soft")
        return -infonce(scores, allowed)

    return loss, (regions, texts, *critic.parameters())


OURS, AT_ONCE = "LIMITR in chunks", "LIMITR all at once"
WAYS: dict[str, Callable[[Size], Loss]] = {
    OURS: limitr,
    AT_ONCE: partial(limitr, chunk=0),
    "LIMITR in chunks, one softmax": partial(limitr, attention="single"),
    "GLoRIA-style attention": gloria,
    "local MI of one sentence an image": partial(local_mi, sentences=1),
    f"local MI of {SENTENCES} sentences an image": partial(local_mi, sentences=SENTENCES),
}


def prepare(way: str, size: Size, device: str = "cpu") -> tuple[Work, Work]:
    """One step of 2 images and texts, and one of all."""

    def step(loss: Callable[[], Tensor], leaves: Sequence[Tensor]) -> None:
        for leaf in leaves:
            leaf.grad = None
        loss().backward()

    torch.manual_seed(0)
    with torch.device(device):
        small, large = (WAYS[way](one) for one in (replace(size, images=2, texts=2), size))
    return partial(step, *small), partial(step, *large)


def compare(bench: Bench) -> None:
    """Rows of all ways at each size."""
    for numbers in bench.sizes.attended:
        size = Size(*numbers)
        ways = {f"{way}: {size}": partial(prepare, way, size, bench.device) for way in WAYS}
        ours, *others = ways
        pairs = [(ours, other) for other in others]
        bench.compare(
            "words and regions", ways, *pairs, precision="float32", slow=True, peaks=True
        )


def grow(bench: Bench) -> None:
    """Time and memory over the number of texts."""
    size = replace(Size(*bench.sizes.attended[0]), images=GROWN_IMAGES)
    for way in (OURS, AT_ONCE):
        by_texts = {
            texts: partial(prepare, way, replace(size, texts=texts), bench.device)
            for texts in bench.sizes.texts
        }
        bench.grow("texts", way, by_texts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bench = Bench("quick" if options.quick else device, options.threads)
    compare(bench)
    grow(bench)
    print(as_markdown({name: found for name, found in vars(bench).items() if name in PARTS}))


if __name__ == "__main__":
    main()
