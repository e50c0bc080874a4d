"""LIMITR: how well an image and a text suit each other, word by word and region by region.

    regions v [B, N, D], words t [M, L, D]          s_wn = <t_w, v_n>
      -> each word looks at the regions: c_w = sum_n alpha_wn v_n, e_w = l2(c_w * t_w)
      -> each region looks at the words: d_n = sum_w beta_nw t_w, f_n = l2(d_n * v_n)
      -> SAF weighs the e_w (f_n) and sums them to one vector
      -> one score by the text, one by the image: [B, M] each, in (0, 1)

Words that only fill up, and the regions of a view that was not taken, count for nothing, whatever
stands there. Products of words and regions, and scores, are in float32 whatever the rest is: in
bfloat16 numbers above 64 are .5 apart, and many texts would share one score. Every pair has its
own attention, so scores cost N x L x D a pair; they are made in chunks of texts, whose
intermediate results are computed again for the gradient.

Source: Dawidowicz et al. 2023, LIMITR, https://arxiv.org/abs/2303.11755; SAF: Diao et al. 2021,
https://arxiv.org/abs/2101.01368. Written from the description, not from its code. Taught in
11_limitr.
"""

import math
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import get_device_states, set_device_states

from localmi.errors import check_name
from localmi.mi.critics import widened, without_autocast
from localmi.names import Attention, WordPooling

GAMMA_ATTENTION = 4.0  # inverse temperature of the second softmax
GAMMA_SCORES = 10.0  # what scores and cosines are multiplied with in a loss
INTERNAL_TEMPERATURE = 0.1
INTERNAL_SHARE = 20.0  # what the internal loss is divided by


def attend(
    scores: Tensor,
    keys: Tensor,
    query_mask: Tensor,
    key_mask: Tensor,
    *,
    attention: Attention = "double",
) -> tuple[Tensor, Tensor]:
    """What each query sees of the keys.

    double: the softmax over the queries, times 4, then the softmax over the keys: no key can have
    more than e^4 / (e^4 + K - 1) of a query's attention. single: one softmax of s / sqrt(D).

    Args:
        scores: [..., Q, K], products of queries and keys.
        keys: [..., K, D].
        query_mask, key_mask: [..., Q] and [..., K] bool, False: is not there.

    Returns:
        context [..., Q, D], weights [..., Q, K]; a key that is not there has weight 0.

    Raises:
        ConfigError: unknown attention.
    """
    check_name("attention", attention, get_args(Attention))
    if attention == "double":
        of_queries = scores.masked_fill(~query_mask[..., None], -math.inf).softmax(dim=-2)
        scores = GAMMA_ATTENTION * of_queries
    else:
        scores = scores / math.sqrt(keys.shape[-1])
    weights = scores.masked_fill(~key_mask[..., None, :], -math.inf).softmax(dim=-1)
    # no copy of the keys for each text (of the texts for each image), as `@` would make it
    return torch.einsum("...qk,...kd->...qd", weights, keys), weights


class Dropout(nn.Dropout):
    """The same as torch's, whose mask takes three times as long to draw on a CPU."""

    def forward(self, vectors: Tensor) -> Tensor:
        if not self.training or not self.p:
            return vectors
        kept = 1 - self.p
        mask = torch.rand(vectors.shape, device=vectors.device).lt_(kept).div_(kept)
        return vectors * mask.to(vectors.dtype)


class SimilarityAttention(nn.Module):
    """SAF: one vector from several, weighed by how each suits their mean.

    a = softmax(u^T [tanh(A e) * tanh(B mean(e))]), then l2(sum a e).
    """

    def __init__(self, dim: int, *, dropout: float = 0.4) -> None:
        super().__init__()
        self.local, self.whole = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.weigh = nn.Linear(dim, 1)
        self.dropout = Dropout(dropout)

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[..., L, D] and [..., L] bool -> the pooled vector [..., D], the weights [..., L]."""
        mean = masked_mean(vectors, mask)
        suits = (
            self.dropout(self.local(vectors).tanh())
            * self.dropout(self.whole(mean).tanh())[..., None, :]
        )
        weights = self.weigh(suits).squeeze(-1).masked_fill(~mask, -math.inf).softmax(dim=-1)
        pooled = (weights[..., None, :] @ vectors).squeeze(-2)
        return functional.normalize(pooled, dim=-1), weights


class MeanPooling(nn.Module):
    """As `SimilarityAttention`, with the same weight for all."""

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[..., L, D] and [..., L] bool -> the pooled vector [..., D], the weights [..., L]."""
        weights = mask / mask.sum(dim=-1, keepdim=True)
        return functional.normalize(masked_mean(vectors, mask), dim=-1), weights


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """The mean over those that are there: [..., L, D] and [..., L] -> [..., D]."""
    there = mask[..., None].to(vectors.dtype)
    return (vectors * there).sum(dim=-2) / there.sum(dim=-2)


class LimitrScores(nn.Module):
    """Scores of images and texts by what their regions and words have in common.

    Args:
        dim: D, of regions and words.
        pooling: "attention" (SAF) as published, or "mean".
        attention: "double" as published, or "single".
        chunk: texts that are scored at a time; 0: all at once, with everything kept.

    Raises:
        ConfigError: unknown attention or pooling.
    """

    def __init__(
        self,
        dim: int,
        *,
        attention: Attention = "double",
        pooling: WordPooling = "attention",
        dropout: float = 0.4,
        chunk: int = 8,
    ) -> None:
        super().__init__()
        check_name("attention", attention, get_args(Attention))
        self.attention, self.chunk = attention, chunk
        check_name("word pooling", pooling, get_args(WordPooling))
        saf = pooling == "attention"
        self.pool = SimilarityAttention(dim, dropout=dropout) if saf else MeanPooling()
        self.by_text, self.by_image = nn.Linear(dim, 1), nn.Linear(dim, 1)

    def forward(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """S^txt and S^img, [B, M] each.

        Args:
            regions: [B, N, D]. region_mask: [B, N] bool.
            words: [M, L, D]. word_mask: [M, L] bool.
        """
        regions, words = blank(regions, region_mask), blank(words, word_mask)
        if not self.chunk:
            return self._all_pairs(regions, region_mask, words, word_mask)
        learned = [one for one in self.parameters() if one.requires_grad]
        inputs = regions, region_mask, words, word_mask
        by_text, by_image = _InChunks.apply(self._all_pairs, self.chunk, *inputs, *learned)
        return by_text, by_image

    def _all_pairs(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        pairs = regions[:, None], region_mask[:, None], words[None], word_mask[None]
        by_word, by_region, _, _ = self.alignments(*pairs)
        of_words = word_mask.expand(len(regions), -1, -1)
        of_regions = region_mask[:, None].expand(-1, len(words), -1)
        text, _ = self.pool(by_word, of_words)
        image, _ = self.pool(by_region, of_regions)
        with without_autocast(text):
            scores = self.by_text(widened(text)).sigmoid(), self.by_image(widened(image)).sigmoid()
        return scores[0].squeeze(-1), scores[1].squeeze(-1)

    def attention_maps(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> Tensor:
        """How much each word looks at each region of its own image: [B, L, N]; sums to 1 over the
        regions. Arguments of pairs, as `alignments`."""
        regions, words = blank(regions, region_mask), blank(words, word_mask)
        scores = products(words, regions)
        return attend(scores, regions, word_mask, region_mask, attention=self.attention)[1]

    def alignments(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of pairs of an image and a text, [...] each: e [..., L, D] of the words and f
        [..., N, D] of the regions, then what they are made of: contexts c and d."""
        scores = products(words, regions)
        seen, _ = attend(scores, regions, word_mask, region_mask, attention=self.attention)
        read, _ = attend(
            scores.transpose(-1, -2), words, region_mask, word_mask, attention=self.attention
        )
        by_word = functional.normalize(seen * words, dim=-1)
        by_region = functional.normalize(read * regions, dim=-1)
        return by_word, by_region, seen, read


class _InChunks(torch.autograd.Function):
    """Scores of one chunk of texts after the other; for the gradient each is computed again.

    `torch.utils.checkpoint` would leave something of each chunk between the large blocks that it
    frees, and a CPU's memory, which cannot join them again, would grow with the texts.
    """

    @staticmethod
    def forward(
        ctx: Any,
        score: Callable[..., tuple[Tensor, Tensor]],
        chunk: int,
        regions: Tensor,
        region_mask: Tensor,
        words: Tensor,
        word_mask: Tensor,
        *learned: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.score, ctx.chunk, ctx.learned = score, chunk, learned
        ctx.save_for_backward(regions, region_mask, words, word_mask)
        kind = regions.device.type
        ctx.precision = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        ctx.drawn = torch.get_rng_state(), *get_device_states(regions)
        texts = zip(words.split(chunk), word_mask.split(chunk), strict=True)
        by_text, by_image = zip(
            *(score(regions, region_mask, *some) for some in texts), strict=True
        )
        return torch.cat(by_text, dim=1), torch.cat(by_image, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        regions, region_mask, words, word_mask = ctx.saved_tensors
        state, devices, states = ctx.drawn
        regions = regions.detach().requires_grad_()
        of_words = torch.zeros_like(words)
        totals = [torch.zeros_like(one) for one in (regions, *ctx.learned)]
        of_texts = (one.split(ctx.chunk) for one in (words, word_mask, of_words))
        of_scores = (one.split(ctx.chunk, dim=1) for one in gradients)
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.set_rng_state(state)
            set_device_states(devices, states)
            for some, mask, of_some, *wanted in zip(*of_texts, *of_scores, strict=True):
                some = some.detach().requires_grad_()
                with torch.autocast(*ctx.precision):
                    found = ctx.score(regions, region_mask, some, mask)
                got = torch.autograd.grad(found, (some, regions, *ctx.learned), wanted)
                for total, one in zip((of_some, *totals), got, strict=True):
                    total += one
        return None, None, totals[0], None, of_words, None, *totals[1:]


def blank(vectors: Tensor, mask: Tensor) -> Tensor:
    """0 where nothing is, whatever stood there (a NaN too)."""
    return vectors.masked_fill(~mask[..., None], 0.0)


def products(words: Tensor, regions: Tensor) -> Tensor:
    """<t_w, v_n> of each word and region, [..., L, D] and [..., N, D] -> [..., L, N]."""
    with without_autocast(words):
        return torch.einsum("...ld,...nd->...ln", widened(words), widened(regions))


def internal_loss(
    scores: LimitrScores, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
) -> Tensor:
    """Each word is to find the context that was made for it, each region too: of matched pairs.

    No bound on any mutual information: it compares within one pair, so it falls without anything
    that image and text have in common. In nats, divided by 20 as published.

    Args:
        regions: [B, N, D]. words: [B, L, D], of the same pairs.
    """
    regions, words = blank(regions, region_mask), blank(words, word_mask)
    _, by_region, seen, read = scores.alignments(regions, region_mask, words, word_mask)
    uniform = word_mask / word_mask.sum(dim=-1, keepdim=True)
    _, weights = scores.pool(by_region, region_mask)
    of_words = _own_context(words, seen, word_mask, uniform)
    of_regions = _own_context(regions, read, region_mask, weights)
    return (of_words + of_regions) / INTERNAL_SHARE


def _own_context(vectors: Tensor, contexts: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Half the cross entropies of rows and columns of <v_i, c_j> / .1, weighed: the mean."""
    logits = products(vectors, contexts) / INTERNAL_TEMPERATURE  # [B, L, L]
    outside = ~mask[:, None, :] | ~mask[:, :, None]
    logits = logits.masked_fill(outside, torch.finfo(logits.dtype).min)
    own = logits.diagonal(dim1=-2, dim2=-1)
    missed = logits.logsumexp(dim=-1) - own + logits.logsumexp(dim=-2) - own
    return 0.5 * (weights * missed.masked_fill(~mask, 0.0)).sum(dim=-1).mean()


def positions(grid: int, dim: int) -> Tensor:
    """Sines and cosines of row and column, [grid * grid, dim]: a quarter of `dim` each.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, in two dimensions.
    """
    quarter = dim // 4
    frequencies = 10_000.0 ** (-torch.arange(quarter) / max(quarter - 1, 1))
    places = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    row, column = (place.flatten()[:, None] * frequencies for place in places)
    found = torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=1)
    return functional.pad(found, (0, dim - 4 * quarter))
