import copy
import errno
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from localmi.errors import CheckpointError
from localmi.train.checkpoint import check_same_run, load_checkpoint, save_checkpoint
from localmi.train.config import TrainConfig


def state_of(step: int) -> dict[str, Any]:
    """What a checkpoint holds, on a small scale."""
    torch.manual_seed(step)
    return {
        "config": {"steps": 8, "bound": "dv"},
        "data_hash": "a" * 64,
        "step": step,
        "alignment": {"weight": torch.randn(50, 50)},
        "mine": {"log_average": None},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of step 1."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(state_of(1), path)
    return path


def assert_holds(path: Path, step: int, *before: int) -> None:
    """The checkpoint of this step is there, whole, and beside it those before and nothing else."""
    found, expected = load_checkpoint(path), state_of(step)
    assert torch.equal(found.pop("alignment")["weight"], expected.pop("alignment")["weight"])
    assert found == expected
    kept = [f"checkpoint-{old:06d}.pt" for old in before]
    assert sorted(file.name for file in path.parent.iterdir()) == [*kept, path.name]


def test_what_is_saved_is_loaded(path: Path) -> None:
    assert_holds(path, 1)
    save_checkpoint(state_of(2), path)
    assert_holds(path, 2, 1)


def half_written(error: BaseException) -> Callable[..., None]:
    """A `torch.save` that ends in the middle."""

    def save(state: Any, file: Any) -> None:
        file.write(pickle.dumps(state["step"])[:3] * 1000)
        file.flush()
        raise error

    return save


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error", [FULL, RuntimeError("[enforce fail at inline_container.cc] file write failed")]
)
def test_a_full_disk_leaves_the_last_checkpoint(path: Path, monkeypatch, error) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half_written(error))
        with pytest.raises(CheckpointError, match="could not be written.*before it is untouched"):
            save_checkpoint(state_of(2), path)
    assert_holds(path, 1)
    save_checkpoint(state_of(2), path)
    assert_holds(path, 2, 1)


@pytest.mark.parametrize("failing", ["fsync", "link", "replace"])
def test_a_disk_that_fills_at_the_last_moment(path: Path, monkeypatch, failing: str) -> None:
    def fail(*_: Any) -> None:
        raise FULL

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(CheckpointError, match="No space left on device.*Free some disk space"):
        save_checkpoint(state_of(2), path)
    assert_holds(path, 1, *[1] * (failing == "replace"))  # by then it has its second name


@pytest.mark.parametrize("limit", [0, 100, 5000])
def test_a_disk_that_is_truly_too_small(path: Path, limit: int) -> None:
    """The system itself refuses to let a file grow further, as it does on a full disk."""
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CheckpointError, match="could not be written"):
            save_checkpoint(state_of(2), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_holds(path, 1)


def test_a_kill_while_writing_leaves_the_last_checkpoint(path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half_written(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(state_of(2), path)
    assert load_checkpoint(path)["step"] == 1
    save_checkpoint(state_of(3), path)
    assert_holds(path, 3, 1)


def test_the_first_checkpoint_cannot_be_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch, "save", half_written(FULL))
    with pytest.raises(CheckpointError, match="There was none before it"):
        save_checkpoint(state_of(1), tmp_path / "checkpoint.pt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(state_of(1), tmp_path / "no such folder" / "checkpoint.pt")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(state_of(1), tmp_path / "file" / "checkpoint.pt")


# --- Damage -----------------------------------------------------------------------------------


def test_there_is_no_checkpoint(tmp_path: Path) -> None:
    for place in (tmp_path / "checkpoint.pt", tmp_path):
        with pytest.raises(CheckpointError, match=f"No checkpoint {place.name}.*without resuming"):
            load_checkpoint(place)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint(path: Path, keep: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(CheckpointError, match="cannot be read.*damaged, or holds more.*a copy"):
        load_checkpoint(path)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(path: Path, seed: int) -> None:
    noise = random.Random(seed).randbytes(2000)
    heads = [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x05", path.read_bytes()[:200]]
    path.write_bytes(heads[seed % len(heads)] + noise)
    with pytest.raises(CheckpointError, match="cannot be read.*damaged"):
        load_checkpoint(path)


def test_a_flipped_bit_is_noticed(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    weights = state_of(1)["alignment"]["weight"].numpy().tobytes()
    whole[bytes(whole).index(weights) + 500] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="cannot be read.*damaged"):
        load_checkpoint(path)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("by_torch", [False, True])
def test_no_code_of_a_checkpoint_is_run(path: Path, by_torch: bool) -> None:
    mark = path.parent / "the trap was sprung"
    state = state_of(1) | {"alignment": Trap(mark)}
    if by_torch:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    with pytest.raises(CheckpointError, match="cannot be read.*more than tensors and plain val"):
        load_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ([1, 2], "holds a list, not a state dict"),
        ({1: 2}, "holds a dict, not a state dict"),
        ({"weight": torch.zeros(3)}, "not one of ours: it does not hold config, data_hash, step"),
        ({"config": {}, "step": 3}, "not one of ours: it does not hold data_hash"),
    ],
)
def test_a_checkpoint_of_something_else(path: Path, state: Any, words: str) -> None:
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(path)


# --- Another run ------------------------------------------------------------------------------


def test_every_other_parameter_is_named(path: Path) -> None:
    state = state_of(1)
    config = TrainConfig.checked(steps=9, bound="dv", seed=4)
    with pytest.raises(CheckpointError) as caught:
        check_same_run(state, config=config, data_hash="a" * 64, precision="float32", path=path)
    message = str(caught.value)
    assert "steps: 8 then, 9 now" in message
    assert "seed: 0 then, 4 now" in message  # what a checkpoint does not name is the default
    assert "bound" not in message
    assert "same parameters, or start a new run folder" in message


def test_changed_data_are_told(path: Path) -> None:
    state = state_of(1)
    config = TrainConfig.checked(**state["config"])
    same = {"config": config, "precision": "float32", "path": path}
    check_same_run(state, data_hash="a" * 64, **same)
    with pytest.raises(CheckpointError, match="data changed.*aaaa then, bbbb.*Restore them"):
        check_same_run(state, data_hash="b" * 64, **same)


@pytest.mark.parametrize("unknown", [{"magic": 1}, {"steps": "many"}, None, 3])
def test_parameters_that_this_version_does_not_know(path: Path, unknown: Any) -> None:
    state = state_of(1) | {"config": unknown}
    with pytest.raises(CheckpointError, match="Another version of localmi has written"):
        check_same_run(
            state, config=TrainConfig(), data_hash="a" * 64, precision="float32", path=path
        )


@pytest.fixture
def machine(monkeypatch) -> Callable[[bool], None]:
    """Makes this a machine that multiplies bfloat16 fast, or one that does not."""

    def become(fast: bool) -> None:
        capabilities = {"avx512_bf16": fast, "amx_bf16": False}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    return become


@pytest.mark.parametrize(
    ("fast", "was", "other"), [(True, "bfloat16", "float32"), (False, "float32", "bfloat16")]
)
def test_what_auto_was_is_recorded_and_compared(
    build, run_dir: Path, machine, fast: bool, was: str, other: str
) -> None:
    path = run_dir / "checkpoint.pt"
    machine(fast)
    run = build(precision="auto")
    next(run.run(until=1))
    run.save(path)
    assert load_checkpoint(path)["computed_in"] == {"device": "cpu", "precision": was}
    build(precision="auto").load(path)
    machine(not fast)
    with pytest.raises(CheckpointError) as caught:
        build(precision="auto").load(path)
    assert f"precision: '{was}' then, '{other}' now" in str(caught.value)
    assert f"-p precision {was}" in str(caught.value)
    resumed = build(precision=was)  # as it says
    resumed.load(path)
    assert resumed.step == 1
    with pytest.raises(CheckpointError, match=f"precision: '{was}' then, '{other}' now"):
        build(precision=other).load(path)


def test_a_checkpoint_that_does_not_say_its_precision_is_resumed(
    build, run_dir: Path, machine
) -> None:
    path = run_dir / "checkpoint.pt"
    machine(True)
    build(precision="auto").save(path)
    state = load_checkpoint(path)
    del state["computed_in"]
    save_checkpoint(state, path)
    machine(False)
    build(precision="auto").load(path)
    with pytest.raises(CheckpointError, match="precision: 'auto' then, 'float32' now") as caught:
        build(precision="float32").load(path)
    assert "-p" not in str(caught.value)


def test_a_run_refuses_the_checkpoint_of_another(build, tiny_cache, run_dir: Path) -> None:
    path = run_dir / "checkpoint.pt"
    one = build()
    one.save(path)
    other = build(critic_hidden=(8,), seed=1)
    before = copy.deepcopy(other.alignment.state_dict())
    with pytest.raises(CheckpointError) as caught:
        other.load(path)
    assert "critic_hidden: [16, 8] then, [8] now" in str(caught.value)
    assert "seed: 0 then, 1 now" in str(caught.value)
    after = other.alignment.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    with pytest.raises(CheckpointError, match="data changed"):
        build(replace(tiny_cache, data_hash="b" * 64)).load(path)
    build().load(path)


@pytest.mark.parametrize("damage", ["missing", "renamed", "other shape"])
def test_a_checkpoint_of_another_version(build, run_dir: Path, damage: str) -> None:
    path = run_dir / "checkpoint.pt"
    run = build()
    run.save(path)
    state = load_checkpoint(path)
    weights = state["control"]
    if damage == "missing":
        del state["control"]
    elif damage == "renamed":
        weights["mlp.9.bias"] = weights.pop("mlp.0.bias")
    else:
        weights["mlp.0.bias"] = torch.zeros(3)
    save_checkpoint(state, path)
    with pytest.raises(CheckpointError, match="Another version"):
        run.load(path)
