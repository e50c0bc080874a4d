"""The page that goes with the weights: what it says, and what it must never say."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from localmi.data.cache.cache import Cache
from localmi.privacy.rules import find
from localmi.record import MODEL_CARD, Result
from localmi.statistics import Interval
from localmi.train.model_card import write_model_card
from localmi.train.pretraining import Pretraining

METRICS = {
    "local_mi_nats": Result(
        Interval(0.456, 0.401, 0.512), "test", {"cap": 4.852, "shuffled": -0.001, "truth": None}
    ),
    "pointing": Result(Interval(0.74, 0.70, 0.78), "validate", {"chance": 0.141, "pool": 100}),
    "nothing": Result(Interval(-0.001, -0.004, 0.002), "test", {}),
}


def test_it_says_what_was_trained_on_what(
    build: Callable[..., Pretraining], tiny_cache: Cache
) -> None:
    training = build(batch_size=5, steps=7)
    training.step = 4
    card = write_model_card(training, METRICS, credentialed=False)
    assert card.startswith("# Model card: local MI by infonce\n")
    assert "- steps: 4 of 7 (not finished)" in card
    assert "- batch: 5 images, on 1 process" in card
    assert "- computed in: cpu, float32" in card
    weights = sum(one.numel() for one in training.alignment.critic.parameters())
    assert f"- critic: {weights:,} weights" in card
    assert f"- sha256: {tiny_cache.data_hash}" in card
    for split, part in tiny_cache.manifest.groupby("split"):
        numbers = part["patient_id"].nunique(), part["study_id"].nunique(), len(part)
        assert f"| {split} | {' | '.join(map(str, numbers))} |" in card
    training.step = 7
    assert "7 of 7 (finished)" in write_model_card(training, METRICS, credentialed=False)


def test_every_figure_has_its_interval_and_what_stands_beside_it(
    build: Callable[..., Pretraining],
) -> None:
    card = write_model_card(build(), METRICS, credentialed=False)
    assert "| local_mi_nats | 0.46 | 0.40 to 0.51 | test | cap 4.85, shuffled -0.001 |" in card
    assert "| pointing | 0.74 | 0.70 to 0.78 | validate | chance 0.141, pool 100 |" in card
    assert "| nothing | 0.00 | 0.00 to 0.00 | test |  |" in card
    assert "None was measured." in write_model_card(build(), {}, credentialed=False)


def test_every_field_of_the_configuration_is_there(build: Callable[..., Pretraining]) -> None:
    training = build()
    card = write_model_card(training, {}, credentialed=False)
    for name, value in training.config.as_record().items():
        if name != "text_encoder":
            assert f"- `{name}`: {value}\n" in card + "\n"


def test_it_holds_no_id_no_sentence_and_no_path(
    build: Callable[..., Pretraining], tiny_cache: Cache
) -> None:
    training = build()
    assert Path(training.config.text_encoder).is_absolute()
    card = write_model_card(training, METRICS, credentialed=True)
    for column in ("image_id", "study_id", "patient_id"):
        assert not [one for one in tiny_cache.manifest[column] if one in card]
    assert not [text for text in tiny_cache.sentences["text"] if text in card]
    assert not list(find(card))
    assert not re.search(r"(^|\s)/\w+/", card)
    assert Path(training.config.text_encoder).name in card


@pytest.mark.parametrize(
    ("name", "said"),
    [("somebody/A_BERT", "somebody/A_BERT"), ("../of/ours", "ours"), ("~/of/ours", "ours")],
)
def test_a_name_on_the_hub_stays_and_of_a_folder_the_last_part(
    name: str, said: str, build: Callable[..., Pretraining]
) -> None:
    training = build()
    training.config = training.config.model_copy(update={"text_encoder": name})
    card = write_model_card(training, {}, credentialed=False)
    assert f"`text_encoder`: {said}\n" in card


def test_weights_of_credentialed_data_are_not_passed_on(
    build: Callable[..., Pretraining],
) -> None:
    training = build()
    credentialed, other = (
        write_model_card(training, {}, credentialed=flag) for flag in (True, False)
    )
    assert "fall under the same data use agreement" in credentialed
    assert "agreement" not in other
    assert "licence of the data" in other


def test_it_is_written_by_the_first_process_alone(
    build: Callable[..., Pretraining], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = build()
    monkeypatch.setenv("RANK", "1")
    write_model_card(training, METRICS, credentialed=False, run_dir=run_dir)
    assert not list(run_dir.iterdir())
    monkeypatch.setenv("RANK", "0")
    card = write_model_card(training, METRICS, credentialed=False, run_dir=run_dir)
    assert (run_dir / MODEL_CARD).read_text(encoding="utf-8") == card + "\n"
