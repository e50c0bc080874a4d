"""LIMITR's scores against loops over single pairs; what is not there counts for nothing."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from localmi.model.limitr import (
    Dropout,
    LimitrScores,
    SimilarityAttention,
    attend,
    internal_loss,
    masked_mean,
    positions,
)

B, M, N, L, D = 3, 4, 5, 6, 8


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    regions, words = (torch.randn(*size, D, dtype=torch.float64) for size in ((B, N), (M, L)))
    region_mask, word_mask = torch.ones(B, N, dtype=torch.bool), torch.ones(M, L, dtype=torch.bool)
    region_mask[1, 3:] = False
    for text, length in enumerate((6, 2, 4, 1)):
        word_mask[text, length:] = False
    return regions, region_mask, words, word_mask


def build(attention: str = "double", *, chunk: int = 2, dropout: float = 0.0) -> LimitrScores:
    torch.manual_seed(1)
    return LimitrScores(D, attention=attention, chunk=chunk, dropout=dropout).double()  # type: ignore[arg-type]


def of_one_pair(model: LimitrScores, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The formulas, word by word and region by region: [N, D], [L, D] -> two numbers."""
    s = torch.stack([torch.stack([t_w @ v_n for v_n in v]) for t_w in t])  # [L, N]
    if model.attention == "double":
        over_words, over_regions = s.exp() / s.exp().sum(0), s.exp() / s.exp().sum(1, keepdim=True)
        alpha = (4 * over_words).exp() / (4 * over_words).exp().sum(1, keepdim=True)
        beta = (4 * over_regions).exp() / (4 * over_regions).exp().sum(0)
    else:
        alpha = (s / math.sqrt(D)).softmax(dim=1)
        beta = (s / math.sqrt(D)).softmax(dim=0)
    e = [
        functional.normalize(sum(alpha[w, n] * v[n] for n in range(len(v))) * t[w], dim=0)
        for w in range(len(t))
    ]  # type: ignore[arg-type]
    f = [
        functional.normalize(sum(beta[w, n] * t[w] for w in range(len(t))) * v[n], dim=0)
        for n in range(len(v))
    ]  # type: ignore[arg-type]
    pool, scores = model.pool, []
    for vectors, last in ((e, model.by_text), (f, model.by_image)):
        mean = torch.stack(vectors).mean(0)
        suits = [pool.weigh(pool.local(one).tanh() * pool.whole(mean).tanh()) for one in vectors]
        weights = torch.cat(suits).softmax(0)
        whole = functional.normalize(
            sum(a * one for a, one in zip(weights, vectors, strict=True)), dim=0
        )  # type: ignore[arg-type]
        scores.append(last(whole).sigmoid().squeeze())
    return scores[0], scores[1]


@pytest.mark.parametrize("attention", ["double", "single"])
@pytest.mark.parametrize("chunk", [0, 1, 3, 4])
def test_scores_and_gradients_are_those_of_single_pairs(attention, chunk, inputs) -> None:
    regions, region_mask, words, word_mask = inputs
    model = build(attention, chunk=chunk)
    leaves = [regions.requires_grad_(), words.requires_grad_(), *model.parameters()]
    weights = torch.randn(2, B, M, dtype=torch.float64)
    found = torch.stack(model(*inputs))
    pairs = [
        [of_one_pair(model, regions[i][region_mask[i]], words[j][word_mask[j]]) for j in range(M)]
        for i in range(B)
    ]
    expected = torch.stack(
        [torch.stack([torch.stack([p[k] for p in row]) for row in pairs]) for k in (0, 1)]
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad((one * weights).sum(), leaves) for one in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_what_is_not_there_changes_no_bit(inputs) -> None:
    regions, region_mask, words, word_mask = inputs
    model = build()
    expected = model(*inputs)
    for junk in (1e6, math.nan, math.inf):
        other = regions.masked_fill(~region_mask[..., None], junk)
        further = words.masked_fill(~word_mask[..., None], junk)
        found = model(other, region_mask, further, word_mask)
        assert all(torch.equal(*both) for both in zip(found, expected, strict=True))
        losses = [
            internal_loss(model, v, region_mask, t[:B], word_mask[:B])
            for v, t in ((regions, words), (other, further))
        ]
        assert torch.equal(*losses)


def test_the_order_of_regions_is_nothing_to_it(inputs) -> None:
    regions, region_mask, words, word_mask = inputs
    model, order = build(), torch.tensor([2, 0, 4, 1, 3])
    found = model(regions[:, order], region_mask[:, order], words, word_mask)
    for one, other in zip(found, model(*inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("keys", [2, 16, 361])
def test_the_double_softmax_has_a_cap(keys: int) -> None:
    """The best case: a query that wins one key from all others, and no other key at all."""
    scores = torch.full((2, keys), -50.0)
    scores[0, 0], scores[1, 1:] = 50.0, 50.0
    there = torch.ones(keys, dtype=torch.bool)
    _, weights = attend(scores, torch.eye(keys), torch.ones(2, dtype=torch.bool), there)
    cap = math.exp(4) / (math.exp(4) + keys - 1)
    assert weights[0, 0] == pytest.approx(cap, rel=1e-5)
    torch.manual_seed(0)
    _, drawn = attend(
        30 * torch.randn(50, 9, keys), torch.eye(keys), torch.ones(9, dtype=torch.bool), there
    )
    assert drawn.max() <= cap + 1e-6


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_chunks_keep_to_the_precision_they_are_called_in(precision: torch.dtype, inputs) -> None:
    """Also where the same layers are used again, as in the internal loss; of one score only."""
    regions, region_mask, words, word_mask = inputs
    gradients = []
    for chunk in (0, 3):
        model = build(chunk=chunk).float()
        leaves = [one.detach().float().requires_grad_() for one in (regions, words)]
        v, t = leaves
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            by_text, _ = model(v, region_mask, t, word_mask)
            again = internal_loss(model, v, region_mask, t[:B], word_mask[:B])
        assert by_text.dtype == torch.float32
        leaves += [*model.pool.parameters(), *model.by_text.parameters()]
        gradients.append(torch.autograd.grad(by_text.sum() + again, leaves))
    close = 1e-5 if precision == torch.float32 else 2e-2
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=close, atol=close)


@pytest.mark.parametrize("attention", ["double", "single"])
def test_scores_in_bfloat16_are_as_fine_as_in_float32(attention: str) -> None:
    """Of 400 texts, 28 different scores were left, and the others tied."""
    torch.manual_seed(0)
    model = build(attention).float().eval()
    regions, words = 3 * torch.randn(4, 9, D), 3 * torch.randn(400, 12, D)
    masks = torch.ones(4, 9, dtype=torch.bool), torch.ones(400, 12, dtype=torch.bool)
    exact = model(regions, masks[0], words, masks[1])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(regions, masks[0], words, masks[1])
    for found, expected in zip(rounded, exact, strict=True):
        for row, of_row in zip(found, expected, strict=True):
            assert len(row.unique()) > 390
            assert (row - of_row).abs().mean() < 0.05 * of_row.std()


def test_with_dropout_chunks_are_computed_again_alike(inputs) -> None:
    """The same dropout in the second computation: the gradient is that of the values."""
    regions, region_mask, words, word_mask = inputs
    model = build(chunk=2, dropout=0.4)
    direction = torch.randn_like(regions).masked_fill(~region_mask[..., None], 0.0)

    def value(step: float) -> Tensor:
        torch.manual_seed(7)
        moved = (regions + step * direction).requires_grad_()
        by_text, by_image = model(moved, region_mask, words, word_mask)
        total = (by_text + by_image).sum()
        if not step:
            (gradient,) = torch.autograd.grad(total, moved)
            return (gradient * direction).sum()
        return total.detach()

    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    torch.testing.assert_close(value(0.0), slope, rtol=1e-5, atol=1e-8)
    assert not torch.equal(model(*inputs)[0], model(*inputs)[0])
    model.eval()
    assert torch.equal(model(*inputs)[0], model(*inputs)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_dropout_drops_its_share_and_keeps_the_mean(dtype: torch.dtype, share: float) -> None:
    torch.manual_seed(0)
    dropout, ones = Dropout(share), torch.ones(4, 250_000, dtype=dtype)
    found = dropout(ones)
    assert found.dtype == dtype
    noise = math.sqrt(share * (1 - share) / ones.numel())
    assert found.eq(0).float().mean().item() == pytest.approx(share, abs=4 * noise)
    kept = found[found != 0].unique()
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - share)))
    assert torch.equal(dropout.eval()(ones), ones)
    assert torch.equal(Dropout(0.0)(ones), ones)


def test_the_internal_loss_word_by_word(inputs) -> None:
    regions, region_mask, words, word_mask = inputs
    words, word_mask = words[:B], word_mask[:B]
    model = build("single")
    total = 0.0
    for i in range(B):
        v, t = regions[i][region_mask[i]], words[i][word_mask[i]]
        alpha = (t @ v.T / math.sqrt(D)).softmax(dim=1)
        beta = (v @ t.T / math.sqrt(D)).softmax(dim=1)
        c, d = alpha @ v, beta @ t
        _, weights = model.pool(
            functional.normalize(d * v, dim=1), torch.ones(len(v), dtype=torch.bool)
        )
        for one, contexts, weight in ((t, c, torch.full((len(t),), 1 / len(t))), (v, d, weights)):
            logits, own = one @ contexts.T / 0.1, torch.arange(len(one))
            both = [functional.cross_entropy(x, own, reduction="none") for x in (logits, logits.T)]
            total = total + 0.5 * (weight * (both[0] + both[1])).sum() / B / 20
    found = internal_loss(model, regions, region_mask, words, word_mask)
    torch.testing.assert_close(found, total, rtol=1e-9, atol=1e-12)


def test_pooling_knows_what_is_there() -> None:
    torch.manual_seed(0)
    pool, vectors = SimilarityAttention(D, dropout=0.0), torch.randn(2, 4, D)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    pooled, weights = pool(vectors, mask)
    alone, _ = pool(vectors[:1, :2], mask[:1, :2])
    torch.testing.assert_close(pooled[0], alone[0])
    assert weights[0, 2:].eq(0).all()
    assert pooled.norm(dim=-1).tolist() == pytest.approx([1, 1])
    torch.testing.assert_close(masked_mean(vectors, mask)[0], vectors[0, :2].mean(0))


def test_places_differ() -> None:
    found = positions(4, 18)
    assert found.shape == (16, 18)
    assert torch.cdist(found, found).fill_diagonal_(1).min() > 0.1
    torch.testing.assert_close(found[6, 0], torch.tensor(2.0).sin())  # column 2 of row 1
    torch.testing.assert_close(found[6, 8], torch.tensor(1.0).sin())
