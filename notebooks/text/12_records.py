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
# # 12 Images and patient records, without a word of text
#
# **You will be able to** compute what a patient's record tells of the findings, in nats, and hold a
# gain against it; make the views that a masked siamese network compares; balance assignments by
# Sinkhorn; write its loss and say why, with its sign turned, it is a bound on mutual information; find
# two faults of a published recipe; measure what a record adds beside controls that must add nothing; and
# tell a record that tells of disease from one that is a shortcut.
#
# **Before this**: bounds, [chapter 2](02_variational_bounds.ipynb); encoders,
# [chapter 6](06_encoders.ipynb); linear probes, [chapter 8](08_downstream_tasks.ipynb).
# **Reading time**: 60 minutes.
# **Run time**: 90 seconds on 2 cores. **Memory**: 1.5 GB.
# **Data**: synthetic patients with a record in MIMIC-IV's layout, drawn here into a temporary folder, and
# for section 8 the results of `make tables GRID=grid/records.yaml`, stored with the course; or those of
# your own grid by `grid_dir`.

# %% tags=["setup"]
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from localmi.course import COLOURS, PALETTE, check, plot_radiograph, set_up, show

set_up()

# %% tags=["parameters"]
data_dir = ""  # folder of a study with records, "" draws a small one
records_dir = ""  # folder of MIMIC-IV, "" is data_dir
cache_dir = ""  # where decoded images are kept, "" is beside the data
run_dir = ""  # where results and checkpoints are kept, "" keeps nothing
grid_dir = ""  # tables of a grid (grid/runs/records/tables), "" is the stored ones
resume = False  # go on from the checkpoint in run_dir
drawn_patients = 160  # for section 6, where data_dir is ""
objective = "msn"  # what is learnt from images: msn, dino or mae
record: list[str] = [
    "stay"
]  # what is read beside an image: demographic, scan, stay, or single ones
record_of = "own"  # whose record: own, or other (another patient's: the control)
image_size = 128  # pixels a side
batch_size = 32  # images a step
learning_rate = 0.001  # of all networks
steps = 30  # gradient steps
evaluate_every = 30  # steps between two looks at the validation split
seed = 0  # of everything random, at least 0
further: dict = {  # any other field of localmi.train.msn_config.MsnConfig
    "prototypes": 64,  # of the assignments
    "focal_views": 2,  # small crops an image
    "ema": 0.97,  # what the target keeps of itself, at first
}

# %% [markdown]
# ## 1 What does a record know?
#
# CXR-EHR-MSN (Shurrab et al. 2024) learns from chest radiographs without a word of a report. What it has
# beside an image is the patient's *record*: sex and age ("demographic"), how the image was made ("scan"),
# and the stay in hospital: intensive care or not, died or not, how long. It reports that the record helps,
# sex and age most of all.
#
# Can that be? What a record $R$ tells of which findings $X$ are present is a number:
#
# $$I(X; R) = \sum_{x, r} p(x, r) \log \frac{p(x, r)}{p(x)\, p(r)}$$
#
# Of real patients nobody knows it. Our synthetic ones have a record that is drawn given their findings
# (devices and edema bring a patient to intensive care, many findings make a stay long), so it follows from
# the probabilities by a sum over all $2^9$ states. Sex and age are drawn without looking at the findings.

# %%
from localmi.phantom import PhantomConfig, record_auc, true_mi, true_record_mi

hospital = PhantomConfig(seed=7, image_size=image_size)
KINDS = {"sex": "demographic", "age": "demographic", "view": "scan", "died": "stay"}
KINDS |= {"stay_days": "stay", "icu": "stay", "stay": "stay"}
nats = {name: true_record_mi(hospital, name) for name in KINDS}
nats |= {"one sentence": true_mi(hospital), "a report": true_mi(hospital, "report")}
for name, value in nats.items():
    print(f"{name:12} {value:.3f} nats")

# %%
figure, axes = plt.subplots(figsize=(7.5, 3))
tells = {name: value for name, value in nats.items() if value > 1e-9}
colours = [COLOURS["truth"] if name not in KINDS else PALETTE[0] for name in tells]
axes.barh(list(tells), list(tells.values()), color=colours)
axes.set(xscale="log", xlim=(0.003, 12), xlabel="nats of the findings (log scale)")
axes.invert_yaxis()
for row, value in enumerate(tells.values()):
    axes.text(value * 1.08, row, f"{value:.3f}", va="center", fontsize="small")
show(
    figure,
    alt="Bars on a log scale: the view and whether a patient died tell little, the length of the stay and "
    "intensive care more, the stay as a whole less than a fifth of one sentence, and a report much "
    "more than all. Sex and age are not drawn.",
    caption="Figure 12.1: what each variable of a record tells of the findings, exact, beside one sentence "
    "and a whole report. Sex and age tell 0 and have no place on a log scale.",
)

# %% [markdown]
# A whole stay tells less than a fifth of what one sentence may. What can be made of it? The best score for
# a finding that the record alone allows is $p(\text{finding} \mid R)$; its AUC is exact, too:

# %%
names = ("support_devices", "edema", "pneumothorax", "pleural_effusion", "atelectasis")
groups = ("demographic", "scan", "stay")
rows = {name: [record_auc(hospital, name, group) for group in groups] for name in names}
pd.DataFrame(rows, index=groups).T.round(2)

# %% [markdown]
# So if somebody reports that sex and age improve a classifier of these findings, here, then it is not
# because they tell of the findings. **What could go wrong**: at a real hospital sex and age do tell
# something (devices are commoner in the old). How much is an empirical question, with an answer in nats.
#
# ### Exercise 12.1
#
# Write $I(\text{row}; \text{column})$ in nats, of a table of counts $[R, C]$: say intensive care and edema
# of 100 patients.


# %%
def my_information(counts):  # [R, C]
    ...


check.exercise_12_1(my_information)


# %% tags=["solution"]
def my_information(counts):
    joint = counts / counts.sum()
    alone = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    there = joint > 0  # 0 log 0 = 0
    return (joint[there] * np.log(joint[there] / alone[there])).sum()


check.exercise_12_1(my_information)

# %% [markdown]
# ## 2 What are two views of an image?
#
# A siamese network sees two *views* of the same image and learns to say of both the same. Each is a random
# crop; the *target* is seen whole, of the *anchor* some patches are dropped (masked), and there are small,
# *focal* crops besides. What the two have in common, and other images have not, is what can be learnt. No
# view is mirrored here: a heart has a side.

# %%
from localmi.data import Crops, normalise
from localmi.model.msn import kept_patches
from localmi.phantom import render
from localmi.phantom.latents import sample_study

image = render(sample_study(hospital, 13, 0), hospital).image
generator = torch.Generator().manual_seed(seed)
crops = Crops(full=image_size, focal=48, num_focal=3)
target, anchor, focal = crops(normalise(image[None]), generator)
patches = (image_size // 16) ** 2
keep = kept_patches(1, patches, dropped=0.15, generator=generator)
print(f"{keep.shape[1]} of {patches} patches of 16 x 16 pixels stay")

# %%
seen = torch.zeros(patches).index_fill(0, keep[0], 1.0).reshape(image_size // 16, -1)
mask = seen.repeat_interleave(16, 0).repeat_interleave(16, 1)
views = {"image": normalise(image[None])[0, 0], "target": target[0, 0]}
views["anchor, masked"] = torch.where(mask > 0, anchor[0, 0], torch.nan)
views |= {f"focal {number + 1}": one[0] for number, one in enumerate(focal)}
figure, panels = plt.subplots(1, len(views), figsize=(11.5, 2.2))
for axes, (name, view) in zip(panels, views.items()):
    axes.set_facecolor(PALETTE[1])
    axes.imshow(view, cmap="gray", vmin=-1.75, vmax=1.75)
    axes.set(title=name, xticks=[], yticks=[])
    axes.title.set_fontsize("small")
show(
    figure,
    alt="A chest radiograph, two large crops of it, of which the second has coloured holes where patches "
    "are dropped, and three small crops.",
    caption="Figure 12.2: the views of one image. Coloured: patches that the anchor does not see.",
)

# %% [markdown]
# ### Exercise 12.2: a fault to find
#
# A ViT sees a sequence of tokens: number 0 is [CLS], whose vector is used afterwards, and the patches are
# 1, 2, ... `published` below does what the public code does. Which patch does it never show, whatever is
# drawn? Write it right: [CLS] always stays, `round(dropped * patches)` patches are dropped, and each as
# often as any other.


# %%
def published(width, dropped, generator):  # width: patches a side
    patches = width**2
    order = torch.randperm(patches - 1, generator=generator) + 1  # of tokens 0 ... patches - 1
    stay = order[: patches - round(dropped * patches)]
    return torch.cat([torch.zeros(1, dtype=torch.int64), stay])


def my_kept(width, dropped, generator): ...


check.exercise_12_2(my_kept)


# %% tags=["solution"]
def my_kept(width, dropped, generator):
    patches = width**2
    order = torch.randperm(patches, generator=generator) + 1  # tokens 1 ... patches
    stay = order[: patches - round(dropped * patches)]
    return torch.cat([torch.zeros(1, dtype=torch.int64), stay])


check.exercise_12_2(my_kept)

# %%
drawn = torch.cat([published(8, 0.15, generator) for _ in range(300)])
never = sorted({*range(65)} - {*drawn.tolist()})
print(f"tokens that {300} draws never showed: {never}; the last of 8 x 8 patches is token 64")

# %% [markdown]
# There are `patches + 1` tokens, and the code numbers `patches` of them: no anchor of the public system has
# ever seen the bottom right corner of an image.
#
# ## 3 What is there to agree on?
#
# Were the two networks to give the same *vector* for both views, a constant would do. So they give an
# *assignment* to $K$ prototypes $q_k$, which are vectors that are learnt:
#
# $$p_k = \operatorname{softmax}_k \frac{\cos(z, q_k)}{\tau} \qquad
# p^{+} = \text{Sinkhorn}\Big(\operatorname{softmax}_k \frac{\cos(z^{+}, q_k)}{\tau\, T}\Big)$$
#
# (Assran et al. 2022). The target $p^{+}$ is sharpened by $T < 1$, so that no prototype is no answer; and
# Sinkhorn scales the columns of a batch to equal sums, then the rows to 1, a few times, so that the same
# prototype for all is no answer either.

# %%
from localmi.model.msn import prototype_logits, sharpened, sinkhorn

torch.manual_seed(seed)
shared, number = torch.randn(16), 12  # what all images have in common, and how many there are
z, prototypes = torch.randn(number, 16) + 1.5 * shared, torch.randn(6, 16)
logits = prototype_logits(z, prototypes)  # [B, K]
stages = {"assigned": logits.softmax(dim=1), "sharpened": sharpened(logits).exp()}
stages["balanced by Sinkhorn"] = sinkhorn(sharpened(logits))
figure, panels = plt.subplots(1, 3, figsize=(8, 3.4), sharey=True)
for axes, (name, p) in zip(panels, stages.items()):
    axes.imshow(p, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set(title=name, xlabel="prototype")
panels[0].set_ylabel("image")
show(
    figure,
    alt="Three tables of twelve images and six prototypes. At first most images share a prototype, sharpened "
    "nearly all of their weight lies on it, and balanced each prototype has about as much as any other.",
    caption="Figure 12.3: assignments of twelve images that have much in common.",
)

# %%
for name, p in stages.items():
    used = p.sum(dim=0) / p.sum()
    entropy = -(used * used.log()).sum()
    print(f"{name:20} entropy of the mean {entropy:.2f} of log 6 = {math.log(6):.2f} nats")

# %% [markdown]
# ### Exercise 12.3
#
# Write Sinkhorn's iterations: in each, the columns of $p$ $[B, K]$ are scaled to equal sums, then the rows
# to 1.


# %%
def my_sinkhorn(p, iterations): ...


check.exercise_12_3(my_sinkhorn)


# %% tags=["solution"]
def my_sinkhorn(p, iterations):
    for _ in range(iterations):
        p = p / p.sum(dim=0, keepdim=True)
        p = p / p.sum(dim=1, keepdim=True)
    return p


check.exercise_12_3(my_sinkhorn)

# %% [markdown]
# ## 4 Which part of the loss is information?
#
# The loss of $M$ anchors an image, $B$ images, is the cross entropy to the targets, less the entropy of the
# mean anchor (that all anchors together use all prototypes):
#
# $$L = \frac{1}{MB} \sum_{i, m} H(p^{+}_i, p_{im}) - H(\bar p), \qquad H(p^+, p) = - \sum_k p^{+}_k \log p_k$$
#
# (lightly and the original add $\log K$, a constant.) Now let the prototype $K$ of a target view be drawn
# from its assignment $q^{+}$. Whoever predicts it from the anchor says how much the anchor knows of it:
#
# $$H(\bar q^{+}) - \frac{1}{MB} \sum_{i,m} H(q^{+}_i, p_{im}) \;\le\; I(K; \text{anchor}, R) \;\le\;
# I(\text{target view}; \text{anchor}, R)$$
#
# The first step is the bound of Barber and Agakov ([chapter 2](02_variational_bounds.ipynb)), the second
# data processing. On a batch Sinkhorn makes $H(\bar p^{+}) = \log K$, and no mean has more: so $-L$ is
# below the bound, and a siamese network maximises mutual information, as chapter 7 does, with another
# view in the place of the sentence.
#
# ### Exercise 12.4
#
# Write $L$ of $p$ $[M, B, K]$ and $p^{+}$ $[B, K]$, without $\log K$, and the nats that it stands for.


# %%
def my_loss(p, target):  # [M, B, K], [B, K]; give L and the nats
    ...


check.exercise_12_4(my_loss)


# %% tags=["solution"]
def my_loss(p, target):
    cross_entropy = -(target * p.log()).sum(dim=-1).mean()
    mean = p.mean(dim=(0, 1))
    loss = cross_entropy + (mean * mean.log()).sum()
    return loss, -loss


check.exercise_12_4(my_loss)

# %% [markdown]
# A check against a known answer: let two views show one of eight kinds of image, and the second be
# wrong in a share $e$ of cases. Then $I$ is known, and a reader that knows the channel must reach it, one
# that knows nothing 0.

# %%
from localmi.evaluate.assignments import HeldOutAssignments

rng, kinds, wrong, count = np.random.default_rng(seed), 8, 0.2, 20_000
kind = rng.integers(kinds, size=count)
other = np.where(rng.random(count) < wrong, rng.integers(kinds, size=count), kind)
channel = np.full((kinds, kinds), wrong / kinds) + (1 - wrong) * np.eye(kinds)
exact = math.log(kinds) + (channel[0] * np.log(channel[0])).sum()
found = HeldOutAssignments(
    mean=np.bincount(kind, minlength=kinds) / count,
    own_entropy=0.0,
    cross_entropy={
        "knows the channel": -np.log(channel[other, kind]),
        "knows nothing": np.full(count, math.log(kinds)),
    },
    patient=np.arange(count),
)
for reader in found.cross_entropy:
    print(f"{reader:18} {found.nats(reader)} nats; exact {exact:.2f}")

# %% [markdown]
# ## 5 Who learns?
#
# The *anchor* network learns by gradient. The *target* network has no gradient: it is the moving average of
# the anchor network, and it is the one that is used afterwards. And the prototypes? They are to learn, from
# the anchors. In the examples that lightly ships, and so in the public code, they do not:
#
# `loss = criterion(anchors, targets, model.prototypes.data)`
#
# `.data` is the tensor without its history: no gradient reaches it. The 1,024 "trainable prototypes" of the
# public system are the random directions that they were drawn as.
#
# ### Exercise 12.5: another fault to find
#
# Write the loss such that anchors and prototypes get a gradient, from the anchors' side alone, and the
# targets none. Use `prototype_logits` and `msn_terms(anchor_logits, target_logits).loss()`; `.detach()`
# cuts off a history.

# %%
from localmi.model.msn import msn_terms


def my_siamese_loss(anchors, targets, prototypes):  # [M * B, D], [B, D], [K, D]
    ...


check.exercise_12_5(my_siamese_loss)


# %% tags=["solution"]
def my_siamese_loss(anchors, targets, prototypes):
    anchor_logits = prototype_logits(anchors, prototypes)
    target_logits = prototype_logits(targets, prototypes).detach()
    return msn_terms(anchor_logits, target_logits).loss()


check.exercise_12_5(my_siamese_loss)

# %% [markdown]
# ## 6 What does it learn, and what does the record add?
#
# Now the whole. Where no study is named, a small hospital is drawn. The record $r$ of the patient stands
# beside the anchor, and nowhere else:
#
# $$z_m = h\big(g([\,f(\text{anchor}_m);\; V r\,])\big), \qquad z^{+} = h^{+}\big(f^{+}(\text{target})\big)$$
#
# $f$ is a ViT ([CLS]), $g$ and $V$ are linear, $h$ the three layers of the projection; $f^{+}$ and $h^{+}$
# are the averages. What is used afterwards is $f^{+}$, which reads images alone.

# %%
import tempfile
from pathlib import Path

from localmi.phantom.write import write_study
from localmi.study import load_study, load_truth

own = tempfile.TemporaryDirectory()
study = data_dir or f"{own.name}/hospital"
if not data_dir:
    write_study(Path(study), hospital, drawn_patients, fractions=(0.6, 0.15, 0.25))
cache = load_study(study, cache_dir, image_size=image_size, records_dir=records_dir or study)
truth = load_truth(study)
columns = ["record_sex", "record_age", "record_admitted", "record_icu", "record_died"]
cache.manifest[columns].head(4)

# %%
from localmi.train import MsnConfig, MsnPretraining, fit

shared = {"image_size": image_size, "batch_size": batch_size, "learning_rate": learning_rate}
shared |= {"steps": steps, "evaluate_every": evaluate_every, "seed": seed, **further}
config = MsnConfig.checked(objective=objective, record=record, record_of=record_of, **shared)
training = MsnPretraining(config, cache)
validate, test = (training.data(split) for split in ("validate", "test"))
if record:
    print("a record is", len(training.train_data.record_names), "numbers:")
    print(", ".join(training.train_data.record_names))

# %% [markdown]
# The bound of section 4 is computed on held-out patients. Beside the method four small networks of one
# build, the *readers*, learn from the anchor's feature to say the target's prototype: one reads the feature
# alone, one the record beside it, one the record of another patient, and one both of another patient. What
# the record adds to the image is the difference of the first two; the other two must add nothing and find
# nothing. No gradient of a reader reaches the image.

# %% tags=["nbval-ignore-output"]
import time

began, first_step = time.perf_counter(), training.step
log = fit(training, validate, run_dir=Path(run_dir) if run_dir else None, resume=resume)
training_seconds = time.perf_counter() - began  # looks included
found = training.assignments(test) if objective != "mae" else None
if found:
    for reader in found.cross_entropy:
        print(f"{reader:13} {found.nats(reader)} nats")
    print(f"whoever knew the target: {found.ceiling:.2f} nats")
