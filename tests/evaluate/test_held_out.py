import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.errors import ConfigError, NoNegativesError
from localmi.evaluate.held_out import SplitScores, best_region, held_out_bound
from localmi.mi.bounds import dv, dv_terms, infonce, infonce_terms

SYMBOLS = 4
NOISE = 0.3  # how often the text says another symbol than the image shows
JOINT = np.full((SYMBOLS, SYMBOLS), NOISE / (SYMBOLS * (SYMBOLS - 1)))
np.fill_diagonal(JOINT, (1 - NOISE) / SYMBOLS)
RATIO = np.log(JOINT * SYMBOLS**2)  # log p(x, y) / p(x) p(y): the critic that cannot be bettered
MI = float((JOINT * RATIO).sum())  # .446 nats


def split_of(
    scores: Tensor, text_ids: Sequence[Sequence[int]], study: Sequence[int] | None = None
) -> SplitScores:
    """Scores of images, by default each of its own study and patient."""
    numbers = np.arange(len(scores)) if study is None else np.array(study)
    return SplitScores(
        scores=scores,
        winners=torch.zeros(scores.shape, dtype=torch.int64),
        study=numbers,
        patient=numbers,
        text_ids=[np.array(texts) for texts in text_ids],
    )


def oracle(count: int, seed: int = 0) -> SplitScores:
    """Images that show one of four symbols, texts that say it with noise, and the oracle."""
    rng = np.random.default_rng(seed)
    shown = rng.integers(SYMBOLS, size=count)
    wrong = (shown + rng.integers(1, SYMBOLS, size=count)) % SYMBOLS
    said = np.where(rng.random(count) < NOISE, wrong, shown)
    return split_of(torch.from_numpy(RATIO[shown]).float(), said[:, None].tolist())


def test_the_best_region_of_each_image_and_text_gives_the_score() -> None:
    scores = torch.tensor(
        [[[1.0, 5.0], [2.0, 4.0], [0.0, 3.0]], [[-1.0, 0.0], [-3.0, 1.0], [-2, 2]]]
    )
    best, winners = best_region(scores)
    assert best.tolist() == [[2, 5], [-1, 2]]
    assert winners.tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize("bound", ["infonce", "dv"])
def test_the_oracle_reaches_the_truth(bound: str) -> None:
    found = held_out_bound(oracle(4000), bound=bound, batch_size=400, rounds=12)
    assert found.bound.value == pytest.approx(MI, abs=0.05)  # sd .015
    assert found.bound.low < MI < found.bound.high
    assert 0.03 < found.bound.high - found.bound.low < 0.1


@pytest.mark.parametrize("bound", ["infonce", "dv"])
def test_the_interval_covers_the_truth_as_often_as_it_says(bound: str) -> None:
    covered, values = 0, []
    for seed in range(24):
        found = held_out_bound(oracle(200, seed), bound=bound, rounds=5, seed=seed).bound
        covered += found.low <= MI <= found.high
        values.append(found.value)
    assert covered >= 20  # 23 expected of 24
    width = (found.high - found.low) / (2 * 1.96)
    assert 0.6 < width / np.std(values) < 1.6


def test_of_several_sentences_the_scores_are_added_up() -> None:
    """Independent symbols, a sentence of each: their nats add up to what the truth has of both."""
    first, second = oracle(4000), oracle(4000, seed=1)
    texts = [(a[0], SYMBOLS + b[0]) for a, b in zip(first.text_ids, second.text_ids, strict=True)]
    both = split_of(torch.cat([first.scores, second.scores], dim=1), texts)
    how = {"bound": "infonce", "batch_size": 400, "rounds": 12}
    found = held_out_bound(both, sentences=2, **how).bound
    assert found.value == pytest.approx(2 * MI, abs=0.08)
    assert held_out_bound(both, sentences=9, **how).bound == found  # there are no more
    control = held_out_bound(both, sentences=2, shuffled=True, **how).bound
    assert control.value < 0
    nothing = split_of(torch.zeros_like(both.scores), texts)
    assert held_out_bound(nothing, sentences=2, shuffled=True, **how).bound.value == 0


@pytest.mark.parametrize("direction", ["image_to_text", "text_to_image", "symmetric"])
@pytest.mark.parametrize("batch_size", [10, 32])
def test_infonce_never_exceeds_its_cap(direction: str, batch_size: int) -> None:
    """A critic that is always right, and a study whose eight images are no mismatched pairs."""
    study = np.concatenate([np.zeros(8, int), np.arange(1, 25)])
    right = torch.from_numpy(study)[:, None] == torch.arange(25)
    split = split_of(torch.where(right, 50.0, -50.0), [[number] for number in range(25)], study)
    rounding = 4 * torch.finfo(torch.float32).eps * 50
    for seed in range(10):
        found = held_out_bound(
            split, batch_size=batch_size, rounds=3, seed=seed, direction=direction
        )
        assert found.bound.value <= found.cap + rounding
        assert found.bound.value == pytest.approx(found.cap, abs=rounding)
        assert found.cap < math.log(batch_size)


def test_the_cap_is_the_log_of_the_batch_where_all_are_strangers() -> None:
    found = held_out_bound(oracle(50), batch_size=20, rounds=5)
    assert found.cap == pytest.approx(math.log(20))
    assert (found.batch_size, found.rounds) == (20, 5)
    assert held_out_bound(oracle(50), batch_size=500, rounds=2).batch_size == 50
    assert held_out_bound(oracle(50), bound="dv", rounds=2).cap == math.inf


@pytest.mark.parametrize("bound", ["infonce", "dv"])
def test_shuffled_is_zero_where_nothing_was_learned_and_below_where_something_was(bound) -> None:
    informed = oracle(500)
    constant = split_of(torch.full_like(informed.scores, 7.0), informed.text_ids)
    found = held_out_bound(constant, bound=bound, shuffled=True, rounds=10).bound
    for value in (found.value, found.low, found.high):
        assert value == pytest.approx(0, abs=1e-5)
    found = held_out_bound(informed, bound=bound, shuffled=True, rounds=10).bound
    assert found.high < -0.2
    # The mean log-ratio of independent pairs, less log E[e^f] = 0: minus KL(p(x)p(y) | p(x,y)).
    assert found.value == pytest.approx(RATIO.mean(), abs=0.06)


def test_it_equals_a_loop() -> None:
    """One round of all images: every term, the mean, the cap, by hand."""
    torch.manual_seed(0)
    study = [0, 0, 1, 2, 3]
    texts = [[2], [0], [2], [1]]  # studies 0 and 2 say the same
    split = split_of(torch.randn(5, 3), texts, study)
    own = [texts[number][0] for number in study]
    terms, caps = [], []
    for i in range(5):
        mismatched = [j for j in range(5) if study[j] != study[i]]
        rows = [split.scores[i, own[j]].item() for j in [i, *mismatched]]
        columns = [split.scores[j, own[i]].item() for j in [i, *mismatched]]
        for choice in (rows, columns):
            log_sum = math.log(sum(math.exp(score) for score in choice))
            terms.append(choice[0] - log_sum + math.log(len(choice)))
            caps.append(math.log(len(choice)))
    found = held_out_bound(split, rounds=1)
    rounding = 16 * torch.finfo(torch.float32).eps * split.scores.abs().max().item()
    assert found.bound.value == pytest.approx(np.mean(terms), abs=rounding)
    assert found.cap == pytest.approx(np.mean(caps), abs=4 * torch.finfo(torch.float32).eps * 50)


def test_dv_equals_a_loop() -> None:
    torch.manual_seed(0)
    study = [0, 0, 1, 2]
    split = split_of(torch.randn(4, 3), [[0], [1], [2]], study)
    matched = [split.scores[i, study[i]].item() for i in range(4)]
    mismatched = [
        math.exp(split.scores[i, study[j]].item())
        for i in range(4)
        for j in range(4)
        if study[i] != study[j]
    ]
    found = held_out_bound(split, bound="dv", rounds=1)
    rounding = 16 * torch.finfo(torch.float32).eps * split.scores.abs().max().item()
    wanted = np.mean(matched) - math.log(np.mean(mismatched))
    assert found.bound.value == pytest.approx(wanted, abs=rounding)


def test_the_texts_belong_to_the_study_of_the_image() -> None:
    """Own texts score 5, all others -5: one foreign text would cost 10 nats."""
    study = [0, 0, 1, 2, 3, 4]
    texts = [[0, 5], [1], [2, 6, 7], [3], [4]]
    scores = torch.full((6, 8), -5.0)
    for image, number in enumerate(study):
        scores[image, texts[number]] = 5.0
    found = held_out_bound(split_of(scores, texts, study), batch_size=5, rounds=200).bound
    assert found.value > 1.3
    wrong = [texts[(number + 1) % 5] for number in range(5)]
    assert held_out_bound(split_of(scores, wrong, study), batch_size=5).bound.value < -5


def test_every_text_of_a_study_is_drawn() -> None:
    """Study 0 has one text that fits and one that does not: its term lies in between."""
    scores = torch.tensor([[4.0, -4.0, 0.0], [0.0, 0.0, 4.0]])
    both = held_out_bound(split_of(scores, [[0, 1], [2]]), rounds=200).bound
    good = held_out_bound(split_of(scores, [[0], [2]]), rounds=1).bound
    bad = held_out_bound(split_of(scores, [[1], [2]]), rounds=1).bound
    assert both.value == pytest.approx((good.value + bad.value) / 2, abs=0.3)


def test_the_seed_decides() -> None:
    split = oracle(100)
    one, same, other = (held_out_bound(split, batch_size=20, rounds=3, seed=s) for s in (0, 0, 1))
    assert one == same
    assert one.bound != other.bound


def test_patients_not_images_are_resampled() -> None:
    """Ten images of each patient that are all alike make the interval wider, not narrower."""
    alone = oracle(40)
    tenfold = SplitScores(
        scores=alone.scores.repeat_interleave(10, 0),
        winners=alone.winners.repeat_interleave(10, 0),
        study=np.arange(400),
        patient=alone.patient.repeat(10),
        text_ids=[texts for texts in alone.text_ids for _ in range(10)],
    )
    by_image = SplitScores(**{**vars(tenfold), "patient": np.arange(400)})
    first, second = (held_out_bound(s, rounds=20).bound for s in (tenfold, by_image))
    assert first.high - first.low > 2 * (second.high - second.low)


@pytest.mark.parametrize("direction", ["image_to_text", "text_to_image", "symmetric"])
def test_terms_have_the_bound_as_their_mean(direction) -> None:
    torch.manual_seed(1)
    scores = 3 * torch.randn(7, 7, dtype=torch.float64)
    study = torch.tensor([0, 0, 1, 2, 3, 4, 4])
    allowed = study[:, None] != study[None, :]
    terms = infonce_terms(scores, allowed, direction)
    torch.testing.assert_close(terms.mean(), infonce(scores, allowed, direction))
    torch.testing.assert_close(dv_terms(scores, allowed).mean(), dv(scores, allowed))
    torch.testing.assert_close(dv_terms(scores).mean(), dv(scores))


def test_the_terms_of_dv_are_its_influence() -> None:
    """The delta method: leaving pair i out changes DV as its term says, to first order."""
    torch.manual_seed(1)
    number = 400
    scores = torch.randn(number, number, dtype=torch.float64)
    terms, whole = dv_terms(scores), dv(scores)
    for i in range(0, number, 40):
        keep = torch.arange(number) != i
        without = dv(scores[keep][:, keep])
        assert (whole - without) * (number - 1) == pytest.approx(float(terms[i] - whole), abs=0.02)


def test_shuffled_pairs_are_never_true_ones() -> None:
    """Three images a study and scores that know the study: a true pair would be worth nats."""
    study = np.repeat(np.arange(6), 3)
    knows = torch.full((18, 6), -50.0)
    knows[np.arange(18), study] = 0.0
    split = split_of(knows, [[number] for number in range(6)], list(study))
    assert held_out_bound(split, batch_size=9).bound.value > 1.0
    shuffled = held_out_bound(split, batch_size=9, shuffled=True)
    assert shuffled.bound.value == pytest.approx(0, abs=1e-5)


def mostly_one_study() -> SplitScores:
    """Six of nine images are of one study: not all of them can have the text of another."""
    study = [0] * 6 + [1, 2, 3]
    knows = torch.where(torch.tensor(study)[:, None] == torch.arange(4), 0.0, -50.0)
    return split_of(knows, [[number] for number in range(4)], study)


def test_images_that_no_other_text_is_left_for_do_not_count_as_shuffled() -> None:
    found = held_out_bound(mostly_one_study(), shuffled=True).bound
    assert found.value == pytest.approx(0, abs=1e-5)


def test_the_cap_is_that_of_the_direction() -> None:
    """What is left to compare with differs by row and column where pairs are left out."""
    along_rows, along_columns, both = (
        held_out_bound(mostly_one_study(), shuffled=True, direction=direction).cap
        for direction in ("image_to_text", "text_to_image", "symmetric")
    )
    assert abs(along_rows - along_columns) > 0.01
    assert both == pytest.approx((along_rows + along_columns) / 2)


def test_batches_that_cannot_be() -> None:
    with pytest.raises(NoNegativesError, match="at least two studies"):
        held_out_bound(split_of(torch.zeros(3, 1), [[0]], [0, 0, 0]))
    with pytest.raises(NoNegativesError):
        held_out_bound(split_of(torch.zeros(3, 3), [[0], [1], [2]]), batch_size=1)
    with pytest.raises(ConfigError, match="Unknown direction 'down'"):
        held_out_bound(oracle(5), direction="down")
