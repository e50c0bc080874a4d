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
# # 5 Radiographs and reports
#
# **You will be able to** name what a study consists of, say how a hidden state makes an image and
# a sentence, cut a report into sentences without breaking it, compute how much image and sentence
# can share, keep a patient out of two splits, and read a batch with its mask.
#
# **Before this**: nothing but Python. Of mutual information it is enough to know that it says by
# how many nats one thing narrows down another.
#
# **Reading time**: 40 minutes.
# **Run time**: half a minute on 2 cores; a GPU is not used. **Memory**: 1 GB.
# **Data**: the example study, synthetic from end to end. With `data_dir` the same cells run on
# MIMIC-CXR or on a CSV of your own; what needs a known truth then says so and is left out.

# %% tags=["setup"]
import time
from textwrap import fill, shorten
import numpy as np
import pandas as pd
from localmi.course import check
from localmi.course.environment import set_up
from localmi.course.plots import COLOURS, contact_sheet, plot_radiograph, plt, show
from localmi.data.prepare import example_dir, load_study, load_truth
began = time.perf_counter()
set_up()

# %% tags=["parameters"]
seed = 0  # of everything random
data_dir = ""  # folder of a study or a CSV file, "" is the example study
cache_dir = ""  # folder of its cache, "" is a folder beside the data
run_dir = ""  # where results are kept, "" keeps nothing

# %% [markdown]
# ## 1 What is in a study?
#
# A patient comes once or several times. Each visit is a *study*: one or more images and **one**
# report. The unit that counts is the patient. Whoever counts images counts some people twice.
#
# `load_study` reads the table of pairs, checks it, and prepares images and sentences once
# (section 9 says what for).

# %%
study = load_study(data_dir, cache_dir)
images, sentences = study.manifest, study.sentences
split_of = images.drop_duplicates("study_id").set_index("study_id")["split"]
counts = images.groupby("split").agg(
    patients=("patient_id", "nunique"), studies=("study_id", "nunique"), images=("split", "size")
)
counts["sentences"] = sentences["study_id"].map(split_of).value_counts()
counts.reindex([name for name in ("train", "validate", "test") if name in counts.index])

# %%
from localmi.data.sources import reasons

print(reasons(study.rejected))
per_study = sentences.groupby("study_id").size()
words = sentences["text"].str.split().str.len()
print(f"{per_study.mean():.1f} sentences a report, median {words.median():.0f} words a sentence")
print(f"views: {images['view'].replace('', 'not said').value_counts().to_dict()}")

# %% [markdown]
# Here is the patient with the most visits.

# %%
visits = images.groupby("patient_id")["study_id"].nunique()
several = images["patient_id"].isin(visits.index[visits == visits.max()])
patient = images[several]["patient_id"].value_counts().sort_index().idxmax()
shown = images[images["patient_id"] == patient].sort_values(["study_id", "image_id"])[:4]
visit = pd.factorize(shown["study_id"])[0] + 1
first = sentences.drop_duplicates("study_id").set_index("study_id")["text"]
titles = [
    f"visit {number}, {view or 'view not said'}\n" + fill(shorten(first[study_id], 60), 30)
    for number, view, study_id in zip(visit, shown["view"], shown["study_id"])
]
figure = contact_sheet(study.images[shown["index_in_cache"]], titles, columns=4, size=2.7)
show(
    figure,
    alt="Images of one patient at several visits, each over the first sentence of its report.",
    caption="Figure 5.1: one patient, several visits. The bones are the same, the disease is not.",
)

# %% [markdown]
# The skeleton is that of one person: a network can learn to recognise it. That is why splits are
# made by patient (section 8).
#
# **What could go wrong**: a study with two images is counted as two independent samples; its two
# images, set against each other as "mismatched", punish the model for being right.

# %% [markdown]
# ## 2 Where do an image and a sentence come from?
#
# The paper draws it in its Fig. 3. Region $n$ of a chest has a hidden state $H_n$: what is there,
# on which side, how large. The state makes the pixels of the region, $Z_n$, together with things
# the report never speaks of, $V^I$ (ribs, pose, exposure). The same state makes a sentence $S_m$,
# together with things no pixel shows, $V^R$ (wording, order, habit).
#
# $$V^I \to Z_n \leftarrow H_n \to S_m \leftarrow V^R
# \qquad\Rightarrow\qquad I(Z_n; S_m) \le I(H_n; S_m) \qquad\text{(paper, Fig. 3)}$$
#
# Image and sentence know of each other only through $H$. So they can share no more than what the
# sentence says of $H$: the data processing inequality. Our synthetic study is this drawing, made
# into a program. Therefore we can do what nobody can do to a patient: change $H$ and nothing else.

# %%
from localmi.data.phantom.config import PhantomConfig
from localmi.data.phantom.image import render
from localmi.data.phantom.latents import Finding, Study
from localmi.data.phantom.report import write_report

config = PhantomConfig(seed=seed)
effusion = Finding("pleural_effusion", {"side": "left", "level": "large"}, contrast=1.0)
healthy = Study(patient=7, number=0, view="PA", findings=(), num_images=2)
ill = Study(patient=7, number=0, view="PA", findings=(effusion,), num_images=2)
other = Study(patient=11, number=0, view="PA", findings=(effusion,), num_images=1)
for name, one in (("H: nothing", healthy), ("H: effusion", ill), ("another patient", other)):
    said = [s.text for s in write_report(one, config).sentences if "effusion" in str(s.finding)]
    print(f"{name:16} {said or ['says nothing of an effusion']}")

# %%
made = {
    "$H$: nothing": render(healthy, config),
    "$H$: large left effusion": render(ill, config),
    "the same $H$,\nanother exposure ($V^I$)": render(ill, config, number=1),
    "the same $H$,\nanother patient ($V^I$)": render(other, config),
}
figure = contact_sheet(
    [one.image for one in made.values()],
    list(made),
    outlines=[one.masks for one in made.values()],
    columns=4,
    size=2.7,
)
show(
    figure,
    alt="Four synthetic radiographs: no finding; the same chest with an outlined effusion at the "
    "right of the image; the same finding in another pose and in another patient.",
    caption="Figure 5.2: one hidden state, several images. The outline is known, not drawn by hand.",
)

# %% [markdown]
# The patient's left lung lies on the **right** of the image: you look the patient in the face.
#
# How local is the change? Compare the first two images, inside the outline and far from it.

# %%
nothing, large = made["$H$: nothing"], made["$H$: large left effusion"]
change = np.abs(large.image.astype(float) - nothing.image)
inside = large.masks["pleural_effusion"]
print(f"inside the outline  {change[inside].mean():4.0f} grey levels of 255")
print(f"outside             {change[~inside].mean():4.0f} grey levels")
assert change[inside].mean() > 3 * change[~inside].mean()

# %% [markdown]
# Not nothing outside: the grey values are equalised over the whole image, as in MIMIC-CXR-JPG,
# so a white effusion makes all else a little darker.
#
# **What could go wrong**: what you see here is a drawing by a program of some thousand lines. A
# method that fails on it has a fault. A method that works on it has not been shown to work on
# patients: texture, projection and the habits of radiologists are all simpler here.

# %% [markdown]
# ## 3 What do the findings look like?
#
# Nine findings, each with the sentence that speaks of it. The outline comes from `truth/`, which
# holds the masks, sentences and hidden states of the study. A real study has no such folder.

# %%
truth = load_truth(data_dir)
study = load_study(data_dir, cache_dir)
by_image = study.manifest.drop_duplicates("study_id").set_index("study_id")
panels = []
if truth is None:
    print("This study carries no truth: images with their first sentence, and no outlines.")
    first = study.sentences.drop_duplicates("study_id").set_index("study_id")["text"]
    for study_id, row in by_image[:9].iterrows():
        panels.append((study.images[row["index_in_cache"]], first[study_id], {}))
else:
    latents = truth.latents.set_index("study_id").loc[by_image.index]
    plain = "polarity == 'present' and level not in ('small', 'mild') and not text.str.isupper()"
    present = truth.sentences.query(plain)
    alone = latents.filter(regex="_contrast$").notna().sum(axis=1)
    for finding, spoken in present.drop_duplicates(["finding", "study_id"]).groupby("finding"):
        text = spoken.set_index("study_id")["text"]
        study_id = (latents[f"{finding}_contrast"] - alone)[text.index].idxmax()
        row = by_image.loc[study_id]
        outline = {finding: truth.mask(row["image_id"], finding)}
        panels.append((study.images[row["index_in_cache"]], text[study_id], outline))

# %%
pictures, texts, outlines = zip(*panels)
titles = [fill(shorten(text, 70), 34) for text in texts]
figure = contact_sheet(pictures, titles, outlines=outlines, columns=3, size=3.1)
show(
    figure,
    alt="A contact sheet of radiographs, each with its finding outlined under the sentence of "
    "its report that speaks of it.",
    caption="Figure 5.3: the nine findings, each in a plain example.",
)

# %% [markdown]
# These are plain examples. Contrast and size of a finding are drawn at random, and faint ones
# can only be guessed. If they could not, every method would reach an AUC of 1 and none could be
# told from another.
#
# Two more things change the image. The **view**: in a PA image the rays come from behind and the
# heart lies close to the film; in an AP image (a patient in bed) they come from the front and the
# heart looks larger. The **grade**: edema is graded 0 to 3, and its severity is a task of the
# paper.

# %%
from localmi.data.phantom.config import PhantomConfig
from localmi.data.phantom.image import render
from localmi.data.phantom.latents import Finding, Study


def one_chest(view, **findings):
    present = tuple(
        Finding(name, {"level": level}, contrast=1.0) for name, level in findings.items()
    )
    return render(Study(22, 0, view, present, 1), PhantomConfig(seed=seed)).image


# %%
chests = {
    "PA, edema 0": one_chest("PA"),
    "AP, edema 0": one_chest("AP"),
    "PA, severe cardiomegaly": one_chest("PA", cardiomegaly="severe"),
    "edema 1: mild": one_chest("PA", edema="mild"),
    "edema 2: moderate": one_chest("PA", edema="moderate"),
    "edema 3: severe": one_chest("PA", edema="severe"),
}
figure = contact_sheet(list(chests.values()), list(chests), columns=3, size=3.1)
show(
    figure,
    alt="One chest six times: from behind, from the front with a wider heart, with a truly "
    "enlarged heart, and with three grades of edema: vessels, haze at the hila, white wings.",
    caption="Figure 5.4: one patient, two views, an enlarged heart, three grades of edema.",
)

# %% [markdown]
# **What could go wrong**: sick people lie in bed. Whoever learns "AP" has learnt half of "edema",
# "devices" and "cardiomegaly" without having seen one. The synthetic study has this on purpose:
# devices are likelier in AP images and beside edema. A model that is right for the wrong reason
# scores well until the hospital changes.

# %% [markdown]
# ## 4 What does a report say, and where does a sentence end?
#
# A report as MIMIC-CXR stores it: headers in capitals, lines wrapped at 79 characters, names and
# dates blanked by underscores, decimals, numbered lists.

# %%
import re

from localmi.data.reports import body_sections, sections, sentence_kind, split_sentences
from localmi.data.sources import read_pairs

pairs = read_pairs(data_dir or example_dir()).table
reports = pairs.drop_duplicates("study_id").sort_values("study_id")["report"]
is_hard = reports.str.contains(r"\d\.\d") & reports.str.contains(r"^ *1[.)]", flags=re.MULTILINE)
chosen = (reports[is_hard] if is_hard.any() else reports).iloc[0]
print(chosen)

# %%
for name in sections(chosen):
    used = "used" if name in body_sections(chosen) else "left out"
    print(f"{name:14} {used}")
print()
for name, text in body_sections(chosen).items():
    for sentence in split_sentences(text):
        print(f"{name:11} {sentence_kind(sentence):14} {sentence}")

# %% [markdown]
# Only findings and impression describe the image. "Communication" and "comparison" mark sentences
# that no single image can confirm ("no change since ___"); training may drop them.
#
# Now the shortcut that much public code takes: delete every number with a period after it, for it
# is surely the number of a list, then cut at each period.

# %%
def shortcut(text):
    return [piece.strip() for piece in re.sub(r"[0-9]+\.", "", text).split(".") if piece.strip()]


example = """ 1. Endotracheal tube ends 2.5 cm above the
 carina. 2. Discussed with Dr. ___ at 3:15 p.m., by telephone."""
print("shortcut:", *shortcut(example), sep="\n   ")
print("rules:   ", *split_sentences(example), sep="\n   ")

# %% [markdown]
# A tube 5 cm above the carina is another finding than one at 2.5 cm. How often does this happen in
# the study?

# %%
def harm(split):
    bodies = [text for report in reports for text in body_sections(report).values()]
    pieces = [[" ".join(piece.split()) for piece in split(text)] for text in bodies]
    flat = [piece for found in pieces for piece in found]
    decimals = sum(len(re.findall(r"\d+\.\d", text)) for text in bodies)
    return {
        "pieces": len(flat),
        "decimals lost": decimals - sum(len(re.findall(r"\d+\.\d", piece)) for piece in flat),
        "pieces of one word": sum(len(piece.split()) < 2 for piece in flat),
        "pieces without a letter": sum(not re.search("[A-Za-z]", piece) for piece in flat),
    }


# %%
def at_white_space(text):
    return re.split(r"(?<=\.)\s+", text)


ways = {"shortcut": shortcut, "cut at '. '": at_white_space, "the course's rules": split_sentences}
pd.DataFrame({name: harm(way) for name, way in ways.items()}).T

# %% [markdown]
# On the 3,955 real reports of OpenI, which a package carries, the rules lose no decimal and make no
# sentence of digits alone; a test of the library checks it.
#
# **What could go wrong**: splitters for general English do worse, not better. Some make sentences
# of list numbers, some cut at the wrapped line's end. Look at a hundred of *your* sentences first.
#
# ### Exercise 5.1
#
# Write a splitter of four lines that survives decimals, wrapped lines and list numbers. Hint: a
# period ends a sentence only if white space follows it.

# %%
def my_split(text):
    ...

check.exercise_5_1(my_split)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_split(text):
    folded = " ".join(text.split())                       # a line's end is white space
    pieces = re.split(r"(?<=\.)\s+", folded)              # "2.5" has none behind its period
    return [piece for piece in pieces if re.search("[A-Za-z]", piece)]  # "1." is no sentence

check.exercise_5_1(my_split)

# %% [markdown]
# ## 5 How often does a sentence come again?
#
# Radiologists repeat themselves. One sentence is drawn from each of $B$ studies. If yours reads $t$,
# and another study says $t$ with probability $q_t$, then it has a twin in the batch with probability
#
# $$1 - (1 - q_t)^{B-1}.$$
#
# A twin matters: InfoNCE (paper, Eq. 4) learns by telling the matched sentence from the others.
# "No pleural effusion." of another patient is among the others, and it is *true* of this image.

# %%
study = load_study(data_dir, cache_dir)
said = study.sentences["text"].value_counts()
print(f"{said.sum():,} sentences, {len(said):,} different: {1 - len(said) / said.sum():.0%} repeat")
quarter = int((said.cumsum() < 0.25 * said.sum()).sum()) + 1
print(f"a quarter of all that is said comes from {quarter} sentences, among them:")
for text, count in said[:4].items():
    print(f"{count:6}  {text}")

# %%
groups = study.sentences.groupby("study_id")["text"].agg(list)
drawn = study.sentences["study_id"].map(1 / groups.str.len())  # P(sentence | its study)
by_text = drawn.groupby(study.sentences["text"]).transform("sum")
q = (by_text - drawn) / (len(groups) - 1)  # P(another study says the same), for each sentence
sizes = [size for size in (8, 16, 32, 64, 128) if size <= len(groups)]
formula = [float((drawn * (1 - (1 - q) ** (size - 1))).sum() / len(groups)) for size in sizes]
rng = np.random.default_rng(seed)


def measured(size, rounds=200):
    shares = []
    for _ in range(rounds):
        batch = [rng.choice(groups.iloc[i]) for i in rng.choice(len(groups), size, replace=False)]
        shares.append(pd.Series(batch).duplicated(keep=False).mean())
    return np.mean(shares)


counted = [measured(size) for size in sizes]
pd.DataFrame({"formula": formula, "counted": counted}, index=sizes).rename_axis("B").round(2)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6))
axes[0].plot(np.arange(1, len(said) + 1), said.cumsum() / said.sum(), color=COLOURS["held-out"])
axes[0].set(xscale="log", xlabel="different sentences, the most frequent first")
axes[0].set(ylabel="share of all that is said", ylim=(0, 1))
axes[1].plot(sizes, formula, color=COLOURS["truth"], linestyle="--", label="formula")
axes[1].plot(sizes, counted, "o", color=COLOURS["held-out"], label="counted")
axes[1].set(xlabel="batch size $B$", ylabel="share with a twin in the batch", ylim=(0, None))
axes[1].legend()
show(
    figure,
    alt="Left: few sentences make up much of what is said. Right: the larger the batch, the more "
    "of its sentences have a twin; the formula agrees with the count.",
    caption="Figure 5.5: repetition, and what it does to a batch.",
)

# %% [markdown]
# In real reports 62.7 % of the sentences are exact repetitions, and 15 % of a batch of 64 has a
# twin. Our synthetic radiologist has fewer words and repeats more.
#
# The remedy is a mask: a pair whose words are those of the matched pair is no mismatched pair
# (section 10). It has a price. The mismatched sentences are then no longer drawn like the matched
# ones, and the bound moves up a little. So the course trains *with* the mask and reports
# *without* it.
#
# **What could go wrong**: twins in meaning. "No effusion." and "There is no pleural effusion." are
# different words and the same statement. No mask of equal strings sees that.

# %% [markdown]
# ## 6 How much do an image and a sentence share?
#
# Nobody knows it of patients. Of the synthetic study everything is known, so it can be computed.
#
# Start with one finding of prevalence $p$, and a report that says it wrongly with probability
# $\varepsilon$. With $h(q) = -q\log q - (1-q)\log(1-q)$, and $p' = p(1-\varepsilon) +
# (1-p)\varepsilon$ how often the report says "present",
#
# $$I(H; S) = h(p') - h(\varepsilon) \quad\text{nats}.$$

# %%
def h(q):
    return -sum(x * np.log(x) for x in (q, 1 - q) if x > 0)


def binary_mi(p, error):
    return h(p * (1 - error) + (1 - p) * error) - h(error)


for p, error in ((0.5, 0.0), (0.3, 0.0), (0.3, 0.1), (0.05, 0.1)):
    print(f"p = {p:.2f}, flipped {error:.1f}: {binary_mi(p, error):.3f} nats")

# %% [markdown]
# A finding of prevalence .3 in a report with one error in ten: **0.316 nats**. A coin's worth of
# certainty, $\log 2$, would be **0.693 nats**. Rare findings are worth little *on average*, which
# is what mutual information measures; to the patient who has one they are worth all.
#
# `true_mi` does this for the whole synthetic study: nine findings, some dependent on others, sides,
# zones, levels, denials, hedges, fillers. It adds up all $2^9$ states. First, that it agrees:

# %%
from localmi.data.phantom.config import PhantomConfig, ReportNoise
from localmi.data.phantom.truth import true_mi


def single(p, error):
    """One finding, always spoken of, without side or level: the formula's own study."""
    return PhantomConfig(
        abnormal=1.0, prevalence={"pneumothorax": p}, mention_absent=1.0, mention_normal=0.0,
        fillers=(0,), noise=ReportNoise(flip=error),
    )


for p in (0.05, 0.3, 0.5):
    for error in (0.0, 0.1, 0.4):
        assert np.isclose(true_mi(single(p, error), attributes={}), binary_mi(p, error))
for target in ("sentence", "report"):
    print(f"default study, one {target:8} {true_mi(PhantomConfig(), target):.2f} nats")

# %% [markdown]
# One sentence: **1.10 nats**. The whole report: **7.52 nats**. Each sentence speaks of one thing; a
# report, of nearly everything. That is why a global model has more to find, and why a local one
# has to find it with less. But a batch whose InfoNCE cap $\log K$ lies above 7.52 nats must have
# more than 1,800 studies: there, less is easier to measure.
#
# And with errors? *Flip*: a mentioned finding is said with the other polarity. *Omission*: a
# present finding is not mentioned.

# %%
errors, curves = np.linspace(0, 0.5, 11), {}
for target in ("sentence", "report"):
    for kind in ("flip", "omission"):
        noisy = [PhantomConfig(noise=ReportNoise(**{kind: error})) for error in errors]
        curves[target, kind] = [true_mi(config, target) for config in noisy]

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
prevalence = np.linspace(0, 1, 101)
for error in (0.0, 0.1, 0.3):
    nats = [binary_mi(p, error) for p in prevalence]
    axes[0].plot(prevalence, nats, label=f"flipped {error:.1f}")
axes[0].set(xlabel="prevalence $p$", ylabel="nats", title="one binary finding", ylim=(0, 1.05))
for (target, kind), nats in curves.items():
    panel = axes[1 + (target == "report")]
    panel.plot(errors, nats, label=kind)
    panel.set(xlabel="probability of the error", title=f"default study, one {target}")
    panel.set(ylim=(0, None))
for panel in axes:
    panel.legend()
show(
    figure,
    alt="Mutual information against prevalence is highest at one half and lower with errors. "
    "Against the rate of errors it falls, for flips much faster than for omissions.",
    caption="Figure 5.6: what a report can tell of its image, exactly.",
)

# %% [markdown]
# For a single sentence a flip costs much more than an omission: who is silent does not lie. For a
# whole report the two come close, because silence is a statement too. Here a present finding is
# always spoken of and an absent one is denied only now and then, so whoever reads nothing of a
# pneumothorax may conclude that there is none. Omissions spoil that conclusion.
#
# At a flip rate of one half, the polarity says nothing. What is left comes from what is spoken of at
# all, and from sides, zones and levels, which stay true where the finding is there.
#
# **What could go wrong**: these numbers are of the hidden state and the sentence. Image and
# sentence share at most that, less where a finding is too faint to be seen. And an *estimate* that
# ends above the truth is not a triumph. It is a fault.
#
# ### Exercise 5.2
#
# Write the formula yourself, for $\varepsilon = 0$ too.

# %%
def my_mi(p, error):
    ...

check.exercise_5_2(my_mi)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_mi(p, error):
    def entropy(q):
        return -sum(x * np.log(x) for x in (q, 1 - q) if x > 0)  # 0 log 0 counts as 0

    said = p * (1 - error) + (1 - p) * error
    return entropy(said) - entropy(error)

check.exercise_5_2(my_mi)

# %% [markdown]
# ## 7 What do labels know?
#
# Labels are made of reports, by a program (CheXpert): 1 present, 0 denied, -1 uncertain, blank not
# mentioned. One row a study.

# %%
study = load_study(data_dir, cache_dir)
names = [
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Lung Opacity", "Pleural Effusion",
    "Pneumonia", "Pneumothorax", "Support Devices",
]  # fmt: skip
labels = study.manifest.drop_duplicates("study_id").set_index("study_id")
names = [name for name in names if name in labels]
codes = {1.0: "present", 0.0: "denied", -1.0: "uncertain", -2.0: "not mentioned"}
said = {name: labels[name].fillna(-2.0).map(codes).value_counts() for name in names}
found = pd.DataFrame(said, index=list(codes.values())).fillna(0).astype(int).T
if not names:
    print("This study has no CheXpert labels.")
found

# %%
policies = pd.DataFrame(
    {
        "explicit: only 1 and 0": found["present"] / (found["present"] + found["denied"]),
        "blank counts as 0": found["present"] / (found.sum(axis=1) - found["uncertain"]),
        "blank and uncertain as 0": found["present"] / found.sum(axis=1),
    }
)
truth = load_truth(data_dir)
if truth is not None:
    states = truth.latents.set_index("study_id").loc[labels.index]
    seen = states.filter(regex="_contrast$").notna()
    seen.columns = [name.removesuffix("_contrast").replace("_", " ").title() for name in seen]
    seen["Lung Opacity"] |= seen["Pneumonia"] | seen["Consolidation"]  # both are opacities
    policies["truth"] = seen.mean()
policies.round(2)

# %%
figure, axes = plt.subplots(figsize=(8, 3.8))
left = np.zeros(len(found))
colours = (COLOURS["shuffled"], COLOURS["held-out"], COLOURS["mask"], "#DDDDDD")
for (code, count), colour in zip(found[::-1].items(), colours):
    axes.barh(list(count.index), count, left=left, color=colour, label=code)
    left = left + count.to_numpy()
axes.set(xlabel="studies")
axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=4)
if names:
    show(
        figure,
        alt="For each finding most studies say nothing; some say present, some deny, few hedge.",
        caption="Figure 5.7: what the labels of nine findings say.",
    )
plt.close(figure)

# %% [markdown]
# Explicit labels make a finding look about twice as frequent as it is: what is there is mentioned,
# what is not there is mostly passed over. The paper's counts seem to fit
# explicit labels, so its AUCs are about *mentioned* findings. The course's default is the same, and each policy prints
# its counts.
#
# **What could go wrong**: -1 taken for a low kind of 0. In this study a hedged finding is always
# there, in real ones it often is. And *No Finding* is 1 or blank, never 0: its blanks are not zeros.

# %% [markdown]
# ## 8 Who may be in which split?
#
# All sources become one table, a row an image: ids, file, report, view, split. Splits are made by
# patient. `check_leaks` stops the run if they are not. To see it stop, move one study of a
# patient who has several from one split into another.

# %%
from localmi.data.splits import check_leaks, split_patients
from localmi.errors import StudyLeakError

study = load_study(data_dir, cache_dir)
check_leaks(study.manifest)
print("as it is: no patient, study or image in two splits")

several = study.manifest.groupby("patient_id")["study_id"].nunique()
patient = several.index[several == several.max()].min()
leaky = study.manifest.copy()
moved = leaky["study_id"] == leaky.loc[leaky["patient_id"] == patient, "study_id"].max()
leaky.loc[moved, "split"] = np.where(leaky.loc[moved, "split"] == "train", "test", "train")
try:
    check_leaks(leaky)
    print("No patient has two studies here: a split by study is one by patient.")
except StudyLeakError as error:
    print(fill(f"StudyLeakError: {error}", 95))

# %% [markdown]
# A common mistake is to split *rows* at random. How many patients would then be on both sides?

# %%
rng = np.random.default_rng(seed)
ids = study.manifest["patient_id"]
at_random = rng.choice(["train", "validate", "test"], size=len(ids), p=(0.8, 0.1, 0.1))
torn = ids.groupby(ids).size()[pd.Series(at_random).groupby(ids).nunique() > 1]
print(f"rows at random:  {len(torn)} of {ids.nunique():,} patients are in more than one split")
ours = split_patients(study.manifest, (0.8, 0.1, 0.1), seed)["split"]
print(f"by patient:      {int((ours.groupby(ids).nunique() > 1).sum())}")

# %% [markdown]
# **What could go wrong**: the same image under two names. The check also compares the pixels'
# fingerprints. It cannot see the same image at another size, nor the same person under two ids.

# %% [markdown]
# ## 9 Why is there a cache?
#
# A radiograph of MIMIC-CXR has some seven million pixels; the network sees 256 × 256. To decode and
# shrink it takes 165 ms, and an epoch has 240,000 of them: eleven hours of doing the same again. So
# it is done once. A row of the cache is 65,536 bytes on disk, mapped into memory.

# %%
import hashlib

study = load_study(data_dir, cache_dir)
row = study.images[0]
print(f"{len(study.images):,} rows of {row.shape}, {row.dtype}: {row.nbytes:,} bytes each")
assert hashlib.sha256(row.tobytes()).hexdigest() == study.manifest["sha256"][0]
first = study.manifest.iloc[0]
print(f"from a file of {first['source_width']} x {first['source_height']} pixels, which lies in it")
print(f"as {first['box_width']} x {first['box_height']}; what is left over is black")

# %% tags=["nbval-ignore-output"]
from localmi.data.images import read_image
from localmi.data.sources import read_pairs

pairs = read_pairs(data_dir or example_dir()).table.sort_values("image_id")
some = range(min(50, len(study.images)))
start = time.perf_counter()
for i in some:
    read_image(pairs["image"].iloc[i], study.image_size)
from_files = (time.perf_counter() - start) / len(some)
start = time.perf_counter()
for i in some:
    study.images[i]
from_cache = (time.perf_counter() - start) / len(some)
print(f"from files {1e3 * from_files:.2f} ms, from the cache {1e3 * from_cache:.3f} ms an image")
print(f"{from_files / from_cache:.0f} times faster; the data's fingerprint: {study.data_hash[:16]}")

# %% [markdown]
# The files of the example are small already, so the gain is smaller here than on real ones.
#
# The fingerprint (`data_hash`) is a sha256 over pixels, ids, splits, labels and sentences. Every
# result of the course carries it. Two runs with one fingerprint saw the same data; if somebody
# mends one label, it changes.
#
# **What could go wrong**: a cache that outlives its data. This one keeps the sizes and times of
# the files and the code that made it, and is built anew when any of them changes.

# %% [markdown]
# ## 10 What does one step of training see?
#
# A batch: $B$ images, and of each image's report one sentence drawn at random (paper, Fig. 2). Row
# $i$ is image $i$, column $j$ is sentence $j$; matched pairs stand on the diagonal. Which of the
# others may serve as mismatched pairs?
#
# $$\text{allowed}_{ij} = [\,\text{study}_i \ne \text{study}_j\,]\cdot
# [\,\text{text}_i \ne \text{text}_j\,]$$

# %%
import torch

from localmi.data.batches import SplitData, may_mismatch, normalise

data = SplitData(load_study(data_dir, cache_dir), "train")
twice = np.flatnonzero(data.manifest["study_id"].duplicated(keep=False))
twice = twice[np.argsort(data.study[twice], kind="stable")][:6]  # images that share a study
rest = np.setdiff1d(np.arange(len(data)), twice)[: 64 - len(twice)]
batch = data.batch(np.concatenate([twice, rest]), np.random.default_rng(seed))
for name in ("images", "owner", "text_study", "text"):
    tensor = getattr(batch, name)
    print(f"{name:11} {list(tensor.shape)!s:18} {str(tensor.dtype).removeprefix('torch.')}")
pixels = normalise(batch.images)
print(f"pixels: mean {pixels.mean():.1f}, standard deviation {pixels.std():.1f}")

same_study = batch.text_study[:, None] == batch.text_study[None, :]
same_text = batch.text[:, None] == batch.text[None, :]
ours = may_mismatch(batch.text_study, batch.text_study, batch.text)  # [B, B]
assert torch.equal(~same_study & ~same_text, ours)

# %%
kind = torch.zeros(same_study.shape)
kind[same_text], kind[same_study] = 2, 1
kind.fill_diagonal_(3)
meaning = ["may be mismatched", "same study", "same words", "matched"]
print({name: int((kind == code).sum()) for code, name in enumerate(meaning)})

# %%
from matplotlib.colors import ListedColormap

colours = ["#DDDDDD", COLOURS["shuffled"], COLOURS["mask"], COLOURS["held-out"]]
figure, axes = plt.subplots(figsize=(8.2, 5.2))
axes.imshow(kind, cmap=ListedColormap(colours), vmin=0, vmax=3)
for colour, name in zip(colours, meaning):
    axes.plot([], [], "s", color=colour, label=name)
axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
axes.set(xlabel="sentence $j$", ylabel="image $i$", xticks=[], yticks=[])
show(
    figure,
    alt="A square of image-sentence pairs: the diagonal is matched, blocks beside it share a "
    "study, scattered pairs off it share their words, all others may be mismatched.",
    caption="Figure 5.8: one batch of 64 images, and what may be held against what.",
)

# %% [markdown]
# The first images come in twos, from the same study; such blocks are rare in a random batch. The
# scattered pairs are not.
#
# **What could go wrong**: a batch in which nothing may be mismatched, say two images of one study.
# Then the bound is a mean over nothing. The library raises `NoNegativesError` and names the rows;
# it never returns NaN.
#
# ### Exercise 5.3
#
# Write the mask for a batch with these studies and texts, both `[B]`.

# %%
def my_allowed(study, text):                              # [B], [B]
    ...

check.exercise_5_3(my_allowed)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_allowed(study, text):                              # [B], [B]
    other_study = study[:, None] != study[None, :]        # [B, B]
    other_words = text[:, None] != text[None, :]
    return other_study & other_words

check.exercise_5_3(my_allowed)

# %% [markdown]
# ## 11 Why no flips?
#
# Training moves each image a little: rotated by up to 20°, shifted by up to 10 %, cropped (paper,
# Sec. 4). What a sentence says stays true. Mirror the image, and "left" becomes a lie, and the
# heart lies on the wrong side, which happens to one person in ten thousand.

# %%
import re

import torch

from localmi.data.augment import Augmentation
from localmi.data.batches import SplitData, normalise

data = SplitData(load_study(data_dir, cache_dir), "train")
pairs = [(i, data.texts[t]) for i, code in enumerate(data.study) for t in data.text_ids[code]]
says_left = [pair for pair in pairs if re.search(r"\bleft\b", pair[1], re.IGNORECASE)]
chosen, sentence = (says_left or pairs)[0]
image = normalise(data.images(np.array([chosen])))         # [1, 1, H, W]
moved = Augmentation()(image.expand(5, -1, -1, -1), torch.Generator().manual_seed(seed))
pictures = [image[0, 0], *moved[:, 0], image[0, 0].flip(1)]
titles = ["as it is", *["moved"] * 5, "mirrored: never"]

# %%
figure, grid = plt.subplots(1, len(pictures), figsize=(12, 2.2))
for axes, picture, title in zip(grid, pictures, titles):
    plot_radiograph(axes, picture, title=title)
grid[-1].plot([0, 1], [0, 1], color=COLOURS["shuffled"], transform=grid[-1].transAxes)
figure.suptitle(sentence, fontsize="medium")
show(
    figure,
    alt="A radiograph, five slightly rotated and shifted copies of it, and its mirror image, "
    "crossed out.",
    caption="Figure 5.9: what augmentation does, and what it must not do.",
)

# %% [markdown]
# **What could go wrong**: a crop that removes the finding. The sentence is then false, though
# nobody mirrored anything. Hence the modest crops.

# %% [markdown]
# ## Key points
#
# - A study is one report and one or more images; the patient is what is split.
# - Image and sentence share what the hidden state gives both, and no more:
#   $I(Z; S) \le I(H; S)$. In the synthetic study that number is known.
# - Cut sentences with rules made for reports. The common shortcut turns 2.5 cm into 5 cm.
# - The same sentence comes again and again; a mask keeps its twins out of the mismatched pairs.
# - A flipped statement costs more information than one left out.
# - Labels come from reports: what is explicit is not what is there.
# - Leaks stop the run. The cache makes an epoch cheap, and its fingerprint names the data.
# - No flips: a heart has a side.
#
# ## References
#
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - Johnson et al. 2019, MIMIC-CXR, a de-identified publicly available database of chest
#   radiographs with free-text reports, Scientific Data. <https://doi.org/10.1038/s41597-019-0322-0>
# - Irvin et al. 2019, CheXpert: a large chest radiograph dataset with uncertainty labels and
#   expert comparison, AAAI. <https://doi.org/10.1609/aaai.v33i01.3301590>
# - Cover and Thomas 2006, Elements of Information Theory. <https://doi.org/10.1002/047174882X>
# - Zech et al. 2018, Variable generalization performance of a deep learning model to detect
#   pneumonia in chest radiographs, PLOS Medicine. <https://doi.org/10.1371/journal.pmed.1002683>

# %% tags=["record"]
from pathlib import Path

from localmi.train.record import describe_data, write_results

record = write_results(
    Path(run_dir) if run_dir else None,
    notebook="05_radiographs_and_reports",
    parameters={"seed": seed, "data_dir": data_dir, "cache_dir": cache_dir},
    data=describe_data(load_study(data_dir, cache_dir)),
    metrics={},
    seconds=time.perf_counter() - began,
)
