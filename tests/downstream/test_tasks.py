import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from labelled_study import labelled_cache

from localmi.data.cache.cache import Cache
from localmi.data.labels import FINDINGS, PATHOLOGY9, check_test_patients, label_targets
from localmi.downstream.config import DownstreamConfig
from localmi.downstream.tasks import (
    LabelledImages,
    aucs,
    labelled_images,
    mean_auc,
    nested_share,
)
from localmi.errors import DataError, StudyLeakError, TrainingError

EDEMA = DownstreamConfig(task="edema")


@pytest.fixture
def cache() -> Cache:
    return labelled_cache()


def changed(cache: Cache, **columns: object) -> Cache:
    return replace(cache, manifest=cache.manifest.assign(**columns))


# --- Labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["explicit", "ones", "zeros_blank_zero"])
def test_findings_are_those_of_the_policy(cache: Cache, policy: str) -> None:
    parts = labelled_images(cache, DownstreamConfig(label_policy=policy))
    for split, part in parts.items():
        rows = cache.manifest[cache.manifest["split"] == split]
        targets, mask = label_targets(rows[list(PATHOLOGY9)], policy)
        kept = mask.any(axis=1)
        assert part.rows["image_id"].tolist() == rows["image_id"][kept].tolist()
        assert np.array_equal(part.targets, targets[kept])
        assert np.array_equal(part.mask, mask[kept])


def test_an_image_without_any_label_is_not_there(cache: Cache) -> None:
    labels = cache.manifest[list(PATHOLOGY9)].copy()
    labels.iloc[[0, 70]] = np.nan
    parts = labelled_images(changed(cache, **labels), DownstreamConfig())
    known = pd.concat([part.rows for part in parts.values()])["image_id"]
    assert set(cache.manifest["image_id"]) - set(known) == {"image-0", "image-70"}


def test_findings_of_radiologists_for_the_test_split_alone(cache: Cache) -> None:
    in_test = cache.manifest["split"] == "test"
    expert = {f"expert_{name}": in_test.map({True: 1.0}) for name in PATHOLOGY9}
    config = DownstreamConfig(test_labels="expert")
    parts = labelled_images(changed(cache, **expert), config)
    assert parts["test"].targets.all()
    assert parts["test"].mask.all()
    before = labelled_images(cache, DownstreamConfig())
    assert np.array_equal(parts["train"].targets, before["train"].targets)
    with pytest.raises(DataError, match="no labels expert_Support Devices, .*other test_labels"):
        labelled_images(cache, config)


def all_findings(cache: Cache) -> Cache:
    """With the five that are not among the nine; No Finding is 1 or blank."""
    rng = np.random.default_rng(1)
    others = [name for name in FINDINGS if name not in PATHOLOGY9]
    labels = {name: rng.choice([0.0, 1.0, -1.0, np.nan], len(cache.manifest)) for name in others}
    labels["No Finding"] = rng.choice([1.0, np.nan], len(cache.manifest))
    return changed(cache, **labels)


@pytest.mark.parametrize("policy", ["explicit", "zeros_blank_zero"])
def test_all_fourteen_findings(cache: Cache, policy: str) -> None:
    """By the usual policy for them blank and uncertain are absent, and nothing is left out."""
    cache = all_findings(cache)
    config = DownstreamConfig(task="chexpert14", label_policy=policy)
    for split, part in labelled_images(cache, config).items():
        rows = cache.manifest[cache.manifest["split"] == split]
        targets, mask = label_targets(rows[list(FINDINGS)], policy)
        assert np.array_equal(part.targets, targets)
        assert np.array_equal(part.mask, mask)
        assert mask.all() == (policy == "zeros_blank_zero")
        column = FINDINGS.index("No Finding")
        known = aucs("chexpert14", part, np.random.default_rng(0).random(targets.shape))
        assert np.isnan(known).tolist() == [
            place == column and policy == "explicit" for place in range(14)
        ]


@pytest.mark.parametrize("policy", ["explicit", "zeros_blank_zero"])
def test_a_finding_that_the_study_says_nothing_of_never_counts(cache: Cache, policy: str) -> None:
    silent = changed(cache, **{"Support Devices": np.nan})
    column = PATHOLOGY9.index("Support Devices")
    for part in labelled_images(silent, DownstreamConfig(label_policy=policy)).values():
        assert not part.mask[:, column].any()
        assert part.mask.any(axis=1).all()


def test_findings_are_tested_on_the_official_test_split(cache: Cache) -> None:
    """The patients that were moved there for edema are not part of it."""
    official = cache.manifest["split"].where(cache.manifest["patient_id"] != "patient-39", "train")
    moved = changed(cache, official_split=official)
    tested = labelled_images(moved, DownstreamConfig())["test"].rows["patient_id"]
    assert "patient-39" not in set(tested)
    assert "patient-38" in set(tested)
    assert "patient-39" in set(labelled_images(moved, EDEMA)["test"].rows["patient_id"])


def test_grades_of_edema_are_the_best_there_are(cache: Cache) -> None:
    """An expert's before those of rules; for testing the consensus, and nothing else."""
    expert = pd.Series(np.nan, cache.manifest.index)
    expert[[0, 1]] = 3.0, 2.0
    parts = labelled_images(changed(cache, edema_severity_expert=expert), EDEMA)
    train = parts["train"]
    assert train.rows["image_id"][0] == "image-0"  # which has no grade by rules
    assert train.targets[:2].argmax(axis=1).tolist() == [3, 2]
    by_rules = cache.manifest["edema_severity"][2]
    assert train.targets[2].tolist() == [float(grade == by_rules) for grade in range(4)]
    assert len(train) == 33  # of 40 every fifth has no grade, one of them the expert's
    consensus = cache.manifest["edema_severity_consensus"].dropna()
    assert parts["test"].targets.argmax(axis=1).tolist() == consensus.tolist()
    assert all(part.mask.all() for part in parts.values())


def test_without_consensus_edema_is_tested_on_what_there_is(cache: Cache) -> None:
    table = cache.manifest.drop(columns="edema_severity_consensus")
    graded = replace(cache, manifest=table.assign(edema_severity=1.0))
    assert labelled_images(graded, EDEMA)["test"].targets.argmax(axis=1).tolist() == [1] * 20


# --- Errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["pathology9", "edema"])
def test_missing_columns_are_named(cache: Cache, task: str) -> None:
    table = cache.manifest.drop(columns=["Pneumonia"])
    table = table.drop(columns=[name for name in table if "severity" in name])
    wanted = "Pneumonia" if task == "pathology9" else "edema_severity"
    with pytest.raises(DataError, match=f"no labels {wanted}. Add the columns"):
        labelled_images(replace(cache, manifest=table), DownstreamConfig(task=task))


@pytest.mark.parametrize("split", ["train", "validate", "test"])
def test_a_split_without_labels_is_named(cache: Cache, split: str) -> None:
    labels = cache.manifest[list(PATHOLOGY9)].copy()
    labels[cache.manifest["split"] == split] = np.nan
    with pytest.raises(DataError, match=f"no image in {split} with a label.*pathology9"):
        labelled_images(changed(cache, **labels), DownstreamConfig())


def test_a_grade_that_does_not_exist(cache: Cache) -> None:
    wrong = cache.manifest["edema_severity"].replace(3.0, 5.0)
    with pytest.raises(DataError, match="grade of edema in train is 5. Grades are 0, 1, 2, 3"):
        labelled_images(changed(cache, edema_severity=wrong), EDEMA)


def test_one_image_is_too_few(cache: Cache) -> None:
    labels = cache.manifest[list(PATHOLOGY9)].copy()
    labels.iloc[1:40] = np.nan
    with pytest.raises(TrainingError, match="is one image. Raise it"):
        labelled_images(changed(cache, **labels), DownstreamConfig(fraction=0.01))
    with pytest.raises(TrainingError, match="is one image. Give more patients with a label"):
        labelled_images(changed(cache, **labels), DownstreamConfig())  # it cannot be raised


# --- Test patients ----------------------------------------------------------------------------


def test_a_cache_without_leaks_is_let_through(cache: Cache, tiny_cache: Cache) -> None:
    check_test_patients(cache.manifest)
    check_test_patients(tiny_cache.manifest)


@pytest.mark.parametrize("task", ["pathology9", "edema"])
@pytest.mark.parametrize("row", [0, 45])  # of training, of validation
@pytest.mark.parametrize(
    "plant",
    [
        {"patient_id": "patient-39"},
        {"official_split": "test"},
        {"edema_severity_consensus": 2.0},
        {"expert_Pneumonia": 0.0},
    ],
)
def test_a_planted_test_patient_is_found(cache: Cache, plant: dict, row: int, task: str) -> None:
    """By split, by the official split, by a consensus grade, by a radiologist's label."""
    table = cache.manifest.copy()
    for name, value in plant.items():
        table.loc[row, name] = value
    with pytest.raises(StudyLeakError, match="patient-39|test patients? of a downstream task"):
        labelled_images(replace(cache, manifest=table), DownstreamConfig(task=task))


def test_the_other_images_of_a_test_patient_are_found_too(cache: Cache) -> None:
    """Image 0 alone has a consensus grade and was moved; image 1 of the patient was not."""
    table = cache.manifest.copy()
    table.loc[0, ["split", "edema_severity_consensus"]] = "test", 1.0
    with pytest.raises(StudyLeakError, match="patient-0"):
        labelled_images(replace(cache, manifest=table), EDEMA)


# --- Fractions --------------------------------------------------------------------------------


def test_a_small_share_is_part_of_a_larger_one() -> None:
    patients = [f"p{number}" for number in range(500)]
    shares = [nested_share(patients, share, seed=3) for share in (0.01, 0.1, 0.5, 1.0)]
    assert [len(share) for share in shares] == [5, 50, 250, 500]
    assert all(small < large for small, large in itertools.pairwise(shares))
    assert nested_share(reversed(patients), 0.1, seed=3) == shares[1]
    assert nested_share(patients, 0.1, seed=4) != shares[1]
    assert len(nested_share(patients, 1e-9, seed=0)) == 1


def test_a_fraction_is_of_training_patients_alone(cache: Cache) -> None:
    whole = labelled_images(cache, EDEMA)
    tenth = labelled_images(cache, DownstreamConfig(task="edema", fraction=0.1))
    patients = tenth["train"].rows["patient_id"]
    assert patients.nunique() == 2  # of 20
    own = whole["train"].rows["patient_id"].isin(patients).to_numpy()
    assert np.array_equal(tenth["train"].targets, whole["train"].targets[own])
    for split in ("validate", "test"):
        assert tenth[split].rows.equals(whole[split].rows)


# --- AUC --------------------------------------------------------------------------------------


def brute_auc(targets: np.ndarray, scores: np.ndarray) -> float:
    """Of all pairs of a positive and a negative, how many are in order; ties half."""
    pairs = [(p, n) for p in scores[targets == 1] for n in scores[targets == 0]]
    return sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs)


def test_mean_auc_of_findings_is_over_what_counts(cache: Cache) -> None:
    part = labelled_images(cache, DownstreamConfig())["test"]
    part.mask[:, 2] = False
    part.targets[part.mask[:, 3], 3] = 1
    scores = np.random.default_rng(0).integers(5, size=part.targets.shape) / 4
    expected = np.array(
        [
            np.nan
            if column in (2, 3)
            else brute_auc(
                part.targets[part.mask[:, column], column], scores[part.mask[:, column], column]
            )
            for column in range(9)
        ]
    )
    np.testing.assert_allclose(aucs("pathology9", part, scores), expected, atol=1e-12)
    assert mean_auc("pathology9", part, scores) == pytest.approx(np.nanmean(expected))


def test_mean_auc_of_edema_is_over_its_three_cuts(cache: Cache) -> None:
    part = labelled_images(cache, EDEMA)["test"]
    scores = np.random.default_rng(0).dirichlet(np.ones(4), size=len(part))
    grade = part.targets.argmax(axis=1)
    expected = [
        brute_auc((grade >= cut).astype(int), scores[:, cut:].sum(axis=1)) for cut in (1, 2, 3)
    ]
    assert mean_auc("edema", part, scores) == pytest.approx(np.mean(expected), abs=1e-12)


def test_nothing_to_select_by() -> None:
    part = LabelledImages(pd.DataFrame(index=range(3)), np.ones((3, 9)), np.ones((3, 9), bool))
    with pytest.raises(TrainingError, match="both present and absent"):
        mean_auc("pathology9", part, np.zeros((3, 9)))
