"""The best critic there is: the score that the truth gives an image and a text. In nats.

    f*(H, text) = log p(text | H) - log p(text)

H is the hidden state of the image's study. The mean of f* over matched pairs is `true_mi`; no
critic gives a tighter bound at the same K, and none ranks whole reports better, but by luck. So
what a model reaches has this beside it: what was left to learn. Factors as in `truth`: which
statements are made depends on the presence of the findings, their attributes on the true ones;
wording, hedging and fillers on nothing.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from localmi.data.batches import SplitData
from localmi.errors import DataError
from localmi.names import Unit
from localmi.phantom.config import PhantomConfig, said_attributes
from localmi.phantom.read import Truth
from localmi.phantom.statements import NORMAL, error_rate, topics
from localmi.phantom.truth import report_channel, sentence_channel, state_distribution

SILENT, PRESENT, ABSENT = range(3)  # what a text says of a topic
POLARITY = {"present": PRESENT, "uncertain": PRESENT, "absent": ABSENT}


def oracle_scores(truth: Truth, data: SplitData) -> np.ndarray:
    """log p(text | hidden state) / p(text) of every image with every text of a split.

    Args:
        truth: of the synthetic study.
        data: a split of it, of sentences or of reports.

    Returns:
        [images, texts] float32 in nats, as `SplitScores.scores`; -inf where the image's report
        cannot say so.

    Raises:
        DataError: the truth is not that of this split: a text or a study of it is unknown there.

    Taught in 07_train_local_mi.
    """
    config, names = truth.config, topics(truth.config)
    latents = truth.latents.set_index("study_id")
    spoken = _spoken(truth, data)
    if unknown := sorted({*data.study_ids} - {*latents.index}):
        raise DataError(f"The truth does not know {len(unknown)} studies, the first {unknown[0]}.")
    latents = latents.loc[data.study_ids]
    said = _said(spoken, names, len(data.texts))
    states, probability = state_distribution(config)
    given, prior = _channel(config, states, probability, said, data.unit)
    with np.errstate(divide="ignore"):
        information = np.log(given) - np.log(prior @ given)  # [S, T]
    state = latents[list(names)].to_numpy(int) @ 2 ** np.arange(len(names))[::-1]  # its row
    found = information[state]
    for name in names:
        for attribute, values in said_attributes(config, name).items():
            error = error_rate(config.noise, attribute)
            true = _codes(latents[f"{name}_{attribute}"], values)
            about = spoken[spoken["finding"] == name].set_index("text_number")[attribute]
            heard = _codes(
                about[~about.index.duplicated()].reindex(range(len(data.texts))), values
            )
            found += _attribute_information(values, error)[np.ix_(true, heard)]
    per_image: np.ndarray = found[data.study].astype(np.float32)
    return per_image


def _spoken(truth: Truth, data: SplitData) -> pd.DataFrame:
    """The statements of each text: rows of `truth.sentences` with text_number, of `data.texts`."""
    if data.unit == "sentence":
        number = {text: index for index, text in enumerate(data.texts)}
        table = truth.sentences.drop_duplicates("text")
        numbers = table["text"].map(number)
    else:
        owner = dict(zip(data.study_ids, (int(ids[0]) for ids in data.text_ids), strict=True))
        table = truth.sentences
        numbers = table["study_id"].map(owner)
    table = table.assign(text_number=numbers).dropna(subset="text_number")
    if missing := len(data.texts) - table["text_number"].nunique():
        raise DataError(
            f"The truth does not fit split {data.split!r}: {missing} of its texts are unknown to "
            "it. Was the study changed after it was generated? make example writes it anew."
        )
    return table.astype({"text_number": int})


def _said(spoken: pd.DataFrame, names: tuple[str, ...], texts: int) -> np.ndarray:
    """What each text says of each topic, and whether it says "normal": [T, n + 1]."""
    said = np.full((texts, len(names) + 1), SILENT)
    for column, name in enumerate((*names, NORMAL)):
        about = spoken[spoken["finding"] == name]
        said[about["text_number"], column] = about["polarity"].map(POLARITY).fillna(PRESENT)
    return said


def _channel(
    config: PhantomConfig,
    states: np.ndarray,
    probability: np.ndarray,
    said: np.ndarray,
    unit: Unit,
) -> tuple[np.ndarray, np.ndarray]:
    """P(which statements the text makes | presence), [S, T]; and P(presence), [S].

    A sentence is one of a report that has some: what may have none is so much rarer.
    """
    number = states.shape[1]
    if unit == "sentence":
        channel = sentence_channel(config, states)
        some = channel.sum(axis=1)
        text, topic = said.nonzero()
        about = topic + number * (said[text, topic] - PRESENT)
        symbol = np.full(len(said), 2 * number + 1)  # filler
        symbol[text] = np.where(topic < number, about, 2 * number)  # or "normal"
        return (channel / some[:, None])[:, symbol], probability * some / (probability @ some)
    channel, normal = report_channel(config, states)
    given = np.where(said[:, -1] == PRESENT, normal[:, None], 1 - normal[:, None])
    for column in range(number):
        given = given * channel[:, column, said[:, column]]
    return given, probability


def _codes(column: pd.Series, values: Mapping[str, float]) -> np.ndarray:
    """The place of each value; the last one, past them all, where there is none."""
    codes = {value: code for code, value in enumerate(values)}
    return np.asarray(column.map(codes).fillna(len(values)), dtype=int)


def _attribute_information(values: Mapping[str, float], error: float) -> np.ndarray:
    """log p(said | true) / p(said), [true, said]; 0 in the row and the column of "none"."""
    prior, number = np.array(list(values.values())), len(values)
    given = np.full((number, number), error / max(number - 1, 1))
    np.fill_diagonal(given, 1 - error)
    with np.errstate(divide="ignore"):
        return np.pad(np.log(given) - np.log(prior @ given), (0, 1))
