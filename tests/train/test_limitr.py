"""LIMITR as it is trained: its step, its control, what is absent, what it says of a split."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from identical import assert_identical
from torch import Tensor, nn

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.downstream.pretrained_encoder import load_image_encoder
from localmi.errors import CheckpointError, ConfigError, DataError, TrainingError
from localmi.evaluate.retrieval import retrieval
from localmi.mi.bounds import infonce
from localmi.train.checkpoint import load_checkpoint, read_state
from localmi.train.limitr import LimitrTraining
from localmi.train.limitr_config import LimitrConfig
from localmi.train.loop import fit
from localmi.train.trained_model import load_trained_model

Build = Callable[..., LimitrTraining]


def weights(run: LimitrTraining) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in nn.ModuleDict(run.networks()).state_dict().items()}


def changed(run: LimitrTraining, before: dict[str, Tensor]) -> set[str]:
    """Which networks, and layers of the head, a step has changed."""
    after = weights(run)
    names = (name for name, one in before.items() if not torch.equal(one, after[name]))
    return {".".join(name.split(".")[: 2 if "head" in name else 1]) for name in names}


def test_a_step_climbs_the_loss_of_the_formula(build_limitr: Build) -> None:
    """Without dropout and augmentation, the value and the loss by hand."""
    run = build_limitr(dropout=0.0, augment=False, internal_weight=0.5, global_weight=0.7)
    batch = run.batches[0]
    value = run.train_step()
    again = build_limitr(dropout=0.0, augment=False, internal_weight=0.5, global_weight=0.7)
    from localmi.data.batches import normalise
    from localmi.mi.scores import may_mismatch

    again.head.train()
    views = again.views(normalise(batch.images), normalise(batch.laterals), batch.has_lateral)
    words = again.word_table(again.train_data.texts).select(batch.text)
    found = again.head(views, words)
    allowed = may_mismatch(batch.image_study, batch.text_study, batch.text)
    parts = {name: infonce(10 * scores, allowed) for name, scores in found.items()}
    assert set(parts) == {"by_text", "by_image", "whole"}
    assert value == pytest.approx(sum(part.item() for part in parts.values()) / 3, abs=1e-6)
    loss, _ = again._loss(again.head, views, words, batch, allowed)
    expected = -parts["by_text"] - parts["by_image"] - 2 * 0.7 * parts["whole"]
    expected = expected + 0.5 * again.head.internal_loss(views, words)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("changes", "trained", "still"),
    [
        ({}, {"head.scores", "head.texts"}, set()),
        ({"global_weight": 0.0}, {"head.scores"}, {"head.texts", "head.images"}),
        ({"external_weight": 0.0}, {"head.texts"}, {"head.scores", "head.words", "head.regions"}),
    ],
)
def test_each_loss_trains_what_it_uses(
    build_limitr: Build, changes: dict[str, Any], trained: set[str], still: set[str]
) -> None:
    run = build_limitr(**changes)
    before = weights(run)
    run.train_step()
    found = changed(run, before)
    assert trained | {"image_encoder", "lateral_encoder"} <= found
    assert not still & found
    assert "text_encoder" not in found


def test_the_text_encoder_is_trained_by_option(build_limitr: Build) -> None:
    run = build_limitr(text_learning_rate=1e-2, warm_up=0.0)
    before = weights(run)
    run.train_step()
    assert "text_encoder" in changed(run, before)


def test_the_control_has_its_own_step_and_leaves_the_rest_alone(
    build_limitr: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, both = build_limitr(), build_limitr()
    monkeypatch.setattr(alone, "_control_step", lambda *_: None)
    for run in (alone, both):
        list(run.run(until=3))
    ours, theirs = weights(alone), weights(both)
    differ = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert differ
    assert all(name.startswith("control.") for name in differ)


@pytest.mark.parametrize("text_learning_rate", [0, 1e-3])
def test_a_run_goes_on_to_the_same_numbers(
    build_limitr: Build, tmp_path, text_learning_rate: float
) -> None:
    whole, first, second = (
        build_limitr(text_learning_rate=text_learning_rate, internal_weight=1.0) for _ in range(3)
    )
    expected = list(whole.run())
    list(first.run(until=2))
    first.save(tmp_path / "half.pt")
    second.load(tmp_path / "half.pt")
    assert list(second.run()) == expected[2:]
    for name, run in (("whole.pt", whole), ("second.pt", second)):
        run.save(tmp_path / name)
    assert_identical(*(load_checkpoint(tmp_path / name) for name in ("whole.pt", "second.pt")))


def test_another_runs_checkpoint_is_refused(build_limitr: Build, build, tmp_path) -> None:
    limitr, plain = build_limitr(), build()
    limitr.save(tmp_path / "limitr.pt")
    plain.save(tmp_path / "plain.pt")
    with pytest.raises(CheckpointError, match="dim: 8 then, 16 now"):
        build_limitr(dim=16).load(tmp_path / "limitr.pt")
    for run, name in ((plain, "limitr.pt"), (limitr, "plain.pt")):
        with pytest.raises(CheckpointError, match="method"):
            run.load(tmp_path / name)
    with pytest.raises(CheckpointError, match="no checkpoint of notebook 07"):
        load_trained_model(tmp_path / "limitr.pt", plain.cache)


def test_absent_laterals_change_nothing(build_limitr: Build, lateral_cache: Cache) -> None:
    """Frontal alone, and beside an encoder for laterals that gets none: the same scores."""
    both, alone = build_limitr(), build_limitr(lateral="none")
    for name, network in alone.networks().items():
        if name in ("head", "control"):
            state = both.networks()[name].state_dict()
            layers = {key: one for key, one in state.items() if key in network.state_dict()}
            network.load_state_dict(layers)
        else:
            network.load_state_dict(both.networks()[name].state_dict())
    data = both.data("test", lateral="none")
    ours, theirs = (run.score_split(data)[0].by_name() for run in (both, alone))
    for name, scores in ours.items():
        assert torch.equal(scores, theirs[name]), name
    with_laterals = both.score_split(both.data("test"))[0].by_name()
    assert not torch.equal(with_laterals["both"], ours["both"])


def test_scores_of_a_split_do_not_depend_on_the_blocks(build_limitr: Build) -> None:
    run = build_limitr()
    data = run.data("test")
    one, _ = run.score_split(data, images_at_once=1)
    all_at_once, _ = run.score_split(data, images_at_once=100)
    torch.testing.assert_close(one.both, all_at_once.both)
    chosen = data.texts[2:0:-1]
    some, _ = run.score_split(data, chosen)
    torch.testing.assert_close(some.both, all_at_once.both[:, [2, 1]])


def test_parts_that_are_not_trained_are_not_reported(build_limitr: Build) -> None:
    for changes, names in (
        ({}, {"local", "whole", "both"}),
        ({"external_weight": 0.0}, {"whole", "both"}),
        ({"global_weight": 0.0}, {"local", "both"}),
    ):
        run = build_limitr(**changes)
        assert {*run.held_out(run.data("test"), rounds=2)} == names
    assert np.isfinite(run.evaluate(run.data("test"), rounds=2).held_out.bound.value)


def test_maps_are_shares_of_the_attention(build_limitr: Build) -> None:
    run = build_limitr(lateral="none")
    data = run.data("test")
    images = np.array([2, 0, 1, 2])
    texts = [data.texts[number] for number in (0, 1, 2, 0)]
    attention, cosine = run.maps(data, images, texts)
    assert attention.shape == cosine.shape == (4, 4, 4)
    np.testing.assert_allclose(attention.sum(axis=(1, 2)), 1, atol=1e-5)
    assert (attention >= 0).all()
    assert (np.abs(cosine) <= 1 + 1e-6).all()
    np.testing.assert_allclose(attention[0], attention[3], atol=1e-6)
    one, _ = run.maps(data, images[:1], texts[:1])
    np.testing.assert_allclose(one[0], attention[0], atol=1e-5)


def test_of_two_views_the_frontal_has_a_part_of_the_attention(build_limitr: Build) -> None:
    run = build_limitr()
    data = run.data("test")
    images = np.arange(len(data))
    attention, _ = run.maps(data, images, [data.texts[0]] * len(data))
    _, there = data.laterals(images)
    share = attention.sum(axis=(1, 2))
    np.testing.assert_allclose(share[~there.numpy()], 1, atol=1e-5)
    assert (share[there.numpy()] < 0.99).all()


def test_the_loop_fits_it(build_limitr: Build, tmp_path) -> None:
    run = build_limitr(steps=3, evaluate_every=2)
    log = fit(run, run.data("validate"), run_dir=tmp_path)
    assert len(log.column("training")[0]) == 3
    assert log.column("held_out")[0] == [2, 3]
    assert len(log.column("shuffled")[0]) == 2


def test_an_image_encoder_is_probed_as_any_other(build_limitr: Build, tmp_path) -> None:
    for changes, blocks in (({}, 6), ({"global_weight": 0.0}, 4)):
        run = build_limitr(**changes)
        run.train_step()
        run.save(tmp_path / "checkpoint.pt")
        found = load_image_encoder(tmp_path / "checkpoint.pt")
        assert (found.objective, found.bound, found.step) == ("limitr", "infonce", 1)
        assert found.blocks == blocks
        for name, one in found.weights.items():
            assert torch.equal(one, run.image_encoder.backbone.state_dict()[name]), name
        assert "lateral_encoder" in read_state(tmp_path / "checkpoint.pt")


def test_a_batch_of_one_study_is_skipped(build_limitr: Build, make_cache, monkeypatch) -> None:
    run = build_limitr()
    first = run.train_data.batch(np.zeros(5, int), np.random.default_rng(0))
    before = weights(run)
    assert np.isnan(run.train_step(first))
    assert run.step == 1
    assert not changed(run, before)


def test_bad_input_is_refused(build_limitr: Build, tiny_cache: Cache) -> None:
    with pytest.raises(ConfigError, match="nothing would be compared"):
        LimitrConfig.checked(external_weight=0, global_weight=0)
    with pytest.raises(TrainingError, match="has a lateral view"):
        build_limitr(tiny_cache)
    run = build_limitr(external_weight=0.0)
    with pytest.raises(ConfigError, match="external_weight=0"):
        run.maps(run.data("test"), np.arange(1), ["Clear."])
    looks = build_limitr()
    with pytest.raises(DataError, match=r"No word in 2 texts .*''"):
        looks.maps(looks.data("test"), np.arange(3), ["Clear.", "", "\u200b"])
    nothing, _ = looks.maps(looks.data("test"), np.arange(0), [])
    assert nothing.shape == (0, looks.config.grid, looks.config.grid)
    plain = SplitData(run.cache, "test", unit="report")
    with pytest.raises(DataError, match="takes images with their laterals"):
        run.evaluate(plain)
    with pytest.raises(DataError, match="takes batches with laterals"):
        run.train_step(plain.batch(np.arange(3), np.random.default_rng(0)))


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_shuffled_pairs_leave_nothing_to_find(shuffled: bool, build_limitr: Build) -> None:
    """On its own training pairs, which the same steps learn to tell apart where they match."""
    run = build_limitr(shuffle_pairs=shuffled, steps=60)
    for _ in run.run():
        pass
    data = run.data("train")
    found = run.held_out(data)
    assert abs(found["local"].shuffled.bound.value) <= 0.05
    if not shuffled:
        assert found["local"].held_out.bound.low > 0.05
        return
    texts = np.array([data.text_ids[study][0] for study in data.study])  # of each image
    right = texts[:, None] == np.arange(len(data.texts))
    for name, result in found.items():
        assert abs(result.held_out.bound.value) <= 0.05, name
        table = result.scores.scores.numpy()
        one = retrieval(table, right, data.manifest["patient_id"].to_numpy(), ks=(5,))
        assert one.recall[5].low <= one.chance[5] <= one.recall[5].high, name
