import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from places import SHARED

from localmi.data.cache import cache as cache_code
from localmi.data.cache import shards
from localmi.data.cache.cache import build_cache, open_cache
from localmi.data.images import read_image
from localmi.data.sources.pairs import REJECTED_COLUMNS, Pairs, read_pairs
from localmi.errors import ConfigError, DataError, StudyLeakError

REAL = SHARED / "real-cxr" / "pairs.csv"
SPLITS = ["train", "train", "train", "validate", "test"]


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def random_pixels(seed: int, shape: tuple[int, ...] = (20, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_pairs(folder: Path, count: int = 5) -> Pairs:
    """`count` images of as many studies; patients 90000000, 90000001, ..."""
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(
        {
            "image_id": [f"image-{number}" for number in range(count)],
            "study_id": [f"{80000000 + 10 * number}" for number in range(count)],
            "patient_id": [f"{90000000 + number}" for number in range(count)],
            "image": [
                str(save(folder / f"{number}.png", random_pixels(number)))
                for number in range(count)
            ],
            "report": [
                f" FINDINGS:  Mass of {number}.5 cm.  Unchanged.\n \n IMPRESSION:  1. No edema."
                for number in range(count)
            ],
            "view": "AP",
            "split": (SPLITS * count)[:count],
            "edema": np.arange(count) / 2,
        }
    )
    return Pairs(table, pd.DataFrame(columns=REJECTED_COLUMNS), "tiny")


def test_cache_holds_images_and_sentences(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    cache = build_cache(pairs, tmp_path / "cache", image_size=30, shard_rows=2)
    assert len(list((tmp_path / "cache").glob("shard-*.npy"))) == 3
    assert cache.manifest["shard"].tolist() == [0, 0, 1, 1, 2]
    assert cache.manifest["row"].tolist() == [0, 1, 0, 1, 0]
    assert cache.manifest["split"].tolist() == SPLITS
    assert cache.manifest["edema"].tolist() == [0, 0.5, 1, 1.5, 2]
    assert len(cache.images) == 5
    box = cache.manifest[["box_left", "box_top", "box_width", "box_height"]]
    assert box.drop_duplicates().to_numpy().tolist() == [[0, 5, 30, 20]]
    for number in range(5):
        image = cache.images[number]
        assert image.shape == (30, 30)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image[5:25], random_pixels(number))
        assert image[:5].max() == image[25:].max() == 0
    assert cache.sentences.columns.tolist() == ["study_id", "index", "section", "text", "kind"]
    assert cache.sentences.to_numpy().tolist()[:3] == [
        ["80000000", 0, "findings", "Mass of 0.5 cm.", "content"],
        ["80000000", 1, "findings", "Unchanged.", "comparison"],
        ["80000000", 2, "impression", "No edema.", "content"],
    ]
    assert cache.rejected.empty
    assert cache.name == "tiny"


def test_images_are_indexed_like_an_array(tmp_path: Path) -> None:
    images = build_cache(make_pairs(tmp_path / "in"), tmp_path / "c", image_size=9, shard_rows=2)
    rows = images.images
    whole = np.stack([rows[number] for number in range(5)])
    for index in ([4, 0, 4, 3], np.array([1, 2]), slice(1, 4), slice(None), whole[:, 4, 4] > 90):
        np.testing.assert_array_equal(rows[index], whole[index])
    np.testing.assert_array_equal(rows[-1], whole[-1])
    assert rows[[]].shape == (0, 9, 9)
    with pytest.raises(IndexError):
        rows[5]
    with pytest.raises(IndexError):
        rows[[0, 7]]


def test_several_images_of_a_study_share_one_set_of_sentences(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    first = pairs.table.iloc[0]
    for column in ("study_id", "patient_id", "report"):
        pairs.table.loc[1, column] = first[column]
    cache = build_cache(pairs, tmp_path / "cache", image_size=8)
    assert len(cache.images) == 5
    assert cache.sentences.groupby("study_id").size().tolist() == [3, 3, 3, 3]


def test_same_input_is_opened_and_other_input_replaces_it(tmp_path: Path) -> None:
    pairs, folder = make_pairs(tmp_path / "in"), tmp_path / "cache"
    first = build_cache(pairs, folder, image_size=8)
    shard = folder / "shard-00000.npy"
    written = shard.stat().st_mtime_ns, shard.stat().st_ino
    shuffled = replace(pairs, table=pairs.table.sample(frac=1, random_state=1))
    again = build_cache(shuffled, folder, image_size=8, workers=2)
    assert (shard.stat().st_mtime_ns, shard.stat().st_ino) == written
    assert again.data_hash == first.data_hash == open_cache(folder).data_hash
    hashes = {first.data_hash}
    hashes.add(build_cache(pairs, folder, image_size=8, use=("impression",)).data_hash)
    save(Path(pairs.table["image"][0]), random_pixels(99))
    hashes.add(build_cache(pairs, folder, image_size=8).data_hash)
    pairs.table.loc[2, "report"] = "No pneumothorax."
    hashes.add(build_cache(pairs, folder, image_size=8).data_hash)
    pairs.table.loc[2, "edema"] = 7.0
    hashes.add(build_cache(pairs, folder, image_size=8).data_hash)
    assert len(hashes) == 5
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["cache", "cache.lock", "in"]  # no unfinished folder


@pytest.mark.parametrize("what", ["image_size", "views"])
def test_a_cache_of_another_size_or_other_views_is_kept(tmp_path: Path, what: str) -> None:
    pairs, folder = make_pairs(tmp_path / "in"), tmp_path / "cache"
    pairs.table["view"] = ["LATERAL", *["PA"] * (len(pairs.table) - 1)]
    first = build_cache(pairs, folder, image_size=8)
    size = 9 if what == "image_size" else 8
    fewer = replace(pairs, table=pairs.table[1:]) if what == "views" else pairs
    with pytest.raises(DataError, match=f"has .*{what} .*, asked for is .* another folder"):
        build_cache(fewer, folder, image_size=size)
    assert open_cache(folder).data_hash == first.data_hash
    other = build_cache(fewer, tmp_path / "other", image_size=size)
    assert other.data_hash != first.data_hash


def test_hash_is_the_same_in_another_place(tmp_path: Path) -> None:
    caches = []
    for name in ("one", "two"):
        pairs = make_pairs(tmp_path / name)
        caches.append(
            build_cache(pairs, tmp_path / f"c-{name}", image_size=8, shard_rows=len(name))
        )
    os.utime(caches[1].folder)
    other_shards = build_cache(pairs, tmp_path / "c-3", image_size=8, shard_rows=2)
    assert len({cache.data_hash for cache in (*caches, other_shards)}) == 1


def test_killed_build_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_pairs(tmp_path / "in")
    read: list[str] = []

    def counting(path: str, size: int) -> object:
        if len(read) == 3:
            raise RuntimeError("killed")
        read.append(path)
        return read_image(path, size)

    monkeypatch.setattr(shards, "read_image", counting)
    with pytest.raises(RuntimeError, match="killed"):
        build_cache(pairs, tmp_path / "cache", image_size=8, shard_rows=2)
    assert not (tmp_path / "cache").exists()
    read.clear()
    cache = build_cache(pairs, tmp_path / "cache", image_size=8, shard_rows=2)
    monkeypatch.undo()
    assert read == pairs.table["image"].tolist()[2:]  # the first shard was complete
    assert cache.data_hash == build_cache(pairs, tmp_path / "other", image_size=8).data_hash
    assert not (tmp_path / "cache.partial").exists()
    assert sorted(path.name for path in cache.folder.iterdir()) == [
        "manifest.parquet",
        "meta.json",
        "plan.json",
        "rejected.parquet",
        "report.json",
        "report.txt",
        "sentences.parquet",
        *(f"shard-{n:05d}.{end}" for n in range(3) for end in ("npy", "parquet")),
    ]


def test_of_two_builds_at_once_one_works_and_the_other_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both have found no cache before either has the lock."""
    pairs, fill, calls = make_pairs(tmp_path), cache_code._fill, []
    locked, both = cache_code._locked, Barrier(2, timeout=120)

    def meet(*arguments: Any) -> Any:
        both.wait()
        return locked(*arguments)

    def counted_fill(*arguments: Any) -> None:
        calls.append("begins")
        fill(*arguments)

    monkeypatch.setattr(cache_code, "_locked", meet)
    monkeypatch.setattr(cache_code, "_fill", counted_fill)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: build_cache(pairs, tmp_path / "cache"), range(2))
    assert calls == ["begins"]
    assert one.data_hash == other.data_hash


def test_unusable_images_and_reports_are_rejected_with_reasons(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in", count=9)
    files = [Path(path) for path in pairs.table["image"]]
    files[0].write_bytes(files[0].read_bytes()[:-200])
    files[1].write_bytes(b"this is no image")
    files[2].write_bytes(b"")
    save(files[3], random_pixels(0, (1, 1)))
    files[4].unlink()
    pairs.table.loc[5, "report"] = " \n"
    pairs.table.loc[6, "report"] = " INDICATION:  Cough.\n"
    pairs.table.loc[7, "report"] = "___. 12."
    earlier = pd.DataFrame([["x", "y", "no report file"]], columns=REJECTED_COLUMNS)
    cache = build_cache(replace(pairs, rejected=earlier), tmp_path / "cache", image_size=8)
    reason = dict(zip(cache.rejected["image_id"], cache.rejected["reason"], strict=True))
    assert cache.manifest["image_id"].tolist() == ["image-8"]
    assert cache.manifest["index_in_cache"].tolist() == [0]
    assert set(cache.sentences["study_id"]) == {"80000080"}
    assert reason["image-0"].startswith("unreadable image: ")
    assert reason["image-1"] == reason["image-2"] == "not an image"
    assert reason["image-3"] == "image of 1 x 1 pixels"
    assert reason["image-4"] == "no image file"
    for number in (5, 6, 7):
        assert reason[f"image-{number}"] == "no sentence in findings or impression"
    assert reason["x"] == "no report file"
    for file in cache.folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name


def test_a_shard_of_unusable_images_leaves_a_hole(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    for path in pairs.table["image"][:2]:
        Path(path).write_bytes(b"bad")
    cache = build_cache(pairs, tmp_path / "cache", image_size=30, shard_rows=2)
    assert cache.manifest["shard"].tolist() == [1, 1, 2]
    np.testing.assert_array_equal(
        cache.images[[2, 0]][:, 5:25], [random_pixels(n) for n in (4, 2)]
    )


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    wordless = replace(pairs, table=pairs.table.assign(report="12."))
    with pytest.raises(DataError, match=r"No report of tiny can be used\..*Rejected 5 images"):
        build_cache(wordless, tmp_path / "cache", image_size=8)
    for path in pairs.table["image"]:
        Path(path).write_bytes(b"bad")
    with pytest.raises(DataError, match=r"No image of tiny.*5 for 'not an image' \(image-0, "):
        build_cache(pairs, tmp_path / "cache", image_size=8)
    assert not (tmp_path / "cache").exists()


def test_same_pixels_in_two_splits_stop_the_build(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    save(Path(pairs.table["image"][4]), random_pixels(0))
    with pytest.raises(
        StudyLeakError, match="identical pixels in train and test: image-0 = image-4"
    ):
        build_cache(pairs, tmp_path / "cache", image_size=8)
    pairs.table.loc[4, "split"] = "train"
    assert len(build_cache(pairs, tmp_path / "cache", image_size=8).images) == 5


@pytest.mark.parametrize(
    "wrong", [{"image_size": 0}, {"image_size": 2.5}, {"shard_rows": 0}, {"workers": -1}]
)
def test_impossible_settings(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be a positive whole number"):
        build_cache(make_pairs(tmp_path / "in", 1), tmp_path / "cache", **wrong)


def test_label_with_a_name_of_the_cache(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    with pytest.raises(DataError, match="labels row, shard are names of the cache's own"):
        build_cache(
            replace(pairs, table=pairs.table.assign(shard=1, row=2)), tmp_path / "c", image_size=8
        )


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    for name in ("mine", "cache.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    for folder in (tmp_path / "mine", tmp_path / "cache", Path(pairs.table["image"][0])):
        with pytest.raises(DataError, match="holds something that is no cache"):
            build_cache(pairs, folder, image_size=8)
    (tmp_path / "mine" / "meta.json").write_text('{"colour": "blue"}')
    with pytest.raises(DataError, match="damaged, or not a cache's"):
        build_cache(pairs, tmp_path / "mine", image_size=8)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_full_disk_is_noticed_before_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"needs 0\.0 GB, 0\.0 GB are free"):
        build_cache(make_pairs(tmp_path / "in"), tmp_path / "cache", image_size=8)


def test_opening_what_is_no_cache_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no cache"):
        open_cache(tmp_path / "nowhere")
    pairs = make_pairs(tmp_path / "in")
    folder = build_cache(pairs, tmp_path / "cache", image_size=8).folder
    shard, meta = folder / "shard-00000.npy", folder / "meta.json"
    pixels, text = shard.read_bytes(), meta.read_text()
    for content in (b"", pixels[:-30], pixels[:50]):
        shard.write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            open_cache(folder)
    np.save(shard, np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"shard-00000\.npy has not the 5 rows"):
        open_cache(folder)
    shard.unlink()
    with pytest.raises(DataError, match="is damaged"):
        open_cache(folder)
    shard.write_bytes(pixels)
    old = json.loads(text)
    old["plan"]["format"] = 0
    meta.write_text(json.dumps(old))
    with pytest.raises(DataError, match="has format 0, this version reads 2"):
        open_cache(folder)
    assert len(build_cache(pairs, folder, image_size=8).images) == 5  # an old one is replaced


@pytest.mark.skipif(not REAL.is_file(), reason="the real images are not part of the project")
def test_real_images(tmp_path: Path) -> None:
    cache = build_cache(read_pairs(REAL), tmp_path / "cache", image_size=64)
    assert len(cache.images) == 121
    assert cache.rejected.empty
    assert cache.images[:].std(axis=(1, 2)).min() > 10
    assert (cache.sentences.groupby("study_id").size() > 0).all()
