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
# the known answer beside it; and show where in the image a sentence looks.
#
# **Before this**: [radiographs and reports](05_radiographs_and_reports.ipynb),
# [encoders](06_encoders.ipynb).
# **Reading time**: 30 minutes.
# **Run time**: 1 minute on 2 cores at these defaults; `make run`, the same notebook with more
# steps, 10 minutes. **Memory**: 2 GB.
# **Data**: the example study; any other by `data_dir`.

# %% tags=["setup"]
from pathlib import Path

import numpy as np
import torch

from localmi.course import check
from localmi.environment.check import set_up

set_up()

# %% tags=["parameters"]
data_dir = ""  # folder of a study or a CSV of pairs, "" is the example study
cache_dir = ""  # where decoded images are kept, "" is beside the data
run_dir = ""  # where results and checkpoints are kept, "" keeps nothing
resume = False  # go on from the checkpoint in run_dir
objective = "local"  # local or global
bound = "infonce"  # infonce, mine or dv
region_select = "soft"  # soft, per_pair_max, positive_argmax or matched_max
temperature = 1.0  # of the soft selection, at the first step
temperature_end = 0.05  # and at the last: nearly the hard maximum
sentences = "all"  # of a report: one (drawn at random) or all
image_encoder = "resnet256_6_2_1"  # or a ResNet or ViT of torchvision
region_context = "region"  # what a region sees: its own cell (region), or all (image)
cells_after = 2  # block of the encoder after which the cells are cut
local_stage = 4  # block of the encoder that gives the regions
grid = 4  # regions a side
image_size = 128  # pixels a side
text_encoder = "minilm"  # or the folder or hub name of a BERT
text_pooling = "mean"  # cls or mean
text_learning_rate = 0.0  # 0 leaves the text encoder as it is
critic = "separable"  # concat, bilinear, separable or centred
critic_hidden: list[int] = [256]  # widths of its hidden layers
learning_rate = 0.002  # of image encoder and critic
learning_rate_end = 0.02  # share of it that is left at the end
weight_decay = 0.3  # of image encoder and critic
smallest_crop = 0.75  # of the augmentation, as a share of the side
batch_size = 32  # images a step
steps = 40  # gradient steps
evaluate_every = 20  # steps between two looks at the validation split
seed = 0  # of everything random

# %% [markdown]
# ## 1 What is known before anything is trained?
#
# The study is read, checked for patients in two splits, decoded once and kept. The example study
# was generated, so the mutual information of an image and one sentence of its report is known
# exactly (chapter 5): the dashed line in the figure below.

# %%
import time

from localmi.data.batches import SplitData
from localmi.study import load_study, load_truth
from localmi.data.sources.pairs import reasons
from localmi.train.config import TrainConfig, checked

start = time.time()
names = set(TrainConfig.model_fields) & set(globals())
config = checked(**{name: globals()[name] for name in sorted(names)})
cache = load_study(data_dir, cache_dir, image_size=config.image_size)
truth = load_truth(data_dir)
unit = "sentence" if config.objective == "local" else "report"
validate, test = (SplitData(cache, split, unit=unit) for split in ("validate", "test"))
studies = cache.manifest.groupby("split")["study_id"].nunique().to_dict()
true_mi = truth.summary["true_mi_nats"][unit] if truth else None
print(f"studies: {studies}.", reasons(cache.rejected))
print(f"true MI of an image and a {unit}:", f"{true_mi:.3f} nats" if truth else "not known")

# %% [markdown]
# ## 2 What happens in one step?
#
# A critic scores every region of every image against every sentence of the batch. For each pair of
# image and sentence the regions become one score; the matched pairs must stand out.
#
# $$f_{ij} = \max_n f(z^I_{i,n}, z^R_j) \qquad\text{(the max of Eq. 5)}$$
# $$\hat I = \frac1K\sum_i\Big[f_{ii} - \log\sum_j e^{f_{ij}}\Big] + \log K
# \qquad\text{(Eq. 4, plus the } \log K \text{ that the print leaves out)}$$
#
# Here are the two lines of the idea, on eight images and one sentence of each.

# %%
from localmi.data.batches import normalise
from localmi.mi.bounds import infonce
from localmi.train.pretraining import Pretraining

training = Pretraining(config, cache)
encoder, critic_network = training.alignment.image_encoder, training.alignment.critic
rng = np.random.default_rng(seed)
batch = training.train_data.batch(np.arange(8), rng)
texts = training.encode_texts([training.train_data.texts[number] for number in batch.text])
pixels = normalise(batch.images.to(training.device))  # uint8 -> float32, [B, 1, H, W]
images = encoder.regions(pixels) if unit == "sentence" else encoder.pooled(pixels)
scores = critic_network(images.reshape(8, -1, images.shape[-1]), texts)  # [8, N, 8]

pair_scores = scores.amax(dim=1)  # [8, 8], each pair its own best region
matched, everyone = pair_scores.diagonal(), pair_scores.logsumexp(dim=1)
my_infonce = (matched - everyone).mean() + np.log(8)
assert torch.allclose(my_infonce, infonce(pair_scores, direction="image_to_text"), atol=1e-5)
print(f"{scores.shape[1]} regions, untrained: {abs(my_infonce.item()):.1f} nats")

# %% [markdown]
# The hard max sends its gradient through one region a pair, and at the start that region is
# chosen by chance. So we train with its soft form, the mean of $e^f$ over the regions, and report
# with the hard max, which is the same kind of critic: every pair, matched or not, chooses for
# itself. **What could go wrong:** let the matched pair choose and give the mismatched ones no
# choice, and the number is up to $\log N$ nats too high (chapter 4 measures it).
#
# ### Exercise 7.1
#
# Write the soft maximum over regions, $\tau\,\big(\log\sum_n e^{f_n/\tau} - \log N\big)$. It must
# come close to the hard maximum as $\tau \to 0$.

# %%
def my_soft_max(scores, temperature):  # [B, N, B] -> [B, B]
    ...


check.exercise_7_1(my_soft_max)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_soft_max(scores, temperature):  # [B, N, B] -> [B, B]
    log_sum = (scores / temperature).logsumexp(dim=1)
    return temperature * (log_sum - np.log(scores.shape[1]))


check.exercise_7_1(my_soft_max)

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

# %%
from tqdm import tqdm

from localmi.train.evaluation import evaluate_split
from localmi.record import MetricsLog

folder = Path(run_dir) if run_dir else None
if resume:
    training.load(folder / "checkpoint.pt")
log = MetricsLog(folder, resume_at=training.step)

# %%
bar = tqdm(training.run(), total=config.steps, initial=training.step, desc="steps")
for step, nats in bar:
    done = training.step
    log.write(done, training=nats)
    if done % config.evaluate_every == 0 or done == config.steps:
        found = evaluate_split(training, validate)
        held_out = found.held_out.bound
        log.write(done, held_out=held_out.value, low=held_out.low, high=held_out.high)
        log.write(done, shuffled=found.shuffled.bound.value, cap=found.held_out.cap)
        bar.set_postfix(held_out=str(held_out), shuffled=str(found.shuffled.bound))
        if folder:
            training.save(folder / "checkpoint.pt")

# %%
from localmi.course.plots import Curve, plot_mi, plot_radiograph, plt, show

steps_seen, nats = log.column("training")
window = min(10, len(nats))
smooth = np.convolve(nats, np.ones(window) / window, mode="valid")
looks, held_out = log.column("held_out")
low, high = log.column("low")[1], log.column("high")[1]
curves = [
    Curve(steps_seen[-len(smooth) :], list(smooth), "training"),
    Curve(looks, held_out, "held-out", low, high),
    Curve(*log.column("shuffled"), "shuffled"),
]
figure, axes = plt.subplots(figsize=(7, 4))
plot_mi(curves, truth=true_mi, axes=axes)
show(
    figure,
    alt="Three curves over the steps: the bound on training batches, on held-out patients, and on "
    "shuffled pairs, with the true MI as a dashed line where it is known.",
    caption="Figure 7.1: nats found over the steps; held-out and shuffled: validation patients.",
)

# %% [markdown]
# The training curve says what the model knows of the images it has seen, the held-out curve what it
# has understood. Where they part, it memorises. No number is taken from the best look: what is
# reported below is the last step, on a third set of patients.
#
# ## 4 How many nats did it find?
#
# The test split was not trained on and nothing was chosen by it. Every image contributes one term
# of the bound; the interval resamples patients.

# %%
result = evaluate_split(training, test)
held_out, shuffled = result.held_out.bound, result.shuffled.bound
cap = result.held_out.cap
verdict = "ok" if held_out.low <= cap and abs(shuffled.value) < 0.05 else "not ok"
print(f"{verdict}: held-out bound below the cap of {cap:.1f} nats, shuffled control within .05 of 0")
# %% tags=["nbval-ignore-output"]
print(f"held-out {bound}: {held_out} nats (test, {len(test)} images, K = {result.held_out.batch_size})")
print(f"shuffled pairs: {shuffled} nats; true MI: {true_mi or float('nan'):.2f}; cap: {cap:.2f}")

# %% [markdown]
# ## 5 Where does a sentence look?
#
# For a sentence that speaks of a finding, the winning region is the model's answer to “where?”.
# In the **pointing game** it is a hit when the region's centre lies on the finding, or within 15
# pixels of it (at 256 pixels a side). Nobody told the model where anything is.

# %%
from localmi.phantom.read import finding_sentences
from localmi.statistics import mean_interval
from localmi.train.evaluation import point, point_elsewhere

pointing = denial = None
if truth and unit == "sentence":
    spoken = finding_sentences(truth, test)
    present = spoken[spoken["polarity"] == "present"]
    denied = spoken[(spoken["polarity"] == "absent") & ~spoken["names_place"]]
    winners = result.scores.winners
    on_finding = point(present, truth, winners, grid=config.grid)
    pointing = mean_interval(on_finding.hit, present["patient_id"].to_numpy())
    elsewhere, asked = point_elsewhere(denied, present, truth, winners, grid=config.grid)
    denial = mean_interval(elsewhere.hit, asked["patient_id"].to_numpy())
    print(f"{len(present)} sentences on a present finding, {len(asked)} that deny one")
    print(f"chance: {on_finding.chance.mean():.3f} and {elsewhere.chance.mean():.3f}")
else:
    print("no truth beside these data, or whole reports: nothing to point at")

# %% tags=["nbval-ignore-output"]
if pointing:
    print(f"pointing {pointing}; denials at the finding's usual place {denial}")
    for finding, rows in present.reset_index(drop=True).groupby("finding"):
        hit, chance = on_finding.hit[rows.index].mean(), on_finding.chance[rows.index].mean()
        print(f"{finding:17} {hit:.2f} (chance {chance:.2f}, {len(rows)} sentences)")

# %% [markdown]
# A sentence that denies a finding has nothing to point at in its own image. The control asks where
# it looks all the same: its winning region against the finding's outline **in another patient**.
# Above chance, it may know the finding's place by the word alone, without anything to see; or it
# looks at the lungs whatever it denies, for there all findings are. Chapter 9 tells the two apart.
#
# ### Exercise 7.2
#
# What would a model reach that chooses a region at random? Write the share of the regions of a
# `grid` by `grid` image whose centre pixel lies on the mask (no tolerance).

# %%
def my_chance(mask, grid):  # [H, H] bool -> share of the regions
    ...


check.exercise_7_2(my_chance)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_chance(mask, grid):  # [H, H] bool -> share of the regions
    centres = ((np.arange(grid) + 0.5) * len(mask) / grid).astype(int)
    return mask[np.ix_(centres, centres)].mean()


check.exercise_7_2(my_chance)

# %% [markdown]
# And this is what it looks like: eight sentences on held-out images, the score of each region as
# colour, the true outline in yellow. The last two deny a finding: there is nothing to outline.

# %%
from textwrap import fill

import pandas as pd


def look(row):  # a row of `spoken` -> [grid, grid], the score of each region
    text = training.encode_texts([row.text])
    own, _ = training.region_scores(test.images(np.array([row.image])), text)
    return own[0, :, 0].reshape(config.grid, config.grid)


def draw(axes, row):
    image = cache.images[int(test.manifest["index_in_cache"][row.image])]
    outlines = {}
    if row.polarity == "present":
        mask = truth.mask(row.image_id, row.finding)
        outlines[row.finding] = mask[:: len(mask) // len(image), :: len(mask) // len(image)]
    plot_radiograph(axes, image, title=fill(row.text, 32), outlines=outlines, heat=look(row))


# %%
if pointing:
    shown = pd.concat([present.drop_duplicates("finding")[:6], denied.drop_duplicates("finding")[:2]])
    figure, grid_axes = plt.subplots(2, 4, figsize=(12, 6.8))
    for axes, row in zip(grid_axes.flat, shown.itertuples(), strict=False):
        draw(axes, row)
    show(
        figure,
        alt="Eight held-out radiographs with the scores of their regions as colour; six sentences "
        "speak of a finding, which is outlined, two deny one.",
        caption="Figure 7.2: where each sentence looks; yellow: the true outline.",
    )

# %% [markdown]
# ## Key points
#
# - One step: encode, score every region against every sentence, take each pair's best region, and
#   let the matched pairs stand out.
# - Train with the soft maximum, report with the hard one; both let mismatched pairs choose too.
# - A number in nats is worth what stands beside it: an interval over patients, a control that must
#   be 0, the cap, and here the truth.
# - Small receptive fields make a region speak for itself. A region that sees the whole image may
#   know of a finding that lies elsewhere.
#
# ## References
#
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - Oord et al. 2018, Representation Learning with Contrastive Predictive Coding.
#   <https://arxiv.org/abs/1807.03748>
# - Zhang et al. 2018, Top-Down Neural Attention by Excitation Backprop (the pointing game).
#   <https://doi.org/10.1007/s11263-017-1059-x>

# %% tags=["record"]
from localmi.record import Result, describe_data, write_results

beside = {"cap": cap, "shuffled": shuffled.value, "truth": true_mi}
metrics = {f"{objective}_mi_nats": Result(held_out, "test", beside)}
if pointing:
    metrics["pointing"] = Result(pointing, "test", {"chance": on_finding.chance.mean()})
    metrics["denial_pointing"] = Result(denial, "test", {"chance": elsewhere.chance.mean()})
record = write_results(
    folder,
    notebook="07_train_local_mi",
    parameters=config.model_dump(mode="json"),
    data=describe_data(cache),
    metrics=metrics,
    seconds=time.time() - start,
)
