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
# **You will be able to** compute what a patient's record tells of the findings, in nats, and say what
# that bounds; make the views that a masked siamese network compares; balance assignments by
# Sinkhorn; write its loss and say why, with its sign turned, it is nearly a bound on mutual information; find
# two faults of a published recipe; measure what a record adds beside controls that must add nothing; and
# tell a record that tells of disease from one that is a shortcut.
#
# **Before this**: bounds, [chapter 2](02_variational_bounds.ipynb); encoders,
# [chapter 6](06_encoders.ipynb); linear probes, [chapter 8](08_downstream_tasks.ipynb).
# **Reading time**: 60 minutes.
# **Run time**: 2 minutes on 2 cores. **Memory**: 1.5 GB.
# **Data**: synthetic patients with a record in MIMIC-IV's layout, drawn here into a temporary folder, and
# for section 8 the results of `make tables GRID=grid/records.yaml`, stored with the course; or those of
# your own grid by `grid_dir`.

# %% tags=["setup"]
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from localmi.course import COLOURS, PALETTE, check, set_up, show

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
from_reports = False  # learn by local MI instead, from their reports as well
record: list[str] = ["stay"]  # read beside an image: demographic, scan, stay, or single ones
record_of = "own"  # whose record: own, or other (another patient's: the control)
image_size = 128  # pixels a side
batch_size = 32  # images a step
learning_rate = 0.001  # of all networks
steps = 30  # gradient steps
evaluate_every = 30  # steps between two looks at the validation split
rivals = True  # probe 16 x 16 pixels, a random ViT and the record as well
by_place = True  # read tokens by their place as well, beside [CLS]
tuned_epochs = 0  # of a ViT trained on labels, from the pretrained one and from new; 0: neither
seed = 0  # of everything random, at least 0
task = "pathology9"  # what the probes are asked for: nine findings, or chexpert14
fractions: list[float] = [1.0]  # of the labels, of the probes
second_dir = ""  # folder of a study of another hospital, with records; "" draws one
second_patients = 80  # that are drawn for it
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

hospital = PhantomConfig(seed=7)  # drawn at 256 pixels
KINDS = {"sex": "demographic", "age": "demographic", "view": "scan", "died": "stay"}
KINDS |= {"stay_days": "stay", "icu": "stay", "stay": "stay"}
nats = {name: true_record_mi(hospital, name) for name in KINDS}
nats |= {"one sentence": true_mi(hospital, attributes={})}  # of X: without side and size
nats |= {"a report": true_mi(hospital, "report", {})}
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
    "intensive care more, the stay as a whole a quarter of one sentence, and a report much "
    "more than all. Sex and age are not drawn.",
    caption="Figure 12.1: what each variable of a record tells of the findings, exact, beside one sentence "
    "and a whole report. Sex and age tell 0 and have no place on a log scale.",
)

# %% [markdown]
# A whole stay tells about a quarter of what one sentence tells of which findings are present. What can be
# made of it? The best score for a finding that the record alone allows is $p(\text{finding} \mid R)$; its
# AUC is exact, too:

# %%
names = ("support_devices", "edema", "pneumothorax", "pleural_effusion", "atelectasis")
groups = ("demographic", "scan", "stay")
rows = {name: [record_auc(hospital, name, group) for group in groups] for name in names}
pd.DataFrame(rows, index=groups).T.round(2)

# %% [markdown]
# Does that bound what a record can *add* to an image $V$? If it depends on the image through the findings alone,
# as the stay does here, yes: then $I(X; R \mid V) \le I(X; R) =$ **0.163 nats**. A record that also explains the
# image may help to read it, though it tells 0 by itself: sex shapes the anatomy, and the view the image. So of a
# gain by sex and age one can say, here: it is not because they tell of disease.
#
# **What could go wrong**: at a real hospital sex and age do tell something (devices are commoner in the old). How
# much is an empirical question, with an answer in nats.
#
# ### Exercise 12.1
#
# Write $I(\text{row}; \text{column})$ in nats, of a table of counts $[R, C]$: say intensive care and edema
# of 100 patients.


# %%
def my_information(counts):  # [R, C]
    ...


check.exercise_12_1(my_information)


# %% jupyter={"source_hidden": true} tags=["solution"]
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
places = torch.meshgrid(*2 * [torch.arange(256.0)], indexing="ij")  # cut along, they say where
pixels = torch.stack([normalise(image[None])[0, 0], *places])[None]
crops = Crops(full=image_size, focal=48, num_focal=3)
target, anchor, focal = crops(pixels, generator)
patches = (image_size // 16) ** 2
keep = kept_patches(1, patches, dropped=0.15, generator=generator)
print(f"{keep.shape[1]} of {patches} patches of 16 x 16 pixels stay")
seen = torch.zeros(patches).index_fill(0, keep[0], 1.0).reshape(image_size // 16, -1)
mask = seen.repeat_interleave(16, 0).repeat_interleave(16, 1)

# %%
masked = torch.where(mask > 0, anchor[0, 0], torch.nan)
views = {"image": pixels[0, 0], "target": target[0, 0], "anchor, masked": masked}
views |= {f"focal {number + 1}": one[0] for number, one in enumerate(focal)}
figure, panels = plt.subplots(1, len(views), figsize=(11.5, 2.2))
for axes, (name, view) in zip(panels, views.items()):
    axes.set_facecolor(PALETTE[1])
    axes.imshow(view, cmap="gray", vmin=-1.75, vmax=1.75)
    axes.set(xticks=[], yticks=[])
    axes.set_title(name, fontsize="small")
for number, one in enumerate(focal):
    y, x, height, width = *one[1:].amin((1, 2)), *np.ptp(one[1:].numpy(), (1, 2))
    panels[0].add_patch(plt.Rectangle((x, y), width, height, fill=False, ec=PALETTE[number + 2]))
    panels[number + 3].spines[:].set(visible=True, color=PALETTE[number + 2], lw=2)
show(
    figure,
    alt="A chest radiograph with three small boxes, two large crops of it, of which the second has coloured holes where patches "
    "are dropped, and three small crops.",
    caption="Figure 12.2: the views of one image. Orange: patches that the anchor does not see. Boxes: "
    "where the focal crops are.",
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


# %% jupyter={"source_hidden": true} tags=["solution"]
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
# There are `patches + 1` tokens, and the code numbers `patches` of them: no masked anchor of the public
# system has ever shown the bottom right patch of its crop.
#
# ## 3 What is there to agree on?
#
# Were the two networks to give the same *vector* for both views, a constant would do. So they give an
# *assignment* to $K$ prototypes $q_k$, which are vectors that are learnt:
#
# $$p_k = \operatorname{softmax}_k \frac{\cos(z, q_k)}{\tau} \qquad
# p^{+} = \text{Sinkhorn}\Big(\operatorname{softmax}_k \frac{\cos(z^{+}, q_k)}{\tau\, T}\Big)$$
#
# (Assran et al. 2022). The target $p^{+}$ is sharpened by $T < 1$, so that preferring none is no answer; and
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
    alt="Three tables of twelve images and six prototypes. At first two prototypes share the images, sharpened "
    "almost wholly; balanced the others have more, though not yet equal shares.",
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


# %% jupyter={"source_hidden": true} tags=["solution"]
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
# (lightly and the original add $\log K$, a constant.) Now let $t_i$ be the target's assignment *before* Sinkhorn,
# and draw a prototype $C$ of a target view from it. Whoever predicts it from the anchor says how much the anchor
# knows of it:
#
# $$H(\bar t) - \frac{1}{MB} \sum_{i,m} H(t_i, p_{im}) \;\le\; I(C; \text{anchor}, R) \;\le\;
# I(\text{target view}; \text{anchor}, R)$$
#
# The first step is the bound of Barber and Agakov ([chapter 2](02_variational_bounds.ipynb)), the second
# data processing. The loss has $p^{+}$ in the place of $t$. Had Sinkhorn converged, $H(\bar p^{+}) = \log K$
# would be at least $H(\bar p)$, and $-L$ no more than the same expression of the batch; a few iterations come
# near. So a siamese network raises, nearly, a lower bound on mutual information, as chapter 7 does, with another
# view in the place of the sentence. What is *reported* here has $t$, on held-out patients.
#
# ### Exercise 12.4
#
# Write $L$ of $p$ $[M, B, K]$ and $p^{+}$ $[B, K]$, without $\log K$, and the nats that it stands for.


# %%
def my_loss(p, target):  # [M, B, K], [B, K]; give L and the nats
    ...


check.exercise_12_4(my_loss)


# %% jupyter={"source_hidden": true} tags=["solution"]
def my_loss(p, target):
    cross_entropy = -(target * p.log()).sum(dim=-1).mean()
    mean = p.mean(dim=(0, 1))
    loss = cross_entropy + (mean * mean.log()).sum()
    return loss, -loss


check.exercise_12_4(my_loss)

# %% [markdown]
# A check against a known answer: let two views show one of eight kinds of image, and the second be
# replaced by a random kind in a share $e$ of cases. Then $I$ is known, and a reader that knows the channel
# must reach it, one that knows nothing 0.

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
# targets none. Use `prototype_logits` and `msn_terms(anchor_logits, target_logits).loss()`, which cuts off
# the targets' history itself; whoever writes the cross entropy anew does it by `.detach()`.

# %%
from localmi.model.msn import msn_terms


def my_siamese_loss(anchors, targets, prototypes):  # [M * B, D], [B, D], [K, D]
    ...


check.exercise_12_5(my_siamese_loss)


# %% jupyter={"source_hidden": true} tags=["solution"]
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
# are the averages. What is used afterwards is $f^{+}$, which reads images alone. Here $g$ begins as the
# identity on the image's part and 0 on the record's: at first it is as if there were no record. The public
# code leaves $g$ as it is drawn; section 8 says what that costs.

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
AS_IN_7 = {"sentences": "all", "temperature_end": 0.05, "critic": "separable", "critic_hidden": [256]}
AS_IN_7 |= {"text_pooling": "mean", "text_learning_rate": 0.0}  # the text encoder as it is
AS_IN_7 |= {"learning_rate_end": 0.02, "weight_decay": 0.3, "smallest_crop": 0.75}

# %%
from localmi.data import SplitData
from localmi.train import MsnConfig, MsnPretraining, Pretraining, TrainConfig, fit

shared = {"image_size": image_size, "batch_size": batch_size, "learning_rate": learning_rate}
shared |= {"steps": steps, "evaluate_every": evaluate_every, "seed": seed, **further}
method = "local-mi" if from_reports else objective
if from_reports:  # the neighbour
    known = {name: one for name, one in shared.items() if name in TrainConfig.model_fields}
    config = TrainConfig.checked(image_encoder=MsnConfig().image_encoder, **AS_IN_7, **known)
    training = Pretraining(config, cache)
    validate = SplitData(cache, "validate")
else:
    config = MsnConfig.checked(objective=objective, record=record, record_of=record_of, **shared)
    training = MsnPretraining(config, cache)
    validate, test = (training.data(split) for split in ("validate", "test"))
if record and not from_reports:
    print("a record is", len(training.train_data.record_names), "numbers:")
    print(", ".join(training.train_data.record_names))

# %% [markdown]
# The bound of section 4 is computed on held-out patients. Beside the method four small networks of one
# build, the *readers*, learn from the anchor's feature to say the target's prototype: one reads the feature
# alone, one the record beside it, one the record of another patient, and one both of another patient. What
# the record adds to the image is the difference of the first two; the other two must add nothing and find
# nothing. No gradient of a reader reaches the image. After a few steps all may lie below 0: what a
# bound says then is that nothing was found. The last line is what one would find who knew the target.

# %% tags=["nbval-ignore-output"]
import time

began, first_step = time.perf_counter(), training.step
log = fit(training, validate, run_dir=Path(run_dir) if run_dir else None, resume=resume)
training_seconds = time.perf_counter() - began  # looks included
found = training.assignments(test) if method in ("msn", "dino") else None
if found:
    for reader in found.cross_entropy:
        print(f"{reader:13} {found.nats(reader)} nats")
    print(f"whoever knew the target: {found.ceiling:.2f} nats")
if from_reports:
    of_reports = training.evaluate(SplitData(cache, "test"))
    print("image and sentence:", of_reports.held_out.bound, "nats")

# %% [markdown]
# ## 7 Is it good for anything?
#
# Nats between views are not nats of findings: two views have ribs and exposure in common as well. So a
# linear probe asks the frozen features for nine findings, as in [chapter 8](08_downstream_tasks.ipynb):
# one logistic regression each, $C$ chosen on validation. The rivals cost nothing: the image shrunk to 16 x
# 16 pixels, the same ViT with random weights, and the record alone.
#
# What is *the* feature of a ViT? [CLS], says the method. But the tokens of the patches are there, too, and
# stand where their patch does; so the same networks are read a second time, the tokens averaged in 4 x 4
# cells.

# %%
from localmi.data import features
from localmi.downstream import DownstreamConfig, Finetuning, initial_encoder, labelled_images
from torch.nn import functional

checkpoint = Path(run_dir or own.name) / "checkpoint.pt"
if not run_dir:
    training.save(checkpoint)
kind = {"task": task, "image_size": image_size, "mode": "probe", "frozen_blocks": 12, "seed": seed}
kind |= {"image_encoder": config.image_encoder, "test_labels": "expert" if truth else "report"}
inits = {method: str(checkpoint)} | ({"random ViT": "random"} if rivals else {})
RECORD, BY_PLACE = record or ["stay"], ", tokens by place"


# %%
def rows_of(study, part):  # of the manifest, [n]
    return study.manifest.set_index("index_in_cache").loc[part.rows["index_in_cache"]]


def shrunk(study, part):  # [n, 256]
    rows = part.rows["index_in_cache"].to_numpy()
    some = [study.images[index] for index in np.array_split(rows, 1 + len(rows) // 256)]
    pixels = (torch.from_numpy(images)[:, None].double() for images in some)
    return torch.cat([functional.adaptive_avg_pool2d(one, 16).flatten(1) for one in pixels]).numpy()


# %%
def features_of(study, parts):  # {name: {split: [n, P]}}
    found = {}
    for name, init in inits.items():
        probe = DownstreamConfig.checked(init=init, **kind)
        network = Finetuning(study, probe, parts, initial_encoder(probe))
        found[name] = {split: network.features(split) for split in parts}
        if by_place:
            found[name + BY_PLACE] = {split: network.features(split, grid=4) for split in parts}
    if rivals:
        found["16 x 16 pixels"] = {split: shrunk(study, part) for split, part in parts.items()}
    if rivals and "record_admitted" in study.manifest:
        rows = {split: rows_of(study, part) for split, part in parts.items()}
        alone = {split: features(one, RECORD)[0] for split, one in rows.items()}
        both = {split: np.hstack([found[method][split], alone[split]]) for split in parts}
        found |= {"record alone": alone, f"{method} and record": both}
    return found


# %%
from localmi.downstream import fit_probe, run_downstream

of_fraction = {}
for fraction in fractions:
    probe = DownstreamConfig.checked(init=inits[method], fraction=fraction, **kind)
    of_fraction[fraction] = labelled_images(cache, probe)
parts = of_fraction[max(fractions)]  # the test split is the same in all

# %%
seen = {fraction: features_of(cache, some) for fraction, some in of_fraction.items()}
said = {
    (fraction, name): fit_probe(task, values, of_fraction[fraction]).probabilities
    for fraction, found_here in seen.items()
    for name, values in found_here.items()
}
if tuned_epochs:
    more = {**kind, "mode": "tuned", "epochs": tuned_epochs}
    for name, init in {f"{method}, tuned": str(checkpoint), "from scratch": ""}.items():
        for fraction in fractions:
            one = DownstreamConfig.checked(init=init, fraction=fraction, **more)
            said[fraction, name] = run_downstream(cache, one).predictions.probabilities
known = parts["test"].targets, parts["test"].rows["patient_id"], parts["test"].mask


# %%
from localmi.evaluate import classification


def measured(scores, targets, patients, mask, resamples=500):  # with intervals over patients
    names = [str(number) for number in range(targets.shape[1])]
    return classification.multi_label_metrics(
        targets, scores, patients, mask, names=names, resamples=resamples
    )


measures = {which: measured(scores, *known) for which, scores in said.items()}
table = pd.Series({which: str(one.mean_auc) for which, one in measures.items()}).unstack(0)
table.rename_axis("AUC, by the share of the labels", axis=1)

# %%
positives = float(np.average(known[0], weights=known[2]))
table = pd.Series({which: str(one.mean_auprc) for which, one in measures.items()}).unstack(0)
print(f"area under precision and recall; of no skill {positives:.2f}, the share of positives:")
table.rename_axis("AUPRC, by the share of the labels", axis=1)

# %% [markdown]
# A few steps on a few patients teach nothing that a probe could find, and here the intervals are wide; what
# 2,500 patients and 700 steps of 64 images say, and in which order the rivals stand, is in the next section.
#
# **What could go wrong**: to compare with the random network alone, because that is the one that is beaten.

# %% [markdown]
# ## 8 Which part does what?
#
# `make tables GRID=grid/records.yaml` runs this notebook in variants, three seeds each. What they have found
# on its test patients is stored with the course.

# %%
VARIANTS = {
    "none": "MSN, images alone",
    "wide": "its crops wide: large ones .6 to 1 of the area, small ones .2 to .5",
    "long": "as wide, and 2,000 steps instead of 700",
    "stay": "as none, and the stay beside the anchor",
    "demographic": "as none, and sex and age",
    "scan": "as none, and how the image was made",
    "other": "as none, and the stay of another patient: the control",
    "told": "as none, and the labels of the image's own report: more than any record tells",
    "drawn": "as stay, fused by weights as they are drawn",
    "frozen": "as none, prototypes as they are drawn",
    "published": "the public recipe: the stay fused so, frozen prototypes, masked crops, flips, and an "
    "average that keeps as much at the end",
    "dino": "DINO: each network with prototypes of its own, targets centred; a third of the rate, else 0 nats",
    "mae": "masked autoencoder: paints the patches that it was not shown",
    "local-mi": "local MI, as many images, and their reports",
}

# %%
from localmi.notebook.collect import read_collected
from localmi.study import example_results

runs = read_collected(grid_dir or example_results() / "records")
by_image = runs.tables["by_image"]
FINDINGS = [name[2:] for name in by_image if name.startswith("p ")]
variants = [name for name in VARIANTS if name in set(by_image["variant"])]
shares = sorted(by_image["fraction"].unique(), reverse=True)
print("studies:", runs.data["studies"])
seeds = by_image.groupby("variant")["seed"].nunique()
print("seeds:", ", ".join(f"{name} {seeds[name]}" for name in variants))


def stored(which, fraction, here=True):  # [S, n, 9], targets, patients, mask
    keys = by_image[["variant", "features", "fraction", "here"]]
    rows = by_image[(keys == [*which, fraction, here]).all(axis=1)]
    scores = [one[[f"p {f}" for f in FINDINGS]].to_numpy() for _, one in rows.groupby("seed")]
    one = rows[rows["seed"] == rows["seed"].min()]
    targets = one[[f"target {f}" for f in FINDINGS]].to_numpy()
    return np.stack(scores), np.nan_to_num(targets), one["patient_id"], ~np.isnan(targets)


# %%
asked = runs.metrics[runs.metrics["metric"].str.endswith(" nats")]
asked = asked.assign(metric=asked["metric"].str.removesuffix(" nats"))
table = asked.pivot_table(index="variant", columns="metric", values="value").round(2)
order = ["method", "image", "record", "other record", "shuffled", "image and sentence"]
order = [name for name in order if name in table]
table.reindex([name for name in variants if name in table.index])[order].fillna("")

# %%
from localmi.course import Curve, plot_mi

by_step = runs.tables["by_step"].groupby(["variant", "step"], as_index=False)["training"].mean()
BESIDE = {"none": "no record", "stay": "the stay", "other": "another patient's stay"}
BESIDE |= {"told": "the labels", "drawn": "the stay, fused as drawn"}
curves = {name: by_step[by_step["variant"] == name] for name in BESIDE if name in variants}
axes = plot_mi(
    [Curve(one["step"], one["training"], BESIDE[name]) for name, one in curves.items()]
)
axes.set_ylabel("$-L$ of training batches (nats)")
show(
    axes.figure,
    alt="Curves over the steps of training batches, of pretraining on images alone, with the stay, with that of "
    "another patient and with the labels, which lie close together, and with the stay fused as drawn, far below.",
    caption="Figure 12.4: nats between the views of training batches over the steps, with which record beside "
    "the anchor; mean of three seeds.",
)

# %% [markdown]
# A column of the table is a reader of section 6 (`method`: the networks' own bound), on test patients. Read `image`
# and `record` side by side: whoever sees the record beside the anchor's feature says the target's prototype no
# better. Not even `told`, beside which stand the labels of the report. So given the anchor's feature they say
# nothing more of the prototype: either it does not depend on the findings, or the feature has them already. A
# reader of the record alone would tell which; there is none here. That "no record" lies lowest of four in the
# figure is not the record: another patient's is as high. (DINO has prototypes of another kind and an average that
# moves slowly; its nats are of another target, as are those of `frozen`.)

# %%
of_variant = by_image[["variant", "features"]].drop_duplicates().to_numpy().tolist()
probed = dict.fromkeys(variants)  # in their order: what is probed, and whose it is
for name, of in of_variant:
    if (network := of.removesuffix(BY_PLACE)) in ("msn", "dino", "mae", "local-mi"):
        probed[name + of.removeprefix(network)] = (name, of)
    elif name == "none":
        probed[of] = (name, of)
values = {
    (name, share): measured(*stored(which, share), resamples=200).mean_auc
    for name, which in probed.items()
    for share in shares
}
table = pd.Series({which: str(one) for which, one in values.items()}).unstack(1)
table.loc[list(probed)].rename_axis("share of the labels", axis=1)

# %%
figure, panels = plt.subplots(1, len(shares), figsize=(10, 6.5), sharex=True, sharey=True)
group = {name: 1 if BY_PLACE in name else 0 if name in VARIANTS else 2 for name in probed}
places = {name: at + group[name] for at, name in enumerate(sorted(probed, key=group.get))}
for axes, share in zip(np.atleast_1d(panels), shares):
    for name, place in places.items():
        one, colour = values[name, share], PALETTE[group[name]]
        axes.hlines(place, one.low, one.high, color=colour, lw=1.5)
        axes.plot(one.value, place, "o", color=colour)
    axes.axvline(0.5, color="#555555", ls=":")
    axes.set(title=f"{share:.0%} of the labels", xlabel="mean AUC")
figure.axes[0].set_yticks([*places.values()], [*places])
figure.axes[0].invert_yaxis()
show(
    figure,
    alt="For each variant and each rival the mean AUC of nine findings with its interval, at three shares of "
    "the labels.",
    caption="Figure 12.5: linear probes on test patients, mean of three seeds; bars: 95 % intervals over "
    "patients. Blue: [CLS] of pretrained networks; orange: tokens by place; green: pixels, random weights, "
    "records, and what was trained on labels.",
)

# %% [markdown]
# **In pretraining, no record made a difference that could be told.** Of all labels the probes find
# **0.71 [0.69, 0.73]** without a record, **0.72 [0.70, 0.74]** with the stay beside the anchor, as much with the
# stay of another patient, and **0.71 [0.69, 0.74]** with the labels of the image's own report. A record that tells
# little would be an excuse; `told` is the control that takes it away. The record stands at one side only: what it
# hints at, the anchor need not see, and what the target shows is not what it speaks of.
#
# **It can stand in the way of nats.** Public code leaves the fusion as it is drawn (`drawn`): then a random layer
# mixes the record into what the image says, and the views share **0.77** nats in the place of **1.81**. Of AUC no
# loss can be told.
#
# **256 pixels are a hard rival, and not for want of pixels.** They find **0.77 [0.75, 0.79]**; after 700 steps
# [CLS] lies below. Is it the patches? The tokens of a *random* ViT, read by place, come near. Is it crops without
# place? Read by place, MSN finds **0.78 [0.76, 0.80]**. Is it length? With wide crops [CLS] finds
# **0.72 [0.70, 0.74]** after 700 steps and **0.77 [0.75, 0.78]** after 2,000, and its tokens are beyond the
# pixels, **0.81 [0.80, 0.83]**. So place and length both count, with all labels. With 1 % of them it is the other
# way round: [CLS] has **0.63 [0.62, 0.65]** after 2,000 steps, its tokens **0.60 [0.59, 0.61]**, and pixels
# **0.55 [0.54, 0.56]**: many features need many labels. A network trained on all labels from scratch has
# **0.69 [0.67, 0.71]**, one that begins with MSN's weights **0.75 [0.73, 0.77]**.
#
# **Local MI** has as many images, and their reports. It must have learnt before it is compared: the defaults of
# the library are for long runs, and here it has the settings of chapter 7. It finds **0.16** nats between an image
# and a sentence in these few steps. Its [CLS] is as good as MSN's where all labels are there; of 1 % it makes
# **0.64 [0.62, 0.66]**, MSN **0.57 [0.56, 0.59]**, and in 2,000 steps what stands above. Sentences name what the
# labels ask for.
#
# ### Which claims hold?
#
# The test is that of chapter 10: variants swapped patient by patient ("networks"), and with the seeds drawn
# as the patients are ("method"); Holm's correction over the rows.

# %%
CLAIMS = {
    "stay > no record": ("stay", "none"),
    "stay > another patient's": ("stay", "other"),
    "sex and age > no record": ("demographic", "none"),
    "scan > no record": ("scan", "none"),
    "labels > no record": ("told", "none"),
    "no record > stay fused as drawn": ("none", "drawn"),
    "trained prototypes > frozen": ("none", "frozen"),
    "mended > published": ("stay", "published"),
    "MSN > DINO": ("none", "dino"),
    "MSN > MAE": ("none", "mae"),
    "MSN > random ViT": ("none", "random ViT"),
    "MSN > 16 x 16 pixels": ("none", "16 x 16 pixels"),
    "wide crops > its own": ("wide", "none"),
    "longer > 700 steps": ("long", "wide"),
    "longer > 16 x 16 pixels": ("long", "16 x 16 pixels"),
    "the same by place": ("long" + BY_PLACE, "16 x 16 pixels"),
    "local MI > MSN, by place": ("local-mi" + BY_PLACE, "none" + BY_PLACE),
}

# %%
from localmi.statistics import holm

claims = {name: pair for name, pair in CLAIMS.items() if {*pair} <= {*probed}}
tests = {}
for claim, pair in claims.items():
    first, second = (stored(probed[name], shares[0]) for name in pair)
    count = min(len(first[0]), len(second[0]))  # seeds of both
    tests[claim] = classification.compare(
        first[1],
        first[0][:count],
        second[0][:count],
        *first[2:],
        permutations=1000,
        resamples=500,
    )

# %%
p_networks = holm([one.p_value for one in tests.values()])
p_method = holm([one.p_method for one in tests.values()])
table = pd.DataFrame(
    {"difference of the AUC": [f"{one.difference.value:+.3f}" for one in tests.values()]}, list(tests)
)
for what, field in {"networks": "difference", "method": "method"}.items():
    spans = [getattr(one, field) for one in tests.values()]
    table[f"95 %, {what}"] = [f"[{one.low:+.3f}, {one.high:+.3f}]" for one in spans]
table["p networks, Holm"], table["p method, Holm"] = p_networks, p_method
table.round(3)

# %%
if "stay > another patient's" in tests:  # a grid of one's own may leave it out
    control = tests["stay > another patient's"].method
    print(f"another patient's stay instead: {control.low:+.3f} to {control.high:+.3f};", end=" ")
    print("within .01:", -0.01 < control.low and control.high < 0.01)

# %% [markdown]
# The paper reports that a record helps, sex and age most, by two hundredths of AUC. What can be excluded here? That
# it matters whose stay it is, by .01. For sex and age and for the labels the intervals reach past .02; and sex and
# age tell nothing here, by construction: of a hospital where they do, this says nothing. How the image was made
# comes nearest, **[+0.002, +0.020]**, which the correction over the rows does not leave standing.
#
# Read the two columns of $p$ together. "Networks" asks whether *these* networks differ; there the mended recipe
# beats the published one (which differs in five things), and MSN beats DINO and MAE. "Method" asks whether other
# seeds would say so, and three seeds rarely can. What stands is that [CLS] of MSN is above that of a random network
# and, after 700 steps, below 256 pixels; that longer training helps; and that the tokens of the long run, read by
# place, are above the pixels. Prototypes that never learn, the fault of section 5, cost no AUC that could be told.

# %% [markdown]
# ## 9 Does it travel?
#
# A record is what a hospital *does*. Somewhere else intensive care is short of beds, and the sick go
# elsewhere; then the same variable tells the opposite. Our second hospital has the same patients' findings
# and images drawn by the same rules, fewer AP views, no confounding, and a stay that findings make shorter
# and milder:

# %%
elsewhere = PhantomConfig(
    seed=11, ap_view=0.2, confounded=False, record_reversed=True
)
for name in ("edema", "support_devices", "pneumothorax"):
    here, there = (record_auc(one, name, "stay") for one in (hospital, elsewhere))
    print(f"{name:16} AUC of its own record: {here:.2f} here, {there:.2f} there")
print(f"nats of the stay: {nats['stay']:.3f} here, {true_record_mi(elsewhere, 'stay'):.3f} there")

# %% [markdown]
# Both records tell something of their own patients. What was learnt here is used there:

# %%
second = second_dir or (f"{own.name}/second" if truth else "")
if truth and not second_dir:
    write_study(Path(second), elsewhere, second_patients, fractions=(0.2, 0.2, 0.6))
there = load_study(second, image_size=image_size, records_dir=second) if second else None
if there:
    labels = DownstreamConfig.checked(init=inits[method], **kind)
    others = labelled_images(there, labels, splits=["test"])
    seen_there = features_of(there, others)
    known_there = others["test"].targets, others["test"].rows["patient_id"], others["test"].mask

# %%
moved = {}
for name in (method, "record alone", f"{method} and record") if there else ():
    if name in seen_there:
        tested = seen[max(fractions)][name] | {"test": seen_there[name]["test"]}
        moved[name] = fit_probe(task, tested, parts).probabilities
rows = {
    name: [str(measures[max(fractions), name].mean_auc), str(measured(scores, *known_there).mean_auc)]
    for name, scores in moved.items()
}
pd.DataFrame.from_dict(rows, orient="index", columns=["trained and tested here", "tested there"])

# %% [markdown]
# So much for a few steps. What the long runs say, mean of three seeds:

# %%
MOVED = {
    "images alone": ("none", "msn"),
    "the stay in pretraining": ("stay", "msn"),
    "images alone; the classifier reads the stay": ("none", "msn and record"),
    "the stay alone": ("none", "record alone"),
}
columns = {"trained and tested here": True, "tested there": False}
pd.DataFrame(
    {
        column: {
            name: str(measured(*stored(which, shares[0], here), resamples=200).mean_auc)
            for name, which in MOVED.items()
            if which[0] in variants
        }
        for column, here in columns.items()
    }
)

# %% [markdown]
# The stay alone falls below chance there: what it had learnt was a habit of this hospital. A classifier that reads
# it beside the image finds more here and less there than one without (their intervals overlap). One that reads
# the image alone lost nothing, whether the stay stood beside it in pretraining or not. It needs no record; but a
# record may still teach it features of the image that stand for a habit, and then it can lose.
#
# ## 10 When is a record known?
#
# The public system joins an image with *the* stay that it was made in: whether the patient died in it, and
# how long it was. Neither is known when the image is made. Suppose a classifier is to be used then. What
# remains of the length is the time since admission:

# %%
from localmi.phantom.latents import num_studies, study_time
from localmi.phantom.record import sample_stay

rows = []
for patient in range(6000):
    for number in range(num_studies(hospital, patient)):
        study = sample_study(hospital, patient, number)
        if stay := sample_stay(hospital, study):
            so_far = (study_time(hospital, patient, number) - stay.begins).total_seconds() / 86_400
            whole = (stay.ends - stay.begins).total_seconds() / 86_400
            rows.append([len(study.present), stay.symbol.died, whole, so_far])
stays = pd.DataFrame(rows, columns=["findings", "died", "whole", "so far"])


# %%
def about_findings(column):  # nats of how many findings there are
    return my_information(pd.crosstab(stays["findings"], column).to_numpy())


for name in ("whole", "so far"):
    days = pd.cut(stays[name], [0, 2, 5, 10, np.inf], right=False)
    print(f"length {name:6} {about_findings(days):.3f} nats")
print(f"died          {about_findings(stays['died']):.3f} nats")

# %% [markdown]
# (Of how many findings there are, of those admitted: hence not section 1's numbers.) A share of what
# the length tells is knowledge of the future, and all of what death tells is. For *pretraining* that is no fault:
# the record is not read afterwards, and the more it tells of the image the better. For a classifier that reads it,
# it is a leak, and no split by patients finds it.
#
# **What could go wrong**: to join by date. Whoever was admitted in the evening had no stay in the morning;
# the public code says he had.
#
# ## 11 What does a report tell that a record does not?
#
# Of the findings that are present, $H(X)$ is all there is to tell. What else a report has, the side, the
# size, is no part of $X$ at all:

# %%
from localmi.phantom.truth import state_distribution

_, probability = state_distribution(hospital)
entropy = -(
    probability * np.log(probability, where=probability > 0, out=np.zeros_like(probability))
).sum()
told = {"which findings are present, H(X)": entropy, "a whole stay": nats["stay"]}
told |= {"one sentence, of X": true_mi(hospital, attributes={})}
told |= {"a report, of X": true_mi(hospital, "report", {})}
told |= {"a report, of X and attributes": true_mi(hospital, "report")}
for name, value in told.items():
    print(f"{name:34} {value:.3f} nats")

# %% [markdown]
# One sentence tells **0.631** nats of $X$, this stay **0.163**; and *where* a finding is no stay tells at all. A
# record is cheap, and most images have one: that is its whole advantage.

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** The record tells .163 nats of the findings, sex and age 0. A paper's gain is largest with
# sex and age. Here that would be ...
#
# <details><summary>impossible.</summary>
#
# **No.** A gain may have many reasons; that the record tells of findings is not one of them here.
#
# </details>
# <details><summary>proof that nats are the wrong measure.</summary>
#
# **No.** They bound what a record can *tell*, not what a training run does.
#
# </details>
# <details><summary>a gain with another reason than disease.</summary>
#
# **Right.** The images show sex; noise, another start or a more stable training are reasons, too. Ask the
# control.
#
# </details>
#
# **Question 2.** Why does no masked anchor of the public code ever show the last patch of its crop?
#
# <details><summary>It is always masked at random.</summary>
#
# **No.** At random it would be seen most of the time.
#
# </details>
# <details><summary>The image is cropped there.</summary>
#
# **No.** Crops move from image to image.
#
# </details>
# <details><summary>Indices are drawn from one less than there are tokens.</summary>
#
# **Right.** [CLS] is token 0; the last patch is token `patches`, and the list ends one before it.
#
# </details>
#
# **Question 3.** The prototypes are passed as `model.prototypes.data`. What happens?
#
# <details><summary>An error: a parameter is expected.</summary>
#
# **No.** Nothing is raised, which is why nobody noticed.
#
# </details>
# <details><summary>They stay as they were drawn; the loss falls all the same.</summary>
#
# **Right.** The networks learn to use random directions.
#
# </details>
# <details><summary>They learn, more slowly.</summary>
#
# **No.** No gradient reaches them at all.
#
# </details>
#
# **Question 4.** All images are assigned wholly to one and the same prototype. What do the terms of the loss say?
#
# <details><summary>The entropy of the mean is 0, and so are the nats: nothing was found.</summary>
#
# **Right.** Agreement without difference is no information.
#
# </details>
# <details><summary>The cross entropy is large.</summary>
#
# **No.** It is 0 at best: everybody agrees.
#
# </details>
# <details><summary>The loss is not a number.</summary>
#
# **No.** It looks fine, if one looks at the cross entropy alone.
#
# </details>
#
# **Question 5.** A classifier reads the record and scores higher. Then it is used in another hospital.
# What do you expect?
#
# <details><summary>The same gain: disease is disease.</summary>
#
# **No.** The stay is not the disease.
#
# </details>
# <details><summary>It may fall below the one that reads the image alone.</summary>
#
# **Right.** A record is what a hospital *does*.
#
# </details>
# <details><summary>No gain and no loss.</summary>
#
# **No.** It has learnt to rely on it.
#
# </details>
#
# **Question 6.** Length of stay is read beside the image. What is the leak?
#
# <details><summary>It is known only after the patient has left.</summary>
#
# **Right.** A part of what it tells is the future; death is all future. No split by patients finds it.
#
# </details>
# <details><summary>It is correlated with age.</summary>
#
# **No.** Correlated is not leaked.
#
# </details>
# <details><summary>It identifies the patient.</summary>
#
# **No.** That is another matter.
#
# </details>

# %% [markdown]
# ## Key points
#
# - What a record tells of the findings has an answer in nats: here **0.163** for a stay, 0 for sex and age. It
#   bounds what the record adds to an image where the two depend on each other through the findings alone.
# - Views are the supervision of a siamese network: what they share is learnt. Prototypes, sharpening,
#   Sinkhorn and the mean entropy keep it from saying the same of all.
# - Its loss, with the sign turned, is nearly a bound of Barber and Agakov on the information between views.
# - In pretraining no record made a difference that could be told, nor did the labels themselves; length did, and
#   where the features are read.
# - A record that is read in pretraining alone leaves an image encoder that needs none; a classifier that
#   reads it takes the habits of its hospital along.
# - Ask when each number is known.
#
# ## References
#
# - Shurrab et al. 2024, Multimodal masked siamese network improves chest X-ray representation learning,
#   Scientific Reports 14. <https://doi.org/10.1038/s41598-024-74043-x>; the public code:
#   <https://github.com/nyuad-cai/CXR-EHR-MSN>
# - Assran et al. 2022, Masked siamese networks for label-efficient learning, ECCV.
#   <https://doi.org/10.48550/arXiv.2204.07141>
# - Caron et al. 2021, Emerging properties in self-supervised vision transformers (DINO), ICCV.
#   <https://doi.org/10.48550/arXiv.2104.14294>
# - He et al. 2022, Masked autoencoders are scalable vision learners, CVPR.
#   <https://doi.org/10.48550/arXiv.2111.06377>
# - Barber and Agakov 2003, The IM algorithm: a variational approach to information maximization, NeurIPS.

# %% [markdown]
# What a run leaves beside its record: what the probes say of every test image, and its nats over the steps.
# Section 8 compares runs by them.

# %%
from localmi.downstream import predictions_of

if run_dir:
    left = {(*which, True): (parts["test"], scores) for which, scores in said.items()}
    left |= {
        (max(fractions), name, False): (others["test"], scores) for name, scores in moved.items()
    }
    rows = [
        predictions_of(task, part, scores)
        .table()
        .drop(columns=["image_id", "study_id"])
        .assign(features=name, fraction=fraction, here=here)
        for (fraction, name, here), (part, scores) in left.items()
    ]
    pd.concat(rows).to_csv(f"{run_dir}/by_image.csv", index=False, float_format="%.3g")
    seen_steps, value = (np.asarray(column) for column in log.column("training"))
    steps_of = pd.DataFrame({"step": seen_steps, "training": value}).groupby(seen_steps // 20)
    steps_of.mean().to_csv(f"{run_dir}/by_step.csv", index=False, float_format="%.4g")

# %% tags=["record"]
from localmi.record import Result, record_metrics

results = {}
for (share, name), one in measures.items():
    results[f"auc {name} at {share:g}"] = Result(one.mean_auc, "test", {"chance": 0.5})
    results[f"auprc {name} at {share:g}"] = Result(one.mean_auprc, "test", {"chance": positives})
if found:
    results |= {
        f"{reader} nats": Result(found.nats(reader), "test", {"cap": found.cap})
        for reader in found.cross_entropy
    }
if from_reports:
    beside = {"shuffled": of_reports.shuffled.bound.value}
    results["image and sentence nats"] = Result(of_reports.held_out.bound, "test", beside)
record_metrics(results, data=cache.describe(), run_dir=run_dir)
