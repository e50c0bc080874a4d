"""The truth of a synthetic study, read back: which finding each sentence speaks of, and where."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from localmi.data.batches import SplitData
from localmi.errors import DataError
from localmi.phantom.config import FINDINGS, PhantomConfig, ReportNoise
from localmi.phantom.tables import LATENTS, MASKS, SENTENCES, SUMMARY

TRUTH_FILES = (SENTENCES, LATENTS, MASKS, SUMMARY)


@dataclass(frozen=True)
class Truth:
    """What is known of a synthetic study.

    sentences, latents: `truth/*.csv`; ids are strings; what does not apply is "", an
    absent finding's contrast NaN.
    summary: `truth/truth.json`: config, true_mi_nats, true_record_mi_nats, prevalence, counts,
    mean_mask_share.
    """

    sentences: pd.DataFrame
    latents: pd.DataFrame
    summary: dict[str, Any]
    archive: np.lib.npyio.NpzFile

    @property
    def config(self) -> PhantomConfig:
        """What the study was generated with."""
        stored = self.summary["config"]
        return PhantomConfig(**(stored | {"noise": ReportNoise(**stored["noise"])}))

    def mask(self, dicom_id: str, finding: str) -> np.ndarray:
        """[H, W] bool: where a present finding lies in an image.

        Raises:
            DataError: there is none; names the findings that the image has.
        """
        key = f"{dicom_id}/{finding}"
        if key not in self.archive:
            has = [name.split("/")[1] for name in self.archive if name.startswith(f"{dicom_id}/")]
            raise DataError(
                f"No mask of {finding!r} in image {dicom_id}: it shows {has or 'no finding'}. "
                "Masks exist for present findings; latents say which they are."
            )
        size = self.summary["config"]["image_size"]
        return np.unpackbits(self.archive[key], axis=1, count=size).astype(bool)

    def masks(self, dicom_ids: Iterable[str], findings: Iterable[str]) -> np.ndarray:
        """[S, H, W] bool: `mask` of each image and finding, one after the other."""
        pairs = zip(dicom_ids, findings, strict=True)
        return np.stack([self.mask(image, finding) for image, finding in pairs])


def read_truth(folder: Path | str) -> Truth:
    """The truth of the synthetic study in `folder`.

    Raises:
        DataError: a file of truth/ is missing, as in every real study.
    """
    folder = Path(folder)
    missing = [name for name in TRUTH_FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} has no {', '.join(missing)}: only synthetic studies carry their truth. "
            "Generate one with localmi.phantom.write.write_study, or go without."
        )
    ids = {"subject_id": str, "study_id": str}
    blank = {f"{name}_contrast": [""] for name in FINDINGS}
    sentences = pd.read_csv(folder / SENTENCES, dtype=ids, keep_default_na=False)
    latents = pd.read_csv(folder / LATENTS, dtype=ids, keep_default_na=False, na_values=blank)
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    return Truth(sentences, latents, summary, np.load(folder / MASKS))


def finding_sentences(truth: Truth, data: SplitData) -> pd.DataFrame:
    """The sentences of a split that speak of a finding, each with a frontal image of its study.

    Returns:
        One row a sentence: columns of `truth.sentences`, plus image_id, patient_id, image (row of
        `data`) and number (of the text in `data.texts`), as `SplitScores` is indexed.

    Raises:
        DataError: the truth is not that of this split: a sentence of it is unknown there.
    """
    images = data.manifest.assign(image=np.arange(len(data))).drop_duplicates("study_id")
    images = images[["study_id", "image_id", "patient_id", "image"]]
    spoken = truth.sentences[truth.sentences["finding"].isin(FINDINGS)]
    table = spoken.merge(images, on="study_id", validate="many_to_one")
    table["number"] = table["text"].map({text: index for index, text in enumerate(data.texts)})
    if table.empty or table["number"].isna().any():
        raise DataError(
            f"The truth does not fit split {data.split!r}: it holds sentences that the reports do "
            "not. Was the study changed after it was generated? make example writes it anew."
        )
    return table.astype({"number": int})
