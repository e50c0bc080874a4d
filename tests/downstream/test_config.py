import json
from typing import Any

import pytest

from localmi.downstream.config import DownstreamConfig
from localmi.errors import ConfigError


def test_the_defaults_are_the_image_only_variant() -> None:
    config = DownstreamConfig.checked()
    assert (config.task, config.init, config.mode) == ("pathology9", "", "tuned")
    assert (config.epochs, config.frozen_blocks) == (50, 5)
    assert config.label_policy == "explicit"
    assert not config.class_weights


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"tasks": "edema"}, r"tasks: Extra inputs"),
        ({"task": "edema9"}, r"task: .*'pathology9', 'edema' or 'chexpert14'"),
        ({"mode": "probe"}, r"parameters: .*mode='probe' needs init"),
        ({"mode": "frozen"}, r"parameters: .*mode='frozen' needs init"),
        ({"region_context": "region"}, r"parameters: .*region_context='region' needs init"),
        ({"init": "a", "mode": "probe", "augment": True}, r"without augment and class_weights"),
        ({"init": "a", "mode": "probe", "class_weights": 1}, r"without augment and class_w"),
        ({"frozen_blocks": 0}, r"frozen_blocks: .*greater than or equal to 1"),
        ({"fraction": 0}, r"fraction: .*greater than 0"),
        ({"fraction": 1.5}, r"fraction: .*less than or equal to 1"),
        ({"label_policy": "ignore"}, r"label_policy: .*'explicit'.*'ignore'"),
        ({"test_labels": "mine"}, r"test_labels: .*'report' or 'expert'"),
        ({"epochs": 0}, r"epochs: .*or equal to 1"),
        ({"steps_per_epoch": -1}, r"steps_per_epoch: .*or equal to 0"),
        ({"image_encoder": 5}, r"image_encoder: .*string.*5"),
        ({"batch_size": 1}, r"batch_size: .*or equal to 2"),
        ({"learning_rate": 0}, r"learning_rate: .*greater than 0"),
        ({"learning_rate": float("nan")}, r"learning_rate: .*finite number"),
        ({"image_size": 16}, r"image_size: .*or equal to 32"),
        ({"weight_decay": -0.1}, r"weight_decay: .*or equal to 0"),
        ({"seed": -1}, r"seed: .*or equal to 0"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used:\n  .*" + words):
        DownstreamConfig.checked(**parameters)


def test_a_configuration_survives_json() -> None:
    config = DownstreamConfig.checked(task="edema", init="a.pt", mode="frozen", fraction=0.01)
    assert DownstreamConfig.of_record(json.loads(json.dumps(config.as_record()))) == config


def test_a_record_from_before_other_networks_is_of_the_papers() -> None:
    config = DownstreamConfig.checked(task="edema")
    recorded = config.as_record()
    del recorded["image_encoder"]
    assert DownstreamConfig.of_record(recorded) == config
    assert config.image_encoder == ""


def test_as_many_blocks_can_be_frozen_as_a_network_has() -> None:
    """A ViT has twelve; `build_classifier` knows which network it is."""
    assert DownstreamConfig.checked(frozen_blocks=11).frozen_blocks == 11
