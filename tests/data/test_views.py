"""Which lateral stands beside which frontal image; and what a batch without one holds."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from localmi.data.batches import LATERAL_VIEWS, SplitData, TrainingBatches
from localmi.data.cache.cache import Cache
from localmi.data.views import ViewBatch, ViewData
from localmi.errors import ConfigError, TrainingError


def of_study(cache: Cache, study: str) -> np.ndarray:
    """The rows of its laterals, in the order of their ids."""
    table = cache.manifest[cache.manifest["view"].isin(LATERAL_VIEWS)].sort_values("image_id")
    return table.loc[table["study_id"] == study, "index_in_cache"].to_numpy()


def owner_of(cache: Cache, image: torch.Tensor) -> str:
    """The patient of whom a lateral is."""
    table = cache.manifest[cache.manifest["view"].isin(LATERAL_VIEWS)]
    for row, patient in zip(table["index_in_cache"], table["patient_id"], strict=True):
        if np.array_equal(cache.images[np.array([row])][0], image[0].numpy()):
            return str(patient)
    raise AssertionError("no lateral of the cache")


def test_pairs_are_of_frontal_images_alone(lateral_cache: Cache) -> None:
    for split in ("train", "validate", "test"):
        plain, data = SplitData(lateral_cache, split), ViewData(lateral_cache, split)
        assert not plain.manifest["view"].isin(LATERAL_VIEWS).any()
        assert plain.manifest.equals(data.manifest)
    assert lateral_cache.manifest["view"].isin(LATERAL_VIEWS).sum() > 5


def test_each_image_has_the_lateral_of_its_own_study(lateral_cache: Cache) -> None:
    data = ViewData(lateral_cache, "train")
    index = np.arange(len(data))
    laterals, there = data.laterals(index)
    shown = iter(laterals)
    for image in index:
        rows = of_study(lateral_cache, data.manifest["study_id"][image])
        assert there[image] == bool(len(rows))
        if len(rows):
            assert np.array_equal(next(shown)[0].numpy(), lateral_cache.images[rows[:1]][0])
    assert next(shown, None) is None
    assert 0 < there.sum() < len(index)


def test_several_laterals_are_drawn_in_training_and_the_first_elsewhere(
    make_cache: Callable[..., Cache],
) -> None:
    cache = make_cache(("a", ["one"], 4), ("b", ["two"], 1), ("c", ["three"], 1))
    views = ["AP", "LATERAL", "LL", "XTABLE LATERAL", "PA", "AP"]
    cache = replace(cache, manifest=cache.manifest.assign(view=views))
    data = ViewData(cache, "train")
    assert len(data) == 3
    laterals, there = data.laterals(np.arange(3))
    assert there.tolist() == [True, False, False]
    assert laterals.unique().tolist() == [1]
    rng = np.random.default_rng(0)
    drawn = {int(data.laterals(np.arange(1), rng)[0][0, 0, 0, 0]) for _ in range(40)}
    assert drawn == {1, 2, 3}


def test_texts_are_drawn_as_without_laterals(lateral_cache: Cache) -> None:
    plain = TrainingBatches(SplitData(lateral_cache, "train"), size=5, seed=0)[3]
    batch = TrainingBatches(ViewData(lateral_cache, "train"), size=5, seed=0)[3]
    assert isinstance(batch, ViewBatch)
    for name, value in vars(plain).items():
        assert torch.equal(value, getattr(batch, name)), name


def test_shuffled_pairs_keep_the_laterals_of_their_images(lateral_cache: Cache) -> None:
    batch = ViewData(lateral_cache, "train").batch(np.arange(6), np.random.default_rng(0))
    shuffled, _ = batch.shuffled()
    assert torch.equal(shuffled.laterals, batch.laterals)
    assert torch.equal(shuffled.has_lateral, batch.has_lateral)


def test_the_control_shows_another_patients_lateral_where_there_is_one(
    lateral_cache: Cache,
) -> None:
    own, other = (ViewData(lateral_cache, "train", lateral=whose) for whose in ("own", "other"))
    index = np.arange(len(own))
    _, there = own.laterals(index)
    patients = other.manifest["patient_id"][there.numpy()]
    seen = []
    for rng in (None, np.random.default_rng(0), np.random.default_rng(1)):
        laterals, also = other.laterals(index, rng)
        assert torch.equal(also, there)
        owners = [owner_of(lateral_cache, image) for image in laterals]
        assert not any(one == two for one, two in zip(owners, patients, strict=True))
        seen.append(owners)
    assert seen[1] != seen[2]


def test_none_is_none(lateral_cache: Cache) -> None:
    laterals, there = ViewData(lateral_cache, "train", lateral="none").laterals(np.arange(4))
    assert laterals.shape == (0, 1, 64, 64)
    assert laterals.dtype == torch.uint8
    assert not there.any()


def test_bad_input_is_refused(
    tiny_cache: Cache, lateral_cache: Cache, make_cache: Callable[..., Cache]
) -> None:
    with pytest.raises(ConfigError, match="Unknown lateral 'both'"):
        ViewData(lateral_cache, "train", lateral="both")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="has a lateral view. If the data have some, prepare"):
        ViewData(tiny_cache, "train")
    assert len(ViewData(tiny_cache, "train", lateral="none"))
    cache = make_cache(("a", ["one"], 2), ("b", ["two"], 1))
    cache = replace(cache, manifest=cache.manifest.assign(view=["AP", "LL", "PA"]))
    with pytest.raises(TrainingError, match="More than half of the lateral views"):
        ViewData(cache, "train", lateral="other")


def test_a_lateral_alone_is_no_pair(make_cache: Callable[..., Cache]) -> None:
    cache = make_cache(("a", ["one"], 1), ("b", ["two"], 1), ("c", ["three"], 2))
    cache = replace(cache, manifest=cache.manifest.assign(view=["LL", "AP", "PA", "LATERAL"]))
    data = ViewData(cache, "train")
    assert data.study_ids.tolist() == ["b", "c"]
    assert data.texts == ["three", "two"]
