"""Critics: networks f(x, y) that score how well an image part x and a text y belong together.

Every critic maps x [*A, Dx] (any leading shape: images, or images x regions) and y [B, Dy] to
the scores of all pairs, [*A, B]. It also scores given pairs only (`paired`), and one chosen
region for each pair of image and text (`chosen`).

The last layer is computed in float32 whatever the rest is: in bfloat16 a score of 50 would be
rounded by up to .13.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from localmi.errors import ConfigError, check_name
from localmi.mi.recompute import score_in_blocks, sum_dtype
from localmi.processes import ALONE, Processes

# On a CPU, blocks of pairs whose first hidden layer holds about this many numbers stay in the
# cache: a step takes 1 / 1.3 of the time of all pairs at once (one core, 32 images of 16 regions).
CPU_BLOCK = 2**20
# Pairs whose hidden layers are kept for the backward pass, unless `chunk` says another number: of
# the paper's critic these take 3 GB in float32.
MOST_KEPT = 2**19


class Critic(nn.Module):
    """What all critics share: dimensions, the check of shapes, the view as pairs of rows.

    Args:
        dim_x: features of an image part.
        dim_y: features of a text.

    Attributes:
        processes: whose image parts make one batch.
    """

    processes: Processes = ALONE

    def __init__(self, dim_x: int, dim_y: int) -> None:
        super().__init__()
        if min(dim_x, dim_y) < 1:
            raise ConfigError(f"A critic needs features on both sides, found {dim_x} and {dim_y}.")
        self.dim_x = dim_x
        self.dim_y = dim_y

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores of all pairs.

        Args:
            x: [*A, Dx], any leading shape.
            y: [B, Dy].

        Returns:
            [*A, B], scores[..., j] = f(x[...], y[j]).

        Raises:
            ConfigError: the features do not have the critic's dimensions.
        """
        self._check(x, y)
        if y.ndim != 2:
            raise ConfigError(f"The texts must be [B, {self.dim_y}], found {list(y.shape)}.")
        return self._score_all(x.reshape(-1, self.dim_x), y).reshape(*x.shape[:-1], len(y))

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores of given pairs: x [*A, Dx] with y [*A, Dy] -> [*A]. Errors as `forward`."""
        self._check(x, y)
        if x.shape[:-1] != y.shape[:-1]:
            raise ConfigError(
                f"Paired features need equal leading shapes, found {list(x.shape)} and "
                f"{list(y.shape)}."
            )
        return self._score_paired(x, y)

    def chosen(self, x: Tensor, y: Tensor, region: Tensor) -> Tensor:
        """Scores of one region for each pair of image and text, as the winners-only route needs.

        Args:
            x: [A, N, Dx], the N regions of A images.
            y: [B, Dy].
            region: [A, B] int64, which region of image i is scored with text j.

        Returns:
            [A, B], the same values and gradients as gathering from `forward`.
        """
        scores: Tensor = self(x, y)  # [A, N, B]
        return scores.gather(1, region[:, None]).squeeze(1)

    def attend(self, x: Tensor, y: Tensor, scores: Tensor, best: Tensor) -> Tensor:
        """The reading "attention" of the max over regions: a maximum, and what the regions score
        together, as the text attends to them; the mean of the two.

        After Wang et al. 2022, https://doi.org/10.48550/arXiv.2212.05561, LSE + NL: a soft maximum
        beside the score of one pooled vector; the order of the regions changes nothing. Ours are
        the weights: a region weighs e^f, which is how likely the text speaks of it if it speaks
        of one. So they are learnt with the critic, without parameters of their own. The result
        knows nothing of who is matched with whom: every bound stays one.

        Args:
            x: [A, N, Dx], the N regions of A images.
            y: [B, Dy].
            scores: [A, N, B], f of all, from `forward`.
            best: [A, B], their maximum: the soft one in training, the hard one in a report.

        Returns:
            [A, B], (best + f(sum_n w_n x_n, y)) / 2 with w = softmax_n f(x_n, y).

        Taught in 04_local_mutual_information.
        """
        self._check(x, y)
        pooled = torch.einsum("anb,and->abd", scores.softmax(dim=1).to(x), x)
        return (best + self._score_paired(pooled, y)) / 2

    def constants(self) -> list[nn.Parameter]:
        """Parameters that add the same number to all scores."""
        return []

    def _score_all(self, x: Tensor, y: Tensor) -> Tensor:
        """[A, Dx], [B, Dy] -> [A, B]."""
        raise NotImplementedError

    def _score_paired(self, x: Tensor, y: Tensor) -> Tensor:
        """[*A, Dx], [*A, Dy], or [B, Dy] where *A ends in B -> [*A]."""
        raise NotImplementedError

    def _check(self, x: Tensor, y: Tensor) -> None:
        for what, features, dim in (("image", x, self.dim_x), ("text", y, self.dim_y)):
            if features.ndim == 0 or features.shape[-1] != dim:
                raise ConfigError(
                    f"The critic was built for {what} features of {dim} dimensions, found shape "
                    f"{list(features.shape)}. Build it with the dimensions of the encoders."
                )


class ConcatCritic(Critic):
    """The paper's critic: an MLP with ReLU on the concatenation [x; y].

    The first layer is linear, W[x; y] = W_x x + W_y y, so it is computed once for each item and
    added for each pair: the concatenations of all pairs never exist.
    Paper Sec. 3 (1280-1024-512-1 local, 1536-1024-512-1 global).

    Args:
        dim_x: features of an image part.
        dim_y: features of a text.
        hidden: widths of the hidden layers.
        chunk: None keeps the hidden layers of all pairs for the backward pass, where they are
            at most `MOST_KEPT`. Of more, and with a number of pairs here, only the scores are
            kept, and the hidden layers of that many pairs computed again (at least one x with
            all texts): memory no longer grows with the pairs, values and gradients are the same,
            a step takes about a third longer.

    Raises:
        ConfigError: no hidden layer, or a width or chunk below 1.

    Taught in 03_neural_estimators.
    """

    def __init__(
        self, dim_x: int, dim_y: int, hidden: Sequence[int] = (1024, 512), chunk: int | None = None
    ) -> None:
        super().__init__(dim_x, dim_y)
        if not hidden:
            raise ConfigError("A concat critic needs at least one hidden layer, found none.")
        if chunk is not None and chunk < 1:
            raise ConfigError(f"chunk is a number of pairs, at least 1 (or None); found {chunk}.")
        self.mlp = _mlp([dim_x + dim_y, *hidden, 1])
        self.chunk = chunk

    def constants(self) -> list[nn.Parameter]:
        last: nn.Linear = self.mlp[-1]  # type: ignore[assignment]
        return [last.bias]

    def chosen(self, x: Tensor, y: Tensor, region: Tensor) -> Tensor:
        """As `Critic.chosen`, without scoring the regions that were not chosen."""
        self._check(x, y)
        from_x, from_y = self._first_layer(x, y)  # [A, N, H], [B, H]
        image = torch.arange(len(x), device=x.device)[:, None]
        return self._further_layers(from_x[image, region] + from_y)

    def _score_all(self, x: Tensor, y: Tensor) -> Tensor:
        from_x, from_y = self._first_layer(x, y)  # [A, H], [B, H]
        items = self._items_at_once(from_x, num_texts=len(y))
        many = len(from_x) * len(from_y) > MOST_KEPT
        if self.chunk is not None or many or not torch.is_grad_enabled():
            further = list(self.mlp[1:].parameters())
            return score_in_blocks(self._score_block, items, from_x, from_y, further)
        return torch.cat([self._score_block(block, from_y) for block in from_x.split(items)])

    def _items_at_once(self, from_x: Tensor, num_texts: int) -> int:
        """How many x are scored with all texts at a time."""
        on_cpu = from_x.device.type == "cpu"
        pairs = self.chunk or (CPU_BLOCK // from_x.shape[1] if on_cpu else MOST_KEPT)
        return max(1, pairs // max(1, num_texts))

    def _score_paired(self, x: Tensor, y: Tensor) -> Tensor:
        from_x, from_y = self._first_layer(x, y)
        return self._further_layers(from_x + from_y)

    def _first_layer(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        first: nn.Linear = self.mlp[0]  # type: ignore[assignment]
        weight_x, weight_y = first.weight.split([self.dim_x, self.dim_y], dim=1)
        return functional.linear(x, weight_x, first.bias), functional.linear(y, weight_y)

    def _score_block(self, from_x: Tensor, from_y: Tensor) -> Tensor:
        """All pairs of the first layer's two sums, [A, H] and [B, H] -> [A, B]."""
        return self._further_layers(from_x[:, None] + from_y)

    def _further_layers(self, first: Tensor) -> Tensor:
        """[*A, H], the first layer before its ReLU (overwritten) -> [*A]."""
        hidden = self.mlp[1:-1](first)
        with without_autocast(hidden):
            scores: Tensor = self.mlp[-1](widened(hidden))
        return scores.squeeze(-1)


class BilinearCritic(Critic):
    """f(x, y) = x^T W y: one matrix product for all pairs.

    Taught in 03_neural_estimators.
    """

    def __init__(self, dim_x: int, dim_y: int) -> None:
        super().__init__(dim_x, dim_y)
        # Features of unit variance begin with scores of unit variance.
        self.weight = nn.Parameter(torch.randn(dim_x, dim_y) / math.sqrt(dim_x * dim_y))

    def _score_all(self, x: Tensor, y: Tensor) -> Tensor:
        from_x = x @ self.weight
        with without_autocast(from_x):
            return widened(from_x) @ widened(y).T

    def _score_paired(self, x: Tensor, y: Tensor) -> Tensor:
        return (widened(x @ self.weight) * widened(y)).sum(dim=-1)


class SeparableCritic(Critic):
    """f(x, y) = g(x)^T h(y), g and h two MLPs with ReLU: each item is encoded once.

    Args:
        dim_x: features of an image part.
        dim_y: features of a text.
        hidden: widths of the hidden layers of both MLPs.
        width: dimensions of g(x) and h(y).

    Taught in 03_neural_estimators.
    """

    def __init__(
        self, dim_x: int, dim_y: int, hidden: Sequence[int] = (1024, 512), width: int = 128
    ) -> None:
        super().__init__(dim_x, dim_y)
        self.encode_x = _mlp([dim_x, *hidden, width])
        self.encode_y = _mlp([dim_y, *hidden, width])

    def _score_all(self, x: Tensor, y: Tensor) -> Tensor:
        codes_x, codes_y = self._encode(x, y)
        with without_autocast(codes_x):
            return codes_x @ codes_y.T

    def _score_paired(self, x: Tensor, y: Tensor) -> Tensor:
        codes_x, codes_y = self._encode(x, y)
        return (codes_x * codes_y).sum(dim=-1)

    def _encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return widened(self.encode_x(x)), widened(self.encode_y(y))


class CentredCritic(SeparableCritic):
    """f(x, y) = (g(x) - mean g)^T (h(y) - mean h): no constant, no offsets of parts or texts.

    For MINE. A separable critic can hold a constant only as (mean g)^T (mean h), and then every
    image part has an offset g(x)^T (mean h), every text one too. MINE's moving average pins the
    constant to that of the first batch; what training can do about the offsets, which cost half
    their variance, is to shrink g and h, and the gradient to the encoders with them. (InfoNCE and
    the gradient of DV leave the constant free.) In training the means are the batch's; in `eval()`
    they are running means, as BatchNorm's, so f is a fixed function of a pair and what it gives
    is a bound.

    Taught in 10_the_papers_tables.
    """

    MOMENTUM = 0.1  # of BatchNorm in torch

    def __init__(
        self, dim_x: int, dim_y: int, hidden: Sequence[int] = (1024, 512), width: int = 128
    ) -> None:
        super().__init__(dim_x, dim_y, hidden, width)
        self.mean_x: Tensor
        self.mean_y: Tensor
        self.register_buffer("mean_x", torch.zeros(width))
        self.register_buffer("mean_y", torch.zeros(width))

    def _encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        codes_x, codes_y = super()._encode(x, y)
        # Each process has image parts of its own, and all texts.
        return (
            self._centred(codes_x, self.mean_x, self.processes),
            self._centred(codes_y, self.mean_y, ALONE),
        )

    def _centred(self, codes: Tensor, running: Tensor, processes: Processes) -> Tensor:
        rows = codes.flatten(end_dim=-2)
        number = torch.tensor(float(len(rows)))
        if self.training:  # else nothing is sent: each process scores parts of its own
            processes.sum_in_place(number)
        if not (self.training and number):
            return codes - running
        mean = processes.sum(rows.sum(dim=0)) / number
        if torch.is_grad_enabled():  # not where the winners of a step are looked for
            running.lerp_(mean.detach().to(running), self.MOMENTUM)
        return codes - mean


Build = Callable[[int, int, Sequence[int], int, int | None], Critic]
CRITICS: Mapping[str, Build] = {  # from dim_x, dim_y, hidden, width, chunk
    "concat": lambda x, y, hidden, width, chunk: ConcatCritic(x, y, hidden, chunk),
    "bilinear": lambda x, y, hidden, width, chunk: BilinearCritic(x, y),
    "separable": lambda x, y, hidden, width, chunk: SeparableCritic(x, y, hidden, width),
    "centred": lambda x, y, hidden, width, chunk: CentredCritic(x, y, hidden, width),
}


def build_critic(
    name: str,
    dim_x: int,
    dim_y: int,
    hidden: Sequence[int] = (1024, 512),
    width: int = 128,
    chunk: int | None = None,
) -> Critic:
    """A critic by name; `width` is for separable and centred ones, `chunk` for concat ones.

    Raises:
        ConfigError: unknown name, or sizes that the critic refuses.
    """
    check_name("critic", name, CRITICS)
    return CRITICS[name](dim_x, dim_y, hidden, width, chunk)


def widened(features: Tensor) -> Tensor:
    """Features in float32 at least."""
    return features.to(sum_dtype(features))


def without_autocast(features: Tensor) -> torch.autocast:
    """Where nothing is multiplied in less than the precision of its factors."""
    return torch.autocast(features.device.type, enabled=False)


def _mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    if min(sizes) < 1:
        raise ConfigError(f"Every layer of a critic needs at least one unit, found {list(sizes)}.")
    layers: list[nn.Module] = [nn.Linear(sizes[0], sizes[1])]
    for fan_in, fan_out in pairwise(sizes[1:]):
        layers += [nn.ReLU(inplace=True), nn.Linear(fan_in, fan_out)]
    return nn.Sequential(*layers)
