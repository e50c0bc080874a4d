"""Notebook 07 on data that nobody has the truth of: what is drawn there, and what is said."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from places import NOTEBOOKS

from localmi import course
from localmi.phantom.config import PhantomConfig
from localmi.phantom.write import write_study

PARAMETERS = {"image_size": 64, "batch_size": 4, "steps": 2, "evaluate_every": 2}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "study"
    write_study(folder, PhantomConfig(seed=1, image_size=64), 20, fractions=(0.3, 0.2, 0.5))
    shutil.rmtree(folder / "truth")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "maps"), [("local", 8), ("global", 0)])
def test_maps_are_drawn_without_the_truth(
    study: Path,
    objective: str,
    maps: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    captions = []
    monkeypatch.setattr(course, "show", lambda figure, caption, **_: captions.append(caption))
    names: dict = {"display": print}
    given = PARAMETERS | {"data_dir": str(study), "objective": objective}
    for cell in nbformat.read(NOTEBOOKS / "07_train_local_mi.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= given
    assert [caption[:10] for caption in captions] == ["Figure 7.1", "Figure 7.2"][: 1 + (maps > 0)]
    drawn = [axes for axes in names["panels"].flat if axes.images] if maps else []
    assert len(drawn) == maps
    assert all(len(axes.images) == 2 for axes in drawn)  # the radiograph, and its map
    told = capsys.readouterr().out
    assert "true MI: not known" in told
    assert not re.search(r"\bnan\b", told)
