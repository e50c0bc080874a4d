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
# # 8 Downstream tasks: from an encoder to a classifier, and to a claim
#
# **You will be able to** say which labels count and write the loss that leaves out the others; name
# what "frozen" freezes; cut the labels down by patient; choose a model without looking at the test
# set; compute an AUC with an interval over patients; test whether one model beats another; and tell
# a probability from a score.
#
# **Before this**: [radiographs and reports](05_radiographs_and_reports.ipynb) (labels and policies,
# section 7), [training by local MI](07_train_local_mi.ipynb) for what `init` names. Nothing of mutual
# information is needed.
# **Reading time**: 45 minutes.
# **Run time**: 1 minute on 2 cores at these defaults; a GPU is used where there is one.
# **Memory**: 1.5 GB.
# **Data**: the example study, or your own by `data_dir`.
#
# One execution of this notebook is one downstream run: one task, one start, one mode, one fraction
# of the labels, one seed. The tables of chapter 10 are made of many. At its defaults it trains the
# paper's *image-only* model, with no pretraining at all, for a few epochs on small images. Set
# `init` to the `checkpoint.pt` of a run of chapter 7, and it is one of the other eight variants.
# Sections 5, 6, 8, 9 and 10 go on with what sections 1 and 4 have read and trained.

# %% tags=["setup"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from localmi.course import COLOURS, PALETTE, check, set_up, show

set_up()

# %% tags=["parameters"]
task = "pathology9"  # pathology9, chexpert14 or edema
init = ""  # checkpoint of an encoder, "random" is random weights, "" starts anew: image-only
mode = "tuned"  # tuned, frozen or probe; the last two need init
fraction = 1.0  # of the training patients whose labels are used
label_policy = "explicit"  # what uncertain and blank labels count as
compare = "random"  # "random" is a probe of random weights, "" nothing, else another run's folder
epochs = 8  # looks at the validation split
batch_size = 32  # images a step
learning_rate = 0.002  # of all that is trained
image_size = 64  # pixels a side
seed = 0  # of new weights, the order, and which patients are a fraction
data_dir = ""  # folder of a study or a CSV of pairs, "" is the example study
cache_dir = ""  # where decoded images are kept, "" is beside the data
run_dir = ""  # where results are kept, "" keeps nothing
further: dict = {}  # any other field of localmi.downstream.config.DownstreamConfig

# %% [markdown]
# ## 1 What are the two tasks, and which labels count?
#
# **Pathology9**: which of nine findings does an image show? The labels come from the report, by
# rules (CheXpert's): 1 is present, 0 absent, −1 uncertain, blank not mentioned. **EdemaSeverity**:
# how severe is the edema, 0 to 3? Both tasks ask the image alone; the report has done its work.
#
# What counts is a choice, the *policy*. The paper does not state its own, but the sizes in its
# Table 1 fit "explicit": only a 1 and a 0 count.

# %%
from localmi.data import PATHOLOGY9, POLICIES, SEVERITIES, label_targets
from localmi.downstream import DownstreamConfig
from localmi.study import load_study

config = DownstreamConfig.checked(
    task=task,
    init=init,
    mode=mode,
    fraction=fraction,
    label_policy=label_policy,
    epochs=epochs,
    batch_size=batch_size,
    learning_rate=learning_rate,
    image_size=image_size,
    seed=seed,
    **further,
)
cache = load_study(data_dir, cache_dir, image_size=image_size)
manifest = cache.manifest

# %%
codes = pd.Series([1, 0, -1, np.nan], ["present", "absent", "uncertain", "blank"])
counted = {}
for name in POLICIES:
    targets, mask = label_targets(codes, name)
    counted[name] = [f"{t:.0f}" if m else "–" for t, m in zip(targets, mask, strict=True)]
pd.DataFrame(counted, codes.index).T

# %% [markdown]
# A dash is a label that does not count: no target, no loss, no part in an AUC. How much is that?

# %%
findings = [name for name in PATHOLOGY9 if name in manifest]
train_labels = manifest.loc[manifest["split"] == "train", findings]
states = {"present": 1, "absent": 0, "uncertain": -1}
shares = {name: (train_labels == code).mean() for name, code in states.items()}
shares["blank"] = train_labels.isna().mean()
figure, axes = plt.subplots(figsize=(8, 3.8))
left = np.zeros(len(findings))
for (name, share), colour in zip(shares.items(), (PALETTE[1], PALETTE[0], PALETTE[6], "#DDDDDD"), strict=True):
    axes.barh(findings, share, left=left, color=colour, label=name)
    left = left + share.to_numpy()
axes.set(xlabel="share of the training images", xlim=(0, 1))
axes.invert_yaxis()
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
show(
    figure,
    alt="Bars of the nine findings: shares of images where the report says present, absent, "
    "uncertain or nothing. About half of the labels are blank.",
    caption="Figure 8.1: what the reports say of each finding, in training.",
)

# %%
for name in [name for name in SEVERITIES if name in manifest]:
    grades = manifest.groupby("split")[name].value_counts().unstack(fill_value=0).astype(int)
    print(f"images by grade: {name}\n{grades.rename(columns=int).to_string()}\n")

# %% [markdown]
# Edema is trained on grades that come from reports and tested on what radiologists agreed on when
# they looked at the image (`consensus`); grades are rarer than labels, and the severe ones rarest.
#
# The loss of Pathology9 has one term an image and finding, and only those that count:
#
# $$L = \frac{\sum_{b,c} m_{bc}\,\mathrm{BCE}(s_{bc}, t_{bc})}{\sum_{b,c} m_{bc}}$$
#
# with scores $s$, targets $t$ and mask $m$ of batch and classes. For edema it is the cross-entropy
# of a softmax over the four grades. Both are choices of ours: the paper does not say whether one
# network answers for all nine findings, nor how ordered grades are trained (a softmax does not know
# that 3 is nearer to 2 than to 0). What does the mask do? A label that does not count pulls at
# nothing:

# %%
from localmi.downstream import task_loss

scores = torch.zeros(1, 3, requires_grad=True)  # one image, three findings
targets, mask = label_targets([[1, 0, np.nan]], "explicit")
task_loss("pathology9", scores, torch.tensor(targets), torch.tensor(mask)).backward()
print("the step that each score is asked for:", (0 - scores.grad).tolist()[0])

# %% [markdown]
# **What could go wrong**: a blank that is silently read as 0. The network then learns what reports
# *mention*, which is another thing than what images show, and it is tested on the same mistake.
#
# ### Exercise 8.1
#
# Write the masked loss from scores `[B, C]`, targets and mask. (`torch.nn.functional` has
# `binary_cross_entropy_with_logits`, with `reduction="none"`.)

# %%
def my_loss(scores, targets, mask):  # [B, C] each -> one number
    ...


check.exercise_8_1(my_loss)

# %% jupyter={"source_hidden": true} tags=["solution"]
from torch.nn import functional


def my_loss(scores, targets, mask):  # [B, C] each -> one number
    each = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    return (each * mask).sum() / mask.sum()


check.exercise_8_1(my_loss)

# %% [markdown]
# ## 2 Who may be learnt from?
#
# The patients of *either* test set are in no training, neither of the encoder nor of the classifier
# (paper, Sec. 4). Not their images: the patients. Two images of one person share ribs, a pacemaker,
# a scar; a network that has seen the one recognises the other. Three rows show two ways to break
# the rule, and what the course says to each before anything is trained.

# %%
from localmi.data import check_test_patients
from localmi.errors import StudyLeakError

three = pd.DataFrame({"patient_id": ["A", "A", "B"], "split": ["test", "train", "train"]})
three = three.assign(study_id=["s1", "s2", "s3"], image_id=["i1", "i2", "i3"])
moved = three.replace({"split": {"test": "train"}})  # now A is in training alone ...
moved["edema_severity_consensus"] = [2.0, np.nan, np.nan]  # ... with a grade that is for testing
for case in (three, moved):
    try:
        check_test_patients(case)
    except StudyLeakError as error:
        print(f"{type(error).__name__}: {error}\n")
check_test_patients(manifest)
print("this study: no test patient in training or validation")

# %% [markdown]
# The second question is *how many* labels. Pretraining promises most where labels are few, so a run
# can have a fraction of them (the paper uses all; chapter 10 compares all and 1 %). It is one of
# patients too, drawn by a hash of patient and seed, and a small one is part of the larger: so all
# variants of a seed learn from the same people, and fewer labels are never other labels.
#
# $$P_{.01} \subset P_{.1} \subset P_1, \qquad |P_f| = f\,|P_1|$$

# %%
from localmi.downstream import CLASSES, labelled_images, nested_share

rows, chosen = [], {}
for share in (1.0, 0.1, 0.01):
    part = labelled_images(cache, config.model_copy(update={"fraction": share}))["train"]
    chosen[share] = set(part.rows["patient_id"])
    positive = (part.targets * part.mask).sum(axis=0).astype(int)
    rows.append([len(chosen[share]), len(part), *positive])
assert chosen[0.01] <= chosen[0.1] <= chosen[1.0]
assert chosen[0.1] == nested_share(chosen[1.0], 0.1, seed)
classes = [f"grade {grade}" for grade in range(4)] if task == "edema" else CLASSES[task]
table = pd.DataFrame(rows, ["100 %", "10 %", "1 %"], ["patients", "images", *classes])
table.T.rename_axis("labelled")

# %% [markdown]
# At 1 % of the example study a finding may have no positive image left. A classifier cannot learn
# what it never sees; its AUC there is that of chance or of a correlated finding, and must not be
# held against the method. This is why the grid of chapter 10 uses a larger study. And a fraction is
# of the *training* labels alone: the validation split keeps all of its own, so whoever trains on 1 %
# still chooses the epoch by far more labels than that, in every variant alike.
#
# **What could go wrong**: 1 % of the *images*. Nearly every one of them would come from another
# patient, and tell more than the second image of the same one: the same words, "1 % of the labels",
# for a richer set.
#
# ## 3 What is frozen?
#
# All variants have the same network, six blocks and one linear layer `fc1`. They differ in how it
# starts and in what is trained:
#
# | variant | starts from | trained |
# |---|---|---|
# | image-only | nothing | all |
# | tuned | pretrained blocks | all |
# | frozen | pretrained blocks | block 6 and `fc1` (and what was not pretrained) |
# | probe | pretrained blocks | one logistic regression a finding |
#
# Global MI trains six blocks, local MI five (its regions are block 5). So that both are treated
# alike, the paper freezes the same five in both. How much of the network is that?

# %%
from localmi.downstream import initial_encoder
from localmi.model import Classifier, build_backbone

encoder = initial_encoder(config)
architecture = encoder.architecture if encoder else config.image_encoder or "resnet256_6_2_1"
torch.manual_seed(seed)
backbone = build_backbone(architecture, image_size=image_size, num_classes=len(classes))
last = backbone.num_blocks - 1  # that is frozen: 5
network = Classifier(backbone, frozen_blocks=last)
if encoder:
    network.load_blocks(encoder.weights)
sizes = [(part.numel(), part.requires_grad) for part in network.parameters()]
total, trained = sum(n for n, _ in sizes), sum(n for n, free in sizes if free)
print(f"{total:,} weights, of which {trained:,} are trained: {trained / total:.0%}")

# %% [markdown]
# "Frozen" leaves most of the weights free: block 6 alone outweighs the five before it. A frozen
# variant is a small network on fixed features, not a linear one; what can be read off *linearly* is
# the probe's answer.
#
# Weights are not all that a network keeps. BatchNorm has a running mean and variance, which move in
# every forward pass in training mode, without any gradient. Below, all five blocks have
# `requires_grad=False` and no step is taken; we only let 64 images through.

# %%
import copy

from localmi.data import normalise

pixels = normalise(torch.from_numpy(cache.images[:64]))  # [64, 1, H, W]


@torch.no_grad()
def change(into_training):  # how to switch to training mode -> relative change of block 5
    net = copy.deepcopy(network).eval()
    before = net.block(pixels, last)
    into_training(net)
    for batch in pixels.split(16):
        net(batch)
    return ((net.eval().block(pixels, last) - before).norm() / before.norm()).item()


as_torch_does, as_we_do = change(torch.nn.Module.train), change(Classifier.train)
print("torch's own train():", "the features have changed" if as_torch_does > 0.1 else "as before")
print("Classifier.train(): ", "the features have changed" if as_we_do > 0 else "as before, to the bit")

# %% [markdown]
# So frozen blocks stay in `eval()` mode. Then their output for an image never changes, and may be
# computed once and stored: an epoch of a frozen variant costs a fraction of a tuned one.

# %%
network.train()
with torch.no_grad():
    stored = network.frozen_features(pixels)  # [64, 128, H / 32, W / 32], once
    network.eval()
    assert torch.allclose(network.trained_scores(stored), network(pixels), atol=1e-5)
print("block 5 of one image:", list(stored.shape[1:]))

# %% [markdown]
# **What could go wrong**: freezing what was never pretrained. With encoders of chapter 7's small
# profile, whose regions are block 4, no more than four blocks are frozen; the fifth would be random
# weights. And alike is not equal: block 6 is trained in both, but that of a global encoder starts
# pretrained, that of a local one anew.
#
# ## 4 Which epoch is the model?
#
# A classifier on few labels overfits within a few epochs. The paper trains 50 (image-only: 100) and
# does not say which it takes. Here the epoch with the best mean AUC on the *validation* patients is
# the model; then it predicts the test split, once.

# %%
from localmi.downstream import run_downstream

folder = Path(run_dir) if run_dir else None
run = run_downstream(cache, config, folder / "downstream" if folder else None)
mean_auc = run.metrics["auc mean"].interval
print(run.encoder)
print("ok: mean AUC above .5" if mean_auc.low > 0.5 else "mean AUC: not above .5 for sure")

# %% tags=["nbval-ignore-output"]
print("chosen on validation:", {name: round(value, 4) for name, value in run.chosen.items()})
print(f"validation {run.validation_auc:.2f}, test {mean_auc}")

# %%
if run.history:
    table = pd.DataFrame(run.history)
    figure, grid = plt.subplots(1, 2, figsize=(9, 3.2))
    grid[0].plot(table["step"], table["train_loss"], "o-", color=COLOURS["training"])
    grid[0].set(xlabel="epoch", ylabel="training loss")
    grid[1].plot(table["step"], table["validation_auc"], "o-", color=COLOURS["held-out"])
    grid[1].axvline(run.chosen["epoch"], color=COLOURS["other"], label="chosen")
    grid[1].axhline(0.5, color=COLOURS["truth"], linestyle="--", label="chance")
    grid[1].set(xlabel="epoch", ylabel="validation AUC (mean)")
    grid[1].legend(loc="upper left")
    show(
        figure,
        alt="Left: the training loss falls with every epoch. Right: the mean validation AUC rises "
        "and wavers; its best epoch is marked.",
        caption="Figure 8.2: the loss keeps falling; the validation split says when to stop.",
    )

# %% [markdown]
# **What could go wrong**: at 1 % of the labels an epoch is a single step, and fifty epochs fifty
# steps. Set `steps_per_epoch`, so that few labels do not also mean little training. The other
# classic is choosing by the test set. Let us see what that is worth, with models that
# know *nothing*: 50 epochs of random scores, 100 test images, 30 of them positive; repeated 400
# times. True AUC: one half, whatever is chosen. (The epochs of one training are more alike than
# these; so this is the worst case.)

# %%
def no_skill(rng):  # -> AUC [400 repetitions, 50 epochs]
    ranks = rng.random((400, 50, 100)).argsort(axis=-1).argsort(axis=-1) + 1
    return (ranks[..., :30].sum(axis=-1) - 30 * 31 / 2) / (30 * 70)


rng = np.random.default_rng(seed)
validation, test = no_skill(rng), no_skill(rng)
by_test = test.max(axis=1)
by_validation = np.take_along_axis(test, validation.argmax(axis=1)[:, None], axis=1)[:, 0]
print(f"reported on the test set, chosen on validation: {by_validation.mean():.2f}")
print(f"reported on the test set, chosen on the test set: {by_test.mean():.2f}")
print(f"the validation AUC of the chosen epoch: {validation.max(axis=1).mean():.2f}")

# %%
figure, axes = plt.subplots(figsize=(7, 3.2))
bins = np.linspace(0.3, 0.75, 46)
axes.hist(by_validation, bins, color=COLOURS["held-out"], alpha=0.7, label="chosen on validation")
axes.hist(by_test, bins, color=COLOURS["shuffled"], alpha=0.7, label="chosen on the test set")
axes.axvline(0.5, color=COLOURS["truth"], linestyle="--", label="the truth")
axes.set(xlabel="AUC that is reported", ylabel="repetitions")
axes.legend()
show(
    figure,
    alt="Two histograms: reported AUCs of models that know nothing. Chosen on validation they lie "
    "around one half, chosen on the test set all lie above it.",
    caption="Figure 8.3: models that know nothing, chosen in two ways.",
)

# %% [markdown]
# For the same reason the validation AUC of the chosen epoch is not a result.
#
# ## 5 What must it beat?
#
# A network with *random* weights is already a bank of filters. A logistic regression on its output
# needs no pretraining, no gradient through the network, and a minute; whoever claims that an
# encoder has learnt something must beat it. The probe takes the last block, pooled to $2 \times 2$,
# standardised by the training images:
#
# $$p_c = \sigma(w_c \cdot z + b_c), \qquad
# \min_{w, b}\; \tfrac12 \lVert w_c\rVert^2 + C \sum_i \mathrm{BCE}_i$$
#
# where $C$ is chosen on the validation patients, for each finding.

# %%
from localmi.downstream import (
    Finetuning, PretrainedEncoder, fit_probe, predictions_of, read_predictions,
)

other, other_name = None, Path(compare).name  # the predictions that this run is compared with
if compare == "random":
    torch.manual_seed(seed)
    fresh = build_backbone(architecture, image_size=image_size)
    weights = {k: v for k, v in fresh.state_dict().items() if not k.startswith("fc1")}
    untrained = PretrainedEncoder(weights, fresh.num_blocks, architecture)
    anew = {"mode": "probe", "init": "random", "region_context": "image", "augment": False}
    parts = labelled_images(cache, config)
    frozen = config.model_copy(update=anew)
    probing = Finetuning(cache, frozen, parts, untrained)
    features = {split: probing.features(split) for split in parts}  # [n, 768] each
    fitted = fit_probe(task, features, parts)
    other = predictions_of(task, parts["test"], fitted.probabilities)
    other_name = "probe of random weights"
elif compare:
    other = read_predictions(Path(compare).expanduser() / "downstream" / "predictions.parquet")

# %% [markdown]
# Written out for the first finding, with the $C$ that was chosen:

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

if compare == "random" and task == "pathology9":
    labelled = parts["train"].mask[:, 0]
    target = parts["train"].targets[labelled, 0]
    if len(np.unique(target)) == 2:
        scale = StandardScaler().fit(features["train"][labelled])
        strength = fitted.chosen[f"C {PATHOLOGY9[0]}"]
        mine = LogisticRegression(C=strength, max_iter=2000)
        mine.fit(scale.transform(features["train"][labelled]), target)
        found = mine.predict_proba(scale.transform(features["test"]))[:, 1]
        assert np.allclose(found, other.probabilities[:, 0], atol=1e-6)
        print("the written-out probe agrees with the library's")

# %% tags=["nbval-ignore-output"]
if compare == "random":
    print(f"{other_name}: validation AUC {fitted.validation_auc:.2f}, chosen:")
    print(dict(fitted.chosen))

# %% [markdown]
# Seven values of $C$ were tried for each finding, so this validation AUC flatters; section 6 has the
# test.
#
# **What could go wrong**: features standardised by all images, test included; a $C$ left at its
# default, which on hundreds of features and few images overfits; random weights in *training* mode,
# whose BatchNorm makes a feature depend on the neighbours in its batch.
#
# ## 6 How well does it tell images apart?
#
# The AUC is the chance that an image with the finding scores above one without:
#
# $$\mathrm{AUC} = P(s_+ > s_-) + \tfrac12 P(s_+ = s_-)
# = \frac{R_+ - n_+(n_+ + 1)/2}{n_+\,n_-}$$
#
# with $R_+$ the sum of the positives' ranks (mean ranks for ties). Half is a coin. It does not know
# the prevalence; the area under precision and recall (AUPRC) does, and a predictor that knows
# nothing gets the prevalence there, not one half.

# %%
from scipy.stats import rankdata

from localmi.downstream import auc_columns
from localmi.evaluate import EDEMA_TASKS, binary_metrics, multi_label_metrics


def columns(predictions):  # -> names [C]; targets, scores, mask: [n, C]
    labels = EDEMA_TASKS if task == "edema" else predictions.classes
    pair = [auc_columns(task, part) for part in (predictions.targets, predictions.probabilities)]
    return labels, *pair, predictions.mask[:, : len(labels)]


def auc_by_ranks(targets, scores):  # [n] each
    positive = int(targets.sum())
    ranks = rankdata(scores)[targets == 1].sum()
    return (ranks - positive * (positive + 1) / 2) / (positive * (len(targets) - positive))


# %%
labels, targets, scores, mask = columns(run.predictions)
patients = run.predictions.patients
column = int(mask.sum(axis=0).argmax())  # the finding with the most labelled images
y, s, who = (values[mask[:, column]] for values in (targets[:, column], scores[:, column], patients))
known = binary_metrics(y, s, who)
if np.isfinite(known.auc.value):
    assert abs(auc_by_ranks(y, s) - known.auc.value) < 1e-9
constant, alone = binary_metrics(y, 0 * s, who), binary_metrics(0 * y, s, who)
print(f"{labels[column]}: {known.number} labelled test images, {len(np.unique(who))} patients")
print(f"a constant predictor: {constant.auc.value:.1f}, {constant.note}")
print("without positives:", alone.note)

# %% [markdown]
# The interval resamples **patients**. Images of one patient are alike, so ten of them are not ten
# observations. How much does it matter? 60 patients with 4 images each, finding and score of the
# patient, a little noise an image:

# %%
from localmi.evaluate import weighted_statistics
from localmi.statistics import bootstrap

rng = np.random.default_rng(seed)
owner = np.repeat(np.arange(60), 4)
has = (rng.random(60) < 0.4)[owner]
guess = (rng.normal(size=60))[owner] + 0.3 * rng.normal(size=240) + 0.8 * has
statistic = weighted_statistics.auc(has, guess)
for name, groups in (("images", np.arange(240)), ("patients", owner)):
    interval = bootstrap(statistic, groups).interval
    print(f"over {name:8}: {interval}, width {interval.high - interval.low:.2f}")

# %% [markdown]
# The first interval is half as wide as it should be. Written out, the second is this: draw as many
# patients as there are, with replacement, take all their images, compute the AUC, repeat.

# %%
rng = np.random.default_rng(seed)
images_of = [np.flatnonzero(owner == patient) for patient in range(60)]
drawn = []
for _ in range(500):
    rows = np.concatenate([images_of[patient] for patient in rng.integers(60, size=60)])
    drawn.append(auc_by_ranks(has[rows], guess[rows]))
low, high = np.percentile(drawn, [2.5, 97.5])
assert abs(low - interval.low) < 0.03
assert abs(high - interval.high) < 0.03
print("the written-out interval agrees with the library's")

# %% [markdown]
# Here are all findings of this run, beside what it is compared with.

# %%
shown = {"this run": run.predictions} | ({other_name: other} if other else {})
found = {}
for name, predictions in shown.items():
    labels, targets, scores, mask = columns(predictions)
    found[name] = multi_label_metrics(targets, scores, predictions.patients, mask, names=labels)

# %%
figure, axes = plt.subplots(figsize=(8, 4.2))
for place, (name, metrics) in enumerate(found.items()):
    values = [metrics.tasks[label].auc for label in labels] + [metrics.mean_auc]
    height = np.arange(len(values)) + 0.25 * place
    for y, one in zip(height, values, strict=True):
        axes.plot([one.low, one.high], [y, y], color=PALETTE[place])
    axes.plot([one.value for one in values], height, "o", color=PALETTE[place], label=name)
axes.axvline(0.5, color=COLOURS["truth"], linestyle="--", label="chance")
axes.set(xlabel="AUC (test)", yticks=np.arange(len(values)) + 0.1, yticklabels=[*labels, "mean"])
axes.invert_yaxis()
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
show(
    figure,
    alt="Points with intervals: the AUC of each finding and their mean, for this run and for what "
    "it is compared with. The intervals are wide and mostly overlap.",
    caption="Figure 8.4: AUC with 95 % intervals over patients.",
)

# %% tags=["nbval-ignore-output"]
rows = {
    label: [str(one.auc), str(one.auprc), f"{one.prevalence:.2f}", one.number]
    for label, one in found["this run"].tasks.items()
}
pd.DataFrame(rows, ["AUC", "AUPRC", "AUPRC of chance", "images"]).T

# %% [markdown]
# **What could go wrong**: an AUC over nine findings pooled into one list. It then also counts pairs
# of *different* findings, and is high for a model that only knows which finding is common.
#
# ### Exercise 8.2
#
# Write the AUC by its first definition, over all pairs of a positive and a negative; without ranks, which
# `auc_by_ranks` has above.

# %%
def my_auc(targets, scores):  # [n] of 0 and 1, [n] -> one number
    ...


check.exercise_8_2(my_auc)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_auc(targets, scores):  # [n] of 0 and 1, [n] -> one number
    difference = scores[targets == 1][:, None] - scores[targets == 0]  # [positives, negatives]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


check.exercise_8_2(my_auc)

# %% [markdown]
# ## 7 How does a grade become three AUCs?
#
# Edema has four ordered grades, and an AUC needs two sides. The paper cuts between the grades, three
# times: 0 v 1-3, 0-1 v 2-3, 0-2 v 3. The score of a cut is the tail of the softmax,
#
# $$s_k = P(\text{grade} \ge k) = \sum_{j \ge k} p_j, \qquad k = 1, 2, 3.$$
#
# Its own class will not do: an image that is surely of grade 3 has $p_1 \approx 0$, and would be
# called healthy at the first cut. Simulated, with grades that a model sees through noise:

# %%
from localmi.evaluate import edema_metrics, edema_targets

rng = np.random.default_rng(seed)
grades = rng.choice(4, size=400, p=[0.55, 0.15, 0.15, 0.15])
seen = grades + 0.8 * rng.normal(size=400)
weight = np.exp(-((seen[:, None] - np.arange(4)) ** 2))
softmax = weight / weight.sum(axis=1, keepdims=True)  # [400, 4]
measured = edema_metrics(grades, softmax, np.arange(400))
sides, _ = edema_targets(grades)  # [400, 3]
for k, name in enumerate(EDEMA_TASKS):
    own = auc_by_ranks(sides[:, k], softmax[:, k + 1])
    print(f"{name:8} by the tail {measured.tails.tasks[name].auc.value:.2f}, by p_{k + 1} {own:.2f}")
print(f"quadratic kappa {measured.kappa}")

# %% [markdown]
# At the last cut the two are one and the same. Kappa counts how far the likeliest grade is from the
# true one; it needs a decision, an AUC does not.
#
# **What could go wrong**: three networks, one a cut. Their probabilities need not be ordered, and an
# image may be "at least 2" more surely than "at least 1"; tails of one softmax are ordered always.
#
# ### Exercise 8.3
#
# Write the three tails of a softmax.

# %%
def my_tails(softmax):  # [n, 4] -> [n, 3]
    ...


check.exercise_8_3(my_tails)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_tails(softmax):  # [n, 4] -> [n, 3]
    return np.stack([softmax[:, k:].sum(axis=1) for k in (1, 2, 3)], axis=1)


check.exercise_8_3(my_tails)

# %% [markdown]
# ## 8 Is one model better than another?
#
# The paper says that local MI "significantly improves" on the image-only model, and shows no test.
# Two intervals that overlap say little, for both models saw the **same** patients: hard images are
# hard for both, and that cancels in the difference. Simulated, 100 patients:

# %%
from localmi.evaluate import classification

rng = np.random.default_rng(seed)
has = np.arange(100) % 3 == 0
hardness = rng.normal(size=100)  # shared by both models
first = 1.2 * has + hardness + 0.2 * rng.normal(size=100)
second = 0.8 * has + hardness + 0.2 * rng.normal(size=100)
for name, model in (("first", first), ("second", second)):
    print(f"AUC of the {name:6} {binary_metrics(has, model, np.arange(100)).auc}")
test = classification.compare(has, first, second, np.arange(100))
print(f"difference        {test.difference}, p = {test.p_value:.4f}")

# %% [markdown]
# The intervals overlap almost wholly, and the difference is sure. The test behind $p$: if the two
# models were alike, it would not matter which of them a patient's predictions came from. So swap
# the two, patient by patient, by a coin, many times ($R$), and count how often the difference
# becomes as large as it is, either way:
#
# $$p = \frac{1 + \#\{r : |\Delta_r| \ge |\Delta|\}}{1 + R}$$
#
# Scores are ranked first, for two models may use different scales. With several seeds, all seeds of
# a patient are swapped together.
#
# ### Exercise 8.4
#
# Write it, with 2,000 swaps. `auc(scores)` knows the targets; `a` and `b` are the ranks of two
# models, `patients` numbers 0, 1, ... of each image, `rng` a generator of numpy.

# %%
def my_p_value(auc, a, b, patients, rng):
    ...


check.exercise_8_4(my_p_value)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_p_value(auc, a, b, patients, rng):
    observed, count = abs(auc(a) - auc(b)), 0
    for _ in range(2000):
        swap = (rng.random(patients.max() + 1) < 0.5)[patients]  # [n], alike within a patient
        swapped = auc(np.where(swap, b, a)) - auc(np.where(swap, a, b))
        count += abs(swapped) >= observed - 1e-12
    return (1 + count) / (1 + 2000)


check.exercise_8_4(my_p_value)

# %% [markdown]
# Nine findings are nine tests, and one in twenty comes out below .05 by chance alone. **Holm**: sort
# the $m$ values of $p$, multiply the smallest by $m$, the next by $m - 1$, ...; none may end up
# below one that came before. Then the chance of *any* false claim is at most .05.

# %%
from localmi.statistics import holm


def my_holm(p_values):
    adjusted, largest = np.empty(len(p_values)), 0.0
    for place, index in enumerate(np.argsort(p_values)):
        largest = max(largest, (len(p_values) - place) * p_values[index])
        adjusted[index] = min(largest, 1.0)
    return adjusted


example = np.array([0.010, 0.040, 0.030, 0.005])
assert np.allclose(my_holm(example), holm(example))
print("p    ", example.tolist(), "\nHolm ", my_holm(example).round(3).tolist())

# %% [markdown]
# Now this run against what it is compared with, finding by finding.

# %%
tests, adjusted = {}, np.array([])
if other:
    assert list(run.predictions.ids["image_id"]) == list(other.ids["image_id"])
    labels, targets, ours, mask = columns(run.predictions)
    theirs = columns(other)[2]
    for c, label in enumerate(labels):
        pair = ours[:, c], theirs[:, c]
        tests[label] = classification.compare(targets[:, c], *pair, patients, mask[:, c], seed=seed)
    adjusted = holm([test.p_value for test in tests.values()])
    overall = classification.compare(targets, ours, theirs, patients, mask, seed=seed)

# %%
if other:
    figure, axes = plt.subplots(figsize=(8, 3.8))
    for y, (test, p) in enumerate(zip(tests.values(), adjusted, strict=True)):
        one, sure = test.difference, p < 0.05
        axes.plot([one.low, one.high], [y, y], color=PALETTE[0])
        axes.plot(one.value, y, "o", color=PALETTE[0], fillstyle="full" if sure else "none")
    axes.axvline(0, color=COLOURS["truth"], linestyle="--")
    axes.set(xlabel="difference of AUC", yticks=range(len(tests)), yticklabels=list(tests))
    axes.invert_yaxis()
    show(
        figure,
        alt="Points with intervals: the difference of the two models' AUC for each finding, and a "
        "dashed line at zero. Most intervals hold zero.",
        caption="Figure 8.5: this run minus what it is compared with; bars: 95 % bootstrap intervals, "
        "each for itself; filled: p of the swap test < .05 after Holm.",
    )

# %% tags=["nbval-ignore-output"]
if other:
    print(f"mean: {overall.difference}, p = {overall.p_value:.4f}")
    for (label, test), p in zip(tests.items(), adjusted, strict=True):
        print(f"{label:17} {test.difference}  p {test.p_value:.3f}  Holm {p:.3f}")

# %% [markdown]
# **What could go wrong**: an open circle does not say that the models are alike. It says that these
# patients cannot tell. And a test over patients speaks of these two *trained networks*: another seed
# makes another network, so the tables of chapter 10 average over seeds before they compare.
#
# ## 9 Does a probability of .7 mean 70 of 100?
#
# An AUC sees the order alone. A model whose probabilities are all too bold has the same AUC, and
# would mislead whoever acts on them. Simulated: probabilities that are right, and the same ones with
# their log-odds tripled.

# %%
from scipy.special import expit, logit

from localmi.evaluate import reliability

rng = np.random.default_rng(seed)
right = rng.uniform(0.05, 0.95, size=1000)
happened = rng.random(1000) < right
for name, p in (("right", right), ("too bold", expit(3 * logit(right)))):
    report = reliability(happened, p, np.arange(1000))
    print(f"{name:8} AUC {auc_by_ranks(happened, p):.2f}, ECE {report.ece.value:.2f}")
print(f"ECE that finitely many images give to right ones: {report.ece_if_calibrated:.2f}")

# %% [markdown]
# The *expected calibration error* sorts the predictions into bins by probability, and takes the mean
# distance of what was said from what was so:
#
# $$\mathrm{ECE} = \sum_k \frac{n_k}{n}\,\big|\bar t_k - \bar p_k\big|$$

# %%
def my_ece(targets, probabilities, bins=5):  # [n] each
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities)
    excess = np.bincount(bin_of, weights=targets - probabilities, minlength=bins)
    return np.abs(excess).sum() / len(targets)


labels, targets, scores, mask = columns(run.predictions)
counted = mask[:, column]  # the finding with the most labelled images, as in section 6
y, p = targets[counted, column], scores[counted, column]
report = reliability(y, p, patients[counted], bins=5)
assert abs(my_ece(y, p) - report.ece.value) < 1e-9

# %%
figure, axes = plt.subplots(figsize=(4.6, 4.2))
axes.plot([0, 1], [0, 1], color=COLOURS["truth"], linestyle="--", label="right")
for x, one in zip(report.predicted, report.observed, strict=True):
    axes.plot([x, x], [one.low, one.high], color=COLOURS["held-out"])
observed = [one.value for one in report.observed]
axes.plot(report.predicted, observed, "o", color=COLOURS["held-out"], label="this run")
axes.set(xlabel="probability, mean of the bin", ylabel="share of positives", aspect="equal")
axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
axes.legend(loc="upper left")
show(
    figure,
    alt="A reliability diagram: the share of positives against the predicted probability in bins, "
    "with wide intervals around the diagonal.",
    caption="Figure 8.6: one finding of this run, with 95 % intervals over patients.",
)

# %% tags=["nbval-ignore-output"]
print(f"{labels[column]}: ECE {report.ece}; if calibrated {report.ece_if_calibrated:.2f}")

# %% [markdown]
# **What could go wrong**: reading an ECE against 0. With few images even right probabilities get
# one, so that value stands beside it; only what lies above it is miscalibration.
#
# ## 10 What can this run say, and what not?
#
# An interval shrinks with the root of the number of patients. So this run says how many of them
# would bring its own comparison down to ± .02, when a true difference of .02 is found every other
# time. Many pairs of variants in the paper's tables are no further apart than that.

# %% tags=["nbval-ignore-output"]
interval = overall.difference if other else mean_auc
half = (interval.high - interval.low) / 2
number = len(np.unique(patients))
print(f"{number} test patients: plus or minus {half:.3f}")
print(f"for plus or minus .02: about {number * (half / 0.02) ** 2:,.0f} patients")
if other:
    verdict = "can" if overall.p_value < 0.05 else "cannot"
    print(f"this run and {other_name} {verdict} be told apart by these patients, on the mean")

# %% [markdown]
# At its defaults this notebook **can** show that the machinery is right: labels, masks, leak checks,
# intervals and tests agree with what was written out by hand. It can show whether a minute of
# training beats a probe of random filters on the mean over nine findings; for single findings its
# test patients hardly suffice. It **cannot** show whether pretraining helps, or whether local beats
# global: nothing was pretrained, images of 64 pixels have lost faint findings, a few epochs are not
# a training, one seed is not a mean, and a hundred test patients do not resolve what the paper
# reports. And the study is synthetic: nothing here says anything of real patients.
#
# The run of the grid is this notebook with `init`, more epochs, larger images, a larger study and
# several seeds.

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** A label is blank. What does the loss do with it?
#
# <details><summary>Nothing: it is masked.</summary>
#
# **Right.** No target, no loss, no part in an AUC.
#
# </details>
# <details><summary>It counts as 0.</summary>
#
# **No.** The network then learns what reports *mention*.
#
# </details>
# <details><summary>It counts half.</summary>
#
# **No.** Half of what? Nothing was said.
#
# </details>
#
# **Question 2.** "1 % of the labels" is drawn as 1 % of the images. What is wrong?
#
# <details><summary>Nearly every one is of another patient: a richer set than 1 % of the patients.</summary>
#
# **Right.** Draw patients, and keep all their images.
#
# </details>
# <details><summary>It is too few.</summary>
#
# **No.** It is as many as intended.
#
# </details>
# <details><summary>Nothing.</summary>
#
# **No.** Two papers with the same words would have different sets.
#
# </details>
#
# **Question 3.** A "frozen" encoder is in training mode while the classifier is fitted. What moves?
#
# <details><summary>Nothing: `requires_grad` is False.</summary>
#
# **No.** That holds the weights. Statistics are no weights.
#
# </details>
# <details><summary>The running mean and variance of BatchNorm.</summary>
#
# **Right.** Without any gradient, in every forward pass.
#
# </details>
# <details><summary>Its last block.</summary>
#
# **No.** That is trained on purpose; the question is about the others.
#
# </details>
#
# **Question 4.** The epoch with the best AUC on the test set is reported. How much is that worth, for
# models that know nothing?
#
# <details><summary>Nothing: the mean of their AUCs is .5.</summary>
#
# **No.** The mean is. The best of 50 is not.
#
# </details>
# <details><summary>A little, within the interval.</summary>
#
# **No.** It lies clearly outside.
#
# </details>
# <details><summary>More than a tenth of AUC: .64 is reported where .50 is true.</summary>
#
# **Right.** And it looks like a result. Choose on validation; test once.
#
# </details>
#
# **Question 5.** Two models' intervals overlap widely. Is the difference unsure?
#
# <details><summary>Yes: they cannot be told apart.</summary>
#
# **No.** Both saw the same patients; what is hard for both cancels in the difference.
#
# </details>
# <details><summary>No: overlapping intervals always mean a significant difference.</summary>
#
# **No.** They mean little either way.
#
# </details>
# <details><summary>Not necessarily: only a paired test can tell.</summary>
#
# **Right.** The simulation of section 8 has overlapping intervals and a sure difference.
#
# </details>
#
# **Question 6.** Nine findings, nine tests, one with p = .03. What may be said?
#
# <details><summary>That the model is better on this finding.</summary>
#
# **No.** One in twenty tests comes out so by chance, and nine were made.
#
# </details>
# <details><summary>After Holm's correction, probably nothing.</summary>
#
# **Right.** $9 \times .03 = .27$ for the smallest of nine.
#
# </details>
# <details><summary>That it is better on average.</summary>
#
# **No.** That is another test, and a better one: of the mean over the nine.
#
# </details>

# %% [markdown]
# ## Key points
#
# - Say which labels count, and mask the others out of loss, AUC and counts alike.
# - Splits and fractions are of patients; so are intervals and the swaps of a paired test.
# - Frozen means weights *and* BatchNorm statistics; block 6, which is trained, is most of the network.
# - The validation patients choose; the test set is used once, for the number that is reported.
# - Beat a probe of random weights before you praise an encoder.
# - "A beats B" needs a paired test, and nine tests need Holm.
#
# ## References
#
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - Irvin et al. 2019, CheXpert (labels and policies). <https://doi.org/10.1609/aaai.v33i01.3301590>
# - Hanley and McNeil 1982, The meaning and use of the area under a ROC curve.
#   <https://doi.org/10.1148/radiology.143.1.7063747>
# - Venkatraman and Begg 1996, A distribution-free procedure for comparing ROC curves from a paired
#   experiment. <https://doi.org/10.1093/biomet/83.4.835>
# - Phipson and Smyth 2010, Permutation p-values should never be zero.
#   <https://doi.org/10.2202/1544-6115.1585>
# - Holm 1979, A simple sequentially rejective multiple test procedure.
#   <https://www.jstor.org/stable/4615733>
# - Guo et al. 2017, On calibration of modern neural networks. <https://arxiv.org/abs/1706.04599>

# %% tags=["record"]
from localmi.record import Result, record_metrics

metrics = dict(run.metrics)
if other:
    metrics["auc mean, compared with"] = Result(found[other_name].mean_auc, "test", {})
    beside = {"p_value": overall.p_value}
    metrics["auc mean, difference"] = Result(overall.difference, "test", beside)
data = cache.describe() | {"encoder": run.encoder}
record = record_metrics(metrics, data=data, run_dir=run_dir, computed_in=run.computed_in)
