"""A run that was interrupted goes on to the same numbers, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from identical import assert_identical

from localmi.train.checkpoint import load_checkpoint, save_checkpoint
from localmi.train.pretraining import Pretraining
from localmi.train.trained_model import read_config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"text_learning_rate": 1e-3, "temperature": 2.0, "temperature_end": 0.5},
        {"text_learning_rate": 1e-3, "bound": "mine", "mine_decay": 0.5},
        {"objective": "global", "learning_rate_end": 0.1},
        {"region_select": "per_pair_max", "winners_only": True, "sentences": "all"},
        {"region_context": "region", "cells_after": 2},
        {"region_select": "attention", "sentences": "several"},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_half_and_half_is_the_whole(build, run_dir: Path, changes: dict[str, Any]) -> None:
    changes = {"steps": 12, **changes}
    whole = build(**changes)
    expected = list(whole.run())
    first = build(**changes)
    found = list(first.run(until=6))
    first.save(run_dir / "half.pt")
    torch.manual_seed(99)  # a new process would not know the random state either
    np.random.seed(99)
    second = build(**changes)
    second.load(run_dir / "half.pt")
    assert second.step == 6
    found += list(second.run())
    assert found == expected
    whole.save(run_dir / "whole.pt")
    second.save(run_dir / "second.pt")
    one, other = (load_checkpoint(run_dir / name) for name in ("whole.pt", "second.pt"))
    assert_identical(one, other)
    assert one["step"] == 12
    assert one["control_optimiser"]["optimiser"]["state"]  # there was something to compare


@pytest.mark.slow
def test_workers_change_no_number(configure, tiny_cache, run_dir: Path) -> None:
    config = configure(text_learning_rate=1e-3, steps=5)
    alone, helped = Pretraining(config, tiny_cache), Pretraining(config, tiny_cache, workers=2)
    assert list(alone.run()) == list(helped.run(until=2)) + list(helped.run())
    for run, name in ((alone, "alone.pt"), (helped, "helped.pt")):
        run.save(run_dir / name)
    assert_identical(*(load_checkpoint(run_dir / name) for name in ("alone.pt", "helped.pt")))


def test_saving_does_not_disturb(build, run_dir: Path) -> None:
    alone, saved = build(text_learning_rate=1e-3), build(text_learning_rate=1e-3)
    for (_, one), (_, other) in zip(alone.run(), saved.run(), strict=True):
        saved.save(run_dir / "checkpoint.pt")
        assert one == other


def test_a_checkpoint_of_the_version_before_is_resumed(build, run_dir: Path) -> None:
    """Its configuration held `checkpoint_every`, which has no effect any more."""
    whole, first, second = (build(bound="mine", steps=4) for _ in range(3))
    expected = list(whole.run())
    list(first.run(until=2))
    first.save(run_dir / "half.pt")
    state = load_checkpoint(run_dir / "half.pt")
    state["config"]["checkpoint_every"] = 50
    save_checkpoint(state, run_dir / "half.pt")
    assert read_config(run_dir / "half.pt") == second.config
    second.load(run_dir / "half.pt")
    assert list(second.run()) == expected[2:]
    second.save(run_dir / "second.pt")
    whole.save(run_dir / "whole.pt")
    assert_identical(*(load_checkpoint(run_dir / name) for name in ("second.pt", "whole.pt")))


PROGRAM = """
import json, sys
from pathlib import Path
import torch
from localmi.data.cache.cache import open_cache
from localmi.train.checkpoint import config_of
from localmi.train.config import TrainConfig
from localmi.train.limitr import LimitrTraining
from localmi.train.pretraining import Pretraining

cache, checkpoint, parameters, more = sys.argv[1:]
torch.set_num_threads(1)
config = config_of({"config": json.loads(parameters)}, Path(checkpoint))
method = Pretraining if isinstance(config, TrainConfig) else LimitrTraining
training = method(config, open_cache(cache))
if Path(checkpoint).exists():
    training.load(Path(checkpoint))
for step, value in training.run(until=training.step + int(more)):
    print(json.dumps([step, value]), flush=True)
    training.save(Path(checkpoint))
"""


def start(cache: Any, checkpoint: Path, config: Any, steps: int) -> subprocess.Popen[str]:
    """A process that resumes where there is a checkpoint, and saves after each step."""
    words = [str(cache.folder), str(checkpoint), json.dumps(config.as_record())]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words, str(steps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("text_learning_rate", [0, 1e-3])
@pytest.mark.parametrize("method", ["build", "build_limitr"])
def test_a_killed_process_is_resumed_by_another(
    request: pytest.FixtureRequest, method: str, run_dir: Path, text_learning_rate: float
) -> None:
    build = request.getfixturevalue(method)
    undisturbed = build(text_learning_rate=text_learning_rate, steps=20)
    config, cache = undisturbed.config, undisturbed.cache
    checkpoint = run_dir / "checkpoint.pt"
    with start(cache, checkpoint, config, steps=100_000) as first:
        for line in first.stdout:
            if json.loads(line)[0] == 5:
                first.kill()  # SIGKILL, wherever it is by now: in a step, or writing
                break
        first.wait()
    assert first.returncode == -9
    at = load_checkpoint(checkpoint)["step"]
    assert at >= 5
    with start(cache, checkpoint, config, steps=6) as second:
        output, errors = second.communicate()
    assert second.returncode == 0, errors
    expected = list(undisturbed.run(until=at + 6))
    assert [tuple(json.loads(line)) for line in output.splitlines()] == expected[at:]
    undisturbed.save(run_dir / "undisturbed.pt")
    assert_identical(load_checkpoint(run_dir / "undisturbed.pt"), load_checkpoint(checkpoint))
    before = f"checkpoint-{at + 5:06d}.pt"
    left = sorted(path.name for path in run_dir.iterdir())
    assert left == [before, "checkpoint.pt", "undisturbed.pt"]
