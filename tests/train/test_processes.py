"""N processes compute what one does: losses, gradients, weights, held-out bounds, checkpoints."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from several_processes import run_processes, start_processes
from torch import Tensor

from localmi import ranks
from localmi.data.cache.cache import Cache
from localmi.errors import ConfigError
from localmi.names import Bound
from localmi.processes import Processes, take_own_gpu
from localmi.train import training_run
from localmi.train.config import TrainConfig

SMALL = {
    "image_size": 64,
    "local_stage": 4,
    "critic_hidden": [16, 8],
    "batch_size": 6,
    "learning_rate": 5e-4,
    "same_text_is_mismatch": True,
    "precision": "float32",
    "device": "cpu",
}
PROGRAM = """
import json, os, sys, time
from pathlib import Path
import torch
from localmi import processes
from localmi.data.batches import SplitData
from localmi.data.cache.cache import open_cache
from localmi.train import pretraining as stepping, scoring
from localmi.train.config import TrainConfig

folder, cases, out, *how = sys.argv[1:]
torch.set_num_threads(1)
cache, found = open_cache(folder), {}
out, normalise, backward = Path(out), stepping.normalise, processes._Gather.backward

def only_own(ctx, gradient):  # each process keeps the gradient of its own rows: a common mistake
    return gradient.unflatten(0, (ctx.size, -1))[training.processes.rank], None, None

for name, fields in json.loads(cases).items():
    exact = not name.startswith("float32")  # in float32 a ReLU that flips by rounding is enough
    wrong = name.startswith("wrong")
    processes._Gather.backward = staticmethod(only_own if wrong else backward)
    stepping.normalise = scoring.normalise = (
        (lambda images: normalise(images).double()) if exact else normalise
    )
    training = stepping.Pretraining(TrainConfig.of_record(fields), cache)
    if exact:
        training.alignment.double()
        training.control.double()
        if training.frozen_texts is not None:
            training.frozen_texts = training.frozen_texts.double()
        encode = training.encode_texts
        training.encode_texts = lambda texts, encode=encode: encode(texts).double()
    kept = out / f"{name}.pt"
    if kept.is_file():
        training.load(kept)
    losses = []
    for step, value in training.run():
        losses.append(value)
        if "saved" in how and training.step == training.config.steps // 2:
            training.save(kept)
            print("saved", flush=True)
            time.sleep(300)  # until it is killed
    named = list(training.alignment.named_parameters())
    looked = training.evaluate(SplitData(cache, "validate", unit=training.objective.unit))
    found[name] = {
        "losses": torch.tensor(losses, dtype=torch.float64),
        "gradients": {key: value.grad for key, value in named if value.grad is not None},
        "weights": training.alignment.state_dict(),
        "control": training.control.state_dict(),
        "scores": looked.scores.scores,
        "winners": looked.scores.winners,
        "held_out": torch.tensor(looked.held_out.bound.value),
    }
torch.save(found, out / f"rank{training.processes.rank}.pt")
"""
CASES: dict[str, dict[str, Any]] = {
    **{f"local {bound}": {"bound": bound} for bound in get_args(Bound)},
    **{f"global {bound}": {"bound": bound, "objective": "global"} for bound in get_args(Bound)},
    "hard": {"region_select": "per_pair_max"},
    "positive argmax": {"region_select": "positive_argmax", "sentences": "all"},
    "matched max": {"region_select": "matched_max", "sentences": "all"},
    "winners only": {"region_select": "per_pair_max", "winners_only": True},
    "attention": {"region_select": "attention"},
    "several sentences": {"sentences": "several", "region_select": "attention"},
    "all sentences": {"sentences": "all", "same_text_is_mismatch": False},
    "one way": {"direction": "image_to_text", "same_text_is_mismatch": False},
    "checkpointing": {"image_checkpointing": True, "sentences": "all"},
    "cells": {"region_context": "region", "cells_after": 2, "sentences": "all"},
    "channels last": {"channels_last": True},
    "centred": {"critic": "centred", "bound": "mine", "sentences": "all"},
    "global centred": {"critic": "centred", "bound": "mine", "objective": "global"},
    "separable": {"critic": "separable"},
    "bilinear": {"critic": "bilinear"},
    "chunked": {"critic_chunk": 7},
    "shuffled": {"shuffle_pairs": True, "sentences": "all"},
    "trained texts": {"text_learning_rate": 2e-5, "sentences": "all"},
}
OTHERS: dict[str, dict[str, Any]] = {
    # One step of no size: Adam would make steps of rounding.
    "float32 local": {"steps": 1, "learning_rate": 1e-9},
    "float32 global": {"steps": 1, "learning_rate": 1e-9, "bound": "mine", "objective": "global"},
    "float32 texts": {"steps": 1, "learning_rate": 1e-9, "text_learning_rate": 1e-9},
    "wrong gather": {"region_select": "per_pair_max", "steps": 1},
    "own statistics": {"region_select": "per_pair_max", "batch_statistics": "own"},
}
MANY = ("local infonce", "trained texts", "cells")  # are compared after 20 steps
OF_FOUR = (*MANY, "all sentences", "global centred")


def cases(tiny_bert, names: Iterable[str], **changes: Any) -> dict[str, Any]:
    """Dropout is drawn by each process for itself, so there is none here."""
    small = SMALL | {"text_encoder": tiny_bert(0.0), "text_learning_rate": 0}
    return {
        name: TrainConfig.checked(
            **small | {"steps": 20 if name in MANY else 3} | (CASES | OTHERS)[name] | changes
        ).as_record()
        for name in names
    }


def trained(cache: Cache, made: dict[str, Any], size: int, out: Path) -> list[dict[str, Any]]:
    """What each of `size` processes has found."""
    out.mkdir(exist_ok=True)
    run_processes(PROGRAM, [str(cache.folder), json.dumps(made), str(out)], size=size)
    return [torch.load(out / f"rank{rank}.pt") for rank in range(size)]


@pytest.fixture(scope="module")
def alone(tiny_cache: Cache, tiny_bert, tmp_path_factory) -> dict[str, Any]:
    """What one process finds."""
    made = cases(tiny_bert, [*CASES, *OTHERS])
    (found,) = trained(tiny_cache, made, 1, tmp_path_factory.mktemp("alone") / "1")
    return found


@pytest.fixture(scope="module")
def of_two(tiny_cache: Cache, tiny_bert, tmp_path_factory) -> list[dict[str, Any]]:
    """What each of two finds."""
    made = cases(tiny_bert, [*CASES, *OTHERS])
    return trained(tiny_cache, made, 2, tmp_path_factory.mktemp("two") / "2")


def some(record: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: record[name] for name in names}


def farthest(one: Any, other: Any) -> float:
    """The largest difference of two records of the same shape."""
    if isinstance(one, Tensor):
        return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0
    assert one.keys() == other.keys()
    return max(farthest(value, other[name]) for name, value in one.items())


def differences(one: dict[str, Any], other: dict[str, Any], *, most: float) -> dict[str, float]:
    """What differs by more, of the records of all cases."""
    far = {
        f"{name} {part}": farthest(values, other[name][part])
        for name, record in one.items()
        for part, values in record.items()
    }
    return {name: value for name, value in far.items() if not value < most}


@pytest.mark.slow
def test_two_processes_compute_what_one_does(alone, of_two) -> None:
    """Every bound, local and global, every reading of the max, every mask and critic."""
    for found in of_two:
        assert differences(some(alone, CASES), found, most=1e-9) == {}


@pytest.mark.slow
def test_four_processes_compute_what_one_does(
    alone, tiny_cache: Cache, tiny_bert, tmp_path: Path
) -> None:
    for found in trained(tiny_cache, cases(tiny_bert, OF_FOUR), 4, tmp_path / "4"):
        assert differences(some(alone, OF_FOUR), found, most=1e-9) == {}


@pytest.mark.slow
def test_a_step_in_float32_is_the_same_to_rounding(alone, of_two) -> None:
    names = [name for name in OTHERS if name.startswith("float32")]
    for found in of_two:
        assert differences(some(alone, names), found, most=1e-5) == {}


@pytest.mark.slow
def test_a_gather_with_a_wrong_gradient_is_found(alone, of_two) -> None:
    """Its values are right: only a comparison with one process tells."""
    for found in of_two:
        wrong = differences(some(alone, ["wrong gather"]), found, most=1e-9)
        assert "wrong gather losses" not in wrong
        assert "wrong gather gradients" in wrong


@pytest.mark.slow
def test_with_statistics_of_its_own_each_process_has_the_same_network_in_the_end(
    alone, of_two
) -> None:
    first, second = (some(found, ["own statistics"]) for found in of_two)
    assert differences(first, second, most=1e-12) == {}
    assert "own statistics losses" in differences(  # three images have another mean than six
        some(alone, ["own statistics"]), first, most=1e-9
    )


@pytest.mark.slow
def test_killed_and_resumed_by_two_processes_it_ends_where_one_does(
    tiny_cache: Cache, tiny_bert, tmp_path: Path
) -> None:
    made = cases(tiny_bert, ("trained texts",), bound="mine", steps=10)
    (whole,) = trained(tiny_cache, made, 1, tmp_path / "whole")
    out = tmp_path / "killed"
    out.mkdir()
    words = [str(tiny_cache.folder), json.dumps(made), str(out), "saved"]
    (process,) = start_processes(PROGRAM, words, size=1)
    assert process.stdout is not None
    assert process.stdout.readline() == "saved\n"
    process.kill()
    process.communicate()
    whole["trained texts"]["losses"] = whole["trained texts"]["losses"][-5:]
    for found in trained(tiny_cache, made, 2, out):
        assert differences(whole, found, most=1e-9) == {}


SLOW = """
import json, os, sys, time
from localmi.data.cache.cache import open_cache
from localmi.train import text_features
from localmi.train.config import TrainConfig
from localmi.train.pretraining import Pretraining

def slow(of, name):  # the second process takes longer than a step may
    work = getattr(of, name)
    def slowly(*given):
        time.sleep(4 * int(os.environ["RANK"]))
        return work(*given)
    setattr(of, name, slowly)

made, parts = [], text_features.TrainingTexts._parts
text_features.TrainingTexts._parts = lambda self: made.append(1) or parts(self)
slow(text_features, "kept_rows")
slow(text_features.TextFeatures, "_kept")
training = Pretraining(TrainConfig.of_record(json.loads(sys.argv[2])), open_cache(sys.argv[1]))
print(len(list(training.run())), len(made))
"""


@pytest.mark.slow
@pytest.mark.parametrize("texts", [{"text_frozen_layers": 1, "text_learning_rate": 1e-4}, {}])
def test_what_is_made_once_of_the_texts_may_take_longer_than_a_step(
    texts: dict[str, Any], tiny_cache: Cache, tiny_bert, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv(ranks.STEP_SECONDS, "2")
    cache = shutil.copytree(tiny_cache.folder, tmp_path / "cache")  # nothing of it is kept yet
    changes = texts | {"text_encoder": tiny_bert(0.0, 2)}
    (made,) = cases(tiny_bert, ["local infonce"], **changes | {"steps": 2}).values()
    told = run_processes(SLOW, [str(cache), json.dumps(made)], size=2)
    one_made_it = int("text_frozen_layers" in texts)  # and the other has read it
    assert told == [f"2 {one_made_it}\n", "2 0\n"]


def test_each_process_has_rows_in_order_and_evenly() -> None:
    for total in (1, 5, 6, 64):
        for size in (1, 2, 4, 5):
            shares = [Processes(rank, size).share(total) for rank in range(size)]
            rows = [row for share in shares for row in range(total)[share]]
            assert rows == list(range(total))
            lengths = [len(range(total)[share]) for share in shares]
            assert max(lengths) - min(lengths) <= 1


def test_limitr_is_trained_by_one_process(build_limitr, monkeypatch) -> None:
    monkeypatch.setattr(training_run, "join", lambda device: Processes(rank=1, size=2))
    with pytest.raises(ConfigError, match="2 processes: LIMITR is trained by one"):
        build_limitr()


def test_a_batch_smaller_than_the_processes_is_refused(build, monkeypatch) -> None:
    monkeypatch.setattr(training_run, "join", lambda device: Processes(rank=1, size=6))
    with pytest.raises(ConfigError, match="batch_size=5 images for 6 processes: each needs one"):
        build(batch_size=5)


def test_several_processes_do_not_compile(build, monkeypatch) -> None:
    monkeypatch.setattr(training_run, "join", lambda device: Processes(rank=1, size=2))
    with pytest.raises(ConfigError, match="compile=True on 2 processes: .*Use compile=False"):
        build(compile=True)


def test_each_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    take_own_gpu()
    assert taken == [1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="Process 3 of this machine .*: --nproc 2"):
        take_own_gpu()
