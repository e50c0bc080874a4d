"""The labels of the tasks: who is trained, selected and tested on, and what counts.

Taught in 08_downstream_tasks.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from localmi.data.cache.cache import Cache
from localmi.data.labels import (
    EXPERT_PREFIX,
    FINDINGS,
    PATHOLOGY9,
    SEVERITIES,
    check_test_patients,
    label_targets,
)
from localmi.data.splits import SPLITS
from localmi.downstream.config import DownstreamConfig
from localmi.errors import DataError, TrainingError, check_name
from localmi.evaluate.edema import edema_tails
from localmi.names import Split, Task

REGEX, EXPERT, CONSENSUS = SEVERITIES
CLASSES: dict[Task, tuple[str, ...]] = {
    "pathology9": PATHOLOGY9,
    "edema": tuple(f"edema {grade}" for grade in range(4)),
    "chexpert14": FINDINGS,  # No Finding has no negatives but by a policy that ends in blank_zero
}


@dataclass(frozen=True)
class LabelledImages:
    """The images of a split that a task has labels of, n of them.

    rows: image_id, study_id, patient_id, index_in_cache.
    targets: [n, C] float32, 0 or 1; of edema one 1 a row, at its grade.
    mask: [n, C] bool, which targets count; of edema all.
    """

    rows: pd.DataFrame
    targets: np.ndarray
    mask: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, chosen: np.ndarray) -> "LabelledImages":
        """Some of them: bool [n]."""
        return LabelledImages(
            self.rows[chosen].reset_index(drop=True), self.targets[chosen], self.mask[chosen]
        )


def labelled_images(
    cache: Cache, config: DownstreamConfig, splits: Sequence[Split] = SPLITS
) -> dict[str, LabelledImages]:
    """The labelled images of each split; of the training split, the configured fraction.

    Args:
        splits: that are asked for: of data that are only tested on, "test" alone.

    Raises:
        DataError: a column of labels is missing, or a split has no label.
        ConfigError: an unknown split.
        StudyLeakError: a test patient is in training.
        TrainingError: the fraction leaves fewer than two images.

    Taught in 08_downstream_tasks.
    """
    for name in splits:
        check_name("split", name, SPLITS)
    check_test_patients(cache.manifest)
    make = _edema if config.task == "edema" else _findings
    parts: dict[str, LabelledImages] = {
        split: make(cache.manifest, split, config) for split in splits
    }
    for split, part in parts.items():
        if not len(part):
            raise DataError(
                f"{cache.name} has no image in {split} with a label that counts for "
                f"{config.task}. Look at the counts in the report of the prepared data."
            )
    if "train" not in parts:
        return parts
    train = parts["train"]
    chosen = nested_share(train.rows["patient_id"], config.fraction, config.seed)
    parts["train"] = train.subset(train.rows["patient_id"].isin(chosen).to_numpy())
    if len(parts["train"]) < 2:
        advice = "Raise it" if config.fraction < 1 else "Give more patients with a label"
        raise TrainingError(
            f"fraction={config.fraction:g} of the training patients of {cache.name} with a label "
            f"is one image. {advice}: nothing can be learnt from one."
        )
    return parts


def nested_share(patients: Iterable[str], fraction: float, seed: int) -> set[str]:
    """A share of the patients, at least one; a smaller share is part of a larger one.

    Drawn by a hash of seed and patient, so it depends on neither the order nor the images.
    """
    ordered = sorted(
        set(patients),
        key=lambda patient: hashlib.sha256(f"labels/{seed}/{patient}".encode()).digest(),
    )
    return set(ordered[: max(1, round(fraction * len(ordered)))])


def _findings(manifest: pd.DataFrame, split: str, config: DownstreamConfig) -> LabelledImages:
    """CheXpert's labels by the policy; the test split's are radiologists' if so configured.

    Tested is the official test split: not patients that were moved there for edema. A finding
    that is blank in all images of the study, as some are in NIH-14, never counts.
    """
    chosen = manifest["split"] == split
    if split == "test" and "official_split" in manifest:
        chosen &= manifest["official_split"] == "test"
    by_expert = split == "test" and config.test_labels == "expert"
    columns = [EXPERT_PREFIX + name if by_expert else name for name in CLASSES[config.task]]
    rows = _with_columns(manifest, columns)[chosen]
    targets, mask = label_targets(rows[columns], config.label_policy)  # [n, F]
    return _of(rows, targets, mask & manifest[columns].notna().any().to_numpy())


def _edema(manifest: pd.DataFrame, split: str, config: DownstreamConfig) -> LabelledImages:
    """Grades 0..3: tested on the consensus over images, else by an expert or rules from reports.

    Data without consensus are tested on what they have.
    """
    columns = [name for name in (EXPERT, REGEX) if name in manifest]
    if split == "test" and CONSENSUS in manifest:
        columns = [CONSENSUS]
    rows = _with_columns(manifest, columns or [REGEX])[manifest["split"] == split]
    grade = rows[columns].astype(float).bfill(axis=1).iloc[:, 0].to_numpy()
    graded = ~np.isnan(grade)
    wrong = grade[graded & ~np.isin(grade, range(4))]
    if len(wrong):
        raise DataError(f"A grade of edema in {split} is {wrong[0]:g}. Grades are 0, 1, 2, 3.")
    targets = (grade[:, None] == np.arange(4)).astype(np.float32)
    return _of(rows, targets, np.repeat(graded[:, None], 4, axis=1))


def _with_columns(manifest: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    missing = [name for name in columns if name not in manifest]
    if missing:
        raise DataError(
            f"The prepared data have no labels {', '.join(missing)}. Add the columns to the "
            "study and prepare it again, or choose another task or other test_labels."
        )
    return manifest


def _of(rows: pd.DataFrame, targets: np.ndarray, mask: np.ndarray) -> LabelledImages:
    """Without images of which nothing counts."""
    kept = rows[["image_id", "study_id", "patient_id", "index_in_cache"]]
    return LabelledImages(kept, targets, mask).subset(np.any(mask, axis=1))


def auc_columns(task: Task, values: np.ndarray) -> np.ndarray:
    """What an AUC is taken of: the findings [n, F], or edema's three cuts [n, 3].

    Raises:
        ConfigError: unknown task.
    """
    check_name("task", task, CLASSES)
    return edema_tails(values) if task == "edema" else values


def aucs(task: Task, part: LabelledImages, probabilities: np.ndarray) -> np.ndarray:
    """AUC of each finding [F], or of edema's cuts [3]; NaN where the images are of one class."""
    targets, scores = auc_columns(task, part.targets), auc_columns(task, probabilities)
    found = np.full(targets.shape[1], np.nan)
    for column in range(len(found)):
        counted = part.mask[:, column]
        if len(np.unique(targets[counted, column])) == 2:
            found[column] = roc_auc_score(targets[counted, column], scores[counted, column])
    return found


def mean_auc(task: Task, part: LabelledImages, probabilities: np.ndarray) -> float:
    """Mean AUC over the findings, or the cuts of edema: what models are selected by.

    A finding that is everywhere present or absent in the split has no AUC and is left out.

    Raises:
        TrainingError: that leaves none.
    """
    found = aucs(task, part, probabilities)
    if np.isnan(found).all():
        raise TrainingError(
            "No label of the validation split is both present and absent: no model can be "
            "selected on it. Give it more patients."
        )
    return float(np.nanmean(found))
