"""From the cache to what a training step sees: images, sentences, mismatched pairs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from localmi.data.cache.cache import Cache
from localmi.data.reports import SentenceKind
from localmi.data.splits import SPLITS
from localmi.data.tables import counted
from localmi.errors import DataError, TrainingError, check_name
from localmi.names import Split, Unit
from localmi.statistics import draw_texts, partners

BLOCK = 4096  # images that are neighbours in the cache and stay near each other in an epoch
MIN_STUDIES = 3  # an image's, the one whose text it is given as a control, one to compare with
ALL = slice(None)
LATERAL_VIEWS = ("LATERAL", "LL", "XTABLE LATERAL")  # from the side: no image of a pair by itself
GROUP_BYTES = 2**32  # images that are shuffled among each other: 65,536 of 256 x 256 pixels


B = TypeVar("B")  # what a step sees


@dataclass(frozen=True)
class Batch:
    """What one step sees: B images and M texts (M = B with one sentence an image).

    Each of several processes has the pixels of some images, and all the rest of all.
    """

    images: Tensor  # [B, 1, H, W] uint8, as in the cache; `normalise` makes them floats
    image_study: Tensor  # [B] int64, equal where two images belong to one study
    owner: Tensor  # [M] int64, the image each text is matched with
    text_study: Tensor  # [M] int64, the study each text was written for
    text: Tensor  # [M] int64, number of the text in the split: equal where two read the same

    def pin_memory(self) -> Self:
        """The pixels where a GPU fetches them beside other work."""
        return replace(self, images=self.images.pin_memory())

    def shuffled(self) -> tuple[Self, Tensor]:
        """Every text matched with an image of another study: nothing is left to find.

        Returns:
            The batch, and which texts are in it, [M] bool: not those that no other study is left
            for, where most images of the batch are of one study.
        """
        receiver = torch.from_numpy(partners(self.image_study.numpy()))[self.owner]
        kept = self.image_study[receiver] != self.text_study
        shuffled = replace(
            self,
            owner=receiver[kept],
            text_study=self.text_study[kept],
            text=self.text[kept],
        )
        return shuffled, kept

    def in_sets(self) -> "Batch":
        """The texts of an image as one text: M = the images that have any; `text` is the number of
        the set in this batch, equal where two sets read the same."""
        owner, sizes = self.owner.unique_consecutive(return_counts=True)
        sets = [tuple(sorted(one.tolist())) for one in self.text.split(sizes.tolist())]
        number = {one: index for index, one in enumerate(dict.fromkeys(sets))}
        text_study = self.text_study[sizes.cumsum(0) - sizes]  # of the first of each set
        text = torch.tensor([number[one] for one in sets], dtype=torch.int64)
        return replace(self, owner=owner, text_study=text_study, text=text)


def normalise(images: np.ndarray | Tensor) -> Tensor:
    """Pixels as networks take them: zero mean and unit spread when the images are equalised.

    Training moves a batch to its device first: a quarter of the bytes travels.

    Args:
        images: uint8 [B, H, W] or [B, 1, H, W], on any device.

    Returns:
        float32 [B, 1, H, W], on the same device.

    Raises:
        DataError: pixels that are not uint8: normalised already?
    """
    pixels = torch.as_tensor(images)
    if pixels.dtype != torch.uint8:
        raise DataError(f"Pixels of type {pixels.dtype}, not uint8. Are they normalised already?")
    floats = pixels.reshape(len(pixels), 1, *pixels.shape[-2:]).to(torch.float32)
    return floats.sub_(127.5).div_(73.6)  # mean and standard deviation of uniform 0..255


class SplitData:
    """The frontal images of one split and the texts that go with them.

    A cache may have lateral views too: see `localmi.data.views`.

    Args:
        cache: the prepared data.
        split: "train", "validate" or "test".
        unit: "sentence" (local MI) or "report" (global MI: the study's sentences as one text).
        kinds: kinds of sentence that are used; ("content",) drops comparison and communication.

    Raises ConfigError: an unknown name. TrainingError: nothing, or too little to measure on.

    Attributes:
        texts: the distinct texts; `text_ids[study]` points into it.

    Taught in 05_radiographs_and_reports.
    """

    def __init__(
        self,
        cache: Cache,
        split: Split,
        *,
        unit: Unit = "sentence",
        kinds: Sequence[str] = ("content", "comparison", "communication"),
    ) -> None:
        check_name("split", split, SPLITS)
        check_name("unit", unit, get_args(Unit))
        for kind in kinds:
            check_name("kind of sentence", kind, get_args(SentenceKind))
        if cache.sentences.empty:
            raise TrainingError(
                f"{cache.name} was prepared without reports, as NIH-14 and CheXpert are: there is "
                "no text to learn from or to rank. Use it to test an image encoder "
                "(localmi.downstream), and a study with reports here."
            )
        sentences = cache.sentences[cache.sentences["kind"].isin(list(kinds))]
        by_study: dict[str, list[str]] = defaultdict(list)
        studies, texts = sentences["study_id"].tolist(), sentences["text"].tolist()
        for study, text in zip(studies, texts, strict=True):
            by_study[study].append(text)
        manifest = cache.manifest[cache.manifest["split"] == split]
        manifest = manifest[~manifest["view"].isin(LATERAL_VIEWS)]
        self.manifest = manifest[manifest["study_id"].isin(list(by_study))].reset_index(drop=True)
        if self.manifest.empty:
            raise TrainingError(
                f"Split {split!r} of {cache.folder.name} has no image with a usable sentence. "
                "Look at the cache's rejected rows, or choose other splits."
            )
        usable = self.manifest["study_id"].nunique()
        if split != "train" and usable < MIN_STUDIES:
            raise TrainingError(
                f"Split {split!r} of {cache.folder.name} has {counted(usable, 'usable study')}, "
                f"and nothing can be measured on fewer than {MIN_STUDIES}. Give more patients, or "
                f"a column `split` with {MIN_STUDIES} studies in each; report.txt says what was "
                "rejected."
            )
        self.split = split
        self.unit = unit
        self.image_size = cache.image_size
        self._images = cache.images
        self._rows = self.manifest.index_in_cache.to_numpy()
        self.study_ids = self.manifest["study_id"].unique()
        code = {study: number for number, study in enumerate(self.study_ids)}
        self.study = self.manifest["study_id"].map(code).to_numpy()  # [images]
        groups = [by_study[study] for study in self.study_ids]
        if unit == "report":
            groups = [[" ".join(group)] for group in groups]
        self.texts = sorted({text for group in groups for text in group})
        number = {text: index for index, text in enumerate(self.texts)}
        self.text_ids = [np.array([number[text] for text in group]) for group in groups]

    def __len__(self) -> int:
        return len(self.manifest)

    def images(self, index: np.ndarray) -> Tensor:
        """Images of these rows of the split, as they are stored: uint8 [len(index), 1, H, W]."""
        return torch.from_numpy(self._images[self._rows[index]]).unsqueeze(1)

    def batch(
        self,
        index: np.ndarray,
        rng: np.random.Generator,
        *,
        every: bool = False,
        several: int = 1,
        pixels_of: slice = ALL,
    ) -> Batch:
        """These images, each with one text of its study drawn at random, or with every text.

        `several`: so many are drawn, or as many as there are. `pixels_of`: which images are read.
        """
        groups = [self.text_ids[study] for study in self.study[index]]
        drawn = groups if every else [draw_texts(group, several, rng) for group in groups]
        owner = np.repeat(np.arange(len(index)), [len(texts) for texts in drawn])
        text = np.concatenate(drawn)
        return Batch(
            images=self.images(index[pixels_of]),
            image_study=torch.from_numpy(self.study[index]),
            owner=torch.from_numpy(owner),
            text_study=torch.from_numpy(self.study[index][owner]),
            text=torch.from_numpy(text),
        )


def epoch_order(
    number: int, rng: np.random.Generator, *, at_once: int, block: int = BLOCK
) -> np.ndarray:
    """The images of an epoch in a random order that reads from few shards at a time: [number].

    Up to `at_once` images are simply shuffled. Of more, blocks of neighbours in the cache are
    shuffled first, then the images of a few blocks at a time. So data larger than the memory are
    read from disk about once an epoch; drawn from anywhere, each image would be a wait.

    Args:
        number: of images, in the order of the cache.
        at_once: images that are shuffled among each other, rounded to whole blocks.
        block: images a block.
    """
    if number <= at_once:
        return rng.permutation(number)
    starts = rng.permutation(np.arange(0, number, block))
    groups = np.array_split(starts, -(-len(starts) // max(1, at_once // block)))
    near = [np.add.outer(group, np.arange(block)).ravel() for group in groups]
    return np.concatenate([rng.permutation(images[images < number]) for images in near])


class Images(Protocol):
    """What batches are drawn from: the images of a split."""

    split: Split
    image_size: int

    def __len__(self) -> int: ...


class Batches(Dataset[B]):
    """`batches[step]`: shuffled anew each epoch, without replacement within it.

    A batch depends on nothing but (data, size, seed, step), so a resumed run needs no sampler
    state, and any process can make it.

    Args:
        data: the split that is trained on.
        size: images a batch.
        seed: of the order, and of what is drawn for a batch.

    Raises:
        TrainingError: fewer images than one batch, or a batch of one.
    """

    def __init__(self, data: Images, *, size: int, seed: int) -> None:
        if size < 2:
            raise TrainingError(f"batch_size={size}: a mismatched pair needs at least 2 images.")
        if len(data) < size:
            raise TrainingError(
                f"batch_size={size}, but split {data.split!r} has "
                f"{counted(len(data), 'image')}. Lower batch_size."
            )
        self.size, self.seed = size, seed
        self._number, self._at_once = len(data), GROUP_BYTES // data.image_size**2
        self._order = (-1, np.empty(0, np.int64))  # of the last epoch that was asked for

    def __getitem__(self, step: int) -> B:
        raise NotImplementedError

    def rows(self, step: int) -> np.ndarray:
        """The images of a step, as rows of the split: [size]."""
        epoch, position = divmod(step, self._number // self.size)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, 0, epoch])
            self._order = (epoch, epoch_order(self._number, rng, at_once=self._at_once))
        return self._order[1][position * self.size : (position + 1) * self.size]

    def generator(self, step: int) -> np.random.Generator:
        """Of what is drawn for the batch of a step."""
        return np.random.default_rng([self.seed, 1, step])

    def steps(self, first: int, end: int, *, workers: int = 0, pin: bool = False) -> Iterable[B]:
        """The batches of steps first, first + 1, ... end - 1.

        Args:
            workers: processes that read ahead; the batches are the same. A cache in memory needs
                none; they pay where it comes from a slow disk, or a GPU makes many steps a second.
            pin: for a GPU, see `Batch.pin_memory`.
        """
        return DataLoader(
            self,
            batch_size=None,
            sampler=range(first, end),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            pin_memory=pin,
            generator=torch.Generator(),  # or torch's global one would be drawn from
        )


class TrainingBatches(Batches[Batch]):
    """Batches of images and texts.

    Args: data, size and seed as `Batches`, and
        every: every text of a study, not one drawn at random.
        several: so many texts of a study, not one.
        pixels_of: which of the images of a batch are read.

    Raises: as `Batches`. TrainingError: nothing to tell apart.

    Taught in 05_radiographs_and_reports.
    """

    def __init__(
        self,
        data: SplitData,
        *,
        size: int,
        seed: int,
        every: bool = False,
        several: int = 1,
        pixels_of: slice = ALL,
    ) -> None:
        super().__init__(data, size=size, seed=seed)
        if min(studies := len(data.study_ids), texts := len(data.texts)) < 2:
            raise TrainingError(
                f"Split {data.split!r} has {studies} studies and {texts} texts that differ: "
                "nothing to tell apart. Give it more of both."
            )
        self.data, self.every = data, every
        self._several, self._pixels_of = several, pixels_of

    def __getitem__(self, step: int) -> Batch:
        return self.data.batch(
            self.rows(step),
            self.generator(step),
            every=self.every,
            several=self._several,
            pixels_of=self._pixels_of,
        )
