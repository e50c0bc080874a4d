"""Whatever byte of a cache changes, `verify` finds it and says where."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from localmi.__main__ import app
from localmi.data.cache.cache import Cache
from localmi.data.cache.verify import verify_cache
from localmi.errors import DataError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    from localmi.data.cache.cache import build_cache
    from localmi.data.sources.pairs import read_pairs
    from localmi.phantom.config import PhantomConfig
    from localmi.phantom.write import write_study

    write_study(tmp_path / "study", PhantomConfig(image_size=64), num_patients=4)
    return build_cache(
        read_pairs(tmp_path / "study"), tmp_path / "cache", image_size=16, shard_rows=4
    )


def call(folder: Path) -> Result:
    return CliRunner().invoke(app, ["verify", str(folder)])


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_whole_cache(cache: Cache) -> None:
    assert verify_cache(cache.folder) == []
    done = call(cache.folder)
    assert done.exit_code == 0
    assert "is whole" in done.stdout


def test_a_changed_pixel_is_named(cache: Cache) -> None:
    flip(cache.folder / "shard-00000.npy", -1)
    name = cache.manifest["image_id"][3]
    assert verify_cache(cache.folder) == [
        f"shard-00000.npy: not what was written, 1 of 4 images: {name}"
    ]
    found = call(cache.folder)
    assert found.exit_code == 1
    assert "is damaged" in found.stderr
    assert name in found.stderr
    assert "after deleting it" in found.stderr


@pytest.mark.parametrize(
    "name", ["manifest.parquet", "sentences.parquet", "rejected.parquet", "report.json"]
)
def test_a_changed_byte_of_a_table_is_found_wherever_it_is(cache: Cache, name: str) -> None:
    path = cache.folder / name
    good = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(good), 10):
        flip(path, int(place))
        assert f"{name}: not what was written." in verify_cache(cache.folder)
        path.write_bytes(good)
    path.unlink()
    assert f"{name}: missing." in verify_cache(cache.folder)


def test_a_table_and_its_hash_changed_together(cache: Cache) -> None:
    meta = json.loads((cache.folder / "meta.json").read_text())
    meta["data_hash"] = "0" * 64
    (cache.folder / "meta.json").write_text(json.dumps(meta))
    assert verify_cache(cache.folder) == ["meta.json: its data_hash is not that of the tables."]


def test_shards_that_are_cut_missing_or_of_another_shape(cache: Cache) -> None:
    shard = cache.folder / "shard-00000.npy"
    good = shard.read_bytes()
    shard.write_bytes(good[:-10])
    assert "of 4 images" in verify_cache(cache.folder)[0]
    np.save(shard, np.zeros((2, 16, 16), np.uint8))
    assert "4 of 4 images" in verify_cache(cache.folder)[0]
    for other in (np.zeros(0, np.uint8), np.zeros((4, 16, 16)), np.zeros((4, 16, 16), "u1").T):
        np.save(shard, other)
        assert "holds no uint8 [rows, S, S]" in verify_cache(cache.folder)[0]
    shard.unlink()
    assert verify_cache(cache.folder) == [
        "shard-00000.npy, of 4 images: No such file or directory"
    ]


def test_what_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no cache"):
        verify_cache(tmp_path)
    refused = call(tmp_path)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("DataError: ")
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(DataError, match="damaged, or not a cache's"):
        verify_cache(tmp_path)
    (tmp_path / "meta.json").write_text('{"plan": {"format": 1}}')
    with pytest.raises(DataError, match="has format 1, this version reads 2"):
        verify_cache(tmp_path)
    (tmp_path / "meta.json").write_text('{"plan": {"format": 2}}')
    with pytest.raises(DataError, match="it lists no files"):
        verify_cache(tmp_path)


def test_tables_that_lack_a_column(cache: Cache) -> None:
    manifest = cache.manifest.drop(columns="sha256")
    manifest.to_parquet(cache.folder / "manifest.parquet", index=False)
    damaged = verify_cache(cache.folder)
    assert damaged[0] == "manifest.parquet: not what was written."


@pytest.mark.parametrize("kind", ["Int64", "bool", "category", "str", "float32"])
def test_labels_of_every_kind_come_back_as_they_were(cache: Cache, kind: str) -> None:
    from localmi.data.cache.folder import read_plan
    from localmi.data.cache.tables import data_hash

    labels = pd.Series(np.arange(len(cache.manifest)) % 2 / (3 if kind == "float32" else 1))
    manifest = cache.manifest.assign(label=labels.astype(kind))
    manifest.to_parquet(cache.folder / "again.parquet", index=False)
    again = pd.read_parquet(cache.folder / "again.parquet")
    plan = read_plan(cache.folder, "meta.json")
    assert plan is not None
    hashes = {data_hash(table, cache.sentences, plan) for table in (manifest, again)}
    assert len(hashes) == 1
