"""What is recorded of an image as numbers: every value, every band, and what is blank."""

from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from localmi.data.record_features import BANDS, GROUPS, features
from localmi.errors import ConfigError, DataError
from localmi.names import RecordVariable

NAN = float("nan")
MANIFEST = pd.DataFrame(
    {
        "view": ["AP", "PA", "LATERAL", "LL", ""],
        "position": ["Erect", "Recumbent", "", "Erect", ""],
        "record_sex": ["F", "M", "F", "M", ""],
        "record_age": [16, 58, 100, 93, NAN],
        "record_admitted": [1, 1, 0, 1, NAN],
        "record_died": [0, 1, NAN, NAN, NAN],
        "record_stay_days": [30, 0, NAN, 2.5, NAN],
        "record_icu": [1, 0, 0, 1, NAN],
        "record_icu_days": [1, NAN, NAN, 1, NAN],
    }
)


def table(*variables: Any, manifest: pd.DataFrame = MANIFEST) -> dict[str, list[float]]:
    values, names = features(manifest, variables)
    assert values.shape == (len(manifest), len(names))
    assert values.dtype == np.float32
    return {name: values[:, column].tolist() for column, name in enumerate(names)}


def test_every_category_has_its_column_and_blanks_have_none() -> None:
    assert table("sex", "position", "view", "died", "icu", "admitted") == {
        "sex=M": [0, 1, 0, 1, 0],
        "sex=F": [1, 0, 1, 0, 0],
        "position=Erect": [1, 0, 0, 1, 0],
        "position=Recumbent": [0, 1, 0, 0, 0],
        "view=AP": [1, 0, 0, 0, 0],
        "view=PA": [0, 1, 0, 0, 0],
        "view=LATERAL": [0, 0, 1, 0, 0],
        "view=LL": [0, 0, 0, 1, 0],
        "died=no": [1, 0, 0, 0, 0],
        "died=yes": [0, 1, 0, 0, 0],
        "died=not admitted": [0, 0, 1, 0, 0],
        "icu=yes": [1, 0, 0, 1, 0],
        "icu=no": [0, 1, 1, 0, 0],
        "admitted=yes": [1, 1, 0, 1, 0],
        "admitted=no": [0, 0, 1, 0, 0],
    }


def test_numbers() -> None:
    found = table("age", "stay_days")
    assert found["age"] == pytest.approx([0, 0.5, 1, 77 / 84, 0])
    assert found["stay_days"] == pytest.approx([1, 0, 0, np.log(3.5) / np.log(31), 0])
    (age,) = table("age", manifest=pd.DataFrame({"record_age": [0, 140]})).values()
    assert age == [0, 1]  # clipped


@pytest.mark.parametrize(("variable", "bands"), [("age5", 16), ("age10", 9)])
def test_bands_of_age(variable: Any, bands: int) -> None:
    """Every age is in one; the lower edge belongs to it."""
    ages = np.arange(0, 121)
    values, names = features(pd.DataFrame({"record_age": ages}), [variable])
    assert len(names) == bands
    assert values.sum(axis=1).tolist() == [1] * len(ages)
    width = BANDS[variable]
    of = [names[column].removeprefix(f"{variable}=") for column in values.argmax(axis=1)]
    assert (of[19], of[20], of[90], of[120]) == ("<20", f"20-{20 + width}", "90+", "90+")
    for age in range(20, 90):
        low, high = (int(edge) for edge in of[age].split("-"))
        assert low <= age < high == low + width
    blank, _ = features(pd.DataFrame({"record_age": [NAN]}), [variable])
    assert not blank.any()


def test_groups_are_their_variables_each_once() -> None:
    assert table("demographic") == table("sex", "age")
    assert table("scan") == table("view", "position")
    assert table("stay") == table("died", "icu", "stay_days")
    assert list(table("age", "demographic", "age")) == ["age", "sex=M", "sex=F"]
    assert set().union(*GROUPS.values(), GROUPS, BANDS, {"admitted", "labels"}) == {
        *get_args(RecordVariable)
    }


def test_labels_are_those_that_a_report_has() -> None:
    said = MANIFEST.assign(Edema=[1, 0, -1, NAN, 1], Pneumonia=[NAN, 1, 1, 0, 0])
    assert table("labels", manifest=said) == {
        "Edema": [1, 0, 0, 0, 1],
        "Pneumonia": [0, 1, 1, 0, 0],
    }
    with pytest.raises(DataError, match="no labels of findings: leave 'labels' out"):
        table("sex", "labels")
    with pytest.raises(DataError, match="Edema of the prepared data holds other than numbers"):
        table("labels", manifest=MANIFEST.assign(Edema="yes"))


def test_one_name_may_stand_alone() -> None:
    assert features(MANIFEST, "sex")[1] == ["sex=M", "sex=F"]  # type: ignore[arg-type]


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="Unknown variable of the record 'race'; known are demo"):
        table("sex", "race")
    with pytest.raises(ConfigError, match="No variable: name some of demographic, scan, stay"):
        table()


@pytest.mark.parametrize("variable", sorted({*get_args(RecordVariable)} - {"labels"}))
def test_a_cache_without_records_says_what_to_do(variable: Any) -> None:
    plain = MANIFEST[["view"]]
    if variable == "view":
        assert table("view", manifest=plain)
        return
    with pytest.raises(DataError, match="have no (record_|position).*again with --records"):
        table(variable, manifest=plain)


def test_a_number_that_is_none() -> None:
    wrong = MANIFEST.assign(record_age=["16", "old", "1", "2", "3"])
    with pytest.raises(DataError, match="record_age of the prepared data holds other than numb"):
        table("age", manifest=wrong)
