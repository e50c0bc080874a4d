"""Checks of the exercises of 10_the_papers_tables."""

from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest

from localmi.course.check import exercise, expect, expect_close, expect_number


@exercise
def exercise_10_1(my_standard_error: Callable[[float, int, int], float]) -> None:
    """Hanley and McNeil's standard error of an AUC: auc, positives, negatives -> one number."""
    auc, positives, negatives = 0.8, 20, 80
    found = expect_number(my_standard_error(auc, positives, negatives))
    wanted = _standard_error(auc, positives, negatives)
    p, n = positives, negatives
    mistakes = {
        wanted**2: "that is the variance: take its root",
        _standard_error(auc, n, p): "positives and negatives have changed places: Q1 goes with "
        "the positives",
        np.sqrt(auc * (1 - auc) / (p + n)): "that is the standard error of a share of images; an "
        "AUC is a share of pairs, and pairs that share an image are not independent",
        np.sqrt(auc * (1 - auc) / (p * n)): "pairs that share an image are not independent: the "
        "terms with Q1 and Q2 are missing",
    }
    for value, words in mistakes.items():
        expect(not np.isclose(found, value, rtol=1e-6), words)
    expect_close(found, wanted, "standard error of an AUC of .8 from 20 positives, 80 negatives")
    other = _standard_error(0.6, 90, 30)
    expect_close(my_standard_error(0.6, 90, 30), other, "of .6 from 90 positives, 30 negatives")
    expect_close(my_standard_error(1.0, 20, 80), 0.0, "standard error of a perfect AUC")


def _standard_error(auc: float, positives: int, negatives: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc)
    spread += (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return float(np.sqrt(spread / (positives * negatives)))


@exercise
def exercise_10_2(my_sign_test: Callable[[np.ndarray], float]) -> None:
    """Two-sided p of a sign test: differences [n] -> one number; zeros do not count."""
    differences = np.array([0.10, 0.02, -0.01, 0.05, 0.0, 0.03, 0.04, 0.01, 0.0])  # 6 of 7
    found = expect_number(my_sign_test(differences))
    wanted = float(binomtest(6, 7).pvalue)
    mistakes = {
        wanted / 2: "that is one side: a difference as large the other way counts too",
        binomtest(6, 9).pvalue: "a difference of 0 favours nobody: leave it out, 6 of 7",
        binomtest(8, 9).pvalue: "a difference of 0 is no win: leave it out, 6 of 7",
        2 * 0.5**7 * 7: "that is the chance of exactly 6 wins: 7 of 7 would be as extreme",
        6 / 7: "that is the share of wins: how likely is it, or a more extreme one, by a coin?",
    }
    for value, words in mistakes.items():
        expect(not np.isclose(found, value, rtol=1e-6), words)
    expect_close(found, wanted, "p of 6 wins, 1 loss and 2 draws")
    expect_close(my_sign_test(-differences), wanted, "p of the opposite differences")
    expect_close(my_sign_test(np.array([0.1, -0.1])), 1.0, "p of one win and one loss")
    many = np.resize([0.02, -0.03, 0.04, 0.0, 0.01], 30)
    expect_close(my_sign_test(many), float(binomtest(18, 24).pvalue), "p of 18 wins in 24")


@exercise
def exercise_10_3(my_verdict: Callable[[float, float, float], str]) -> None:
    """What a test says of "a beats b": difference a - b, p of these networks, p of the method ->
    one of four words."""
    words = ("holds", "contradicted", "once", "open")
    cases = {(0.04, 0.001, 0.01): "holds", (-0.04, 0.001, 0.01): "contradicted"}
    cases |= {(0.04, 0.001, 0.3): "once", (-0.04, 0.001, 0.3): "once"}
    cases |= {(0.04, 0.3, 0.4): "open", (-0.001, 0.8, 0.9): "open", (0.3, 0.04, 0.05): "once"}
    cases |= {(0.3, 0.05, 0.05): "open", (0.04, 0.2, 0.03): "open"}
    cases |= {(0.02, 0.045, 0.049): "holds", (-0.02, 0.045, 0.051): "once"}
    found = {case: my_verdict(*case) for case in cases}
    for answer in found.values():
        expect(answer in words, f"{answer!r} is none of {', '.join(words)}")
    expect(
        found[-0.04, 0.001, 0.01] != "holds",
        "a difference of -.04 with both p below .05 is sure, but the other way: contradicted",
    )
    expect(
        found[-0.001, 0.8, 0.9] != "contradicted",
        "a difference of -.001 with p = .8 contradicts nothing: these patients cannot tell",
    )
    expect(
        found[0.04, 0.001, 0.3] != "holds",
        "p = .001 of these networks and .3 of the method: another seed may turn it. Once",
    )
    expect(
        found[0.3, 0.04, 0.05] != "holds",
        "p = .05 is not below .05",
    )
    for case, answer in cases.items():
        difference, networks, method = case
        expect(
            found[case] == answer,
            f"difference {difference:+}, p = {networks} of these networks and {method} of the "
            f"method: {answer}",
        )
