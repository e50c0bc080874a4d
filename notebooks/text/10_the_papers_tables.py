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
# # 10 The paper's tables, made again
#
# **You will be able to** read a table of AUCs that comes without intervals, and say what it can
# carry; put your own beside it, each number with an interval and each claim with a test; tell "no
# difference" from "cannot be told"; and say what a synthetic study proves about a method, and what
# not.
#
# **Before this**: [training by local MI](07_train_local_mi.ipynb),
# [downstream tasks](08_downstream_tasks.ipynb).
# **Reading time**: 40 minutes.
# **Run time**: 30 seconds on 2 cores; the runs behind the tables, `make tables`, take three hours.
# **Memory**: 0.5 GB.
# **Data**: the tables of `make tables` (180 runs, three seeds, on a synthetic study of 5,000
# patients), stored with the course; or those of your own grid by `tables_dir`.
#
# Sections 2 to 6 go on with what section 1 has read; section 7 stands alone.

# %% tags=["setup"]

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from localmi.course import COLOURS, PALETTE, check, set_up, show

set_up()

# %% tags=["parameters"]
tables_dir = ""  # tables of a grid (grid/runs/small/tables), "" is the stored ones
seed = 0  # of the simulation in section 7
run_dir = ""  # where results are kept, "" keeps nothing

# %% [markdown]
# ## 1 What was compared, and on what?
#
# The paper trains nine classifiers for each of two tasks. They share the network, six blocks and a
# linear layer, and the labels; they differ in where the blocks start and in what is trained:
#
# $$\{\text{image-only}\} \;\cup\; \{\text{global}, \text{local}\} \times
# \{\text{CPC}, \text{MINE}\} \times \{\text{frozen}, \text{tuned}\}$$
#
# `make tables` trains all of them: four encoders a seed (notebook 07), and from these nine
# variants a task, seed and share of the labels (notebook 08). Beside them stands what the paper
# lacks: a linear *probe* of each encoder, and of one with random weights, which says what the
# architecture alone is worth. What a variant scored on each test image stands in its run folder;
# from these files, and nothing else, the tables below are computed.

# %%
from localmi.downstream import paper_aucs, read_tables

def percent(share):
    return f"{100 * share:g} %"


tables, paper = read_tables(tables_dir), paper_aucs()
auc, tests = tables.auc, tables.comparisons
variants = list(dict.fromkeys(auc["variant"]))
shares = sorted(set(auc["fraction"]), reverse=True)
means = auc[auc["finding"] == "mean"].set_index(["task", "fraction", "variant"])
print(f"{len(variants)} variants; of the labels {' and '.join(map(percent, shares))}")
print("seeds of each:", sorted(set(auc["seeds"])))
print("test images with a label:", means.groupby("task")["images"].max().to_dict())

# %% [markdown]
# The paper's Table 1 counts images with a label. Ours stand beside it: "explicit" means that only
# a 1 or a 0 counts, as chapter 8 explains.

# %%
if tables.counts is not None:
    columns = ["train, paper", "train, explicit", "test, paper", "test, explicit"]
    shown = tables.counts[columns].rename(columns=lambda name: name.replace("explicit", "ours"))
    print(shown.astype("Int64").map("{:,}".format).replace("<NA>", "–").to_string())

# %% [markdown]
# The paper trains on twice to 25 times our number of labels. Its test sets, though, are hardly larger
# than ours, some much smaller: an interval of the paper's would be as wide as ours, or wider. It
# prints none.
#
# **What could go wrong**: comparing the sizes of training sets and forgetting those of test sets.
# A method is as good as its training set, a *claim* as good as its test set.
#
# ## 2 What can a table without intervals carry?
#
# Its AUCs can be given an interval from outside. Hanley and McNeil's standard error of an AUC $A$
# from $P$ positive and $N$ negative images needs nothing else:
#
# $$\mathrm{SE}^2 = \frac{A(1-A) + (P-1)(Q_1-A^2) + (N-1)(Q_2-A^2)}{PN}, \qquad
# Q_1 = \frac{A}{2-A},\quad Q_2 = \frac{2A^2}{1+A}$$
#
# $Q_1$ is the chance that one positive beats two negatives, $Q_2$ that two positives beat one
# negative: pairs that share an image are not independent.
#
# ### Exercise 10.1
#
# Write it.

# %%
def my_standard_error(auc, positives, negatives):  # -> one number
    ...


check.exercise_10_1(my_standard_error)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_standard_error(auc, positives, negatives):  # -> one number
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    shared = (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return np.sqrt((auc * (1 - auc) + shared) / (positives * negatives))


check.exercise_10_1(my_standard_error)

# %% [markdown]
# The paper does not say how many of its test images are positive. We take half of them, which
# gives the *smallest* error there can be about. Two models that saw the same images have
# correlated errors, which cancel in a difference: $\mathrm{SE}^2(A-B) = \mathrm{SE}_A^2 +
# \mathrm{SE}_B^2 - 2r\,\mathrm{SE}_A\mathrm{SE}_B$. Nobody printed $r$ either; here it is .5. So,
# is the paper's best variant, local tuned, better than image-only?

# %%
from localmi.data import TABLE_1

printed = paper.pivot(index="finding", columns="variant", values="auc")
rows = []
for finding, (_, images) in TABLE_1.items():
    if images is None:
        continue
    ours, base = printed.loc[finding, ["local-infonce-tuned", "image-only"]]
    errors = [my_standard_error(one, images / 2, images / 2) for one in (ours, base)]
    error = np.sqrt(errors[0] ** 2 + errors[1] ** 2 - 2 * 0.5 * errors[0] * errors[1])
    rows.append([finding, images, base, ours, ours - base, 1.96 * error])
names = ["finding", "test images", "image-only", "local CPC tuned", "difference", "+-"]
approximate = pd.DataFrame(rows, columns=names).set_index("finding").round(3)
approximate["told apart"] = approximate["difference"].abs() > approximate["+-"]
approximate

# %% [markdown]
# At best two of five differences can be told from 0, before any correction for asking five times.
# And the "±" of the paper's captions is no help: it is the spread *between tasks*.

# %%
tuned = paper[paper["variant"].str.match("local-.*-tuned")].groupby("task")["auc"]
for task, values in tuned:
    print(f"local tuned, {task:10}: mean {values.mean():.3f} ± {values.std(ddof=0):.3f} over tasks")

# %% [markdown]
# One test needs no error at all: count on how many tasks one variant is ahead. If the two were
# alike each task would be a coin, and the **sign test** asks how likely such a count, or a more
# extreme one, would be.
#
# ### Exercise 10.2
#
# Write its two-sided $p$ from the differences of all tasks. A difference of 0 does not count.

# %%
def my_sign_test(differences):  # [n] -> one number
    ...


check.exercise_10_2(my_sign_test)

# %% jupyter={"source_hidden": true} tags=["solution"]
from scipy.stats import binomtest


def my_sign_test(differences):  # [n] -> one number
    wins, losses = (differences > 0).sum(), (differences < 0).sum()
    return binomtest(int(wins), int(wins + losses)).pvalue


check.exercise_10_2(my_sign_test)

# %%
CLAIMS = {
    "local tuned beats image-only": ("local-{}-tuned", "image-only"),
    "local tuned beats global tuned": ("local-{}-tuned", "global-{}-tuned"),
    "global tuned beats image-only": ("global-{}-tuned", "image-only"),
    "local frozen beats image-only": ("local-{}-frozen", "image-only"),
    "local frozen beats global frozen": ("local-{}-frozen", "global-{}-frozen"),
    "CPC beats MINE, local tuned": ("local-infonce-tuned", "local-mine-tuned"),
}


def pairs_of(claim):  # -> the two variants of each estimator
    a, b = CLAIMS[claim]
    return list(dict.fromkeys((a.format(name), b.format(name)) for name in ("infonce", "mine")))


# %%
rows = []
for a, b in [pair for claim in CLAIMS for pair in pairs_of(claim)]:
    difference = (printed[a] - printed[b]).round(2).to_numpy()
    ahead, behind = (difference > 0).sum(), (difference < 0).sum()
    rows.append([a, b, ahead, behind, difference.mean(), my_sign_test(difference)])
names = ["a", "b", "a ahead", "b ahead", "mean a - b", "p, sign test"]
pd.DataFrame(rows, columns=names).round(3)

# %% [markdown]
# Local tuned is ahead of image-only and of global tuned on nine to eleven of the twelve. With MINE
# that is more than a coin would do; with CPC it is at the edge of .05, and whoever asks four
# questions must correct for four. Two cautions more. The twelve are not independent: nine come
# from the same images and one trained encoder, three are cuts of one softmax. And one seed is one
# network: the test speaks of these trained networks, not of the method.
#
# "Comparable if frozen", which the text says, is not what the tables show: frozen, local is behind
# global on most tasks by CPC.
#
# One error bar the authors did print, without meaning to. The public code gives CPC and MINE equal
# gradients (chapter 4), so the two columns of a variant are two trainings of one method, and what
# they differ by is what a seed is worth:

# %%
rows = []
for variant in ("global-{}-frozen", "global-{}-tuned", "local-{}-frozen", "local-{}-tuned"):
    one, other = (printed[variant.format(bound)] for bound in ("infonce", "mine"))
    spread = np.sqrt(((one - other) ** 2).mean())
    gain = ((one + other) / 2 - printed["image-only"]).mean()
    rows.append([variant.replace("{}-", ""), spread, (one - other).mean(), gain])
names = ["variant", "RMS of CPC - MINE", "their mean", "mean gain on image-only"]
pd.DataFrame(rows, columns=names).round(3)

# %% [markdown]
# On one finding two trainings of local MI so differ by about **.05**. Local tuned leads global tuned,
# on the mean of both columns, by the difference of the last one: less than .03.
#
# **What could go wrong**: reading a mean over tasks as if the tasks were patients.
#
# ## 3 What are our tables?
#
# A comparison is as fair as its weaker side was treated. Both objectives read whole texts (reports
# are cut at 320 word pieces, sentences at 64; none of ours is longer). Each objective has the learning
# rate that was best in its own search, by a probe on the *validation* patients: .002 for local MI,
# .001 for global MI (`data/example/results/README.md`). The search had one seed. Classifiers share
# the labels, the augmentation and one learning rate.
#
# Each AUC is the mean over the seeds, and each seed is its own pretraining, its own draw of the
# labels and its own start. The 95 % interval resamples the test patients, all seeds of a patient
# together.

# %%
TASKS = {"pathology9": "Pathology9", "edema": "EdemaSeverity"}
paper_means = paper.groupby(["task", "variant"])["auc"].mean()


def draw_means(axes, task):
    for share, colour in zip(shares, PALETTE, strict=False):
        rows = means.loc[task, share].reindex(variants)
        places = np.arange(len(variants)) + 0.16 * (share != shares[0])
        error = [rows["auc"] - rows["auc_low"], rows["auc_high"] - rows["auc"]]
        label = f"ours, {percent(share)} of the labels"
        axes.errorbar(rows["auc"], places, xerr=error, fmt="o", color=colour, label=label)
    values = [paper_means.get((task, variant), np.nan) for variant in variants]
    places = np.arange(len(variants)) - 0.16
    axes.plot(values, places, "D", color="k", fillstyle="none", label="paper")
    axes.axvline(0.5, color=COLOURS["cap"], linestyle=":")
    axes.set(title=TASKS[task], xlabel="mean AUC")
    axes.set_yticks(range(len(variants)), variants)


# %%
figure, panels = plt.subplots(1, 2, figsize=(11, 5.8), sharey=True)
for axes, task in zip(panels, TASKS, strict=True):
    draw_means(axes, task)
panels[0].invert_yaxis()
panels[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
show(
    figure,
    alt="Two panels, one a task: the mean AUC of each variant, at each share of the "
    "labels with its interval, and the paper's value as an open diamond.",
    caption="Figure 10.1: mean AUC over nine findings (left) and over the three cuts of edema "
    "(right); bars: 95 % intervals over patients; dotted: chance.",
)

# %% [markdown]
# The levels of paper and course cannot be compared: other images, other labels, other sizes. What
# can be is the *order* of the variants, and the distances between them. First the tables
# themselves, as the paper prints them, and with what it leaves out.

# %%
def cells(task, share, words):  # findings x variants, `words` of a row in each cell
    rows = auc[(auc["task"] == task) & (auc["fraction"] == share)]
    text = [words(row) for row in rows.itertuples()]
    wide = rows.assign(text=text).pivot(index="finding", columns="variant", values="text")
    return wide.reindex(index=list(dict.fromkeys(rows["finding"])), columns=variants)


def beside_paper(row):
    mean = row.finding == "mean"
    theirs = paper_means[row.task] if mean else printed.loc[row.finding]
    beside = f"{theirs[row.variant]:.2f}" if row.variant in theirs else "–"
    return f"{row.auc:.2f} | {beside}"


def with_interval(row):
    return f"{row.auc:.2f} [{row.auc_low:.2f}, {row.auc_high:.2f}]"


# %% [markdown]
# **Table 2, EdemaSeverity**, all labels, ours | the paper's; then ours with its intervals, and
# with the fewest labels:

# %%
cells("edema", shares[0], beside_paper)

# %%
cells("edema", shares[0], with_interval)

# %%
cells("edema", shares[-1], with_interval)

# %% [markdown]
# **Table 3, Pathology9**, likewise:

# %%
cells("pathology9", shares[0], beside_paper)

# %%
cells("pathology9", shares[0], with_interval)

# %%
cells("pathology9", shares[-1], with_interval)

# %% [markdown]
# ## 4 What do the tests say?
#
# Overlapping intervals do not answer "is local better?": all variants saw the same patients
# (chapter 8). The paired test swaps two variants' predictions patient by patient: it asks whether
# *these networks* differ. Whether the *method* does is another question, for a network is drawn as
# a patient is: another seed, another network. Radiology has the same question with readers in the
# place of seeds, and an answer. From the differences $d_s$ of $S$ seeds,
#
# $$\mathrm{Var}(\bar d) = \frac{s^2}{S} + c, \qquad
# \mathrm{df} = \frac{(s^2/S + c)^2}{(s^2/S)^2/(S-1)}
# \qquad\text{(Obuchowski and Rockette; Hillis)}$$
#
# with $s^2$ their variance and $c$ the covariance of two seeds' differences over resampled
# patients. With three seeds df may be as low as two, and a difference must be four standard errors
# large. Holm's correction is over all that is asked: all rows of the table below are one family, all
# single findings another.
#
# ### Exercise 10.3
#
# A claim says "a beats b". Write what the tests say of it, from the difference a − b and both of
# Holm's p (a test rejects where p < .05): `"open"` where these networks cannot be told apart; `"once"` where
# they can, but another seed might turn it; else `"holds"` or `"contradicted"`.

# %%
def my_verdict(difference, p_networks, p_method):  # -> "holds", "contradicted", "once", "open"
    ...


check.exercise_10_3(my_verdict)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_verdict(difference, p_networks, p_method):  # -> "holds", "contradicted", "once", "open"
    if p_networks >= 0.05:
        return "open"
    if p_method >= 0.05:
        return "once"
    return "holds" if difference > 0 else "contradicted"


check.exercise_10_3(my_verdict)

# %%
WORDS = ("holds", "contradicted", "once", "open")


def verdict_of(row):
    return my_verdict(row.difference, row.p_holm, row.p_method_holm)


on_means = tests[tests["finding"] == "mean"].copy()
on_means["claim"] = [f"{row.a} > {row.b}" for row in on_means.itertuples()]
on_means["a - b"] = [
    f"{row.difference:+.3f} [{row.method_low:+.3f}, {row.method_high:+.3f}]"
    for row in on_means.itertuples()
]
on_means["verdict"] = [verdict_of(row) for row in on_means.itertuples()]
names = {"p_holm": "networks, Holm", "p_method": "method", "p_method_holm": "method, Holm"}
shown = on_means[["task", "fraction", "claim", "a - b", *names, "verdict"]]
print(shown.rename(columns=names).round(4).to_string(index=False))

# %%
FILL = {"holds": "full", "contradicted": "full", "once": "left", "open": "none"}


def draw_difference(axes, row, y, colour):  # thick: over patients; thin: over seeds too
    axes.hlines(y, row.method_low, row.method_high, color=colour, linewidth=1)
    axes.hlines(y, row.low, row.high, color=colour, linewidth=3)
    style = {"fillstyle": FILL[verdict_of(row)], "markerfacecoloralt": "white"}
    axes.plot(row.difference, y, "o", color=colour, **style)


def draw_claims(axes, share):
    rows = on_means[on_means["fraction"] == share]
    claims = list(dict.fromkeys(on_means["claim"]))
    for row in rows.itertuples():
        second = row.task == "edema"
        draw_difference(axes, row, claims.index(row.claim) + 0.25 * second, PALETTE[second])
    axes.axvline(0, color=COLOURS["truth"], linestyle="--")
    axes.set(title=f"{percent(share)} of the labels", xlabel="difference of mean AUC, a - b")
    axes.set_yticks(range(len(claims)), claims)


# %%
figure, panels = plt.subplots(1, len(shares), figsize=(12, 7), sharey=True, squeeze=False)
for axes, share in zip(panels[0], shares, strict=True):
    draw_claims(axes, share)
panels[0, 0].invert_yaxis()
for task, colour in zip(TASKS.values(), PALETTE, strict=False):
    panels[0, -1].plot([], [], "o-", color=colour, label=task)
panels[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
show(
    figure,
    alt="A panel for each share of the labels: for each claim the difference of the mean AUC with "
    "its two intervals, both tasks, and a dashed line at zero.",
    caption="Figure 10.2: each claim as a difference; thick: 95 % intervals over patients, thin: "
    "over patients and seeds; filled: it holds or is contradicted, half: once, empty: open.",
)

# %% [markdown]
# The first $p$ speaks of these networks: three rows in four are told apart. The second, not corrected,
# speaks of the method. The third corrects it, and with three seeds that is a hard exam: df is two or
# little more, and of 76 questions the first must have $p < .0007$. Only what hardly varies from seed
# to seed passes: three rows, each of which says that a probe of a *global* encoder beats one of random
# weights.
#
# **Local tuned against image-only.** On Pathology9 these networks are ahead by .06 with all labels and
# by .14 to .17 with 1 % of them, with either estimator. Of the method $p$ is .016 to .080 before the
# correction, and 1 after it. On edema with all labels every tuned variant reaches .99, and so does
# image-only: open. With 1 % local is ahead by .10 to .12, but there image-only itself varies by .08
# from seed to seed.
#
# **Local tuned against global tuned.** Ahead in seven rows of eight, by up to .05; four of them are told
# apart. Of the method not one $p$ is below .05, even before any correction.
#
# **Frozen**, local and global are alike so far: six rows of eight are open, two are "once". Against
# image-only both are ahead on Pathology9 and with few labels, and *behind* on edema with all labels,
# by .03: what was not learnt from reports, frozen blocks cannot add. "Once", all of it.
#
# **Probes** say what an encoder holds by itself. Each beats random weights in each row, by .04 to .27.
# Local against global has no one sign.
#
# Where does the spread come from? Look at seed 1. Its local encoders had learnt .29 nats by CPC and
# .15 by MINE, those of seeds 0 and 2 .35 to .40 and .30 to .31; frozen, their mean AUC on Pathology9 is
# .82, of the others .88 to .90. The learning rate was searched with seed 0, and twice that rate has
# spoilt CPC there: .002 may be too near the edge for another seed. One seed would have shown either of
# two papers.
#
# An earlier grid of ours said more. Before reports were read whole and classifiers were trained on
# augmented images, local tuned beat image-only in all eight rows, on edema with 1 % of the labels by
# .34. What changed most is the baseline: augmentation alone takes image-only from .54 to .78 there.
#
# ## 5 Which findings is it that gain?

# %%
def draw_findings(axes, b, share):
    own = tests[(tests["fraction"] == share) & (tests["finding"] != "mean")]
    own = own[(own["a"] == "local-infonce-tuned") & (own["b"] == b)].reset_index(drop=True)
    for row in own.itertuples():
        draw_difference(axes, row, row.Index, PALETTE[0])
    theirs = printed["local-infonce-tuned"] - printed[b]
    look = {"color": PALETTE[1], "markersize": 6, "label": "the paper's"}
    axes.plot(theirs[own["finding"]], own.index + 0.3, "D", **look)
    axes.axvline(0, color=COLOURS["truth"], linestyle="--")
    axes.set(title=f"v {b}, {percent(share)}", xlabel="difference of AUC")
    axes.set_yticks(own.index, own["finding"])


# %%
others = ["image-only", "global-infonce-tuned"]
figure, panels = plt.subplots(1, 2 * len(shares), figsize=(13, 4.6), sharey=True)
for axes, (b, share) in zip(panels, [(b, f) for b in others for f in shares], strict=True):
    draw_findings(axes, b, share)
panels[0].invert_yaxis()
panels[0].legend(loc="lower right", fontsize="x-small")
show(
    figure,
    alt="Panels of differences of AUC by finding and by cut of edema: local tuned by CPC against "
    "image-only and against global tuned, with intervals; diamonds are the paper's.",
    caption="Figure 10.3: local CPC tuned minus another variant, drawn as in Figure 10.2; diamonds: "
    "the paper, with all labels of MIMIC-CXR.",
)

# %%
single = tests[tests["finding"] != "mean"]
rows = []
for (share, a, b), own in single.groupby(["fraction", "a", "b"], sort=False):
    verdicts = [verdict_of(row) for row in own.itertuples()]
    rows.append([percent(share), a, b, *(verdicts.count(word) for word in WORDS)])
pd.DataFrame(rows, columns=["labels", "a", "b", *WORDS])

# %% [markdown]
# Against image-only these networks gain on most findings with few labels, and with all of them on
# those of lung and pleura: most on pneumothorax and atelectasis (.12 to .15). Of the method one holds: the
# finding edema of Pathology9, by CPC, with 1 % of the labels.
#
# Against global tuned half or more stay open. The two that gain in all four rows are again pneumothorax
# and atelectasis, one thin, the other small, which a vector of the whole image may well pass over; lung
# opacity and effusion lose in some. That would be a hypothesis to test with new seeds, not a finding of
# these.
#
# ## 6 Which of the paper's claims hold here?
#
# Each claim on the mean AUC, counted over two tasks and two estimators.

# %%
rows = []
for claim in CLAIMS:
    chosen = on_means[[(row.a, row.b) in pairs_of(claim) for row in on_means.itertuples()]]
    for share in shares:
        verdicts = chosen.loc[chosen["fraction"] == share, "verdict"].tolist()
        rows.append([claim, percent(share), *(verdicts.count(word) for word in WORDS)])
pd.DataFrame(rows, columns=["claim", "labels", *WORDS])

# %% [markdown]
# None holds, and none is contradicted. The *direction* of the main results is the paper's: pretrained
# beats image-only on Pathology9 and with few labels, local is ahead of global more often than not. But
# three pretrainings do not carry a claim on the method, not even where its assumption is true by
# construction; and the paper has one. That frozen encoders "approach" supervised learning fits: they
# pass it on Pathology9 and with few labels, and fall short by .03 on edema with all. "Comparable if
# frozen" is what our tables say of local and global, too, though open is not alike. And CPC and MINE
# are not told apart but once.
#
# What would settle it? More seeds: `seeds: [0, 1, 2, 3, 4]` in `grid/small.yaml`, two hours more. With
# five, df is four, and a difference must be three standard errors large instead of four. And fewer
# questions: one claim, named before the runs, needs no Holm.
#
# ## 7 Is the method indifferent to the estimator?
#
# The paper finds CPC and MINE alike. In our first grid they were not: with the critic that serves
# CPC, local MINE had found nothing after all 1,700 steps. Why? MINE divides its gradient by a
# moving average of the batch's denominator (chapter 3). That keeps the *constant* of the critic
# where it was at the first batch, while CPC and DV do not care about a constant:
#
# $$f(x, y) + c:\qquad \nabla_c\,\mathrm{DV} = 0, \qquad
# \nabla_c\,\mathrm{MINE} = 1 - \frac{\mathbb{E}\,e^{f + c}}{\text{average}}$$
#
# A separable critic $g(x)^\top h(y)$ has no constant of its own; it can hold one only as the
# product of the means of $g$ and $h$. With these means come offsets, $g(x)^\top \bar h$ for every
# image, and they cost: what training can then do is to shrink $g$ and $h$ altogether, and the
# gradient to the encoder with them. Here it is in small, on ten pairs of normal variables with a
# mean of 3:

# %%
from localmi.mi import MINE, build_critic, dv


def train(bound, critic, steps=400, correlation=0.6, size=64):  # -> nats on batches, [steps]
    torch.manual_seed(seed)
    network, mine, nats = build_critic(critic, 10, 10, hidden=(256,), width=128), MINE(), []
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.002, weight_decay=0.3)
    for _ in range(steps):
        x, noise = torch.randn(2, size, 10)
        y = correlation * x + (1 - correlation**2) ** 0.5 * noise
        scores = network(x + 3, y + 3)  # [size, size]
        value = dv(scores)
        objective = mine(scores).surrogate if bound == "mine" else value
        optimiser.zero_grad()
        (-objective).backward()
        optimiser.step()
        nats.append(value.item())
    return np.array(nats)


# %%
curves = {
    "DV, separable critic": train("dv", "separable"),
    "MINE, separable critic": train("mine", "separable"),
    "MINE, centred critic": train("mine", "centred"),
}
true_mi = -5 * np.log(1 - 0.6**2)  # nats
for name, nats in curves.items():
    last = nats[-100:].mean()
    print(f"{name:23}", "learns" if last > 0.5 * true_mi else "below 0" if last < 0 else "little")

# %%
figure, axes = plt.subplots(figsize=(7, 3.8))
for (name, nats), colour in zip(curves.items(), PALETTE, strict=False):
    smooth = np.convolve(nats, np.ones(10) / 10, mode="valid")
    axes.plot(np.arange(len(smooth)) + 10, smooth, label=name, color=colour)
axes.axhline(true_mi, color=COLOURS["truth"], linestyle="--", label=f"true MI {true_mi:.2f}")
axes.set(xlabel="step", ylabel="DV on training batches (nats)", yscale="symlog")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
show(
    figure,
    alt="Three curves over the steps: DV with a separable critic and MINE with a centred one "
    "climb towards the true MI; MINE with a separable critic stays far below zero.",
    caption="Figure 10.4: the same pairs and the same network; symmetric logarithmic axis.",
)

# %% [markdown]
# The centred critic takes the means away, $(g(x) - \bar g)^\top (h(y) - \bar h)$: no constant to
# pin and no offsets. In evaluation the means are running means, as BatchNorm's, so what it gives
# on held-out pairs is a bound. The grid trains MINE with it, and CPC as before.
#
# Trained so, MINE learns: a probe of its features is as good as one of CPC's, as far as three seeds
# can tell. Whether CPC would gain from the centred critic too this grid cannot say: the two differ
# in both.
#
# **What could go wrong**: concluding from a failed run that a *method* fails. A bound that stays
# at 0 is a reason to look at the optimisation before the idea.
#
# ## 8 What can this study say, and what not?
#
# Not all that differs between the two sets of tables is data:
#
# | | the paper | here |
# |---|---|---|
# | images | MIMIC-CXR, 250,000, 256 pixels | synthetic, 9,400, 128 pixels |
# | labels to train on | 20,000 to 87,000 a finding | 3,500, or 35 at 1 % |
# | text encoder | ClinicalBERT, tuned | MiniLM, as it is |
# | a region sees | most of the image | its own cell and 22 pixels around it |
# | critic | concatenation, two hidden layers | separable; for MINE centred |
# | representation learning | 5 epochs | 1,700 steps of 32 images, 7 epochs |
# | frozen | five blocks | four blocks |
# | learning rate | 5e-4 for all | encoders .002 (local), .001 (global), searched with seed 0; classifiers 5e-4 |
# | classifiers | 50 epochs, image-only 100 | 504 steps, image-only 1,008 (1 %: half) |
# | seeds | one | three |
#
# What the study **can** say: that a part of the method works as it should where its assumption is
# true *by construction*, for each sentence speaks of a region here, and none of anything else; how
# much each test can resolve; and that a difference is hardly one of tuning, for all variants share
# network, labels and patients, and each objective had its own search for a learning rate. What it
# **cannot** say: how large a gain is on real radiographs. A synthetic effusion is easier to see than a real one, a generated report has no
# habits, and its labels are never wrong. A claim that fails here has lost its best case; a claim
# that holds here has passed an easy exam. On MIMIC-CXR the exam is the same command, on the cache
# that `prepare` writes: `make tables GRID=grid/mimic.yaml ARGS='--config data_dir=<cache>'`.

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** A table has AUCs of .86 and .84 and no intervals. What can be done?
#
# <details><summary>Nothing: the predictions are needed.</summary>
#
# **No.** Counts of positives and negatives give a standard error from outside.
#
# </details>
# <details><summary>Take the spread over the tasks as an interval.</summary>
#
# **No.** It says how tasks differ, not how sure any of them is.
#
# </details>
# <details><summary>Hanley and McNeil's standard error, from the counts.</summary>
#
# **Right.** It is coarse, and says at once that with 95 to 404 test images .02 cannot be told from 0.
#
# </details>
#
# **Question 2.** Local is ahead on 11 of 12 tasks. What does the sign test assume that is not so here?
#
# <details><summary>That differences are normal.</summary>
#
# **No.** It does not ask for it.
#
# </details>
# <details><summary>That the tasks are independent.</summary>
#
# **Right.** Nine are from the same images and one encoder, three are cuts of one softmax.
#
# </details>
# <details><summary>That AUCs are above .5.</summary>
#
# **No.** It takes differences alone.
#
# </details>
#
# **Question 3.** p = .001 for "these networks", p = .3 for "the method". What do you write?
#
# <details><summary>The method is better, p = .001.</summary>
#
# **No.** That is the other question.
#
# </details>
# <details><summary>These networks differ; whether another seed's would is open.</summary>
#
# **Right.** "Once", in the words of the chapter.
#
# </details>
# <details><summary>Nothing was found.</summary>
#
# **No.** Something was: about these networks.
#
# </details>
#
# **Question 4.** Three seeds. How large must a difference be for the method to hold?
#
# <details><summary>About four standard errors of the seeds' mean.</summary>
#
# **Right.** That is what df = 2 costs. With five seeds it is three.
#
# </details>
# <details><summary>Two standard errors, as always.</summary>
#
# **No.** With two degrees of freedom the $t$ distribution is far wider.
#
# </details>
# <details><summary>It cannot hold with three seeds.</summary>
#
# **No.** Three rows do: what hardly varies from seed to seed.
#
# </details>
#
# **Question 5.** Augmentation lifts the baseline from .54 to .78. What was wrong before?
#
# <details><summary>The comparison: a weak baseline makes any method look good.</summary>
#
# **Right.** An earlier grid said .34 of gain where now .10 to .12 is left.
#
# </details>
# <details><summary>Nothing: both had the same training.</summary>
#
# **No.** The same is not the same chance: the one overfitted without it.
#
# </details>
# <details><summary>The test set was too small.</summary>
#
# **No.** That widens intervals; it does not move a baseline by .24.
#
# </details>
#
# **Question 6.** A method finds 0 nats in all runs of the grid. What comes first?
#
# <details><summary>The conclusion that it does not work.</summary>
#
# **No.** The conclusion was wrong: with a centred critic MINE learns.
#
# </details>
# <details><summary>More seeds.</summary>
#
# **No.** They would say 0, too.
#
# </details>
# <details><summary>A look at its optimisation.</summary>
#
# **Right.** A constant that nothing can hold was dragged along. A bound that stays at 0 asks for a reason.
#
# </details>

# %% [markdown]
# ## Key points
#
# - A table of AUCs without intervals can be given some: Hanley and McNeil's need only counts.
# - The spread over tasks is not an interval, and twelve tasks on the same patients are not twelve
#   witnesses.
# - "Open" is a result: these patients cannot tell. It is not "alike".
# - An interval over patients speaks of these networks. A claim on a method needs the seeds as a unit,
#   too, and three are few.
# - A baseline that is not given its due makes any method look good: on edema with few labels
#   augmentation alone was worth .24 to image-only.
# - When a variant fails, ask why before it goes into the table.
#
# ## References
#
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - Hanley and McNeil 1982, The meaning and use of the area under a ROC curve.
#   <https://doi.org/10.1148/radiology.143.1.7063747>
# - Belghazi et al. 2018, Mutual Information Neural Estimation. <https://arxiv.org/abs/1801.04062>
# - Obuchowski and Rockette 1995, Hypothesis testing of diagnostic accuracy for multiple readers and
#   multiple tests. <https://doi.org/10.1080/03610919508813243>
# - Hillis 2007, A comparison of denominator degrees of freedom methods for multiple observer ROC
#   analysis. <https://doi.org/10.1002/sim.2532>
# - Holm 1979, A simple sequentially rejective multiple test procedure.
#   <https://www.jstor.org/stable/4615733>
# - Bouthillier et al. 2021, Accounting for Variance in Machine Learning Benchmarks.
#   <https://arxiv.org/abs/2103.03098>

# %% tags=["record"]
from localmi.record import Result, record_metrics
from localmi.statistics import Interval

metrics = {}
for row in on_means.itertuples():
    beside = {"p_networks": row.p_holm, "p_method": row.p_method_holm}
    interval = Interval(row.difference, row.method_low, row.method_high)
    metrics[f"{row.task} {row.fraction:g} {row.claim}"] = Result(interval, "test", beside)
record = record_metrics(
    metrics,
    data={"name": "tables", "images": means["images"].groupby("task").max().to_dict()},
    run_dir=run_dir,
)
