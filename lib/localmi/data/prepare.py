"""One call from the name of a folder to data that can be trained on: the notebooks' first line."""

from pathlib import Path

from localmi.data.cache import Cache, build_cache
from localmi.data.phantom.read import Truth, read_truth
from localmi.data.sources import CSV_NAME, read_pairs
from localmi.errors import DataError

DATA = Path(__file__).resolve().parents[3] / "data"  # localmi is installed editable


def example_dir() -> Path:
    """The folder of the synthetic study that comes with the course.

    Raises:
        DataError: it is not there.
    """
    folder = DATA / "example"
    if not folder.is_dir():
        raise DataError(
            f"The example study is missing: there is no folder {folder}. `make example` "
            "generates it; or set data_dir to a study of your own."
        )
    return folder


def load_study(
    data_dir: Path | str = "", cache_dir: Path | str = "", *, image_size: int = 256
) -> Cache:
    """Reads the pairs of a study, checks them for leaks, and prepares them; fast from then on.

    Args:
        data_dir: what `read_pairs` reads; "" is the example study.
        cache_dir: folder of the cache, which belongs to this study and image size alone;
            "" is `cache/<name>-<image_size>` beside the data.
        image_size: side of the square images, in pixels.

    Returns:
        The cache. Its `rejected` names what could not be used; `sources.reasons` puts it in words.

    Raises:
        DataError: no example study, no usable data, or no place for the cache.
        StudyLeakError: a patient, study or image is in two splits.

    Taught in 05_radiographs_and_reports.
    """
    source = Path(data_dir).expanduser().resolve() if str(data_dir) else example_dir()
    pairs = read_pairs(source)
    beside = source.parent if source.name == CSV_NAME else source
    folder = Path(cache_dir) if str(cache_dir) else default_cache(beside, pairs.name, image_size)
    try:
        return build_cache(pairs, folder, image_size=image_size, progress=True)
    except PermissionError as error:
        raise DataError(
            f"The cache cannot be written to {folder}. Set cache_dir to a folder of your own."
        ) from error


def load_truth(data_dir: Path | str = "") -> Truth | None:
    """What is known of a synthetic study; None where there is no `truth/`, as in every real one.

    Raises:
        DataError: no example study, or a truth that is not complete.

    Taught in 05_radiographs_and_reports.
    """
    folder = Path(data_dir).expanduser().resolve() if str(data_dir) else example_dir()
    return read_truth(folder) if (folder / "truth").is_dir() else None


def default_cache(data: Path, name: str, image_size: int) -> Path:
    """Beside the data: of data/example at 256 pixels, data/cache/example-256."""
    return data.parent / "cache" / f"{name}-{image_size}"
