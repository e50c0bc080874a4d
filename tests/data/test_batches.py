import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.data import batches
from localmi.data.batches import (
    Batch,
    SplitData,
    TrainingBatches,
    epoch_order,
    normalise,
)
from localmi.data.cache.cache import Cache
from localmi.errors import DataError, TrainingError
from localmi.mi.scores import may_mismatch

SEVEN = [(f"study {number}", [f"Sentence of {number}."]) for number in range(7)]


def grey_levels(images: Tensor) -> list[int]:
    """Which images of a made cache these are."""
    return images[:, 0, 0, 0].tolist()


def assert_equal(one: Batch, other: Batch) -> None:
    for name, value in vars(one).items():
        assert torch.equal(value, vars(other)[name]), name


def test_equalised_pixels_get_zero_mean_and_unit_spread() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, axis=0)
    images = normalise(ramp)
    assert images.shape == (3, 1, 16, 16)
    assert images.dtype == torch.float32
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std().item() == pytest.approx(1, abs=0.01)
    assert images[0, 0, 0, 0] < images[0, 0, -1, -1]
    assert torch.equal(normalise(torch.from_numpy(ramp)[:, None]), images)


def test_pixels_are_normalised_once() -> None:
    with pytest.raises(DataError, match="torch.float32, not uint8. Are they normalised already"):
        normalise(normalise(np.zeros((1, 4, 4), np.uint8)))


def test_an_epoch_uses_no_image_twice_and_every_epoch_has_its_order(make_cache) -> None:
    found = TrainingBatches(SplitData(make_cache(*SEVEN), "train"), size=3, seed=0)
    epochs = []
    for epoch in range(12):
        steps = (2 * epoch, 2 * epoch + 1)  # 7 images, 3 a batch: 2 batches an epoch
        epochs.append([level for step in steps for level in grey_levels(found[step].images)])
    assert all(len(set(levels)) == 6 for levels in epochs)
    assert len({tuple(levels) for levels in epochs}) == 12
    assert {level for levels in epochs for level in levels} == set(range(7))


def test_a_batch_depends_on_data_seed_and_step_alone(tiny_cache) -> None:
    def batch(step: int, seed: int = 3) -> Batch:
        return TrainingBatches(SplitData(tiny_cache, "train"), size=4, seed=seed)[step]

    np.random.seed(0)
    torch.manual_seed(0)
    forwards = [batch(step) for step in range(6)]
    np.random.seed(1)
    torch.manual_seed(1)
    for step in (5, 0, 3):
        assert_equal(batch(step), forwards[step])
    assert not torch.equal(batch(0, seed=4).images, forwards[0].images)


def test_steps_are_the_batches_and_draw_nothing_from_torch(tiny_cache) -> None:
    made = TrainingBatches(SplitData(tiny_cache, "train"), size=3, seed=0, every=True)
    state = torch.get_rng_state()
    found = list(made.steps(2, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(found) == 4
    for step, batch in enumerate(found, start=2):
        assert_equal(batch, made[step])
    assert list(made.steps(6, 6)) == []


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(tiny_cache) -> None:
    made = TrainingBatches(SplitData(tiny_cache, "train"), size=3, seed=0, every=True)
    alone, together = list(made.steps(1, 7)), list(made.steps(1, 7, workers=2))
    assert len(together) == 6
    for one, other in zip(alone, together, strict=True):
        assert_equal(one, other)


def test_files_are_opened_anew_and_not_sent(tiny_cache: Cache) -> None:
    made = TrainingBatches(SplitData(tiny_cache, "train"), size=3, seed=0)
    sent = pickle.dumps(made)
    assert len(sent) < tiny_cache.images[:].nbytes
    assert_equal(pickle.loads(sent)[5], made[5])
    assert len(made.data.images(np.arange(2))) == 2  # what was sent is still whole here


# --- The order of an epoch --------------------------------------------------------------------


def order(number: int, seed: int = 0, **how: int) -> list[int]:
    return epoch_order(number, np.random.default_rng(seed), **how).tolist()


def test_what_fits_one_group_is_simply_shuffled() -> None:
    for number in (1, 50, 100):
        plain = np.random.default_rng(7).permutation(number).tolist()
        assert order(number, 7, at_once=100, block=10) == plain
    assert (
        order(101, 7, at_once=100, block=10) != np.random.default_rng(7).permutation(101).tolist()
    )


@pytest.mark.parametrize("number", [101, 950, 1000, 1003])
@pytest.mark.parametrize(("at_once", "block"), [(100, 10), (95, 10), (5, 10), (30, 30), (1, 1)])
def test_an_epoch_is_every_image_once(number: int, at_once: int, block: int) -> None:
    found = order(number, at_once=at_once, block=block)
    assert sorted(found) == list(range(number))
    assert found == order(number, at_once=at_once, block=block)
    assert found != order(number, 1, at_once=at_once, block=block) or (number, at_once) == (101, 1)


def test_a_group_reads_from_few_blocks_in_random_order() -> None:
    found = np.array(order(1000, at_once=100, block=10)).reshape(10, 100)
    for group in found:
        blocks = np.unique(group // 10)
        assert len(blocks) == 10  # each of them whole
        assert np.ptp(blocks) > 30  # and from anywhere
        assert (np.diff(group) == 1).sum() < 10  # images of different blocks are mixed
    assert (
        found.tolist() != np.array(order(1000, 1, at_once=100, block=10)).reshape(10, 100).tolist()
    )


def test_training_reads_in_groups_where_the_data_are_large(make_cache, monkeypatch) -> None:
    cache = make_cache(*[(f"study {number}", [f"Text {number}."]) for number in range(64)])
    made = TrainingBatches(SplitData(cache, "train"), size=16, seed=0)
    simple = [grey_levels(made[step].images) for step in range(4)]
    monkeypatch.setattr(batches, "GROUP_BYTES", 16 * 8 * 8)
    monkeypatch.setattr(epoch_order, "__kwdefaults__", {"block": 4})
    made = TrainingBatches(SplitData(cache, "train"), size=16, seed=0)
    grouped = [grey_levels(made[step].images) for step in range(4)]
    for found in (simple, grouped):
        assert sorted(level for levels in found for level in levels) == list(range(64))
    assert all(len({level // 4 for level in levels}) == 4 for levels in grouped)
    assert not all(len({level // 4 for level in levels}) == 4 for levels in simple)


# --- Images and their texts -------------------------------------------------------------------


def test_two_epochs_of_one_image_order_draw_other_sentences(make_cache) -> None:
    data = SplitData(make_cache(("a", ["A.", "B.", "C."]), ("b", ["D.", "E.", "F."])), "train")
    made = TrainingBatches(data, size=2, seed=0)
    drawn: Counter[str] = Counter()
    for step in range(300):
        batch = made[step]
        assert batch.owner.tolist() == [0, 1]
        drawn.update(data.texts[text] for text in batch.text)
    assert set(drawn) == {"A.", "B.", "C.", "D.", "E.", "F."}
    assert all(70 < count < 130 for count in drawn.values())  # 100 expected, sd 8


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("split", ["train", "validate", "test"])
def test_each_text_belongs_to_the_study_of_its_image(tiny_cache, split: str, every: bool) -> None:
    data = SplitData(tiny_cache, split)
    index = np.arange(len(data))[::-1].copy()
    batch = data.batch(index, np.random.default_rng(0), every=every)
    assert set(batch.owner.tolist()) == set(range(len(data)))
    sentences = tiny_cache.sentences.groupby("study_id")["text"].agg(set)
    texts = zip(batch.owner.tolist(), batch.text.tolist(), batch.text_study.tolist(), strict=True)
    for owner, text, text_study in texts:
        study = data.manifest["study_id"][int(index[owner])]
        assert data.texts[text] in sentences[study]
        assert data.study_ids[text_study] == study
        assert text_study == batch.image_study[owner]


@pytest.mark.parametrize("split", ["train", "validate", "test"])
def test_the_images_are_those_of_the_manifest(tiny_cache, split: str) -> None:
    data = SplitData(tiny_cache, split)
    assert set(data.manifest["split"]) == {split}
    position = {name: row for row, name in enumerate(tiny_cache.manifest["image_id"])}
    for row, name in enumerate(data.manifest["image_id"]):
        found = data.images(np.array([row]))
        assert found.shape == (1, 1, 64, 64)
        assert np.array_equal(found[0, 0], tiny_cache.images[position[name]])


def test_all_sentences_come_with_their_owners(make_cache) -> None:
    cache = make_cache(
        ("a", ["One.", "Two.", "Three."]), ("b", ["Two."]), ("c", ["Four.", "One."])
    )
    data = SplitData(cache, "train")
    batch = data.batch(np.array([2, 0, 1]), np.random.default_rng(0), every=True)
    assert batch.images.shape == (3, 1, 8, 8)
    assert batch.images.dtype == torch.uint8
    assert batch.owner.tolist() == [0, 0, 1, 1, 1, 2]
    texts = [data.texts[text] for text in batch.text]
    assert texts == ["Four.", "One.", "One.", "Two.", "Three.", "Two."]
    assert batch.text[1] == batch.text[2]  # one text, of two studies
    assert batch.text_study.tolist() == [2, 2, 0, 0, 0, 1]


def test_several_sentences_are_drawn_once_each(make_cache) -> None:
    """As many as are asked for, or as there are; one is drawn as it always was."""
    reports = [[f"Sentence {k} of {n}." for k in range(n)] for n in (1, 2, 5)]
    data = SplitData(make_cache(*[(str(len(r)), r, 2) for r in reports]), "train")
    index, seen = np.arange(len(data)), Counter()
    for seed in range(200):
        batch = data.batch(index, np.random.default_rng(seed), several=3)
        assert np.bincount(batch.owner).tolist() == [1, 1, 2, 2, 3, 3]
        for image in range(len(data)):
            texts = batch.text[batch.owner == image].tolist()
            assert len(set(texts)) == len(texts)
            assert set(texts) <= set(data.text_ids[data.study[image]].tolist())
        seen.update(batch.text[batch.owner >= 4].tolist())
        one, other = (
            data.batch(index, np.random.default_rng(seed), **how) for how in ({}, {"several": 1})
        )
        assert_equal(one, other)
    assert len(seen) == 5
    assert all(180 < count < 300 for count in seen.values())  # 240 expected, sd 10
    drawn = TrainingBatches(data, size=6, seed=0, several=3)[0]
    assert len(drawn.text) == 12


def test_a_set_of_sentences_is_one_text(make_cache) -> None:
    texts = ["One.", "Two."]
    cache = make_cache(
        ("a", texts, 2), ("b", texts[::-1]), ("c", ["Two."]), ("d", ["Two.", "Six."])
    )
    data = SplitData(cache, "train")
    batch = data.batch(np.arange(5), np.random.default_rng(0), several=2)
    sets = batch.in_sets()
    assert sets.owner.tolist() == [0, 1, 2, 3, 4]
    assert sets.text_study.tolist() == data.study.tolist()
    assert sets.text[:3].tolist() == [sets.text[0]] * 3  # whatever the order of the draw
    assert len(set(sets.text[2:].tolist())) == 3  # part of another set is another set
    allowed = may_mismatch(sets.image_study, sets.text_study, sets.text)
    assert not allowed[:3, :3].any()
    assert allowed[3:, :3].all()
    assert may_mismatch(sets.image_study, sets.text_study, sets.text, same_text=True)[2, 0]
    moved, kept = batch.shuffled()
    apart = moved.in_sets()
    assert kept.all()
    assert sorted(apart.owner.tolist()) == [0, 1, 2, 3, 4]
    assert (apart.image_study[apart.owner] != apart.text_study).all()
    assert apart.text.tolist() == sets.text.tolist()


def test_a_report_is_one_text(make_cache) -> None:
    cache = make_cache(("a", ["One.", "Two."]), ("b", ["Three."]))
    data = SplitData(cache, "train", unit="report")
    batch = TrainingBatches(data, size=2, seed=0)[0]
    by_image = dict(zip(grey_levels(batch.images), batch.text.tolist(), strict=True))
    assert [data.texts[by_image[level]] for level in (0, 1)] == ["One. Two.", "Three."]


def test_images_of_one_study_share_its_number_and_its_sentences(make_cache) -> None:
    cache = make_cache(("a", ["One."], 2), ("b", ["Two."], 3))
    data = SplitData(cache, "train")
    batch = data.batch(np.arange(5), np.random.default_rng(0))
    assert batch.image_study.tolist() == [0, 0, 1, 1, 1]
    assert [data.texts[text] for text in batch.text] == ["One."] * 2 + ["Two."] * 3


def test_kinds_of_sentences_can_be_left_out(make_cache) -> None:
    cache = make_cache(
        ("a", ["Compared with yesterday."], 1, "train", "comparison"), ("b", ["Effusion."])
    )
    assert len(SplitData(cache, "train")) == 2
    data = SplitData(cache, "train", kinds=("content",))
    assert data.texts == ["Effusion."]
    assert grey_levels(data.images(np.arange(len(data)))) == [1]


def test_a_study_without_a_sentence_is_left_out_with_its_images(make_cache) -> None:
    data = SplitData(make_cache(("a", [], 2), ("b", ["One."], 2)), "train")
    assert grey_levels(data.images(np.arange(len(data)))) == [2, 3]


@pytest.mark.parametrize("every", [False, True])
def test_shuffled_gives_every_text_to_the_next_image(make_cache, every: bool) -> None:
    studies = [(f"study {number}", ["One.", "Two."]) for number in range(4)]
    batch = SplitData(make_cache(*studies), "train").batch(
        np.arange(4), np.random.default_rng(0), every=every
    )
    shuffled, kept = batch.shuffled()
    assert kept.all()
    assert shuffled.owner.tolist() == [(owner + 1) % 4 for owner in batch.owner.tolist()]
    for name in ("images", "image_study", "text_study", "text"):
        assert torch.equal(getattr(shuffled, name), getattr(batch, name))
    assert (shuffled.image_study[shuffled.owner] != shuffled.text_study).all()


def test_shuffled_never_gives_a_text_to_its_own_study(make_cache) -> None:
    """Two images of one study may be neighbours in a batch."""
    data = SplitData(make_cache(("a", ["A."], 3), ("b", ["B."], 2), ("c", ["C."])), "train")
    batch = data.batch(np.array([0, 1, 5, 3, 2, 4]), np.random.default_rng(0))
    shuffled, kept = batch.shuffled()
    assert kept.all()
    assert (shuffled.image_study[shuffled.owner] != shuffled.text_study).all()
    assert sorted(shuffled.owner.tolist()) == list(range(6))


def test_shuffled_drops_the_texts_that_no_other_study_is_left_for(make_cache) -> None:
    data = SplitData(make_cache(("a", ["A."], 3), ("b", ["B."])), "train")
    batch = data.batch(np.arange(4), np.random.default_rng(0))
    shuffled, kept = batch.shuffled()
    assert (shuffled.image_study[shuffled.owner] != shuffled.text_study).all()
    assert len(shuffled.owner) == len(shuffled.text) == kept.sum() == 2


def test_a_split_without_a_usable_sentence(make_cache) -> None:
    cache = make_cache(("a", ["One."]), ("b", [], 1, "validate"))
    for split in ("validate", "test"):  # no sentence; no image
        with pytest.raises(TrainingError, match=f"'{split}' of made has no image with a usable"):
            SplitData(cache, split)


@pytest.mark.parametrize(("number", "said"), [(1, "1 usable study,"), (2, "2 usable studies,")])
def test_a_split_of_too_few_studies_has_nothing_to_compare_with(
    make_cache, number: int, said: str
) -> None:
    """The control needs a study for the image, one for the text it is given, and another."""
    some = [(f"c{index}", ["Two."], 2, "validate") for index in range(3)]
    train = ("a", ["One."]), ("b", ["One."])
    assert len(SplitData(make_cache(*train, *some), "validate")) == 6
    cache = make_cache(*train, *some[:number])
    assert len(SplitData(cache, "train")) == 2
    words = f"'validate' of made has {said}.*fewer than 3.*more patients"
    with pytest.raises(TrainingError, match=words):
        SplitData(cache, "validate")


def test_batches_that_cannot_be(make_cache) -> None:
    data = SplitData(make_cache(*SEVEN), "train")
    with pytest.raises(TrainingError, match="batch_size=1: .* at least 2"):
        TrainingBatches(data, size=1, seed=0)
    with pytest.raises(TrainingError, match="batch_size=8, but split 'train' has 7 images.*Lower"):
        TrainingBatches(data, size=8, seed=0)


def test_pairs_of_one_study_or_with_one_text_are_no_mismatch() -> None:
    study = torch.tensor([0, 0, 1, 2])
    text = torch.tensor([5, 6, 5, 7])
    allowed = may_mismatch(study, study, text)
    for row in range(4):
        for column in range(4):
            differ = study[row] != study[column] and text[row] != text[column]
            assert allowed[row, column] == differ
    assert may_mismatch(study, study, text, same_text=True)[0, 2]
    assert not may_mismatch(study, study, text, same_text=True)[0, 1]


def test_of_shuffled_pairs_the_true_pair_is_no_mismatch() -> None:
    image_study, text_study = torch.tensor([0, 1, 2]), torch.tensor([2, 0, 1])
    allowed = may_mismatch(image_study, text_study, torch.arange(3))
    assert not allowed[0, 1]
    assert not allowed[1, 2]
    assert not allowed[2, 0]
