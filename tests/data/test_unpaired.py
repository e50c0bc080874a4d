"""Images without texts: who is in them, and whose record stands beside which image."""

import numpy as np
import pytest
import torch

from localmi.data.cache.cache import Cache
from localmi.data.unpaired import ImageBatches, ImageData
from localmi.errors import ConfigError, DataError, TrainingError


def test_every_image_of_a_split_is_there_with_its_own_record(record_cache: Cache) -> None:
    data = ImageData(record_cache, "train", record=["sex", "age"])
    manifest = record_cache.manifest[record_cache.manifest["split"] == "train"]
    assert len(data) == len(manifest)
    assert data.record_names == ["sex=M", "sex=F", "age"]
    woman = (data.manifest["record_sex"] == "F").to_numpy()
    assert np.array_equal(data.records[:, 1] == 1, woman)
    index = np.array([3, 0, 5])
    batch = data.batch(index)
    assert batch.images.shape == (3, 1, 64, 64)
    assert batch.images.dtype == torch.uint8
    stored = record_cache.images[data.manifest["index_in_cache"].to_numpy()[index]]
    assert np.array_equal(batch.images[:, 0].numpy(), stored)
    assert np.array_equal(batch.record.numpy(), data.records[index])


def test_without_a_record_there_are_no_numbers(tiny_cache: Cache) -> None:
    data = ImageData(tiny_cache, "train")
    assert data.batch(np.arange(2)).record.shape == (2, 0)
    with pytest.raises(DataError, match="--records"):
        ImageData(tiny_cache, "train", record=["sex"])


def test_another_patients_record_is_one_of_the_batch(record_cache: Cache) -> None:
    data = ImageData(record_cache, "train", record=["age"], record_of="other")
    index = np.arange(len(data))
    batch = data.batch(index)
    assert sorted(batch.record[:, 0].tolist()) == sorted(data.records[:, 0].tolist())
    ages = data.manifest["record_age"].to_numpy()
    assert len(set(ages)) > 4
    same = (batch.record[:, 0].numpy() == data.records[:, 0]).mean()
    assert same < 0.3  # two patients may be of one age


def test_batches_depend_on_seed_and_step_alone(record_cache: Cache) -> None:
    data = ImageData(record_cache, "train", record=["age"])
    one, again = (ImageBatches(data, size=4, seed=1) for _ in range(2))
    later = one[7]
    assert torch.equal(again[7].images, later.images)
    assert not torch.equal(one[8].images, later.images)
    epoch = np.concatenate([one.rows(step) for step in range(len(data) // 4)])
    assert len(set(epoch.tolist())) == len(epoch)
    read = list(one.steps(6, 8))
    assert torch.equal(read[1].images, later.images)


def test_bad_names_and_too_few_images_are_told(record_cache: Cache) -> None:
    with pytest.raises(ConfigError, match="split"):
        ImageData(record_cache, "practice")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="owner of records"):
        ImageData(record_cache, "train", record_of="nobody")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="no image of the views LATERAL"):
        ImageData(record_cache, "train", views=["LATERAL"])
    data = ImageData(record_cache, "train")
    with pytest.raises(TrainingError, match="batch_size=1"):
        ImageBatches(data, size=1, seed=0)
    with pytest.raises(TrainingError, match="batch_size=1000"):
        ImageBatches(data, size=1000, seed=0)
