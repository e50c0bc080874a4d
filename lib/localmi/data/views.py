"""The lateral views of a study beside its frontal images. Taught in 11_limitr."""

from dataclasses import dataclass, replace
from typing import Any, Self, get_args

import numpy as np
import torch
from torch import Tensor

from localmi.data.batches import LATERAL_VIEWS, Batch, SplitData
from localmi.data.cache.cache import Cache
from localmi.data.splits import SPLITS
from localmi.errors import TrainingError, check_name
from localmi.names import Lateral, Split, Unit
from localmi.statistics import partners

NOTHING = -1  # instead of a row of the cache


@dataclass(frozen=True)
class ViewBatch(Batch):
    """A batch whose images may have a lateral view beside them."""

    laterals: Tensor  # [b, 1, H, W] uint8, of those images that have one, in their order
    has_lateral: Tensor  # [B] bool; b of them are True

    def pin_memory(self) -> Self:
        return replace(self, images=self.images.pin_memory(), laterals=self.laterals.pin_memory())


class ViewData(SplitData):
    """The frontal images of a split, each with a lateral view of its study where there is one.

    Several laterals of a study: in training one is drawn, elsewhere it is the first by its id. A
    study without a lateral is normal; a lateral without a frontal image is not used.

    Args: cache, split and unit as `SplitData`, and
        lateral: "own"; the controls: "other", that of another patient, drawn anew in each batch of
            training; "none".

    Raises: as `SplitData`. ConfigError: unknown lateral. TrainingError: no study has a lateral, or
        "other" with those of one patient.
    """

    def __init__(
        self,
        cache: Cache,
        split: Split,
        *,
        unit: Unit = "sentence",
        lateral: Lateral = "own",
    ) -> None:
        check_name("split", split, SPLITS)
        check_name("lateral", lateral, get_args(Lateral))
        super().__init__(cache, split, unit=unit)
        self.lateral = lateral
        table = cache.manifest[cache.manifest["view"].isin(LATERAL_VIEWS)].sort_values("image_id")
        by_study = table.groupby("study_id")["index_in_cache"].apply(np.array)
        self._laterals = [by_study.get(study, np.empty(0, int)) for study in self.study_ids]
        found = np.array([len(rows) > 0 for rows in self._laterals])[self.study]
        self._with = np.flatnonzero(found)  # images of the split that have one
        if lateral == "none":
            return
        if not len(self._with):
            raise TrainingError(
                f"No study of split {split!r} of {cache.folder.name} has a lateral view. If the "
                "data have some, prepare them with --views AP,PA,LATERAL,LL; if not, set lateral "
                'to "none".'
            )
        patient = self.manifest["patient_id"].to_numpy()[self._with]
        other = partners(patient)
        if lateral == "other" and (patient[other] == patient).any():
            raise TrainingError(
                f"More than half of the lateral views of split {split!r} are of one patient: not "
                "every image can get another one's."
            )
        self._partner = dict(zip(self._with, self._with[other], strict=True))
        self._patient = dict(zip(self._with, patient, strict=True))

    def batch(self, index: np.ndarray, rng: np.random.Generator, **how: Any) -> ViewBatch:
        """As `SplitData.batch`, with the laterals of all images."""
        plain = super().batch(index, rng, **how)
        laterals, has_lateral = self.laterals(index, rng)
        return ViewBatch(**vars(plain), laterals=laterals, has_lateral=has_lateral)

    def laterals(
        self, index: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The laterals [b, 1, H, W] uint8 of those of these images that have one, and which have
        one, [len(index)] bool; drawn where there is a choice and an `rng`."""
        rows = np.array([self._lateral_of(image, rng) for image in index.tolist()], int)
        there = rows != NOTHING
        found = self._images[rows[there]] if there.any() else self._images[self._rows[:1]][:0]
        return torch.from_numpy(found).unsqueeze(1), torch.from_numpy(there)

    def _lateral_of(self, image: int, rng: np.random.Generator | None) -> int:
        own = self._laterals[self.study[image]]
        if self.lateral == "none" or not len(own):
            return NOTHING
        if self.lateral == "other":
            other = self._partner[image]
            while rng and self._patient[other := rng.choice(self._with)] == self._patient[image]:
                pass
            own = self._laterals[self.study[other]]
        return int(own[0] if rng is None else rng.choice(own))
