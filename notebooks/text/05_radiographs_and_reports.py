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
# **You will be able to** find your way in the files of MIMIC-CXR, say how a hidden state makes an
# image and a sentence, cut a report into sections and sentences without breaking it, compute how
# much image and sentence can share at most, choose what an uncertain or blank label counts as, and
# read a batch with its mask.
#
# **Before this**: nothing but Python. Of mutual information it is enough to know that it says by
# how many nats one thing narrows down another; of InfoNCE, which sections 5 and 6 name, that it
# learns by telling the matched sentence from $K - 1$ others, and never reports more than $\log K$
# ([chapter 2](02_variational_bounds.ipynb)).
#
# **Reading time**: 40 minutes.
# **Run time**: half a minute on one core; a GPU is not used. **Memory**: 1 GB.
# **Data**: the example study, synthetic from end to end, in the layout of MIMIC-CXR. With `data_dir`
# the same cells run on MIMIC-CXR, OpenI or a CSV of your own; what needs a known truth then says so
# and is left out.

# %% tags=["setup"]
from textwrap import fill, shorten

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from localmi.course import COLOURS, check, contact_sheet, plot_radiograph, set_up, show
from localmi.study import example_dir, load_study, load_truth

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
# MIMIC-CXR comes in three downloads: images and tables (MIMIC-CXR-JPG), reports (MIMIC-CXR), grades
# of edema. The example has all of it, under the official names. Its reports lie beside the images;
# they may also lie under another root, or stay in `mimic-cxr-reports.zip`.

# %%
from localmi.data import reasons

example = example_dir()
files = {path.name: pd.read_csv(path) for path in sorted(example.rglob("*edema_severity.csv"))}
files = {path.name: pd.read_csv(path) for path in sorted(example.glob("mimic*.csv*"))} | files
for name, table in files.items():
    print(f"{len(table):5,} rows, one {'an image' if 'dicom_id' in table else 'a study'}: {name}")
one = files["mimic-cxr-2.0.0-split.csv.gz"].query("split == 'test'")["study_id"].mode()[0]
for path in sorted(example.glob(f"files/p9?/p9*/s{one}*")):
    print(path.relative_to(example).as_posix())
    for image in sorted(path.glob("*")):
        print(f"    {image.name}")

# %% [markdown]
# What each table says of this study:

# %%
for name, table in files.items():
    for _, row in table[table["study_id"] == one].head(1).iterrows():
        words = row.dropna().drop(["subject_id", "study_id"], errors="ignore").to_dict()
        print(fill(f"{name}: {words}", 95, subsequent_indent="    "), end="\n\n")

# %% [markdown]
# `chexpert` is what a program read in the report, `test-set-labeled` (version 2.1.0) what
# radiologists read there; "Airspace Opacity" is the others' "Lung Opacity". Dates are shifted, by
# another span for each patient: only their order within a patient means something. `load_study`
# joins all this on the ids, checks it, and prepares images and sentences once. How it does so with
# a whole download is [chapter 13](13_preparing_mimic_cxr.ipynb).

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
# made by patient (chapter 13).
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
from localmi.phantom import Finding, PhantomConfig, Study, compose_report, render

config = PhantomConfig(seed=seed)
effusion = Finding("pleural_effusion", {"side": "left", "level": "large"}, contrast=1.0)
healthy = Study(patient=7, number=0, view="PA", findings=(), num_images=2)
ill = Study(patient=7, number=0, view="PA", findings=(effusion,), num_images=2)
other = Study(patient=11, number=0, view="PA", findings=(effusion,), num_images=1)
for name, one in (("H: nothing", healthy), ("H: effusion", ill), ("another patient", other)):
    said = [s.text for s in compose_report(one, config).sentences if "effusion" in str(s.finding)]
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
# **What could go wrong**: this is a drawing, by a program. A method that fails on it has a fault. A
# method that works on it has not been shown to work on patients: texture, projection and the
# habits of radiologists are all simpler here.

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
# Contrast and size are drawn at random, and faint findings can only be guessed: else every method
# would reach an AUC of 1 and none could be told from another.
#
# Two more things change the image. The **view**: in a PA image the rays come from behind and the
# heart lies close to the film; in an AP image (a patient in bed) they come from the front and the
# heart looks larger. The **grade**: edema is graded 0 to 3, a task of the paper.

# %%
from localmi.phantom import Finding, PhantomConfig, Study, render


def one_chest(view, **findings):
    present = tuple(
        Finding(name, {"level": level}, contrast=1.0) for name, level in findings.items()
    )
    return render(Study(26, 0, view, present, 1), PhantomConfig(seed=seed)).image


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
from pathlib import Path

from localmi.data import body_sections, read_pairs, sections, sentence_kind, split_sentences

has_reports = data_dir and not (Path(data_dir) / "meta.json").is_file()  # a prepared cache has none
pairs = read_pairs(data_dir if has_reports else example_dir()).table
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
# Not every report has such headers. The rules that come with MIMIC-CXR know dozens of spellings, then
# words inside a header, then titles; what was added later stands first, above a line of
# underscores. One case a rule:

# %%
cases = {
    "another word": " CONCLUSION:  No effusion.",
    "misspelt": " IMPRESSON:  No effusion.",
    "a word in the header": " FINAL IMPRESSION:  No effusion.",
    "title for a header": " CHEST, PA AND LATERAL:  Clear lungs.",
    "sub-headers": " FINDINGS:\n LUNGS:  Clear.\n HEART:  Normal.",
    "neither: last paragraph": " INDICATION:  Cough.\n \n Clear lungs.",
    "no header at all": " AP CHEST\n \n Clear lungs.",
    "addendum": f" WET READ:  Edema?\n {'_' * 40}\n IMPRESSION:  No edema.",
    "comparison only": " COMPARISON:  Unchanged since ___.",
}
for rule, report in cases.items():
    body = {name: " ".join(text.split()) for name, text in body_sections(report).items()}
    print(f"{rule:24} {body}")

# %% [markdown]
# The official order takes *one* section: impression, else findings, last paragraph, comparison. The
# course takes findings *and* impression, and that order where neither stands. The wet read is left
# out: the report corrects it.
#
# Now the shortcut that much public code takes: delete every number with a period after it, as if
# it were a list's, then cut at each period.

# %%
def shortcut(text):
    return [piece.strip() for piece in re.sub(r"[0-9]+\.", "", text).split(".") if piece.strip()]


example = """ 1. Endotracheal tube ends 2.5 cm above the
 carina. 2. Discussed with Dr. ___ at 3:15 p.m., by telephone."""
print("shortcut:", *shortcut(example), sep="\n   ")
print("rules:   ", *split_sentences(example), sep="\n   ")

# %% [markdown]
# A tube 5 cm above the carina is another finding than one at 2.5 cm. How often does it happen here?

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
# The shortcut destroys **395 decimals**, each one that the study has. On the 3,955 real reports of
# OpenI the course's rules lose no decimal and make no sentence of digits alone; a test checks it.
#
# **What could go wrong**: splitters for general English do worse, not better. Some make sentences
# of list numbers, some cut at the wrapped line's end. Look at a hundred of *your* sentences first.
#
# ### Exercise 5.1
#
# Write a splitter of four lines, text to a list of strings, that survives decimals, wrapped lines and list
# numbers. Hint: a period ends a sentence only if white space follows it.

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
# **91 %** of the sentences are exact repetitions, and in a batch of 64 a share of **0.24** has a twin.
# In the real reports of OpenI, cut by the same rules, it is 62 % and 14 %: our synthetic radiologist
# has fewer words and repeats more.
#
# The remedy is a mask: a pair whose words are those of the matched pair is no mismatched pair
# (section 8). It has a price: mismatched sentences are no longer drawn like matched ones. How much is that?
# Take a world that can be computed: one sentence is common, twenty are rare; four images in five show which
# one is said, the others show any. The critic is the best there is, batches are of 64.

# %%
from scipy.special import logsumexp

SHOWN, RARE, K = 0.8, 20, 64


def with_twins(common):  # share of the common sentence -> (truth, as drawn, masked) of InfoNCE
    rng = np.random.default_rng(seed)
    p = np.array([common] + [(1 - common) / RARE] * RARE)
    said = rng.choice(RARE + 1, (100, K), p=p)  # 100 batches
    seen = np.where(rng.random(said.shape) < SHOWN, said, rng.choice(RARE + 1, said.shape, p=p))
    ratio = np.log(SHOWN * (seen[:, :, None] == said[:, None, :]) / p[said][:, None, :] + 1 - SHOWN)
    twins = (said[:, :, None] == said[:, None, :]) & ~np.eye(K, dtype=bool)
    values = []
    for left_out in (np.zeros_like(twins), twins):
        sums = logsumexp(np.where(left_out, -np.inf, ratio), axis=2) - np.log((~left_out).sum(axis=2))
        values.append((np.diagonal(ratio, axis1=1, axis2=2) - sums).mean())
    joint = np.diag(p) * SHOWN + (1 - SHOWN) * np.outer(p, p)
    return (joint * np.log(joint / np.outer(p, p))).sum(), *values


# %%
index = pd.Index([0.05, 0.2, 0.4, 0.6, 0.8], name="share of the common sentence")
columns = ["true MI", "InfoNCE, as drawn", "InfoNCE, twins masked"]
pd.DataFrame([with_twins(common) for common in index], index, columns).round(2)

# %% [markdown]
# As they are drawn, twins make the bound neither wrong nor loose: a mismatched pair *may* be true, the truth
# knows that as well. Masked, it reports up to a nat that is not there. So the course trains *with* the mask, for
# a twin would be punished for nothing, and reports *without* it.
#
# **What could go wrong**: twins in meaning. "No effusion." and "There is no pleural effusion." are
# different words and the same statement. No mask of equal strings sees that.

# %% [markdown]
# ## 6 How much can an image and a sentence share?
#
# Nobody knows it of patients. Of the synthetic study all states are known, so it can be computed what
# a sentence says of the hidden state, $I(H; S)$. The image can share that much with it, and no more
# (section 2).
#
# Start with one finding of prevalence $p$, and a report that says it wrongly with probability
# $\varepsilon$. With $h(q) = -q\log q - (1-q)\log(1-q)$, and $p' = p(1-\varepsilon) +
# (1-p)\varepsilon$ how often the report says "present",
#
# $$I(H; S) = h(p') - h(\varepsilon) \quad\text{nats}.$$

# %%
from localmi.phantom import PhantomConfig, ReportNoise, true_mi


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
# One sentence: **1.10 nats**. The whole report: **7.52 nats**, for it speaks of nearly everything. So a
# global model has more to find. But a batch whose InfoNCE cap $\log K$ lies above that must have
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
    caption="Figure 5.6: what is said of the hidden state; the image can share no more of it.",
)

# %% [markdown]
# For a single sentence a flip costs much more than an omission: who is silent does not lie. For a
# whole report the two come close, because silence is a statement too: here a present finding is
# always spoken of, so whoever reads nothing of a pneumothorax may conclude that there is none.
# Omissions spoil that conclusion. Where half is flipped, the polarity says nothing; what is left
# comes from what is spoken of at all, and from sides, zones and levels.
#
# **What could go wrong**: to take these numbers for $I(Z; S)$. Image and sentence share *at most*
# that, and less where a finding is too faint to be seen; how much less nobody has computed. An
# *estimate* that ends above is not a triumph. It is a fault.
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
# ## 7 What do labels know, and what is a blank?
#
# Labels are made of reports, by a program (CheXpert): 1 present, 0 denied, -1 uncertain, blank not
# mentioned. One row a study.

# %%
from localmi.data import PATHOLOGY9, POLICIES, beside_table_1, class_counts

study = load_study(data_dir, cache_dir)
labels = study.manifest.drop_duplicates("study_id").set_index("study_id")
names = [name for name in PATHOLOGY9 if name in labels]
codes = {-2.0: "not mentioned", -1.0: "uncertain", 0.0: "denied", 1.0: "present"}
said = {name: labels[name].fillna(-2.0).map(codes).value_counts() for name in names}
said = pd.DataFrame(said, index=list(codes.values())[::-1]).fillna(0).T
colours = [COLOURS[name] for name in ("shuffled", "held-out", "mask")] + ["#DDDDDD"]
if names:
    axes = said.plot.barh(stacked=True, width=0.8, color=colours, figsize=(8, 3.8))
    axes.set(xlabel="studies")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=4)
    show(
        axes.figure,
        alt="For each finding about half of the studies say nothing; the others say present or deny "
        "in like numbers, few hedge.",
        caption="Figure 5.7: what the labels of nine findings say.",
    )

# %% [markdown]
# A classifier needs ones and zeros. A *policy* makes them: `explicit` counts 1 and 0 only; `zeros`
# and `ones` also count -1, as 0 or as 1; with `_blank_zero` a blank counts as 0 as well. Over the
# nine findings:

# %%
nine = labels[[*names, "split", "view"]]  # a row a study
rows = {policy: class_counts(nine, policy).sum() for policy in POLICIES if names}
table = pd.DataFrame(rows, index=["positive", "negative", "ignored"]).T.astype(int)
table["share positive"] = (table["positive"] / (table["positive"] + table["negative"])).round(3)
truth = load_truth(data_dir)
if truth is not None:
    states = truth.latents.set_index("study_id").loc[labels.index]
    seen = states.filter(regex="_contrast$").notna()
    seen.columns = [name.removesuffix("_contrast").replace("_", " ").title() for name in seen]
    seen["Lung Opacity"] |= seen["Pneumonia"] | seen["Consolidation"]  # both are opacities
    print(f"share of findings that are there: {seen[names].mean().mean():.3f}")
table

# %% [markdown]
# Explicit labels make a finding look about twice as frequent as it is (**0.460** against **0.248**): what
# is there is mentioned, what is not there is mostly passed over. Taking blanks for zeros mends that
# *here*. Few hedge, so a hedge moves little; but with blanks as zeros, a hedge taken for a zero
# (`zeros_blank_zero`) moves the share away from the truth: in this study a hedged finding is always
# there, in real ones often.
#
# Does a policy explain the paper's Table 1? The library counts labelled images beside it:

# %%
beside_table_1(study.manifest).drop(columns=["test, zeros or ones"])

# %% [markdown]
# Our counts show how such a table is made, and that `zeros` and `ones` label the same images. They
# cannot say which policy the paper used, which it does not name: who mentions what, and how often,
# was our choice, nearly equal for all findings, where the paper's differ fourfold. That `explicit`
# on frontal images fits is inference; this cell on MIMIC-CXR lets you judge it. If so, the paper's
# AUCs are about *mentioned* findings. (The text of Table 1 at hand lacks the test counts of its
# second half: `<NA>`.)
#
# **What could go wrong**: -1 taken for a low kind of 0, or a blank for a denial. *No Finding* is 1
# or blank, never 0: under `explicit` it has no negatives, and an AUC of it is undefined.
#
# ### Exercise 5.3
#
# Write the policy `zeros`: targets 0 or 1, and a mask that says which of them count.

# %%
def my_targets(values):                       # array of 1, 0, -1 and NaN (blank)
    ...                                       # return targets, mask

check.exercise_5_3(my_targets)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_targets(values):                       # array of 1, 0, -1 and NaN (blank)
    targets = (values == 1).astype(float)     # uncertain and denied: 0
    return targets, ~np.isnan(values)         # a blank does not count

check.exercise_5_3(my_targets)

# %% [markdown]
# ## 8 What does one step of training see?
#
# A batch: $B$ images, and of each image's report one sentence drawn at random (paper, Fig. 2). Row
# $i$ is image $i$, column $j$ is sentence $j$; matched pairs stand on the diagonal. Which of the
# others may serve as mismatched pairs?
#
# $$\text{allowed}_{ij} = [\,\text{study}_i \ne \text{study}_j\,]\cdot
# [\,\text{text}_i \ne \text{text}_j\,]$$

# %%
import torch

from localmi.data import SplitData, TrainingBatches, epoch_order, normalise
from localmi.mi import may_mismatch

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
# And a run that was stopped after step 40: will it see in step 41 what it would have seen? Yes, for a
# batch depends on the data, the seed and the number of the step, and on nothing else.

# %%
size = min(32, len(data))
steps = TrainingBatches(data, size=size, seed=seed)
for step in range(42):  # a run without a break
    batch = steps[step]
resumed = TrainingBatches(data, size=size, seed=seed)[41]  # of a process that saw no step before
assert torch.equal(resumed.images, batch.images) and torch.equal(resumed.text, batch.text)
print("step 41 is the same, image by image and sentence by sentence")

order = epoch_order(243_334, np.random.default_rng(seed), at_once=65_536)  # all frontal images
assert np.array_equal(np.sort(order), np.arange(243_334))  # each once an epoch
near = len(np.unique(order[:60_000] // 4096))  # of 4,096 images each
print(f"the first 60,000 images of a large epoch come from {near} of 60 shards")

# %% [markdown]
# The last line is for data larger than the memory: drawn from all shards, each image would be a wait
# for the disk. So blocks of neighbours are shuffled, then the images of some blocks at a time (4
# GB). The example fits into one such group and is simply shuffled.
#
# ### Exercise 5.4
#
# Write the mask for a batch with these studies and texts, both tensors `[B]`: True where a pair may stand as
# mismatched.

# %%
def my_allowed(study, text):                              # [B], [B]
    ...

check.exercise_5_4(my_allowed)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_allowed(study, text):                              # [B], [B]
    other_study = study[:, None] != study[None, :]        # [B, B]
    other_words = text[:, None] != text[None, :]
    return other_study & other_words

check.exercise_5_4(my_allowed)

# %% [markdown]
# ## 9 Why no flips?
#
# Training moves each image a little: it is rotated, shifted and cropped (paper, Sec. 4; by up to 20°,
# 10 % and a tenth here, for the paper names no numbers). What a sentence says stays true. Mirror the image, and "left" becomes a lie, and the
# heart lies on the wrong side, which happens to one person in ten thousand.

# %%
import re

import torch

from localmi.data import Augmentation, SplitData, normalise

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
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** A study has two images and one report. How do they go into a batch?
#
# <details><summary>As two independent pairs.</summary>
#
# **No.** Set against each other as mismatched, they punish the model for being right.
#
# </details>
# <details><summary>Both may, but not as each other's mismatched pair.</summary>
#
# **Right.** The mask of section 8 takes such pairs out.
#
# </details>
# <details><summary>Only one of them may ever be used.</summary>
#
# **No.** That would throw images away without need.
#
# </details>
#
# **Question 2.** "2.5 cm above the carina" becomes "5 cm above the carina". Whose fault?
#
# <details><summary>A splitter that takes 2. for a list's number.</summary>
#
# **Right.** The common shortcut; it destroys every decimal of the study.
#
# </details>
# <details><summary>The radiologist's: decimals have no place in a report.</summary>
#
# **No.** They are where the clinical meaning lies.
#
# </details>
# <details><summary>Nobody's: the network averages over such details.</summary>
#
# **No.** A tube at 5 cm is another finding than one at 2.5 cm.
#
# </details>
#
# **Question 3.** "No pleural effusion." stands in two reports of a batch. What does the loss do without a
# mask?
#
# <details><summary>Nothing: equal texts have equal scores.</summary>
#
# **No.** Equal scores, but one of them is to rise and the other to fall.
#
# </details>
# <details><summary>It learns the sentence twice as well.</summary>
#
# **No.** Of its two copies one is called right and one wrong, for the same image.
#
# </details>
# <details><summary>It punishes the model for finding a true sentence true.</summary>
#
# **Right.** The twin is true of this image. With the mask it does not count.
#
# </details>
#
# **Question 4.** The true information of a sentence is at most 1.10 nats. Your model reports 1.4, with an
# interval of [1.3, 1.5]. What now?
#
# <details><summary>Publish: it beats the truth.</summary>
#
# **No.** The truth cannot be beaten.
#
# </details>
# <details><summary>Raise the batch: the cap is too low.</summary>
#
# **No.** A low cap makes a value too small.
#
# </details>
# <details><summary>Look for the fault: training value, matched pairs that are selected, twins left out.</summary>
#
# **Right.** An estimate above the truth is no triumph. A mask of twins alone lifts it.
#
# </details>
#
# **Question 5.** A label is blank. What does that say?
#
# <details><summary>The finding is absent.</summary>
#
# **No.** It was not *mentioned*. What is absent is mostly passed over, but so is much that is present.
#
# </details>
# <details><summary>Nothing by itself: name the policy that makes a 0 or a gap of it.</summary>
#
# **Right.** With explicit labels alone a finding looks about twice as frequent as it is.
#
# </details>
# <details><summary>The label is missing at random.</summary>
#
# **No.** What is there is mentioned far more often than what is not.
#
# </details>
#
# **Question 6.** Why are radiographs not mirrored in training, as photographs are?
#
# <details><summary>"Left" would become a lie.</summary>
#
# **Right.** And the heart on the right side happens to one person in ten thousand.
#
# </details>
# <details><summary>They are symmetric, so it would be useless.</summary>
#
# **No.** They are not: the heart lies on the left.
#
# </details>
# <details><summary>It would be too slow.</summary>
#
# **No.** It is among the cheapest things one can do.
#
# </details>

# %% [markdown]
# ## Key points
#
# - A study is one report and one or more images; the patient is what is split.
# - Image and sentence share what the hidden state gives both, and no more:
#   $I(Z; S) \le I(H; S)$. In the synthetic study the right side is known.
# - Cut reports with rules made for them. The common shortcut turns 2.5 cm into 5 cm.
# - The same sentence comes again and again; a mask keeps its twins out of the mismatched pairs.
# - A flipped statement costs more information than one left out.
# - What is labelled is not what is there. The policy for uncertain and blank labels decides how
#   frequent a finding looks: name it beside every AUC.
# - A batch is a function of data, seed and step: a resumed run is the same run.
# - No flips: a heart has a side.
#
# ## References
#
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - Johnson et al. 2019, MIMIC-CXR, a de-identified publicly available database of chest
#   radiographs with free-text reports, Scientific Data. <https://doi.org/10.1038/s41597-019-0322-0>
# - Johnson et al. 2019, MIMIC-CXR-JPG, a large publicly available database of labeled chest
#   radiographs. <https://doi.org/10.48550/arXiv.1901.07042>. The official rules for sections:
#   <https://github.com/MIT-LCP/mimic-cxr>
# - Demner-Fushman et al. 2016, Preparing a collection of radiology examinations for distribution
#   and retrieval (OpenI), JAMIA. <https://doi.org/10.1093/jamia/ocv080>
# - Irvin et al. 2019, CheXpert: a large chest radiograph dataset with uncertainty labels and
#   expert comparison, AAAI. <https://doi.org/10.1609/aaai.v33i01.3301590>
# - Cover and Thomas 2006, Elements of Information Theory. <https://doi.org/10.1002/047174882X>
# - Zech et al. 2018, Variable generalization performance of a deep learning model to detect
#   pneumonia in chest radiographs, PLOS Medicine. <https://doi.org/10.1371/journal.pmed.1002683>

# %% tags=["record"]
from localmi.record import record_metrics

record = record_metrics({}, data=study.describe(), run_dir=run_dir)
