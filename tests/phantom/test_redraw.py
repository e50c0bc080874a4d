import numpy as np
import pytest

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.errors import DataError
from localmi.phantom.config import PhantomConfig, ReportNoise
from localmi.phantom.read import finding_sentences, read_truth
from localmi.phantom.redraw import redraw
from localmi.phantom.write import write_study

SIZE = 64


@pytest.fixture
def data(tiny_cache: Cache) -> SplitData:
    return SplitData(tiny_cache, "train")


def test_with_nothing_left_out_it_is_the_image_of_the_cache(truth, data) -> None:
    assert data.manifest["study_id"].duplicated().any()  # second images too
    for number, row in enumerate(data.manifest.itertuples()):
        stored = data.images(np.array([number]))[0, 0].numpy()
        assert np.array_equal(redraw(truth, row.study_id, row.image_id, size=SIZE), stored)


def test_without_a_finding_the_image_changes_most_where_it_was(truth, data) -> None:
    spoken = finding_sentences(truth, data)
    present = spoken[spoken["polarity"] == "present"]
    for row in present.drop_duplicates("finding").itertuples():
        stored = data.images(np.array([row.image]))[0, 0].numpy()
        other = redraw(truth, row.study_id, row.image_id, size=SIZE, without=row.finding)
        change = np.abs(other.astype(float) - stored)
        mask = truth.mask(row.image_id, row.finding)
        assert change[mask].mean() > 1.5 * change[~mask].mean()


def test_what_is_not_there_is_refused(truth, data) -> None:
    row = data.manifest.iloc[0]
    with pytest.raises(DataError, match="No image other"):
        redraw(truth, row["study_id"], "other", size=SIZE)
    with pytest.raises(DataError, match="with 'a cold' in study"):
        redraw(truth, row["study_id"], row["image_id"], size=SIZE, without="a cold")


def test_any_study_is_drawn_by_its_own_configuration(tmp_path) -> None:
    config = PhantomConfig(
        seed=4, image_size=SIZE, abnormal=1.0, contrast=(0.9, 1.0), noise=ReportNoise(flip=0.1)
    )
    write_study(tmp_path / "study", config, 3, fractions=(0.4, 0.3, 0.3))
    truth = read_truth(tmp_path / "study")
    for file in (tmp_path / "study" / "files").rglob("*.jpg"):
        study = file.parent.name.removeprefix("s")
        assert redraw(truth, study, file.stem, size=SIZE).std() > 20
