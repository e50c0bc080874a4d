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
# # 7 Training by local mutual information
#
# **You will be able to** write one training step of the paper from its equations; train an image
# encoder with nothing but sentences; say how many nats it found, with an interval, a control and
# the most there can be beside it; and show where in the image a sentence looks.
#
# **Before this**: [radiographs and reports](05_radiographs_and_reports.ipynb) (batch and mask, section
# 8; what can be shared, 6), [encoders](06_encoders.ipynb) (regions, critic, the max over regions), and
# of [chapter 2](02_variational_bounds.ipynb) InfoNCE and its cap (section 6).
# **Reading time**: 40 minutes.
# **Run time**: 1 minute on 2 cores at these defaults; `make run`, the same notebook with more
# steps, 10 minutes. **Memory**: 2 GB.
# **Data**: the example study; any other by `data_dir`.

# %% tags=["setup"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from localmi.course import check, set_up, show

set_up()

# %% tags=["parameters"]
data_dir = ""  # folder of a study or a CSV of pairs, "" is the example study
cache_dir = ""  # where decoded images are kept, "" is beside the data
run_dir = ""  # where results and checkpoints are kept, "" keeps nothing
resume = False  # go on from the checkpoint in run_dir
objective = "local"  # local or global
bound = "infonce"  # infonce, mine, dv, nwj, tuba, interpolated, js, smile or demi
region_select = "soft"  # soft, attention, per_pair_max, positive_argmax or matched_max
critic = "separable"  # concat, bilinear, separable or centred
image_size = 128  # pixels a side
batch_size = 32  # images a step
learning_rate = 0.002  # of image encoder and critic
steps = 40  # gradient steps
evaluate_every = 20  # steps between two looks at the validation split
seed = 0  # of everything random
further: dict = {  # any other field of localmi.train.config.TrainConfig, here a small profile
    "sentences": "all",  # of a report: one (drawn at random), several (a set of them) or all
    "temperature_end": 0.05,  # of the soft selection at the last step: nearly the hard maximum
    "region_context": "region",  # what a region sees: its own cell (region), or all (image)
    "cells_after": 2,  # block of the encoder after which the cells are cut
    "local_stage": 4,  # block of the encoder that gives the regions
    "text_pooling": "mean",  # cls or mean
    "text_learning_rate": 0.0,  # 0 leaves the text encoder as it is
    "critic_hidden": [256],  # widths of the critic's hidden layers
    "learning_rate_end": 0.02,  # share of the learning rate that is left at the end
    "weight_decay": 0.3,  # of image encoder and critic
    "smallest_crop": 0.75,  # of the augmentation, as a share of the side
}

# %% [markdown]
# ## 1 What is known before anything is trained?
#
# The study is read, checked for patients in two splits, decoded once and kept. The example study
# was generated, so it is known exactly what one sentence says of the hidden state (chapter 5). An
# image can share *at most* that with a sentence of its report: the dashed line in the figure below.
#
# Everything that a run depends on is one object, checked at the door. The parameters above are what
# this chapter is about; `further` can name any other of its fields. On the command line all are set
# alike, `-p steps 3500 -p max_tokens 128`. What they do otherwise than the paper, and why (the
# paper's own sizes are in `notebooks/parameters/07_paper.yaml`):
#
# | | paper | here | because |
# |---|---|---|---|
# | images | 256 pixels a side | 128 | two cores |
# | a region | sees the whole image; block 5 | its cell and 22 pixels; block 4 | section 3 |
# | text encoder | clinical BERT, [CLS], trained | MiniLM, mean, as it is | no download; few texts |
# | sentences a step | one a report (Fig. 2), all (Eq. 5) | all | more pairs a step |
# | critic | MLP on the concatenation | separable | one matrix product |
# | max over regions | hard | soft, ever harder | section 2 |
# | Eq. 4 compares | texts of an image | also images of a text | each asks for something else |
# | learning rate | 0.0005 | 0.002, falling to 2 % of it | few steps |
# | weight decay, crops | none named, no size named | 0.3, down to 3/4 of the side | few images |

# %%
from localmi.data import SplitData, reasons
from localmi.study import load_study, load_truth
from localmi.train import Pretraining, TrainConfig

config = TrainConfig.checked(
    objective=objective,
    bound=bound,
    region_select=region_select,
    critic=critic,
    image_size=image_size,
    batch_size=batch_size,
    learning_rate=learning_rate,
    steps=steps,
    evaluate_every=evaluate_every,
    seed=seed,
    **further,
)
config.check()  # that the encoders can be built, before any image is decoded

# %%
cache = load_study(data_dir, cache_dir, image_size=config.image_size)
truth = load_truth(data_dir)
training = Pretraining(config, cache)
unit = training.objective.unit  # what a text is: a sentence, or a whole report
validate, test = (SplitData(cache, split, unit=unit) for split in ("validate", "test"))
true_mi = truth.summary["true_mi_nats"][unit] if truth else None
print(f"studies: {cache.describe()['studies']}.", reasons(cache.rejected))
cut, texts = training.tokens.cut, len(training.train_data.texts)
print(f"{cut:,} of {texts:,} training texts are cut, at {config.max_tokens} word pieces")
at_most = f"at most {true_mi:.3f} nats" if truth else "not known"
print(f"true MI of an image and a {unit}: {at_most}")

# %% [markdown]
# ## 2 What happens in one step?
#
# A critic $f$ scores every region of every image against every sentence of the batch. For each pair
# of image and sentence the scores of the regions become one; the matched pairs must stand out.
#
# $$f_{ij} = \max_n f(z^I_{i,n}, z^R_j) \qquad\text{(the max of Eq. 5)}$$
# $$\hat I = \frac1K\sum_i\Big[f_{ii} - \log\sum_{j} e^{f_{ij}} + \log K_i\Big]
# \qquad\text{(Eq. 4, plus the } \log K \text{ that the print leaves out)}$$
#
# The sum runs over the matched sentence and those that may serve as mismatched ones, $K_i$ in all:
# no sentence of the same study, and none that reads the same, for "no effusion" of another patient
# is true of this image too. All networks climb the bound together,
# $\max_\theta \hat I$ (Eq. 2). So much for the equations; one decision is left. The hard max sends its
# gradient through one region a pair, and at the start that region is chosen by chance. So we train
# with its soft form, $\tau \log \frac1N \sum_n e^{f_n/\tau}$, whose temperature $\tau$ falls from 1
# to .05 over the run, where it is nearly hard, and report with the hard max: with both, every pair,
# matched or not, chooses for itself. **What could go wrong:** let the matched pair choose
# and give the mismatched ones no choice, and the number is up to $\log N$ nats too high (chapter 4
# measures it).
#
# Two more readings are bounds, too (chapter 4: b5, b6), and are chosen like any parameter.
# `-p region_select attention` trains, and reports, the mean of this maximum and of what the critic
# scores the regions' weighted mean. `-p sentences several -p sentences_drawn 3` takes three sentences
# of a report as one text, their scores added up. The critic is the same, so all else stays.
#
# ### Exercise 7.1
#
# Write the soft maximum over regions, $\tau\,\big(\log\sum_n e^{f_n/\tau} - \log N\big)$, in torch: a
# gradient must flow through it. It must come close to the hard maximum as $\tau \to 0$.

# %%
def my_soft_max(scores, temperature):  # images, regions, sentences: [B, N, M] -> [B, M]
    ...


check.exercise_7_1(my_soft_max)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_soft_max(scores, temperature):  # images, regions, sentences: [B, N, M] -> [B, M]
    log_sum = (scores / temperature).logsumexp(dim=1)
    return temperature * (log_sum - np.log(scores.shape[1]))


check.exercise_7_1(my_soft_max)

# %% [markdown]
# Here is the whole step, in plain torch: B images, N regions an image, M sentences. Each image brings
# *all* its sentences (chapter 5 drew one), so M > B, and an image has as many rows as sentences: row
# $i$ is the image of sentence $i$, column $j$ is sentence $j$. First Eq. 4 for one direction, then the
# step.

# %%
def my_infonce(scores, allowed):  # [M, M] each; the matched pairs on the diagonal
    choices = allowed | torch.eye(len(scores), dtype=torch.bool)
    log_sum = scores.masked_fill(~choices, -np.inf).logsumexp(dim=1)
    return (scores.diagonal() - log_sum + choices.sum(dim=1).log()).mean()


# %%
from localmi.data import normalise


def my_step(batch, encoder, critic, texts, optimiser, temperature):
    images = normalise(batch.images)  # [B, 1, H, W]
    regions = encoder.regions(images)  # [B, N, D], z^I
    sentences = texts[batch.text]  # [M, E], z^R
    scores = critic(regions, sentences)  # [B, N, M], f of all regions and sentences
    pairs = my_soft_max(scores, temperature)[batch.owner]  # [M, M], the max of Eq. 5
    of_another_study = batch.text_study[:, None] != batch.text_study  # [M, M]
    allowed = of_another_study & (batch.text[:, None] != batch.text)
    bound = (my_infonce(pairs, allowed) + my_infonce(pairs.T, allowed.T)) / 2  # Eq. 4, both ways
    optimiser.zero_grad()
    (-bound).backward()  # Eq. 2: up the bound
    optimiser.step()
    return bound.item()


# %% [markdown]
# The library's step does the same, and lets every part be another: the objective, the reading of the
# max, the bound, a text encoder that is trained too, and augmented images. Both start with equal
# weights, and over three steps the values must agree to six decimals. The second and third can only
# if the step before has changed the weights alike. (In a headless run, and on other data than the
# example, this cell is left out.)

# %%
reading = not run_dir and not data_dir
as_above = {"objective": "local", "bound": "infonce", "region_select": "soft", "temperature": 1.0}
as_above |= {"temperature_end": 1.0, "text_learning_rate": 0.0, "direction": "symmetric"}
as_above |= {"winners_only": False, "shuffle_pairs": False, "same_text_is_mismatch": False}
as_above |= {"sentences": "all", "augment": False, "precision": "float32", "device": "cpu"}
if reading:
    plain = TrainConfig.checked(**config.as_record() | as_above)
    mine, theirs = Pretraining(plain, cache), Pretraining(plain, cache)
    parts = mine.alignment.image_encoder, mine.alignment.critic
    texts = mine.encode_texts(mine.train_data.texts)
    for step in range(3):
        value = my_step(mine.batches[step], *parts, texts, mine.image_optimiser, temperature=1.0)
        assert abs(value - theirs.train_step()) < 1e-6
        print(f"step {step}: {value:.3f} nats by both")

# %% [markdown]
# ### Exercise 7.2
#
# Now you, with nothing but the equations: one step on B images with one sentence each (the paper's
# Figure 2), by the **hard** max, InfoNCE from image to text. `encoder(images)` gives the regions.
# Some images are of one study. Return the bound in nats.

# %%
def my_own_step(encoder, critic, optimiser, images, sentences, study):
    # encoder: [B, ...] -> [B, N, D]. critic: [B, N, D], [B, E] -> [B, N, B]. study: [B]
    ...


check.exercise_7_2(my_own_step)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_own_step(encoder, critic, optimiser, images, sentences, study):
    pairs = critic(encoder(images), sentences).amax(dim=1)  # [B, B]
    bound = my_infonce(pairs, study[:, None] != study)
    optimiser.zero_grad()
    (-bound).backward()
    optimiser.step()
    return bound.item()


check.exercise_7_2(my_own_step)

# %% [markdown]
# ## 3 The loop
#
# What a region may see decides what it learns. In a deep network every region sees the whole image,
# and may answer for a finding that lies elsewhere. So after block 2 the image is cut into cells: a
# region sees its own cell and 22 pixels (of 128) around it, and must answer for itself.
#
# There are few images, and the network could learn them by heart. Three things stand against it:
# each image is rotated, shifted and cropped anew, the weights decay (the paper does without), and
# the text encoder stays as it is.
#
# At every look the bound is computed on the validation split, by the hard max. Beside it stands the
# **control**: a second critic of the same build, trained on the same features with the sentences
# shuffled among the images. There is nothing for it to find, and on held-out shuffled pairs it must
# report 0. A checkpoint is written aside and moved into place, so a kill loses only the steps since.
# This is the loop, whatever is trained and however it is started:

# %%
import inspect

from localmi.train import fit

signature, _, body = inspect.getsource(fit).split('"""')
print(signature.rstrip() + body.rstrip())

# %%
folder = Path(run_dir) if run_dir else None
log = fit(training, validate, run_dir=folder, resume=resume)
counts = {name: len(log.column(name)[0]) for name in ("training", "held_out", "skipped")}
print(f"{counts['training']} steps, {counts['held_out']} looks")
if counts["skipped"]:
    print(f"{counts['skipped']} batches skipped: all their texts read the same")

# %% [markdown]
# In forty steps a network learns nothing. So while you read, with fewer than 400 steps on the
# example study, all that follows is shown of a **kept run**, made by `make kept`: this notebook with
# 3,500 steps, in one thread. Its curves and trained networks lie beside the example data. (`make run`
# takes the same steps on all cores. Sums are then rounded otherwise, so its figures
# differ a little from these.) Train longer, on your data or with a run folder,
# and what follows is your own.

# %%
from localmi.record import MetricsLog
from localmi.study import example_results
from localmi.train import load_trained_model, read_config

kept = example_results() / "main_run" if reading and steps < 400 else None
shown = training
if kept:
    its_cache = load_study(image_size=read_config(kept / "networks.pt").image_size)
    shown, log = load_trained_model(kept / "networks.pt", its_cache).training, MetricsLog.read(kept)
    unit = shown.objective.unit
    test, true_mi = SplitData(its_cache, "test", unit=unit), truth.summary["true_mi_nats"][unit]
name = f"{shown.config.objective} MI by {shown.config.bound}, step {shown.step:,}"
print(f"shown from here on: {'the kept run' if kept else 'the run above'} ({name})")

# %%
from localmi.course import Curve, plot_mi

steps_seen, nats = log.column("training")
window = min(len(nats), 1 + len(nats) // 50)
smooth = np.convolve(nats, np.ones(window) / window, mode="valid")
looks, held_out = log.column("held_out")
low, high = log.column("low")[1], log.column("high")[1]
curves = [
    Curve(steps_seen[-len(smooth) :], list(smooth), "training"),
    Curve(looks, held_out, "held-out", low, high),
    Curve(*log.column("shuffled"), "shuffled"),
]
figure, axes = plt.subplots(figsize=(7, 4))
plot_mi(curves, truth=true_mi, truth_label="true MI at most", axes=axes)
show(
    figure,
    alt="Three curves over the steps: the bound on training batches, on held-out patients, and on "
    "shuffled pairs; dashed, where it is known, the most that the true MI can be.",
    caption="Figure 7.1: nats found over the steps; held-out and shuffled: validation patients.",
)

# %% [markdown]
# The training curve says what the model knows of the images it has seen, the held-out curve what it
# has understood. Where they part, it memorises. Nor is the training curve a bound, and it can lie a
# little too high: in a step with `sentences="all"` a report counts as often as it has sentences, and
# equal sentences are left out of the comparison. The held-out curve draws one sentence an image and
# leaves none out. No number is taken from the best look: what is reported below is the last step, on
# a third set of patients.
#
# ## 4 How many nats did it find?
#
# The test split was not trained on and nothing was chosen by it. Every image contributes one term
# of the bound; the interval resamples patients.

# %%
result = shown.evaluate(test)
held_out, shuffled = result.held_out.bound, result.shuffled.bound
cap = result.held_out.cap
verdict = "ok" if held_out.low <= cap and abs(shuffled.value) < 0.05 else "not ok"
print(f"{verdict}: held-out bound below its cap, shuffled control within .05 of 0")
# %% tags=["nbval-ignore-output"]
size = result.held_out.batch_size
print(f"held-out {shown.config.bound}: {held_out} nats (test, {len(test)} images, K = {size})")
at_most = f"at most {true_mi:.2f}" if truth else "not known"
print(f"shuffled pairs: {shuffled} nats; true MI: {at_most}; cap: {cap:.2f}")

# %% [markdown]
# How much of it was to be had? In a synthetic study the best critic of all is known. It scores an
# image and a text by how much likelier the text is given the image's hidden state $h$:
#
# $$f^*(h, y) = \log \frac{p(y \mid h)}{p(y)}$$
#
# Its mean over matched pairs is the true MI. On these patients, through the same bound with the same
# $K$, it reaches what no critic can pass but by luck.

# %%
from dataclasses import replace

from localmi.evaluate import held_out_bound
from localmi.phantom import oracle_scores

if truth:
    oracle = replace(result.scores, scores=torch.from_numpy(oracle_scores(truth, test)))
    print(f"the truth as critic: {held_out_bound(oracle).bound} nats by infonce")

# %% [markdown]
# And of several sentences at once? The set is a text like any other; its score is the sum.

# %% tags=["nbval-ignore-output"]
for number in (1, 3) if unit == "sentence" else ():
    found = held_out_bound(result.scores, sentences=number).bound
    of_truth = held_out_bound(oracle, sentences=number).bound if truth else "not known"
    print(f"{number} of a report: {found} nats by infonce; by the truth, added up alike: {of_truth}")

# %% [markdown]
# ## 5 Where does a sentence look?
#
# For a sentence that speaks of a finding, the winning region is the model's answer to “where?”.
# In the **pointing game** it is a hit when the region's centre lies on the finding, or within 15
# pixels of it (at 256 pixels a side). Nobody told the model where anything is.

# %%
from localmi.evaluate import find_lenders, pointing_game
from localmi.phantom import finding_sentences
from localmi.statistics import mean_interval

winners, grid = result.scores.winners.numpy(), shown.config.grid


def point(rows, masks):  # sentences, [S, H, W] -> hits and chance of the pointing game
    return pointing_game(winners[rows["image"], rows["number"]], masks, grid=grid)


pointing = denial = None
if truth and unit == "sentence":
    spoken = finding_sentences(truth, test)
    present = spoken[spoken["polarity"] == "present"]
    on_finding = point(present, truth.masks(present["image_id"], present["finding"]))
    pointing = mean_interval(on_finding.hit, present["patient_id"].to_numpy())
    print(f"{len(present)} sentences on a present finding, chance {on_finding.chance.mean():.3f}")
else:
    print("no truth beside these data, or whole reports: nothing to point at")

# %% [markdown]
# A sentence that denies a finding has nothing to point at in its own image. The control asks where
# it looks all the same: its winning region against the finding's outline **in another patient**.
# Above chance, it may know the finding's place by the word alone, without anything to see; or it
# looks at the lungs whatever it denies, for there all findings are. Chapter 9 holds the two apart.

# %%
if pointing:
    denied = spoken[(spoken["polarity"] == "absent") & ~spoken["names_place"]]
    owners = denied["patient_id"], present["patient_id"]
    lender = find_lenders(denied["finding"], owners[0], present["finding"], owners[1])
    asked, lent = denied[lender >= 0], present.iloc[lender[lender >= 0]]
    elsewhere = point(asked, truth.masks(lent["image_id"], asked["finding"]))
    denial = mean_interval(elsewhere.hit, asked["patient_id"].to_numpy())
    print(f"{len(asked)} sentences that deny one, chance {elsewhere.chance.mean():.3f}")

# %% tags=["nbval-ignore-output"]
if pointing:
    print(f"pointing {pointing}; denials at the finding's usual place {denial}")
    for finding, rows in present.reset_index(drop=True).groupby("finding"):
        hit, chance = on_finding.hit[rows.index].mean(), on_finding.chance[rows.index].mean()
        print(f"{finding:17} {hit:.2f} (chance {chance:.2f}, {len(rows)} sentences)")

# %% [markdown]
# ### Exercise 7.3
#
# What would a model reach that chooses a region at random? Write the share of the regions of a
# `grid` by `grid` image whose centre pixel lies on the mask (no tolerance).

# %%
def my_chance(mask, grid):  # [H, H] bool -> share of the regions
    ...


check.exercise_7_3(my_chance)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_chance(mask, grid):  # [H, H] bool -> share of the regions
    centres = ((np.arange(grid) + 0.5) * len(mask) / grid).astype(int)
    return mask[np.ix_(centres, centres)].mean()


check.exercise_7_3(my_chance)

# %% [markdown]
# And this is what it looks like: sentences on held-out images, the score of each region as colour
# (each map from its lowest score, no colour, to its highest), the true outline in yellow where it is
# known. In the example study the last two deny a finding: there is nothing to outline.

# %%
from textwrap import fill

import pandas as pd

from localmi.course import plot_radiograph


def draw(axes, row):
    text = shown.encode_texts([row.text])
    own, _ = shown.region_scores(test.images(np.array([row.image])), text)  # [1, N, 1]
    image = test.images(np.array([row.image]))[0, 0].numpy()
    outlines = {}
    if row.polarity == "present":
        outlines[row.finding] = truth.mask(row.image_id, row.finding)
    heat = own[0, :, 0].reshape(grid, grid)
    title = fill(row.text, 23 if row.text.isupper() else 32)
    plot_radiograph(axes, image, title=title, outlines=outlines, heat=heat)


# %%
alt = "Held-out radiographs with the scores of their regions as colour, "
if pointing:
    rows = pd.concat([present.drop_duplicates("finding")[:6], denied.drop_duplicates("finding")[:2]])
    alt += "six with a sentence on a finding, which is outlined, two with one that denies a finding."
else:  # of eight studies the first image and the first sentence
    images = np.unique(test.study, return_index=True)[1][:8]
    texts = [test.texts[test.text_ids[study][0]] for study in test.study[images]]
    rows = pd.DataFrame({"image": images, "text": texts, "polarity": "not known"})
    alt += "each with a sentence of its report."

# %%
if unit == "sentence":  # a whole report looks at no region
    figure, panels = plt.subplots(2, 4, figsize=(12, 6.8))
    for axes in panels.flat:
        axes.axis("off")
    for axes, row in zip(panels.flat, rows.itertuples(), strict=False):
        draw(axes, row)
    caption = "Figure 7.2: where each sentence looks; yellow: the true outline, where it is known."
    show(figure, alt=alt, caption=caption)

# %% [markdown]
# ## 6 Who maximises what, over what?
#
# The method has relatives. All bring image and text together by a score; they differ in what stands on either
# side of it, and in how many vectors become one score.
#
# | | of the image | of the text | score | objective |
# |---|---|---|---|---|
# | ConVIRT (Zhang et al. 2022) | the whole | a sentence, drawn | cosine | InfoNCE, both directions |
# | CLIP (Radford et al. 2021) | the whole | the caption | cosine | InfoNCE, both directions, 32,768 pairs |
# | GLoRIA (Huang et al. 2021) | regions, and the whole | words, and the whole | cosine of a word and its attended regions, soft maximum over the words | InfoNCE, local and global |
# | **local MI** (Liao et al. 2021) | regions | a sentence | an MLP, maximum over the regions | InfoNCE or MINE |
# | BioViL (Boecking et al. 2022) | the whole; regions when it is read | a report | cosine | InfoNCE, and words that were masked |
# | LIMITR (Dawidowicz et al. 2023) | regions of two views | words, and the whole | attention both ways ([chapter 11](11_limitr.ipynb)) | InfoNCE, local and global |
# | CXR-EHR-MSN (Shurrab et al. 2024) | a view | *another view* ([chapter 12](12_records.ipynb)) | prototypes | a bound of Barber and Agakov |
#
# Each score is a critic, so each of these losses is a bound of chapter 2, with its cap $\log K$; whoever compares
# two of them compares critics, what stands on either side, and $K$, all at once.

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** In a row of scores of a batch, which sentences stand beside the matched one in the sum?
#
# <details><summary>All others.</summary>
#
# **No.** Other sentences of the same report are true of the image as well, and so is "no effusion" of
# another patient.
#
# </details>
# <details><summary>Those of other studies that read differently.</summary>
#
# **Right.** Hence $K_i$, which may differ from row to row.
#
# </details>
# <details><summary>The hardest ones.</summary>
#
# **No.** Then they are not drawn as the matched ones are, and the value is no bound.
#
# </details>
#
# **Question 2.** Training uses the soft maximum at a falling temperature. What is reported?
#
# <details><summary>The last value of the training curve.</summary>
#
# **No.** It is of patients that were trained on.
#
# </details>
# <details><summary>The soft value on new patients.</summary>
#
# **No.** It would be a bound as well; but the paper's quantity is the hard one.
#
# </details>
# <details><summary>The hard maximum, on patients that were not trained on.</summary>
#
# **Right.** Both are bounds; with both every pair chooses for itself.
#
# </details>
#
# **Question 3.** The held-out bound is .43 nats, the true information at most 1.10. Where is the rest?
#
# <details><summary>In the noise of the measurement.</summary>
#
# **No.** The interval is .37 to .49; noise does not reach 1.10.
#
# </details>
# <details><summary>Partly beyond this K and its cap, mostly not learnt or not visible.</summary>
#
# **Right.** The truth as critic reads about 1.07 at this $K$: the rest is the encoder's and the image's.
#
# </details>
# <details><summary>It cannot be known.</summary>
#
# **No.** Not how it is split; but the truth as critic says how much the bound itself loses.
#
# </details>
#
# **Question 4.** What does the shuffled control say that the held-out value does not?
#
# <details><summary>That the number would be 0 if there were nothing to find.</summary>
#
# **Right.** A method that reports nats of shuffled pairs reports some of them here, too.
#
# </details>
# <details><summary>That the model does not overfit.</summary>
#
# **No.** The held-out value says that.
#
# </details>
# <details><summary>How large the interval is.</summary>
#
# **No.** The control has its own.
#
# </details>
#
# **Question 5.** The highest region of a sentence lies on the finding in 70 % of the cases. Is that good?
#
# <details><summary>Not known yet: what do the words hit without the image?</summary>
#
# **Right.** Beside chance, .14, it is much. But whoever reads "right upper zone" points well with closed eyes;
# chapter 9 asks the words alone.
#
# </details>
# <details><summary>Yes, clearly more than half.</summary>
#
# **No.** Half is not what chance gives here.
#
# </details>
# <details><summary>No, 27 % are wrong.</summary>
#
# **No.** Compare with what can be reached: some findings are too faint to be seen.
#
# </details>
#
# **Question 6.** Which of these would tell first that a run learns nothing that holds for new patients?
#
# <details><summary>The training loss.</summary>
#
# **No.** It falls even where only the training pairs are learnt by heart.
#
# </details>
# <details><summary>The AUC of a classifier.</summary>
#
# **No.** It comes last, and may be high for other reasons.
#
# </details>
# <details><summary>The bound on validation patients, with its interval.</summary>
#
# **Right.** If 0 is still inside after some hundred steps, look at section 5 of chapter 14.
#
# </details>

# %% [markdown]
# ## Key points
#
# - One step: encode, score every region against every sentence, take each pair's best region, let
#   the matched pairs stand out among those that may mismatch, and climb.
# - Train with the soft maximum, report with the hard one; both let mismatched pairs choose too.
# - A number in nats is worth what stands beside it: an interval over patients, a control that must
#   be 0, the cap, and here the most that the truth can be.
# - Small receptive fields make a region speak for itself. A region that sees the whole image may
#   know of a finding that lies elsewhere.
#
# ## References
#
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - Oord et al. 2018, Representation Learning with Contrastive Predictive Coding.
#   <https://arxiv.org/abs/1807.03748>
# - Zhang et al. 2022, Contrastive learning of medical visual representations from paired images and text,
#   MLHC. <https://doi.org/10.48550/arXiv.2010.00747>
# - Radford et al. 2021, Learning transferable visual models from natural language supervision, ICML.
#   <https://doi.org/10.48550/arXiv.2103.00020>
# - Huang et al. 2021, GLoRIA: a multimodal global-local representation learning framework, ICCV.
#   <https://doi.org/10.1109/ICCV48922.2021.00391>
# - Boecking et al. 2022, Making the most of text semantics to improve biomedical vision-language
#   processing, ECCV. <https://doi.org/10.48550/arXiv.2204.09817>
# - Zhang et al. 2018, Top-Down Neural Attention by Excitation Backprop (the pointing game).
#   <https://doi.org/10.1007/s11263-017-1059-x>

# %% tags=["record"]
from localmi.record import Result, record_metrics

metrics = {}
if shown is training:  # the kept run has a record of its own
    beside = {"cap": cap, "shuffled": shuffled.value, "truth_at_most": true_mi}
    metrics[f"{objective}_mi_nats"] = Result(held_out, "test", beside)
    if pointing:
        metrics["pointing"] = Result(pointing, "test", {"chance": on_finding.chance.mean()})
        metrics["denial_pointing"] = Result(denial, "test", {"chance": elsewhere.chance.mean()})
data = cache.describe() | {"batches_skipped": counts["skipped"]}
record = record_metrics(metrics, data=data, run_dir=run_dir, computed_in=training.computed_in)
