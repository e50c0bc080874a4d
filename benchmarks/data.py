"""Preparing MIMIC-CXR at size: a rehearsal with planted faults, its growth, and real decoding.

    python benchmarks/data.py rehearse             20,000 small images, every fault accounted for
    python benchmarks/data.py grow                 time and memory at 1,000, 5,000, 20,000 images
    python benchmarks/data.py decode               full-size JPEGs and DICOM files: images a second

Each writes into a temporary folder. `rehearse` writes a tree of MIMIC-CXR-JPG with faults of
fifteen kinds (tests/helpers/mimic_tree.py), prepares it by the command, kills it once on the way,
and checks that every planted fault is in the report and nothing else is lost. `grow` prints the
seconds of each part and the highest resident memory of the process over what it had after
importing (Linux only). `decode` prints the CPU time of an image, what all of MIMIC-CXR takes on 16
cores that do nothing else, and how fast the disk must then be.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from mimic_tree import check_cache, write_tree

from localmi.data.cache.prepare import duration
from localmi.data.cache.verify import verify_cache
from localmi.data.images import read_image

HEIGHT, WIDTH = 3056, 2544  # pixels of a chest radiograph in MIMIC-CXR
ALL_IMAGES, FRONTAL_IMAGES, CORES = 377_110, 243_334, 16


# rehearsal


def rehearse(folder: Path, num_images: int) -> None:
    """Versions and places of reports in turn; the largest tree is killed and resumed."""
    for number, (version, reports) in enumerate(
        (("2.1.0", "zip"), ("2.0.0", "tree"), ("2.1.0", "beside"))
    ):
        root = folder / f"{version}-{reports}"
        images = num_images if number == 0 else max(200, num_images // 10)
        begin = time.perf_counter()
        tree = write_tree(root, images, version=version, reports=reports, every=9)
        print(f"{version}, reports {reports}: {images:,} images written in {_since(begin)}")
        command = _command(tree.data_dir, root / "cache", tree.reports_dir)
        if number == 0:
            _kill(command, after=lambda root=root: list(root.glob("cache.partial/*.parquet")))
            print("  killed after its first shard")
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"  prepared in {_since(begin)}")
        check_cache(tree, root / "cache", version)
        damaged = verify_cache(root / "cache")
        if damaged:
            raise RuntimeError(f"verify says {damaged}")
        for name, count in tree.faults.items():
            print(f"  {count:4} x {name}")
        rejected = sum(bool(image.rejected) for _, image in tree.pictures)
        print(
            f"  {rejected} images rejected, {len(tree.pictures) - rejected:,} kept: all as planned"
        )


def _command(data_dir: Path, out: Path, reports_dir: Path | None) -> list[str]:
    words = ["--data-dir", str(data_dir), "--out", str(out), "--source", "mimic"]
    words += ["--leaks", "reject", "--image-size", "64"]
    words += ["--reports", str(reports_dir)] if reports_dir else []
    return [sys.executable, "-m", "localmi", "prepare", *words]


def _kill(command: list[str], after: Callable[[], object]) -> None:
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not after() and process.poll() is None:
            time.sleep(0.01)
        process.kill()


def _since(begin: float) -> str:
    return f"{time.perf_counter() - begin:.0f} s"


# growth

PARTS = """
import sys, time
from pathlib import Path
from localmi.data.cache.cache import build_cache, open_cache
from localmi.data.sources.pairs import read_pairs

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

def now():
    return time.perf_counter(), time.process_time()

before, times = peak(), [now()]
pairs = read_pairs(sys.argv[1], leaks="reject")
times.append(now())
build_cache(pairs, sys.argv[2], image_size=256, leaks="reject", workers=1)
times.append(now())
build_cache(pairs, sys.argv[2], image_size=256, leaks="reject", workers=1)
times.append(now())
open_cache(sys.argv[2])
times.append(now())
for clock in (0, 1):
    print(*(after[clock] - at[clock] for at, after in zip(times, times[1:])))
print(peak() - before)
"""


def grow(folder: Path, sizes: list[int]) -> None:
    print("  images | seconds: index  build  again   open | of CPU: index  build | ms an image")
    for size in sizes:
        root = folder / str(size)
        tree = write_tree(root, size)
        done = subprocess.run(
            [sys.executable, "-c", PARTS, str(tree.data_dir), str(root / "cache")],
            check=True,
            capture_output=True,
            text=True,
        )
        seconds, cpu, (peak,) = (
            [float(word) for word in line.split()] for line in done.stdout.splitlines()
        )
        shown = "".join(f"{part:7.2f}" for part in seconds)
        used = "".join(f"{part:7.2f}" for part in cpu[:2])
        per_image = 1e3 * cpu[1] / size
        print(
            f"{size:8,} |         {shown} |        {used} | {per_image:.2f}; {peak:,.0f} MiB over "
            "imports",
            flush=True,
        )


# decoding


def decode(folder: Path, count: int) -> None:
    makers = {"JPEG, quality 95": _write_jpeg, "DICOM, 12 of 16 bits": _write_dicom}
    for kind, write in makers.items():
        files = [folder / f"{kind[:4]}-{number}" for number in range(count)]
        for number, file in enumerate(files):
            write(file, number)
        size = np.mean([file.stat().st_size for file in files]) / 1e6
        (wall, used), (wall_two, _) = (_seconds(files, workers) for workers in (1, 2))
        print(f"{kind}, {WIDTH} x {HEIGHT}, {size:.2f} MB: {used * 1e3:.1f} ms of CPU an image,")
        print(f"  {1 / used:.1f} images/s a core; two threads {wall / wall_two:.2f} x one")
        for images in (ALL_IMAGES, FRONTAL_IMAGES):
            took = duration(images * used / CORES)
            rate = size * CORES / used / 1e3
            print(f"  {images:,} images on {CORES} free cores: {took}, reading {rate:.2f} GB/s")


def _seconds(files: list[Path], workers: int) -> tuple[float, float]:
    """Seconds an image, on the clock and of CPU: the best of three, for others work here too."""
    found = []
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(3):
            begin, used = time.perf_counter(), time.process_time()
            list(pool.map(partial(read_image, size=256), files))
            found.append((time.perf_counter() - begin, time.process_time() - used))
    wall, cpu = zip(*found, strict=True)
    return min(wall) / len(files), min(cpu) / len(files)


def _radiograph(seed: int) -> np.ndarray:
    """[HEIGHT, WIDTH] in 0..1: smooth shapes and noise, so that its JPEG has the usual 1.5 MB."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.random((24, 20), dtype=np.float32))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return np.clip(smooth + 0.0085 * rng.standard_normal(smooth.shape, dtype=np.float32), 0, 1)


def _write_jpeg(file: Path, seed: int) -> None:
    pixels = (_radiograph(seed) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=95)


def _write_dicom(file: Path, seed: int) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(file, {}, file_meta=meta, preamble=b"\0" * 128)
    data.PhotometricInterpretation = "MONOCHROME2"
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.Rows, data.Columns = HEIGHT, WIDTH
    data.WindowCenter, data.WindowWidth = 2048, 3500
    data.PixelData = (_radiograph(seed) * 4095).astype(np.uint16).tobytes()
    data.save_as(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["rehearse", "grow", "decode"])
    parser.add_argument("--images", type=int, nargs="+", help="how many (grow: several numbers)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.what == "rehearse":
            rehearse(folder, (options.images or [20_000])[0])
        elif options.what == "grow":
            grow(folder, options.images or [1_000, 5_000, 20_000])
        else:
            decode(folder, (options.images or [24])[0])


if __name__ == "__main__":
    main()
