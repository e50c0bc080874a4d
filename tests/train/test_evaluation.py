import math

import numpy as np
import pandas as pd
import pytest
import torch

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.evaluate.grounding import pointing_game
from localmi.evaluate.held_out import held_out_bound
from localmi.phantom.read import Truth, finding_sentences
from localmi.train.evaluation import evaluate_split, point, point_elsewhere

GRID = 4
pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a notebook would show it


@pytest.fixture
def data(tiny_cache: Cache) -> SplitData:
    return SplitData(tiny_cache, "train")


@pytest.fixture
def winners(data: SplitData) -> torch.Tensor:
    """Another region for each image and text."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(GRID**2, (len(data), len(data.texts)), generator=generator)


def sentences_by_truth(truth: Truth, data: SplitData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sentences about a present finding, and sentences that deny one."""
    spoken = finding_sentences(truth, data)
    return spoken[spoken["polarity"] == "present"], spoken[spoken["polarity"] == "absent"]


@pytest.mark.parametrize("bound", ["infonce", "mine", "dv"])
def test_matched_pairs_are_measured_by_the_critic_shuffled_ones_by_the_control(
    build, tiny_cache, bound: str
) -> None:
    training = build(bound=bound, direction="image_to_text", seed=3)
    list(training.run())
    data = SplitData(tiny_cache, "test")
    found = evaluate_split(training, data, batch_size=4, rounds=5)
    own, control = training.score_split(data)
    kind = {
        "bound": "infonce" if bound == "infonce" else "dv",
        "direction": "image_to_text",
        "batch_size": 4,
        "rounds": 5,
        "seed": 3,
    }
    assert found.held_out == held_out_bound(own, **kind)
    assert found.shuffled == held_out_bound(control, shuffled=True, **kind)
    assert torch.equal(found.scores.scores, own.scores)
    assert math.isinf(found.held_out.cap) == (bound != "infonce")


def test_each_sentence_points_in_its_own_image(truth, data, winners) -> None:
    present, _ = sentences_by_truth(truth, data)
    found = point(present, truth, winners, grid=GRID)
    assert len(found.hit) == len(present) > 5
    for number, row in enumerate(present.itertuples()):
        assert data.manifest["image_id"][row.image] == row.image_id
        assert data.texts[row.number] == row.text
        chosen = winners[row.image, row.number].numpy()[None]
        mask = truth.mask(row.image_id, row.finding)
        alone = pointing_game(chosen, mask[None], grid=GRID)
        assert alone.hit[0] == found.hit[number]
        assert alone.mask_share[0] == found.mask_share[number]


def test_a_denial_is_held_against_the_finding_of_other_patients(truth, data, winners) -> None:
    present, denials = sentences_by_truth(truth, data)
    present = present[present["finding"] != denials["finding"].iloc[0]]  # one is shown nowhere
    found, asked = point_elsewhere(denials, present, truth, winners, grid=GRID)
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
        lender = lenders[turns[row.finding] % len(lenders)]
        turns[row.finding] += 1
        chosen = winners[row.image, row.number].numpy()[None]
        alone = pointing_game(chosen, truth.mask(lender, row.finding)[None], grid=GRID)
        assert alone.hit[0] == found.hit[number]
        assert alone.chance[0] == found.chance[number]
    assert next(numbers, None) is None
    assert max(turns.values()) > 1
    assert 0 < np.mean(found.chance) < 1
