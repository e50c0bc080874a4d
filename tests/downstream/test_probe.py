import warnings

import numpy as np
import pytest
from labelled_study import labelled_cache
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from localmi.downstream.config import DownstreamConfig
from localmi.downstream.probe import STRENGTHS, fit_probe
from localmi.downstream.tasks import LabelledImages, labelled_images, mean_auc
from localmi.errors import TrainingError

Parts = dict[str, LabelledImages]


@pytest.fixture
def parts() -> Parts:
    return labelled_images(labelled_cache(), DownstreamConfig())


def features_of(parts: Parts) -> dict[str, np.ndarray]:
    """Noise, and on the first axis the first target."""
    rng = np.random.default_rng(0)
    features = {split: rng.normal(size=(len(part), 4)) for split, part in parts.items()}
    for split, part in parts.items():
        features[split][:, 0] += 1.5 * part.targets[:, 0]
    return features


def test_a_probe_is_scikit_learns_with_the_c_of_the_validation_split(parts: Parts) -> None:
    features = features_of(parts)
    found = fit_probe("pathology9", features, parts)
    seen = parts["train"].mask[:, 0]
    scaler = StandardScaler().fit(features["train"][seen])
    labels = parts["train"].targets[seen, 0]
    validation = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000)
        model.fit(scaler.transform(features["train"][seen]), labels)
        single = np.full(parts["validate"].targets.shape, 0.5)
        single[:, 0] = model.predict_proba(scaler.transform(features["validate"]))[:, 1]
        # of the other eight columns every AUC is one half
        validation.append(9 * mean_auc("pathology9", parts["validate"], single) - 4)
        if strength == found.chosen["C Support Devices"]:
            test = model.predict_proba(scaler.transform(features["test"]))[:, 1]
            np.testing.assert_allclose(found.probabilities[:, 0], test)
    assert found.chosen["C Support Devices"] == STRENGTHS[int(np.argmax(validation))]
    assert len(found.chosen) == 9
    assert max(validation) > 0.7


def test_the_test_split_has_no_part_in_the_choice(parts: Parts) -> None:
    features = features_of(parts)
    before = fit_probe("pathology9", features, parts)
    parts["test"].targets[:] = 1 - parts["test"].targets
    after = fit_probe("pathology9", features, parts)
    assert before.chosen == after.chosen
    assert before.validation_auc == after.validation_auc
    assert np.array_equal(before.probabilities, after.probabilities)


def test_findings_with_one_class_or_none(parts: Parts) -> None:
    train, validate = parts["train"], parts["validate"]
    train.targets[:, 1] = 1
    train.targets[:, 2] = 0
    train.mask[:, 3] = False
    validate.targets[:, 4] = 1
    found = fit_probe("pathology9", features_of(parts), parts)
    assert (found.probabilities[:, 1] == 1).all()
    assert (found.probabilities[:, 2] == 0).all()
    assert (found.probabilities[:, 3] == 0.5).all()
    assert found.chosen["C Lung Opacity"] == 1.0  # nothing to choose by
    assert np.ptp(found.probabilities[:, 4]) > 0


def test_edema_with_a_grade_that_training_lacks() -> None:
    parts = labelled_images(labelled_cache(), DownstreamConfig(task="edema"))
    train = parts["train"]
    parts["train"] = train.subset(train.targets[:, 2] == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_probe("edema", features_of(parts), parts)
    assert list(found.chosen) == ["C"]
    assert (found.probabilities[:, 2] == 0).all()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    one = train.subset(train.targets[:, 1] == 1)
    constant = fit_probe("edema", features_of(parts | {"train": one}), parts | {"train": one})
    assert constant.validation_auc == 0.5
    assert (constant.probabilities == [0, 1, 0, 0]).all()


def test_a_validation_split_of_one_class(parts: Parts) -> None:
    parts["validate"].targets[:] = 1
    with pytest.raises(TrainingError, match="no model can be selected"):
        fit_probe("pathology9", features_of(parts), parts)
