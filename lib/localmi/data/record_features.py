"""What is recorded of an image, as numbers for a network.

Source of the variables: Shurrab et al. 2024, https://doi.org/10.1038/s41598-024-74043-x, and its
public notebooks (nyuad-cai/CXR-EHR-MSN), which know two states of a stay: who is not admitted is
"alive" there.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd

from localmi.data.labels import FINDINGS
from localmi.errors import ConfigError, DataError, check_name
from localmi.names import RecordVariable

GROUPS: dict[str, tuple[str, ...]] = {
    "demographic": ("sex", "age"),
    "scan": ("view", "position"),
    "stay": ("died", "icu", "stay_days"),  # the first says whether admitted, too
}
CATEGORIES: dict[str, tuple[str, tuple[str, ...]]] = {  # variable -> column, its values
    "sex": ("record_sex", ("M", "F")),
    "view": ("view", ("AP", "PA", "LATERAL", "LL")),
    "position": ("position", ("Erect", "Recumbent")),
}
STATES: dict[str, str] = {"admitted": "record_admitted", "icu": "record_icu"}
NUMBERS: dict[str, str] = {"age": "record_age", "stay_days": "record_stay_days"}
BANDS = {"age5": 5, "age10": 10}  # years
YOUNGEST, RANGE, LONG_STAY = 16, 84, 30  # years, years, days


def features(
    manifest: pd.DataFrame, variables: Sequence[RecordVariable]
) -> tuple[np.ndarray, list[str]]:
    """What is recorded of each image, as numbers for a network; nothing is fitted on the data.

    - sex, view, position: a 1 at its value, as "sex=F".
    - age: (years - 16) / 84, within [0, 1]; 0 where it is blank.
    - age5, age10: a 1 at its band of 5 or 10 years: "<20", "20-25", ... "90+".
    - admitted: "yes", "no". icu: "yes", "no".
    - died: "no", "yes", and "not admitted", which is neither.
    - stay_days: log(1 + days) / log(31); 0 where not admitted or blank.
    - labels: a 1 at each finding that the image's report has, "Edema". They are of no record, but
      a control: a record that tells far more than a record can.
    - "demographic" is sex and age; "scan" view and position; "stay" died, icu and stay_days.

    A blank has no 1 anywhere.

    Args:
        manifest: of a cache prepared with records; n rows.
        variables: groups and single ones; each counts once.

    Returns:
        [n, R] float32, and the R names.

    Raises:
        ConfigError: an unknown variable, or none.
        DataError: the manifest lacks a column, all labels, or a number in it is none.
    """
    names = [variables] if isinstance(variables, str) else list(variables)
    for name in names:
        check_name("variable of the record", name, get_args(RecordVariable))
    if not names:
        raise ConfigError(f"No variable: name some of {', '.join(get_args(RecordVariable))}.")
    single = dict.fromkeys(one for name in names for one in GROUPS.get(name, (name,)))
    columns = {name: values for one in single for name, values in _encoded(manifest, one).items()}
    return np.stack(list(columns.values()), axis=1).astype(np.float32), list(columns)


def _encoded(manifest: pd.DataFrame, variable: str) -> dict[str, np.ndarray]:
    """Name -> [n], of one variable."""
    if variable in CATEGORIES:
        column, values = CATEGORIES[variable]
        return _one_hot(variable, _column(manifest, column).to_numpy(), values)
    if variable in NUMBERS:
        number = np.nan_to_num(_numbers(manifest, NUMBERS[variable]))
        if variable == "age":
            blank = np.isnan(_numbers(manifest, NUMBERS[variable]))
            number = np.where(blank, 0, np.clip((number - YOUNGEST) / RANGE, 0, 1))
        else:
            number = np.log1p(number) / np.log1p(LONG_STAY)
        return {variable: number}
    if variable == "labels":
        if not (labelled := [name for name in FINDINGS if name in manifest]):
            raise DataError("The prepared data have no labels of findings: leave 'labels' out.")
        return {name: _numbers(manifest, name) == 1 for name in labelled}
    if variable in BANDS:
        return _bands(variable, _numbers(manifest, "record_age"), BANDS[variable])
    state = _numbers(manifest, STATES.get(variable, "record_died"))
    words = np.select([state == 1, state == 0], ["yes", "no"], "")
    if variable != "died":
        return _one_hot(variable, words, ("yes", "no"))
    words = np.where(_numbers(manifest, "record_admitted") == 0, "not admitted", words)
    return _one_hot(variable, words, ("no", "yes", "not admitted"))


def _one_hot(variable: str, found: np.ndarray, values: Sequence[str]) -> dict[str, np.ndarray]:
    return {f"{variable}={value}": found == value for value in values}


def _bands(variable: str, age: np.ndarray, years: int) -> dict[str, np.ndarray]:
    """The lower edge belongs to a band, the upper to the next."""
    edges = range(20, 90, years)
    bands = {f"{variable}=<20": age < 20}
    bands |= {f"{variable}={low}-{low + years}": age // years * years == low for low in edges}
    return bands | {f"{variable}=90+": age >= 90}


def _column(manifest: pd.DataFrame, name: str) -> pd.Series:
    if name not in manifest:
        raise DataError(
            f"The prepared data have no {name}. Prepare the study again with --records, the "
            "folder of MIMIC-IV."
        )
    return manifest[name]


def _numbers(manifest: pd.DataFrame, name: str) -> np.ndarray:
    try:
        return pd.to_numeric(_column(manifest, name)).to_numpy(float)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{name} of the prepared data holds other than numbers: {error}."
        ) from error
