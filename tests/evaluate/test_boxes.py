"""Boxes of a table become masks in the prepared square."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from localmi.data.images import read_image
from localmi.errors import DataError
from localmi.evaluate.boxes import box_masks, read_boxes

HEADER = "image_id,text,label,x,y,w,h"
IMAGES = pd.DataFrame(
    {
        "image_id": ["a", "b", "c"],
        "patient_id": ["p", "q", "q"],
        "source_width": [60, 200, 40],
        "source_height": [100, 120, 80],
        "box_left": [6, 0, 5],
        "box_top": [0, 4, 0],
        "box_width": [12, 20, 10],
        "box_height": [20, 12, 20],
    },
    index=[7, 8, 9],
)


@pytest.fixture
def write(tmp_path: Path):
    def make(*lines: str, header: str = HEADER) -> Path:
        path = tmp_path / "boxes.csv"
        path.write_text("\n".join([header, *lines]), encoding="utf-8")
        return path

    return make


def masks_of(*lines: str, write) -> np.ndarray:
    return box_masks(read_boxes(write(*lines)), IMAGES, size=24)[1]


def test_a_box_is_where_its_pixels_went(tmp_path: Path) -> None:
    """Against the image itself: a bright box in a dark file, prepared as every image is."""
    from PIL import Image

    picture = np.tile(np.arange(40, dtype=np.uint8), (300, 5))  # [300, 200], with greys enough
    picture[45:120, 20:140] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    square = read_image(tmp_path / "a.png", 60)
    left, top, width, height = square.box
    images = pd.DataFrame(
        {
            "image_id": ["a"],
            "patient_id": ["p"],
            "source_width": [square.source_width],
            "source_height": [square.source_height],
            "box_left": [left],
            "box_top": [top],
            "box_width": [width],
            "box_height": [height],
        }
    )
    boxes = pd.DataFrame(
        {"image_id": ["a"], "text": ["it"], "label": "", "x": 20, "y": 45, "w": 120, "h": 75}
    )
    _, masks = box_masks(boxes, images, size=60)
    np.testing.assert_array_equal(masks[0], square.pixels > 200)


def test_boxes_of_one_phrase_are_one_mask(write) -> None:
    path = write(
        "b,both lungs,edema,0,0,50,60", "b,both lungs,edema,150,60,50,60", "b,left,,0,0,9,9"
    )
    phrases, masks = box_masks(read_boxes(path), IMAGES, size=24)
    expected = np.zeros((24, 24), bool)
    expected[4:10, 0:5] = expected[10:16, 15:20] = True
    np.testing.assert_array_equal(masks[0], expected)
    assert phrases["text"].tolist() == ["both lungs", "left"]
    assert phrases["label"].tolist() == ["edema", ""]
    assert phrases["image"].tolist() == [1, 1]
    assert phrases["patient_id"].tolist() == ["q", "q"]


def test_the_same_words_of_two_images_are_two_phrases(write) -> None:
    path = write("c,here,,0,0,40,80", "nobody,here,,0,0,1,1", "a,here,,0,50,60,50")
    phrases, masks = box_masks(read_boxes(path), IMAGES, size=24)
    assert phrases["image_id"].tolist() == ["c", "a"]
    assert masks[0].nonzero()[1].min() == 5  # all of c, without the black beside it
    assert masks[0].sum() == 10 * 20
    assert masks[1, 10:20, 6:18].all()
    assert masks[1].sum() == 10 * 12


@pytest.mark.parametrize("line", ["a,dot,,59,99,1,1", "a,dot,,0,0,1,1", "a,dot,,31,47,2,1"])
def test_a_box_too_small_for_a_pixel_has_one(line: str, write) -> None:
    masks = masks_of(line, write=write)
    assert masks.sum() == 1
    assert masks[0, :20, 6:18].sum() == 1


def test_no_box_on_these_images(write) -> None:
    phrases, masks = box_masks(read_boxes(write("nobody,here,,0,0,1,1")), IMAGES, size=24)
    assert len(phrases) == 0
    assert masks.shape == (0, 24, 24)


def test_ms_cxr_is_read_as_it_is(write) -> None:
    header = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split"
    path = write("0,Edema,mild edema,p/0.jpg,1,2,3,4,60,100,train", header=header)
    table = read_boxes(path)
    assert table.loc[0, ["image_id", "text", "label"]].tolist() == ["0", "mild edema", "Edema"]
    assert "split" not in table
    images = IMAGES.assign(image_id=["0", "b", "c"])
    assert len(box_masks(table, images, size=24)[0]) == 1
    with pytest.raises(DataError, match="another size"):
        box_masks(table, images.assign(source_height=101), size=24)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,here,,0,0,61.5,100"], "1 boxes lie outside"),
        (["a,here,,0,50,60,52"], "1 boxes lie outside"),
        (["a,here,,-3,0,60,50"], "1 boxes lie outside"),
        (["a,here,,1,1,1,1", "a,here,,0,0,0,5"], "1 rows .* line 3"),
        (["a,here,,0,0,5,-5"], "1 rows .* line 2"),
        (["a,here,,0,0,wide,5"], "1 rows .* line 2"),
        (["a,,,0,0,5,5", ",here,,0,0,5,5"], "2 rows .* line 2"),
        (["a,here,,0,0,5,5", "a,  ,,0,0,5,5"], "1 rows .* no text, .* line 3"),
    ],
)
def test_boxes_that_are_refused(lines: list[str], words: str, write) -> None:
    with pytest.raises(DataError, match=words):
        masks_of(*lines, write=write)


def test_a_table_without_boxes_is_refused(write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column w, h; there are image_id, text, x, y, width"):
        read_boxes(write("a,b,1,1,1", header="image_id,text,x,y,width"))
    with pytest.raises(DataError, match="cannot be read"):
        read_boxes(tmp_path / "none.csv")
    with pytest.raises(DataError, match="dicom_id and image_id, two names of one column"):
        read_boxes(write("a,a,b,1,1,1,1", header="dicom_id,image_id,text,x,y,w,h"))


@pytest.mark.parametrize(
    ("header", "line"),
    [(HEADER, "a,left, below,dot,0,0,5,5"), ("image_id,x,y,w,h,text", "a,0,0,5,5,left, below")],
)
def test_a_comma_in_a_text_without_quotes_shifts_nothing(header: str, line: str, write) -> None:
    with pytest.raises(DataError, match="a text that has one stands in quotes"):
        read_boxes(write(line, header=header))


def test_an_empty_column_at_the_end_is_none(write) -> None:
    table = read_boxes(write("a,left,dot,0,0,5,5,", "b,right,dot,0,0,5,5,"))
    assert table["image_id"].tolist() == ["a", "b"]


@pytest.mark.parametrize("width", ['"3,056"', "", "wide"])
def test_a_size_of_the_image_must_be_a_number(width: str, write) -> None:
    header = f"{HEADER},image_width,image_height"
    with pytest.raises(DataError, match=r"1 rows .* image_width, image_height .* line 3"):
        read_boxes(write("a,b,,0,0,5,5,60,100", f"a,b,,0,0,5,5,{width},100", header=header))


def test_words_that_pandas_takes_for_nothing_are_words(write) -> None:
    table = read_boxes(write("NA,None,nan,0,0,5,5"))
    assert table.loc[0, ["image_id", "text", "label"]].tolist() == ["NA", "None", "nan"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_cells_may_be_parted_otherwise(separator: str, write) -> None:
    cells = ["a", "left, below", "", "0", ".5", "5", "5"]
    expected = read_boxes(write(",".join(["a", '"left, below"', *cells[2:]])))
    path = write(separator.join(cells), header=HEADER.replace(",", separator))
    pd.testing.assert_frame_equal(read_boxes(path), expected)


def test_a_denial_has_no_box_and_no_mask(write) -> None:
    path = write(
        "a,here,,0,0,5,5,Present", "a,not here,,,,,,negative", header=f"{HEADER},polarity"
    )
    table = read_boxes(path)
    assert table["polarity"].tolist() == ["present", "absent"]
    phrases, masks = box_masks(table, IMAGES, size=24)
    assert phrases["text"].tolist() == ["here"]
    assert len(masks) == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,no,,0,0,5,5,absent", "1 rows .* deny, and have a box all the same; .* line 3"),
        ("a,no,,,,,x,absent", "1 rows .* deny, and have a box"),
        ("a,no,,,,,,present", "1 rows .* no plain numbers .* line 3"),
        ("a,no,,0,0,5,5,perhaps", "polarity that is none of positive, .* line 3"),
        ("a,no,,0,0,5,5,", "polarity that is none of positive, .* line 3"),
    ],
)
def test_a_polarity_and_its_box_must_agree(row: str, words: str, write) -> None:
    with pytest.raises(DataError, match=words):
        read_boxes(write("a,yes,,0,0,5,5,positive", row, header=f"{HEADER},polarity"))


@pytest.mark.parametrize("many", ["1" + "0" * 400, "1e12", "inf"])
def test_no_image_has_so_many_pixels(many: str, write) -> None:
    with pytest.raises(DataError, match="no plain numbers .* line 2"):
        read_boxes(write(f"a,here,,0,0,{many},5"))


def test_shares_of_the_image_are_no_pixels(write) -> None:
    """As some collections give their boxes: each would be one pixel in the corner."""
    with pytest.raises(DataError, match="All boxes of .* between 0 and 1: shares .* Multiply x"):
        read_boxes(write("a,here,,0.1,0.2,0.5,0.4", "a,there,,0,0,1,1"))
    assert len(read_boxes(write("a,here,,0.5,0,1,1", "a,there,,0,0,1,1.5"))) == 2
