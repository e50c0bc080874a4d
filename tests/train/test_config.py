import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from localmi.errors import ConfigError
from localmi.names import Bound
from localmi.train.config import TrainConfig


def test_the_defaults_are_those_of_the_method() -> None:
    config = TrainConfig.checked()
    assert config.objective == "local"
    assert config.bound == "infonce"
    assert config.image_encoder == "resnet256_6_2_1"
    assert config.critic_hidden == (1024, 512)
    assert config.learning_rate == 5e-4
    assert config.text_learning_rate == 2e-5
    assert config.text_weight_decay == 0.1
    assert config.warm_up == 0.1


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"step": 5}, r"step: Extra inputs"),  # unknown name
        ({"steps": "many"}, r"steps: .*integer.*'many'"),  # wrong types
        ({"steps": 2.5}, r"steps: .*integer.*2\.5"),
        ({"critic_hidden": 16}, r"critic_hidden: .*tuple.*16"),
        ({"critic_hidden": [16, "wide"]}, r"critic_hidden\.1: .*integer.*'wide'"),
        ({"augment": "perhaps"}, r"augment: .*boolean.*'perhaps'"),
        ({"learning_rate": None}, r"learning_rate: .*number.*None"),
        ({"objective": "both"}, r"objective: .*'local' or 'global'.*'both'"),  # unknown choices
        ({"bound": "ksg"}, r"bound: .*'infonce', 'mine', 'dv'.*'ksg'"),
        ({"direction": "upwards"}, r"direction: .*'image_to_text'"),
        ({"region_select": "max"}, r"region_select: .*'per_pair_max'"),
        ({"sentences": "two"}, r"sentences: .*'one', 'several' or 'all'"),
        ({"precision": "float16"}, r"precision: .*'bfloat16'.*'float16'"),
        ({"device": "tpu"}, r"device: .*'cuda'.*'tpu'"),
        ({"steps": 0}, r"steps: .*greater than or equal to 1.*found 0"),  # out of range
        ({"batch_size": 1}, r"batch_size: .*greater than or equal to 2"),
        ({"learning_rate": 0}, r"learning_rate: .*greater than 0"),
        ({"text_learning_rate": -1e-5}, r"text_learning_rate: .*or equal to 0"),
        ({"temperature": 0}, r"temperature: .*greater than 0"),
        ({"temperature_end": -1}, r"temperature_end: .*greater than 0"),
        ({"mine_decay": 1}, r"mine_decay: .*less than 1"),
        ({"warm_up": 1}, r"warm_up: .*less than 1"),
        ({"image_size": 32}, r"image_size: .*or equal to 64"),
        ({"local_stage": 7}, r"local_stage: .*or equal to 6"),
        ({"max_tokens": 1000}, r"max_tokens: .*or equal to 512"),
        ({"critic_chunk": -1}, r"critic_chunk: .*or equal to 0"),
        ({"critic_hidden": ()}, r"critic_hidden: .*at least 1 item"),
        ({"critic_hidden": (16, 0)}, r"critic_hidden\.1: .*greater than 0"),
        ({"seed": -1}, r"seed: .*or equal to 0.*-1"),
        ({"learning_rate": float("inf")}, r"learning_rate: .*finite number"),
        ({"temperature": float("nan")}, r"temperature: .*finite number"),
        ({"weight_decay": -0.1}, r"weight_decay: .*or equal to 0"),
        ({"text_weight_decay": -0.1}, r"text_weight_decay: .*or equal to 0"),
        ({"learning_rate_end": -0.1}, r"learning_rate_end: .*or equal to 0"),
        ({"learning_rate_end": 1.1}, r"learning_rate_end: .*or equal to 1"),
        ({"mine_decay": -0.1}, r"mine_decay: .*or equal to 0"),
        ({"warm_up": -0.1}, r"warm_up: .*or equal to 0"),
        ({"text_frozen_layers": -1}, r"text_frozen_layers: .*or equal to 0"),
        ({"text_keep_gigabytes": -1}, r"text_keep_gigabytes: .*or equal to 0"),
        ({"grid": 0}, r"grid: .*or equal to 1"),
        ({"local_stage": 0}, r"local_stage: .*or equal to 1"),
        ({"cells_after": -1}, r"cells_after: .*or equal to 0"),
        ({"cells_after": 5}, r"cells_after: .*or equal to 4"),
        ({"max_tokens": 4}, r"max_tokens: .*or equal to 8"),
        ({"evaluate_every": 0}, r"evaluate_every: .*or equal to 1"),
        ({"smallest_crop": 1.1}, r"smallest_crop: .*or equal to 1"),
        ({"smallest_crop": 0}, r"smallest_crop: .*greater than 0"),
        ({"cells_after": 4, "local_stage": 3}, r"parameters: .*cells_after=4.*local_stage=3"),
        ({"winners_only": True}, r"parameters: .*winners_only needs region_select='per_pair_max'"),
        ({"sentences_drawn": 1}, r"sentences_drawn: .*or equal to 2"),
        (
            {"sentences": "several", "region_select": "matched_max"},
            r"parameters: .*'several' is a bound, region_select='matched_max' is none",
        ),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used:\n  " + words):
        TrainConfig.checked(**parameters)


def test_a_report_may_be_longer_than_a_sentence() -> None:
    """Global MI reads reports, of which 64 word pieces would lose half."""
    assert TrainConfig().max_tokens == TrainConfig.checked(objective="local").max_tokens == 64
    whole = TrainConfig.checked(objective="global")
    assert whole.max_tokens == 320
    assert TrainConfig.checked(objective="global", max_tokens=64).max_tokens == 64
    assert TrainConfig.of_record(whole.as_record()) == whole


def test_all_wrong_parameters_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.checked(steps=-1, bond="dv", device="abacus")
    for name in ("steps", "bond", "device"):
        assert f"\n  {name}: " in str(caught.value)


def test_winners_only_goes_with_the_hard_max() -> None:
    assert TrainConfig.checked(winners_only=True, region_select="per_pair_max").winners_only


def test_nothing_can_be_changed_afterwards() -> None:
    config = TrainConfig.checked()
    with pytest.raises(ValidationError, match="frozen"):
        config.steps = 5  # type: ignore[misc]
    assert config.steps == TrainConfig().steps


def test_a_configuration_survives_json() -> None:
    config = TrainConfig.checked(critic_hidden=[32], learning_rate=1e-3, text_encoder="a folder")
    stored = json.loads(json.dumps(config.as_record()))
    assert TrainConfig.checked(**stored) == config
    assert TrainConfig.of_record(stored) == config


def test_every_estimator_is_a_choice() -> None:
    for bound in get_args(Bound):
        assert TrainConfig.checked(bound=bound).bound == bound


def test_a_record_of_an_earlier_version_is_read_without_what_it_no_longer_has() -> None:
    config = TrainConfig.checked(steps=7)
    earlier = config.as_record() | {"checkpoint_every": 100}
    assert TrainConfig.of_record(earlier) == config
    with pytest.raises(ConfigError, match="checkpoint_every: Extra inputs"):
        TrainConfig.checked(**earlier)  # of a person who sets it: it has no effect any more
    with pytest.raises(ConfigError, match="magic: Extra inputs"):
        TrainConfig.of_record(earlier | {"magic": 1})


def test_every_field_has_a_meaning() -> None:
    """What `run --help NOTEBOOK` prints of a field is the comment behind it."""
    fields = {*TrainConfig.model_fields} - {"objective", "bound", "region_select", "critic"}
    explained_in_the_cell = {"steps", "batch_size", "learning_rate", "seed"}
    without = fields - explained_in_the_cell - {*TrainConfig.comments()}
    assert {name for name in without if not name.startswith("max_")} == set()
