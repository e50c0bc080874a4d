"""Images without their texts, and beside each the record of its patient. Taught in 12_records."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, get_args

import numpy as np
import torch
from torch import Tensor

from localmi.data.batches import Batches
from localmi.data.cache.cache import Cache
from localmi.data.record_features import features
from localmi.data.splits import SPLITS
from localmi.errors import TrainingError, check_name
from localmi.names import RecordOf, RecordVariable, Split
from localmi.statistics import partners


@dataclass(frozen=True)
class ImageBatch:
    """What one step sees: B images, and B records of R numbers."""

    images: Tensor  # [B, 1, H, W] uint8, as in the cache
    record: Tensor  # [B, R] float32; R = 0 without a record
    patient: Tensor  # [B] int64, equal where two images are of one patient

    def pin_memory(self) -> Self:
        """The pixels where a GPU fetches them beside other work."""
        return replace(self, images=self.images.pin_memory())


class ImageData:
    """The images of one split, with or without reports, and the records of their patients.

    Args:
        cache: the prepared data.
        split: "train", "validate" or "test".
        views: of the images that are used, "AP", "PA", ...; (): all that the cache has.
        record: variables, or groups of them; see `localmi.data.record_features`.
        record_of: "other": each image has the record of another patient, drawn anew in each
            batch: the control.

    Attributes:
        manifest: the rows of the images. patient: [n] a number for each patient.
        record_names: what each of the R numbers of a record says.

    Raises:
        ConfigError: an unknown name. TrainingError: the split has no such image, or not enough of
            other patients.
        DataError: the cache has no records.
    """

    def __init__(
        self,
        cache: Cache,
        split: Split,
        *,
        views: Sequence[str] = (),
        record: Sequence[RecordVariable] = (),
        record_of: RecordOf = "own",
    ) -> None:
        check_name("split", split, SPLITS)
        check_name("owner of records", record_of, get_args(RecordOf))
        for name in record:
            check_name("variable of the record", name, get_args(RecordVariable))
        table = cache.manifest[cache.manifest["split"] == split]
        if views:
            table = table[table["view"].isin(list(views))]
        if table.empty:
            of_views = f" of the views {', '.join(views)}" if views else ""
            raise TrainingError(
                f"Split {split!r} of {cache.folder.name} has no image{of_views}: give others."
            )
        self.manifest = table.reset_index(drop=True)
        self.split, self.image_size, self.record_of = split, cache.image_size, record_of
        self._images = cache.images
        self._rows = self.manifest["index_in_cache"].to_numpy()
        _, self.patient = np.unique(self.manifest["patient_id"], return_inverse=True)
        self.records = np.empty((len(self), 0), np.float32)
        self.record_names: list[str] = []
        if record:
            self.records, self.record_names = features(self.manifest, record)
        most = np.bincount(self.patient).max()
        if record_of == "other" and most > len(self) / 2:
            raise TrainingError(
                f"record_of='other', but {most:,} of the {len(self):,} images in split {split!r} "
                "of this study are of one patient: the others' records do not go round. Take more "
                "patients."
            )

    def __len__(self) -> int:
        return len(self.manifest)

    def images(self, index: np.ndarray) -> Tensor:
        """Images of these rows, as they are stored: uint8 [len(index), 1, H, W]."""
        return torch.from_numpy(self._images[self._rows[index]]).unsqueeze(1)

    def batch(self, index: np.ndarray) -> ImageBatch:
        """These images with their records, or each with that of another patient among them."""
        patient = self.patient[index]
        whose = index[partners(patient)] if self.record_of == "other" else index
        return ImageBatch(
            images=self.images(index),
            record=torch.from_numpy(self.records[whose]),
            patient=torch.from_numpy(patient),
        )


class ImageBatches(Batches[ImageBatch]):
    """Batches of `ImageData`. Args and errors as `Batches`."""

    def __init__(self, data: ImageData, *, size: int, seed: int) -> None:
        super().__init__(data, size=size, seed=seed)
        self.data = data

    def __getitem__(self, step: int) -> ImageBatch:
        return self.data.batch(self.rows(step))
