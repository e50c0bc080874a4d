"""Siamese networks as they are trained: the step, the average, what is read along, the looks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from identical import assert_identical
from torch import Tensor, nn

from localmi.data.batches import normalise
from localmi.data.cache.cache import Cache
from localmi.downstream.pretrained_encoder import load_image_encoder
from localmi.errors import CheckpointError, ConfigError, TrainingError
from localmi.model.siamese import Siamese, ViewsOfImage
from localmi.train.checkpoint import read_state
from localmi.train.loop import fit
from localmi.train.msn import METHOD, MsnPretraining, _looks
from localmi.train.msn_config import MsnConfig
from localmi.train.readers import IMAGE, OTHER, RECORD, SHUFFLED
from localmi.train.trained_model import load_trained_model

Build = Callable[..., MsnPretraining]
OBJECTIVES: list[dict[str, Any]] = [
    {},
    {"record": ["stay", "sex"]},
    {"objective": "dino"},
    {"objective": "mae", "mask": 0.5},
]


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in network.state_dict().items()}


def test_a_step_climbs_the_loss_of_the_formula(build_msn: Build) -> None:
    run, again = (build_msn(gradient_clip=1e6) for _ in range(2))
    batch = run.batches[0]
    value = run.train_step()
    again.method.train()
    views = ViewsOfImage(*again.crops(normalise(batch.images), again._generator(1)))
    done = again.method.loss(views, None, again._generator(2))
    assert value == pytest.approx(done.value.item(), abs=1e-6)
    done.loss.backward()
    gradients = dict(again.method.named_parameters())
    for name, one in run.method.named_parameters():
        if one.requires_grad:
            torch.testing.assert_close(one.grad, gradients[name].grad, msg=name)


def test_the_average_follows_after_the_step(build_msn: Build) -> None:
    run = build_msn(ema=0.75, ema_end=0.75)
    assert isinstance(run.method, Siamese)
    before = weights(run.method.target_encoder)
    run.train_step()
    for name, new in run.method.encoder.named_parameters():
        expected = 0.75 * before[name] + 0.25 * new
        torch.testing.assert_close(run.method.target_encoder.get_parameter(name), expected)


def test_the_momentum_rises_to_its_end(build_msn: Build) -> None:
    run = build_msn(ema=0.9, ema_end=1.0, steps=11)
    assert [run.momentum(step) for step in (0, 5, 10)] == pytest.approx([0.9, 0.95, 1.0])


def test_prototypes_places_and_biases_do_not_decay(build_msn: Build) -> None:
    run = build_msn()
    decayed, plain = run.optimiser.optimiser.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.04, 0.0)
    assert isinstance(run.method, Siamese)
    kept = {id(one) for one in plain["params"]}
    encoder = run.method.encoder.features
    for one in (run.method.prototypes.weight, encoder.class_token, encoder.encoder.pos_embedding):
        assert id(one) in kept
    assert all(one.ndim >= 2 for one in decayed["params"])
    trained = [one for one in run.method.parameters() if one.requires_grad]
    assert len(decayed["params"]) + len(plain["params"]) == len(trained)


def test_readers_change_nothing_of_what_they_read(build_msn: Build) -> None:
    run, alone = build_msn(), build_msn()
    alone.readers = None
    for _ in range(2):
        run.train_step()
        alone.train_step()
    assert_identical(weights(run.method), weights(alone.method))
    assert run.readers is not None
    assert set(run.readers.heads) == {IMAGE, SHUFFLED}


@pytest.mark.parametrize("changes", OBJECTIVES, ids=["msn", "record", "dino", "mae"])
def test_a_stopped_run_goes_on_to_the_same_bits(
    build_msn: Build, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = build_msn(**changes)
    values = [nats for _, nats in whole.run()]
    first = build_msn(**changes)
    head = [nats for _, nats in first.run(3)]
    first.save(tmp_path / "checkpoint.pt")
    second = build_msn(**changes)
    second.load(tmp_path / "checkpoint.pt")
    assert head + [nats for _, nats in second.run()] == values
    assert_identical(weights(second.method), weights(whole.method))


def test_records_that_changed_are_refused_where_they_are_read(
    build_msn: Build, record_cache: Cache, tmp_path: Path
) -> None:
    others = replace(record_cache, records_hash="f" * 64)
    reads, blind = build_msn(record=["stay"]), build_msn(record_cache)
    for run in (reads, blind):
        run.save(tmp_path / f"{bool(run.config.record)}.pt")
    build_msn(others).load(tmp_path / "False.pt")
    with pytest.raises(CheckpointError, match=r"records changed .* now\). Restore them"):
        build_msn(others, record=["stay"]).load(tmp_path / "True.pt")


@pytest.mark.parametrize("changes", OBJECTIVES, ids=["msn", "record", "dino", "mae"])
def test_what_is_used_afterwards_is_loaded_by_the_classifiers(
    build_msn: Build, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = build_msn(**changes)
    run.train_step()
    run.save(tmp_path / "checkpoint.pt")
    found = load_image_encoder(tmp_path / "checkpoint.pt")
    objective = changes.get("objective", "msn")
    record = "with stay, sex" if "record" in changes else "without record"
    assert f"vit_micro_16, {objective} {record}, step 1: blocks 1 to 6" in str(found)
    assert_identical(dict(found.weights), weights(run.method.learnt))
    if isinstance(run.method, Siamese):
        trained = run.method.encoder.state_dict()
        assert any(not torch.equal(one, trained[name]) for name, one in found.weights.items())


def test_another_methods_checkpoint_is_refused(
    build_msn: Build, tmp_path: Path, tiny_cache: Any
) -> None:
    run = build_msn()
    run.save(tmp_path / "checkpoint.pt")
    state = read_state(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of notebook 07"):
        load_trained_model(tmp_path / "checkpoint.pt", tiny_cache)
    state["config"]["method"] = "another"
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="Another version of localmi"):
        build_msn().load(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"mask: 0\.15 then, 0\.3 now"):
        build_msn(mask=0.3).load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("changes", OBJECTIVES, ids=["msn", "record", "dino", "mae"])
def test_a_run_is_fitted_and_looked_at(
    build_msn: Build, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = build_msn(evaluate_every=3, **changes)
    log = fit(run, run.data("validate"), run_dir=tmp_path)
    steps, held_out = log.column("held_out")
    assert list(steps) == [3, 6]
    assert np.isfinite(held_out).all()
    _, cap = log.column("cap")
    assert cap[0] == pytest.approx(1.0 if "mask" in changes else np.log(6))


def test_nobody_of_validation_or_test_is_trained_on(build_msn: Build) -> None:
    run = build_msn()
    used = set(run.train_data.manifest["patient_id"])
    manifest = run.cache.manifest
    others = set(manifest.loc[manifest["split"] != "train", "patient_id"])
    assert used
    assert not used & others
    seen = {int(row) for step in range(20) for row in run.batches.rows(step)}
    assert seen == set(range(len(run.train_data)))


def test_views_choose_the_images(build_msn: Build) -> None:
    run = build_msn(views=("PA",))
    assert set(run.train_data.manifest["view"]) == {"PA"}
    with pytest.raises(TrainingError, match="no image of the views OBLIQUE"):
        build_msn(views=("OBLIQUE",))


def test_the_held_out_bound_is_that_of_the_assignments(build_msn: Build) -> None:
    run = build_msn()
    data = run.data("validate")
    found = run.assignments(data)
    assert found.mean.sum() == pytest.approx(1, abs=1e-5)
    assert set(found.cross_entropy) == {METHOD, IMAGE, SHUFFLED}
    result = run.evaluate(data)
    expected = found.entropy - found.cross_entropy[METHOD].mean()
    assert result.held_out.bound.value == pytest.approx(expected)
    assert result.held_out.cap == pytest.approx(np.log(6))
    again = run.assignments(data)
    assert np.array_equal(again.mean, found.mean)  # the same views at each look


def test_a_collapse_is_said_in_words(build_msn: Build) -> None:
    run = build_msn()
    assert isinstance(run.method, Siamese)
    with torch.no_grad():
        run.method.target_projection[-1].weight.zero_()
        run.method.target_projection[-1].bias.copy_(run.method.prototypes.weight[0])
    with pytest.raises(TrainingError, match="have collapsed"):
        run.evaluate(run.data("validate"))


@pytest.mark.parametrize(("step", "said"), [(2, False), (3, True)])
def test_one_assignment_for_all_is_a_collapse_too_once_half_is_done(
    build_msn: Build, step: int, said: bool
) -> None:
    """To all prototypes alike; new networks are near it."""
    run = build_msn()
    assert isinstance(run.method, Siamese)
    with torch.no_grad():
        run.method.prototypes.weight[1:] = run.method.prototypes.weight[0]
    run.step = step
    assert run.assignments(run.data("validate")).ceiling < 1e-5
    if not said:
        run.evaluate(run.data("validate"))
        return
    with pytest.raises(TrainingError, match="nearly the same assignment: whoever .* collapsed"):
        run.evaluate(run.data("validate"))


def test_who_has_no_other_patient_beside_is_left_out_of_the_controls(
    build_msn: Build, record_cache: Cache
) -> None:
    """As in a split whose images stand by patients: looks have several, and of one nothing is
    said, rather than that of the patient itself."""
    manifest = record_cache.manifest.copy()
    validate = manifest["split"] == "validate"
    manifest.loc[validate, "patient_id"] = "9"
    run = build_msn(replace(record_cache, manifest=manifest), record=["stay"])
    found = run.assignments(run.data("validate"))
    assert np.isnan(found.cross_entropy[SHUFFLED]).all()
    assert np.isnan(found.cross_entropy[OTHER]).all()
    assert np.isfinite(found.cross_entropy[RECORD]).all()
    assert np.isnan(found.nats(SHUFFLED).value)
    with pytest.raises(TrainingError, match="of one patient: the others' records do not go"):
        run.data("validate", record_of="other")


def test_a_look_is_at_rows_in_no_order() -> None:
    looks = _looks(200)
    assert sorted(np.concatenate(looks)) == list(range(200))
    assert all(np.ptp(rows) > 100 for rows in looks)


def test_each_reader_reads_its_own(build_msn: Build) -> None:
    run = build_msn(record=["stay"])
    assert run.readers is not None
    assert set(run.readers.heads) == {IMAGE, RECORD, OTHER, SHUFFLED}
    run.readers.eval()
    for head in run.readers.heads.values():
        nn.init.normal_(head.fuse.weight)
    features, record = torch.randn(3, 96), torch.eye(3, run.readers.record_dim)
    other = torch.tensor([1, 2, 0])
    said = run.readers.logits(features, record, other, run.method.prototypes)
    moved = run.readers.logits(features, record + 1, other, run.method.prototypes)
    unmoved = {name for name in said if torch.equal(said[name], moved[name])}
    assert unmoved == {IMAGE}
    changed = features.clone()
    changed[1] += 1
    found = run.readers.logits(changed, record, other, run.method.prototypes)
    rows = {name: (found[name] != said[name]).any(dim=1).tolist() for name in said}
    own = [False, True, False]
    assert rows == {IMAGE: own, RECORD: own, OTHER: own, SHUFFLED: [True, False, False]}


def test_the_record_reaches_the_method_alone_where_it_is_another_patients(
    build_msn: Build,
) -> None:
    run = build_msn(record=["sex", "age"], record_of="other")
    batch, data = run.batches[0], run.train_data
    rows = run.batches.rows(0)
    assert torch.equal(batch.images, data.images(rows))
    own = data.records[rows]
    assert (batch.record.numpy() != own).any(axis=1).sum() >= 3
    assert {tuple(one) for one in batch.record.tolist()} == {tuple(one) for one in own.tolist()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_encoder": "resnet18"}, "no patches to hide"),
        ({"focal_size": 40}, "focal_size=40.*Use focal_size=48 or 32"),
        ({"record_of": "other"}, "needs a record"),
        ({"record": ["sex"], "objective": "dino"}, "reads no record"),
        ({"record": ["shoe size"]}, "record"),
        ({"objective": "mae", "mask": 0.0}, "hides all or none"),
    ],
)
def test_what_cannot_be_is_refused(build_msn: Build, changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_msn(**changes)


def test_a_configuration_is_checked_without_data() -> None:
    MsnConfig.checked(image_size=224).check()
    with pytest.raises(ConfigError, match="no patches to hide"):
        MsnConfig.checked(image_encoder="resnet50").check()
    with pytest.raises(ConfigError, match="patches of 16 x 16"):
        MsnConfig.checked(image_size=72).check()
    assert MsnConfig.checked(objective="mae").mask == 0.75
    assert MsnConfig.checked(objective="mae", mask=0.5).mask == 0.5
    MsnConfig.checked(objective="mae", image_encoder="vit_b_32").check()  # has no small crops
    MsnConfig.checked(focal_views=0, focal_size=50).check()
    for objective in (["msn"], {"msn": 1}):
        with pytest.raises(ConfigError, match="objective"):
            MsnConfig.checked(objective=objective)


def test_mae_assigns_nothing(build_msn: Build) -> None:
    run = build_msn(objective="mae", mask=0.5)
    with pytest.raises(ConfigError, match="assigns no prototypes"):
        run.assignments(run.data("validate"))
