import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from labelled_study import labelled_cache
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from localmi.data.batches import epoch_order, normalise
from localmi.data.cache.cache import Cache, build_cache
from localmi.data.sources.pairs import read_pairs
from localmi.downstream import finetuning as downstream
from localmi.downstream import result as downstream_result
from localmi.downstream import tables
from localmi.downstream.config import DownstreamConfig
from localmi.downstream.finetuning import Finetuning, run_downstream
from localmi.downstream.pretrained_encoder import initial_encoder, load_image_encoder
from localmi.downstream.result import DownstreamResult, read_predictions
from localmi.downstream.table_cells import read_runs
from localmi.downstream.tables_text import tables_as_markdown
from localmi.downstream.tasks import CLASSES, labelled_images, mean_auc
from localmi.errors import CheckpointError, ConfigError, StudyLeakError, TrainingError
from localmi.model.image import ResNet256
from localmi.record import MetricsLog
from localmi.train.pretraining import Pretraining

Small = Callable[..., DownstreamConfig]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are tested elsewhere."""
    monkeypatch.setattr(downstream_result, "RESAMPLES", 20)


@pytest.fixture
def cache() -> Cache:
    return labelled_cache()


@pytest.fixture
def init(tmp_path: Path) -> str:
    """A network with statistics that fit the images a little."""
    torch.manual_seed(3)
    network = ResNet256(1)
    with torch.no_grad():
        network(torch.randn(8, 1, 32, 32))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    return str(tmp_path / "model.pt")


@pytest.fixture
def small() -> Small:
    def make(**changes: Any) -> DownstreamConfig:
        few = {
            "image_size": 32,
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 3e-3,
            "precision": "float32",
            "device": "cpu",
        }
        return DownstreamConfig.checked(**(few | changes))

    return make


def training(cache: Cache, config: DownstreamConfig) -> Finetuning:
    return Finetuning(cache, config, labelled_images(cache, config), initial_encoder(config))


def same(one: DownstreamResult, other: DownstreamResult) -> bool:
    return (
        np.array_equal(one.predictions.probabilities, other.predictions.probabilities)
        and one.history == other.history
        and one.chosen == other.chosen
    )


VARIANTS = [{}, {"mode": "tuned"}, {"mode": "frozen"}, {"mode": "probe"}]


@pytest.mark.parametrize("task", ["pathology9", "edema"])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.get("mode", "image"))
def test_every_variant_runs_and_repeats(cache, small, init, task, variant) -> None:
    config = small(task=task, init=init if variant else "", **variant)
    found = run_downstream(cache, config)
    predictions = found.predictions
    in_test = cache.manifest["split"] == "test"
    assert predictions.ids["image_id"].tolist() == cache.manifest["image_id"][in_test].tolist()
    assert predictions.probabilities.shape == (20, 9 if task == "pathology9" else 4)
    assert ((predictions.probabilities >= 0) & (predictions.probabilities <= 1)).all()
    if task == "edema":
        np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1)
    assert same(found, run_downstream(cache, config))
    if variant.get("mode") != "probe":
        assert not same(found, run_downstream(cache, config.model_copy(update={"seed": 1})))


@pytest.mark.parametrize("task", ["pathology9", "chexpert14"])
@pytest.mark.parametrize("mode", ["probe", "frozen"])
def test_images_without_reports_test_an_encoder(small, init, tmp_path, task, mode) -> None:
    """Of a cache of NIH-14, by the command's own way: what it has labels of gets an AUC."""
    findings = ["Cardiomegaly", "Effusion", "Mass", "No Finding"]
    names = [f"{number:08}_000.png" for number in range(120)]
    labels = np.random.default_rng(0).choice(findings, len(names))
    (tmp_path / "images").mkdir()
    for seed, (name, label) in enumerate(zip(names, labels, strict=True)):
        pixels = np.random.default_rng(seed).integers(0, 100, (32, 32), dtype=np.uint8)
        pixels[:16] += np.uint8(100 * (label == "Cardiomegaly"))
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    rows = {"Image Index": names, "Finding Labels": labels, "Patient ID": names}
    table = pd.DataFrame(rows | {"View Position": "PA"})
    table.to_csv(tmp_path / "Data_Entry_2017.csv", index=False)
    (tmp_path / "test_list.txt").write_text("\n".join(names[80:]))
    cache = build_cache(read_pairs(tmp_path), tmp_path / "cache", image_size=32)
    init = "random" if mode == "probe" else init
    config = small(task=task, init=init, mode=mode, label_policy="zeros_blank_zero")
    found = run_downstream(cache, config, tmp_path / "run")
    assert found.predictions.ids["image_id"].tolist() == names[80:]
    known = {"Cardiomegaly", "Pleural Effusion"}
    known |= {"Lung Lesion", "No Finding"} if task == "chexpert14" else set()
    for finding in CLASSES[task]:
        auc = found.metrics[f"auc {finding}"].interval.value
        assert np.isnan(auc) != (finding in known), finding
    assert found.metrics["auc Cardiomegaly"].interval.value > 0.9
    if mode == "probe":
        auc = tables.make_tables(tmp_path).auc
        assert auc["finding"].tolist() == [*CLASSES[task], "mean"]
        assert set(auc.dropna(subset="auc")["finding"]) == {*known, "mean"}


@pytest.mark.parametrize("task", ["pathology9", "edema"])
def test_a_probe_of_random_weights(cache, small, tmp_path, task: str) -> None:
    """The same block of a network that the seed alone decides; nothing of it was trained."""
    config = small(task=task, init="random", mode="probe", frozen_blocks=4)
    found = run_downstream(cache, config, tmp_path)
    assert found.encoder.startswith("random weights: blocks 1 to 4 are loaded")
    run = training(cache, config)
    torch.manual_seed(0)
    expected = ResNet256(1)
    own = run.network.backbone.state_dict()
    for name, weights in expected.state_dict().items():
        if expected.holds(name, 4):
            assert torch.equal(own[name], weights), name
    assert run.features("test").shape == (20, 64 * 2 * 2)
    by_place = run.features("test", grid=4)
    assert by_place.shape == (20, 64 * 4 * 4)
    cells = by_place.reshape(20, 64, 2, 2, 2, 2).mean(axis=(3, 5)).reshape(20, -1)  # 4 of each
    np.testing.assert_allclose(cells, run.features("test", grid=2), atol=1e-12)
    assert not same(found, run_downstream(cache, config.model_copy(update={"seed": 1})))
    (run,) = read_runs(tmp_path)
    assert run.variant == "random-probe"


def test_random_weights_are_for_a_probe_or_frozen() -> None:
    with pytest.raises(ConfigError, match="init='random' is for a probe"):
        DownstreamConfig.checked(init="random")
    with pytest.raises(ConfigError, match="needs init, an encoder pretrained that way"):
        DownstreamConfig.checked(init="random", mode="probe", region_context="region")


@pytest.mark.parametrize("mode", ["tuned", "frozen"])
def test_a_training_equals_one_written_out(
    cache, small, init, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step in training mode with a masked, weighted loss and decay; each look without.

    In float64: Adam makes a whole step of a gradient that is nothing but rounding in float32.
    """
    config = small(init=init, mode=mode, class_weights=True, weight_decay=0.3, frozen_blocks=4)
    monkeypatch.setattr(downstream, "normalise", lambda images: normalise(images).double())
    library, run = (training(cache, config) for _ in range(2))  # the same beginning
    network, part = run.network.double(), run.parts["train"]
    library.network.double()
    found = library.fit(MetricsLog(None))
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    adam = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.3)
    targets, counts = torch.from_numpy(part.targets), torch.from_numpy(part.mask)
    positive = (targets * counts).sum(0)
    weights = (counts.sum(0) - positive) / positive
    by_epoch = []
    for epoch in range(2):
        rng = np.random.default_rng([config.seed, epoch])
        order = epoch_order(len(part), rng, at_once=10**6)
        losses = []
        for index in np.split(order[: len(order) // 16 * 16], len(order) // 16):
            network.train()
            rows = part.rows["index_in_cache"].to_numpy()[index]
            scores = network(normalise(cache.images[rows]).double())
            terms = [
                -targets[image, c] * weights[c] * scores[at, c].sigmoid().log()
                - (1 - targets[image, c]) * (-scores[at, c]).sigmoid().log()
                for at, image in enumerate(index)
                for c in range(9)
                if counts[image, c]
            ]
            loss = torch.stack(terms).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        network.eval()
        looks = {}
        for split in ("validate", "test"):
            rows = run.parts[split].rows["index_in_cache"].to_numpy()
            with torch.no_grad():
                looks[split] = network(normalise(cache.images[rows]).double()).sigmoid().numpy()
        auc = mean_auc("pathology9", run.parts["validate"], looks["validate"])
        by_epoch.append((float(np.mean(losses)), auc, looks["test"]))
    for row, (loss, auc, _) in zip(found.history, by_epoch, strict=True):
        assert row["train_loss"] == pytest.approx(loss, rel=1e-6)
        assert row["validation_auc"] == pytest.approx(auc, abs=1e-9)
    best = by_epoch[int(found.chosen["epoch"]) - 1]
    np.testing.assert_allclose(found.probabilities, best[2], atol=1e-6)


def test_it_learns_what_is_there(cache: Cache, small: Small) -> None:
    config = small(task="edema", epochs=12)
    found = run_downstream(labelled_cache(80), config)
    assert found.metrics["auc 0-1 v 2-3"].interval.value > 0.9
    assert found.metrics["kappa"].interval.value > 0.3
    assert found.history[-1]["train_loss"] < found.history[0]["train_loss"]


# --- Frozen -----------------------------------------------------------------------------------


def test_stored_features_are_what_running_the_frozen_blocks_gives(cache, small, init) -> None:
    """Step for step: the same losses, the same network, the same predictions."""
    config = small(init=init, mode="frozen", epochs=3)
    stored, running = training(cache, config), training(cache, config)
    running._inputs = running._frozen  # type: ignore[method-assign]
    logs = [MetricsLog(None), MetricsLog(None)]
    one, other = (run.fit(log) for run, log in zip((stored, running), logs, strict=True))
    assert set(stored._stored) == {"train", "validate", "test"}
    assert not running._stored
    for row, same_row in zip(*(log.rows for log in logs), strict=True):
        assert row == pytest.approx(same_row, abs=1e-5)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_half_precision_stores_half(cache, small, init) -> None:
    run = training(cache, small(init=init, mode="frozen", precision="bfloat16"))
    found = run.fit(MetricsLog(None))
    assert run._stored["train"].dtype == torch.bfloat16
    assert found.probabilities.dtype == np.float64
    assert np.isfinite(found.probabilities).all()


def test_frozen_blocks_stay_and_tuned_ones_do_not(cache, small, init) -> None:
    before = load_image_encoder(init).weights
    for mode in ("frozen", "tuned"):
        run = training(cache, small(init=init, mode=mode))
        run.fit(MetricsLog(None))
        moved = {
            name.split(".")[0]
            for name, value in run.network.backbone.state_dict().items()
            if name in before and not torch.equal(value, before[name])
        }
        blocks = {"layer6"} if mode == "frozen" else {name.split(".")[0] for name in before}
        assert moved == blocks


def test_blocks_that_were_not_pretrained_are_not_frozen(
    build, small, tiny_cache, tmp_path: Path
) -> None:
    """From pretraining with regions of block 4 that see their cell, on the tiny study itself."""
    pretraining = build(region_context="region", cells_after=2, local_stage=4)
    next(pretraining.run(until=1))
    pretraining.save(tmp_path / "local.pt")
    for mode, context in (("frozen", "image"), ("frozen", "region"), ("probe", "region")):
        config = small(
            init=str(tmp_path / "local.pt"),
            mode=mode,
            region_context=context,
            image_size=64,
            epochs=1,
            batch_size=4,
        )
        found = run_downstream(tiny_cache, config)
        assert "blocks 1 to 4 are loaded; blocks 5, 6 and fc1 start anew" in found.encoder
        assert "blocks 1 to 4 are frozen" in found.encoder
        assert "other data" not in found.encoder


@pytest.mark.parametrize("mode", ["tuned", "frozen"])
def test_augmentation_moves_training_images_alone(cache, small, init, mode: str) -> None:
    config = small(init=init, mode=mode, epochs=1)
    plain, moved = (
        training(cache, config.model_copy(update={"augment": augment}))
        for augment in (False, True)
    )
    index = np.arange(4)
    assert not torch.equal(moved._inputs("train", index, 0), plain._inputs("train", index, 0))
    assert not torch.equal(moved._inputs("train", index, 0), moved._inputs("train", index, 1))
    assert torch.equal(moved._inputs("train", index, 1), moved._inputs("train", index, 1))
    assert torch.equal(moved._inputs("test", index), plain._inputs("test", index))


# --- Other networks ---------------------------------------------------------------------------


def pretrained(build: Callable[..., Pretraining], path: Path, **changes: Any) -> str:
    run = build(**changes)
    list(run.run(until=2))
    run.save(path)
    return str(path)


def variant_in(run_dir: Path) -> tuple[str, str, str]:
    """What the record of a run says for the tables."""
    data = json.loads((run_dir / "results.json").read_text())["data"]
    return data["architecture"], data["objective"], data["bound"]


def test_another_network_goes_on_to_the_tables(build, small, tiny_cache, tmp_path: Path) -> None:
    """Pretrained locally, then tuned, frozen, probed, and beside it image-only of its own kind."""
    init = pretrained(build, tmp_path / "local.pt", image_encoder="resnet18")
    few = {"task": "edema", "image_size": 64, "epochs": 1, "batch_size": 4}
    words = {
        "tuned": "resnet18, local infonce, step 2: blocks 1 to 3 are loaded; blocks 4 and fc1",
        "frozen": "blocks 1 to 3 are frozen",
        "probe": "blocks 1 to 3 are frozen",
    }
    variants = {mode: {"init": init, "mode": mode} for mode in words}
    variants |= {"alone": {"image_encoder": "resnet18"}, "paper": {}}
    for name, changes in variants.items():
        found = run_downstream(tiny_cache, small(**few, **changes), tmp_path / "runs" / name)
        assert words.get(name, "image-only: all blocks") in found.encoder
        assert "other data" not in found.encoder
        assert np.isfinite(found.predictions.probabilities).all()
    assert variant_in(tmp_path / "runs" / "tuned") == ("resnet18", "local", "infonce")
    assert variant_in(tmp_path / "runs" / "alone") == ("resnet18", "", "")

    made = tables.make_tables(tmp_path / "runs", permutations=9)
    own = [f"resnet18 local-infonce-{mode}" for mode in ("frozen", "probe", "tuned")]
    names = ["image-only", "resnet18 image-only", *own]
    assert list(dict.fromkeys(made.auc["variant"])) == names
    tests = made.comparisons
    assert list(dict.fromkeys(zip(tests["a"], tests["b"], strict=True))) == [
        ("resnet18 local-infonce-tuned", "resnet18 image-only"),
        ("resnet18 local-infonce-frozen", "resnet18 image-only"),
    ]
    text = tables_as_markdown(made.auc, tests)
    assert "| resnet18 local-infonce-tuned | resnet18 image-only | " in text


def test_a_vit_goes_on_too(build, small, small_vit, tiny_cache, tmp_path: Path) -> None:
    init = pretrained(build, tmp_path / "local.pt", image_encoder="vit_b_16")
    few = {"image_size": 64, "epochs": 1, "batch_size": 4}
    frozen = {"tuned": "anew", "frozen": "1 to 2 are frozen", "probe": "1 to 3 are frozen"}
    for mode, words in frozen.items():
        found = run_downstream(tiny_cache, small(init=init, mode=mode, **few))
        assert "vit_b_16, local infonce, step 2: blocks 1 to 3 are loaded" in found.encoder
        assert found.encoder.endswith(words)


def test_a_vit_of_another_image_size_is_refused(
    build, small, small_vit, cache, tmp_path: Path
) -> None:
    """Its positions are those of the patches of one size."""
    init = pretrained(build, tmp_path / "local.pt", image_encoder="vit_b_16")
    with pytest.raises((CheckpointError, ConfigError), match="64"):
        run_downstream(cache, small(init=init))


# --- Selection --------------------------------------------------------------------------------


def test_the_best_epoch_of_the_validation_split_predicts(cache, small, monkeypatch) -> None:
    validation = iter([0.6, 0.9, 0.9, 0.7])
    monkeypatch.setattr(downstream, "mean_auc", lambda *_: next(validation))
    run = training(cache, small(epochs=4))
    found = run.fit(MetricsLog(None))
    assert found.chosen == {"epoch": 2}  # the first of equals
    assert found.validation_auc == 0.9
    validation = iter([0.6, 0.9])
    stopped = training(cache, small(epochs=2))
    assert np.array_equal(stopped.fit(MetricsLog(None)).probabilities, found.probabilities)
    assert np.array_equal(run.probabilities("test"), found.probabilities)


def test_the_test_split_has_no_part_in_the_choice(cache, small, monkeypatch) -> None:
    """Neither its labels nor its images; and it is predicted once."""
    asked = []
    predict = Finetuning.probabilities

    def counted(self: Finetuning, split: str) -> np.ndarray:
        asked.append(split)
        return predict(self, split)

    monkeypatch.setattr(Finetuning, "probabilities", counted)
    config = small(task="edema", epochs=3)
    before = run_downstream(cache, config)
    assert asked == ["validate"] * 3 + ["test"]
    table, pixels = cache.manifest.copy(), np.array(cache.images)
    in_test = table["split"] == "test"
    table.loc[in_test, "edema_severity_consensus"] = 3 - table["edema_severity_consensus"]
    relabelled = run_downstream(replace(cache, manifest=table), config)
    assert same(before, relabelled)
    pixels[in_test] = 255 - pixels[in_test]
    other = run_downstream(replace(cache, images=pixels), config)
    assert other.history == before.history
    assert other.chosen == before.chosen
    assert not same(before, other)


def test_an_epoch_is_a_pass_or_so_many_steps(cache, small, monkeypatch) -> None:
    seen: list[np.ndarray] = []
    step = Finetuning._step

    def kept(self: Finetuning, optimiser: Any, index: np.ndarray, number: int) -> float:
        seen.append(index)
        return step(self, optimiser, index, number)

    monkeypatch.setattr(Finetuning, "_step", kept)
    number = len(labelled_images(cache, small())["train"])
    found = run_downstream(cache, small())
    assert len(seen) == 2 * (number // 16)
    first = np.concatenate(seen[: number // 16])
    assert len(set(first)) == len(first)
    assert [row["step"] for row in found.history] == [1, 2]
    seen.clear()
    found = run_downstream(cache, small(fraction=0.1, steps_per_epoch=5))
    assert len(seen) == 10
    assert {len(index) for index in seen} == {4}  # two patients with two images
    assert all(len(set(index)) == len(index) for index in seen)
    assert [row["step"] for row in found.history] == [1, 2]


# --- Metrics and files ------------------------------------------------------------------------


def test_metrics_are_those_of_the_predictions(cache, small) -> None:
    found = run_downstream(cache, small())
    predictions = found.predictions
    for column, name in enumerate(predictions.classes):
        counted = predictions.mask[:, column]
        known = predictions.targets[counted, column], predictions.probabilities[counted, column]
        auc = found.metrics[f"auc {name}"]
        assert auc.interval.value == pytest.approx(roc_auc_score(*known), abs=1e-9)
        assert auc.interval.low <= auc.interval.value <= auc.interval.high
        assert auc.beside == {"chance": 0.5, "images": counted.sum()}
        precision = found.metrics[f"auprc {name}"].interval.value
        assert precision == pytest.approx(average_precision_score(*known), abs=1e-9)
    selected = found.metrics["validation_auc"]
    assert (selected.split, selected.beside) == ("validate", found.chosen)


def test_a_finding_that_the_test_split_lacks_is_reported(cache, small, tmp_path) -> None:
    in_test = cache.manifest["split"] == "test"
    absent = cache.manifest["Pneumonia"].mask(in_test, 0.0)
    lacking = replace(cache, manifest=cache.manifest.assign(Pneumonia=absent))
    for _ in range(2):  # trained, and read
        found = run_downstream(lacking, small(epochs=1), tmp_path / "run")
        assert np.isnan(found.metrics["auc Pneumonia"].interval.value)
        assert np.isfinite(found.metrics["auc mean"].interval.value)
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["metrics"]["auc Pneumonia"]["value"] is None


@pytest.mark.parametrize("mode", ["tuned", "probe"])
@pytest.mark.parametrize("task", ["pathology9", "edema"])
def test_a_finished_run_is_read_and_not_repeated(
    cache, small, init, tmp_path, monkeypatch, task: str, mode: str
) -> None:
    config, run_dir = small(task=task, init=init, mode=mode), tmp_path / "runs" / "1"
    found = run_downstream(cache, config, run_dir)
    names = {"results.json", "predictions.parquet"}
    assert {path.name for path in run_dir.iterdir()} - {"metrics.jsonl"} == names

    def repeat(*_: Any) -> None:
        raise AssertionError("it was repeated")

    with monkeypatch.context() as patch:
        patch.setattr(downstream, "Finetuning", repeat)
        read = run_downstream(cache, config, run_dir)
    assert same(found, read)
    assert read.metrics.keys() == found.metrics.keys()
    assert read.validation_auc == found.validation_auc
    assert (read.encoder, read.seconds) == (found.encoder, found.seconds)
    stored = read_predictions(run_dir / "predictions.parquet")
    assert stored.ids.equals(found.predictions.ids)
    assert stored.classes == found.predictions.classes
    assert np.array_equal(stored.mask, found.predictions.mask)
    counted = stored.mask
    assert np.array_equal(stored.targets[counted], found.predictions.targets[counted])


def test_a_run_that_the_version_before_has_finished_is_read(
    cache, small, init, tmp_path, monkeypatch
) -> None:
    """It knew of no other network, and said what it started from in words alone."""
    config = small(init=init, mode="frozen")
    found = run_downstream(cache, config, tmp_path)
    path = tmp_path / "results.json"
    record = json.loads(path.read_text())
    del record["parameters"]["image_encoder"]
    for name in ("architecture", "objective", "bound"):
        del record["data"][name]
    path.write_text(json.dumps(record))
    monkeypatch.setattr(downstream, "Finetuning", None)
    assert same(found, run_downstream(cache, config, tmp_path))
    other = config.model_copy(update={"image_encoder": "resnet18"})
    with pytest.raises(ConfigError, match="image_encoder: '' then, 'resnet18' now"):
        run_downstream(cache, other, tmp_path)


def test_the_record_says_what_it_was_trained_by(build, small, tiny_cache, tmp_path: Path) -> None:
    init = pretrained(build, tmp_path / "model.pt", objective="global", bound="smile")
    config = small(init=init, mode="frozen", image_size=64, epochs=1, batch_size=4)
    run_downstream(tiny_cache, config, tmp_path / "run")
    assert variant_in(tmp_path / "run") == ("resnet256_6_2_1", "global", "smile")


def test_the_record_of_what_says_nothing_of_its_training(cache, small, init, tmp_path) -> None:
    for name, changes in (("alone", {}), ("tuned", {"init": init})):
        run_downstream(cache, small(epochs=1, **changes), tmp_path / name)
        assert variant_in(tmp_path / name) == ("resnet256_6_2_1", "", "")


def test_a_run_that_was_killed_starts_anew(cache, small, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(downstream, "store_result", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_downstream(cache, small(), tmp_path)
    found = run_downstream(cache, small(), tmp_path)
    assert [row["step"] for row in found.history] == [1, 2]


def test_a_folder_of_another_run_is_refused(cache, small, init, tmp_path) -> None:
    run_dir = tmp_path / "run"
    config = small(init=init, mode="probe")
    run_downstream(cache, config, run_dir)
    with pytest.raises(ConfigError, match="another run:\n  fraction: 1.0 then, 0.5 now\nGive"):
        run_downstream(cache, small(init=init, mode="probe", fraction=0.5), run_dir)
    with pytest.raises(ConfigError, match=r"data: 'ddd.*then, 'eee"):
        run_downstream(replace(cache, data_hash="e" * 64), config, run_dir)
    torch.save(ResNet256(1).state_dict(), init)
    with pytest.raises(ConfigError, match="the file of init: '"):
        run_downstream(cache, config, run_dir)


def test_a_record_says_what_auto_was(cache, small, tmp_path, monkeypatch) -> None:
    config = small(precision="auto", epochs=1)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    expected = {"device": "cpu", "precision": "bfloat16"}
    assert run_downstream(cache, config, tmp_path).computed_in == expected
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["environment"] | expected == record["environment"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # read on another machine
    assert run_downstream(cache, config, tmp_path).computed_in == expected
    del record["environment"]["precision"]  # as earlier versions
    (tmp_path / "results.json").write_text(json.dumps(record))
    assert run_downstream(cache, config, tmp_path).computed_in == {"device": "cpu"}


def test_results_hold_no_ids(cache, small, tmp_path) -> None:
    run_downstream(cache, small(), tmp_path)
    text = (tmp_path / "results.json").read_text() + (tmp_path / "metrics.jsonl").read_text()
    record = json.loads((tmp_path / "results.json").read_text())
    assert not any(word in text for word in ("patient-", "study-", "image-0"))
    assert record["data"]["labelled"]["test"] == {"images": 20, "patients": 10}
    assert record["parameters"]["epochs"] == 2


# --- Errors -----------------------------------------------------------------------------------


def test_what_cannot_be_run_is_said(cache, small, tmp_path) -> None:
    with pytest.raises(ConfigError, match="image_size=64, but the images of made .* at 32"):
        run_downstream(cache, small(image_size=64))
    with pytest.raises(CheckpointError, match="No checkpoint"):
        run_downstream(cache, small(init=str(tmp_path / "none.pt")))
    planted = cache.manifest.copy()
    planted.loc[0, "patient_id"] = "patient-39"
    with pytest.raises(StudyLeakError, match="patient-39"):
        run_downstream(replace(cache, manifest=planted), small(), tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_loss_that_is_no_number_stops_the_run(cache, small) -> None:
    run = training(cache, small())
    torch.nn.init.constant_(run.network.backbone.fc1.bias, float("nan"))
    with pytest.raises(TrainingError, match="loss is nan at step 0. Begin a run anew"):
        run.fit(MetricsLog(None))


def test_weights_that_the_last_step_of_an_epoch_spoilt_are_named(cache, small) -> None:
    """No loss tells of them before the validation scores, which would be no numbers either."""
    run = training(cache, small(steps_per_epoch=1))
    run.network.backbone.fc1.bias.register_hook(lambda gradient: gradient * float("nan"))
    found = r"After step 1 .* in backbone\.fc1\.bias\. Begin a run anew"
    with pytest.raises(TrainingError, match=found):
        run.fit(MetricsLog(None))


def test_class_weights_change_what_is_learnt(cache, small) -> None:
    weighted = training(cache, small(class_weights=True))
    assert weighted.weights is not None
    assert weighted.weights.shape == (9,)
    assert training(cache, small()).weights is None
    plain = run_downstream(cache, small())
    assert not same(plain, run_downstream(cache, small(class_weights=True)))
