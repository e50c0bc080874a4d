import codecs
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from localmi.errors import ConfigError
from localmi.notebook.parameter_files import read_yaml


def file_of(folder: Path, content: bytes) -> Path:
    (path := folder / "of_mine.yaml").write_bytes(content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_that_editors_and_shells_write(tmp_path: Path, encoding: str) -> None:
    content = "steps: 5\r\nname: Müller\r\n".encode(encoding)
    assert read_yaml(file_of(tmp_path, content)) == {"steps": 5, "name": "Müller"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: Müller".encode("latin-1"), "UTF-8"),
        (b"\x1f\x8b\x08\x00", "UTF-8"),
        (codecs.BOM_UTF16_LE + b"\x00", "cannot be read"),
        (b"steps: 5\nrate: 1\nsteps: 7", "given twice: steps"),
        (b"further: {a: 1, a: 2}", "given twice: a"),
        (b"seed: 010", "010 is no plain number"),
        (b"steps: 1:30", "1:30 is no plain number"),
        (b"steps: 1_0", "1_0 is no plain number"),
        (b"seeds: [0x10]", "0x10 is no plain number"),
        (b"rate: 1:30.5", "1:30.5 is no plain number"),
        (b"steps: 5\n---\nsteps: 6", "cannot be read"),
    ],
)
def test_what_is_not_what_it_looks_like_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_yaml(file_of(tmp_path, content))


def test_plain_values_are_what_they_look_like(tmp_path: Path) -> None:
    content = b"a: 0\nb: -12\nc: 1.50\nd: 1.5e-3\ne: .5\nf: '010'\ng: [1, 2]\nh: true"
    found = {"a": 0, "b": -12, "c": 1.5, "d": 0.0015, "e": 0.5, "f": "010", "g": [1, 2], "h": True}
    assert read_yaml(file_of(tmp_path, content)) == found


def test_fields_of_an_anchor_may_be_given_anew(tmp_path: Path) -> None:
    content = b"base: &base {steps: 5}\nmine: {<<: *base, steps: 6}"
    assert read_yaml(file_of(tmp_path, content))["mine"] == {"steps": 6}


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_words_are_printed_where_not_all_letters_can_be(
    write_notebook: Any, good_cells: Any, encoding: str
) -> None:
    """As into a redirect under Windows: a letter that it cannot spell does not end a command."""
    good_cells["parameters"][0].source = "steps = 2  # of ∇, at most"
    said = subprocess.run(
        [sys.executable, "-m", "localmi", "run", "--help", str(write_notebook(good_cells))],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, b"")
    assert b"of ?, at most" in said.stdout
