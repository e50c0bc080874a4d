"""Reading and checking the tables that describe a study, with messages a user can act on."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from localmi.errors import DataError

PAIR_COLUMNS = ["image_id", "study_id", "patient_id", "image", "report", "view", "split"]
REJECTED_COLUMNS = ["image_id", "study_id", "reason"]
MAX_EXAMPLES = 5  # that an error names


def examples(values: pd.Series) -> str:
    """The first few, for an error."""
    shown = ", ".join(str(value) for value in values[:MAX_EXAMPLES])
    return shown + (", ..." if len(values) > MAX_EXAMPLES else "")


def read_table(path: Path, required: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
    """A CSV whose `text` columns are kept as written ("007", "NA"), checked for `required`.

    Raises:
        DataError: not readable, a column is missing, or a row has more cells than the header.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).fillna("")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}. Write it anew.") from error
    table = table.rename(columns=str.strip)
    found = [str(column) for column in table]
    missing = [column for column in required if column not in found]
    if missing:
        raise DataError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"found {', '.join(found)}. Rename or add them."
        )
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells for an index
        raise DataError(
            f"{path} has rows with more cells than its header. Put reports in double quotes."
        )
    return table.assign(
        **{
            name: table[name].str.strip() if name in text else _values(table[name])
            for name in found
        }
    )


def _values(cells: pd.Series) -> pd.Series:
    """A column of labels: numbers where all filled cells are numbers, else text."""
    filled = cells.mask(cells == "")
    try:
        return pd.to_numeric(filled)
    except ValueError:
        return filled


def check_unique(table: pd.DataFrame, column: str, path: Path) -> None:
    """Raises DataError if a value of `column` stands in two rows."""
    twice = table.loc[table[column].duplicated(), column].drop_duplicates()
    if len(twice):
        raise DataError(
            f"{path} has {len(twice)} values of {column} more than once: {examples(twice)}. "
            "Each may stand in one row only."
        )


def keep_rows(
    table: pd.DataFrame, good: pd.Series, reason: str | pd.Series, rejected: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The good rows; and `rejected` with the others, for `reason`: one for all, or one a row."""
    own = reason if isinstance(reason, str) else reason[~good]
    out = table.loc[~good, ["image_id", "study_id"]].assign(reason=own)
    return table[good], out if rejected.empty else pd.concat([rejected, out])
