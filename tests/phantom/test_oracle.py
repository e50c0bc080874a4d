"""The score of the truth: its mean is the true MI, and it is a ratio of probabilities."""

import dataclasses
import math
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from localmi.errors import DataError
from localmi.phantom.config import PhantomConfig, ReportNoise
from localmi.phantom.latents import sample_study
from localmi.phantom.oracle import oracle_scores
from localmi.phantom.read import Truth
from localmi.phantom.report import compose_report
from localmi.phantom.tables import LATENTS, SENTENCES, columns, sentence_rows, study_rows
from localmi.phantom.truth import true_mi

NOISE = ReportNoise(omission=0.1, flip=0.1, wrong_side=0.2, wrong_level=0.3)


def draw(config: PhantomConfig, studies: int, unit: str) -> tuple[Truth, Any]:
    """The truth of so many studies with one image each, and a split of all of them."""
    sentences, latents, groups = [], [], []
    for patient in range(studies):
        study = sample_study(config, patient, 0)
        report = compose_report(study, config)
        if not report.sentences:
            continue
        sentences += sentence_rows(study, report)
        latents.append(study_rows(study, report, "train")[LATENTS])
        groups.append([sentence.text for sentence in report.sentences])
    tables = {
        name: pd.DataFrame(rows).reindex(columns=columns(config)[name]).astype(object).fillna("")
        for name, rows in ((SENTENCES, sentences), (LATENTS, latents))
    }
    tables = {name: table.astype({"study_id": str}) for name, table in tables.items()}
    if unit == "report":
        groups = [[" ".join(group)] for group in groups]
    texts = sorted({text for group in groups for text in group})
    number = {text: index for index, text in enumerate(texts)}
    data = SimpleNamespace(
        split="train",
        unit=unit,
        texts=texts,
        study_ids=tables[LATENTS]["study_id"].to_numpy(),
        study=np.arange(len(groups)),
        text_ids=[np.array([number[text] for text in group]) for group in groups],
    )
    summary = {"config": asdict(config)}
    return Truth(tables[SENTENCES], tables[LATENTS], summary, None), data  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ["sentence", "report"])
@pytest.mark.parametrize("noise", [ReportNoise(), NOISE], ids=["faithful", "noisy"])
def test_its_mean_over_matched_pairs_is_the_true_mi(unit: str, noise: ReportNoise) -> None:
    config = PhantomConfig(noise=noise)
    truth, data = draw(config, 1500, unit)
    scores = oracle_scores(truth, data)
    assert scores.shape == (1500, len(data.texts))
    assert scores.dtype == np.float32
    check_mean(scores, data, true_mi(config, unit))  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ["sentence", "report"])
@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_it_knows_the_depth_that_reports_say(unit: str, rate: float) -> None:
    config = PhantomConfig(depth_said=rate, noise=ReportNoise(flip=0.1))
    truth, data = draw(config, 1500, unit)
    scores = oracle_scores(truth, data)
    check_mean(scores, data, true_mi(config, unit))  # type: ignore[arg-type]
    silent = dataclasses.replace(truth, sentences=truth.sentences.assign(depth=""))
    unheard = oracle_scores(silent, data)
    possible = np.isfinite(scores)
    gained = (scores[possible] - unheard[possible]) / math.log(2)  # one bit a depth that is said
    np.testing.assert_allclose(gained, gained.round(), atol=1e-4)
    assert {*gained.round()} >= {0.0, 1.0}
    assert np.isneginf(scores).sum() > np.isneginf(unheard).sum()


def test_reports_that_say_nothing_are_left_out() -> None:
    config = PhantomConfig(fillers=(0,), mention_absent=0.1, mention_normal=0.2)
    truth, data = draw(config, 1500, "sentence")
    assert len(data.study) < 1450
    check_mean(oracle_scores(truth, data), data, true_mi(config))


def check_mean(scores: np.ndarray, data: Any, expected: float) -> None:
    own = np.array([scores[image, ids].mean() for image, ids in enumerate(data.text_ids)])
    error = own.std() / math.sqrt(len(own))
    assert np.isfinite(own).all()
    assert abs(own.mean() - expected) < 4 * error


def test_over_all_images_a_text_is_as_likely_as_it_is() -> None:
    """E exp(f*) = sum over states of p(state) p(text | state) / p(text) = 1 for every text."""
    truth, data = draw(PhantomConfig(noise=NOISE), 1500, "sentence")
    weights = np.exp(oracle_scores(truth, data).astype(np.float64))
    error = weights.std(axis=0) / math.sqrt(len(weights))
    assert (abs(weights.mean(axis=0) - 1) <= 5 * error).all()
    assert (weights.std(axis=0) > 0.1).any()


def test_one_finding_in_closed_form() -> None:
    p, flip, wrong = 0.3, 0.1, 0.2
    config = PhantomConfig(
        abnormal=1.0,
        prevalence={"cardiomegaly": p},
        mention_absent=1.0,
        mention_normal=0.0,
        fillers=(0,),
        noise=ReportNoise(flip=flip, wrong_level=wrong),
    )
    truth, data = draw(config, 300, "sentence")
    scores = oracle_scores(truth, data)
    said = truth.sentences.drop_duplicates("text").set_index("text").loc[data.texts]
    present, level = (
        truth.latents[name].to_numpy() for name in ("cardiomegaly", "cardiomegaly_level")
    )
    says_present = p * (1 - flip) + (1 - p) * flip
    for image, text in np.ndindex(scores.shape):
        row = said.iloc[text]
        agrees = (row["polarity"] != "absent") == bool(present[image])
        whole = says_present if row["polarity"] != "absent" else 1 - says_present
        expected = math.log((1 - flip if agrees else flip) / whole)
        if row["polarity"] != "absent" and present[image]:
            expected += math.log(3 * (1 - wrong if row["level"] == level[image] else wrong / 2))
        assert scores[image, text] == pytest.approx(expected, abs=1e-5)


def test_what_a_report_cannot_say_is_worth_minus_infinity() -> None:
    truth, data = draw(PhantomConfig(), 100, "sentence")
    scores = oracle_scores(truth, data)
    said = truth.sentences.drop_duplicates("text").set_index("text").loc[data.texts]
    denied = (said["finding"] == "edema") & (said["polarity"] == "absent")
    has = truth.latents["edema"].to_numpy().astype(bool)
    assert np.isneginf(scores[np.ix_(has, denied)]).all()
    assert np.isfinite(scores[np.ix_(~has, denied)]).all()


@pytest.mark.parametrize("unit", ["sentence", "report"])
def test_a_truth_of_another_study_is_refused(unit: str) -> None:
    truth, data = draw(PhantomConfig(), 20, unit)
    few = truth.sentences[truth.sentences["study_id"] != data.study_ids[3]]
    lacking = Truth(few, truth.latents, truth.summary, truth.archive)
    if unit == "report" or len(set(few["text"])) < len(data.texts):
        with pytest.raises(DataError, match="1? ?of its texts are unknown"):
            oracle_scores(lacking, data)
    lacking = Truth(truth.sentences, truth.latents[1:], truth.summary, truth.archive)
    with pytest.raises(DataError, match=f"does not know 1 studies, the first {data.study_ids[0]}"):
        oracle_scores(lacking, data)
