"""Linear probes: how much of the labels can a logistic regression read off stored features?

Taught in 08_downstream_tasks.
"""

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from localmi.downstream.result import Fitted
from localmi.downstream.tasks import CLASSES, LabelledImages, aucs, mean_auc
from localmi.errors import check_name
from localmi.names import Task

STRENGTHS = (1.0, 1e-4, 1e-3, 1e-2, 0.1, 10.0, 100.0)  # C: a small one regularises more


def fit_probe(
    task: Task, features: Mapping[str, np.ndarray], parts: Mapping[str, LabelledImages]
) -> Fitted:
    """One logistic regression a finding, or one of four grades of edema.

    Features are standardised by the training images. The C of each regression is that with the
    best validation AUC; 1 where the validation split has only one class. Where the training
    images have only one class, all probabilities are its own.

    Args:
        task: "pathology9", "chexpert14" or "edema".
        features: [n, P] of each split, in the order of its part.
        parts: labelled images of train, validate and test.

    Raises:
        ConfigError: unknown task.
        TrainingError: no label of the validation split has both classes.

    Taught in 08_downstream_tasks.
    """
    check_name("task", task, CLASSES)
    tried: dict[str, list[np.ndarray]] = {"validate": [], "test": []}
    for strength in STRENGTHS:
        predict = _regressions(task, features["train"], parts["train"], strength)
        for split, found in tried.items():
            found.append(predict(features[split]))
    validation = np.nan_to_num(
        [aucs(task, parts["validate"], values) for values in tried["validate"]]
    )
    if task == "edema":
        validation = np.repeat(validation.mean(axis=1, keepdims=True), 4, axis=1)
    best = validation.argmax(axis=0)  # [C], the first of equals
    columns = np.arange(len(best))
    selected = {split: np.stack(found)[best, :, columns].T for split, found in tried.items()}
    names = ["C"] if task == "edema" else [f"C {name}" for name in CLASSES[task]]
    return Fitted(
        chosen={name: STRENGTHS[index] for name, index in zip(names, best, strict=False)},
        validation_auc=mean_auc(task, parts["validate"], selected["validate"]),
        history=[],
        probabilities=selected["test"],
    )


def _regressions(
    task: Task, features: np.ndarray, part: LabelledImages, strength: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Features [m, P] -> probabilities [m, C], fitted on the labels that count."""
    if task == "edema":
        return _regression(features, part.targets.argmax(axis=1), 4, strength)
    fits = [
        _regression(features[counted], target[counted], 2, strength)
        for target, counted in zip(part.targets.T, part.mask.T, strict=True)
    ]
    return lambda rows: np.stack([fit(rows)[:, 1] for fit in fits], axis=1)


def _regression(
    features: np.ndarray, labels: np.ndarray, num_classes: int, strength: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Features [m, P] -> probabilities [m, num_classes]; a class that is not in the labels gets 0.

    Without any label all classes are as probable.
    """
    present = np.unique(labels).astype(int)
    shares = np.isin(np.arange(num_classes), present) if len(present) else np.ones(num_classes)
    if len(present) < 2:
        return lambda rows: np.tile(shares / shares.sum(), (len(rows), 1))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    model.fit(features, labels)

    def predict(rows: np.ndarray) -> np.ndarray:
        found = np.zeros((len(rows), num_classes))
        found[:, present] = model.predict_proba(rows)
        return found

    return predict
