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
# # 13 Preparing MIMIC-CXR
#
# **You will be able to** say which files of MIMIC-CXR are needed and what they are called, turn a
# download into one table and a checked cache, read what was refused and why, split patients so that
# none is in two splits, find the image in which one bit has changed, and keep credentialed data out
# of notebooks and commits.
#
# **Before this**: [5 Radiographs and reports](05_radiographs_and_reports.ipynb), what a study is
# (section 1) and the policies of labels (section 7).
#
# **Reading time**: 25 minutes.
# **Run time**: half a minute on one core; a GPU is not used. **Memory**: 1 GB.
# **Data**: the example study, which has the layout and the file names of MIMIC-CXR, so that nobody
# needs the real one to read this. With `data_dir` sections 3 and 4 run on a study of your own.

# %% tags=["setup"]
from textwrap import fill, shorten

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from localmi.course import COLOURS, check, plot_radiograph, set_up, show
from localmi.study import example_dir, load_study

set_up()

# %% tags=["parameters"]
seed = 0  # of everything random
data_dir = ""  # folder of a study or a CSV file, "" is the example study
cache_dir = ""  # folder of its cache, "" is a folder beside the data
run_dir = ""  # where results are kept, "" keeps nothing

# %% [markdown]
# ## 1 What is downloaded, and what becomes of it?
#
# Before a training on all of MIMIC-CXR its files must become what training reads. They lie on PhysioNet, in three projects, open to whoever has had
# the training it asks for and has signed its agreement (section 6 says what that forbids).
#
# | project | file | holds |
# |---|---|---|
# | [MIMIC-CXR-JPG](https://physionet.org/content/mimic-cxr-jpg/) | `files/` | images |
# | (2.0.0 or 2.1.0) | `mimic-cxr-2.0.0-metadata.csv.gz` | ids and views |
# | | `mimic-cxr-2.0.0-split.csv.gz` | splits |
# | | `mimic-cxr-2.0.0-chexpert.csv.gz` | labels (optional) |
# | | `mimic-cxr-2.1.0-test-set-labeled.csv` | labels by radiologists (optional) |
# | [MIMIC-CXR](https://physionet.org/content/mimic-cxr/) | `mimic-cxr-reports.zip` | reports, packed or unpacked |
# | [grades of edema](https://physionet.org/content/mimic-cxr-pe-severity/) | `regex_report_edema_severity.csv` | by rules, from reports (optional) |
# | | `expert_report_edema_severity.csv` | by experts, from reports (optional) |
# | | `consensus_image_edema_severity.csv` | by experts, from images (optional) |
#
# Where an optional file is missing its labels are blank, and a note says so. The DICOM files of
# MIMIC-CXR do as well as the JPEGs, with the same tables. What then follows are five commands, here
# with the downloads beside the course, *outside* its folder, where no `git add` reaches them (`python`
# is the course's own, `.venv/bin/python`):
#
# ```
# python -m localmi prepare --source mimic --data-dir ../mimic-cxr-jpg \
#   --reports ../mimic-cxr-reports.zip --out ../mimic-256 --dry-run
# python -m localmi prepare --source mimic --data-dir ../mimic-cxr-jpg \
#   --reports ../mimic-cxr-reports.zip --out ../mimic-256
# python -m localmi verify ../mimic-256
# make hooks
# python -m localmi scan --against ../mimic-256
# ```
#
# The first says what is missing, what will be refused, and what it all costs; the second makes the
# cache (sections 2 to 4). The third finds what has changed since (section 5). The last two see to
# it that nothing of it is stored where it must not be (section 6).
#
# A notebook takes the cache's folder as its `data_dir`, and `cache_dir` then stays empty: so do
# chapters 7, 8 and 9. The grid of chapter 10 takes it too, and the chapter reads its tables
# (`tables_dir`). On GPUs, at the paper's sizes:
#
# ```
# python -m localmi run notebooks/07_train_local_mi.ipynb \
#   -f notebooks/parameters/07_paper.yaml -p data_dir ../mimic-256
# make tables GRID=grid/mimic.yaml PROFILE=grid/slurm ARGS='--config data_dir=../mimic-256'
# ```
#
# Two more options. `--records ../mimiciv` adds to each image what
# [MIMIC-IV](https://physionet.org/content/mimiciv/), a fourth project, records of its patient and
# stay: sex, age, admitted or not, died or not, in intensive care or not, and how long, as of the
# minute of the study. Whatever does not fit together (no such patient, stays that overlap, an image
# after a death) is counted and named, and nothing is filled in. `--source nih` and
# `--source chexpert` prepare NIH-14 and CheXpert, which have labels and no reports: to test image
# encoders on (chapter 8), not to pretrain them by texts.
#
# Whoever forgets a file is told which. Start with an empty folder, and add what is asked for:

# %%
import shutil
import tempfile
from pathlib import Path

from localmi.data import read_pairs
from localmi.errors import DataError

scratch = tempfile.TemporaryDirectory()
half = Path(scratch.name).resolve() / "half-a-download"
half.mkdir()
for name in ("metadata", "split", "chexpert"):
    try:
        read_pairs(half, "mimic")
    except DataError as error:
        words = shorten(str(error).replace(str(half), half.name), 220, placeholder=" ...")
        print(fill(f"- {words}", 95, subsequent_indent="  "))
    shutil.copy(example_dir() / f"mimic-cxr-2.0.0-{name}.csv.gz", half)
scratch.cleanup()

# %% [markdown]
# **What could go wrong**: a download that looks whole. Among 377,110 images and 227,835 reports
# nobody sees by looking that one is missing, or was cut short. The next section looks for such.

# %% [markdown]
# ## 2 From a download to one table: what is refused?
#
# Three sources give one table, a row an image: ids, file, report, view, split. MIMIC-CXR names its
# splits. OpenI names not even its patients: each report counts as one. A CSV needs three columns.

# %%
import json
import shutil
import tempfile
from pathlib import Path

from PIL import Image, ImageFile

from localmi.data import build_cache, describe_pairs, estimate_needs, read_pairs
from localmi.errors import StudyLeakError

scratch = tempfile.TemporaryDirectory()
openi, ours = Path(scratch.name) / "openi", Path(scratch.name) / "ours"
xml = """<r><uId id="CXR{0}"/><AbstractText Label="FINDINGS">Clear lungs.</AbstractText>
<parentImage id="CXR{0}_IM-{0}-1001"/></r>"""

# %%
(openi / "ecgen-radiology").mkdir(parents=True)
ours.mkdir()
lines = [f"{n}.png,FINDINGS: Clear lungs.,patient {n}" for n in (1, 2, 3)]
(ours / "pairs.csv").write_text("\n".join(["image,report,patient_id", *lines]))
for n in (1, 2, 3):  # a picture of any kind, and a report
    for picture in (openi / f"CXR{n}_IM-{n}-1001.png", ours / f"{n}.png"):
        Image.new("L", (64, 64), n).save(picture)
    (openi / "ecgen-radiology" / f"{n}.xml").write_text(xml.format(n))

folders = {"MIMIC-CXR": example_dir(), "OpenI": openi, "CSV": ours}
first = {name: read_pairs(folder).table.iloc[0] for name, folder in folders.items()}
shown = pd.DataFrame(first).loc[["patient_id", "study_id", "image_id", "view", "split", "report"]]
shown.loc["report"] = [" ".join(text.split())[:28] for text in shown.loc["report"]]
shown.loc["image_id"] = shown.loc["image_id"].str[:20]
shown

# %% [markdown]
# Real downloads have faults. Take ten patients of the example and plant some.

# %%
example, broken = example_dir(), Path(scratch.name) / "broken"
names = [f"mimic-cxr-2.0.0-{what}.csv.gz" for what in ("metadata", "split", "chexpert")]
tables = [pd.read_csv(example / name) for name in names]
ten = sorted(set(tables[0]["subject_id"]))[:10]
metadata, split, chexpert = (table[table["subject_id"].isin(ten)].copy() for table in tables)
for patient in ten:
    shutil.copytree(example / f"files/p90/p{patient}", broken / f"files/p90/p{patient}")
image = [next(broken.rglob(f"{name}.jpg")) for name in metadata["dicom_id"]]
report = [path.parent.with_suffix(".txt") for path in image]

# %%
studies = metadata["study_id"]
split.loc[split["study_id"] == studies[2], "split"] = "test"  # a patient with a study in train
image[0].write_bytes(image[0].read_bytes()[:3000])  # a download that stopped
image[4].unlink()  # one that never began
report[6].unlink()
report[14].write_text(" IMPRESSION: \n")
metadata.loc[[8, 9], "ViewPosition"] = ["LATERAL", "SKULL"]
chexpert = chexpert[chexpert["study_id"] != studies[13]]
for name, table in zip(names, (metadata, split, chexpert)):
    table.to_csv(broken / name, index=False)

# %% [markdown]
# By default a patient in two splits stops everything:

# %%
try:
    read_pairs(broken)
except StudyLeakError as error:
    print(fill(f"StudyLeakError: {error}", 95))
pairs = read_pairs(broken, leaks="reject")
print()
for line in describe_pairs(pairs).splitlines():
    print(fill(line, 95, subsequent_indent="    "))

# %% [markdown]
# *Rejected* is what was asked for and cannot be used; *not asked for* is left out by choice (lateral
# views, unless `--views AP,PA,LATERAL,LL` asks for them: chapter 11 has a use for them, all other
# chapters pass over them); a *note* is neither. This is the first half of what the command says:
# `python -m localmi prepare --source mimic --data-dir ... --out ... --leaks reject --dry-run`. The
# second half is the cost, from a timed sample of files. For the whole example:

# %% tags=["nbval-ignore-output"]
whole = read_pairs(example)
print(fill(str(estimate_needs(whole, Path(scratch.name) / "cache")), 95))

# %% [markdown]
# Images are opened only when the cache is made. So the stopped download and the empty impression
# are found now:

# %%
cache = build_cache(pairs, Path(scratch.name) / "cache", leaks="reject")
told = json.loads((cache.folder / "report.json").read_text())
for reason, count in told["rejected"].items():
    print(f"{count} {reason}")
print(f"{told['images']} images are left of {len(metadata)}; not asked for: {told['left_out']}")

# %%
there = np.asarray(Image.open(example / image[0].relative_to(broken)))
ImageFile.LOAD_TRUNCATED_IMAGES = True  # what a lenient reader makes of the part that came
came = np.asarray(Image.open(image[0]))
ImageFile.LOAD_TRUNCATED_IMAGES = False
figure, panels = plt.subplots(1, 2, figsize=(6, 3.3))
for axes, picture, title in zip(panels, (there, came), ("the file", "its first 3,000 bytes")):
    plot_radiograph(axes, picture, title=title)
show(
    figure,
    alt="A radiograph; and the same one of which only the top is there, all below is plain grey.",
    caption="Figure 13.1: a download that stopped, as a lenient reader would pass it on.",
)
scratch.cleanup()

# %% [markdown]
# A network would take the grey for a finding, and nobody would hear of it. Here the image is
# refused, and counted. With the counts of chapter 5 (section 7) for each split, view and policy all
# of this lies in the cache as `report.txt`. Killed at any moment, the command goes on from there,
# to the same bytes.
#
# **What could go wrong**: who is rejected is not a random sample. Read the reasons before you trust
# the rest.

# %% [markdown]
# ## 3 Who is in which split?
#
# MIMIC-CXR names its splits. Where a study names none, they are made by patient. A common mistake is
# to split *rows* at random. With shares $f_s$, here .8, .1 and .1, the $k$ images of a patient then
# end in more than one split with probability
#
# $$1 - \sum_s f_s^{\,k}.$$
#
# How many patients are that?

# %%
from localmi.data import split_patients

study = load_study(data_dir, cache_dir)
rng = np.random.default_rng(seed)
shares = np.array([0.8, 0.1, 0.1])
ids = study.manifest["patient_id"]
images = ids.groupby(ids).size()  # of each patient
at_random = rng.choice(["train", "validate", "test"], size=len(ids), p=shares)
torn = pd.Series(at_random).groupby(ids).nunique() > 1
formula = 1 - (shares[:, None] ** images.to_numpy()).sum(axis=0)
print(f"rows at random:  {torn.sum()} of {len(images):,} patients are in more than one split")
print(f"by the formula:  {formula.sum():.0f}")
ours = split_patients(study.manifest, shares, seed)["split"]
print(f"by patient:      {int((ours.groupby(ids).nunique() > 1).sum())}")

# %%
by_size = pd.DataFrame({"counted": torn, "formula": formula}).groupby(images).mean()
print(f"patients by number of images: {images.value_counts().sort_index().to_dict()}")
figure, axes = plt.subplots(figsize=(5.6, 3.4))
axes.plot(by_size["formula"], "--", color=COLOURS["truth"], label="formula")
axes.plot(by_size["counted"], "o", color=COLOURS["held-out"], label="counted", clip_on=False)
axes.set(xlabel="images of the patient", ylabel="share in more than one split", ylim=(0, 1))
axes.set_xticks(by_size.index)
axes.legend()
show(
    figure,
    alt="The more images a patient has, the likelier a random split of rows tears them apart; "
    "the count follows the formula where patients are many.",
    caption="Figure 13.2: what a split of rows does to patients.",
)

# %% [markdown]
# `split_patients` puts the patients in the order of a hash of their id, and cuts that list at the
# shares. The order of the rows does not matter, and no split is empty, however few patients there
# are. But a study grows. With some patients more, the list is longer, and the cuts lie elsewhere:

# %%
now = ours.groupby(ids).first()  # by patient
early = ids.isin(now.index[: len(now) * 9 // 10])  # before the last tenth came
then = split_patients(study.manifest[early], shares, seed)["split"].groupby(ids[early]).first()
print(f"{int((then != now[then.index]).sum())} of {len(then):,} patients have changed their split")

# %% [markdown]
# Whoever was in training and is in test now has been seen by every model trained before. Cut the
# hash itself instead, and nobody ever moves: it is the patient's own number, spread evenly over
# $[0, 1)$, and the others have no part in it. The price: shares are met on average only.
#
# **What could go wrong**: the same image under two names. When the cache is made, the check compares
# the pixels' fingerprints too. It cannot see the same image at another size, nor one person under
# two ids.
#
# ### Exercise 13.1
#
# Write such a split: for each row of the table one word. About .8 of the patients are in train, .1
# in validate, .1 in test; no patient is in two, and none moves when others come. Ids are text of any
# kind. Hint: `hashlib.sha256(text.encode()).hexdigest()` says the same on every machine. Python's
# own `hash(text)` does not: it differs at every start.

# %%
def my_split(table):                          # image_id, study_id, patient_id: a row an image
    ...                                       # return train, validate or test for each row

check.exercise_13_1(my_split)

# %% jupyter={"source_hidden": true} tags=["solution"]
import hashlib

def my_split(table):                          # image_id, study_id, patient_id: a row an image
    def place(patient):                       # in [0, 1), for ever the same
        return int(hashlib.sha256(patient.encode()).hexdigest(), 16) / 2**256

    places = table["patient_id"].map(place)
    return np.select([places < 0.8, places < 0.9], ["train", "validate"], "test")

check.exercise_13_1(my_split)

# %% [markdown]
# ## 4 What does a JPEG cost, and what does the cache buy?
#
# A radiograph of MIMIC-CXR has some eight million pixels; the network sees 256 × 256. An epoch of all
# frontal images would decode 243,334 files, and so would the next. Make three files of that size,
# and take the time.

# %%
import hashlib
import tempfile
import time
from pathlib import Path

from PIL import Image

from localmi.data import read_image

study = load_study(data_dir, cache_dir)
rng = np.random.default_rng(seed)
scratch = tempfile.TemporaryDirectory()
jpegs = [Path(scratch.name) / f"{number}.jpg" for number in range(3)]
for jpeg in jpegs:  # smooth, with grain: real ones have about 1.5 MB
    smooth = Image.fromarray(rng.integers(40, 216, (24, 20), np.uint8)).resize((2544, 3056))
    grain = rng.standard_normal((3056, 2544), dtype=np.float32)
    Image.fromarray((np.asarray(smooth) + 2 * grain).astype(np.uint8)).save(jpeg, quality=95)
row = study.images[0]
print(f"{len(study.images):,} rows of {row.shape}, {row.dtype}: {row.nbytes:,} bytes each")
assert hashlib.sha256(row.tobytes()).hexdigest() == study.manifest["sha256"][0]

# %% tags=["nbval-ignore-output"]
def fastest(work, things):
    """Milliseconds a thing, the best of three rounds: others use this machine too."""
    took = []
    for _ in range(3):
        start = time.perf_counter()
        for thing in things:
            work(thing)
        took.append(1e3 * (time.perf_counter() - start) / len(things))
    return min(took)


whole = fastest(lambda jpeg: Image.open(jpeg).resize((256, 256)), jpegs)
quick = fastest(lambda jpeg: read_image(jpeg, 256), jpegs)
row = fastest(lambda index: study.images[index], rng.integers(0, len(study.images), 2000))
size = np.mean([jpeg.stat().st_size for jpeg in jpegs]) / 1e6
print(f"a JPEG of {size:.1f} MB: {whole:.0f} ms; as prepare reads it: {quick:.0f} ms")
print(f"a row of the cache: {row:.3f} ms, {quick / row:,.0f} times as fast")
print(f"243,334 images: {243_334 * quick / 3.6e6:.1f} h once, then {243_334 * row / 1e3:.0f} s")
scratch.cleanup()

# %%
names = ["a JPEG, all its pixels", "a JPEG, as prepare reads it", "a row of the cache"]
figure, axes = plt.subplots(figsize=(7, 2))
axes.plot([whole, quick, row], names, "o", markersize=9, color=COLOURS["held-out"])
axes.set(xscale="log", xlabel="milliseconds an image", ylim=(2.5, -0.5))
axes.margins(x=0.1)
axes.grid(axis="x", color="#DDDDDD")
show(
    figure,
    alt="Three points on a logarithmic axis: the two ways to read a JPEG lie close together at "
    "the right, a row of the cache far to the left.",
    caption="Figure 13.3: the price of one image, each time it is used.",
)

# %% [markdown]
# `prepare` uses a property of JPEG: at an eighth, a quarter or half of its size it can be decoded
# without ever making all its pixels. Even so, one file costs as much as a thousand rows or so. A row
# is a copy from memory, once the system has read it; the cache of all frontal images takes 15.9 GB.
#
# These were three files on one machine. The full measurements are programs of the repository:
#
# - `python benchmarks/data.py rehearse`: 20,000 images with fifteen kinds of planted fault, each
#   accounted for; `grow`: time and memory by size; `decode`: hours for all of MIMIC-CXR;
# - `python benchmarks/index.py`: the tables and reports of all 377,110 images joined. Where this was
#   written that took 20 s of one core, and 0.7 GB;
# - `python benchmarks/loading.py`: batches a second, against decoding and a training step.
#
# **What could go wrong**: a cache that outlives its data. This one keeps the sizes and times of
# the files and the code that made it, and is built anew when any of them changes.

# %% [markdown]
# ## 5 Is the cache still what was written?
#
# How does anybody know that the cache is still what was written? Flip one bit of one image.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

from localmi.data import build_cache, read_pairs, verify_cache

scratch = tempfile.TemporaryDirectory()
pairs = read_pairs(example_dir())
folder = Path(scratch.name) / "cache"
before = build_cache(replace(pairs, table=pairs.table[:20]), folder).images[:]  # [20, 256, 256]
print(f"as written: {verify_cache(folder)}")
shard = folder / "shard-00000.npy"
rotten = bytearray(shard.read_bytes())
rotten[-30_000] ^= 1  # one bit of ten million
shard.write_bytes(rotten)
for words in verify_cache(folder):
    print(fill(words, 95))

# %%
after = load_study(folder).images[:]  # as a notebook opens a cache that data_dir names
(number,), (y,), (x,) = np.nonzero(after != before)
change = int(after[number, y, x]) - int(before[number, y, x])
print(f"image {number}, row {y}, column {x}: {change:+d} grey level of 255")
figure, panels = plt.subplots(1, 3, figsize=(9, 3.3))
titles = ["as written", "as it is now", "where they differ"]
for axes, picture, title in zip(panels, (before[number], after[number], after[number]), titles):
    plot_radiograph(axes, picture, title=title)
panels[2].plot(x, y, "o", markersize=14, fillstyle="none", color=COLOURS["shuffled"], mew=2)
show(
    figure,
    alt="Two radiographs that look the same, and the second once more with a ring around the one "
    "pixel that has changed.",
    caption="Figure 13.4: one bit. No eye finds it, its sha256 does.",
)
scratch.cleanup()

# %% [markdown]
# That is `python -m localmi verify CACHE`. One sha256 more goes over pixels, ids, splits, labels and
# sentences: the `data_hash`, which every result of the course carries. Two runs with one
# `data_hash` saw the same data; if somebody mends one label, it changes.
#
# **What could go wrong**: a fingerprint of something else than the bytes. The same numbers as floats,
# or in another order of the axes, are other bytes, and all images seem to have changed. A mean or a
# sum is no fingerprint at all: exchange two pixels, and it stays.
#
# ### Exercise 13.2
#
# Find the rows of a cache that are not what was written: `images` are its pixels, `hashes` the
# sha256 that was stored for each. Return the numbers of the rows, from 0. Hint:
# `row.tobytes()` are the bytes of an array.

# %%
def my_changed(images, hashes):               # uint8 [n, H, W]; n texts of 64 hexadecimal digits
    ...

check.exercise_13_2(my_changed)

# %% jupyter={"source_hidden": true} tags=["solution"]
import hashlib

def my_changed(images, hashes):               # uint8 [n, H, W]; n texts of 64 hexadecimal digits
    found = [hashlib.sha256(row.tobytes()).hexdigest() for row in images]
    return [number for number in range(len(images)) if found[number] != hashes[number]]

check.exercise_13_2(my_changed)

# %% [markdown]
# ## 6 What must never be stored?
#
# The example may go anywhere. MIMIC-CXR may not: whoever downloads it has signed that no text, pixel
# or id of it is passed on, and a notebook passes on what its outputs show. Two guards help. One
# looks at files. (These ids are made up, inside MIMIC-CXR's ranges; written out, they would make it
# refuse *this* notebook.)

# %%
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from localmi.notebook.private_run import execute_without_outputs
from localmi.privacy.credentialed import is_credentialed
from localmi.privacy.scan import scan_content

patient, study_id = f"p{19_999_999}", f"s{59_999_999}"
note = f"Seen today:\nthe tube of {patient},\nand {study_id}; not p90000000 of the example."
for finding in scan_content("notes.md", note.encode()):
    print(finding)

# %% [markdown]
# `python -m localmi scan` does this for a whole project, inside tables, archives and notebooks too,
# and never repeats an id; `make hooks` makes git do it at each commit. With `--against` a study or
# cache it looks for its sentences as well.
#
# The other is `python -m localmi run`. Before the first cell it looks at the ids of the data. Are
# they MIMIC-CXR's, outputs are neither stored nor shown, not even an error's, which may quote what
# it choked on. With a notebook of two cells:

# %%
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
(folder / "files" / "p19" / patient / study_id).mkdir(parents=True)
print(f"credentialed: {is_credentialed(folder)}; the example: {is_credentialed(example_dir())}")

cells = [f"print('{patient} has an effusion')", f"raise ValueError('no image of {patient}')"]
nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), folder / "mine.ipynb")
failed = execute_without_outputs(folder / "mine.ipynb", folder / "done.ipynb", {}, lambda line: 0)
print(f"failed in {failed}")

# %%
stored = nbformat.read(folder / "done.ipynb", as_version=4)
print(fill(stored.cells[0].source, 95))
print([len(cell.outputs) for cell in stored.cells if cell.cell_type == "code"], "outputs")
scratch.cleanup()

# %% [markdown]
# **What could go wrong**: guards know forms, not meanings. A sentence retyped by hand, a checkpoint
# that has learnt a rare report by heart, a screenshot: they see none of these.

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** Which unit is split?
#
# <details><summary>The image.</summary>
#
# **No.** Two images of a person would end in two splits.
#
# </details>
# <details><summary>The study.</summary>
#
# **No.** A patient with two studies would be in two splits.
#
# </details>
# <details><summary>The patient.</summary>
#
# **Right.** The network recognises a skeleton.
#
# </details>
#
# **Question 2.** New patients come. Those who were in training must not move to test. How is it split?
#
# <details><summary>At random, with a fixed seed.</summary>
#
# **No.** With more patients the same seed gives other draws.
#
# </details>
# <details><summary>By each patient's own hash, cut at .8.</summary>
#
# **Right.** The others have no part in it. Shares are met on average only.
#
# </details>
# <details><summary>By a sorted list of hashes, cut at 80 %.</summary>
#
# **No.** With a longer list the cuts lie elsewhere.
#
# </details>
#
# **Question 3.** A download was cut short, and an image ends in a grey bar. What would an image library do
# by default?
#
# <details><summary>Show the grey, or raise in the middle of an epoch.</summary>
#
# **Right.** Here it is refused when the cache is made, counted and named.
#
# </details>
# <details><summary>Fill it from the neighbours.</summary>
#
# **No.** None does.
#
# </details>
# <details><summary>Refuse the whole study.</summary>
#
# **No.** That would be for you to decide.
#
# </details>
#
# **Question 4.** What does the data hash of a result say?
#
# <details><summary>That two runs with the same one saw the same pixels, splits, labels and sentences.</summary>
#
# **Right.** If one label is mended, it changes.
#
# </details>
# <details><summary>That the result is right.</summary>
#
# **No.** It says nothing of the result.
#
# </details>
# <details><summary>Where the data lie.</summary>
#
# **No.** On purpose not.
#
# </details>
#
# **Question 5.** Which of these may be committed, of a run on MIMIC-CXR?
#
# <details><summary>The notebook with its outputs.</summary>
#
# **No.** They may show text, pixels or ids.
#
# </details>
# <details><summary>The checkpoint.</summary>
#
# **No.** A network can hold what it has read; it falls under the agreement.
#
# </details>
# <details><summary>Figures of the results: AUCs, nats, intervals.</summary>
#
# **Right.** They are numbers of the run and of nobody in it.
#
# </details>
#
# **Question 6.** 12 patients of a study are refused. May you train on the rest?
#
# <details><summary>Yes, 12 of thousands do not matter.</summary>
#
# **No.** It depends on why.
#
# </details>
# <details><summary>After reading the reasons: who is refused is not a random sample.</summary>
#
# **Right.** Perhaps all of them lack the one report that their disease makes long.
#
# </details>
# <details><summary>No.</summary>
#
# **No.** Real downloads have faults.
#
# </details>

# %% [markdown]
# ## Key points
#
# - Three projects of PhysioNet, official names, one command: `prepare`, first with `--dry-run`.
# - Every source becomes one table. What is refused is listed with its reason; leaks stop the run.
# - The patient is what is split. Cut a hash of the id, and nobody moves when others come.
# - The cache makes an epoch cheap, its fingerprint names the data, `verify` finds a flipped bit.
# - A notebook takes the cache's folder as `data_dir`, and `cache_dir` stays empty.
# - No outputs of credentialed data: an agreement was signed.
#
# What the cache is for: [the full run](14_full_mimic_cxr.ipynb), rehearsed on a generated study first.
#
# ## References
#
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - Johnson et al. 2019, MIMIC-CXR, a de-identified publicly available database of chest
#   radiographs with free-text reports, Scientific Data. <https://doi.org/10.1038/s41597-019-0322-0>
# - Johnson et al. 2024, MIMIC-CXR-JPG: chest radiographs with structured labels, version 2.1.0,
#   PhysioNet. <https://doi.org/10.13026/jsn5-t979>
# - Liao et al. 2021, Pulmonary edema severity grades based on MIMIC-CXR, version 1.0.1, PhysioNet.
#   <https://doi.org/10.13026/rz5p-rc64>
# - Goldberger et al. 2000, PhysioBank, PhysioToolkit, and PhysioNet, Circulation.
#   <https://doi.org/10.1161/01.CIR.101.23.e215>
# - Demner-Fushman et al. 2016, Preparing a collection of radiology examinations for distribution
#   and retrieval (OpenI), JAMIA. <https://doi.org/10.1093/jamia/ocv080>

# %% tags=["record"]
from localmi.record import record_metrics

record = record_metrics({}, data=study.describe(), run_dir=run_dir)
