from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.data.batches import Batch, SplitData, may_mismatch, normalise, training_batch
from localmi.errors import TrainingError

SEVEN = [(f"study {number}", [f"Sentence of {number}."]) for number in range(7)]


def grey_levels(images: Tensor) -> list[int]:
    """Which images of a made cache these are."""
    levels = images[:, 0, 0, 0] * 73.6 + 127.5
    return levels.round().int().tolist()


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


def test_an_epoch_uses_no_image_twice_and_every_epoch_has_its_order(make_cache) -> None:
    data = SplitData(make_cache(*SEVEN), "train")
    epochs = []
    for epoch in range(12):
        steps = (2 * epoch, 2 * epoch + 1)  # 7 images, 3 a batch: 2 batches an epoch
        batches = [training_batch(data, step, size=3, seed=0, every=False) for step in steps]
        epochs.append([level for batch in batches for level in grey_levels(batch.images)])
    assert all(len(set(levels)) == 6 for levels in epochs)
    assert len({tuple(levels) for levels in epochs}) == 12
    assert {level for levels in epochs for level in levels} == set(range(7))


def test_a_batch_depends_on_data_seed_and_step_alone(tiny_cache) -> None:
    def batch(step: int, seed: int = 3) -> Batch:
        data = SplitData(tiny_cache, "train")
        return training_batch(data, step, size=4, seed=seed, every=False)

    np.random.seed(0)
    torch.manual_seed(0)
    forwards = [batch(step) for step in range(6)]
    np.random.seed(1)
    torch.manual_seed(1)
    for step in (5, 0, 3):
        assert_equal(batch(step), forwards[step])
    assert not torch.equal(batch(0, seed=4).images, forwards[0].images)


def test_two_epochs_of_one_image_order_draw_other_sentences(make_cache) -> None:
    data = SplitData(make_cache(("a", ["A.", "B.", "C."]), ("b", ["D.", "E.", "F."])), "train")
    drawn = Counter()
    for step in range(300):
        batch = training_batch(data, step, size=2, seed=0, every=False)
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
        expected = normalise(tiny_cache.images[[position[name]]])
        assert torch.equal(data.images(np.array([row])), expected)


def test_all_sentences_come_with_their_owners(make_cache) -> None:
    cache = make_cache(
        ("a", ["One.", "Two.", "Three."]), ("b", ["Two."]), ("c", ["Four.", "One."])
    )
    data = SplitData(cache, "train")
    batch = data.batch(np.array([2, 0, 1]), np.random.default_rng(0), every=True)
    assert batch.images.shape == (3, 1, 8, 8)
    assert batch.owner.tolist() == [0, 0, 1, 1, 1, 2]
    texts = [data.texts[text] for text in batch.text]
    assert texts == ["Four.", "One.", "One.", "Two.", "Three.", "Two."]
    assert batch.text[1] == batch.text[2]  # one text, of two studies
    assert batch.text_study.tolist() == [2, 2, 0, 0, 0, 1]


def test_a_report_is_one_text(make_cache) -> None:
    cache = make_cache(("a", ["One.", "Two."]), ("b", ["Three."]))
    data = SplitData(cache, "train", unit="report")
    batch = training_batch(data, 0, size=2, seed=0, every=False)
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
    shuffled = batch.shuffled()
    assert shuffled.owner.tolist() == [(owner + 1) % 4 for owner in batch.owner.tolist()]
    for name in ("images", "image_study", "text_study", "text"):
        assert torch.equal(getattr(shuffled, name), getattr(batch, name))
    assert (shuffled.image_study[shuffled.owner] != shuffled.text_study).all()


def test_a_split_without_a_usable_sentence(make_cache) -> None:
    cache = make_cache(("a", ["One."]), ("b", [], 1, "validate"))
    for split in ("validate", "test"):  # no sentence; no image
        with pytest.raises(TrainingError, match=f"'{split}' of made has no image with a usable"):
            SplitData(cache, split)


def test_a_split_of_one_study_has_nothing_to_compare_with(make_cache) -> None:
    cache = make_cache(("a", ["One."]), ("b", ["One."]), ("c", ["Two."], 2, "validate"))
    assert len(SplitData(cache, "train")) == 2
    with pytest.raises(TrainingError, match="'validate' of made has one study.*more patients"):
        SplitData(cache, "validate")


def test_batches_that_cannot_be(make_cache) -> None:
    data = SplitData(make_cache(*SEVEN), "train")
    with pytest.raises(TrainingError, match="batch_size=1: .* at least 2"):
        training_batch(data, 0, size=1, seed=0, every=False)
    with pytest.raises(TrainingError, match="batch_size=8, but split 'train' has 7 images.*Lower"):
        training_batch(data, 0, size=8, seed=0, every=False)


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
