"""Reading a few columns of a table, and the words that are said of numbers."""

import gzip
from pathlib import Path

import pytest

from localmi.data.tables import are, counted, read_table
from localmi.errors import DataError


def read(path: Path, content: str | bytes) -> dict[str, list]:
    """subject_id and n, which are needed, and t, which may be there; as text but for n."""
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    table = read_table(path, ["subject_id", "n"], ["subject_id", "t"], only=True)
    return table.to_dict("list")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_only_some_columns_are_read(
    tmp_path: Path, name: str, encoding: str, separator: str
) -> None:
    rows = ["x,t,Subject ID,n,", '1,"NA",007,2,', "3,,8,4.5,"]
    content = "\n".join(rows).replace(",", separator).encode(encoding)
    found = read(tmp_path / name, content)
    assert found == {"t": ["NA", ""], "subject_id": ["007", "8"], "n": [2, 4.5]}
    assert read(tmp_path / name, "subject_id,n\n") == {"subject_id": [], "n": []}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("subject_id,n,x\n1,2,3\n1,2,3,4\n", "cannot be read as CSV: .*Expected 3 columns, got 4"),
        ("subject_id,n,x\n1,2\n", "cannot be read as CSV: .*Expected 3 columns, got 2"),
        ("subject_id,n,Subject ID\n1,2,3\n", "more than one column subject_id. Leave one"),
        ("x,y\n1,2\n", "lacks the columns subject_id, n; found x, y. Rename"),
        ("", "cannot be read as CSV: No columns"),
        ("subject_id,n,t\n1,2,\u00e4\n".encode("latin-1"), "cannot be read as CSV.*UTF8"),
    ],
)
def test_a_row_or_a_column_is_wrong(tmp_path: Path, content: str | bytes, words: str) -> None:
    """An unquoted comma in a column that nobody reads would move all that follow."""
    with pytest.raises(DataError, match=words):
        read(tmp_path / "a.csv", content)


def test_words_for_numbers() -> None:
    assert counted(1, "ICU stay", "have") == "1 ICU stay has"
    assert counted(2, "ICU stay", "have") == "2 ICU stays have"
    assert counted(1200, "study") == "1,200 studies"
    assert (are(1), are(2)) == ("is", "are")
