"""The paper's tables from finished downstream runs: AUCs over seeds, and paired tests.

Reads the folders that `run_downstream` left, however many runs of a grid are there by now. Holds
aggregates alone, no prediction and no id. Taught in 10_the_papers_tables.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from localmi.data.cache.cache import open_cache
from localmi.data.labels import beside_table_1
from localmi.downstream.result import Predictions
from localmi.downstream.table_cells import Cell, Key, Run, cells_of, read_runs
from localmi.downstream.tables_text import IMAGE_ONLY, MEAN, tables_as_markdown
from localmi.downstream.tasks import CLASSES, LabelledImages, aucs
from localmi.errors import DataError
from localmi.evaluate.classification import MultiLabelMetrics, compare, multi_label_metrics
from localmi.evaluate.edema import EDEMA_TASKS, edema_targets
from localmi.files import write_table, write_text
from localmi.names import Task
from localmi.statistics import PairedTest, holm
from localmi.study import example_results

Row = dict[str, Any]
FINDINGS = CLASSES | {"edema": EDEMA_TASKS}
AUC_FILE, COMPARISONS_FILE, COUNTS_FILE, TEXT_FILE = "auc", "comparisons", "counts", "tables.md"
NEEDED = {  # columns, by file
    AUC_FILE: ("task", "fraction", "variant", "finding", "auc", "auc_low", "auc_high", "auc_sd"),
    COMPARISONS_FILE: ("task", "fraction", "a", "b", "finding", "difference", "p_holm"),
}
TEXT = ("objective", "bound", "mode", "note")  # columns that may be ""
BOTH_BOUNDS = (  # of each bound: a, b, and whether finding by finding too
    ("local-{}-tuned", IMAGE_ONLY, True),
    ("local-{}-tuned", "global-{}-tuned", True),
    ("global-{}-tuned", IMAGE_ONLY, False),
    ("local-{}-frozen", IMAGE_ONLY, False),
    ("global-{}-frozen", IMAGE_ONLY, False),
    ("local-{}-frozen", "global-{}-frozen", False),
    ("local-{}-probe", "random-probe", False),
    ("global-{}-probe", "random-probe", False),
    ("local-{}-probe", "global-{}-probe", False),
)
PAIRS = [
    (a.format(bound), b.format(bound), single)
    for bound in ("infonce", "mine")
    for a, b, single in BOTH_BOUNDS
] + [("local-infonce-tuned", "local-mine-tuned", False)]


@dataclass(frozen=True)
class Tables:
    """auc: a row a task, fraction, variant and finding ("mean" too).

    comparisons: a row a paired test, `a` against `b`.
    counts: `beside_table_1` of the study; None where it was not asked for.
    """

    auc: pd.DataFrame
    comparisons: pd.DataFrame
    counts: pd.DataFrame | None = None


def read_tables(folder: Path | str = "") -> Tables:
    """What the command `tables` wrote, from its CSV files.

    Args:
        folder: of the tables; "" is what `make tables` gave for grid/small.yaml, stored with the
            example data.

    Raises:
        DataError: no tables there, or not all of their columns.

    Taught in 10_the_papers_tables.
    """
    folder = Path(folder) if str(folder) else example_results() / "tables"
    auc, comparisons = (_stored(folder / f"{name}.csv", *NEEDED[name]) for name in NEEDED)
    counts = folder / f"{COUNTS_FILE}.csv"
    return Tables(
        auc, comparisons, pd.read_csv(counts, index_col="finding") if counts.is_file() else None
    )


def _stored(path: Path, *columns: str) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(
            f"{path.parent} has no {path.name}. Name a folder that `make tables` has written, "
            "such as grid/runs/small/tables, or write it with `python -m localmi tables`."
        )
    table = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str))
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"{path} lacks the columns {missing}: write the tables anew.")
    return table.fillna({name: "" for name in TEXT if name in table})


def auc_table(cells: Mapping[Key, Cell], *, workers: int = 1) -> pd.DataFrame:
    """AUC and AUPRC: mean over seeds, 95 % interval over patients.

    auc_sd: standard deviation over the seeds, which the interval does not speak of.
    """
    return pd.DataFrame(_side_by_side(_auc_rows, list(cells.items()), workers))


def _side_by_side(
    rows_of: Callable[..., list[Row]], jobs: Sequence[tuple[Any, ...]], workers: int
) -> list[Row]:
    """The rows of all jobs, in their order."""
    if workers == 1:
        return [row for job in jobs for row in rows_of(*job)]
    with ProcessPoolExecutor(workers) as pool:
        return [row for rows in pool.map(rows_of, *zip(*jobs, strict=True)) for row in rows]


def _auc_rows(key: Key, cell: Cell) -> list[Row]:
    task, fraction, variant = key
    run = next(iter(cell.runs.values()))
    targets, mask = _labels(task, run.predictions)
    found = multi_label_metrics(
        targets, cell.scores, run.predictions.patients, mask, names=FINDINGS[task]
    )
    by_seed = np.stack([_own_aucs(one) for one in cell.runs.values()])  # [S, F + 1]
    spread = by_seed.std(axis=0, ddof=1) if len(by_seed) > 1 else np.full(by_seed.shape[1], np.nan)
    return [
        {
            "task": task,
            "fraction": fraction,
            "variant": variant,
            "objective": run.objective,
            "bound": run.bound,
            "mode": run.mode,
            "finding": finding,
            "seeds": len(cell.runs),
            **_numbers(found, finding),
            "auc_sd": spread[column],
        }
        for column, finding in enumerate([*FINDINGS[task], MEAN])
    ]


def _labels(task: Task, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Targets and mask [n, F] of what AUCs are taken of."""
    if task == "edema":
        return edema_targets(predictions.levels)
    return predictions.targets, predictions.mask


def _own_aucs(run: Run) -> np.ndarray:
    """[F + 1] of one seed, the mean over those that there are at the end."""
    known = run.predictions
    part = LabelledImages(known.ids, known.targets, known.mask)
    found = aucs(run.task, part, known.probabilities)
    return np.append(found, np.nan if np.isnan(found).all() else np.nanmean(found))


def _numbers(found: MultiLabelMetrics, finding: str) -> Row:
    if finding == MEAN:
        auc, auprc, note = found.mean_auc, found.mean_auprc, found.note
        images, prevalence = max(one.number for one in found.tasks.values()), np.nan
    else:
        one = found.tasks[finding]
        auc, auprc, note = one.auc, one.auprc, one.note
        images, prevalence = one.number, one.prevalence
    numbers = {"images": images, "prevalence": prevalence}
    for name, interval in (("auc", auc), ("auprc", auprc)):
        low, high = f"{name}_low", f"{name}_high"
        numbers |= {name: interval.value, low: interval.low, high: interval.high}
    return {**numbers, "note": note}


@dataclass(frozen=True)
class _Comparison:
    """Two variants to be compared: what their rows are called, the findings, and the cells."""

    named: Row
    findings: Sequence[str]
    a: Cell
    b: Cell


def comparison_table(
    cells: Mapping[Key, Cell], *, permutations: int = 10_000, workers: int = 1
) -> pd.DataFrame:
    """The paper's claims as paired tests, `PAIRS`: of the mean AUC, some finding by finding too.

    A test pairs the seeds that both have. `low`, `high` and `p` (permuted within patients) are of
    these trained networks; `method_low`, `method_high` and `p_method` of the method, by
    `statistics.over_seeds`. `p_holm` and `p_method_holm` are adjusted over all that is asked: the
    means of all tasks, shares of the labels and pairs are one family, the single findings another.
    """
    jobs = [(pair, permutations) for pair in _pairs(cells)]
    table = pd.DataFrame(_side_by_side(_tests, jobs, workers), columns=COMPARISON_COLUMNS)
    family = table.groupby(table["finding"] == MEAN)
    for name in ("p", "p_method"):
        table[f"{name}_holm"] = family[name].transform(lambda p: holm(p.to_numpy()))
    return table


COMPARISON_COLUMNS = ["task", "fraction", "a", "b", "finding", "seeds"]
COMPARISON_COLUMNS += ["difference", "low", "high", "method_low", "method_high"]
COMPARISON_COLUMNS += ["difference_sd", "p", "p_method", "note"]


def _pairs(cells: Mapping[Key, Cell]) -> Iterator[_Comparison]:
    groups = dict.fromkeys((task, fraction, _network(name)) for task, fraction, name in cells)
    for task, fraction, network in groups:
        for a, b, single in ((network + a, network + b, single) for a, b, single in PAIRS):
            if (task, fraction, a) in cells and (task, fraction, b) in cells:
                yield _Comparison(
                    {"task": task, "fraction": fraction, "a": a, "b": b},
                    [*FINDINGS[task], MEAN] if single else [MEAN],
                    cells[task, fraction, a],
                    cells[task, fraction, b],
                )


def _network(variant: str) -> str:
    """What a variant's name begins with where its network is not the paper's: "resnet18 "."""
    before, space, _ = variant.rpartition(" ")
    return before + space


def _tests(pair: _Comparison, permutations: int) -> list[Row]:
    a, b, task = pair.a, pair.b, pair.named["task"]
    seeds = [seed for seed in a.runs if seed in b.runs]
    if not seeds:
        return []
    own, other = (cell.scores[[list(cell.runs).index(seed) for seed in seeds]] for cell in (a, b))
    by_seed = np.stack([_own_aucs(a.runs[seed]) - _own_aucs(b.runs[seed]) for seed in seeds])
    predictions = a.runs[seeds[0]].predictions
    targets, mask = _labels(task, predictions)
    rows = []
    for finding in pair.findings:
        column = (*FINDINGS[task], MEAN).index(finding)
        chosen: Any = slice(None) if finding == MEAN else column
        test: PairedTest = compare(
            targets[:, chosen],
            own[:, :, chosen],
            other[:, :, chosen],
            predictions.patients,
            mask[:, chosen],
            permutations=permutations,
        )
        row = {
            "finding": finding,
            "seeds": len(seeds),
            "difference": test.difference.value,
            "low": test.difference.low,
            "high": test.difference.high,
            "method_low": test.method.low,
            "method_high": test.method.high,
            "difference_sd": by_seed[:, column].std(ddof=1) if len(seeds) > 1 else np.nan,
            "p": test.p_value,
            "p_method": test.p_method,
            "note": test.note,
        }
        rows.append({**pair.named, **row})
    return rows


def make_tables(folder: Path, *, permutations: int = 10_000, workers: int = 1) -> Tables:
    """Both tables of the runs below a folder; any number of workers computes the same.

    Raises:
        DataError: as `read_runs` and `cells_of`.

    Taught in 10_the_papers_tables.
    """
    cells = cells_of(read_runs(folder))
    ordered = dict(sorted(cells.items(), key=lambda item: _order(item[0])))
    return Tables(
        auc_table(ordered, workers=workers),
        comparison_table(ordered, permutations=permutations, workers=workers),
    )


def _order(key: Key) -> tuple[int, float, bool, str]:
    task, fraction, variant = key
    return list(FINDINGS).index(task), -fraction, not variant.endswith(IMAGE_ONLY), variant


def write_tables(
    folder: Path,
    out: Path,
    *,
    data_dir: Path | None = None,
    permutations: int = 10_000,
    workers: int = 1,
) -> str:
    """Makes the tables of the runs below a folder, and writes them to `out`; returns the text.

    Args:
        data_dir: a prepared cache, to count its labels (`COUNTS_FILE`), or none.
        workers: processes.

    Raises:
        DataError: as `make_tables`, or no cache.
    """
    counts = beside_table_1(open_cache(data_dir).manifest) if data_dir else None
    tables = make_tables(folder, permutations=permutations, workers=workers)
    out.mkdir(parents=True, exist_ok=True)
    for name, table in ((AUC_FILE, tables.auc), (COMPARISONS_FILE, tables.comparisons)):
        write_table(table, out / f"{name}.parquet")
        table.to_csv(out / f"{name}.csv", index=False, lineterminator="\n")
    if counts is not None:
        counts.to_csv(out / f"{COUNTS_FILE}.csv", lineterminator="\n")
    text = tables_as_markdown(tables.auc, tables.comparisons)
    write_text(text, out / TEXT_FILE)  # the last: where it stands, all are there
    return text
