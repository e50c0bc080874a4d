import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labelled_study import labelled_cache
from sklearn.metrics import roc_auc_score

from localmi.data.cache.cache import Cache
from localmi.data.labels import PATHOLOGY9
from localmi.downstream import paper_tables as tables_paper
from localmi.downstream import table_cells as tables_read
from localmi.downstream import tables
from localmi.downstream.config import checked_downstream
from localmi.downstream.labelled_images import labelled_images
from localmi.downstream.pretrained_encoder import load_image_encoder
from localmi.downstream.result import PREDICTIONS, predictions_of
from localmi.errors import DataError
from localmi.evaluate.edema import EDEMA_TASKS
from localmi.files import write_table
from localmi.record import write_results
from localmi.statistics import holm
from localmi.train.pretraining import Pretraining

VARIANTS = ("", "global infonce", "local infonce")
SKILL = {"": 0.0, "global infonce": 0.3, "local infonce": 1.0}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A run folder as `run_downstream` leaves it: predictions with the skill of its variant."""

    def make(
        task: str, origin: str = "", *, seed: int = 0, name: str = "", **changes: Any
    ) -> Path:
        init = {"init": f"{origin}-{seed}.pt"} if origin else {}
        config = checked_downstream(task=task, image_size=32, seed=seed, **init, **changes)
        part = labelled_images(labelled_cache(60), config)["test"]
        rng = np.random.default_rng([seed, len(origin)])
        scores = SKILL.get(origin, 0.5) * part.targets + rng.random(part.targets.shape)
        if task == "edema":
            scores /= scores.sum(axis=1, keepdims=True)
        predictions = predictions_of(task, part, scores)
        folder = tmp_path / "runs" / (name or f"{task} {origin} {seed} {config.fraction}")
        folder.mkdir(parents=True)
        write_table(predictions.table(), folder / PREDICTIONS)
        encoder = f"{origin}, step 40: blocks 1 to 6 are loaded" if origin else "image-only: all"
        write_results(
            folder,
            notebook="downstream",
            parameters=config.model_dump(mode="json"),
            data={"sha256": "d" * 64, "encoder": encoder},
            metrics={},
            seconds=1,
        )
        return folder

    return make


@pytest.fixture
def grid(write: Write, tmp_path: Path) -> Path:
    for task in ("pathology9", "edema"):
        for origin in VARIANTS:
            for seed in (0, 1):
                write(task, origin, seed=seed)
    return tmp_path / "runs"


def test_both_tables(grid: Path) -> None:
    found = tables.make_tables(grid, permutations=99)
    auc = found.auc.set_index(["task", "variant", "finding"]).sort_index()
    assert len(auc) == 3 * (9 + 1 + 3 + 1)
    assert list(dict.fromkeys(found.auc["variant"])) == [
        "image-only",
        "global-infonce-tuned",
        "local-infonce-tuned",
    ]
    assert (auc["seeds"] == 2).all()
    assert ((auc["auc_low"] <= auc["auc"]) & (auc["auc"] <= auc["auc_high"])).all()

    runs = {run.seed: run for run in tables_read.read_runs(grid) if "9 local" in str(run.folder)}
    by_seed = []
    for run in runs.values():
        known, column = run.predictions, PATHOLOGY9.index("Edema")
        counted = known.mask[:, column]
        by_seed.append(
            roc_auc_score(known.targets[counted, column], known.probabilities[counted, column])
        )
    row = auc.loc[("pathology9", "local-infonce-tuned", "Edema")]
    assert row["auc"] == pytest.approx(np.mean(by_seed))
    assert row["auc_sd"] == pytest.approx(np.std(by_seed, ddof=1))
    own = auc.loc[("pathology9", "local-infonce-tuned")].drop("mean")
    mean = auc.loc[("pathology9", "local-infonce-tuned", "mean")]
    assert mean["auc"] == pytest.approx(own["auc"].mean())

    tests = found.comparisons
    assert set(zip(tests["a"], tests["b"], strict=True)) == {
        ("local-infonce-tuned", "image-only"),
        ("local-infonce-tuned", "global-infonce-tuned"),
        ("global-infonce-tuned", "image-only"),
    }
    assert len(tests) == 2 * (9 + 3 + 2) + 2  # the last pair: the means of both tasks alone
    claimed = (tests["a"] == "local-infonce-tuned") & (tests["b"] == "image-only")
    means = tests[claimed & (tests["finding"] == "mean")]
    difference = mean["auc"] - auc.loc[("pathology9", "image-only", "mean"), "auc"]
    assert means["difference"].tolist()[0] == pytest.approx(difference)
    assert means["p"].tolist() == [0.01, 0.01]  # (1 + 0) / (1 + 99): the skill is plain
    assert means["p_holm"].tolist() == [0.02, 0.02]
    (one,) = tests[claimed & (tests["finding"] == "Edema")].to_dict("records")
    alone = [run for run in tables_read.read_runs(grid) if "9  " in str(run.folder)]
    column = PATHOLOGY9.index("Edema")
    own = [tables._own_aucs(runs[run.seed])[column] for run in alone]
    theirs = [tables._own_aucs(run)[column] for run in alone]
    spread = np.std(np.subtract(own, theirs), ddof=1)
    assert one["difference_sd"] == pytest.approx(spread)


def test_any_number_of_workers_computes_the_same(grid: Path) -> None:
    one, two = (tables.make_tables(grid, permutations=19, workers=number) for number in (1, 2))
    pd.testing.assert_frame_equal(one.auc, two.auc)
    pd.testing.assert_frame_equal(one.comparisons, two.comparisons)


def test_holm_is_over_the_findings_of_both_tasks(grid: Path) -> None:
    tests = tables.make_tables(grid, permutations=99).comparisons
    family = tests[(tests["finding"] != "mean") & (tests["b"] == "global-infonce-tuned")]
    assert family["finding"].tolist() == [*PATHOLOGY9, *EDEMA_TASKS]
    np.testing.assert_allclose(family["p_holm"], holm(family["p"]))


def test_the_command_writes_parquet_csv_and_markdown(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert tables.main(grid, out, permutations=19) == 0
    text = (out / "tables.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "## edema, 100 % of the labels" in text
    assert "| local-infonce-tuned | 0." in text
    assert "| pathology9 | 100 % | local-infonce-tuned | image-only | +0." in text
    for name in ("auc", "comparisons"):
        stored, as_text = pd.read_parquet(out / f"{name}.parquet"), out / f"{name}.csv"
        assert stored.to_csv(index=False, lineterminator="\n") == as_text.read_text()
    assert "patient-" not in (out / "auc.csv").read_text() + text
    assert not (out / "counts.csv").exists()


def test_the_command_counts_the_labels_of_a_study(
    grid: Path, tiny_cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert tables.main(grid, out, data_dir=tiny_cache.folder, permutations=19) == 0
    counts = pd.read_csv(out / "counts.csv", index_col="finding")
    assert counts.loc["Consolidation", "train, paper"] == 20_074
    assert tables.main(grid, tmp_path / "none", data_dir=grid, permutations=19) == 1
    assert "holds no cache" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_tables_are_read_back(grid: Path, tiny_cache: Cache, tmp_path: Path) -> None:
    tables.main(grid, tmp_path / "out", data_dir=tiny_cache.folder, permutations=19)
    made, read = tables.make_tables(grid, permutations=19), tables.read_tables(tmp_path / "out")
    pd.testing.assert_frame_equal(read.auc, made.auc)
    pd.testing.assert_frame_equal(read.comparisons, made.comparisons)
    assert read.counts is not None
    assert list(read.counts.index) == [*PATHOLOGY9, "Edema Severity"]
    (tmp_path / "out" / "counts.csv").unlink()
    assert tables.read_tables(tmp_path / "out").counts is None


def test_tables_that_are_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no auc.csv. Name a folder that `make tables`"):
        tables.read_tables(tmp_path)
    (tmp_path / "auc.csv").write_text("task,fraction\nedema,1.0\n")
    with pytest.raises(DataError, match=r"lacks the columns \['variant', 'finding', 'auc'"):
        tables.read_tables(tmp_path)


def test_the_paper_is_copied_right() -> None:
    """Its captions give the averages of the tuned variants over both bounds, and their spread."""
    paper = tables_paper.paper_aucs()
    assert len(paper) == 9 * (9 + 3)
    assert set(paper["finding"]) == {*PATHOLOGY9, *EDEMA_TASKS}
    tuned = paper[paper["variant"].str.endswith("-tuned")]
    tuned = tuned.assign(objective=tuned["variant"].str.split("-").str[0])
    found = tuned.groupby(["task", "objective"])["auc"].agg(["mean", lambda auc: auc.std(ddof=0)])
    printed = {
        ("edema", "local"): (0.88, 0.05),
        ("edema", "global"): (0.85, 0.06),
        ("pathology9", "local"): (0.84, 0.05),
        ("pathology9", "global"): (0.81, 0.05),
    }
    for key, numbers in printed.items():
        assert found.loc[key].tolist() == pytest.approx(numbers, abs=0.0051)


def test_a_grid_that_is_not_finished_has_tables_too(write: Write, tmp_path: Path) -> None:
    """Seeds that only one variant has do not enter its test; a variant alone has none."""
    write("edema", "local mine", seed=0)
    assert tables.make_tables(tmp_path, permutations=9).comparisons.empty
    write("edema", "local mine", seed=1)
    write("edema", "", seed=1)
    found = tables.make_tables(tmp_path, permutations=9)
    assert set(found.comparisons["seeds"]) == {1}
    assert set(found.auc["seeds"]) == {1, 2}
    assert found.auc.loc[found.auc["variant"] == "image-only", "auc_sd"].isna().all()


def test_a_folder_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(tmp_path, tmp_path / "tables") == 1
    assert "no finished downstream run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_runs_that_do_not_belong_together(write: Write, tmp_path: Path) -> None:
    write("edema", "local mine", seed=0)
    write("edema", "local mine", seed=1, epochs=7)
    with pytest.raises(DataError, match="differ in epochs"):
        tables.make_tables(tmp_path)


def test_a_seed_that_is_there_twice(write: Write, tmp_path: Path) -> None:
    write("edema", name="one")
    write("edema", name="other")
    with pytest.raises(DataError, match="Two runs of one seed: .*one and .*other"):
        tables.make_tables(tmp_path)


def test_runs_on_other_images(write: Write, tmp_path: Path) -> None:
    write("edema", seed=0)
    path = write("edema", "local mine", seed=1) / PREDICTIONS
    table = pd.read_parquet(path)
    write_table(table.iloc[::-1], path)
    with pytest.raises(DataError, match="tested on other images or labels"):
        tables.make_tables(tmp_path)


def test_a_checkpoint_of_unknown_origin(write: Write, tmp_path: Path) -> None:
    write("edema", "weights without a record")
    with pytest.raises(DataError, match="use a checkpoint of notebook 07"):
        tables.make_tables(tmp_path)


@pytest.mark.parametrize("bound", ["infonce", "mine"])
@pytest.mark.parametrize("objective", ["local", "global"])
def test_the_origin_of_our_checkpoints_is_read(
    build: Callable[..., Pretraining], tmp_path: Path, objective: str, bound: str
) -> None:
    build(objective=objective, bound=bound).save(tmp_path / "checkpoint.pt")
    found = tables_read.ORIGIN.match(str(load_image_encoder(tmp_path / "checkpoint.pt")))
    assert found is not None
    assert found.groups() == (objective, bound)


def test_results_of_other_notebooks_are_passed_over(write: Write, tmp_path: Path) -> None:
    write("edema")
    (tmp_path / "results.json").write_text(json.dumps({"notebook": "07_train_local_mi"}))
    assert len(tables_read.read_runs(tmp_path)) == 1
