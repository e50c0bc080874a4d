# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 Variational bounds: what a perfect critic still gets wrong
#
# **You will be able to** derive the bounds of Barber-Agakov, Donsker-Varadhan, NWJ, InfoNCE and
# $I_\alpha$ from one inequality, write each in five lines, predict the bias and the variance of
# each on a batch, and tell the looseness of a bound from the error of a critic.
#
# **Before this**: [1 Mutual information](01_mutual_information.ipynb); torch tensors.
#
# **Reading time**: 60 minutes.
# **Run time**: half a minute on 2 cores; a GPU is not used. **Memory**: 1.2 GB.
# **Data**: none. Gaussians whose mutual information and best critic are known.

# %% tags=["setup"]
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from localmi.course import COLOURS, PALETTE, check, set_up, show

set_up()

# %% tags=["parameters"]
seed = 0  # of everything random
batch_size = 64  # pairs in a batch, K
batches = 200  # batches of which mean and standard deviation are taken
pairs = 1536  # pairs that the critic of section 9 is fitted on
steps = 300  # of its training
run_dir = ""  # where results are kept, "" keeps nothing

# %% [markdown]
# ## 1 What is the best score for a pair?
#
# Given are pairs $(x_i, y_i)$, image and report. A **critic** $f(x, y)$ gives every image a score
# with every report: a table, `scores[i, j]` $= f(x_i, y_j)$, *rows are images*. On the diagonal
# stand the matched pairs, draws of $p(x, y)$; off the diagonal the mismatched ones, draws of
# $p(x)\,p(y)$. All bounds are computed from this table and nothing else.
#
# The best critic is the log-ratio, $f^* = \log p(x,y) / p(x)p(y)$: its mean over matched pairs
# *is* $I$. We shall use a world where it is known, the **staircase**: $x \sim N(0, 1)$ in 20
# dimensions, $y = \rho x + \sqrt{1 - \rho^2}\,\varepsilon$, $\rho^2 = 1 - e^{-2I/20}$. Then
#
# $$f^*(x, y) = I + \frac{2\rho\, x\cdot y - \rho^2 (|x|^2 + |y|^2)}{2\,(1 - \rho^2)}.$$

# %%
from localmi.mi.distributions import staircase

def my_log_ratio(x, y, mi):                   # [n, d], [m, d] -> [n, m]
    square = 1 - math.exp(-2 * mi / x.shape[1])           # rho^2
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return mi + (2 * math.sqrt(square) * x @ y.T - square * lengths) / (2 * (1 - square))


known = staircase(mi=4.0)
x, y = known.sample(8, seed)
scores = my_log_ratio(x, y, mi=4.0)
assert torch.allclose(scores, known.log_ratio(x, y), atol=1e-4)
for mi in (1.0, 2.0, 4.0):
    x, y = staircase(mi).sample(2000, seed)
    table = my_log_ratio(x, y, mi)
    matched, mismatched = table.diagonal(), table[~torch.eye(2000, dtype=torch.bool)]
    print(f"I = {mi:g}: mean f {matched.mean():.2f} over matched, {mismatched.mean():6.2f} over "
          f"mismatched pairs; mean of exp f over mismatched {mismatched.exp().mean():.2f}")

# %%
figure, axes = plt.subplots(figsize=(5.6, 4.6))
picture = axes.imshow(scores, cmap="PuOr", vmin=-16, vmax=16)
for (row, column), value in np.ndenumerate(scores.numpy()):
    weight = "bold" if row == column else "normal"
    colour = "white" if abs(value) > 11 else "black"
    text = f"{round(float(value))}".replace("-", "−")
    axes.text(column, row, text, ha="center", va="center", weight=weight, color=colour)
axes.set(xlabel="report $j$", ylabel="image $i$", xticks=range(8), yticks=range(8))
axes.tick_params(length=0)
figure.colorbar(picture, label="score (nats)", shrink=0.9)
show(
    figure,
    alt="A table of eight by eight scores by the best critic: positive on the diagonal, mostly "
    "far below zero elsewhere.",
    caption="Figure 2.1: scores of the best critic for 4 nats. Bold: the matched pairs.",
)

# %% [markdown]
# Two facts of $f^*$ that all the rest hangs on: $E_{p(x,y)} f^* = I$, and
# $E_{p(x)p(y)}\, e^{f^*} = \iint p(x)p(y)\,\frac{p(x,y)}{p(x)p(y)} = 1$; the same for every single
# $x$: $E_{p(y)}\, e^{f^*(x, y)} = 1$.
#
# **What could go wrong**: the orientation. A sum over $j$ in `scores[i, j]` asks which *report*
# belongs to image $i$. Who builds the table the other way round asks for the image, and with a
# mask or more texts than images computes nonsense without an error.

# %% [markdown]
# ## 2 What if we guess what the report says?
#
# $I = h(Y) - h(Y \mid X)$. Predict the report from the image by any density $q(y \mid x)$. Because
# $D(p\|q) \ge 0$, its average surprise is never below what is really open:
#
# $$I \ge h(Y) + E_{p(x,y)} \log q(y \mid x), \qquad \text{gap} = E_x\, D\big(p(y \mid x)\,\|\,q(y \mid x)\big)
# \qquad\text{(Barber and Agakov 2003)}$$

# %%
from localmi.mi import ba_terms
from localmi.mi.distributions import staircase

def my_ba(x, y, slope, variance):             # q(y | x) = N(slope x, variance), [n, d] both
    entropy = y.shape[1] / 2 * math.log(2 * math.pi * math.e)      # h(Y), known here
    error = (y - slope * x).square().sum(dim=1)
    log_q = -y.shape[1] / 2 * math.log(2 * math.pi * variance) - error / (2 * variance)
    assert torch.equal(ba_terms(log_q, entropy), entropy + log_q)  # the library's
    return (entropy + log_q).mean()


# %%
x, y = staircase(mi=4.0).sample(20_000, seed)
square = 1 - math.exp(-2 * 4.0 / 20)
rho = math.sqrt(square)
for what, slope, variance in (
    ("the right guess", rho, 1 - square), ("half the slope", rho / 2, 1 - square),
    ("twice the variance", rho, 2 * (1 - square)), ("knows nothing", 0.0, 1.0),
):  # fmt: skip
    exact = 10 * (1 - math.log(variance) - (1 - 2 * slope * rho + slope**2) / variance)
    found = my_ba(x, y, slope, variance)
    print(f"{what:18} {exact:.4f} nats expected, {found:.2f} on 20,000 pairs")

# %% [markdown]
# The right guess is tight, **4.0000 nats**; every other one is below.
#
# **What could go wrong**: a density of all reports, normalised, and $h(Y)$ besides. Nobody has
# those. So let $q$ be $p(y)$, re-weighted by a critic, and both unknowns leave:
#
# $$q(y \mid x) = p(y)\,\frac{e^{f(x,y)}}{Z(x)}, \quad Z(x) = E_{p(y)}\, e^{f(x, y)}
# \qquad\Rightarrow\qquad I \ge E_{p(x,y)} f - E_{p(x)} \log Z(x).$$
#
# What stays is $\log Z(x)$, the log of a mean that we can only sample. Each of the bounds that
# follow gets rid of it in a way of its own:
#
# | bound | what it does with $\log Z$ | price |
# |---|---|---|
# | Donsker-Varadhan | one log outside of everything (Jensen) | on a batch no bound, and variance |
# | TUBA, NWJ | a tangent of the log | variance |
# | InfoNCE | $Z$ from the batch, matched pair included | never above $\log K$ |
# | $I_\alpha$ | a mixture of the last two | some of both |

# %% [markdown]
# ## 3 Donsker and Varadhan: one logarithm
#
# By Jensen $E \log Z \le \log E Z$, so
#
# $$I \ge E_{p(x,y)} f - \log E_{p(x)p(y)}\, e^f \qquad\text{(paper, Eq. 3)}$$
#
# Directly: with $g = p(x)p(y)\,e^f / E[e^f]$, a density, the right side is $I - D(p(x,y)\,\|\,g)$.
# It is tight for $f^*$ plus any constant. On a batch of $K$ pairs, $O$ being all $K(K-1)$
# mismatched ones:
#
# $$\hat I_{DV} = \frac1K \sum_i f_{ii} - \Big[\log\sum_{(i,j)\in O} e^{f_{ij}} - \log K(K-1)\Big].$$

# %%
from localmi.mi import bounds
from localmi.mi.distributions import staircase

def my_dv(scores):                            # [K, K]
    K = len(scores)
    mismatched = scores[~torch.eye(K, dtype=torch.bool)]  # [K (K - 1)]
    return scores.diagonal().mean() - (mismatched.logsumexp(dim=0) - math.log(K * (K - 1)))


# %%
for mi in (2.0, 4.0, 6.0, 8.0, 10.0):
    known = staircase(mi)
    x, y = known.sample(batch_size * batches, seed)
    both = zip(x.split(batch_size), y.split(batch_size))
    tables = [known.log_ratio(*pair) for pair in both]  # the best critic's
    found = torch.stack([my_dv(table) for table in tables])
    assert torch.isclose(found[0], bounds.dv(tables[0]))
    print(f"truth {mi:4.1f}: DV {found.mean():5.2f} on average, spread {found.std():.2f}")

# %% [markdown]
# A *lower* bound, with the *best* critic, and **11.36 nats** on average where there are 10.
# Nothing is wrong with the theorem: it speaks of $\log E\,e^f$, and a batch has the log of a
# *mean*. By Jensen again, $E \log(\text{mean}) \le \log E(\text{mean})$: the term that is taken
# off is too small on average. Only on very many fresh pairs is DV a bound. How many? Section 4.
#
# **What could go wrong**: the diagonal in the denominator. The $K$ matched scores dominate it, and
# since $\log\frac{1}{K^2}\sum_{ij} e^{f_{ij}} \ge \frac1K\sum_i f_{ii} - \log K$, the value can
# never exceed $\log K$: a cap that DV does not have.

# %%
def with_diagonal(scores):
    log_mean = scores.flatten().logsumexp(dim=0) - 2 * math.log(len(scores))
    return scores.diagonal().mean() - log_mean


found = torch.stack([with_diagonal(table) for table in tables])  # of 10 nats
print(f"diagonal left in: {found.mean():.2f} on average, {found.max():.2f} at most")
print(f"log K: {math.log(batch_size):.2f}")
assert found.max() <= math.log(batch_size)

# %% [markdown]
# Of 10 nats not one is left: the matched pair with the highest score fills the sum by itself.
#
# A random permutation of the reports, the usual short cut, is not the same, and not right either. It
# leaves one pair in its place on average, but *none* in 37 of 100 batches ($1/e$). Where one stays,
# its score $f_{kk}$ keeps the value under $\frac1K\sum_i f_{ii} - f_{kk} + \log K$: no cap at $\log K$,
# but far too low. Where none stays, it is DV on $K$ pairs in place of $K(K-1)$, biased up all the more.

# %%
def by_permutation(scores):                   # value, and whether a matched pair stays in its place
    K, rows = len(scores), torch.arange(len(scores))
    report = torch.randperm(K)
    value = scores.diagonal().mean() - (scores[rows, report].logsumexp(dim=0) - math.log(K))
    return value, (report == rows).any()


torch.manual_seed(seed)
found, stays = map(torch.stack, zip(*[by_permutation(table) for table in tables]))  # of 10 nats
print(f"above log K: {(found > math.log(batch_size)).float().mean():.0%} of the batches")
for what, some in (("a matched pair stays", stays), ("none stays", ~stays)):
    print(f"{what}: {some.float().mean():.0%} of the batches, {found[some].mean():.2f} on average")

# %% [markdown]
# Two estimators in one, by chance. Take all mismatched pairs, or a permutation without fixed points.
#
# ### Exercise 2.1: who of them is wrong, and which way?
#
# Three people wrote DV. One made no mistake and wastes pairs; the value of another can be too large, of
# the third too small. Give for each a table of scores `[K, K]` on which the value differs by more than 2
# nats from that of `my_dv`, and its direction: `+1` if only too large a value can be that wrong, `-1` if
# only too small a one, `0` if both can.

# %%
def anna(scores):                             # [K, K]
    return scores.diagonal().mean() - (scores.flatten().logsumexp(0) - 2 * math.log(len(scores)))


def ben(scores):
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -math.inf)
    return scores.diagonal().mean() - (others.logsumexp(dim=1) - math.log(len(scores) - 1)).mean()


def cleo(scores):
    others = scores.roll(1, dims=1).diagonal()    # scores[i, i - 1]
    return scores.diagonal().mean() - (others.logsumexp(0) - math.log(len(scores)))


# %%
my_answer = {"anna": (..., ...), "ben": (..., ...), "cleo": (..., ...)}  # (table, direction)
check.exercise_2_1(my_answer)

# %% jupyter={"source_hidden": true} tags=["solution"]
perfect = 10 * torch.eye(4)                   # anna: a matched pair outweighs all mismatched ones
one_row = torch.zeros(4, 4)                   # ben: the log of a mean is above the mean of logs
one_row[0, 1:] = 10
elsewhere = torch.full((4, 4), 10.0)          # cleo: large scores where she does not look
for i in range(4):
    elsewhere[i, i - 1] = 0
my_answer = {"anna": (perfect, -1), "ben": (one_row, +1), "cleo": (elsewhere, 0)}
check.exercise_2_1(my_answer)

# %% [markdown]
# ## 4 How many pairs does a mean of $e^f$ need?
#
# For the best critic $e^f$ has mean 1 over mismatched pairs. And its variance? One correlated pair
# of coordinates gives $E_{p(x)p(y)}\, e^{2f^*} = 1/(1 - \rho^2)$; $d$ of them multiply to
# $(1-\rho^2)^{-d} = e^{2I}$. So for Gaussians
#
# $$\mathrm{Var}_{p(x)p(y)}\big(e^{f^*}\big) = e^{2I} - 1,$$
#
# and never below $e^I - 1$ for any distribution, for
# $E_{p(x)p(y)} e^{2f^*} = E_{p(x,y)} e^{f^*} \ge e^{I}$. Let us look for it in a million
# independent pairs.

# %%
from localmi.mi.distributions import staircase

generator = np.random.default_rng(seed)
x, y = generator.standard_normal((2, 50_000, 20))  # independent: mismatched pairs
products = np.stack([(x * np.roll(y, shift, axis=0)).sum(axis=1) for shift in range(20)])
lengths = np.stack([(x**2 + np.roll(y, shift, axis=0) ** 2).sum(axis=1) for shift in range(20)])
levels = np.array([0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10])
measured = []
for mi in levels:
    square = -math.expm1(-2 * mi / 20)
    score = mi + (2 * math.sqrt(square) * products - square * lengths) / (2 * (1 - square))
    measured.append(np.exp(score).var())
law = np.expm1(2 * levels)
for mi, seen, expected in zip(levels[:5], measured, law):
    print(f"I = {mi:4.2f}: variance {seen:6.2f} measured, {expected:6.2f} by the law")

# %%
figure, axes = plt.subplots(figsize=(7, 4))
axes.plot(levels, law, color=COLOURS["truth"], linestyle="--", label="$e^{2I} - 1$")
least = np.expm1(levels)
axes.plot(levels, least, color=COLOURS["cap"], linestyle=":", label="$e^I - 1$: at least")
axes.plot(levels, measured, "o-", color=COLOURS["held-out"], label="in a million pairs")
axes.set(yscale="log", xlabel="true MI (nats)", ylabel="variance of $e^f$, mismatched pairs")
axes.legend()
show(
    figure,
    alt="Variance of exp f against the information, on a logarithmic axis: the measured one "
    "follows the law up to about two nats and then stays far below it.",
    caption="Figure 2.2: the variance that is there, and the variance that is seen.",
)

# %% [markdown]
# The law holds as far as one can see, and that is not far. The mean of $e^f$ is 1 only thanks to
# mismatched pairs that look matched, as rare as $e^{-I}$ and with an $e^f$ of about $e^{I}$; the
# variance comes from still rarer and larger ones, and a million pairs hold none of those. (Where
# $\rho > 1/3$, from 1.2 nats on in 20 dimensions, $E\,e^{4f}$ is infinite: the variance that is
# *measured* has itself no finite variance.)
#
# **What could go wrong**: trusting a mean of $e^f$ because it hardly fluctuates. In a batch that
# holds no such pair it is small, steady and *wrong*.
#
# A batch has $K(K-1)$ mismatched pairs out of $K$ images and $K$ reports. For the best critic
# these are uncorrelated but for each pair and its mirror image, $(i,j)$ and $(j,i)$, and one finds
# exactly
#
# $$\mathrm{Var}\Big(\tfrac{1}{K(K-1)}\sum_O e^{f_{ij}}\Big)
# = \frac{\big(e^{2I} - 1\big) + \big((1 - \rho^4)^{-d} - 1\big)}{K(K-1)},
# \qquad \text{bias of DV} \approx \tfrac12 \mathrm{Var}$$
#
# while the variance is small (from $-\log(1+u) \approx -u + u^2/2$).

# %%
for mi in (0.5, 1.0, 1.5):
    known, K, count = staircase(mi), 16, 20 * batches
    x, y = known.sample(K * count, seed)
    both = zip(x.split(K), y.split(K))
    tables = torch.stack([known.log_ratio(*pair) for pair in both]).double()
    ratio = tables.exp() * (1 - torch.eye(K))
    mean = ratio.sum(dim=(1, 2)) / (K * (K - 1))
    square = -math.expm1(-2 * mi / 20)
    law = (math.expm1(2 * mi) + (1 - square**2) ** -20 - 1) / (K * (K - 1))
    print(f"I = {mi}, K = {K}: variance {mean.var():.3f} (law {law:.3f}); "
          f"bias of DV {-mean.log().mean():.3f} (half of the law {law / 2:.3f})")

# %% [markdown]
# So $K$ must be several times $e^{I}$, or DV says little: 64 pairs do for 2 nats, where
# $e^I = 7.4$; for 10 nats $e^I$ is 22,026.

# %% [markdown]
# ## 5 TUBA and NWJ: a tangent in place of the log
#
# A concave function lies below its tangents: $\log z \le \frac{z}{a} + \log a - 1$ for any
# $a > 0$, with equality at $z = a$. Put it in for $\log Z(x)$ and there is no log of a mean left:
#
# $$I \ge 1 + E_{p(x,y)}\big[f - \log a\big] - E_{p(x)p(y)}\Big[\frac{e^{f}}{a}\Big]
# \qquad\text{(TUBA; } a = e \text{ is NWJ: } E f - E\, e^{f-1}\text{)}$$
#
# $a$ may be a number, or depend on $x$ or on $y$. It is tight for $f = f^* + \log a$: NWJ's best
# critic is $f^* + 1$. Every batch, however small, is right *on average*.

# %%
from localmi.mi import dv, nwj, tuba
from localmi.mi.distributions import staircase

def my_tuba(scores, log_a=1.0):               # [K, K]; log a = 1 is NWJ
    off_diagonal = ~torch.eye(len(scores), dtype=torch.bool)
    matched, mismatched = scores.diagonal() - log_a, scores[off_diagonal] - log_a
    return 1 + matched.mean() - mismatched.exp().mean()


known = staircase(mi=4.0)
scores = known.log_ratio(*known.sample(batch_size, seed))
assert torch.isclose(my_tuba(scores + 1), nwj(scores + 1))
for log_a in (-2.0, 0.0, 3.0):
    assert torch.isclose(my_tuba(scores, log_a), tuba(scores, log_baseline=log_a), rtol=1e-4)
    assert my_tuba(scores, log_a) <= dv(scores)

# %%
for mi in (2.0, 4.0, 6.0, 8.0, 10.0):
    known = staircase(mi)
    x, y = known.sample(batch_size * batches, seed)
    both = zip(x.split(batch_size), y.split(batch_size))
    found = torch.stack([my_tuba(known.log_ratio(*pair) + 1) for pair in both])
    print(f"truth {mi:4.1f}: NWJ {found.mean():5.2f} on average, spread {found.std():5.2f}, "
          f"median {found.median():5.2f}")

# %% [markdown]
# The average is right, up to chance. But look at the median: at 8 and 10 nats most batches are
# *above* the truth, and a few far below bring the average back. The law of section 4 says how far:
# at 10 nats and $K = 64$ a standard deviation of $e^{10}/64 \approx 344$ nats, nearly all of it in
# batches that one never sees.
#
# The last `assert` above: on one batch TUBA is never above DV, whatever $a$, for DV is TUBA with
# the $a$ that suits *this batch* best, $a = $ its mean of $e^f$. That is one more way to see why
# DV is too high: its $a$ was fitted to the batch that it reports.
#
# **What could go wrong**: `exp`. In float32 it overflows at a score of 88.7; an infinite loss, and
# the training is lost. (The library goes on along a tangent there.) And NWJ, unlike DV and
# InfoNCE, wants $f$ at one height.
#
# ### Exercise 2.2
#
# The critic is the log-ratio plus a constant, $f = f^* + c$. Which $c$ is best for NWJ,
# $E f - E\,e^{f - 1}$, and how many nats are lost at $c = 0$? Paper and pencil.

# %%
my_answer = (..., ...)                        # (c, nats lost at c = 0)
check.exercise_2_2(my_answer)

# %% jupyter={"source_hidden": true} tags=["solution"]
# NWJ is I + c - e^(c - 1), for E e^f* = 1. The derivative, 1 - e^(c - 1), is 0 at c = 1: NWJ = I.
my_answer = (1, 1 / math.e)                   # at c = 0: I - e^(-1)
check.exercise_2_2(my_answer)

# %% [markdown]
# ## 6 InfoNCE: which of these reports belongs to the image?
#
# Ask a question with $K$ answers: here is image $x$; here are $K$ reports, $y_1$ its own and the
# others drawn from $p(y)$. Which one? Score each, take the softmax: the log-probability of the
# right answer, plus $\log K$, is a bound on $I$. *Proof.* Use NWJ with a critic that looks at all
# reports at once,
#
# $$g(x, y_{1..K}) = 1 + \log r, \qquad r = \frac{e^{f(x, y_1)}}{\frac1K\sum_j e^{f(x, y_j)}} .$$
#
# The other reports know nothing of $x$, so $I(X; Y_1) = I(X; Y_{1..K}) \ge E[1 + \log r] - E'[r]$,
# where in $E'$ *all* reports are drawn independently of $x$. There the $K$ reports are alike, so
# $E'[r]$ is the same with any of them on top, and their average over all $K$ is 1, always. What is
# left:
#
# $$I \ge E\Big[\log K + f_{ii} - \log\sum_j e^{f_{ij}}\Big] \qquad\text{(paper, Eq. 4, plus }\log K)$$
#
# for any $f$ and *any* $K$: no small batch is too small. And as $e^{f_{ii}}$ is one of the terms
# of the sum, never more than $\log K$.
#
# Eq. 4 can be read in two ways. Its sum runs over the texts $z^R$, inside an expectation over
# $p(z^I)\,p(z^R)$: taken at its word, those texts know nothing of the image, and the matched one is not
# among them. In Oord et al. (2018), whom the paper cites for it, it is. We read it so: only this is a
# bound, and the other one is measured below.

# %%
from localmi.mi import bounds
from localmi.mi.distributions import staircase

def my_infonce(scores):                       # [K, K], rows: which report belongs to image i?
    return math.log(len(scores)) + (scores.diagonal() - scores.logsumexp(dim=1)).mean()


for mi in (2.0, 4.0, 6.0, 8.0, 10.0):
    known = staircase(mi)
    x, y = known.sample(batch_size * batches, seed)
    both = zip(x.split(batch_size), y.split(batch_size))
    tables = [known.log_ratio(*pair) for pair in both]
    found = torch.stack([my_infonce(table) for table in tables])
    assert torch.isclose(found[0], bounds.infonce(tables[0], direction="image_to_text"))
    print(f"truth {mi:4.1f}: InfoNCE {found.mean():.2f} on average, spread {found.std():.2f}")
print(f"cap: log {batch_size} = {bounds.infonce_cap(batch_size):.2f}")

# %% [markdown]
# As steady as it is low. With batches of 64 it reports **4.16 nats** at most, whatever the images
# and reports share. (Eq. 4 is printed without $\log K$. That makes no difference to the gradient;
# but without it the value is never above 0, however much there is to find.)
#
# How do DV and InfoNCE change with $K$? The same number of pairs each time, in larger and larger
# batches.

# %%
SIZES = [2, 4, 8, 16, 32, 64, 128, 256, 512]
curves = {}
for mi in (2.0, 4.0, 6.0):
    known = staircase(mi)
    x, y = known.sample(4096, seed)
    for size in SIZES:
        both = zip(x.split(size), y.split(size))
        tables = [known.log_ratio(*pair) for pair in both]
        for name, bound in (("DV", bounds.dv), ("InfoNCE", bounds.infonce)):
            mean = torch.stack([bound(table) for table in tables]).mean()
            curves.setdefault((mi, name), []).append(mean)

# %%
figure, axes = plt.subplots(figsize=(7.5, 4.8))
for mi, colour in ((2.0, PALETTE[0]), (4.0, PALETTE[1]), (6.0, PALETTE[2])):
    axes.axhline(mi, color=COLOURS["truth"], linestyle="--", linewidth=1)
    axes.plot(SIZES, curves[mi, "DV"], "^-", color=colour, label=f"DV, {mi:g} nats")
    axes.plot(SIZES, curves[mi, "InfoNCE"], "o-", color=colour, label=f"InfoNCE, {mi:g} nats")
axes.plot(SIZES, np.log(SIZES), color=COLOURS["cap"], linestyle=":", label="log K")
axes.set(xscale="log", ylim=(0, 16), xlabel="pairs in a batch, K")
axes.set_ylabel("mean over batches (nats)")
axes.set_xticks(SIZES, SIZES)
axes.minorticks_off()
axes.legend(ncols=2)
show(
    figure,
    alt="Mean of DV and InfoNCE with the best critic against the batch size: DV comes down to the "
    "truth from above, InfoNCE comes up from below, under log K.",
    caption="Figure 2.3: the best critic, from above and from below. Dashed: the truths.",
)

# %% [markdown]
# InfoNCE gets near $I$ only when $K$ is several times $e^I$, the same number as for DV. Its error
# has the safe sign.
#
# **What could go wrong**: leaving the matched pair out of the sum, "for it is no negative". Then
# $E'[r]$ is no longer 1: $E'[1/\text{mean}] > 1/E'[\text{mean}]$. The cap is gone, and the bound
# with it.

# %%
def without_matched(scores):
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -math.inf)
    log_mean = others.logsumexp(dim=1) - math.log(len(scores) - 1)
    return (scores.diagonal() - log_mean).mean()


for mi in (2.0, 4.0, 6.0):
    known = staircase(mi)
    x, y = known.sample(batch_size * batches, seed)
    both = zip(x.split(batch_size), y.split(batch_size))
    found = torch.stack([without_matched(known.log_ratio(*pair)) for pair in both])
    excess = found.mean() - mi
    print(f"truth {mi:.1f}: matched pair left out {found.mean():.2f}, {excess:.2f} too much")

# %%
from localmi.course import play
from localmi.mi import bounds
from localmi.mi.distributions import staircase

def draw(pairs=64, nats=4.0, scale=1.0):
    known = staircase(nats)
    x, y = known.sample(40 * pairs, seed)
    tables = [scale * known.log_ratio(*both) for both in zip(x.split(pairs), y.split(pairs))]
    figure, axes = plt.subplots(figsize=(7.5, 2.6))
    for place, (name, bound) in enumerate({"DV": bounds.dv, "InfoNCE": bounds.infonce}.items()):
        found = [float(bound(table)) for table in tables]
        axes.plot(found, np.full(40, place), "|", markersize=18, color=PALETTE[place])
        axes.plot(np.mean(found), place, "o", color=PALETTE[place], label=f"{name}, mean")
    axes.axvline(nats, color=COLOURS["truth"], linestyle="--", label="true MI")
    axes.axvline(math.log(pairs), color=COLOURS["cap"], linestyle=":", label="log K")
    axes.set(xlabel="nats of forty batches", yticks=[0, 1], yticklabels=["DV", "InfoNCE"], ylim=(-1, 2))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


# %%
play(
    draw,
    alt="DV and InfoNCE of forty batches each, with their means, beside the truth and log K.",
    caption="To play with: find a scale of the best critic that makes DV larger; can InfoNCE be cheated so?",
    pairs=[4, 8, 16, 32, 64, 128, 256], nats=(0.5, 10.0, 0.5), scale=(0.0, 3.0, 0.1),
)  # fmt: skip

# %% [markdown]
# ### Exercise 2.3: how many pairs are enough?
#
# On average the best critic's InfoNCE is to lie at most .55 nats below the truth. Find the smallest batch, a
# power of two, for 2, 3, 4 and 5 nats of the staircase; see the rule; and say for 10 nats, which you should
# not try, how many it takes, to a factor of eight. (Fewer batches will do if you use what you know: the mean
# of $f_{ii}$ is $I$.)

# %%
my_answer = {2: ..., 3: ..., 4: ..., 5: ..., 10: ...}  # nats -> pairs
check.exercise_2_3(my_answer)

# %% jupyter={"source_hidden": true} tags=["solution"]
def loss(mi, K):                              # I less InfoNCE: the mean of f_ii is I
    known = staircase(mi)
    x, y = known.sample(8192, seed)
    tables = [known.log_ratio(*pair) for pair in zip(x.split(K), y.split(K))]
    return torch.stack([table.logsumexp(dim=1).mean() for table in tables]).mean() - math.log(K)


my_answer = {mi: next(2**k for k in range(3, 13) if loss(mi, 2**k) < 0.55) for mi in (2, 3, 4, 5)}
my_answer[10] = my_answer[5] * 3**5           # three to four times as many for each nat
check.exercise_2_3(my_answer)

# %% [markdown]
# ## 7 Is there something between?
#
# TUBA holds for any $a$, also for one that is computed from *other* samples. Take a mixture of a
# mean $m$ over the batch and a fixed $a$:
#
# $$I \ge 1 + E_{p(x,y)}\Big[\log\frac{e^{f}}{\alpha\, m + (1-\alpha)\, a}\Big] -
# E_{p(x)p(y)}\Big[\frac{e^{f}}{\alpha\, m + (1-\alpha)\, a}\Big]
# \qquad\text{(}I_\alpha\text{, Poole et al. 2019)}$$
#
# $\alpha = 0$ is TUBA, $\alpha = 1$ is InfoNCE. The denominator is at least
# $\frac{\alpha}{K-1} e^f$, for the pair itself is in $m$: so the ratio is at most
# $\frac{K-1}{\alpha}$, and the variance is tamed. The art is whom $m$ counts. It must be a mean
# over draws that know nothing of each other: for a *mismatched* pair $(i, j)$, the report $j$
# knows image $j$, so image $j$ is left out.

# %%
from localmi.mi import interpolated
from localmi.mi.distributions import staircase

def my_i_alpha(scores, alpha, a=1.0):         # [K, K], slow; column j: report j, which image?
    K, ratio = len(scores), scores.double().exp()
    def over_mixture(i, j, left_out):
        rest = [k for k in range(K) if k != left_out]
        return ratio[i, j] / (alpha * ratio[rest, j].mean() + (1 - alpha) * a)
    pairs = [(i, j) for i in range(K) for j in range(K) if i != j]
    matched = sum(over_mixture(j, j, left_out=i).log() for i, j in pairs) / len(pairs)
    mismatched = sum(over_mixture(i, j, left_out=j) for i, j in pairs) / len(pairs)
    return 1 + matched - mismatched


known = staircase(mi=2.0)
scores = known.log_ratio(*known.sample(8, seed))
for alpha in (0.0, 0.1, 1.0):
    slow, fast = my_i_alpha(scores, alpha), interpolated(scores, alpha=alpha, log_baseline=0.0)
    assert torch.isclose(slow, fast.double(), rtol=1e-4)
print("the double loop and the library agree")

# %%
known, ALPHAS = staircase(mi=6.0), [0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
x, y = known.sample(batch_size * batches, seed)
tables = [known.log_ratio(*pair) for pair in zip(x.split(batch_size), y.split(batch_size))]
found = np.array(
    [[float(interpolated(t, alpha=one, log_baseline=0.0)) for t in tables] for one in ALPHAS]
)
figure, axes = plt.subplots(figsize=(6.5, 4))
axes.errorbar(range(len(ALPHAS)), found.mean(axis=1), yerr=found.std(axis=1), fmt="o-", capsize=4)
axes.axhline(6, color=COLOURS["truth"], linestyle="--", label="true MI")
axes.axhline(math.log(batch_size - 1), color=COLOURS["cap"], linestyle=":", label="log (K − 1)")
axes.set(xlabel=r"$\alpha$: NWJ at 0, InfoNCE at 1", ylabel="mean ± standard deviation (nats)")
axes.set_xticks(range(len(ALPHAS)), ALPHAS)
axes.legend(loc="lower left")
show(
    figure,
    alt="Mean and spread of I alpha for the best critic: from an unbiased estimate with a wide "
    "spread at alpha zero down to a steady value under the cap at alpha one.",
    caption="Figure 2.4: bias is traded for variance; 6 nats, the best critic.",
)

# %% [markdown]
# **What could go wrong**: computing it as written. `exp` of a score of 200 is infinite; the
# library does all of it in log space.

# %% [markdown]
# ## 8 What is the price of each bound?
#
# All together, with the best critic, so that nothing here is the fault of a network.

# %%
from localmi.mi import bounds, interpolated, nwj
from localmi.mi.distributions import staircase

METHODS = {
    "InfoNCE": bounds.infonce,
    "I_α, α = 0.01": lambda scores: interpolated(scores, alpha=0.01, log_baseline=0.0),
    "DV": bounds.dv,
    "NWJ": lambda scores: nwj(scores + 1),
}
LEVELS, rows = [2.0, 4.0, 6.0, 8.0, 10.0], []
for mi in LEVELS:
    known = staircase(mi)
    x, y = known.sample(batch_size * batches, seed)
    for pair in zip(x.split(batch_size), y.split(batch_size)):
        scores = known.log_ratio(*pair)
        rows += [(mi, name, float(bound(scores))) for name, bound in METHODS.items()]
prices = pd.DataFrame(rows, columns=["truth", "bound", "nats"]).groupby(["truth", "bound"])["nats"]
table = prices.agg(["mean", "std"]).unstack("bound").swaplevel(axis=1)
table[list(METHODS)].round(2)

# %%
figure, grid = plt.subplots(1, 2, figsize=(11.5, 4.2))
for name, colour in zip(METHODS, (PALETTE[0], PALETTE[2], PALETTE[1], PALETTE[3])):
    label = name.replace("I_α", r"$I_\alpha$")
    grid[0].plot(LEVELS, table[name]["mean"], "o-", color=colour, label=label)
    grid[1].plot(LEVELS, table[name]["std"], "o-", color=colour, label=name)
grid[0].plot(LEVELS, LEVELS, color=COLOURS["truth"], linestyle="--", label="true MI")
grid[0].axhline(math.log(batch_size), color=COLOURS["cap"], linestyle=":", label="log K")
grid[0].set(xlabel="true MI (nats)", ylabel="mean over batches (nats)", title="bias")
grid[1].set(xlabel="true MI (nats)", ylabel="standard deviation (nats)", title="spread")
grid[1].set(yscale="log")
grid[0].legend()
show(
    figure,
    alt="Left, the mean of four bounds with the best critic against the truth: InfoNCE bends to "
    "log K, I alpha less, NWJ follows the truth, DV rises above it. Right, their spread: NWJ's "
    "and DV's grow, InfoNCE's shrinks.",
    caption="Figure 2.5: the log-ratio as critic. What InfoNCE misses here, no training can bring.",
)

# %% [markdown]
# The steady ones are low, the others wild, and DV too high besides: these four pay in one coin or the
# other. McAllester and Stratos (2020) prove that something must be paid: a lower bound that holds with
# high confidence, whatever the distribution, is at most $O(\log N)$ with $N$ samples. Who gives up the
# guarantee, or assumes a distribution, is not concerned: the correlations of notebook 01 are steady
# *and* right, for Gaussians, and notebook 03 has an estimator that is no bound and follows further.
#
# **What could go wrong**: reading the spread of NWJ at 10 nats off this table. By the law of
# section 4 it is about 344 nats; a few hundred batches miss the events that make it so.

# %% [markdown]
# ## 9 Truth, best critic, held-out, training: who is to blame?
#
# Now a critic that has to learn. It is fitted on few pairs and tried on fresh ones.
# Three gaps, three causes:
#
# | from | to | is |
# |---|---|---|
# | truth | best critic | the price of the bound at this $K$ |
# | best critic | held-out | the error of the critic: too small, too little data, too few steps |
# | held-out | training | overfitting: the critic knows *these* pairs by heart |
#
# "Best critic" is the log-ratio. For InfoNCE no critic does better, on average over fresh batches. For
# DV that holds with infinitely many pairs; what it means on batches is asked at the end.

# %%
from localmi.mi import bounds, build_critic
from localmi.mi.distributions import staircase
from localmi.statistics import mean_interval

def fit(mi, bound):
    """A small critic that has seen `pairs` pairs for `steps` steps."""
    torch.manual_seed(seed)
    x, y = staircase(mi).sample(pairs, seed)
    critic = build_critic("separable", 20, 20, hidden=(64, 64), width=32)
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = torch.randperm(pairs)[:batch_size]  # no pair twice: it would be its own negative
        optimiser.zero_grad()
        (-bound(critic(x[batch], y[batch]))).backward()
        optimiser.step()
    return critic.requires_grad_(False)


# %%
def measure(critic, bound, x, y):
    """Mean over full batches, with its interval."""
    both = zip(x.split(batch_size), y.split(batch_size))
    nats = np.array([float(bound(critic(*pair))) for pair in both if len(pair[0]) == batch_size])
    return mean_interval(nats, np.arange(len(nats)))


# %%
LEVELS, BOUNDS = [2.0, 4.0, 6.0, 8.0, 10.0], {"InfoNCE": bounds.infonce, "DV": bounds.dv}
gaps = {}
for name, bound in BOUNDS.items():
    for mi in LEVELS:
        known, critic = staircase(mi), fit(mi, bound)
        fresh = known.sample(64 * batch_size, seed + 1)
        gaps[name, mi] = {
            "best critic": measure(known.log_ratio, bound, *fresh),
            "held-out": measure(critic, bound, *fresh),
            "training": measure(critic, bound, *known.sample(pairs, seed)),
        }

# %%
figure, grid = plt.subplots(1, 2, figsize=(12, 4.6), sharey=True)
colours = {"best critic": COLOURS["other"], **COLOURS}
for axes, name in zip(grid, BOUNDS):
    axes.plot(LEVELS, LEVELS, color=COLOURS["truth"], linestyle="--", label="truth")
    for what in ("best critic", "training", "held-out"):
        curve = [gaps[name, mi][what] for mi in LEVELS]
        axes.plot(LEVELS, [one.value for one in curve], "o-", color=colours[what], label=what)
        low, high = zip(*[(one.low, one.high) for one in curve])
        axes.fill_between(LEVELS, low, high, color=colours[what], alpha=0.2, linewidth=0)
    axes.set(xlabel="true MI (nats)", title=f"{name}, K = {batch_size}")
grid[0].axhline(math.log(batch_size), color=COLOURS["cap"], linestyle=":", label="log K")
grid[0].set(ylabel="mean over batches (nats)")
grid[0].legend()
show(
    figure,
    alt="Two panels, InfoNCE and DV: truth, best critic, training and held-out value against the "
    "truth. Training lies above held-out everywhere; for InfoNCE at little information even above "
    "the truth. The best critic of InfoNCE bends to log K, that of DV rises above the truth.",
    caption="Figure 2.6: three gaps. Bands: 95 % intervals over batches.",
)

# %%
def verdict(words, holds):
    print(f"{'ok' if holds else 'NOT SO HERE'}: {words}")


every = [gaps[name, mi] for name in BOUNDS for mi in LEVELS]
verdict("held-out lies below the best critic", all(
    one["held-out"].high < one["best critic"].low for one in every))
verdict("training lies above held-out", all(
    one["training"].low > one["held-out"].high for one in every))
verdict("at 2 nats InfoNCE's training value lies above the truth", (
    gaps["InfoNCE", 2.0]["training"].low > 2))

# %% [markdown]
# The training value is the tempting one: smooth, high, and for InfoNCE at 2 nats above the
# *truth*, which no honest bound can be. It says what the critic remembers. **Never report it.**
#
# The held-out curve is low: this critic has seen 1,536 pairs. Raise `pairs` and `steps` and it climbs
# towards the best critic: soon for InfoNCE, slowly for DV, whose gradient on a small batch is poor
# (notebook 03 repairs it).
#
# How far can it climb? InfoNCE is the log-probability of the right answer, plus $\log K$, and no
# guess is better on average than the true odds, which are those of $f^*$: beyond the best critic no
# training gets it, whatever the network. DV has no such ceiling on batches. Take the log-ratio of 10
# nats and multiply it. With infinitely many pairs any other scale is worse, and $2f^*$ worth nothing
# at all, for $\log E\,e^{2f^*} = 2I$. But on a batch that holds no pair of the rare kind that makes this
# mean, a larger scale only drives matched and mismatched scores further apart.

# %%
from localmi.mi import bounds
from localmi.mi.distributions import staircase

known, square = staircase(mi=10.0), -math.expm1(-2 * 10.0 / 20)  # rho^2
x, y = known.sample(batch_size * batches, seed)
both = zip(x.split(batch_size), y.split(batch_size))
tables = [known.log_ratio(*pair) for pair in both]
for scale in (1.0, 1.5, 2.0):
    det = (1 + (scale - 1) * square) ** 2 - scale**2 * square
    log_mean = 10 * ((2 - scale) * math.log(1 - square) - math.log(det))  # log E exp f, exactly
    dv, infonce = (
        torch.stack([bound(scale * table) for table in tables]).mean()
        for bound in (bounds.dv, bounds.infonce)
    )
    print(f"{scale:3} f*: InfoNCE {infonce:.2f}, DV {dv:5.2f} on batches, "
          f"{10 * scale - log_mean + 0:5.2f} with infinitely many pairs; truth 10")  # fmt: skip

# %% [markdown]
# On fresh batches, with nothing fitted to anything: **11.36 nats** from the log-ratio, **15.63 nats**
# from twice that, and a critic trained by DV on such batches is paid for going there. So a higher
# held-out DV need not be a better critic, and "held-out" alone does not make it honest: it takes a mean
# of $e^f$ over very many pairs (section 4), or a bound that holds on a batch.
#
# **What could go wrong**: blaming the wrong one. A held-out InfoNCE of 4 nats at $K = 64$ looks
# like a finding. It is the cap: raise $K$, at least for the measurement, which needs no gradient.

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** In the table scores[i, j], where do the mismatched pairs of image 3 stand?
#
# <details><summary>In column 3.</summary>
#
# **No.** A column holds all images for one report.
#
# </details>
# <details><summary>In row 3, off the diagonal.</summary>
#
# **Right.** Rows are images: row 3 has all reports for image 3, and its own at [3, 3].
#
# </details>
# <details><summary>On the diagonal.</summary>
#
# **No.** There stand the matched pairs.
#
# </details>
#
# **Question 2.** Somebody leaves the diagonal in the denominator of DV, "it hardly matters with 512
# pairs". What happens?
#
# <details><summary>Nothing much: one in 512 pairs is wrong.</summary>
#
# **No.** A matched pair may have an $e^f$ that is as large as all others together; that one decides.
#
# </details>
# <details><summary>The value gets too large.</summary>
#
# **No.** The matched pairs are the large ones: in the denominator they make the value smaller.
#
# </details>
# <details><summary>The value can no longer exceed log K.</summary>
#
# **Right.** With $e^{f_{ii}}$ in the mean, $f_{ii} - \log$ of it is at most the log of the count: another
# bound, with another cap.
#
# </details>
#
# **Question 3.** The true information is 10 nats, K = 64, the critic is the best there is. What does
# InfoNCE say?
#
# <details><summary>About 4.16.</summary>
#
# **Right.** $\log 64$. Whoever always chooses right among 64 has shown 4.16 nats, and no more.
#
# </details>
# <details><summary>About 10, for the critic is perfect.</summary>
#
# **No.** The critic is; the question it answers is not. With 64 choices one can be sure at most.
#
# </details>
# <details><summary>Anything between: it fluctuates.</summary>
#
# **No.** It is the steadiest of all here; that is why it looks so trustworthy at its cap.
#
# </details>
#
# **Question 4.** DV on batches of 64 says 11.4 nats on fresh pairs; the truth is 10. How can a lower bound
# do that?
#
# <details><summary>The critic was overfitted.</summary>
#
# **No.** The pairs are fresh, and with the best critic there is nothing to overfit.
#
# </details>
# <details><summary>It cannot: there is a mistake in the code.</summary>
#
# **No.** A sound worry, but section 9 has exactly this from two lines of code.
#
# </details>
# <details><summary>On a batch the log of a mean is too low on average, and it is subtracted.</summary>
#
# **Right.** Jensen: $E \log m \le \log E\,m$. The bound holds for infinitely many mismatched pairs.
#
# </details>
#
# **Question 5.** NWJ's mean over 200 batches is 6.0 at a truth of 10 nats, with the best critic. It is
# unbiased. Whose fault is it? (Another 200 say 10.5.)
#
# <details><summary>The critic's: it is far from the best.</summary>
#
# **No.** It is the best one.
#
# </details>
# <details><summary>The sample's: the few batches that would make the mean right were not drawn.</summary>
#
# **Right.** A standard deviation of $e^{10}/64 \approx 344$ nats. 200 batches say next to nothing of such
# a mean.
#
# </details>
# <details><summary>The bound's: NWJ is loose at 10 nats.</summary>
#
# **No.** With $f = f^* + 1$ it is tight at any $I$.
#
# </details>
#
# **Question 6.** Which of these curves do you report?
#
# <details><summary>A bound on patients that were neither trained nor chosen on, with its interval and its cap.</summary>
#
# **Right.** The interval says how much is luck, the cap how much could have been seen.
#
# </details>
# <details><summary>The training value at the last step: it is the largest.</summary>
#
# **No.** It says what the critic remembers; section 9 has it above the truth.
#
# </details>
# <details><summary>The best held-out value of all steps.</summary>
#
# **No.** Chosen on the same pairs that it is reported on, it is too high. Choose on one part, report on
# another.
#
# </details>

# %% [markdown]
# ## Key points
#
# - All bounds are $D \ge 0$, of a guessed $q(y \mid x)$; they differ in what they do with $\log Z$.
# - DV is a lower bound in expectation of infinitely many pairs; on a batch it is biased *up*, and no
#   critic is the best: a larger scale may read higher still.
# - For the best critic $\mathrm{Var}(e^f) = e^{2I} - 1$ (Gaussians): $K$ of the order $e^I$ or more, or
#   the mean of $e^f$ says nothing.
# - NWJ is right on average, with that variance, and wants $f^* + 1$.
# - InfoNCE is a bound for every $K$ and every critic, steady, and never above $\log K$: only with the
#   matched pair in the sum.
# - $I_\alpha$ trades one for the other.
# - Show truth, best critic, held-out, training; report held-out.
#
# ## References
#
# - Barber and Agakov 2003, The IM algorithm: a variational approach to information maximization,
#   NeurIPS. <https://dl.acm.org/doi/10.5555/2981345.2981371>
# - Donsker and Varadhan 1983, Asymptotic evaluation of certain Markov process expectations for large
#   time IV, Communications on Pure and Applied Mathematics.
#   <https://doi.org/10.1002/cpa.3160360204>
# - Nguyen, Wainwright and Jordan 2010, Estimating divergence functionals and the likelihood ratio by
#   convex risk minimization, IEEE Transactions on Information Theory.
#   <https://doi.org/10.1109/TIT.2010.2068870>
# - Oord, Li and Vinyals 2018, Representation learning with contrastive predictive coding.
#   <https://doi.org/10.48550/arXiv.1807.03748>
# - Poole et al. 2019, On variational bounds of mutual information, ICML.
#   <https://doi.org/10.48550/arXiv.1905.06922>
# - Song and Ermon 2020, Understanding the limitations of variational mutual information estimators,
#   ICLR. <https://doi.org/10.48550/arXiv.1910.06222>
# - McAllester and Stratos 2020, Formal limitations on the measurement of mutual information,
#   AISTATS. <https://doi.org/10.48550/arXiv.1811.04251>
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>

# %% tags=["record"]
from localmi.record import Result, record_metrics

metrics = {}
for (name, mi), one in gaps.items():
    beside = {"truth": mi, "best_critic": one["best critic"].value}
    beside |= {"cap": math.log(batch_size)} if name == "InfoNCE" else {}
    metrics[f"{name}_nats_at_{mi:g}"] = Result(one["held-out"], "fresh", beside)
record = record_metrics(metrics, data={"name": "Gaussian staircase"}, run_dir=run_dir)
