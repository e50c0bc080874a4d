"""A study with labels of both downstream tasks, made of random arrays in no time."""

from pathlib import Path

import numpy as np
import pandas as pd

from localmi.data.cache.cache import Cache
from localmi.data.labels import PATHOLOGY9
from localmi.data.splits import SPLITS


def labelled_cache(patients: int = 40, *, size: int = 32, seed: int = 0) -> Cache:
    """Two images a patient; half of the patients in train, a quarter each in validate and test.

    Atelectasis brightens the upper half of an image, the grade of edema the lower; the other
    labels are of nothing. A tenth of the findings is uncertain, a tenth blank; every fifth image
    outside the test split has no grade.
    """
    rng = np.random.default_rng(seed)
    number = 2 * patients
    labels = rng.choice([0.0, 1.0, -1.0, np.nan], size=(number, 9), p=[0.4, 0.4, 0.1, 0.1])
    grade = rng.integers(4, size=number).astype(float)
    images = rng.integers(0, 100, size=(number, size, size))
    images[:, : size // 2] += (100 * (labels[:, 0] == 1)).astype(int)[:, None, None]
    images[:, size // 2 :] += (50 * grade).astype(int)[:, None, None]
    split = np.repeat(SPLITS, [patients, number // 4, number - patients - number // 4])
    manifest = pd.DataFrame(
        {
            "image_id": [f"image-{index}" for index in range(number)],
            "study_id": [f"study-{index}" for index in range(number)],
            "patient_id": [f"patient-{index // 2}" for index in range(number)],
            "split": split,
            "view": "AP",
            "index_in_cache": np.arange(number),
            "official_split": split,
        }
    )
    manifest[list(PATHOLOGY9)] = labels
    in_test = split == "test"
    manifest["edema_severity"] = np.where(in_test | (np.arange(number) % 5 == 0), np.nan, grade)
    manifest["edema_severity_consensus"] = np.where(in_test, grade, np.nan)
    return Cache(
        folder=Path("made"),
        name="made",
        image_size=size,
        manifest=manifest,
        sentences=pd.DataFrame(),
        rejected=pd.DataFrame(),
        data_hash="d" * 64,
        images=images.clip(0, 255).astype(np.uint8),  # type: ignore[arg-type]
    )
