"""The truth read back: masks in the order asked for, and what the pointing game makes of them."""

import numpy as np
import pandas as pd
import pytest

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.errors import DataError
from localmi.evaluate.grounding import find_lenders, pointing_game
from localmi.phantom.read import Truth, finding_sentences

GRID = 4


@pytest.fixture
def data(tiny_cache: Cache) -> SplitData:
    return SplitData(tiny_cache, "train")


@pytest.fixture
def winners(data: SplitData) -> np.ndarray:
    """Another region for each image and text."""
    return np.random.default_rng(0).integers(GRID**2, size=(len(data), len(data.texts)))


def sentences_by_truth(truth: Truth, data: SplitData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sentences about a present finding, and sentences that deny one."""
    spoken = finding_sentences(truth, data)
    return spoken[spoken["polarity"] == "present"], spoken[spoken["polarity"] == "absent"]


# --- Masks ------------------------------------------------------------------------------------


def test_masks_stand_in_the_order_of_images_and_findings(truth, data) -> None:
    present, _ = sentences_by_truth(truth, data)
    shuffled = present.sample(frac=1, random_state=0)
    masks = truth.masks(shuffled["image_id"], shuffled["finding"])
    assert masks.shape == (len(present), 64, 64)
    assert masks.dtype == bool
    for mask, row in zip(masks, shuffled.itertuples(), strict=True):
        assert np.array_equal(mask, truth.mask(row.image_id, row.finding))
    twice = truth.masks([shuffled["image_id"].iloc[0]] * 2, [shuffled["finding"].iloc[0]] * 2)
    assert np.array_equal(twice, masks[[0, 0]])
    assert len({mask.tobytes() for mask in masks}) > 1


def test_masks_that_there_are_not(truth, data) -> None:
    present, denials = sentences_by_truth(truth, data)
    with pytest.raises(DataError, match="No mask of .* in image .*: it shows"):
        truth.masks(denials["image_id"], denials["finding"])
    with pytest.raises(ValueError, match="shorter"):
        truth.masks(present["image_id"], present["finding"].iloc[:-1])


# --- Pointing ---------------------------------------------------------------------------------


def test_each_sentence_points_in_its_own_image(truth, data, winners) -> None:
    present, _ = sentences_by_truth(truth, data)
    masks = truth.masks(present["image_id"], present["finding"])
    found = pointing_game(winners[present["image"], present["number"]], masks, grid=GRID)
    assert len(found.hit) == len(present) > 5
    for number, row in enumerate(present.itertuples()):
        assert data.manifest["image_id"][row.image] == row.image_id
        assert data.texts[row.number] == row.text
        chosen = winners[row.image, row.number][None]
        alone = pointing_game(chosen, truth.mask(row.image_id, row.finding)[None], grid=GRID)
        assert alone.hit[0] == found.hit[number]
        assert alone.mask_share[0] == found.mask_share[number]


def test_a_denial_is_held_against_the_finding_of_other_patients(truth, data, winners) -> None:
    """In turn, as `find_lenders` gives them; one that no other patient shows is not asked."""
    present, denials = sentences_by_truth(truth, data)
    present = present[present["finding"] != denials["finding"].iloc[0]]  # one is shown nowhere
    lender = find_lenders(
        denials["finding"], denials["patient_id"], present["finding"], present["patient_id"]
    )
    asked, lender = denials[lender >= 0], lender[lender >= 0]
    masks = truth.masks(present["image_id"].to_numpy()[lender], asked["finding"])
    found = pointing_game(winners[asked["image"], asked["number"]], masks, grid=GRID)
    assert 0 < len(asked) < len(denials)
    turns = dict.fromkeys(set(present["finding"]), 0)
    numbers = iter(range(len(asked)))
    for row in denials.itertuples():
        same = (present["finding"] == row.finding) & (present["patient_id"] != row.patient_id)
        lenders = present[same]["image_id"].tolist()
        if not lenders:
            continue
        number = next(numbers)
        assert asked["text"].iloc[number] == row.text
        lent = lenders[turns[row.finding] % len(lenders)]
        turns[row.finding] += 1
        chosen = winners[row.image, row.number][None]
        alone = pointing_game(chosen, truth.mask(lent, row.finding)[None], grid=GRID)
        assert alone.hit[0] == found.hit[number]
        assert alone.chance[0] == found.chance[number]
    assert next(numbers, None) is None
    assert max(turns.values()) > 1
    assert 0 < np.mean(found.chance) < 1
