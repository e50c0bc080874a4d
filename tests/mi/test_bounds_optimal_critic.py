"""What each estimate is worth when the critic is perfect: Gaussians of 20 dimensions, 64 pairs.

y = rho x + sqrt(1 - rho^2) noise, and the critic is the log density ratio itself, so whatever is
missing is the fault of the estimate.
"""

import csv
import math
from collections.abc import Callable

import pytest
import torch
from places import SHARED
from torch import Tensor

from localmi.mi.bounds import dv, dv_terms, infonce, infonce_terms
from localmi.mi.density_ratio import (
    demi,
    demi_terms,
    nwj_of_js,
    nwj_of_js_terms,
    smile,
    smile_terms,
)
from localmi.mi.unnormalised import interpolated, interpolated_terms, nwj, nwj_terms

TABLE = SHARED / "data" / "optimal-critic-gauss20.csv"
DIM, K, BATCHES = 20, 64, 150
ESTIMATES: dict[str, Callable[[Tensor], Tensor]] = {  # by the names of the table
    "InfoNCE": infonce,
    "DV": dv,
    "NWJ": nwj_of_js,  # the critic is the log ratio, that of NWJ is 1 above it
    "SMILE1": lambda scores: smile(scores, clip=1.0),
    "SMILE5": lambda scores: smile(scores, clip=5.0),
    "plugin(DEMI/JS direct)": demi,
}


def optimal_scores(mi: float, seed: int) -> Tensor:
    """[K, K] log p(x_i, y_j) / p(x_i) p(y_j) of one batch whose I(X; Y) is `mi` nats."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, K, DIM, generator=generator, dtype=torch.float64)
    rho2 = 1 - math.exp(-2 * mi / DIM)
    rho = math.sqrt(rho2)
    y = rho * x + math.sqrt(1 - rho2) * noise
    squares = rho2 * ((x**2).sum(dim=1)[:, None] + (y**2).sum(dim=1))
    return mi - (squares - 2 * rho * x @ y.T) / (2 * (1 - rho2))


def values_of(estimate: Callable[[Tensor], Tensor], mi: float) -> Tensor:
    return torch.stack([estimate(optimal_scores(mi, seed)) for seed in range(BATCHES)])


def spread(values: Tensor) -> float:
    """Standard deviation from the quartiles: that of NWJ, of heavy tails, says little."""
    low, high = torch.quantile(values, torch.tensor([0.25, 0.75], dtype=values.dtype)).tolist()
    return (high - low) / 1.349


@pytest.mark.parametrize("mi", [2, 4, 6, 8, 10])
@pytest.mark.parametrize("name", ESTIMATES)
def test_the_optimal_critic_gives_what_the_table_says(name: str, mi: int) -> None:
    if not TABLE.exists():
        pytest.skip("the table of values with the optimal critic is not here")
    with TABLE.open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["batch"] == str(K)]
    (row,) = [row for row in rows if row["bound"] == name and row["true_mi"] == str(mi)]
    values = values_of(ESTIMATES[name], mi)
    error = spread(values) * math.sqrt(1 / BATCHES + 1 / int(row["n_batches"]))
    # The error of a median is 1.25 times that of a mean.
    assert values.median().item() == pytest.approx(float(row["median"]), abs=4 * 1.25 * error)
    if name != "NWJ":
        assert values.mean().item() == pytest.approx(float(row["mean"]), abs=4 * error)


def test_what_a_perfect_critic_loses_and_gains_at_four_nats() -> None:
    """InfoNCE stops below log K; DV is above the truth, SMILE further; NWJ and DEMI are at it."""
    mean = {name: values_of(estimate, 4).mean().item() for name, estimate in ESTIMATES.items()}
    assert mean["InfoNCE"] < 3.2 < math.log(K)
    assert mean["DV"] > mean["NWJ"]  # on every batch: log z <= z - 1
    assert mean["SMILE1"] > mean["SMILE5"] > 4.15
    assert mean["plugin(DEMI/JS direct)"] == pytest.approx(4, abs=0.11)


@pytest.mark.parametrize("mi", [2, 4])
def test_i_alpha_trades_bias_for_variance(mi: int) -> None:
    """With a(y) = 1, the baseline of the log ratio: from TUBA at the truth to InfoNCE below it."""
    values = [
        values_of(lambda s: interpolated(s, None, alpha, 0.0), mi)  # noqa: B023
        for alpha in (0.0, 0.1, 1.0)
    ]
    tuba, between, infonce_like = (value.mean().item() for value in values)
    assert tuba == pytest.approx(mi, abs=0.15)
    assert tuba > between > infonce_like + 0.1
    spreads = [value.std().item() for value in values]
    assert spreads[0] > spreads[1] > spreads[2]
    torch.testing.assert_close(values[0], values_of(nwj_of_js, mi))


TERMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "dv": (dv, dv_terms),
    "infonce": (infonce, infonce_terms),
    "nwj": (lambda s: nwj(s + 1), lambda s: nwj_terms(s + 1)),
    "nwj_of_js": (nwj_of_js, nwj_of_js_terms),
    "interpolated 0.1": (
        lambda s: interpolated(s, None, 0.1, 0.0),
        lambda s: interpolated_terms(s, None, 0.1, 0.0),
    ),
    "interpolated 0.5": (
        lambda s: interpolated(s, None, 0.5, 0.0),
        lambda s: interpolated_terms(s, None, 0.5, 0.0),
    ),
    "interpolated 1": (
        lambda s: interpolated(s, None, 1.0),
        lambda s: interpolated_terms(s, None, 1.0),
    ),
    "smile": (smile, smile_terms),
    "demi": (demi, demi_terms),
}


@pytest.mark.parametrize("name", TERMS)
def test_the_standard_error_of_the_terms_is_the_spread_of_the_estimate(name: str) -> None:
    """An interval from the terms of one batch is as wide as batches differ, at 2 nats."""
    estimate, terms = TERMS[name]
    batches = [optimal_scores(2.0, seed) for seed in range(BATCHES)]
    values = torch.stack([estimate(scores) for scores in batches])
    variance = torch.stack([terms(scores).var() / K for scores in batches]).mean().item()
    assert 0.75 < math.sqrt(variance) / values.std().item() < 1.3
