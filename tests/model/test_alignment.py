from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from localmi.errors import ConfigError
from localmi.mi.bounds import infonce
from localmi.mi.critics import ConcatCritic
from localmi.mi.scores import may_mismatch
from localmi.mi.selection import SELECTIONS, select_regions
from localmi.model import alignment
from localmi.model.alignment import (
    OBJECTIVES,
    GlobalMI,
    LocalMI,
    build_objective,
    local_scores,
    winners_only_scores,
)
from localmi.model.image import ResNet256, build_backbone, build_image_encoder
from localmi.names import Objective, RegionSelection


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
    critic, regions, sentences, owner = features
    scores = GlobalMI().scores(critic, regions[:, :1], sentences, owner, temperature=1.0)
    assert scores.shape == (6, 6)
    for row, image in enumerate(owner):
        for text in range(6):
            alone = critic.mlp(torch.cat([regions[image, 0], sentences[text]]))[0]
            torch.testing.assert_close(scores[row, text], alone, rtol=1e-5, atol=1e-5)


# --- Objectives -------------------------------------------------------------------------------


def test_local_scores_are_those_of_its_reading(features) -> None:  # type: ignore[no-untyped-def]
    critic, regions, sentences, owner = features
    soft = local_scores(critic, regions, sentences, owner, region_select="soft", temperature=0.3)
    hard = winners_only_scores(critic, regions, sentences, owner)
    for objective, expected in (
        (LocalMI("soft"), soft),
        (LocalMI("per_pair_max"), hard),
        (LocalMI("per_pair_max", winners_only=True), hard),
    ):
        found = objective.scores(critic, regions, sentences, owner, temperature=0.3)
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(soft, hard)


@pytest.mark.parametrize("reading", SELECTIONS)
def test_regions_are_selected_once_an_image_where_the_reading_allows(  # type: ignore[no-untyped-def]
    reading, features, monkeypatch
) -> None:
    """The rows of an image's sentences are one row: copying all its regions for each is slow."""
    critic, regions, sentences, owner = features
    selected: list[int] = []

    def noted(scores: Tensor, how: RegionSelection, **others: Any) -> Tensor:
        selected.append(len(scores))
        return select_regions(scores, how, **others)

    monkeypatch.setattr(alignment, "select_regions", noted)
    found = local_scores(critic, regions, sentences, owner, region_select=reading, temperature=0.3)
    expected = select_regions(critic(regions, sentences)[owner], reading, temperature=0.3)
    torch.testing.assert_close(found, expected)
    assert selected == [6 if reading in ("positive_argmax", "matched_max") else 3]


def test_attention_has_the_soft_maximum_once_an_image(features) -> None:  # type: ignore[no-untyped-def]
    critic, regions, sentences, owner = features
    scores = critic(regions, sentences)
    best = select_regions(scores, "soft", 0.3)
    expected = critic.attend(regions, sentences, scores, best)[owner]
    for objective in (LocalMI("attention"), build_objective("local", region_select="attention")):
        found = objective.scores(critic, regions, sentences, owner, temperature=0.3)
        torch.testing.assert_close(found, expected)
    assert (expected - best[owner]).abs().max() > 1e-3


def test_winners_only_takes_its_own_route(features, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    critic, regions, sentences, owner = features
    chosen: list[torch.Size] = []
    route = ConcatCritic.chosen

    def noted(self: ConcatCritic, x: Tensor, y: Tensor, region: Tensor) -> Tensor:
        chosen.append(region.shape)
        return route(self, x, y, region)

    monkeypatch.setattr(ConcatCritic, "chosen", noted)
    for winners_only in (False, True):
        objective = LocalMI("per_pair_max", winners_only=winners_only)
        objective.scores(critic, regions, sentences, owner, temperature=1.0)
    assert chosen == [(3, 6)]


def test_what_is_aligned() -> None:
    encoder = build_image_encoder(image_size=64, local_block=4).eval()
    images = torch.randn(2, 1, 64, 64)
    local, whole = LocalMI(), GlobalMI()
    assert (local.unit, whole.unit) == ("sentence", "report")
    assert (local.image_dim(encoder), whole.image_dim(encoder)) == (64, 768)
    assert torch.equal(local.image_features(encoder, images), encoder.regions(images))
    assert torch.equal(whole.image_features(encoder, images)[:, 0], encoder.pooled(images))
    for objective, number in ((local, 16), (whole, 1)):
        shape = objective.image_features(encoder, images).shape
        assert shape == (2, number, objective.image_dim(encoder))


@pytest.mark.parametrize("name", ["local", "global"])
def test_the_blocks_that_are_trained_are_those_that_get_a_gradient(name: str) -> None:
    objective, encoder = build_objective(name), build_image_encoder(image_size=64, local_block=4)
    objective.image_features(encoder, torch.randn(2, 1, 64, 64)).square().sum().backward()
    blocks, backbone = objective.trained_blocks(encoder.backbone), encoder.backbone
    assert blocks == {"local": 4, "global": 6}[name]
    for weight, value in backbone.named_parameters():
        assert (value.grad is not None) == backbone.holds(weight, blocks), weight


def test_the_blocks_of_other_networks() -> None:
    for backbone, local in ((ResNet256(local_block=3), 3), (build_backbone("resnet18"), 3)):
        assert LocalMI().trained_blocks(backbone) == local
        assert GlobalMI().trained_blocks(backbone) == backbone.num_blocks


def test_an_objective_by_name() -> None:
    assert set(OBJECTIVES) == set(get_args(Objective))
    for name, kind in OBJECTIVES.items():
        found = build_objective(name, region_select="soft", winners_only=True)
        assert type(found) is kind
        assert (found.region_select, found.winners_only) == ("soft", True)
    with pytest.raises(ConfigError, match="Unknown objective 'both'; known are local, global."):
        build_objective("both")
