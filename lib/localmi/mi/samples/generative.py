"""Mutual information as entropy minus cross-entropy: BA and DoE, and the densities they need.

The only family that no number of pairs caps: a conditional density is learned, and no mismatched
pair is looked at. What it costs is a model of y that must be good in every dimension.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from localmi.errors import ConfigError
from localmi.mi.samples.fitting import Training, fit
from localmi.mi.samples.inputs import Part, Splits

GENERATIVE = ("doe", "ba")
COMPONENTS, HIDDEN = 8, 128
JITTER = 0.02  # of the components' means, so that they can part
RIDGE = 1e-6  # of columns of variance 1


def ba_terms(log_conditional: Tensor, entropy: float) -> Tensor:
    """Barber-Agakov: h(Y) + log q(y_i | x_i), [K] nats, whose mean is a lower bound on I(X; Y).

    The cross-entropy -E log q(y | x) is never below h(Y | X), whatever q is.
    Barber and Agakov 2003; Poole et al. 2019, Eq. (2).

    Args:
        log_conditional: [K] log q(y_i | x_i) of held-out pairs.
        entropy: h(Y) in nats, known, in the units of y.

    Raises:
        ConfigError: not [K] with K at least 1, or no finite entropy.

    Taught in 03_neural_estimators.
    """
    _check_log_densities(log_conditional)
    if not math.isfinite(entropy):
        raise ConfigError(f"BA needs a finite entropy of y in nats, found {entropy}.")
    return entropy + log_conditional


def doe_terms(log_marginal: Tensor, log_conditional: Tensor) -> Tensor:
    """DoE: log q(y_i | x_i) - log q(y_i), [K] nats, whose mean estimates I(X; Y).

    The difference of two cross-entropies, each above its entropy: **no bound**, and consistent
    where both densities are. McAllester and Stratos 2020, Sec. 5.

    Args:
        log_marginal: [K] log q(y_i) of held-out pairs.
        log_conditional: [K] log q(y_i | x_i) of the same pairs.

    Raises:
        ConfigError: not [K] both, with K at least 1.

    Taught in 03_neural_estimators.
    """
    _check_log_densities(log_marginal)
    _check_log_densities(log_conditional)
    if log_marginal.shape != log_conditional.shape:
        raise ConfigError(
            f"DoE compares two densities on the same pairs, found {len(log_marginal)} of q(y) and "
            f"{len(log_conditional)} of q(y | x)."
        )
    return log_conditional - log_marginal


class ConditionalDensity(nn.Module):
    """q(y | x): a linear regression, its correlated rest a mixture of Gaussians that x governs.

    y = A x + b + R r, and r has density sum_c w_c(x) N(r; m_c(x), diag s_c(x)^2); w, m, log s
    come from an MLP with ReLU. It starts as least squares with Gaussian rest, which is exact for
    Gaussians; the network and everything else are learned from there.
    A mixture density network (Bishop 1994) with a full covariance.

    Args:
        x: [n, dim_x] what it starts from; None is a density of y alone.
        y: [n, dim_y].

    Taught in 03_neural_estimators.
    """

    def __init__(self, x: Tensor | None, y: Tensor) -> None:
        super().__init__()
        inputs = y.new_ones(len(y), 1) if x is None else _with_one(x)
        coefficients, root = _least_squares(inputs, y)
        self.linear = nn.Parameter(coefficients)  # [dim_x + 1, dim_y]
        self.whiten = nn.Parameter(root)  # [dim_y, dim_y], lower: r = whiten (y - A x - b)
        dim = y.shape[1]
        self.sizes = [COMPONENTS, COMPONENTS * dim, COMPONENTS * dim]
        last = nn.Linear(HIDDEN, sum(self.sizes))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        nn.init.normal_(last.bias[COMPONENTS : COMPONENTS * (1 + dim)], std=JITTER)
        first, second = nn.Linear(inputs.shape[1], HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)

    def forward(self, x: Tensor | None, y: Tensor) -> Tensor:
        """log q(y_i | x_i): [n, dim_x] (or None) and [n, dim_y] -> [n]."""
        inputs = y.new_ones(len(y), 1) if x is None else _with_one(x)
        whiten = self.whiten.tril()
        rest = (y - inputs @ self.linear) @ whiten.T  # [n, dim_y]
        logits, means, log_scales = self.network(inputs).split(self.sizes, dim=1)
        log_scales = log_scales.reshape(len(y), COMPONENTS, -1)
        distance = (rest[:, None] - means.reshape(log_scales.shape)) * (-log_scales).exp()
        normal = -(distance.square() + math.log(2 * math.pi)) / 2 - log_scales
        mixture = (functional.log_softmax(logits, dim=1) + normal.sum(dim=2)).logsumexp(dim=1)
        result: Tensor = mixture + whiten.diagonal().abs().log().sum()
        return result


def held_out_densities(
    splits: Splits, *, entropy: float | None, training: Training
) -> tuple[Tensor, int]:
    """Terms of BA (where the entropy is known) or DoE on the report split, and the step taken.

    Args:
        entropy: of the prepared y, nats; None estimates it.
    """
    report = splits.report
    conditional, step = _fit_density(splits, conditional=True, training=training)
    log_conditional = conditional(report.x, report.y)  # no gradient: what was fitted is frozen
    if entropy is not None:
        return ba_terms(log_conditional, entropy), step
    marginal, _ = _fit_density(splits, conditional=False, training=training)
    return doe_terms(marginal(None, report.y), log_conditional), step


def _fit_density(
    splits: Splits, *, conditional: bool, training: Training
) -> tuple[ConditionalDensity, int]:
    def given(part: Part) -> Tensor | None:
        return part.x if conditional else None

    def batch_value(model: ConditionalDensity, index: Tensor) -> Tensor:
        batch = splits.fit.subset(index)
        return model(given(batch), batch.y).mean()

    @torch.no_grad()
    def stop_value(model: ConditionalDensity) -> float:
        return float(model(given(splits.stop), splits.stop.y).mean())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        model = ConditionalDensity(given(splits.fit), splits.fit.y).to(splits.fit.y.device)
    number = len(splits.fit.y)
    return fit(model, batch_value, stop_value, number=number, training=training)


def _least_squares(inputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients [D, dim_y], and the lower root of the rest's inverse covariance."""
    inputs, y = inputs.double().cpu(), y.double().cpu()
    ridge = RIDGE * len(y) * torch.eye(inputs.shape[1]).double()
    coefficients = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ y)
    rest = y - inputs @ coefficients
    covariance = rest.T @ rest / len(y) + RIDGE * torch.eye(y.shape[1]).double()
    root = torch.linalg.inv(torch.linalg.cholesky(covariance))
    return coefficients.float(), root.float()


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _check_log_densities(values: Tensor) -> None:
    if values.ndim != 1 or len(values) == 0:
        raise ConfigError(
            f"Log densities of pairs must be [K] with K at least 1, found {list(values.shape)}."
        )
