"""Fitting a critic to samples: where it starts, what it climbs, when it stops."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Literal, TypeVar, cast, get_args

import torch
from sklearn.covariance import LedoitWolf, empirical_covariance
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from localmi.errors import ConfigError, TrainingError, check_name
from localmi.mi.critics import ConcatCritic, Critic, SeparableCritic, build_critic
from localmi.mi.estimators import EstimatorInTraining, OfScores
from localmi.mi.quadratic import QuadraticCritic
from localmi.mi.samples.inputs import Part, Splits
from localmi.names import Bound

Model = TypeVar("Model", bound=nn.Module)
CriticName = Literal["separable", "concat", "bilinear", "quadratic"]
Start = Literal["gaussian", "random"]
HIDDEN, WIDTH = (128, 128, 128), 64
EVERY, PATIENCE = 50, 8  # steps between two looks at the stop split; looks without a gain
LAST_SEED = 2**63 - 1  # that torch takes
SINGULAR = 1e-6  # smallest eigenvalue of a covariance of columns of variance 1
AVERAGE = 0.99  # weights are a moving average: less noise of the last batches


@dataclass(frozen=True)
class Training:
    """How a fit goes on.

    Raises:
        ConfigError: a number that cannot be.
    """

    steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 5e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise ConfigError(f"{name} must be a whole number, found {value!r}.")
        if not isinstance(self.learning_rate, Real):
            raise ConfigError(f"learning_rate must be a number, found {self.learning_rate!r}.")
        if not 0 <= self.seed <= LAST_SEED:
            raise ConfigError(f"seed must lie in 0 to {LAST_SEED}, found {self.seed}.")
        if self.steps < 0 or self.batch_size < 2 or not 0 < self.learning_rate < math.inf:
            raise ConfigError(
                "A fit needs steps >= 0, batch_size >= 2 and learning_rate > 0; found "
                f"{self.steps}, {self.batch_size} and {self.learning_rate}."
            )


class FromGaussian(Critic):
    """A quadratic critic plus a network that begins at 0 and learns what is not Gaussian."""

    def __init__(self, gaussian: QuadraticCritic, network: Critic) -> None:
        super().__init__(network.dim_x, network.dim_y)
        self.gaussian = gaussian
        self.network = network

    def _score_all(self, x: Tensor, y: Tensor) -> Tensor:
        scores: Tensor = self.gaussian(x, y) + self.network(x, y)
        return scores

    def _score_paired(self, x: Tensor, y: Tensor) -> Tensor:
        return self.gaussian.paired(x, y) + self.network.paired(x, y)


def fit_critic(
    splits: Splits, *, method: str, critic: CriticName, start: Start, training: Training
) -> tuple[Critic, int]:
    """A critic fitted on `fit` and stopped by `stop`, and the step it was taken at.

    Raises:
        ConfigError: unknown method, critic or start.
        TrainingError: the objective is not a number.
    """
    check_start(critic, start)
    estimator = EstimatorInTraining(cast("Bound", method))
    stop_value = partial(
        _mean_over_blocks,
        part=splits.stop,
        value=estimator.row.stopped_by,
        size=training.batch_size,
    )
    candidates = _starts(splits.fit, critic, start, estimator.row.shift, training.seed)
    device = splits.fit.x.device
    model = max((one.to(device) for one in candidates), key=lambda one: stop_value(one))

    def batch_value(model: nn.Module, index: Tensor) -> Tensor:
        batch = splits.fit.subset(index)
        return estimator.maximised(model(batch.x, batch.y), batch.allowed())

    return fit(model, batch_value, stop_value, number=len(splits.fit.x), training=training)


def check_start(critic: str, start: str) -> None:
    """Nothing if `fit_critic` knows both names.

    Raises:
        ConfigError: it does not.
    """
    check_name("critic", critic, get_args(CriticName))
    check_name("start", start, get_args(Start))


def fit(
    model: Model,
    batch_value: Callable[[Model, Tensor], Tensor],
    stop_value: Callable[[Model], float],
    *,
    number: int,
    training: Training,
) -> tuple[Model, int]:
    """Maximise by Adam; of the averaged weights, those that were best on the stop split.

    The start is one of the candidates: nothing is taken that is worse on the stop split.

    Args:
        model: is changed.
        batch_value: what is maximised, for the fit pairs of an index [batch].
        stop_value: the same kind of value on the stop split.
        number: of fit pairs.
        training: steps, batch size, learning rate, seed.
    """
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE))
    optimiser = torch.optim.Adam(model.parameters(), training.learning_rate)
    generator = torch.Generator().manual_seed(training.seed)
    best, best_value, best_step = copy.deepcopy(model), stop_value(model), 0
    for step in range(1, training.steps + 1):
        index = torch.randperm(number, generator=generator)[: training.batch_size]
        optimiser.zero_grad()
        value = batch_value(model, index)
        if not value.isfinite():
            raise TrainingError(
                f"The objective is {value.item()} at step {step}. Lower the learning rate, or use "
                "a method without e^f: js, smile or infonce."
            )
        (-value).backward()
        optimiser.step()
        averaged.update_parameters(model)
        if step % EVERY == 0 or step == training.steps:
            now = cast(Model, averaged.module)
            value_now = stop_value(now)
            if value_now > best_value:
                best, best_value, best_step = copy.deepcopy(now), value_now, step
            elif step - best_step >= PATIENCE * EVERY:
                break
    return best.requires_grad_(False), best_step


def blocks_of(part: Part, size: int) -> list[Part]:
    """Blocks of nearly equal size, none larger than `size`; the order of a split is random."""
    blocks = math.ceil(len(part.x) / size)
    index = torch.arange(len(part.x), device=part.x.device)
    return [part.subset(one) for one in index.tensor_split(blocks)]


@torch.no_grad()
def _mean_over_blocks(model: nn.Module, *, part: Part, value: OfScores, size: int) -> float:
    """The value on the stop split, in blocks as large as the batches of training."""
    blocks = blocks_of(part, size)
    values = [value(model(one.x, one.y), one.allowed()).item() for one in blocks]
    return sum(values) / len(values)


def _starts(part: Part, critic: CriticName, start: Start, shift: float, seed: int) -> list[Critic]:
    """Critics to begin with; the stop split chooses."""
    dim_x, dim_y = part.x.shape[1], part.y.shape[1]
    from_gaussian = start == "gaussian" and critic != "bilinear"
    gaussians = _gaussian_critics(part, shift) if from_gaussian else []
    if critic == "quadratic":
        return [*gaussians] or [QuadraticCritic(dim_x, dim_y)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_critic(critic, dim_x, dim_y, HIDDEN, WIDTH)
    if not gaussians:
        return [network]
    _silence(network)
    return [FromGaussian(one, copy.deepcopy(network)) for one in gaussians]


def _gaussian_critics(part: Part, shift: float) -> list[QuadraticCritic]:
    """The oracle of the fit split's covariance: as it is, and shrunk (Ledoit and Wolf 2004).

    The first is left out where the covariance cannot be inverted.
    """
    pairs = torch.cat([part.x, part.y], dim=1).double().cpu()
    covariances = [
        empirical_covariance(pairs.numpy()),
        LedoitWolf().fit(pairs.numpy()).covariance_,
    ]
    critics = []
    for covariance in map(torch.from_numpy, covariances):
        if torch.linalg.eigvalsh(covariance)[0] < SINGULAR:
            continue
        one = QuadraticCritic.of_gaussian(covariance, part.x.shape[1], pairs.mean(dim=0))
        one.constant.data += shift
        critics.append(one)
    return critics


def _silence(network: Critic) -> None:
    """Sets a network to 0, such that it can still learn."""
    for part in network.modules():
        if isinstance(part, SeparableCritic):
            last = part.encode_x[-1]
        elif isinstance(part, ConcatCritic):
            last = part.mlp[-1]
        else:
            continue
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
