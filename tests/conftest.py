"""For every test: one thread, no network, no screen, the same random examples each time.

And two small studies: `tiny_cache` is drawn and prepared as a real one is, `make_cache` makes one
whose every image and sentence the test decides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from localmi.data.cache.cache import Cache
    from localmi.phantom.read import Truth

# Before torch and NumPy are imported: their floats depend on the number of threads.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

pytest_plugins = ("training_fixtures",)  # of train and downstream

settings.register_profile("course", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("course")


@pytest.fixture(autouse=True)
def _home_is_scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Nothing a test runs reads or writes Jupyter's settings of the person who runs it."""
    folder = str(tmp_path_factory.getbasetemp() / "jupyter")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, folder)


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once: three tries in all."""
    monkeypatch.setattr("localmi.files.WAITS", (0, 0))


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A synthetic study of 12 patients at 64 x 64, every other study with a second image."""
    from localmi.data.cache.cache import build_cache
    from localmi.data.sources.pairs import read_pairs
    from localmi.phantom.config import PhantomConfig
    from localmi.phantom.write import write_study

    folder = tmp_path_factory.mktemp("tiny")
    config = PhantomConfig(seed=1, image_size=64, second_image=0.5)
    write_study(folder / "study", config, 12, fractions=(0.5, 0.25, 0.25))
    return build_cache(read_pairs(folder / "study"), folder / "cache", image_size=64)


@pytest.fixture(scope="session")
def lateral_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """As `tiny_cache`, of 16 patients; more than half of the studies have a lateral view."""
    from localmi.data.cache.cache import build_cache
    from localmi.data.sources.pairs import read_pairs
    from localmi.phantom.config import PhantomConfig
    from localmi.phantom.write import write_study

    folder = tmp_path_factory.mktemp("laterals")
    config = PhantomConfig(seed=2, image_size=64, lateral_view=0.6, depth_said=1.0)
    write_study(folder / "study", config, 16, fractions=(0.5, 0.25, 0.25))
    pairs = read_pairs(folder / "study", views=("AP", "PA", "LATERAL"))
    return build_cache(pairs, folder / "cache", image_size=64)


@pytest.fixture(scope="session")
def record_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A synthetic study of 16 patients at 64 x 64, with their records."""
    from localmi.data.cache.cache import build_cache
    from localmi.data.sources.pairs import read_pairs
    from localmi.phantom.config import PhantomConfig
    from localmi.phantom.write import write_study

    folder = tmp_path_factory.mktemp("records")
    config = PhantomConfig(seed=3, image_size=64, second_image=0.5)
    write_study(folder / "study", config, 16, fractions=(0.5, 0.25, 0.25))
    pairs = read_pairs(folder / "study", records_dir=folder / "study")
    return build_cache(pairs, folder / "cache", image_size=64)


@pytest.fixture
def truth(tiny_cache: Cache) -> Truth:
    """Of the study behind `tiny_cache`."""
    from localmi.phantom.read import read_truth

    return read_truth(tiny_cache.folder.parent / "study")


class MadeStudy(NamedTuple):
    """A study as a test writes it down."""

    name: str
    sentences: Sequence[str]
    images: int = 1
    split: str = "train"
    kind: str = "content"


@pytest.fixture
def make_cache() -> Callable[..., Cache]:
    """A cache of these studies, each of its own patient; image k is grey level k everywhere."""
    import numpy as np
    import pandas as pd

    from localmi.data.cache.cache import Cache
    from localmi.data.cache.tables import SENTENCE_COLUMNS
    from localmi.data.sources.pairs import REJECTED_COLUMNS

    def make(*studies: Sequence, image_size: int = 8) -> Cache:
        made = [MadeStudy(*study) for study in studies]
        rows = [study for study in made for _ in range(study.images)]
        manifest = pd.DataFrame(
            {
                "image_id": [f"image-{number}" for number in range(len(rows))],
                "study_id": [study.name for study in rows],
                "patient_id": [f"patient of {study.name}" for study in rows],
                "split": [study.split for study in rows],
                "view": "AP",
                "index_in_cache": range(len(rows)),
            }
        )
        sentences = [
            (study.name, number, "findings", text, study.kind)
            for study in made
            for number, text in enumerate(study.sentences)
        ]
        grey = np.arange(len(rows), dtype=np.uint8)[:, None, None]
        return Cache(
            folder=Path("made"),
            name="made",
            image_size=image_size,
            manifest=manifest,
            sentences=pd.DataFrame(sentences, columns=SENTENCE_COLUMNS),
            rejected=pd.DataFrame(columns=REJECTED_COLUMNS),
            data_hash="0" * 64,
            images=np.broadcast_to(grey, (len(rows), image_size, image_size)),  # type: ignore[arg-type]
        )

    return make
