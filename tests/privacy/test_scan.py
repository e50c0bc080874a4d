"""Files of every kind, and the hook in a repository of its own."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from places import ROOT
from typer.testing import CliRunner

from localmi.__main__ import app
from localmi.errors import DataError
from localmi.privacy import file_texts as reading
from localmi.privacy import scan
from localmi.privacy.rules import ADMISSION, IMAGE, PATIENT, STAY, STUDY

A_PATIENT, A_STUDY = str(10_000_032), str(50_414_267)
SECRET = f"p{A_PATIENT}"
ROWS = f"subject_id,study_id\n{A_PATIENT},{A_STUDY}\n"


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "nothing")
        archive.writestr(name, content)
    return file.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def parquet(**columns: list) -> bytes:
    file = io.BytesIO()
    pd.DataFrame(columns).to_parquet(file)
    return file.getvalue()


def array(*values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


def found(name: str, content: bytes | str) -> list[tuple[str, int, str]]:
    content = content.encode() if isinstance(content, str) else content
    return [(one.place, one.line, one.words) for one in scan.scan_content(name, content)]


def test_a_text_file_is_named_with_its_line() -> None:
    assert found("notes.md", f"one\ntwo {SECRET}\n") == [("", 2, PATIENT)]
    assert (
        str(next(scan.scan_content("notes.md", SECRET.encode()))) == f"notes.md, line 1: {PATIENT}"
    )


def test_names_of_files_count() -> None:
    (finding,) = scan.scan_content(f"files/{SECRET}/x.txt", b"")
    assert str(finding) == f"files/[id]/x.txt, its name: {PATIENT}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ROWS.encode()),
        ("a.csv.gz", gzip.compress(ROWS.encode(), mtime=0)),
        ("a.zip", zipped("inner.csv", ROWS.encode())),
        ("a.zip", zipped("inner.csv.gz", gzip.compress(ROWS.encode(), mtime=0))),
        ("a.tgz", tarred("inner.csv", ROWS.encode())),
        ("a.parquet", parquet(study_id=[int(A_STUDY)], label=[1])),
        ("a.parquet", parquet(image_id=["x"], path=[f"files/{SECRET}/y"])),
        ("a.npz", zipped("study.npy", array(int(A_STUDY), int(A_STUDY) + 4))),
        ("a.npy", array(SECRET, "p90000000")),
        ("a.txt", SECRET.encode("utf-16")),
        ("a.pkl", b"\x80\x04\xff\x00" + SECRET.encode() + b"\x00\xff"),
        ("a.jpg", b"\xff\xd8\xff\xe1" + SECRET.encode() + b"\xff\xd9"),
        ("a.json", json.dumps({"study_id": int(A_STUDY)}).encode()),
        ("a.ipynb", f"{{broken {SECRET}".encode()),
    ],
)
def test_ids_are_found_in_every_kind_of_file(name: str, content: bytes) -> None:
    assert {words for _, _, words in found(name, content)} & {PATIENT, STUDY}


def test_ids_of_a_record_are_found_in_tables_and_arrays() -> None:
    admissions, dates = [23_456_789, 21_390_424], [21_390_424, 21_000_101]
    rows = parquet(hadm_id=admissions, StudyDate=dates, stay_id=[34_567_890.0, float("nan")])
    assert [words for _, _, words in found("a.parquet", rows)] == [ADMISSION, STAY, ADMISSION]
    assert len(found("a.npz", zipped("hadm_id.npy", array(*admissions)))) == 2
    assert found("stay_id.npy", array(34_567_890)) == [("array", 2, STAY)]
    for name, values in (("StudyDate.npy", dates), ("sizes.npy", admissions)):
        assert found(name, array(*values)) == []
    html = f"<table><tr><th>hadm_id</th></tr><tr><td>{admissions[0]}</td></tr></table>"
    shown = new_output("execute_result", data={"text/html": html})
    notebook = a_notebook(new_code_cell("1", outputs=[shown]))
    assert [place for place, *_ in found("a.ipynb", notebook)] == ["cell 0, output"]


def test_names_of_members_count() -> None:
    assert found("a.zip", zipped(f"{SECRET}.txt", b"")) == [("member 2, its name", 1, PATIENT)]
    assert found("a.tgz", tarred(f"{SECRET}.txt", b"")) == [("member 1, its name", 1, PATIENT)]


def test_a_damaged_archive_is_looked_at_as_it_is() -> None:
    whole = gzip.compress(os.urandom(1000))
    assert found("a.gz", whole[:-200]) == []
    assert found("a.zip", b"PK\x03\x04" + SECRET.encode() + b"\xff") == [("", 1, PATIENT)]
    assert found("a.parquet", b"PAR1\xff" + SECRET.encode() + b"\xff") == [("", 1, PATIENT)]


def test_what_is_too_large_is_not_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    assert found("a.gz", gzip.compress(b" " * 101)) == [("", 0, "too large to be looked at")]


def a_notebook(*cells: nbformat.NotebookNode) -> bytes:
    return nbformat.writes(new_notebook(cells=list(cells))).encode()


def test_sources_and_outputs_of_notebooks_count() -> None:
    html = f"<table><tr>\n<td>{A_PATIENT}</td>\n<td>{A_STUDY}</td></tr></table>"
    outputs = [
        new_output("stream", name="stdout", text=f"one\n{A_STUDY}\n"),
        new_output("execute_result", data={"text/html": html}),
        new_output("error", ename="E", evalue="", traceback=[f"\x1b[31mat {SECRET}\x1b[0m"]),
    ]
    cells = new_markdown_cell(f"as in {SECRET}"), new_code_cell("1", outputs=outputs)
    places = [(place, words) for place, _, words in found("a.ipynb", a_notebook(*cells))]
    assert places[0] == ("cell 0", PATIENT)
    assert {place for place, _ in places[1:]} == {"cell 1, output"}
    assert [words for _, words in places[1:]] == [STUDY, PATIENT, STUDY, PATIENT]


@pytest.mark.parametrize(
    ("source", "number"), [("d.hadm_id.unique()", 1), ("d.los.unique()", 0), ("d.stay_id", 1)]
)
def test_what_a_cell_asks_for_its_outputs_are(source: str, number: int) -> None:
    shown = new_output("execute_result", {"text/plain": f"array([{23_456_789}])"})
    notebook = a_notebook(new_code_cell(source, outputs=[shown]))
    assert len(list(found("a.ipynb", notebook))) == number


def test_pixels_of_a_notebook_are_not_read_as_text() -> None:
    picture = new_output("display_data", data={"image/png": f"/{SECRET}/"})
    assert found("a.ipynb", a_notebook(new_code_cell("1", outputs=[picture]))) == []


def test_stored_outputs_of_a_run_on_mimic_count_whatever_they_show(tmp_path: Path) -> None:
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text(ROWS)
    picture = new_output("display_data", data={"image/png": "iVBO"})
    for tag, folder, expected in (
        ("injected-parameters", str(tmp_path), ["stored outputs of a run on data of MIMIC-CXR"]),
        ("injected-parameters", "", []),
        ("injected-parameters", str(tmp_path / "gone"), []),
        ("other", str(tmp_path), []),
    ):
        cells = (
            new_code_cell(f"data_dir = {folder!r}  # data", metadata={"tags": [tag]}),
            new_code_cell("1", outputs=[picture]),
        )
        assert [words for *_, words in found("a.ipynb", a_notebook(*cells))] == expected
    cells[1].outputs = []
    assert found("a.ipynb", a_notebook(*cells)) == []


def test_the_example_study_and_its_notebook_pass() -> None:
    example = ROOT / "data" / "example"
    paths = [
        *example.glob("*"),
        *example.glob("truth/*"),
        *example.glob("files/p90/p9000000*/**/*"),
    ]
    assert len(paths) > 50
    assert list(scan.scan_files([*paths, *(ROOT / "notebooks").glob("*.ipynb")])) == []


def test_findings_are_counted_and_never_shown_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(ROWS * 3)
    assert scan.scan_and_report([tmp_path]) == scan.FOUND
    printed = capsys.readouterr().out
    assert f"a.csv, line 2: {PATIENT}" in printed
    assert "3 more" in printed
    assert "Findings: 6." in printed
    assert "git restore --staged" in printed
    assert A_PATIENT not in printed
    assert A_STUDY not in printed


def test_a_clean_folder_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.md").write_text("Nothing but 11,689,512 words of 2026.")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_text(SECRET)
    (tmp_path / "link").symlink_to(tmp_path / ".git" / "index")
    assert scan.scan_and_report([tmp_path]) == scan.CLEAN
    assert "Nothing of MIMIC-CXR" in capsys.readouterr().out


def test_what_cannot_be_scanned_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for paths, keywords in (
        ([tmp_path / "none"], {}),
        ([], {}),
        ([], {"staged": True}),
        ([tmp_path], {"staged": True}),
        ([tmp_path], {"against": tmp_path / "none"}),
    ):
        with pytest.raises(DataError):
            scan.scan_and_report(paths, **keywords)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="git is not installed"):
        list(scan.files_of_the_project())


def test_the_command_tells_clean_found_and_refused_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "a.md").write_text("Nothing.")
    (tmp_path / "b.csv").write_text(ROWS)
    answers = {
        ("a.md",): (scan.CLEAN, "Nothing of MIMIC-CXR"),
        ("a.md", "b.csv"): (scan.FOUND, f"b.csv, line 2: {PATIENT}"),
        ("none",): (2, "DataError: "),
        ("--staged", "a.md"): (2, "DataError: --staged looks at what is staged"),
        ("a.md", "--against", "none"): (2, "DataError: "),
        (): (2, "DataError: "),
    }
    for words, (code, said) in answers.items():
        done = CliRunner().invoke(app, ["scan", *words])
        assert done.exit_code == code, words
        assert said in (done.stderr if code == 2 else done.stdout)
        assert not said.startswith("DataError") or done.stderr.startswith(said)


def test_sentences_of_a_study_are_found_in_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    study, page = tmp_path / "study", tmp_path / "page.md"
    study.mkdir()
    for number in range(10):
        Image.new("L", (8, 8), number).save(study / f"{number}.png")
    reports = [f"FINDINGS: The eel sleeps in the left lobe {number}." for number in range(10)]
    rows = {"image": [f"{n}.png" for n in range(10)], "report": reports, "patient_id": range(10)}
    pd.DataFrame(rows).to_csv(study / "pairs.csv", index=False)
    page.write_text("As they say:\n  the eel sleeps in the\n  left lobe 3, always.\n")
    assert scan.scan_and_report([page], against=study) == scan.FOUND
    printed = capsys.readouterr().out
    assert "page.md, line 2: a sentence of the study (8 words)" in printed
    assert "eel" not in printed
    page.write_text("The eel sleeps in the right lobe 3.")
    assert scan.scan_and_report([page], against=study) == scan.CLEAN


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """A repository whose hook is switched on; called with git's words, gives its answer."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # those of a hook that may be running this test
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def git(*words: str) -> tuple[int, str]:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    git("init", "-b", "main")
    for name, value in (("user.name", "a"), ("user.email", "a@b"), ("core.autocrlf", "false")):
        git("config", name, value)
    git("config", "core.hooksPath", str(ROOT / ".githooks"))
    return git


def test_the_hook_refuses_a_commit(repository: Callable[..., tuple[int, str]]) -> None:
    Path("good.md").write_text("Nothing.")
    repository("add", "good.md")
    assert repository("commit", "-m", "good")[0] == 0
    Path("bad ä.csv").write_text(ROWS)
    repository("add", ".")
    code, printed = repository("commit", "-m", "bad")
    assert code == 1
    assert f"bad ä.csv, line 2: {PATIENT}" in printed
    assert A_PATIENT not in printed
    assert repository("log", "--oneline")[1].count("\n") == 1
    repository("rm", "--cached", "bad ä.csv")
    Path("bad ä.csv").unlink()
    Path("good.md").write_text("Better.")
    assert repository("commit", "-am", "better")[0] == 0


def test_what_is_staged_counts_not_what_lies_on_disk(
    repository: Callable[..., tuple[int, str]],
) -> None:
    image = "-".join(["0000000a"] * 5)
    Path("a.md").write_text(f"{SECRET} {image}")
    repository("add", "a.md")
    Path("a.md").write_text("Nothing.")
    findings = list(scan.scan_staged())
    assert [(one.file, one.words) for one in findings] == [("a.md", PATIENT), ("a.md", IMAGE)]
    repository("add", "a.md")
    Path("a.md").write_text(SECRET)
    assert list(scan.scan_staged()) == []
    assert len(list(scan.scan_files(scan.files_of_the_project()))) == 1


@pytest.mark.slow
def test_a_merge_is_scanned_as_well(repository: Callable[..., tuple[int, str]]) -> None:
    repository("commit", "--allow-empty", "-m", "first")
    repository("checkout", "-b", "side")
    Path("bad.csv").write_text(ROWS)
    repository("add", ".")
    assert repository("commit", "--no-verify", "-m", "bad")[0] == 0
    repository("checkout", "main")
    repository("commit", "--allow-empty", "-m", "second")
    code, printed = repository("merge", "--no-edit", "side")
    assert (code != 0, "bad.csv, line 2" in printed) == (True, True)


def test_without_an_environment_the_hook_refuses(
    repository: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    code, printed = repository("commit", "--allow-empty", "-m", "x")
    assert code == 1
    assert "make hooks" in printed
