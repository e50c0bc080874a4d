import copy
import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.data.batches import SplitData, normalise
from localmi.data.cache.cache import Cache
from localmi.errors import ConfigError, NoNegativesError, StudyLeakError, TrainingError
from localmi.evaluate.held_out import held_out_bound
from localmi.mi.critics import BilinearCritic, ConcatCritic, Critic, SeparableCritic
from localmi.model.alignment import Alignment, GlobalMI, LocalMI
from localmi.model.text import TextEncoder
from localmi.names import Bound
from localmi.train import scoring as scoring_module
from localmi.train.checkpoint import load_checkpoint
from localmi.train.config import TrainConfig
from localmi.train.networks import build_alignment, objective_of
from localmi.train.pretraining import Pretraining

BOUNDS = get_args(Bound)
FREE_CONSTANT = ("infonce", "dv", "tuba")  # the gradient of MINE has a constant in it
REPORTED = {"mine": "dv", "js": "dv"}  # what is reported of the others is their own


# Of scores of about 1 that are summed in another order, over a few steps.
ROUNDING = 128 * torch.finfo(torch.float32).eps


def values(pretraining: Pretraining, until: int | None = None) -> list[float]:
    return [value for _, value in pretraining.run(until)]


def weights(pretraining: Pretraining) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in pretraining.alignment.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


# --- The networks of a configuration ----------------------------------------------------------


def alignment_of(config: TrainConfig) -> Alignment:
    return build_alignment(config, objective_of(config))


def test_the_seed_decides_the_weights(configure) -> None:
    torch.manual_seed(5)
    one = alignment_of(configure(seed=1)).state_dict()
    torch.manual_seed(6)
    again = alignment_of(configure(seed=1)).state_dict()
    other = alignment_of(configure(seed=2)).state_dict()
    assert same(one, again)
    for name in ("critic.mlp.0.weight", "image_encoder.backbone.conv1.weight"):
        assert not torch.equal(one[name], other[name])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("concat", ConcatCritic), ("bilinear", BilinearCritic), ("separable", SeparableCritic)],
)
def test_critics_fit_the_encoders(configure, name: str, kind: type) -> None:
    for objective, dim in (("local", 64), ("global", 768)):
        alignment = alignment_of(configure(critic=name, objective=objective))
        assert isinstance(alignment.critic, kind)
        assert (alignment.critic.dim_x, alignment.critic.dim_y) == (dim, 16)


def test_the_chunk_reaches_the_critic(configure) -> None:
    assert alignment_of(configure(critic_chunk=7)).critic.chunk == 7
    assert alignment_of(configure()).critic.chunk is None


def test_the_objective_is_that_of_the_configuration(configure) -> None:
    hard = {"region_select": "per_pair_max", "winners_only": True}
    assert objective_of(configure(**hard)) == LocalMI("per_pair_max", winners_only=True)
    assert objective_of(configure()) == LocalMI("soft", winners_only=False)
    assert isinstance(objective_of(configure(objective="global")), GlobalMI)


# --- Every objective and bound ----------------------------------------------------------------


@pytest.mark.parametrize("objective", ["local", "global"])
@pytest.mark.parametrize("bound", ["infonce", "mine", "dv"])
def test_every_bound_trains_what_it_should(build, objective: str, bound: str) -> None:
    pretraining = build(objective=objective, bound=bound, text_learning_rate=1e-3, steps=4)
    before = weights(pretraining)
    found = values(pretraining)
    assert len(found) == 4
    assert all(math.isfinite(value) for value in found)
    assert len(set(found)) == 4
    after = weights(pretraining)
    for part in ("image_encoder.backbone.conv1", "text_encoder.bert.embeddings.word", "critic"):
        names = [name for name in before if name.startswith(part)]
        assert names
        still = {name for name in names if torch.equal(before[name], after[name])}
        # What adds the same number to all scores has no gradient in these.
        assert still == ({"critic.mlp.4.bias"} & {*names} if bound in FREE_CONSTANT else set())
    assert all(torch.isfinite(value).all() for value in after.values())


@pytest.mark.parametrize("bound", BOUNDS)
def test_every_bound_is_measured_and_goes_on_from_a_checkpoint(
    build, tiny_cache, tmp_path: Path, bound: str
) -> None:
    data = SplitData(tiny_cache, "validate")
    whole, second = (build(bound=bound) for _ in range(2))
    expected = values(whole, until=3)  # the control has made one of its two steps
    whole.save(str(tmp_path / "checkpoint.pt"))
    expected += values(whole)
    assert all(math.isfinite(value) for value in expected)
    second.load(str(tmp_path / "checkpoint.pt"))
    assert values(second) == expected[3:]
    assert same(weights(whole), weights(second))
    assert same(whole.control.state_dict(), second.control.state_dict())
    one, other = (run.evaluate(data, batch_size=4, rounds=3) for run in (whole, second))
    for reached, again in ((one.held_out, other.held_out), (one.shuffled, other.shuffled)):
        assert reached == again
        assert all(math.isfinite(number) for number in vars(reached.bound).values())


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"critic": "separable"},
        {"critic": "centred", "bound": "mine"},
        {"critic": "bilinear", "direction": "text_to_image"},
        {"region_select": "matched_max", "bound": "dv"},
        {"region_select": "positive_argmax"},
        {"region_select": "attention", "precision": "bfloat16"},
        {"region_select": "attention", "critic": "centred", "bound": "dv"},
        {"region_select": "per_pair_max", "winners_only": True, "sentences": "several"},
        {"objective": "global", "sentences": "several"},
        {"region_context": "region", "local_stage": 3, "text_pooling": "mean"},
    ],
    ids=str,
)
def test_other_choices_train_too(build, changes: dict[str, Any]) -> None:
    pretraining = build(**changes, steps=2)
    before = weights(pretraining)
    assert all(math.isfinite(value) for value in values(pretraining))
    assert not same(before, weights(pretraining))
    own, control = pretraining.score_split(pretraining.train_data)
    assert torch.isfinite(own.scores).all()
    assert torch.isfinite(control.scores).all()


def test_a_test_patient_is_not_trained_on(configure, tiny_cache: Cache) -> None:
    manifest = tiny_cache.manifest.copy()
    manifest.loc[manifest.index[manifest["split"] == "train"][0], "official_split"] = "test"
    with pytest.raises(StudyLeakError, match="Found 1 test patient of a downstream task in train"):
        Pretraining(configure(), replace(tiny_cache, manifest=manifest))


# --- A look at a split ------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::UserWarning")  # a notebook would show it
@pytest.mark.parametrize("bound", BOUNDS)
def test_matched_pairs_are_measured_by_the_critic_shuffled_ones_by_the_control(
    build, tiny_cache, bound: str
) -> None:
    training = build(bound=bound, direction="image_to_text", seed=3)
    values(training, until=2)
    free = bound in ("infonce", "mine", "dv", "js")  # then any constant will do for the control
    assert training.control_estimator.name == ("infonce" if free else bound)
    data = SplitData(tiny_cache, "test")
    found = training.evaluate(data, batch_size=4, rounds=5)
    own, control = training.score_split(data)
    kind = {
        "bound": REPORTED.get(bound, bound),
        "direction": "image_to_text",
        "batch_size": 4,
        "rounds": 5,
        "seed": 3,
    }
    log_a = training.estimator.log_baseline, training.control_estimator.log_baseline
    assert found.held_out == held_out_bound(own, log_baseline=log_a[0], **kind)
    assert found.shuffled == held_out_bound(control, shuffled=True, log_baseline=log_a[1], **kind)
    assert torch.equal(found.scores.scores, own.scores)
    assert math.isinf(found.held_out.cap) == (bound not in ("infonce", "interpolated"))


def test_tuba_takes_its_baselines_from_the_training_batches(build, tiny_cache) -> None:
    """A look at a split does not move them, and that of the control is its own."""
    training = build(bound="tuba")
    assert training.estimator.log_baseline == training.control_estimator.log_baseline == 0
    values(training)
    before = training.estimator.log_baseline, training.control_estimator.log_baseline
    assert before[0] != before[1]
    assert 0 not in before
    training.evaluate(SplitData(tiny_cache, "test"), batch_size=4, rounds=2)
    after = training.estimator.log_baseline, training.control_estimator.log_baseline
    assert after == before


def test_looks_at_a_split_change_nothing(build) -> None:
    """Not the running means of a centred critic, nor those of the control."""
    pretraining = build(critic="centred", bound="mine", steps=4)
    values(pretraining, until=2)
    own, control = copy.deepcopy(weights(pretraining)), pretraining.control.state_dict()
    control = copy.deepcopy(control)
    assert control["mean_x"].abs().sum() > 0
    first = pretraining.score_split(pretraining.train_data)
    again = pretraining.score_split(pretraining.train_data, images_at_once=1)
    assert same(own, weights(pretraining))
    assert same(control, pretraining.control.state_dict())
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=ROUNDING)


def test_mine_begins_as_dv_and_then_remembers(build) -> None:
    dv = values(build(bound="dv", augment=False), until=4)
    assert values(build(bound="mine", mine_decay=0, augment=False), until=4) == pytest.approx(
        dv, abs=ROUNDING
    )
    mine = values(build(bound="mine", mine_decay=0.9, augment=False), until=4)
    assert mine[:2] == pytest.approx(dv[:2], abs=ROUNDING)  # the average starts at the first batch
    assert abs(mine[2] - dv[2]) > 10 * ROUNDING


WORDS = [
    "effusion",
    "large",
    "lung",
    "opacity",
    "normal",
    "tube",
    "heart",
    "left",
    "right",
    "both",
]


@pytest.mark.parametrize("shuffle_pairs", [False, True])
def test_training_finds_what_is_there_and_only_that(build, make_cache, shuffle_pairs) -> None:
    """Ten images, bright in ten places, each with its own word."""
    bright = np.zeros((10, 64, 64), np.uint8)
    for number, image in enumerate(bright):
        image[6 * number : 6 * number + 8, 6 * number : 6 * number + 8] = 255
    made = make_cache(*[(f"study {word}", [word]) for word in WORDS], image_size=64)
    pretraining = build(
        replace(made, images=bright),
        critic="bilinear",
        text_pooling="mean",
        batch_size=10,
        steps=30,
        augment=False,
        shuffle_pairs=shuffle_pairs,
    )
    reached = float(np.mean(values(pretraining)[-6:]))
    if shuffle_pairs:  # other studies in every batch
        assert reached < 0.1
    else:
        assert reached > 0.5 * math.log(10)


# --- The control ------------------------------------------------------------------------------


def test_the_control_critic_leaves_the_rest_alone(build, monkeypatch) -> None:
    with_control = build(text_learning_rate=1e-3)
    begin = copy.deepcopy(with_control.control.state_dict())
    found = values(with_control)
    assert not same(begin, with_control.control.state_dict())
    monkeypatch.setattr(Pretraining, "_control_step", lambda *_: None)
    without = build(text_learning_rate=1e-3)
    assert same(begin, without.control.state_dict())
    assert values(without) == found
    assert same(weights(without), weights(with_control))
    assert same(begin, without.control.state_dict())


def test_the_control_begins_as_the_critic_and_shares_nothing(build) -> None:
    pretraining = build()
    assert same(pretraining.control.state_dict(), pretraining.alignment.critic.state_dict())
    own = {parameter.data_ptr() for parameter in pretraining.control.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in pretraining.alignment.parameters())


@pytest.mark.parametrize("sentences", ["one", "several"])
@pytest.mark.parametrize("bound", ["infonce", "tuba", "demi"])
def test_a_batch_too_small_for_the_control_trains_all_the_same(
    build, bound: str, sentences: str
) -> None:
    """Two studies shuffled leave no third one to compare with."""
    pretraining = build(batch_size=2, bound=bound, sentences=sentences)
    begin = copy.deepcopy(pretraining.control.state_dict())
    assert all(math.isfinite(value) for value in values(pretraining, until=1))
    assert same(begin, pretraining.control.state_dict())


# --- What is kept apart from training ---------------------------------------------------------


def test_scores_of_a_split_equal_a_loop(build, tiny_cache) -> None:
    pretraining = build(text_learning_rate=1e-3)
    values(pretraining, until=2)
    data = SplitData(tiny_cache, "test")
    alignment = copy.deepcopy(pretraining.alignment).eval()
    regions = alignment.image_encoder.regions(
        normalise(data.images(np.arange(len(data))))
    ).detach()
    both = pretraining.score_split(data, images_at_once=4)
    for found, critic in zip(both, (alignment.critic, pretraining.control), strict=True):
        assert found.scores.shape == (len(data), len(data.texts))
        assert found.patient.tolist() == data.manifest["patient_id"].tolist()
        assert found.study.tolist() == data.study.tolist()
        for number, text in enumerate(data.texts):
            feature = alignment.text_encoder(alignment.text_encoder.tokenize([text]))[0]
            for image in range(len(data)):
                alone = [critic.mlp(torch.cat([part, feature])).item() for part in regions[image]]
                assert found.scores[image, number].item() == pytest.approx(
                    max(alone), abs=ROUNDING
                )
                assert alone[found.winners[image, number]] == pytest.approx(
                    max(alone), abs=ROUNDING
                )


def test_attention_is_measured_by_what_was_trained(build, tiny_cache) -> None:
    """Of the same weights: the mean of the hard max, which all others report, and of the attended
    regions; the winners are the same, of the maps as of the attention."""
    run, hard = build(region_select="attention"), build(region_select="soft")
    data = SplitData(tiny_cache, "test")
    pixels, texts = normalise(data.images(np.arange(len(data)))), run.encode_texts(data.texts)
    regions = run.alignment.eval().image_encoder.regions(pixels).detach()
    both = zip(run.score_split(data, images_at_once=4), hard.score_split(data), strict=True)
    for (found, other), critic in zip(both, (run.alignment.critic, run.control), strict=True):
        scores = critic(regions, texts)
        expected = critic.attend(regions, texts, scores, scores.amax(dim=1)).detach()
        torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=ROUNDING)
        assert torch.equal(found.winners, other.winners)
        torch.testing.assert_close(other.scores, scores.amax(dim=1), rtol=1e-4, atol=ROUNDING)
        assert (found.scores - other.scores).abs().max() > 10 * ROUNDING


def test_a_look_never_holds_the_regions_of_a_whole_split(build, monkeypatch) -> None:
    """Scores of 2 images and 3 texts at a time, and the same result."""
    pretraining = build()
    data, critic = pretraining.train_data, pretraining.alignment.critic
    expected = pretraining.score_split(data)
    scored: list[torch.Size] = []
    alive: list[weakref.ref[Tensor]] = []
    held: list[int] = []

    def watched(critic: Critic, images: Tensor, texts: Tensor) -> Tensor:
        held.append(sum(one() is not None for one in alive))
        return reported(critic, images, texts)

    def noted(_: Critic, __: Any, output: Tensor) -> None:
        scored.append(output.shape)
        alive.append(weakref.ref(output))

    reported = pretraining._reported
    monkeypatch.setattr(pretraining, "_reported", watched)
    monkeypatch.setattr(scoring_module, "PAIRS_AT_ONCE", 2 * 16 * 3)
    critic.register_forward_hook(noted)
    found = pretraining.score_split(data, images_at_once=2)
    assert max(shape.numel() for shape in scored) <= 2 * 16 * 3 < 2 * 16 * len(data.texts)
    assert len(held) > len(scored) == len(alive) >= 2 * -(-len(data) // 2) > 4
    assert max(held) == 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=ROUNDING)
        assert torch.equal(one.winners, other.winners)


def test_scores_of_reports_equal_a_loop(build, tiny_cache) -> None:
    pretraining = build(objective="global")
    data = SplitData(tiny_cache, "validate", unit="report")
    found, _ = pretraining.score_split(data, images_at_once=2)
    alignment = pretraining.alignment.eval()
    pooled = alignment.image_encoder.pooled(normalise(data.images(np.arange(len(data)))))
    for image in range(len(data)):
        for number, text in enumerate(data.texts):
            feature = alignment.text_encoder(alignment.text_encoder.tokenize([text]))[0]
            alone = alignment.critic.mlp(torch.cat([pooled[image], feature])).item()
            assert found.scores[image, number].item() == pytest.approx(alone, abs=ROUNDING)
    assert not found.winners.any()


def test_looking_does_not_disturb_training(build, tiny_cache) -> None:
    validate = SplitData(tiny_cache, "validate")
    looked = build(text_learning_rate=1e-3)  # dropout and running statistics are at stake
    for _ in looked.run():
        first, _ = looked.score_split(validate)
        again, _ = looked.score_split(validate, images_at_once=3)
        torch.testing.assert_close(again.scores, first.scores, rtol=1e-4, atol=ROUNDING)
    alone = build(text_learning_rate=1e-3)
    values(alone)
    assert same(weights(looked), weights(alone))


def test_a_frozen_text_encoder_is_as_if_applied_each_time(build) -> None:
    pretraining = build()
    encoder = copy.deepcopy(pretraining.alignment.text_encoder).eval()
    before = copy.deepcopy(encoder.state_dict())
    values(pretraining)
    assert same(before, pretraining.alignment.text_encoder.state_dict())
    with torch.no_grad():
        for number, text in enumerate(pretraining.train_data.texts):
            alone = encoder(encoder.tokenize([text]))[0]
            torch.testing.assert_close(
                pretraining.frozen_texts[number], alone, rtol=1e-4, atol=ROUNDING
            )


def test_a_frozen_text_encoder_is_encoded_once_and_not_saved(build, tmp_path, monkeypatch) -> None:
    pretraining = build()
    texts = pretraining.train_data.texts
    features = pretraining.encode_texts([texts[1], "Something else.", texts[0]])
    encoded: list[int] = []
    encoder = pretraining.alignment.text_encoder
    monkeypatch.setattr(encoder, "forward", lambda tokens: encoded.append(len(tokens.input_ids)))
    again = pretraining.encode_texts([texts[0], "Something else.", texts[1]])
    assert not encoded
    assert torch.equal(again, features.flip(0))
    assert torch.equal(again[0], pretraining.frozen_texts[0])
    for frozen, rate in ((True, 0.0), (False, 1e-4)):
        build(text_learning_rate=rate).save(tmp_path / "checkpoint.pt")
        saved = load_checkpoint(tmp_path / "checkpoint.pt")
        assert ("text_encoder" not in saved) is frozen
        assert {"image_encoder", "critic", "control"} < saved.keys()


def test_the_smallest_crop_reaches_the_augmentation(build) -> None:
    assert build(smallest_crop=0.6).augmentation.crop == 0.6
    assert build(augment=False, smallest_crop=0.6).augmentation is None


def test_the_packaged_text_encoder_frozen_and_trained(build) -> None:
    frozen = build(text_encoder="minilm", steps=2)
    assert frozen.frozen_texts.shape == (len(frozen.train_data.texts), 384)
    assert all(math.isfinite(value) for value in values(frozen))
    trained = build(text_encoder="minilm", steps=2, text_learning_rate=1e-4)
    assert trained.frozen_texts is None
    assert all(math.isfinite(value) for value in values(trained))
    one, other = (run.alignment.text_encoder.state_dict() for run in (frozen, trained))
    assert not same(one, other)


# --- What can go wrong ------------------------------------------------------------------------


def test_a_bound_that_is_no_number_names_the_step(build) -> None:
    pretraining = build()
    values(pretraining, until=2)
    with torch.no_grad():
        pretraining.alignment.critic.mlp[0].weight[0, 0] = float("nan")
    before = pretraining.alignment.image_encoder.backbone.conv1.weight.clone()
    with pytest.raises(TrainingError, match=r"nan at step 2.*anew .* 0\.01\."):
        pretraining.train_step()
    assert torch.equal(before, pretraining.alignment.image_encoder.backbone.conv1.weight)
    assert pretraining.step == 2


@pytest.mark.parametrize("part", ["alignment", "control"])
def test_a_spoilt_network_does_not_take_the_place_of_a_checkpoint(
    build, tmp_path: Path, part: str
) -> None:
    """A step may spoil the weights though its own bound is a number."""
    path = tmp_path / "checkpoint.pt"
    pretraining = build()
    pretraining.save(path)
    before = path.read_bytes()
    values(pretraining, until=1)
    with torch.no_grad():
        next(getattr(pretraining, part).parameters()).view(-1)[0] = float("inf")
    with pytest.raises(TrainingError, match="After step 1 .*not numbers, in .*rate lower"):
        pretraining.save(path)
    assert path.read_bytes() == before


def test_the_texts_of_a_run_that_are_cut_are_known(build) -> None:
    """Whether each has its feature for ever, or the text encoder is trained."""
    words = TextEncoder().tokenizer(build(objective="global").train_data.texts)["input_ids"]
    longest = max(map(len, words))
    assert longest > 8
    for frozen in ({"text_learning_rate": 0.0}, {}):
        found = build(objective="global", max_tokens=8, text_encoder="minilm", **frozen)
        assert found.tokens.cut == sum(len(text) > 8 for text in words)
        assert build(objective="global", text_encoder="minilm", **frozen).tokens.cut == 0


# --- Batches with nothing to compare ------------------------------------------------------------

NORMAL = "Normal."
BY_BOUND = [{}, {"bound": "dv"}, {"bound": "mine"}, {"bound": "tuba"}, {"bound": "interpolated"}]


@pytest.mark.parametrize("texts", [["One.", "Two."], [NORMAL]])
def test_data_without_anything_to_tell_apart_are_refused(build, make_cache, texts) -> None:
    """One study; or many that all read the same."""
    names = "a" if len(texts) > 1 else "abcd"
    cache = make_cache(*[(name, texts, 4) for name in names], image_size=64)
    with pytest.raises(TrainingError, match="nothing to tell apart. Give it more of both"):
        build(cache, batch_size=3)


@pytest.mark.parametrize("changes", [*BY_BOUND, {"objective": "global"}, {"shuffle_pairs": True}])
def test_a_batch_that_reads_the_same_everywhere_is_skipped(build, make_cache, changes) -> None:
    """Nothing of the run changes but its step; with the next one it goes on."""
    studies = [(name, [NORMAL], 2) for name in "abcd"]
    studies += [("e", ["Effusion."], 2), ("f", ["Cyst."], 2)]
    cache = make_cache(*studies, image_size=64)
    run = build(cache, batch_size=4, same_text_is_mismatch=False, sentences="all", **changes)
    rng = np.random.default_rng(0)
    same = run.train_data.batch(np.arange(4), rng, every=True)
    one_study = run.train_data.batch(np.array([0, 1]), rng, every=True)
    differs = run.train_data.batch(np.array([0, 2, 8, 10]), rng, every=True)
    for batch in (same, one_study, same):
        before = copy.deepcopy([part.state_dict() for part in stateful(run)])
        step = run.step
        assert math.isnan(run.train_step(batch))
        assert run.step == step + 1
        after = [part.state_dict() for part in stateful(run)]
        torch.testing.assert_close(after, before, rtol=0, atol=0)
        assert math.isfinite(run.train_step(differs))


def stateful(run: Pretraining) -> list[Any]:
    """What training changes, the running statistics of BatchNorm apart."""
    networks = [run.alignment.critic, run.control]
    return [*networks, run.image_optimiser.optimiser, run.estimator, run.control_estimator]


@pytest.mark.parametrize("changes", [{}, {"text_learning_rate": 1e-3}, {"sentences": "several"}])
def test_shuffled_pairs_of_one_study_are_skipped(build, make_cache, changes) -> None:
    cache = make_cache(("a", ["One."], 4), ("b", ["Two."], 4), image_size=64)
    run = build(cache, batch_size=4, shuffle_pairs=True, **changes)
    assert math.isnan(run.train_step(run.train_data.batch(np.arange(4), np.random.default_rng(0))))


def test_a_batch_of_one_study_has_no_sets_to_compare(build, make_cache) -> None:
    """And shuffled, none at all."""
    cache = make_cache(("a", ["One.", "Two."], 4), ("b", ["Two."], 4), image_size=64)
    run = build(cache, batch_size=4, sentences="several", same_text_is_mismatch=True)
    batch = run.train_data.batch(np.array([0, 1]), np.random.default_rng(0), several=2)
    assert math.isnan(run.train_step(batch))
    assert len(batch.shuffled()[0].in_sets().text) == 0


def test_texts_of_which_some_have_nothing_to_compare_with(build, make_cache) -> None:
    """Study a says what b says, and more: b's sentence finds no other; a's second one does."""
    cache = make_cache(
        ("a", [NORMAL, "Nodule."]), ("b", [NORMAL]), ("c", ["Cyst."]), image_size=64
    )
    changes = {"same_text_is_mismatch": False, "sentences": "all", "batch_size": 2}
    run = build(cache, direction="image_to_text", **changes)
    batch = run.train_data.batch(np.array([0, 1]), np.random.default_rng(0), every=True)
    assert math.isnan(run.train_step(batch))
    assert math.isfinite(build(cache, bound="dv", **changes).train_step(batch))


def test_a_batch_is_no_less_for_texts_that_may_be_compared_all_the_same(build, make_cache) -> None:
    studies = [(name, [NORMAL]) for name in "abc"] + [("d", ["Effusion."])]
    cache = make_cache(*studies, image_size=64)
    run = build(cache, batch_size=3, same_text_is_mismatch=True)
    batch = run.train_data.batch(np.arange(3), np.random.default_rng(0))
    assert math.isfinite(run.train_step(batch))


def test_a_look_at_a_split_whose_batches_are_of_one_study(build, make_cache) -> None:
    """Followed, the advice helps: a batch of all images has the other studies."""
    looked = build()
    cache = make_cache(
        *[(name, [f"Text {name}."], images, "test") for name, images in (("a", 9), ("b", 1))],
        ("c", ["Text c."], 1, "test"),
        image_size=64,
    )
    test = SplitData(cache, "test")
    with pytest.raises(NoNegativesError, match="Split 'test': .* larger batches.*batch_size"):
        looked.evaluate(test, batch_size=2)
    assert math.isfinite(looked.evaluate(test, batch_size=11).held_out.bound.value)


def test_more_images_in_a_batch_than_there_are(build) -> None:
    with pytest.raises(TrainingError, match="batch_size=500, but split 'train' has"):
        build(batch_size=500).train_step()


def test_a_cache_of_another_image_size(build) -> None:
    with pytest.raises(ConfigError, match="image_size=128, but .* 64"):
        build(image_size=128)
