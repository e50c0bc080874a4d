import io
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from localmi.course import plots
from localmi.course.plots import Curve, contact_sheet, plot_mi, plot_radiograph, show


@pytest.fixture(autouse=True)
def _style() -> Any:
    plots.use_style()
    yield
    plt.close("all")


def test_show_stores_the_alt_text_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(plots, "display", shown.append)
    before = plt.get_fignums()  # of other tests
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    show(figure, alt="A line that rises.", caption="Figure 1")
    data, metadata = shown[0]._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/plain"] == "A line that rises."
    size = {"width": 704, "height": 528}  # 6.4 x 4.8 inches
    assert metadata == {"image/png": {"alt": "A line that rises.", **size}}
    assert shown[1].data == "*Figure 1*"
    assert plt.get_fignums() == before


@pytest.mark.parametrize(("side", "times"), [(8, 2), (128, 1)])
def test_plots_and_tables_are_sharp_and_radiographs_have_their_pixels(
    side: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(plots, "display", shown.append)
    figure, axes = plt.subplots(figsize=(4, 3))
    axes.imshow(np.zeros((side, side)))
    show(figure, alt="An image.")
    picture = Image.open(io.BytesIO(shown[0].png))
    assert picture.size == (times * 440, times * 330)
    assert (shown[0].width, shown[0].height) == (440, 330)
    assert picture.mode == ("P" if times == 2 else "RGBA")


def test_show_refuses_a_figure_without_alt_text() -> None:
    with pytest.raises(ValueError, match="alt text"):
        show(plt.figure(), alt=" ")


def test_a_curve_of_mi_has_truth_cap_and_interval() -> None:
    held_out = Curve([0, 1], [0.1, 0.5], "held-out", low=[0.0, 0.4], high=[0.2, 0.6])
    axes = plot_mi([held_out, Curve([0, 1], [0, 0], "shuffled")], truth=0.8, cap=3.4)
    labels = [words.get_text() for words in axes.get_legend().get_texts()]
    assert labels == ["held-out", "shuffled", "true MI 0.80", "cap 3.40"]
    truth = next(line for line in axes.lines if line.get_label() == "true MI 0.80")
    assert truth.get_linestyle() == "--"
    assert len(axes.collections) == 1
    assert axes.get_ylabel() == "mutual information (nats)"


def test_what_the_truth_is_not_is_not_said() -> None:
    axes = plot_mi([Curve([0, 1], [0, 0], "a")], truth=0.8, truth_label="true MI at most")
    labels = [words.get_text() for words in axes.get_legend().get_texts()]
    assert labels == ["a", "true MI at most 0.80"]


def test_curves_without_a_name_of_their_own_differ() -> None:
    axes = plot_mi([Curve([0, 1], [0, 1], name) for name in ("a", "b", "c")])
    assert len({line.get_color() for line in axes.lines[:3]}) == 3


def test_a_heat_map_lies_over_the_whole_image() -> None:
    axes = plot_radiograph(plt.figure().subplots(), np.zeros((32, 16)), heat=np.eye(4))
    first, second = axes.images
    assert list(first.get_extent()) == list(second.get_extent()) == [-0.5, 15.5, 31.5, -0.5]
    opacity = np.asarray(second.get_array())[..., 3]
    np.testing.assert_allclose(opacity, 0.5 * np.eye(4))


def test_the_highest_region_has_a_frame() -> None:
    heat = np.zeros((4, 4))
    heat[1, 2] = 1
    (frame,) = plot_radiograph(plt.subplots()[1], np.zeros((64, 64)), heat=heat).patches
    assert frame.get_bbox().extents.tolist() == [31.5, 15.5, 47.5, 31.5]


def test_heat_that_is_the_same_everywhere_tints_nothing() -> None:
    axes = plot_radiograph(plt.figure().subplots(), np.zeros((8, 8)), heat=np.ones((4, 4)))
    assert np.asarray(axes.images[1].get_array())[..., 3].max() == 0


def test_outlines_may_be_empty() -> None:
    mask = np.zeros((16, 16), dtype=bool)
    mask[4:8, 4:8] = True
    outlines = {"effusion": mask, "nothing": np.zeros_like(mask)}
    axes = plot_radiograph(plt.figure().subplots(), mask, outlines=outlines, title="t")
    assert len(axes.collections) == 1  # one contour
    assert len(axes.get_legend().get_texts()) == 2


@pytest.mark.parametrize("size", [128, 224, 256, 320, 512])
def test_an_outline_lies_where_its_mask_does_whatever_their_sizes(size: int) -> None:
    """A quarter of the image, from its middle down and a quarter to the right."""
    mask = np.zeros((256, 256), dtype=bool)
    mask[128:192, 64:128] = True
    picture = np.zeros((size, size))
    axes = plot_radiograph(plt.figure().subplots(), picture, outlines={"finding": mask})
    (outline,) = axes.collections
    low, high = outline.get_paths()[0].get_extents().get_points()
    np.testing.assert_allclose(low, [size / 4 - 0.5, size / 2 - 0.5])
    np.testing.assert_allclose(high, [size / 2 - 0.5, size * 3 / 4 - 0.5])
    assert axes.get_xlim() == (-0.5, size - 0.5)


def test_a_contact_sheet_has_a_place_for_each_image() -> None:
    images = [np.zeros((8, 8))] * 5
    figure = contact_sheet(images, [f"n {i}" for i in range(5)], columns=3)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["n 0", "n 1", "n 2", "n 3", "n 4", ""]
    assert [bool(axes.images) for axes in figure.axes] == [True] * 5 + [False]
