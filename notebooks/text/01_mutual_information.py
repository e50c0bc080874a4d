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
# # 1 Mutual information: how much does one thing say of another?
#
# **You will be able to** compute entropy, KL divergence and mutual information of tables and of
# Gaussians, use the chain rule and the data processing inequality, count bins and ask neighbours
# for an estimate from samples, and predict how each of these estimates fails when the dimension
# or the information grows.
#
# **Before this**: Python with numpy; probability, the expectation, the normal distribution.
#
# **Reading time**: 50 minutes.
# **Run time**: half a minute on 2 cores; a GPU is not used. **Memory**: 0.8 GB.
# **Data**: none. Everything is drawn from distributions whose answer is known.

# %% tags=["setup"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from localmi.course import COLOURS, PALETTE, check, set_up, show

set_up()

# %% tags=["parameters"]
seed = 0  # of everything random
samples = 2000  # pairs (x, y) an estimate is given
repeats = 3  # fresh samples for each point of figure 1.7
dimensions: list[int] = [1, 2, 3, 5, 10, 20]  # of x and of y, in figure 1.7
run_dir = ""  # where results are kept, "" keeps nothing

# %% [markdown]
# ## 1 How much is open?
#
# A finding is present or not. If it is present in half of all patients, you know nothing before
# you look; if it is present in one of a hundred, you are nearly sure before you look. **Entropy**
# says how much is open, on average, in *nats* (natural logarithm; a nat is 1.44 bits):
#
# $$H(X) = -\sum_x p(x) \log p(x) = E\left[\log \frac{1}{p(X)}\right].$$
#
# $\log 1/p(x)$ is the surprise at seeing $x$. It adds up over independent events, for their
# probabilities multiply: that is why it is a logarithm.

# %%
def my_entropy(p):                            # [...], sums to 1
    p = p[p > 0]                              # what never happens surprises nobody: 0 log 0 = 0
    return -(p * np.log(p)).sum()


for name, p in {
    "a fair coin": [0.5, 0.5],
    "a finding in 1 of 100": [0.01, 0.99],
    "three grades, equally likely": [1 / 3] * 3,
    "a certain thing": [1.0, 0.0],
}.items():
    print(f"{name:29} {my_entropy(np.array(p)) + 0:.4f} nats")

# %%
share = np.linspace(0, 1, 201)
nats = [my_entropy(np.array([p, 1 - p])) for p in share]
figure, axes = plt.subplots(figsize=(6, 3.4))
axes.plot(share, nats)
axes.axhline(np.log(2), color=COLOURS["cap"], linestyle=":")
axes.text(0.02, np.log(2) - 0.015, "log 2", va="top", color=COLOURS["cap"])
axes.set(xlabel="share of patients with the finding", ylabel="entropy (nats)", ylim=(0, 0.75))
show(
    figure,
    alt="Entropy of a finding against the share of patients who have it: an arch from zero over "
    "its highest point, log 2 at one half, back to zero.",
    caption="Figure 1.1: what is open is most where both answers are equally likely.",
)

# %% [markdown]
# With $K$ states, $0 \le H \le \log K$: **0.6931** is $\log 2$, **1.0986** is $\log 3$.
#
# For a continuous $X$ the sum becomes an integral, the *differential* entropy
# $h(X) = -\int p \log p$; of a Gaussian it is $\frac12 \log 2\pi e\sigma^2$.
#
# **What could go wrong**: $h$ is no amount. It may be negative, and it depends on the unit:
# measure in millimetres what was in centimetres, and it grows by $\log 10$. Only differences of
# entropies in the same unit mean something. Mutual information is one.

# %%
for unit, sigma in (("cm", 0.1), ("mm", 1.0)):
    nats = 0.5 * np.log(2 * np.pi * np.e * sigma**2)
    print(f"standard deviation {sigma} {unit}: {nats:7.4f} nats")

# %% [markdown]
# ## 2 How far is one distribution from another?
#
# You believe $q$; the truth is $p$. Your average surprise is then $E_p \log 1/q$, more than the
# $H(p)$ it had to be. The excess is the **Kullback-Leibler divergence**:
#
# $$D(p\,\|\,q) = E_p\left[\log\frac{p(X)}{q(X)}\right] \ge 0.$$
#
# *Why never negative?* The logarithm is concave, so $E \log \le \log E$ (Jensen):
# $-D = E_p \log\frac{q}{p} \le \log E_p \frac{q}{p} = \log \sum_{p(x) > 0} q(x) \le \log 1 = 0$,
# with equality only for $p = q$. Every bound of the next notebook is this one inequality.

# %%
def my_kl(p, q):                              # [K], [K]
    some = p > 0
    return (p[some] * np.log(p[some] / q[some])).sum()


p, q = np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.3, 0.3])
print(f"D(p || q) = {my_kl(p, q):.4f}, D(q || p) = {my_kl(q, p):.4f} nats")
with np.errstate(divide="ignore"):
    print(f"q never expects what happens: {my_kl(p, np.array([0.5, 0.5, 0.0]))}")

# %% [markdown]
# **What could go wrong**: the order. $D(p\|q) \ne D(q\|p)$: what counts is surprise where $p$
# lives. And a $q$ that excludes what can happen is infinitely far away.

# %% [markdown]
# ## 3 What does a sentence say of an image?
#
# An image shows a costophrenic angle ($X$: sharp, blunted or filled), the report has a sentence on
# it ($Y$: no, small or large effusion). If image and report had nothing in common, pairs would be
# distributed as $p(x)\,p(y)$. **Mutual information** is how far the world is from that:
#
# $$I(X; Y) = D\big(p(x, y)\,\|\,p(x)\,p(y)\big)
# = E_{p(x,y)}\left[\log\frac{p(x, y)}{p(x)\,p(y)}\right] \qquad\text{(paper, Eq. 1)}$$
#
# Write the logarithm of the fraction as three logarithms, and it is a difference of entropies:
#
# $$I(X; Y) = H(X) + H(Y) - H(X, Y) = H(Y) - H(Y \mid X),$$
#
# what was open in the report, less what is still open when the image is known.

# %%
X = ["sharp", "blunted", "filled"]  # rows
Y = ["none", "small", "large"]  # columns
TABLE = np.array([[0.56, 0.04, 0.00], [0.06, 0.12, 0.02], [0.02, 0.06, 0.12]])  # p(x, y)


def my_log_ratio(table):                      # [K, L] -> [K, L]
    of_x, of_y = table.sum(axis=1), table.sum(axis=0)
    with np.errstate(divide="ignore"):        # log 0 = -inf: never together
        return np.log(table) - np.log(np.outer(of_x, of_y))


# %%
from localmi.mi.distributions import DiscreteWorld

ratio, happens = my_log_ratio(TABLE), TABLE > 0
world = DiscreteWorld(("X", "Y"), TABLE)
mi = (TABLE[happens] * ratio[happens]).sum()
print(f"H(X) = {world.entropy('X'):.4f}, H(Y) = {world.entropy('Y'):.4f} nats")
print(f"I(X; Y) = {mi:.4f} nats, of them {mi / world.entropy('Y'):.0%} of what was open in Y")
assert np.isclose(mi, world.mi("X", "Y"))
assert np.allclose(ratio, world.log_ratio("X", "Y"))

# %%
figure, grid = plt.subplots(1, 2, figsize=(10, 3.8))
panels = [("$p(x, y)$", TABLE, "Blues", 0, 0.8)]
panels += [(r"$\log\ p(x, y)\,/\,p(x)p(y)$", ratio, "PuOr", -2, 2)]
for axes, (title, values, colours, low, high) in zip(grid, panels):
    picture = axes.imshow(np.maximum(values, low), cmap=colours, vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}".replace("-inf", "−∞").replace("-", "−")
        dark = value > 0.45 if axes is grid[0] else abs(value) > 1.4
        colour = "white" if dark else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set(title=title, xlabel="the sentence says", ylabel="the image shows")
    axes.set_xticks(range(3), Y)
    axes.set_yticks(range(3), X)
    axes.tick_params(length=0)
show(
    figure,
    alt="Two tables of image by sentence. Left, probabilities: most of the mass where both say "
    "that nothing is there. Right, log-ratios: positive on the diagonal, negative elsewhere.",
    caption="Figure 1.2: how often a pair occurs, and how much more often than by chance.",
)

# %% [markdown]
# Mutual information is **0.3879 nats**: the average of the right table, weighed by the left one.
# Remember the right table. In the next notebook a neural network, the *critic*, gives a score to
# each pair of image and sentence, and this table is the score that the best critic would give.
#
# $I \ge 0$, and 0 only for independence (it is a KL divergence); $I(X;Y) = I(Y;X)$; and
# $I \le \min(H(X), H(Y))$, for $H(Y \mid X) \ge 0$ where $Y$ is discrete.
#
# **What could go wrong**: taking correlation for it. Let $X$ be $-1$, 0 or 1 and $Y = X^2$.

# %%
square = np.array([[0, 1 / 3], [1 / 3, 0], [0, 1 / 3]])  # p(x, y): x in -1, 0, 1; y in 0, 1
x, y = np.array([-1, 0, 1]), np.array([0, 1])
covariance = x @ square @ y - (x @ square.sum(axis=1)) * (y @ square.sum(axis=0))
nats = DiscreteWorld(("X", "Y"), square).mi("X", "Y")
print(f"covariance {covariance:.1f}, mutual information {nats:.4f} nats")

# %% [markdown]
# ### Exercise 1.1
#
# Write $I(X; Y)$ for any table $p(x, y)$ `[K, L]`. Cells may be 0.

# %%
def my_mi(table):                             # [K, L]
    ...

check.exercise_1_1(my_mi)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_mi(table):                             # [K, L]
    both = np.outer(table.sum(axis=1), table.sum(axis=0))
    some = table > 0
    return (table[some] * np.log(table[some] / both[some])).sum()

check.exercise_1_1(my_mi)

# %% [markdown]
# ## 4 Can information be lost, and can it be added up?
#
# **Chain rule.** What two things say of a third is what the first says, and what the second
# *still* says when the first is known:
#
# $$I(X, Z; Y) = I(X; Y) + I(Z; Y \mid X), \qquad
# I(Z; Y \mid X) = H(Z \mid X) - H(Z \mid X, Y) \ge 0.$$
#
# **Data processing.** Let a hidden state make an image, and the image a feature: $H \to X \to Z$,
# so that $Z$ depends on $H$ through $X$ only, $I(Z; H \mid X) = 0$. Take the chain rule in both
# orders:
#
# $$I(X, Z; H) = I(X; H) + \underbrace{I(Z; H \mid X)}_{0}
# = I(Z; H) + \underbrace{I(X; H \mid Z)}_{\ge 0}
# \quad\Rightarrow\quad I(Z; H) \le I(X; H).$$
#
# No network can know more of the finding than its image does.

# %%
from localmi.mi.distributions import DiscreteWorld, noisy_copy

flips = [0.1] * 8  # each step tells the state wrongly in 1 of 10 cases
hidden = np.array([0.7, 0.2, 0.1])  # none, small, large
nats, link = [], np.eye(3)  # p(feature | state), at first a perfect copy
for flip in [0.0, *flips]:
    link = link @ noisy_copy(3, flip)
    nats.append(DiscreteWorld(("H", "Z"), hidden[:, None] * link).mi("H", "Z"))
print(" ≥ ".join(f"{value:.3f}" for value in nats))

# %%
figure, axes = plt.subplots(figsize=(6, 3.4))
axes.plot(nats, marker="o", color=COLOURS["held-out"])
axes.axhline(nats[0], color=COLOURS["truth"], linestyle="--")
axes.text(len(flips), nats[0] - 0.02, "$H$(state): all there is to know", ha="right", va="top")
axes.set(xlabel="noisy steps between state and feature", ylabel="I(state; feature) (nats)", ylim=0)
show(
    figure,
    alt="Information on the hidden state against the number of noisy steps: it falls with each "
    "step and never rises.",
    caption="Figure 1.3: along a chain, information is only lost.",
)

# %% [markdown]
# The chain rule is what the paper builds on: with $z_n$ a region and $z_{\bar n}$ all others,
#
# $$I(z; H_n) = I(z_n; H_n) + I(z_{\bar n}; H_n \mid z_n) \ge I(z_n; H_n) \qquad\text{(paper, Eq. 6 and 7)}$$
#
# with $H_n$ the state that region $n$ shows; so *one* region is a lower bound on the image.
#
# **What could go wrong**: adding information up without conditioning. It may be counted twice, and
# it may be missed.

# %%
from localmi.mi.distributions import DiscreteWorld

same, parity = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))  # p(a, b, y)
for a in range(2):
    same[a, a, a] = 1 / 2  # a and b are two copies of y
    for b in range(2):
        parity[a, b, a ^ b] = 1 / 4  # y says whether a and b differ
for name, table in (("copies", same), ("parity", parity)):
    world = DiscreteWorld(("A", "B", "Y"), table)
    parts, whole = world.mi("A", "Y") + world.mi("B", "Y"), world.mi(("A", "B"), "Y")
    print(f"{name}: I(A; Y) + I(B; Y) = {parts:.4f}, I(A, B; Y) = {whole:.4f} nats")

# %% [markdown]
# Two copies: the sum is **1.3863 nats**, twice what there is. Parity: neither part knows anything,
# the two together know all. So a *sum* of local information is no lower bound on the global;
# notebook 04 returns to this.
#
# ### Exercise 1.2
#
# Write $I(X; Y \mid Z) = \sum_z p(z)\, I(X; Y \mid Z = z)$ for any table $p(x, y, z)$.

# %%
def my_conditional_mi(table):                 # [K, L, M]: p(x, y, z)
    ...

check.exercise_1_2(my_conditional_mi)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_conditional_mi(table):                 # [K, L, M]: p(x, y, z)
    total = 0.0
    for z in range(table.shape[2]):
        weight = table[:, :, z].sum()                     # p(z)
        inside = table[:, :, z] / weight                  # p(x, y | z)
        both = np.outer(inside.sum(axis=1), inside.sum(axis=0))
        some = inside > 0
        total += weight * (inside[some] * np.log(inside[some] / both[some])).sum()
    return total

check.exercise_1_2(my_conditional_mi)

# %% [markdown]
# ## 5 What if both are continuous?
#
# The same formula, with densities. Units cancel in the fraction, so $I$ is an amount again: it
# does not change when $x$ or $y$ is rescaled, or put through any map that can be undone. For
# Gaussians there is a closed form. With $h = \frac12 \log\det(2\pi e\,\Sigma)$ in
# $I = h(X) + h(Y) - h(X, Y)$,
#
# $$I(X; Y) = \frac12 \log\frac{\det\Sigma_x \det\Sigma_y}{\det\Sigma}
# \qquad\text{one dimension each:}\quad -\tfrac12\log(1-\rho^2).$$

# %%
from localmi.mi.distributions import staircase, task

def my_gaussian(covariance, dim_x):           # [D, D], x first
    blocks = covariance[:dim_x, :dim_x], covariance[dim_x:, dim_x:], covariance
    of_x, of_y, of_both = (np.linalg.slogdet(block)[1] for block in blocks)
    return (of_x + of_y - of_both) / 2


for rho in (0.5, 0.9, 0.99, 0.999):
    print(f"correlation {rho:5}: {my_gaussian(np.array([[1, rho], [rho, 1]]), 1):.4f} nats")
for known in (staircase(mi=4.0, dim=20), task("multinormal-dense-25-25-0.5")):
    each = known.covariance[0, known.dim_x]  # correlation of x_1 and y_1
    nats = my_gaussian(known.covariance, known.dim_x)
    print(f"{known.label}: correlation {each:.2f}, {nats:.4f} nats")
    assert np.isclose(nats, known.true_mi)

# %%
figure, grid = plt.subplots(1, 3, figsize=(11, 3.4), width_ratios=(1.3, 1, 1))
rho = np.linspace(-0.999, 0.999, 801)
grid[0].plot(rho, -0.5 * np.log1p(-(rho**2)))
grid[0].set(xlabel="correlation", ylabel="I(X; Y) (nats)", ylim=0)
nats = -0.5 * np.log1p(-(0.9**2))
x, y = staircase(mi=nats, dim=1).sample(500, seed)
for axes, values, title in zip(grid[1:], (y, y**3), ("$y$", "$y^3$")):
    axes.plot(x, values, ".", markersize=3, color=COLOURS["held-out"])
    axes.set(xlabel="$x$", ylabel=title, title=f"$x$ and {title}: {nats:.3f} nats")
show(
    figure,
    alt="Left: information against correlation, flat near zero and steep near plus or minus one. "
    "Middle and right: a correlated cloud of points, and the same with y cubed.",
    caption="Figure 1.4: nats from a correlation; a map that can be undone changes nothing.",
)

# %% [markdown]
# A correlation of .9 is **0.8304 nats**, and .5 just **0.1438 nats**: information is in the last
# bit of correlation. Spread over 20 coordinates, 4 nats need a correlation of just **0.57** in
# each.
#
# In general, rotate $x$ and $y$ until each coordinate of $x$ is correlated with one of $y$ only
# (the canonical correlations $\rho_i$); then $I = -\frac12 \sum_i \log(1-\rho_i^2)$.
#
# **What could go wrong**: $\rho \to 1$. If a continuous $y$ is computed from $x$ without noise,
# and can be undone, $I$ is infinite. So "the information of an image and its features" is
# infinite, or an artefact of the arithmetic. Image and *report* are different: much of each is not
# in the other.

# %% [markdown]
# ## 6 From samples: can we count?
#
# Nobody gives you $p(x, y)$; you have $N$ pairs. Cut both axes into bins, count, and put the
# shares into the formula of section 3. With $n_{ab}$ pairs in cell $(a, b)$:
#
# $$\hat I = \sum_{a,b} \frac{n_{ab}}{N} \log\frac{N\, n_{ab}}{n_{a\cdot}\, n_{\cdot b}}.$$

# %%
from localmi.mi import histogram_mi
from localmi.mi.distributions import staircase

def my_histogram(x, y, bins):                 # [N], [N]
    counts = np.histogram2d(x, y, bins=bins)[0]
    of_x, of_y = counts.sum(axis=1, keepdims=True), counts.sum(axis=0)
    some = counts > 0
    log_ratio = np.log(len(x) * counts[some] / (of_x * of_y)[some])
    return (counts[some] / len(x) * log_ratio).sum()


known = staircase(mi=-0.5 * np.log1p(-(0.9**2)), dim=1)  # correlation .9
x, y = known.sample(samples, seed)
for bins in (4, 12, 100):
    found = my_histogram(x[:, 0].numpy(), y[:, 0].numpy(), bins)
    print(f"{bins:3} bins: {found:.3f} nats; truth {known.true_mi:.3f}")
    assert np.isclose(found, histogram_mi(x, y, bins=bins))

# %%
bins = np.unique(np.geomspace(2, 200, 25).astype(int))
figure, axes = plt.subplots(figsize=(7, 3.8))
for number, colour in ((500, PALETTE[1]), (5000, PALETTE[0]), (50_000, PALETTE[2])):
    x, y = known.sample(number, seed)
    found = [histogram_mi(x, y, bins=int(count)) for count in bins]
    axes.plot(bins, found, color=colour, label=f"N = {number:,}")
axes.axhline(known.true_mi, color=COLOURS["truth"], linestyle="--", label="true MI")
axes.set(xscale="log", xlabel="bins on each axis", ylabel="estimate (nats)", ylim=0)
axes.set_xticks([2, 5, 10, 20, 50, 100, 200], [2, 5, 10, 20, 50, 100, 200])
axes.minorticks_off()
axes.legend()
show(
    figure,
    alt="The histogram's estimate against the number of bins for three sample sizes: too low with "
    "few bins, it crosses the truth and goes on rising, the sooner the fewer samples.",
    caption="Figure 1.5: every histogram is right once, and does not say when.",
)

# %% [markdown]
# Two errors of opposite sign:
#
# * *down*: the number of the bin is a function of $x$, so by data processing it says less;
# * *up*: shares fluctuate, and every fluctuation looks like dependence. For independent $x$ and $y$
#   and cells that are well filled, the estimate is too high by $(B_x - 1)(B_y - 1)/2N$ on average.
#
# Where they cancel depends on the truth that you wanted to find out. Two questions can be asked without it.
# *What does the same estimator say of nothing?* Shuffle $y$, again and again: what is reported then is noise
# that looks like dependence, and $p$ says how often it reaches the value. *What would it say of more samples?*
# Ask it of fewer, and carry the line over $1/N$ on to 0.

# %%
from functools import partial

from localmi.mi import extrapolate, histogram_mi, permutation_null
from localmi.mi.distributions import staircase

known = staircase(mi=0.05, dim=1)
x, y = known.sample(500, seed)
for bins in (4, 12, 40):
    counted = partial(histogram_mi, bins=bins)
    null, beyond = permutation_null(x, y, counted), extrapolate(x, y, counted)
    print(f"{bins:2} bins: {null.value:.3f} nats, shuffled {null.shuffled.mean():.3f} (p = {null.p_value:.2f}), "
          f"for endless pairs {beyond.value:.3f}; truth {known.true_mi:.3f}")

# %% [markdown]
# With 12 bins the value is three times the truth. But shuffled pairs hardly ever reach it, so something is
# there, and the line ends near what is. It cannot give back what 4 bins have lost, and where nearly each pair
# has a cell of its own, with 40, it is no line.
#
# **What could go wrong**: it already did, with one dimension each. With $d$ dimensions each there
# are $B^{2d}$ cells. Section 8 shows what becomes of that.

# %%
from localmi.course import play
from localmi.mi import histogram_mi
from localmi.mi.distributions import staircase

def draw(bins=12, pairs=500, correlation=0.9):
    known = staircase(mi=-0.5 * np.log1p(-(correlation**2)), dim=1)
    draws = [known.sample(pairs, seed + repeat) for repeat in range(30)]
    found = [histogram_mi(*both, bins=bins) for both in draws]
    figure, (cloud, axes) = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(1, 2))
    cloud.hist2d(draws[0][0][:, 0].numpy(), draws[0][1][:, 0].numpy(), bins=bins, cmap="Blues")
    cloud.set(xlabel="$x$", ylabel="$y$", title="counts of one draw")
    axes.hist(found, bins=np.linspace(0, max(1.5, *found), 60), color=COLOURS["held-out"])
    axes.axvline(known.true_mi, color=COLOURS["truth"], linestyle="--", label="true MI")
    axes.set(xlabel="estimate (nats)", ylabel="draws", title="thirty draws")
    axes.legend()
    return figure


# %%
play(
    draw,
    alt="Left, the counts of one draw in their bins; right, the estimates of thirty draws beside the truth.",
    caption="To play with: let the thirty agree with each other, and not with the truth.",
    bins=(2, 100), pairs=[100, 500, 2000, 10_000], correlation=(0.0, 0.99, 0.01),
)  # fmt: skip

# %% [markdown]
# ## 7 From samples: can we ask the neighbours?
#
# Where a point's neighbours are near, the density is high. Let $\varepsilon_i$ be the distance
# from point $i$ to its $k$-th neighbour, in the larger of the distances in $x$ and in $y$. A cube
# of that radius holds $k$ points, and so (Kozachenko and Leonenko), with $\psi$ the digamma
# function, nearly a logarithm, and $D$ all the dimensions together,
#
# $$\hat H(X, Y) = \psi(N) - \psi(k) + \frac{D}{N}\sum_i \log 2\varepsilon_i .$$
#
# Do the same for $X$ alone and $Y$ alone with the *same* radius, where a cube holds $n_{x,i}$ and
# $n_{y,i}$ other points nearer than $\varepsilon_i$. The logarithms of the radii cancel:
#
# $$\hat I = \psi(k) + \psi(N) - \frac1N\sum_i \big[\psi(n_{x,i}+1) + \psi(n_{y,i}+1)\big]
# \qquad\text{(Kraskov, Stögbauer, Grassberger 2004, Eq. 8)}$$

# %%
generator = np.random.default_rng(seed)
x, noise = generator.standard_normal((2, 36))
y, i, k = 0.8 * x + 0.6 * noise, 6, 3
apart = np.maximum(abs(x - x[i]), abs(y - y[i]))  # the larger of the two distances
radius = np.sort(apart)[k]
near_x, near_y = abs(x - x[i]) < radius, abs(y - y[i]) < radius

# %%
figure, axes = plt.subplots(figsize=(4.8, 4.6))
axes.axvspan(x[i] - radius, x[i] + radius, color=PALETTE[0], alpha=0.15, lw=0)
axes.axhspan(y[i] - radius, y[i] + radius, color=PALETTE[1], alpha=0.15, lw=0)
corner = x[i] - radius, y[i] - radius
axes.add_patch(plt.Rectangle(corner, 2 * radius, 2 * radius, fill=False, ec="black", lw=1.5))
for which, colour in ((near_x | True, "#BBBBBB"), (near_x, PALETTE[0]), (near_y, PALETTE[1])):
    axes.plot(x[which], y[which], "o", color=colour, ms=5)
axes.plot(x[near_x & near_y], y[near_x & near_y], "o", color="black", ms=5)
axes.plot(x[i], y[i], "*", color="black", ms=11)
counts = f"$n_x$ = {near_x.sum() - 1}, $n_y$ = {near_y.sum() - 1}"
axes.set(xlabel="$x$", ylabel="$y$", title=f"$k$ = {k}: {counts}")
show(figure, alt="Points around a star: a square that reaches to its third neighbour, and the strips above "
     "and beside it, with the points in them.", caption="Figure 1.6: what KSG counts at one point.")

# %%
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma

def my_ksg(x, y, k=3):                        # [N, dim_x], [N, dim_y]
    both = np.hstack([x, y])
    radius = cKDTree(both).query(both, k=[k + 1], p=np.inf)[0]    # [N, 1]; itself is the first
    near_x = (cdist(x, x, "chebyshev") < radius).sum(axis=1) - 1  # not itself
    near_y = (cdist(y, y, "chebyshev") < radius).sum(axis=1) - 1
    return digamma(k) + digamma(len(x)) - (digamma(near_x + 1) + digamma(near_y + 1)).mean()


# %%
from localmi.mi import ksg
from localmi.mi.distributions import task

for name in ("1v1-normal-0.75", "half_cube-1v1-normal-0.75", "wiggly-1v1-normal-0.75"):
    known = task(name)
    x, y = known.sample(min(samples, 2000), seed)
    x, y = ((side - side.mean(dim=0)) / side.std(dim=0, correction=0) for side in (x, y))
    found = my_ksg(x.double().numpy(), y.double().numpy())
    print(f"{known.label:32} truth {known.true_mi:.3f}, KSG {found:.3f} nats")
    assert np.isclose(found, ksg(x, y), atol=1e-3)

# %% [markdown]
# No bins, no shape assumed, and right to about a hundredth with 2,000 samples, on these three.
#
# **What could go wrong**: two things, and both matter to us.
#
# The first is much information. Of the $k$ nearest neighbours, $k - 1$ are nearer than
# $\varepsilon_i$ in $x$ and in $y$, and the $k$-th is nearer in one of the two. So
# $n_{x,i} + 1 \ge k$ and $n_{y,i} + 1 \ge k$, one of them $\ge k + 1$, and whatever the truth
# (copies in $x$ or $y$ apart),
#
# $$\hat I \le \psi(N) - \psi(k + 1) \approx \log N - \psi(k+1).$$

# %%
from localmi.mi import ksg
from scipy.special import digamma

generator = np.random.default_rng(seed)
x, noise = generator.standard_normal((2, samples))
cap = digamma(samples) - digamma(4)
for size in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6):
    found, truth = ksg(x, x + size * noise), 0.5 * np.log1p(size**-2)
    print(f"y = x + {size:g} noise: truth {truth:6.3f}, KSG {found:.2f}, cap {cap:.2f}")
    assert found <= cap

# %% [markdown]
# $N$ samples, and no more than about $\log N$ nats. This comes of counting neighbours; but a limit of
# this kind is not theirs alone. McAllester and Stratos (2020) prove that a *lower bound* which holds
# with high confidence, whatever the distribution, is at most $O(\log N)$: some constant times
# $\log N$. (It says nothing of estimates that promise less, or assume more.) We shall meet the logarithm
# again with neural bounds, in a batch: $\log K$.

# %% [markdown]
# ## 8 What happens in twenty dimensions?
#
# The second thing. Spread the same 2 nats over more and more coordinates of $x$ and $y$, or none
# at all. For the histogram in many dimensions we count the cells that are not empty.
#
# Beside it stands the closed form of section 5, with the canonical correlations of the *samples*.
# They fluctuate, and every fluctuation looks like dependence, as in the histogram: of independent
# Gaussians $2N\hat I$ is about $\chi^2$ with $d_x d_y$ degrees of freedom (Wilks), so $\hat I$ is too
# high by $d_x d_y/2N$ on average. The library takes that off; here you see both.

# %%
def my_cells(points, bins):                   # [N, d] -> [N], number of the cell each lies in
    low, high = points.min(axis=0), points.max(axis=0)
    index = ((points - low) / (high - low) * bins).astype(int).clip(max=bins - 1)
    return np.unique(index, axis=0, return_inverse=True)[1].ravel()


def my_cell_entropy(cells):                   # [N]
    share = np.bincount(cells) / len(cells)
    return -(share * np.log(share)).sum()


def my_wide_histogram(x, y, bins=10):         # [N, d], [N, d]
    of_x, of_y, of_both = (my_cell_entropy(my_cells(z, bins)) for z in (x, y, np.hstack([x, y])))
    return of_x + of_y - of_both


# %%
from localmi.mi import gaussian_mi, ksg
from localmi.mi.distributions import staircase

METHODS = {
    "histogram, 10 bins": lambda x, y: my_wide_histogram(x.numpy(), y.numpy()),
    "KSG, k = 3": ksg,
    "correlations": lambda x, y: gaussian_mi(x, y, corrected=False),
    "… less d²/2N": gaussian_mi,
}
rows = []
for truth in (2.0, 0.0):
    for dim in dimensions:
        for repeat in range(repeats):
            x, y = staircase(mi=truth, dim=dim).sample(samples, seed + repeat)
            rows += [(truth, dim, name, method(x, y)) for name, method in METHODS.items()]
estimates = pd.DataFrame(rows, columns=["truth", "dimensions", "method", "nats"])
table = estimates.pivot_table(index=["truth", "dimensions"], columns="method", values="nats")
table[list(METHODS)].round(2) + 0.0

# %%
figure, grid = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
for axes, truth in zip(grid, (2.0, 0.0)):
    for name, colour in zip(METHODS, PALETTE[1:]):
        curve = table.loc[truth][name]
        axes.plot(curve.index, curve, marker="o", color=colour, label=name)
    axes.axhline(truth, color=COLOURS["truth"], linestyle="--", label="true MI")
    axes.axhline(np.log(samples), color=COLOURS["cap"], linestyle=":", label="log N")
    axes.set(xscale="log", title=f"true MI {truth:g} nats", xlabel="dimensions of x and of y")
    axes.set_xticks(dimensions, dimensions)
    axes.minorticks_off()
grid[0].set(ylabel="estimate (nats)")
figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right center")
show(
    figure,
    alt="Three estimates against the dimension, for a truth of two nats and of none. The "
    "histogram climbs to log N in both, the neighbours sink further and further below two nats, "
    "correlations stay at the truth, a little above it where nothing is taken off.",
    caption="Figure 1.7: with dimension the histogram says log N, whatever the truth, and the "
    "neighbours see less and less of it.",
)

# %% [markdown]
# With every sample alone in its cell, the three entropies of the histogram are $\log N$ each, and
# $\log N + \log N - \log N = \log N$. It counts its samples, and nothing else. The neighbours fail
# the other way, of 2 nats in 20 + 20 dimensions they see **0.45**: the nearest of 2,000 points is far
# away there, and in a cube that large the density is anything but even. More samples do not save
# either: to halve the distances in 40 dimensions takes $2^{40}$ times as many.
#
# The correlations are right, for the samples *are* Gaussian, and that is all they ask; but not
# without the correction. With 20 + 20 dimensions and 2,000 samples $d^2/2N$ is a tenth of a nat, and
# as they are they report **0.10** where there is nothing. With $d^2$ near $N$ the correction itself,
# an approximation for $N$ much larger than $d_x + d_y$, is no longer small.

# %%
from localmi.mi import gaussian_mi, ksg
from localmi.mi.distributions import task

rows = []
for name in (
    "multinormal-dense-25-25-0.5",
    "half_cube-multinormal-sparse-25-25-2-2.0",
    "spiral-multinormal-sparse-3-3-2-2.0",
    "asinh-student-identity-2-2-1",
):
    known = task(name)
    draws = [known.sample(samples, seed + repeat) for repeat in range(repeats)]
    means = [np.mean([method(*pairs) for pairs in draws]) for method in (gaussian_mi, ksg)]
    rows.append((known.label, known.true_mi, *means))
columns = ["task", "truth", "correlations", "KSG"]
pd.DataFrame(rows, columns=columns).set_index("task").round(2) + 0.0

# %% [markdown]
# (Corrected, as the library does.) One sees lines only, the other loses with each dimension. Images
# and reports have thousands of dimensions and no lines. This is the gap that *learned* scores fill: a
# network that finds, among the thousands, the few directions in which image and report know of each
# other.
#
# **What could go wrong**: heavy tails. Two Student variables with one degree of freedom have no
# covariance at all; what is computed in its place depends on the largest few points.

# %%
student = task("student-identity-2-2-1")
found = [gaussian_mi(*student.sample(samples, seed + repeat)) for repeat in range(10)]
print(f"truth {student.true_mi:.3f}; correlations, ten fresh samples of {samples:,}:")
print("  ".join(f"{value:.2f}" for value in sorted(found)))

# %% [markdown]
# ### Exercise 1.3: which of these can be true?
#
# Ten sentences out of papers that nobody has written. Which can be true? Where one cannot, its *last* number
# is wrong: give the nearest one that could be, to two decimals. Your answer is `True` or that number. Pencil,
# paper and the cells above are allowed.
#
# | | |
# |---|---|
# | a | The grade has three values, and the report tells 1.2 nats of it. |
# | b | The differential entropy of the heart's width is −2.3 nats. |
# | c | The image tells .40 nats of the finding, our feature of that image .45. |
# | d | The left lung tells .30 nats of the finding, the right one .20, both together .25. |
# | e | Neither lung tells anything of the finding, both together tell .69 nats. |
# | f | KSG with $k = 3$ finds 5.6 nats in 500 pairs. |
# | g | $x$ and $y$ are Gaussian, 20 dimensions each; each $x_i$ is correlated with $y_i$ by .5, and nothing else is correlated. Together 4 nats. |
# | h | A histogram of 30 × 30 bins finds .2 nats in 2,000 uniform pairs that have nothing in common. |
# | i | In centimetres the information is .40 nats, in millimetres 5.0. |
# | j | The image tells all of the finding, and the finding leaves 3 nats of the image open. |

# %%
my_answer = dict.fromkeys("abcdefghij", ...)  # True, or the nearest number that can be
check.exercise_1_3(my_answer)

# %% jupyter={"source_hidden": true} tags=["solution"]
from scipy.special import digamma

my_answer = dict.fromkeys("behj", True)
my_answer["a"] = np.log(3)                    # I <= H
my_answer["c"] = 0.40                         # data processing
my_answer["d"] = 0.30                         # the chain rule: both know what the left one knows
my_answer["f"] = digamma(500) - digamma(4)    # the cap
my_answer["g"] = -20 / 2 * np.log(1 - 0.5**2)
my_answer["i"] = 0.40                         # units cancel
check.exercise_1_3(my_answer)

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** A finding is present in 1 of 100 patients, another in half. How much can a report tell of
# each at most?
#
# <details><summary>Of the rare one more: it is the greater surprise.</summary>
#
# **No.** The surprise is greater, but it comes once in a hundred patients. What counts is the average,
# $H$.
#
# </details>
# <details><summary>Of both alike: a report says "present" or "absent".</summary>
#
# **No.** Two answers, but not equally likely ones. $\log 2$ is the most that two answers can tell.
#
# </details>
# <details><summary>Of the frequent one more: there more is open.</summary>
#
# **Right.** $H = \log 2 = 0.69$ nats against $0.056$. To the one patient who has the rare finding it is
# worth all the same.
#
# </details>
#
# **Question 2.** You measured lengths in centimetres, now in millimetres. What changes?
#
# <details><summary>Both grow by log 10.</summary>
#
# **No.** In the fraction $p(x, y) / p(x)p(y)$ units cancel.
#
# </details>
# <details><summary>Neither: it is the same quantity.</summary>
#
# **No.** A density is *per* millimetre. Ten times as many units, a tenth of the density, $\log 10$ more of
# $h$.
#
# </details>
# <details><summary>The differential entropy grows by log 10; mutual information stays.</summary>
#
# **Right.** $h$ depends on the unit. In $I = h(Y) - h(Y \mid X)$ the $\log 10$ is in both terms.
#
# </details>
#
# **Question 3.** A network's feature Z is computed from the image X. May it know more of the finding than
# the image does?
#
# <details><summary>No, but it may be easier to read.</summary>
#
# **Right.** Data processing: $I(Z; H) \le I(X; H)$. A linear probe may still find more in $Z$: it is no
# measure of information.
#
# </details>
# <details><summary>Yes, if it was trained on many images.</summary>
#
# **No.** Training decides which feature is computed. But it is computed from *this* image, and $I(Z; H)
# \le I(X; H)$ holds for each.
#
# </details>
# <details><summary>Yes, if X is noisy and Z is denoised.</summary>
#
# **No.** Denoising is computed from the noisy image, too. What the noise has destroyed is gone.
#
# </details>
#
# **Question 4.** For two regions, I(A; Y) + I(B; Y) is larger than I(A, B; Y). What does that mean?
#
# <details><summary>A fault in the calculation: the chain rule forbids it.</summary>
#
# **No.** The chain rule says $I(A, B; Y) = I(A; Y) + I(B; Y \mid A)$, with a condition. Without it the sum
# may lie on either side.
#
# </details>
# <details><summary>Both know some of the same, and it was counted twice.</summary>
#
# **Right.** Two copies are the extreme case: the sum is twice what there is.
#
# </details>
# <details><summary>A and B know something only together.</summary>
#
# **No.** Then the sum is too *small*, as with parity.
#
# </details>
#
# **Question 5.** A histogram of 2,000 pairs in 20 + 20 dimensions says 7.6 nats. What do you conclude?
#
# <details><summary>There are at least 7.6 nats: a histogram loses information.</summary>
#
# **No.** It loses some by binning, and invents far more by counting noise.
#
# </details>
# <details><summary>Nothing: it would say so of any 2,000 pairs.</summary>
#
# **Right.** $\log 2000 = 7.6$: each pair lies alone in its cell, and three times $\log N$ make $\log N$.
#
# </details>
# <details><summary>Too few bins: with more the value would fall.</summary>
#
# **No.** With more bins even fewer pairs share a cell. It stays at $\log N$.
#
# </details>
#
# **Question 6.** KSG of 500 pairs, k = 3, says 4.9 nats; its cap is about 5.0. What would you report?
#
# <details><summary>At least about 4.9 nats, and get more pairs.</summary>
#
# **Right.** At the cap the value says "no less than", if anything: $\psi(N) - \psi(k + 1)$ is all that 500
# pairs can show.
#
# </details>
# <details><summary>4.9 nats: KSG is known to be accurate.</summary>
#
# **No.** In few dimensions and far from its cap it is. Here whatever is larger would look the same.
#
# </details>
# <details><summary>5.0 nats, the cap.</summary>
#
# **No.** The cap is a fact about the estimator, not about the data.
#
# </details>

# %% [markdown]
# ## Key points
#
# - Entropy is what is open, mutual information is by how much it closes: $H(Y) - H(Y \mid X)$.
# - $I = D(p(x,y)\,\|\,p(x)p(y)) \ge 0$, by Jensen. Its integrand, the log-ratio, is the best critic.
# - Processing loses information. Parts may be added only with the condition of the chain rule.
# - Gaussians have a closed form, and an invertible map of $x$ or of $y$ changes nothing: known
#   answers for any shape.
# - A histogram is too low with few bins, too high with many, and in many dimensions it says $\log N$.
# - KSG needs no bins and no shape, and does well in one dimension each; in many it sees less and less
#   of what there is, and it never exceeds $\psi(N) - \psi(k+1)$.
# - Correlations see lines and nothing else, and are too high by $d_x d_y/2N$ unless that is taken off.
#
# Next: [2 Variational bounds](02_variational_bounds.ipynb).
#
# ## References
#
# - Shannon 1948, A mathematical theory of communication, Bell System Technical Journal.
#   <https://doi.org/10.1002/j.1538-7305.1948.tb01338.x>
# - Cover and Thomas 2006, Elements of information theory, chapters 2 and 8.
#   <https://doi.org/10.1002/047174882X>
# - Paninski 2003, Estimation of entropy and mutual information, Neural Computation.
#   <https://doi.org/10.1162/089976603321780272>
# - Kraskov, Stögbauer and Grassberger 2004, Estimating mutual information, Physical Review E.
#   <https://doi.org/10.1103/PhysRevE.69.066138>
# - McAllester and Stratos 2020, Formal limitations on the measurement of mutual information,
#   AISTATS. <https://doi.org/10.48550/arXiv.1811.04251>
# - Czyż et al. 2023, Beyond normal: on the evaluation of mutual information estimators, NeurIPS.
#   <https://doi.org/10.48550/arXiv.2306.11078>
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>

# %% tags=["record"]
from localmi.record import Result, record_metrics
from localmi.statistics import mean_interval

metrics = {}
for (truth, dim, name), of_one in estimates.groupby(["truth", "dimensions", "method"]):
    if name.startswith("KSG"):
        interval = mean_interval(of_one["nats"].to_numpy(), np.arange(repeats))
        metrics[f"ksg_{truth:g}_nats_{dim}_dim"] = Result(interval, "fresh", {"truth": truth})
record = record_metrics(
    metrics,
    data={"name": "Gaussians of known mutual information"},
    run_dir=run_dir,
)
