"""One call from the name of a folder to data that can be trained on: the notebooks' first line."""

from collections.abc import Sequence
from pathlib import Path

from localmi.data.cache.cache import Cache, build_cache, open_cache
from localmi.data.cache.folder import META
from localmi.data.sources.pairs import CSV_NAME, read_pairs
from localmi.errors import DataError
from localmi.files import REPOSITORY
from localmi.names import FRONTAL_VIEWS
from localmi.phantom.example import RESULTS
from localmi.phantom.read import Truth, read_truth

DATA = REPOSITORY / "data"


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


def example_results() -> Path:
    """What long runs left for the course to show: a trained model, the tables of a grid.

    Raises:
        DataError: as `example_dir`.
    """
    return example_dir() / RESULTS


def load_study(
    data_dir: Path | str = "",
    cache_dir: Path | str = "",
    *,
    image_size: int = 256,
    views: Sequence[str] = FRONTAL_VIEWS,
    records_dir: Path | str = "",
) -> Cache:
    """Reads the pairs of a study, checks them for leaks, and prepares them; fast from then on.

    Args:
        data_dir: what `read_pairs` reads; "" is the example study. Or the folder of a prepared
            cache: it is opened as it is, at once, and the study is not looked at again.
        cache_dir: folder of the cache, which belongs to this study, image size and views alone;
            "" is `cache/<name>-<image_size>` beside the data; of other views than AP and PA
            `cache/<name>-<views>-<image_size>`, with records `cache/<name>-records-<image_size>`.
        image_size: side of the square images, in pixels.
        views: view positions that are kept.
        records_dir: the folder of MIMIC-IV, whose records are added; "" adds none. A prepared
            cache has its own.

    Returns:
        The cache. Its `rejected` names what could not be used; `data.reasons` puts it in words.

    Raises:
        DataError: no example study, no usable data, no place for the cache, or a prepared cache
            of another size, or without the records that are asked for.
        StudyLeakError: a patient, study or image is in two splits.

    Taught in 05_radiographs_and_reports.
    """
    source = Path(data_dir).expanduser().resolve() if str(data_dir) else example_dir()
    if (source / META).is_file():
        return _open_prepared(source, cache_dir, image_size, records_dir)
    pairs = read_pairs(source, views=views, records_dir=records_dir or None)
    beside = source.parent if source.name == CSV_NAME else source
    others = [] if set(views) == {*FRONTAL_VIEWS} else sorted(set(views))
    others += ["records"] if pairs.record_columns else []
    name = "-".join([pairs.name, *others])
    folder = Path(cache_dir) if str(cache_dir) else default_cache(beside, name, image_size)
    return build_cache(pairs, folder, image_size=image_size, progress=True)


def _open_prepared(
    folder: Path, cache_dir: Path | str, image_size: int, records_dir: Path | str
) -> Cache:
    if str(cache_dir):
        raise DataError(
            f"{folder} is a prepared cache: there is nothing to keep in cache_dir {cache_dir}. "
            'Set cache_dir to "", or data_dir to the study.'
        )
    cache = open_cache(folder)
    if cache.image_size != image_size:
        raise DataError(
            f"The cache in {folder} has images of {cache.image_size} pixels, image_size is "
            f"{image_size}. Set image_size to {cache.image_size}, or prepare the study again."
        )
    if str(records_dir) and not cache.records_hash:
        raise DataError(
            f"The cache in {folder} was prepared without records, and nothing is added to it. "
            f"Prepare the study again with --records {records_dir}."
        )
    return cache


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
