"""MS-CXR's two layouts are one table; what is wrong in a COCO file is named where it stands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from places import ROOT
from scipy.ndimage import find_objects, label

from localmi.data.batches import SplitData
from localmi.errors import DataError
from localmi.evaluate.boxes import box_masks, read_boxes
from localmi.evaluate.grounding import find_lenders, pointing_game
from localmi.phantom.read import finding_sentences, read_truth
from localmi.study import load_study

Layout = dict[str, Any]


def layout() -> Layout:
    """Two images, three boxes, a denial; ids are numbers or texts."""
    return {
        "info": {"description": "boxes"},
        "images": [
            {"id": 3, "file_name": "a.jpg", "width": 60, "height": 100, "num_annotations": 2},
            {"id": "b", "path": "files/p/s/b.b.png", "width": 200, "height": 120},
        ],
        "categories": [{"id": 1, "name": "Edema"}, {"id": 2, "name": "Pneumonia"}],
        "annotations": [
            {"id": 7, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "label_text": "wet"},
            {
                **{"id": 8, "image_id": "b", "category_id": 2, "bbox": [0, 0.5, 9, 9]},
                **{"label_text": " NA, left", "split": "test"},
            },
            {"id": 9, "image_id": 3, "category_id": 1, "bbox": [9, 9, 1, 1], "label_text": "wet"},
            {
                **{"id": 10, "image_id": "b", "category_id": 1, "bbox": []},
                **{"label_text": "no edema", "polarity": "Negative"},
            },
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(content: object, name: str = "boxes.json") -> Path:
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        return tmp_path / name

    return make


@pytest.mark.parametrize("name", ["boxes.json", "boxes.txt"])
def test_a_json_is_the_table_of_the_csv(name: str, write, tmp_path: Path) -> None:
    header = "dicom_id,category_name,label_text,x,y,w,h,image_width,image_height,polarity,split"
    rows = ["a,Edema,wet,1,2,3,4,60,100,positive,", "a,Edema,wet,9,9,1,1,60,100,positive,"]
    rows += ['b.b,Pneumonia,"NA, left",0,.5,9,9,200,120,present,test']
    rows += ["b.b,Edema,no edema,,,,,200,120,negative,"]
    (tmp_path / "boxes.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    found = read_boxes(write(layout(), name))
    pd.testing.assert_frame_equal(found, read_boxes(tmp_path / "boxes.csv"))
    assert found["polarity"].tolist() == ["present"] * 3 + ["absent"]


def test_a_mark_or_lines_before_the_first_bracket(write) -> None:
    plain = read_boxes(write(layout()))
    path = write({}, "boxes")
    for before in ("\ufeff", "\n \n"):
        path.write_text(before + json.dumps(layout()), encoding="utf-8")
        pd.testing.assert_frame_equal(read_boxes(path), plain)


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("p/1.2.840.113", "1.2.840.113"),
        ("1.2.840.dcm", "1.2.840"),
        (r"c:\p\a b.JPG", "a b"),
        ("a.dcm.gz", "a"),
    ],
)
def test_an_image_is_the_stem_of_its_file(name: str, image_id: str, write) -> None:
    content = layout()
    content["images"][0]["file_name"] = name
    assert read_boxes(write(content))["image_id"].iloc[0] == image_id


def of_first(part: str, **changes: object) -> Callable[[Layout], object]:
    return lambda content: content[part][0].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_first("annotations", image_id=4), "Annotation 7 .* image_id 4, .* there are 3, 'b'"),
        (of_first("annotations", image_id=[3]), r"Annotation 7 .* image_id \[3\], which none has"),
        (of_first("annotations", category_id=3), "Annotation 7 .* category_id 3, .* are 1, 2"),
        (lambda content: content["annotations"][0].pop("category_id"), "category_id None"),
        (lambda content: content["annotations"][1].pop("bbox"), "1 rows .* x, y, .* annotation 8"),
        (of_first("annotations", bbox=[1, 2, 3]), r"Annotation 7 .* bbox \[1, 2, 3\]. .* four"),
        (of_first("annotations", bbox=[1, 2, 3, 4, 5]), "Annotation 7 .* four numbers"),
        (of_first("annotations", bbox=[1, 2, "3", 4]), "Annotation 7 .* four numbers"),
        (of_first("annotations", bbox=[1, 2, True, 4]), "Annotation 7 .* four numbers"),
        (of_first("annotations", bbox="1 2 3 4"), "Annotation 7 .* four numbers"),
        (of_first("annotations", bbox=[1, 2, float("nan"), 4]), "1 rows .* annotation 7"),
        (of_first("annotations", bbox=[1, 2, 0, 4]), "1 rows .* w and h above 0; .* annotation 7"),
        (of_first("annotations", label_text=" "), "1 rows .* no text, .* annotation 7"),
        (of_first("annotations", label_text=5), "1 rows .* no text, .* annotation 7"),
        (of_first("annotations", polarity="negative"), "1 rows .* deny, and have .* annotation 7"),
        (of_first("annotations", polarity="maybe"), "polarity that is none .* annotation 7"),
        (of_first("images", width=[100]), "2 rows .* image_width, .* annotation 7"),
        (of_first("images", width={"px": 100}), "2 rows .* image_width, .* annotation 7"),
        (of_first("images", width="wide"), "2 rows .* image_width, .* annotation 7"),
        (of_first("images", file_name=""), "2 rows .* no image, .* annotation 7"),
        (of_first("images", id="b"), r"Entry 1 \(from 0\) of 'images' .* 'b', which another has"),
        (of_first("images", id=None), "Entry 0 .* 'images' .* None, which is no number or text"),
        (of_first("annotations", id=8), "Entry 1 .* 'annotations' .* 8, which another has"),
        (of_first("annotations", id=[8]), r"Entry 0 .* \[8\], which is no number or text"),
        (lambda content: content["annotations"].clear(), "no list 'annotations' with anything"),
        (lambda content: content["annotations"].append(5), "no list 'annotations' with anything"),
        (lambda content: content.pop("images"), "no list 'images' .* found info, categories, ann"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[Layout], object], words: str, write) -> None:
    content = layout()
    change(content)
    path = write(content)
    with pytest.raises(DataError, match=words) as told:
        read_boxes(path)
    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"images": [', "cannot be read as JSON: .*line 1 column"),
        (b'{"images": "\xe4"}', "cannot be read as JSON: .*utf-8"),
        (b"[" * 100_000, "cannot be read as JSON: .*recursion"),
        (b"image_id,text\n", "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
        (b"[]", "no list 'images' .* found list"),
        (b"{}", "no list 'images' .* found nothing"),
        (b"null", "no list 'images' .* found NoneType"),
    ],
)
def test_a_json_that_holds_no_boxes(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_boxes(path)


def test_a_box_of_a_json_outside_of_its_image_is_refused(write) -> None:
    content = layout()
    content["annotations"][0]["bbox"] = [50, 2, 20, 4]
    place = {"box_left": [0], "box_top": 0, "box_width": 14, "box_height": 24}
    size = {"source_width": 60, "source_height": 100}
    images = pd.DataFrame({"image_id": ["a"], "patient_id": "p"} | place | size)
    with pytest.raises(DataError, match="1 boxes lie outside"):
        box_masks(read_boxes(write(content)), images, size=24)


# --- Both layouts, written from the masks of the example study ---


@pytest.fixture(scope="module")
def drawn() -> tuple[pd.DataFrame, SplitData, np.ndarray]:
    """What the test split says of findings, a row a box or a denial; and the masks."""
    cache, truth = load_study(), read_truth(ROOT / "data/example")
    test = SplitData(cache, "test")
    spoken = finding_sentences(truth, test)
    spoken = spoken[spoken["polarity"] != "uncertain"].groupby("polarity").head(40)
    spoken = spoken.drop_duplicates(["image_id", "text"])
    rows, masks = [], []
    for row in spoken.itertuples():
        named = {"dicom_id": row.image_id, "category_name": row.finding, "label_text": row.text}
        named |= {"polarity": row.polarity, "image_width": 256, "image_height": 256}
        if row.polarity == "absent":
            rows.append(named)
            continue
        masks.append(truth.mask(row.image_id, row.finding))
        for y, x in find_objects(label(masks[-1])[0]):
            place = (x.start, y.start, x.stop - x.start, y.stop - y.start)
            rows.append(named | dict(zip("xywh", place, strict=True)))
    return pd.DataFrame(rows), test, np.stack(masks)


def as_coco(table: pd.DataFrame) -> Layout:
    """Ids count from 1, as in MS-CXR."""
    images, categories = (table[name].unique() for name in ("dicom_id", "category_name"))
    numbers = {
        name: number for part in (images, categories) for number, name in enumerate(part, 1)
    }
    annotations = []
    for number, row in enumerate(table.itertuples(), 1):
        bbox = [] if pd.isna(row.x) else [int(row.x), int(row.y), int(row.w), int(row.h)]
        one = {"id": number, "image_id": numbers[row.dicom_id], "bbox": bbox}
        one |= {"category_id": numbers[row.category_name], "polarity": row.polarity}
        annotations.append(one | {"label_text": row.label_text})
    size = {"width": 256, "height": 256}
    return {
        "images": [{"id": numbers[one], "file_name": f"{one}.jpg"} | size for one in images],
        "categories": [{"id": numbers[one], "name": one} for one in categories],
        "annotations": annotations,
    }


def test_pointing_is_the_same_from_both_layouts(drawn, write, tmp_path: Path) -> None:
    table, test, truth = drawn
    table.to_csv(tmp_path / "boxes.csv", index=False)
    read = [read_boxes(path) for path in (tmp_path / "boxes.csv", write(as_coco(table)))]
    pd.testing.assert_frame_equal(*read)
    winners = np.random.default_rng(0).integers(16, size=len(truth))
    games = []
    for boxes in read:
        _, masks = box_masks(boxes, test.manifest, size=256)
        assert (masks | ~truth).all(), "a box has all of its finding"
        games.append(pointing_game(winners, masks, grid=4))
    assert 0 < games[0].hit.mean() < 1
    for one, other in zip(*(vars(game).values() for game in games), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_denial_has_no_mask_and_can_be_lent_one(drawn, write) -> None:
    """Held against the finding of another patient, as chapter 9 does it."""
    table, test, truth = drawn
    boxes = read_boxes(write(as_coco(table)))
    phrases, masks = box_masks(boxes, test.manifest, size=256)
    denied = boxes[boxes["polarity"] == "absent"].merge(test.manifest[["image_id", "patient_id"]])
    assert len(denied) == 40
    assert len(phrases) == len(masks) == len(truth) == 40
    lent = find_lenders(
        denied["label"], denied["patient_id"], phrases["label"], phrases["patient_id"]
    )
    assert (lent >= 0).mean() > 0.5
    assert masks[lent[lent >= 0]].any(axis=(1, 2)).all()
    same = phrases["label"].to_numpy()[lent] == denied["label"].to_numpy()
    assert same[lent >= 0].all()


@pytest.mark.parametrize("part", ["bbox", "width"])
@pytest.mark.parametrize("many", [10**400, 10**12, float("inf")])
def test_no_image_has_so_many_pixels(part: str, many: float, write) -> None:
    found = layout()
    if part == "bbox":
        found["annotations"][0]["bbox"][2] = many
    else:
        found["images"][0]["width"] = many
    with pytest.raises(DataError, match="no plain numbers .* annotation 7"):
        read_boxes(write(found))
