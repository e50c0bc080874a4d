import pytest
import torch
from torch import Tensor

from localmi.mi.bounds import infonce
from localmi.mi.critics import ConcatCritic
from localmi.mi.scores import may_mismatch
from localmi.model.alignment import global_scores, local_scores, winners_only_scores


@pytest.fixture
def features() -> tuple[ConcatCritic, Tensor, Tensor, Tensor]:
    """Critic, regions [3, 4, 5], sentences [6, 7] and owners: all sentences of three images."""
    torch.manual_seed(0)
    critic = ConcatCritic(5, 7, hidden=(16, 8)).double()
    regions = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    sentences = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    return critic, regions, sentences, torch.tensor([0, 0, 1, 2, 2, 2])


def slow_local_scores(critic: ConcatCritic, regions: Tensor, sentences: Tensor, owner: Tensor):
    """Eq. 5 as written: one pair, one region at a time."""
    rows = []
    for image in owner.tolist():
        row = []
        for sentence in sentences:
            found = [critic.mlp(torch.cat([region, sentence]))[0] for region in regions[image]]
            row.append(torch.stack(found).max())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("route", [local_scores, winners_only_scores])
def test_local_scores_equal_the_loop_in_value_and_gradient(route, features) -> None:  # type: ignore[no-untyped-def]
    critic, regions, sentences, owner = features
    fast = route(critic, regions, sentences, owner)
    slow = slow_local_scores(critic, regions, sentences, owner)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    inputs = [regions, sentences, *critic.parameters()]
    study = owner
    allowed = may_mismatch(study, study, torch.arange(6))
    gradients = [torch.autograd.grad(infonce(scores, allowed), inputs) for scores in (fast, slow)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_global_scores_equal_the_loop(features) -> None:  # type: ignore[no-untyped-def]
    critic, regions, sentences, _ = features
    scores = global_scores(critic, regions[:, 0], sentences)
    assert scores.shape == (3, 6)
    for image in range(3):
        for text in range(6):
            alone = critic.mlp(torch.cat([regions[image, 0], sentences[text]]))[0]
            torch.testing.assert_close(scores[image, text], alone, rtol=1e-5, atol=1e-5)
