"""From the cache to what a training step sees: images, sentences, mismatched pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from localmi.data.cache import Cache
from localmi.errors import TrainingError


@dataclass(frozen=True)
class Batch:
    """What one step sees: B images and M texts (M = B with one sentence an image)."""

    images: Tensor  # [B, 1, H, W] float32, zero mean
    image_study: Tensor  # [B] int64, equal where two images belong to one study
    owner: Tensor  # [M] int64, the image each text is matched with
    text_study: Tensor  # [M] int64, the study each text was written for
    text: Tensor  # [M] int64, number of the text in the split: equal where two read the same

    def shuffled(self) -> "Batch":
        """Every text matched with the next image of the batch: nothing is left to find."""
        return replace(self, owner=(self.owner + 1) % len(self.images))


def may_mismatch(
    image_study: Tensor, text_study: Tensor, text: Tensor, *, same_text: bool = False
) -> Tensor:
    """Which pairs (image i, text j) may serve as mismatched ones: [M, M] bool.

    Never an image and a text of one study, which may have several images; nor, unless `same_text`,
    a text that reads as the matched one: "No acute process." of another patient is true here too.
    The second rule helps training but shifts the bound up a little, for the mismatched texts are
    then no longer drawn like the matched ones; a value that is reported keeps them (`same_text`).

    Args:
        image_study: [M], study of the image of each matched pair.
        text_study: [M], study that each text was written for.
        text: [M], equal where two texts read the same.
    """
    allowed = image_study[:, None] != text_study[None, :]
    if not same_text:
        allowed = allowed & (text[:, None] != text[None, :])
    return allowed


def normalise(images: np.ndarray) -> Tensor:
    """uint8 [B, H, W] -> float32 [B, 1, H, W]; zero mean and unit spread when equalised."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(torch.float32).unsqueeze(1)
    return (pixels - 127.5) / 73.6  # mean and standard deviation of uniform 0..255


class SplitData:
    """The images of one split and the texts that go with them.

    Args:
        cache: the prepared data.
        split: "train", "validate" or "test".
        unit: "sentence" (local MI) or "report" (global MI: the study's sentences as one text).
        kinds: kinds of sentence that are used; ("content",) drops comparison and communication.

    Attributes:
        texts: the distinct texts; `text_ids[study]` points into it.

    Taught in 05_radiographs_and_reports.
    """

    def __init__(
        self,
        cache: Cache,
        split: str,
        *,
        unit: str = "sentence",
        kinds: Sequence[str] = ("content", "comparison", "communication"),
    ) -> None:
        sentences = cache.sentences[cache.sentences["kind"].isin(list(kinds))]
        by_study = sentences.groupby("study_id", sort=False)["text"].agg(list)
        manifest = cache.manifest[cache.manifest["split"] == split]
        self.manifest = manifest[manifest["study_id"].isin(by_study.index)].reset_index(drop=True)
        if self.manifest.empty:
            raise TrainingError(
                f"Split {split!r} of {cache.folder.name} has no image with a usable sentence. "
                "Look at the cache's rejected rows, or choose other splits."
            )
        if split != "train" and self.manifest["study_id"].nunique() == 1:
            raise TrainingError(
                f"Split {split!r} of {cache.folder.name} has one study: nothing can be measured "
                "on it. Give more patients, or a column `split` with two studies in each."
            )
        self.split = split
        self.unit = unit
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
        """Images of these rows of the split, normalised: [len(index), 1, H, W]."""
        return normalise(self._images[self._rows[index]])

    def batch(self, index: np.ndarray, rng: np.random.Generator, *, every: bool = False) -> Batch:
        """These images, each with one text of its study drawn at random, or with every text."""
        groups = [self.text_ids[study] for study in self.study[index]]
        drawn = groups if every else [rng.choice(group, size=1) for group in groups]
        owner = np.repeat(np.arange(len(index)), [len(texts) for texts in drawn])
        text = np.concatenate(drawn)
        return Batch(
            images=self.images(index),
            image_study=torch.from_numpy(self.study[index]),
            owner=torch.from_numpy(owner),
            text_study=torch.from_numpy(self.study[index][owner]),
            text=torch.from_numpy(text),
        )


def training_batch(data: SplitData, step: int, *, size: int, seed: int, every: bool) -> Batch:
    """The batch of a step: shuffled anew each epoch, without replacement within it.

    It depends on nothing but (data, seed, step), so a resumed run needs no sampler state.

    Raises:
        TrainingError: fewer images than one batch, or a batch of one.
    """
    if size < 2:
        raise TrainingError(f"batch_size={size}: a mismatched pair needs at least 2 images.")
    per_epoch = len(data) // size
    if per_epoch == 0:
        raise TrainingError(
            f"batch_size={size}, but split {data.split!r} has {len(data)} images. "
            "Lower batch_size."
        )
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng([seed, 0, epoch]).permutation(len(data))
    index = order[position * size : (position + 1) * size]
    return data.batch(index, np.random.default_rng([seed, 1, step]), every=every)
