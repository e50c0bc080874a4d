"""The loss of masked siamese networks, against loops and against lightly's."""

import math

import pytest
import torch
from torch import Tensor, nn
from waves import waves

from localmi.errors import ConfigError
from localmi.model.msn import (
    Projection,
    Prototypes,
    entropy,
    kept_patches,
    move_average,
    msn_terms,
    sharpened,
    sinkhorn,
)


def logits(z: Tensor, q: Tensor, temperature: float = 0.1) -> Tensor:
    prototypes = Prototypes(len(q), q.shape[1], temperature=temperature).double()
    prototypes.weight.data = q
    found: Tensor = prototypes(z)
    return found


def by_loops(
    anchors: Tensor, targets: Tensor, *, sharpening: float, iterations: int, weight: float
) -> float:
    """L of 12 anchors, 3 views of 4 images, number by number."""
    number, count = targets.shape
    p = [[math.exp(x / sharpening) for x in row] for row in targets.tolist()]
    p = [[x / sum(row) for x in row] for row in p]
    for _ in range(iterations):
        columns = [sum(row[k] for row in p) for k in range(count)]
        p = [[row[k] / columns[k] for k in range(count)] for row in p]
        p = [[x / sum(row) for x in row] for row in p]
    soft = [[math.exp(x) for x in row] for row in anchors.tolist()]
    soft = [[x / sum(row) for x in row] for row in soft]
    cross = 0.0
    for m, row in enumerate(soft):
        for k in range(count):
            cross -= p[m % number][k] * math.log(row[k])
    mean = [sum(row[k] for row in soft) / len(soft) for k in range(count)]
    return cross / len(soft) + weight * sum(x * math.log(x) for x in mean)


@pytest.mark.parametrize(
    ("iterations", "weight", "lightlys"),
    [(3, 1.0, 2.373145950983715), (0, 1.0, 2.362678194030506), (3, 0.0, 2.311803312468378)],
)
def test_the_loss_is_a_triple_loop_and_lightlys(
    iterations: int, weight: float, lightlys: float
) -> None:
    """MSNLoss of lightly 1.6.0 on the same numbers; it adds lambda log K."""
    anchors = logits(waves(12, 8, 1.7), waves(5, 8, 2.3))
    targets = logits(waves(4, 8, 0.9), waves(5, 8, 2.3))
    terms = msn_terms(anchors, targets, iterations=iterations)
    loss = terms.loss(weight).item()
    by_hand = by_loops(anchors, targets, sharpening=0.25, iterations=iterations, weight=weight)
    assert loss == pytest.approx(by_hand, abs=1e-12)
    assert loss + weight * math.log(5) == pytest.approx(lightlys, abs=1e-9)
    assert terms.nats.item() == pytest.approx(-terms.loss(1.0).item(), abs=1e-12)


def test_sinkhorn_is_lightlys_and_uses_all_prototypes_alike() -> None:
    targets = logits(waves(4, 8, 0.9), waves(5, 8, 2.3))
    found = sinkhorn(sharpened(targets), 3)
    first_row = [  # of sinkhorn(sharpen(prototype_probabilities(...))), lightly 1.6.0
        *(0.0001234300113270128, 0.0028252239235870076, 0.05797281412845107),
        *(0.36453277891224073, 0.574545753024394),
    ]
    torch.testing.assert_close(found[0], torch.tensor(first_row, dtype=torch.float64))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4, dtype=torch.float64))
    after_many = sinkhorn(sharpened(targets), 2000)
    torch.testing.assert_close(after_many.sum(dim=0), torch.full((5,), 0.8).double())
    torch.testing.assert_close(after_many.sum(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(sinkhorn(after_many.log(), 1), after_many)  # a fixed point
    assert torch.equal(sinkhorn(sharpened(targets), 0), sharpened(targets).exp())


def test_sinkhorn_stands_columns_that_float32_takes_for_nothing() -> None:
    far = torch.tensor([[0.0, -300.0, -900.0]]).repeat(6, 1)
    found = sinkhorn(far.log_softmax(dim=1), 3)
    torch.testing.assert_close(found, torch.full((6, 3), 1 / 3))


def test_on_a_batch_the_value_is_below_the_information() -> None:
    """log K less the cross entropy is the bound with Sinkhorn's targets; the mean of the anchors
    has no more entropy."""
    anchors, targets = logits(waves(12, 8, 1.7), waves(5, 8, 2.3)), waves(4, 5, 0.9) * 5
    terms = msn_terms(anchors, targets)
    assert terms.nats.item() <= math.log(5) - terms.cross_entropy.item()
    assert terms.mean_entropy.item() <= math.log(5)


def test_the_entropies_tell_the_two_collapses() -> None:
    one = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).repeat(3, 1)
    none = torch.zeros(3, 4)
    sharp = msn_terms(one, one)
    assert sharp.target_entropy.item() == pytest.approx(0, abs=1e-6)
    blurred = msn_terms(none, none)
    assert blurred.own_entropy.item() == pytest.approx(math.log(4))
    assert blurred.nats.item() == pytest.approx(0, abs=1e-6)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"\[5, 3\] for targets of \[2, 3\]"):
        msn_terms(torch.zeros(5, 3), torch.zeros(2, 3))
    with pytest.raises(ConfigError, match=r"\[4, 2\] for targets of \[2, 3\]"):
        msn_terms(torch.zeros(4, 2), torch.zeros(2, 3))


def test_prototypes_get_a_gradient_unless_they_are_left_as_drawn() -> None:
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    for trained in (True, False):
        prototypes = Prototypes(5, 8, trained=trained)
        found = msn_terms(prototypes(z), prototypes(z)).loss()
        if trained:
            found.backward()
            assert prototypes.weight.grad is not None
            assert prototypes.weight.grad.abs().max() > 0
        else:
            assert not found.requires_grad
    assert Prototypes(400, 64).weight.abs().max() <= 1 / 8


def test_targets_give_no_gradient() -> None:
    anchors = torch.zeros(4, 3, requires_grad=True)
    targets = torch.eye(4, 3).requires_grad_()
    msn_terms(anchors, targets).loss().backward()
    assert anchors.grad is not None
    assert targets.grad is None


def test_a_record_changes_what_is_projected_only_where_it_is_read() -> None:
    torch.manual_seed(0)
    features, record = torch.randn(6, 4), torch.randn(3, 2)
    plain = Projection(4).eval()
    with_record = Projection(4, record_dim=2, from_identity=False).eval()
    assert torch.equal(plain(features), plain(features, record))
    moved = with_record(features, record + 1)
    assert (with_record(features, record) != moved).any(dim=1).all()


def test_from_identity_a_record_is_nothing_at_first_and_can_be_learnt() -> None:
    torch.manual_seed(0)
    features, record = torch.randn(6, 4), torch.randn(3, 2)
    plain, with_record = Projection(4), Projection(4, record_dim=2)
    plain.project.load_state_dict(with_record.project.state_dict())
    found = with_record(features, record)
    torch.testing.assert_close(found, plain(features))
    (found * torch.randn(6, 4)).sum().backward()
    gradient = with_record.fuse.weight.grad
    assert gradient is not None
    assert (gradient[:, 4:] != 0).all()


def test_the_record_of_an_image_is_repeated_view_by_view() -> None:
    torch.manual_seed(0)
    network = Projection(4, record_dim=2, from_identity=False).eval()
    features, record = torch.randn(6, 4), torch.randn(3, 2)
    one = network(features, record)
    for view in range(2):
        for image in range(3):
            alone = network(features[3 * view + image][None], record[image][None])
            torch.testing.assert_close(one[3 * view + image], alone[0])


@pytest.mark.parametrize("record", [None, torch.zeros(3, 5)])
def test_a_record_of_another_length_is_refused(record: Tensor | None) -> None:
    with pytest.raises(ConfigError, match="records of 2 numbers, found"):
        Projection(4, record_dim=2)(torch.zeros(3, 4), record)


def test_every_patch_is_dropped_as_often_as_any_other() -> None:
    generator = torch.Generator().manual_seed(0)
    found = kept_patches(4000, 20, 0.15, generator)
    assert found is not None
    assert found.shape == (4000, 17)
    assert (found.diff(dim=1) > 0).all()
    seen = torch.bincount(found.flatten(), minlength=20) / 4000
    spread = math.sqrt(0.85 * 0.15 / 4000)
    assert (seen - 0.85).abs().max() < 4 * spread  # the last one, too
    assert kept_patches(2, 20, 0.0, generator) is None
    few = kept_patches(2, 4, 0.99, generator)
    assert few is not None
    assert few.shape == (2, 1)


def test_the_average_moves_as_by_hand() -> None:
    average, network = nn.Linear(2, 2), nn.Linear(2, 2)
    before = [one.clone() for one in average.parameters()]
    move_average(average, network, 0.9)
    for old, new, own in zip(before, network.parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(own, 0.9 * old + 0.1 * new)


def test_cosines_are_in_float32_in_a_run_in_bfloat16() -> None:
    torch.manual_seed(0)
    prototypes, z = Prototypes(50, 16), torch.randn(40, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = prototypes(z)
    assert found.dtype == torch.float32
    assert torch.equal(found, prototypes(z))


def test_entropy_of_what_never_happens_is_nothing() -> None:
    assert entropy(torch.tensor([0.5, 0.5, 0.0])).item() == pytest.approx(math.log(2))
