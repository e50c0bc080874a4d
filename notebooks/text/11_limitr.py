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
# # 11 LIMITR: words that look at regions, and a second view
#
# **You will be able to** say what a lateral view can add to a frontal one, in nats and in closed form;
# make words out of word pieces; write the double attention of words and regions, and say how much of
# it one region can get at most; pool many vectors into one score; tell, of three losses that
# all fall, which say something of image and text, and which falls on shuffled pairs as well;
# compute the chance of a retrieval in which texts repeat; train the whole on two views, and hold
# its retrieval and its maps against chance, a control and the truth; and find, among a dozen parts, the
# one that matters.
#
# **Before this**: InfoNCE, [chapter 2](02_variational_bounds.ipynb); the maximum over regions,
# [chapter 4](04_local_mutual_information.ipynb); what a report may tell, and mismatches,
# [chapter 5](05_radiographs_and_reports.ipynb); regions and word pieces,
# [chapter 6](06_encoders.ipynb); retrieval and pointing, [chapter 9](09_reading_the_model.ipynb).
# **Reading time**: 60 minutes.
# **Run time**: 75 seconds on 2 cores. **Memory**: 1.8 GB.
# **Data**: synthetic patients, drawn here from two sides into a temporary folder, vectors of known
# information, and for section 10 the results of `make tables GRID=grid/limitr.yaml`, stored with the
# course; or those of your own grid by `grid_dir`.

# %% tags=["setup"]
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from localmi.course import COLOURS, PALETTE, check, plot_radiograph, set_up, show

set_up()

# %% tags=["parameters"]
data_dir = ""  # folder of a study with lateral views, "" draws a small one
cache_dir = ""  # where decoded images are kept, "" is beside the data
run_dir = ""  # where results and checkpoints are kept, "" keeps nothing
grid_dir = ""  # tables of a grid (grid/runs/limitr/tables), "" is the stored ones
resume = False  # go on from the checkpoint in run_dir
head_steps = 80  # optimisation steps of each small head in section 5, at least 1
drawn_patients = 100  # for section 7, where data_dir is ""
rival = False  # train local MI instead, by the choices of chapter 7; what is LIMITR's is not read
unit = "report"  # what a text is: a whole report, or a sentence
lateral = "own"  # whose lateral view stands beside the frontal one: own, other (patient), none
external_weight = 1.0  # of the loss of words and regions
global_weight = 1.0  # of the loss of the whole image and text
internal_weight = 0.0  # of the loss within a pair
image_size = 128  # pixels a side
batch_size = 16  # images a step
learning_rate = 0.002  # of image encoders and scores
steps = 12  # gradient steps
evaluate_every = 12  # steps between two looks at the validation split
seed = 0  # of everything random, at least 0
further: dict = {  # any other field of localmi.train.limitr_config.LimitrConfig
    "text_learning_rate": 0.0,  # 0 leaves the text encoder as it is
    "local_stage": 4,  # block of the encoder that gives the regions
    "dim": 64,  # of regions and words
    "adam_beta": 0.9,  # the first
    "gradient_clip": 5.0,  # of its norm
}

# %% [markdown]
# ## 1 What does a second view know?
#
# LIMITR (Dawidowicz et al. 2023) asks this course's question and answers it in another way:
#
# | | local MI (Liao et al.) | LIMITR |
# |---|---|---|
# | a text is | one vector a sentence | one vector a *word* |
# | where? | the one region that wins | *attention*: a share for every region |
# | how well do they suit? | a critic | a score between 0 and 1, and a cosine |
# | a study is | its frontal image | frontal *and lateral* image |
# | the place of a region | is not told | may be added to it |
#
# Sections 1 to 5 take these parts one by one; sections 7 to 9 train and measure the whole, and
# section 10 asks which part does what. First the second view. A lateral image is taken from the
# patient's side. It shows what no frontal image does, whether something lies in front or at the back,
# and hides what every frontal image shows, the side. Our synthetic patients can be drawn from both,
# with the same anatomy and the same findings, so we can move one finding and nothing else.

# %%
from localmi.phantom import Finding, PhantomConfig, Study, render, render_lateral
from localmi.phantom.latents import sample_study

two_views = PhantomConfig(seed=seed, lateral_view=1.0, depth_said=1.0)


def from_two_sides(study):
    return render(study, two_views), render_lateral(study, two_views)


def chest(side, depth):
    where = {"side": side, "zone": "mid", "depth": depth}
    finding = Finding("consolidation", where, contrast=1.0)
    return from_two_sides(Study(3, 0, "PA", (finding,), num_images=1, lateral=True))


patients = {"right, anterior": chest("right", "anterior")}
patients["right, posterior"] = chest("right", "posterior")
patients["left, posterior"] = chest("left", "posterior")
patients["as it comes"] = from_two_sides(sample_study(two_views, 13, 0))

# %%
figure, panels = plt.subplots(2, 4, figsize=(11.5, 6.2))
for (name, views), column in zip(patients.items(), panels.T):
    for kind, view, axes in zip(("frontal", "lateral"), views, column):
        plot_radiograph(axes, view.image, title=f"{kind}: {name}", outlines=view.masks)
        axes.title.set_fontsize("small")
        if len(view.masks) == 1:
            (mask,) = views[0].masks.values()
            axes.axhline(np.nonzero(mask)[0].mean(), color=PALETTE[5], lw=1, ls="--")
show(
    figure,
    alt="Four synthetic chests, each from the front above and from the side below. A consolidation "
    "in the right lung looks the same from the front whether it lies in front or at the back; from "
    "the side it moves. Moved to the left lung it changes its place from the front, and hardly from "
    "the side. The last chest has several findings, outlined in both views.",
    caption="Figure 11.1: frontal images above, lateral ones below (the patient looks to the left). "
    "Outlined: the findings. Dashed: the height of the finding in the frontal image. The letter is the "
    "film's marker: it says nothing of the finding.",
)


# %%
def compare(one, other):
    for kind, a, b in zip(("frontal", "lateral"), patients[one], patients[other]):
        change = np.abs(a.image.astype(float) - b.image).mean()
        mine, theirs = a.masks["consolidation"], b.masks["consolidation"]
        overlap = (mine & theirs).sum() / (mine | theirs).sum()
        print(
            f"  {kind}: {change:.1f} grey levels of 255 a pixel; IoU of the outlines {overlap:.2f}"
        )


print("from the front of the lung to its back")
compare("right, anterior", "right, posterior")
fronts = [patients[name][0].image for name in ("right, anterior", "right, posterior")]
print("  frontal images the same to the bit:", np.array_equal(*fronts))
print("from the right lung to the left")
compare("right, posterior", "left, posterior")

# %% [markdown]
# Moved to the back, the finding leaves the frontal image as it was, to the last bit. Moved to the
# other lung, it stays where it was in the lateral, which changes by **0.2 grey levels**. Its height is
# the same in all, up to some pixels (each view has a pose of its own): that ties the two together.
#
# What is this worth? Let consolidation, opacity and pneumonia lie in front or at the back, a fair
# coin each, and let reports say so. The coin is independent of all else in the hidden state $H$, so
# it adds its entropy, $\log 2$, wherever it is said truly:
#
# $$I(H; S) = I_{\text{frontal}}(H; S) \;+\;
# \log 2 \cdot P(\text{the sentence affirms one of the three, and it is there})$$
#
# Of a whole report the factor is the expected number of such findings, for each present one is said.

# %%
from localmi.phantom import true_mi
from localmi.phantom.truth import marginals

worth, prevalence = {}, marginals(PhantomConfig())
three = sum(prevalence[name] for name in ("consolidation", "lung_opacity", "pneumonia"))
for text in ("sentence", "report"):
    frontal = true_mi(PhantomConfig(), text)
    worth[text] = true_mi(PhantomConfig(depth_said=1.0), text) - frontal
    share = worth[text] / math.log(2)
    print(
        f"{text:8}: {frontal:.3f} nats, and {worth[text]:.3f} for the depth (log 2 x {share:.4f})"
    )
print(f"findings of the three in a study: {three:.4f}")
assert math.isclose(worth["report"], math.log(2) * three)

# %% [markdown]
# So what *only* a lateral shows adds **0.070 nats** to the **1.102** of a sentence, and **0.442 nats**
# to the **7.516** of a report: 6 %. That part must vanish with *another patient's* lateral, and where
# no sentence speaks of depth. A second look at the same findings may add more at any study that has a
# lateral, for each image is noisy; but so would a second frontal image. Such a study is written by
#
# ```text
# python -m localmi phantom --lateral .6 --depth-said 1 --out ../two_views --patients 1000
# ```
#
# and a study without a lateral is nothing unusual: of the 377,110 images of MIMIC-CXR 117,986 are
# laterals.
#
# **What could go wrong**: to take "two views are better" for granted. Real reports are dictated with
# both images in sight, and many sentences (devices, heart size) are about what one view shows well.
# How many nats the depth is worth *there*, nobody knows.

# %% [markdown]
# ## 2 What is the vector of a word?
#
# A BERT (here MiniLM, of 384 numbers a piece) knows some 30,000 word pieces and cuts a rare word into
# several. LIMITR wants words; a punctuation mark counts as one. Of a word $w$ it adds up the pieces
# $p$ that make it, and of each piece the last four of $\ell$ layers:
#
# $$t_w = \sum_{p \in w} \; \sum_{l = \ell - 3}^{\ell} h^{(l)}_p$$

# %%
from localmi.model.words import WordEncoder

language = WordEncoder().eval()
sentence = "Small bilateral effusions, no pneumothorax."
tokens = language.tokenize([sentence])
with torch.no_grad():
    found = language.bert(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        output_hidden_states=True,
    )
layers = torch.stack(found.hidden_states[-4:])  # [4, 1, T, E]
hidden = layers.sum(dim=0)  # [1, T, E]
word_of = language.word_of(tokens)  # [1, T], which word a piece belongs to, -1: to none
pieces = language.tokenizer.convert_ids_to_tokens(tokens.input_ids[0])
print("  ".join(f"{piece} {word}" for piece, word in zip(pieces, word_of[0].tolist())))

# %% [markdown]
# `##` says that a piece goes on with the one before it. `[CLS]`, the first, stays in as a word of its
# own, as in the public code: it stands for the whole text. `[SEP]`, the last, is none. Three words of
# this sentence by hand, the same as the library's:

# %%
with torch.no_grad():
    words = language.words(tokens)  # vectors [1, L, E], mask [1, L]
for word in (1, 3, 6):
    own = hidden[0, word_of[0] == word]  # [pieces, E]
    assert torch.allclose(own.sum(dim=0), words.vectors[0, word], atol=1e-4)
    name = "".join(piece.removeprefix("##") for piece, at in zip(pieces, word_of[0]) if at == word)
    length = words.vectors[0, word].norm()
    print(f"{name:12} {len(own)} piece(s), its vector is {length:.0f} long")
print(f"{len(pieces)} pieces, {words.vectors.shape[1]} words of {language.dim} numbers")

# %% [markdown]
# **What could go wrong**: two things, and the first is seen above. A sum over pieces makes a vector
# the longer the more pieces the word has, and a plain product with the vector of a region grows with
# it: rare words are loud before anything is learnt. A LayerNorm after the sum takes that away.
#
# The second: the vector of a whole text. The public code averages over the places that only fill up,
# too. What a sentence means then depends on how long its neighbours are:

# %%
long = "There is a large right pleural effusion, and a small left one, with atelectasis of both bases."
alone, beside = language.tokenize([sentence]), language.tokenize([sentence, long])


def text_vector(tokens, real_only):  # the first text's mean vector, [E]
    with torch.no_grad():
        hidden = language.bert(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).last_hidden_state[0]
    return hidden[tokens.attention_mask[0].bool()].mean(dim=0) if real_only else hidden.mean(dim=0)


for real_only, name in ((False, "all places"), (True, "real words only")):
    same = torch.cosine_similarity(
        *(text_vector(one, real_only) for one in (alone, beside)), dim=0
    )
    print(f"alone or beside a longer text, mean over {name}: cosine {same:.3f}")

# %% [markdown]
# ### Exercise 11.1
#
# Make words out of pieces: row $w$ is the sum of the pieces whose `word_of` is $w$. A piece with $-1$
# belongs to no word. Words are numbered 0, 1, 2, ... without a gap.


# %%
def my_words(pieces, word_of):  # [T, E], [T] -> [L, E]
    ...


check.exercise_11_1(my_words)


# %% jupyter={"source_hidden": true} tags=["solution"]
def my_words(pieces, word_of):  # [T, E], [T] -> [L, E]
    there = word_of >= 0
    words = torch.zeros(int(word_of.max()) + 1, pieces.shape[1])
    return words.index_add(0, word_of[there], pieces[there])


check.exercise_11_1(my_words)

# %% [markdown]
# ## 3 Which region does a word look at?
#
# Local MI lets the best region win. Attention gives every region a share. An image has $N$ regions
# $v_n$, a text $L$ words $t_w$, all of $D$ numbers. In LIMITR the share comes out of two softmaxes.
# With $s_{wn} = \langle t_w, v_n \rangle$ of word $w$ and region $n$:
#
# $$\alpha_{wn} = \operatorname*{softmax}_n \Big( 4 \cdot \operatorname*{softmax}_w \, s_{wn} \Big),
# \qquad c_w = \sum_n \alpha_{wn}\, v_n$$
#
# First the words compete for each region; then each word weighs the regions by how well it did. The
# same is done with the roles exchanged: each region looks at the words (exercise 11.2).


# %%
def my_look(words, regions):  # [L, D], [N, D]
    s = words @ regions.T  # [L, N]
    won = s.softmax(dim=0)  # of region n: which word suits it?
    attention = (4 * won).softmax(dim=1)  # of word w: where does it look?
    return attention @ regions, attention  # c [L, D], alpha [L, N]


# %%
from localmi.model.limitr import attend

torch.manual_seed(seed)
words, regions = torch.randn(12, 32), torch.randn(16, 32)  # [L, D], [N, D]
contexts, attention = my_look(words, regions)
all_words, all_regions = torch.ones(12, dtype=torch.bool), torch.ones(16, dtype=torch.bool)
for form in ("double", "single"):
    c, alpha = attend(words @ regions.T, regions, all_words, all_regions, attention=form)
    print(
        f"{form}: rows sum to {alpha.sum(dim=1).mean():.2f}, the largest weight {alpha.max():.2f}"
    )
    if form == "double":
        assert torch.allclose(c, contexts, atol=1e-5) and torch.allclose(
            alpha, attention, atol=1e-5
        )

# %% [markdown]
# The single form is the usual one, $\operatorname{softmax}_n(s_{wn} / \sqrt D)$. It can put all its
# weight on one region. The double form cannot. After the first softmax nothing is larger than 1 or
# smaller than 0, so the best case is a word that wins one region from all others, and no other region
# at all:
#
# $$\alpha_{wn} \;\le\; \frac{e^4}{e^4 + N - 1}$$


# %%
def cap(regions):
    return math.exp(4) / (math.exp(4) + regions - 1)


# %%
torch.manual_seed(seed)
numbers = (16, 64, 361, 722)
largest = {(form, times): [] for form in ("double", "single") for times in (1, 4)}
for N in numbers:  # 100 images, a text of 47 words each; vectors as they are, and 4 times as long
    words, regions = torch.randn(100, 47, 32), torch.randn(100, N, 32)
    there = torch.ones(47, dtype=torch.bool), torch.ones(N, dtype=torch.bool)
    for (form, times), found in largest.items():
        weights = attend(times * words @ regions.mT, regions, *there, attention=form)[1]
        found.append(float(weights.max()))
    all_four = ", ".join(f"{form} x{times} {x[-1]:.1%}" for (form, times), x in largest.items())
    print(f"{N:3} regions: cap {cap(N):5.1%}; largest weights: {all_four}")

# %%
figure, axes = plt.subplots(figsize=(7, 3.8))
line = np.geomspace(1, 1000, 200)
caps = [100 * cap(N) for N in line]
axes.plot(line, caps, color=COLOURS["cap"], ls=":", label="cap of the double form")
marks = {"double": (PALETTE[0], "o"), "single": (PALETTE[1], "v")}
for (form, times), found in largest.items():
    style = {"label": f"{form}, words x {times}", "mfc": "white" if times == 1 else None}
    axes.plot(numbers, 100 * np.array(found), marks[form][1], color=marks[form][0], **style)
axes.set(xscale="log", xlim=(1, 1000), xlabel="regions, $N$", ylabel="weight of one region (%)")
axes.set_xticks([1, 4, *numbers], [1, 4, *numbers])
axes.minorticks_off()
axes.legend(loc="lower left")
show(
    figure,
    alt="The cap of the double softmax falls from all of the attention with one region to a few per "
    "cent with hundreds. The largest weights of the double form lie on it, however long the words' "
    "vectors are; those of the single form rise to all of the attention with longer vectors.",
    caption="Figure 11.2: the most that one region can have of a word's attention. Line: what the "
    "double form allows. Marks: the largest weight among random words and regions.",
)

# %% [markdown]
# The maxima of the double form lie on the cap or just below it, and longer vectors do not help. With 16
# regions the best can have **78.4 %**, with 64 **46.4 %**, and at the size of the paper, a grid of 19
# by 19, **13.2 %** (**7.0 %** with a lateral beside it). So there at least .86 of $c_w$ are
# "all the other regions", whatever is learnt.
#
# **What could go wrong**: to compare such maps between grids. A pale map at 361 regions may be as
# sure as the formula lets it be.
#
# ### What does an absent view do?
#
# Many studies have no lateral. The public code fills its place with 361 regions of $10^{-8}$, which
# take part like any other. Their products with all words are nearly 0, so all words share each of
# them alike. How much of a word's attention do they take?

# %%
torch.manual_seed(seed)
N, there = 361, torch.ones(47, dtype=torch.bool)
frontal, texts = torch.randn(20, N, 32), torch.randn(20, 47, 32)
with_dummies = torch.cat([frontal, torch.full_like(frontal, 1e-8)], dim=1)  # [20, 2N, D]
for spread in (0.5, 5.0, 50.0):  # standard deviation of s
    s = spread / 32**0.5 * texts @ with_dummies.mT
    weights = attend(s, with_dummies, there, torch.ones(2 * N, dtype=torch.bool))[1]
    print(f"s spread by {spread:4}: dummies take {weights[..., N:].sum(dim=-1).mean():.0%}")

# %% [markdown]
# About half while the products are small, and a third when they are large: attention that looks at
# nothing. $c_w$ is the shorter for it. A division by the length (section 4) hides that from the score
# by the words, but neither from the maps nor from the score by the regions, in which each dummy
# becomes a vector of length 1 like any other. Here a view that was not taken is left out before each
# softmax. Whatever stands in its place changes nothing:

# %%
from localmi.model.limitr import LimitrScores

torch.manual_seed(seed)
head = LimitrScores(32, dropout=0.0).eval().requires_grad_(False)
N, text_there = 16, torch.ones(4, 12, dtype=torch.bool)
frontal, texts = torch.randn(3, N, 32), torch.randn(4, 12, 32)
present = torch.ones(3, N, dtype=torch.bool)
one_view = torch.stack(head(frontal, present, texts, text_there))  # [2, 3, 4]
masks = torch.cat([present, ~present], dim=1)  # [3, 2N]
scored = {}
for filling in (0.0, 1e-8, 1e6, math.nan):
    regions = torch.cat([frontal, torch.full_like(frontal, filling)], dim=1)
    scored[filling] = torch.stack(head(regions, masks, texts, text_there))
print(
    "same to the bit, whatever fills it:",
    all(torch.equal(scored[0.0], x) for x in scored.values()),
)
print("as the frontal view alone, to 1e-6:", torch.allclose(scored[0.0], one_view, atol=1e-6))

# %% [markdown]
# ### Exercise 11.2
#
# The other direction: the regions look at the words,
#
# $$\beta_{nw} = \operatorname*{softmax}_w \Big( 4 \cdot \operatorname*{softmax}_n \, s_{wn} \Big).$$
#
# Texts have different lengths: a word with `there` False only fills up and must get nothing, so mask
# it before the second softmax. Return $\beta$, and the most that one word of this text could get of a
# region, whatever $s$ is.


# %%
def my_reading(s, there):  # [L, N], [L] bool -> beta [N, L], one number
    ...


check.exercise_11_2(my_reading)


# %% jupyter={"source_hidden": true} tags=["solution"]
def my_reading(s, there):  # [L, N], [L] bool -> beta [N, L], one number
    won = s.softmax(dim=1).T  # [N, L], of word w: which region suits it?
    beta = (4 * won).masked_fill(~there, -math.inf).softmax(dim=1)
    return beta, math.exp(4) / (math.exp(4) + int(there.sum()) - 1)


check.exercise_11_2(my_reading)

# %% [markdown]
# ## 4 How do many vectors become one score?
#
# Each word has seen a $c_w$, each region has read a $d_n = \sum_w \beta_{nw} t_w$. How well they suit
# is told number by number, as a vector of length 1 ($\ell_2$ divides by the length):
#
# $$e_w = \ell_2(c_w \odot t_w), \qquad f_n = \ell_2(d_n \odot v_n)$$
#
# An image and a text should have *one* score by the words, and one by the regions. The simplest way is
# the mean of the vectors. LIMITR takes SAF (similarity attention filtration, Diao et al. 2021), where
# a vector's weight depends on how it goes with the mean of all. With $\bar e = \frac1L \sum_w e_w$,
#
# $$a_w = \operatorname*{softmax}_w \, u^\top \big[\tanh(A e_w) \odot \tanh(B \bar e)\big], \qquad
# e = \ell_2\Big(\sum_w a_w e_w\Big), \qquad
# S^{\text{txt}} = \sigma\big(q^\top e + b\big)$$
#
# ($\sigma$ is the logistic function; the matrices $A$ and $B$, the vectors $u$ and $q$ and the number
# $b$ are learnt), and the same module with another $q$ makes $S^{\text{img}}$ of the $f_n$. With $u = 0$
# it is the mean.
#
# ### Exercise 11.3
#
# Write SAF: from $e$, $A$, $B$ and $u$ the pooled vector, of length 1.


# %%
def my_saf(e, A, B, u):  # [L, D], [D, D], [D, D], [D] -> [D]
    ...


check.exercise_11_3(my_saf)


# %% jupyter={"source_hidden": true} tags=["solution"]
def my_saf(e, A, B, u):  # [L, D], [D, D], [D, D], [D] -> [D]
    suits = (e @ A.T).tanh() * (B @ e.mean(dim=0)).tanh()  # [L, D]
    weights = (suits @ u).softmax(dim=0)  # [L]
    pooled = weights @ e
    return pooled / pooled.norm()


check.exercise_11_3(my_saf)

# %% [markdown]
# What is it good for? Of the 47 words of a report perhaps three speak of what this image shows, and
# the rest are "there", "is", "the". Make it a game: sets of 47 random unit vectors, and in every
# second set three of them point one way. Both poolings learn to tell the sets apart.

# %%
from torch import nn

from localmi.model.limitr import SimilarityAttention


def sets(number, few=3, size=47, dim=16):  # vectors [n, L, D], which sets hold the few [n] bool
    e, held = torch.randn(number, size, dim), torch.arange(number) % 2 == 0
    few_of = 0.3 * torch.randn(number, few, dim) + 1.5 * torch.eye(dim)[0]
    e[held, :few] = few_of[held]
    return nn.functional.normalize(e, dim=-1), held


# %%
class Pooled(nn.Module):
    def __init__(self, how, dim=16):
        super().__init__()
        self.how, self.last = how, nn.Linear(dim, 1)
        self.saf = SimilarityAttention(dim, dropout=0.0)

    def forward(self, e):  # [n, L, D] -> logits [n]
        weighed, _ = self.saf(e, torch.ones(e.shape[:2], dtype=torch.bool))
        mean = nn.functional.normalize(e.mean(dim=1), dim=-1)
        return self.last(weighed if self.how == "SAF" else mean)[:, 0]


# %%
for how in ("mean", "SAF"):
    torch.manual_seed(seed)
    net = Pooled(how)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(100):
        e, held = sets(64)
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(e), held.float()).backward()
        optimiser.step()
    with torch.no_grad():
        e, held = sets(2000)
        with_few, without = net(e)[held], net(e)[~held]
    auc = (with_few[:, None] > without).float().mean()
    print(f"{how:4}: AUC {auc:.2f} on new sets")
with torch.no_grad():
    weights = net.saf(e, torch.ones(e.shape[:2], dtype=torch.bool))[1]  # [2000, 47]
share = weights[held, :3].sum(dim=1).mean()
print(f"the three get {share:.0%} of SAF's weight, {3 / 47:.0%} of a mean's")

# %% [markdown]
# The mean of 47 drowns the three; SAF finds them. Whether it finds them in reports is another
# question: there nobody tells it which sets hold some.
#
# ### Do the scores know where a region lies?
#
# Nothing so far depends on the order of the regions: attention is a sum over them, and so is SAF.
# Regions in any other order have the same scores. LIMITR adds to each region a vector of its place in
# the grid, sines and cosines of row and column at several frequencies, so that "lower" can mean
# something.

# %%
from localmi.model.limitr import LimitrScores, positions

torch.manual_seed(seed)
head = LimitrScores(32, dropout=0.0).eval().requires_grad_(False)
regions, texts, order = torch.randn(3, 16, 32), torch.randn(4, 12, 32), torch.randperm(16)
present, text_there = (torch.ones(size, dtype=torch.bool) for size in ((3, 16), (4, 12)))
places = positions(4, 32)  # [N, D], of a grid of 4 by 4
for name, of_places in (("without positions", 0 * places), ("with positions", places)):
    as_it_is, mixed = (
        torch.stack(head(v + of_places, present, texts, text_there))
        for v in (regions, regions[:, order])
    )
    change = (as_it_is - mixed).abs().max()
    print(
        f"{name:17}: scores change by",
        "less than 1e-6" if change < 1e-6 else f"up to {change:.3f}",
    )

# %% [markdown]
# **What could go wrong**: a model that knows where it looks may lean on the place instead of the image.
# Findings of the lungs are where lungs are (the "usual place" of chapter 9).
#
# ## 5 Three losses: which of them is a bound?
#
# LIMITR adds up three losses. The **external** one asks each image for its text among the $B$ of the
# batch, and each text for its image, by $S^{\text{txt}}$ and by $S^{\text{img}}$; the **global** one
# asks the same of the cosine of two vectors, of the whole image and the whole text. With the cross
# entropy of a row, $\mathrm{CE}_{\text{row } i}(z) = \log \sum_j e^{z_{ij}} - z_{ii}$, that of the
# rows their mean, and likewise of the columns:
#
# $$\mathcal L_{\text{ext}} = \tfrac12 \sum_{S}
# \big[\mathrm{CE}_{\text{rows}}(10\, S) + \mathrm{CE}_{\text{columns}}(10\, S)\big],
# \qquad \mathcal L_{\text{glob}} = \mathrm{CE}_{\text{rows}}(10 \cos) + \mathrm{CE}_{\text{columns}}(10 \cos)$$
#
# The **internal** one stays within a pair: each word is to find the context that was made for it among
# those of the same pair, and each region too (the weights $\omega_w$ of a text sum to 1, and are all
# alike; the regions have SAF's):
#
# $$\mathcal L_{\text{int}} = \tfrac1{20}\,(\mathcal L_{\text{word}} + \mathcal L_{\text{region}}), \qquad
# \mathcal L_{\text{word}} = \tfrac12 \sum_w \omega_w
# \big[\mathrm{CE}_{\text{row } w}(z) + \mathrm{CE}_{\text{column } w}(z)\big], \qquad
# z_{ww'} = \langle t_w, c_{w'} \rangle / 0.1$$


# %%
def my_symmetric(scores):  # [B, B]: CE of the rows + CE of the columns
    own = scores.diagonal()
    return (scores.logsumexp(dim=1) - own).mean() + (scores.logsumexp(dim=0) - own).mean()


def my_within(vectors, contexts, weights):  # [B, L, D] twice, [B, L]
    logits = vectors @ contexts.mT / 0.1  # [B, L, L]: nobody else's
    rows = logits.log_softmax(dim=2).diagonal(dim1=1, dim2=2)  # [B, L]
    columns = logits.log_softmax(dim=1).diagonal(dim1=1, dim2=2)
    return -0.5 * (weights * (rows + columns)).sum(dim=1).mean()


# %%
from localmi.mi import infonce

torch.manual_seed(seed)
scores = 10 * torch.rand(8, 8)
print(f"CE of rows + columns    {my_symmetric(scores):.4f}")
print(f"2 log B - 2 I_NCE       {2 * math.log(8) - 2 * infonce(scores):.4f}")

# %% [markdown]
# So the first two are InfoNCE in other clothes, $\mathcal L = 2 \log B - 2\, \hat I_{\text{NCE}}$, and
# $\log B - \mathcal L/2$ is a bound on the information of image and text, in nats. The third has no other patient
# in it. Can it be a bound? Ask a world in which the answer is known. Behind each pair stands one of eight
# states. It marks up to four of 16 regions and up to three of 12 words; all else is noise. *Shuffled*
# pairs have two states drawn apart: image and text then have 0 nats in common.

# %%
STATES, PAIRS, REGIONS, WORDS, DIM = 8, 16, 16, 12, 32
marks = 1.5 * torch.randn(2, STATES, DIM, generator=torch.Generator().manual_seed(seed))


def draw(shuffled):  # regions [B, N, D], words [B, L, D]
    state = torch.randint(STATES, (PAIRS,))
    of_text = torch.randint(STATES, (PAIRS,)) if shuffled else state
    regions, words = torch.randn(PAIRS, REGIONS, DIM), torch.randn(PAIRS, WORDS, DIM)
    for vectors, shown, mark, few in (
        (regions, state, marks[0], 4),
        (words, of_text, marks[1], 3),
    ):
        for _ in range(few):
            at = torch.randint(vectors.shape[1], (PAIRS,))
            vectors[torch.arange(PAIRS), at] += mark[shown]
    return regions, words


# %%
from torch import nn

from localmi.model.limitr import LimitrScores, internal_loss


class Head(nn.Module):  # what is trained: a layer for regions, one for words, and the scores
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(DIM, DIM), nn.LayerNorm(DIM))
        self.text = nn.Sequential(nn.Linear(DIM, DIM), nn.LayerNorm(DIM))
        self.scores = LimitrScores(DIM, dropout=0.0)
        masks = torch.ones(PAIRS, REGIONS), torch.ones(PAIRS, WORDS)
        self.masks = [mask.bool() for mask in masks]

    def inputs(self, regions, words):
        return self.image(regions), self.masks[0], self.text(words), self.masks[1]


# %%
def external(head, pairs):
    by_text, by_image = head.scores(*head.inputs(*pairs))  # [B, B] each
    loss = (my_symmetric(10 * by_text) + my_symmetric(10 * by_image)) / 2
    return loss, loss  # what is shown, and what is minimised


def whole(head, pairs):  # the global loss, of mean vectors
    v, _, t, _ = head.inputs(*pairs)
    v, t = (nn.functional.normalize(x.mean(dim=1), dim=-1) for x in (v, t))
    loss = my_symmetric(10 * v @ t.T)
    return loss, loss


def internal(head, pairs):  # shown: L_word; minimised: L_word + L_region
    v, v_there, t, t_there = head.inputs(*pairs)
    _, by_region, c, d = head.scores.alignments(v, v_there, t, t_there)
    of_words = my_within(t, c, torch.full((PAIRS, WORDS), 1 / WORDS))
    both = of_words + my_within(v, d, head.scores.pool(by_region, v_there)[1])
    assert torch.isclose(both / 20, internal_loss(head.scores, v, v_there, t, t_there), atol=1e-4)
    return of_words, both


# %% [markdown]
# Each loss trains a head of its own, once on matched pairs, once on shuffled ones. Every batch is new,
# so what a loss says before its step is said of pairs that were never seen. (Of 16 pairs some have the
# same state and yet count as mismatched, so even a perfect critic stays below $\log 8$.)

# %%
LOSSES = {"external": external, "global": whole, "internal": internal}


def learn(name, shuffled):  # the loss before each step, [steps]; and on 50 new batches, [50]
    torch.manual_seed(seed)
    head, loss = Head(), LOSSES[name]
    optimiser, curve = torch.optim.Adam(head.parameters(), lr=0.02), []
    for _ in range(head_steps):
        shown, minimised = loss(head, draw(shuffled))
        curve.append(float(shown.detach()))
        optimiser.zero_grad()
        minimised.backward()
        optimiser.step()
    with torch.no_grad():
        last = [float(loss(head, draw(shuffled))[0]) for _ in range(50)]
    return np.array(curve), np.array(last)


kinds = [(name, how) for name in LOSSES for how in ("matched", "shuffled")]
learnt = {(name, how): learn(name, how == "shuffled") for name, how in kinds}

# %%
from scipy import stats

same_state = 1 + np.arange(PAIRS)  # pairs of the batch that have my state, I among them
chances = stats.binom.pmf(same_state - 1, PAIRS - 1, 1 / STATES)
perfect = math.log(PAIRS) - chances @ np.log(same_state)  # InfoNCE of the true log-ratio
log_words = math.log(WORDS)
print(f"true MI at most log {STATES} = {math.log(STATES):.2f} nats")
print(f"a perfect critic, {PAIRS} pairs: {perfect:.2f} nats")

# %% tags=["nbval-ignore-output"]
from localmi.statistics import mean_interval

metrics = {}
for (name, how), (_, last) in learnt.items():
    shown = last if name == "internal" else math.log(PAIRS) - last / 2
    metrics[name, how] = one = mean_interval(shown, np.arange(len(shown)))
    told = f"loss {one}, log {WORDS} = {log_words:.2f}" if name == "internal" else f"{one} nats"
    print(f"{name:8} {how:8}: {told.replace('-0.00', '0.00')}")
below = log_words - metrics["internal", "shuffled"].value
print(f"internal, shuffled: {below:.2f} nats below log {WORDS}, with nothing to find")

# %%
if (seed, head_steps) == (0, 80):
    value = {kind: one.value for kind, one in metrics.items()}
    assert value["external", "matched"] > 1.3 and value["global", "matched"] > 0.8
    assert max(abs(value[name, "shuffled"]) for name in ("external", "global")) < 0.05
    assert abs(value["internal", "matched"] - value["internal", "shuffled"]) < 0.1 and below > 0.4


# %%
def draw_loss(axes, name):
    of_words = name == "internal"
    for how, colour in (("matched", COLOURS["held-out"]), ("shuffled", COLOURS["shuffled"])):
        curve, _ = learnt[name, how]
        values = curve if of_words else math.log(PAIRS) - curve / 2
        axes.plot(1 + np.arange(len(values)), values, color=colour, label=how)
    if of_words:
        axes.axhline(log_words, color=COLOURS["truth"], ls="--", label="log of the words")
        axes.set(yscale="log", ylabel="$L_{word}$", yticks=[2, 4, 8, 16])
        axes.set_yticklabels(["2", "4", "8", "16"])
        axes.minorticks_off()
    else:
        axes.axhline(perfect, color=COLOURS["cap"], ls=":", label="perfect critic")
        axes.axhline(0, color="#BBBBBB", lw=0.8, zorder=0)
        axes.set(ylabel="bound, nats", ylim=(-1.1, 2.1))
    axes.set(title=name, xlabel="step")
    axes.legend(loc="upper right" if of_words else "lower right", fontsize="small")


# %%
figure, panels = plt.subplots(1, 3, figsize=(11.5, 3.6))
for axes, name in zip(panels, LOSSES):
    draw_loss(axes, name)
show(
    figure,
    alt="Three panels over the steps. External and global bounds rise on matched pairs and stay at "
    "zero, or come to it, on shuffled ones. The internal loss falls below the logarithm of the number "
    "of words in the same way on matched and on shuffled pairs.",
    caption="Figure 11.3: three losses, each on matched and on shuffled pairs; external and global as "
    "the bound that follows from them (up is better), internal as it is (down is better).",
)

# %% [markdown]
# On matched pairs the external bound reaches **1.56 nats** of the **1.83** that a perfect critic gets
# from 16 pairs, the global one **0.99** (its mean weighs the regions of noise like those that are
# marked). On shuffled pairs they say **0.00** and **−0.02**: nothing, as they must. (An untrained
# critic is a bad bound, not a wrong one: the global curves begin far below 0.) The intervals are over
# 50 new batches, of one trained head each.
#
# The internal loss falls on both kinds of pairs alike, to **1.96** and **1.98**, **0.51 nats** below
# the $\log 12$ of guessing among the words. Read as information of image and text, that would be half
# a nat out of nothing. How? The context $c_w$ is made *by* the word $w$: it depends on $t_w$, with the
# regions as a code book, and any will do. To find "the context that was made for me" is to
# recognise oneself. Chapter 4 has met the same fault: a choice that may look at the matched pair.
#
# So a loss that falls is not evidence. Ask of each what it says on shuffled pairs. The internal loss
# may still do good, as other constraints do; only a comparison with and without it can say so.
#
# **What could go wrong**: the bookkeeping. In the public code's internal loss a region's row is masked
# by the words of *another* patient (`repeat` where `repeat_interleave` is meant), and words that only
# fill up stand among the wrong answers. Neither raises an error, and both show only where texts have
# unequal lengths. Here a test compares the loss, on such texts, with a loop over single pairs.
#
# ### Exercise 11.4
#
# `name` is "external", "global" or "internal", `loss` its value on `pairs` pairs (as in the equations
# above). How many nats does it vouch for? Return `math.nan` where it vouches for none.


# %%
def my_nats(name, loss, pairs):  # -> one number
    ...


check.exercise_11_4(my_nats)


# %% jupyter={"source_hidden": true} tags=["solution"]
def my_nats(name, loss, pairs):  # -> one number
    if name == "internal":  # compares within one pair: no bound
        return math.nan
    return math.log(pairs) - loss / 2


check.exercise_11_4(my_nats)

# %% [markdown]
# ## 6 What is chance when texts repeat?
#
# LIMITR is measured by retrieval: is the right text among the first $k$ that an image finds ($R@k$)?
# In a pool of $P$ texts chance is $k / P$, one is told. But the same sentence stands in many reports.
# It is right for all of them, and it has one score, so its copies take several places at once. Random
# is then the *order of the $U$ different texts*. If $m$ of them are right,
#
# $$P(\text{rank} = s + 1) = \sum_j
# \#\{\text{sets of } j \text{ wrong texts that fill } s \text{ places}\}
# \; \frac{m}{U - j} \Big/ \binom{U}{j}$$
#
# so $P(\text{rank} = 1) = m / U$. `random_ranks` counts these sets.

# %%
from localmi.evaluate.retrieval import first_ranks, random_ranks
from localmi.phantom import PhantomConfig, compose_report
from localmi.phantom.latents import sample_study

config, rng, P = PhantomConfig(seed=seed), np.random.default_rng(seed), 200
studies = [sample_study(config, patient, 0) for patient in range(P)]
said = [[one.text for one in compose_report(study, config).sentences] for study in studies]
pool = np.array([rng.choice(sentences) for sentences in said])  # [P], a sentence of each report
right = np.array([np.isin(pool, sentences) for sentences in said])  # [P, P]
different, number = np.unique(pool, return_inverse=True)
print(
    f"{P} sentences, {len(different)} different; right for an image: {right.sum(axis=1).mean():.1f}"
)
exact = random_ranks(right, pool, 10).mean(axis=0).cumsum()  # [10]
drawn = [first_ranks(rng.random((P, len(different)))[:, number], right) for _ in range(200)]
for k in (1, 5, 10):
    found = np.mean([ranks <= k for ranks in drawn])
    print(f"R@{k:<2}: k / P {k / P:.3f}, exact {exact[k - 1]:.3f}, 200 random scores {found:.3f}")

# %% [markdown]
# Whoever knows nothing finds a right sentence in the first place five times as often as $1/P$ says.
# Two things differ: several sentences are right for an image, which helps; copies stand together,
# which costs a little. A row "chance" that ignores this makes every model look better than it is.
# (Whole reports hardly ever repeat: there chance is $k/P$ again.)
#
# **What could go wrong**: to count a duplicate as an error. Then a model is punished for finding a
# sentence that is true. Or pools of unequal size: the public code ranks within batches of 1,000, and in
# its test the last, smaller batch counts like the others, an easier pool.
#
# ### Exercise 11.5
#
# The chance of $R@k$ for one query: `copies[u]` says how often text $u$ stands in the pool, `right[u]`
# whether it is right. Its copies have one score; a hit is a rank of at most $k$ of the first right
# text. There are few texts here, so you may go through all their orders (`itertools.permutations`).


# %%
def my_chance(copies, right, k):  # [U] int, [U] bool, int -> one number
    ...


check.exercise_11_5(my_chance)

# %% jupyter={"source_hidden": true} tags=["solution"]
from itertools import permutations


def my_chance(copies, right, k):  # [U] int, [U] bool, int -> one number
    hits, orders = 0, list(permutations(range(len(copies))))
    for order in orders:
        first = [bool(right[u]) for u in order].index(True)  # of the right ones in this order
        places_before = sum(copies[u] for u in order[:first])
        hits += places_before < k
    return hits / len(orders)


check.exercise_11_5(my_chance)

# %% [markdown]
# ## 7 What does the whole of it learn?
#
# Now all parts together, on images from two sides. Where no study is named, a small one is drawn: a
# lateral view for .6 of the studies; reports say where in depth a finding lies. The encoders are those
# of chapter 6, a network of the same build for each view; the text encoder stays as it is. A linear
# layer and a LayerNorm make $D$ numbers of each region, another pair of them of each word. (The
# LayerNorms are ours: products of raw features, as published, have whatever scale the encoders give.)
# The lateral's regions stand beside the frontal ones, each with its place in its own view, so that a word
# attends to all $2N$; where there is no lateral, they are masked. The vector of the whole image is the
# mean of those of its views, that of the whole text the mean of its words. The loss is
#
# $$\mathcal L = w_{\text{ext}} \mathcal L_{\text{ext}} + w_{\text{glob}} \mathcal L_{\text{glob}} + w_{\text{int}} \mathcal L_{\text{int}}$$
#
# and what may be a mismatch obeys the rules of chapter 5: never a text of the same study, nor one that
# reads the same. (The public code knows neither rule.)

# %%
import tempfile
from pathlib import Path

from localmi.phantom import PhantomConfig
from localmi.phantom.write import write_study
from localmi.study import load_study, load_truth

own = tempfile.TemporaryDirectory()
study = data_dir or f"{own.name}/two_views"
if not data_dir:
    shares = (0.6, 0.15, 0.25)
    small = PhantomConfig(seed=7, image_size=image_size, lateral_view=0.6, depth_said=1.0)
    write_study(Path(study), small, drawn_patients, fractions=shares)
cache = load_study(study, cache_dir, image_size=image_size, views=("AP", "PA", "LATERAL", "LL"))
truth = load_truth(study)
pd.crosstab(cache.manifest["split"], cache.manifest["view"])

# %%
from localmi.data import SplitData
from localmi.train import LimitrConfig, LimitrTraining, Pretraining, TrainConfig, fit

shared = {"image_size": image_size, "batch_size": batch_size, "learning_rate": learning_rate}
shared |= {"steps": steps, "evaluate_every": evaluate_every, "seed": seed}
losses = {"external_weight": external_weight, "global_weight": global_weight}
losses |= {"internal_weight": internal_weight}
if rival:  # chapter 7's choices
    choices = {"critic": "separable", "critic_hidden": [256], "sentences": "all"}
    choices |= {"region_context": "region", "cells_after": 2, "local_stage": 4}
    choices |= {"text_pooling": "mean", "text_learning_rate": 0.0, "temperature_end": 0.05}
    choices |= {"learning_rate_end": 0.02, "weight_decay": 0.3, "smallest_crop": 0.75}
    training = Pretraining(TrainConfig.checked(**shared, **choices), cache)
    validate, test = (SplitData(cache, split) for split in ("validate", "test"))
else:
    config = LimitrConfig.checked(unit=unit, lateral=lateral, **losses, **shared, **further)
    training = LimitrTraining(config, cache)
    validate, test = (training.data(split) for split in ("validate", "test"))

# %%
from localmi.model.text import TokenTable

if not rival:
    learnt_from = training.train_data.texts
    cut, texts = TokenTable(training.text_encoder, learnt_from).cut, len(learnt_from)
    print(f"{cut} of {texts} training texts are cut, at {config.max_tokens} word pieces")
    _, there = test.laterals(np.arange(len(test)))
    print(f"{int(there.sum())} of {len(test)} test images have a lateral view beside them")

# %% tags=["nbval-ignore-output"]
import time

began, first_step = time.perf_counter(), training.step
log = fit(training, validate, run_dir=Path(run_dir) if run_dir else None, resume=resume)
training_seconds = time.perf_counter() - began  # looks included
if rival:
    found = {"local": training.evaluate(test)}
else:
    found = training.held_out(test)
for name, one in found.items():
    print(f"{name:6} {one.held_out.bound} nats; shuffled {one.shuffled.bound}")
    assert data_dir or one.shuffled.bound.value < 0.05  # nothing may be found in them

# %%
print(f"cap {one.held_out.cap:.2f}, the log of the texts compared")
if truth:
    told = truth.summary["true_mi_nats"][test.unit]
    print(f"a {test.unit} says at most {told:.2f} nats")
else:
    print("this study carries no truth: class-based retrieval, pointing and what needs it are left out")

# %% [markdown]
# In 12 steps nothing is learnt; section 10 has long runs. Here each number has its meaning fixed:
# *local* is the mean of $S^{\text{txt}}$ and $S^{\text{img}}$, *whole* the cosine, *both* their mean, by
# which the public code ranks. Each, times 10, is a critic, so each is a bound on held-out patients.
# That of shuffled pairs comes from a second head that is trained on them; as long as it has not learnt
# that there is nothing to find, it reports less than 0, as any untrained critic does.
#
# ## 8 Does a report find its image?
#
# A report is scored as a whole, or by the sum over its sentences where the texts are sentences. The
# pool is the test split; texts that read the same are right for one another. *By the truth* is a row
# of the best that anybody can: it scores by $\log p(\text{report} \mid H) - \log p(\text{report})$
# with every finding known. It is not perfect in a large pool: reports of normal chests say the same in
# other words, and only one of them counts as right.

# %%
from localmi.phantom import oracle_scores

scored = {name: one.scores.scores.numpy() for name, one in found.items()}  # [n, T], logits
lists = [tuple(sorted(texts)) for texts in test.text_ids]  # of each study
reports = sorted(set(lists))
number = np.array([reports.index(one) for one in lists])  # which report a study has
right = number[test.study][:, None] == np.arange(len(reports))  # [n, reports]
tables = {  # of each image and report
    name: np.stack([table[:, list(texts)].sum(axis=1) for texts in reports], axis=1)
    for name, table in scored.items()
}
if truth:
    whole_reports = SplitData(cache, "test", unit="report")
    first = [whole_reports.text_ids[np.argmax(number == one)][0] for one in range(len(reports))]
    tables["by the truth"] = oracle_scores(truth, whole_reports)[:, first]

# %% tags=["nbval-ignore-output"]
from localmi.evaluate.retrieval import retrieval

owners, retrieved, pool = test.manifest["patient_id"].to_numpy(), {}, min(100, len(test))
ks = [k for k in (1, 5, 10) if k <= pool]
for name, table in tables.items():
    for direction in ("image_to_text", "text_to_image"):
        one = retrieval(table, right, owners, direction=direction, pool=pool, ks=ks)
        retrieved[name, direction] = one
        shares = "  ".join(f"R@{k} {one.recall[k]}" for k in one.recall)
        print(f"{name:12} {direction}: {shares}")

# %%
chance = {k: f"{value:.2f}" for k, value in one.chance.items()}
print(f"chance {chance}, in pools of {pool}")

# %% [markdown]
# Class-based retrieval asks otherwise: which ten images answer to "there is a pneumothorax" best, by
# the log odds of chapter 9 between the sentences that affirm it and those that deny it? $P@10$ is the
# share of them that has it, in the mean over the findings; chance is how common these are.

# %%
from localmi.evaluate import class_retrieval, zero_shot_scores
from localmi.phantom import finding_sentences

sentence_split = SplitData(cache, "test")
if truth:
    asked = finding_sentences(truth, SplitData(cache, "train"))
    asked = asked.drop_duplicates("text").groupby(["finding", "polarity"]).head(4)
    texts, names = asked["text"].tolist(), sorted(asked["finding"].unique())
    if rival:
        answers = training.split_scores(test, texts)[0].max(dim=1).values.numpy()
    else:
        answers = 10 * training.scores(test, texts).both.numpy()

# %% tags=["nbval-ignore-output"]
if truth:
    columns = np.arange(len(asked))
    sides = [
        {name: columns[(asked["finding"] == name) & (asked["polarity"] == how)] for name in names}
        for how in ("present", "absent")
    ]
    zero_shot = zero_shot_scores(answers, *sides)  # [n, findings]
    has = truth.latents.set_index("study_id").loc[test.manifest["study_id"], names].to_numpy(bool)
    classes = class_retrieval(zero_shot, has, owners, names=names, ks=ks[-1:])
    print(
        f"P@{ks[-1]} {classes.mean[ks[-1]]}; chance {np.mean(list(classes.prevalence.values())):.2f}"
    )

# %% [markdown]
# ## 9 Where does a sentence look?
#
# LIMITR has two maps of a sentence: the mean *attention* of its words over the regions of the frontal
# image, and the *cosine* of each region with the mean of its words:
#
# $$a_n = \frac1L \sum_w \alpha_{wn}, \qquad b_n = \cos\Big(v_n, \frac1L \sum_w t_w\Big)$$
#
# Both are held against the true outline of the finding, as in chapter 9: is the centre of the highest
# region on it, or within a few pixels (pointing), and how far are the scores inside above those
# outside (CNR, contrast to noise)? Beside them stand chance, and the words alone: the mean map of the
# same sentence over other images.


# %%
def maps_of(data, images, texts):  # kind of map -> [S, G, G]
    if rival:
        return {"score": training_maps(data, images, texts)}
    return dict(zip(("attention", "cosine"), training.maps(data, images, texts)))


def training_maps(data, images, texts):  # local MI: the critic's score of each region
    wanted = sorted(set(texts))
    every, _ = training.split_scores(data, wanted)  # [n, N, T]
    column = torch.tensor([wanted.index(text) for text in texts])
    grid = training.config.grid
    return every[torch.from_numpy(images), :, column].reshape(-1, grid, grid)


# %%
from localmi.evaluate import contrast_to_noise, pointing_game
from localmi.statistics import mean_interval

local = truth is not None and (rival or external_weight > 0)
if local:
    spoken = finding_sentences(truth, sentence_split)
    present = spoken[spoken["polarity"] == "present"].reset_index(drop=True)
    masks = np.stack([truth.mask(row.image_id, row.finding) for row in present.itertuples()])
    images, texts = present["image"].to_numpy(), present["text"].tolist()
    who, grid = present["patient_id"].to_numpy(), training.config.grid
    rng, again = np.random.default_rng(0), 5  # each sentence on its own image, and on four others
    shown = np.concatenate([images, *(rng.permutation(images) for _ in range(again - 1))])
    maps, heats = {}, maps_of(test, shown, texts * again)
    for name, one in heats.items():
        one = np.asarray(one).reshape(again, len(images), grid, grid)
        maps[name], maps[f"{name}, words alone"] = one[0], one[1:].mean(axis=0)

# %% tags=["nbval-ignore-output"]
pointed = {}
if local:
    for name, one in maps.items():
        winners = one.reshape(len(one), -1).argmax(axis=1)
        game = pointing_game(winners, masks, grid=grid)
        contrast = mean_interval(contrast_to_noise(one, masks), who)
        pointed[name] = game.hit
        print(f"{name:22} pointing {mean_interval(game.hit, who)}, CNR {contrast}")
    print(f"chance {game.chance.mean():.2f}, {len(present)} sentences")

# %% [markdown]
# ## 10 Which part does what?
#
# `make tables GRID=grid/limitr.yaml` runs this notebook in variants, three seeds each, on a study of
# 2,500 patients: 800 steps of 16 images. What the runs have found on its test patients is stored with
# the course. `full` has the parts that the paper describes but the internal loss; most of the others
# change one thing in it.

# %%
VARIANTS = {
    "full": "external and global loss, double attention, SAF, own laterals, positions",
    "global": "no external loss: two vectors, one cosine",
    "local": "no global loss",
    "internal": "and the internal loss",
    "single": "one softmax",
    "single-no-lateral": "one softmax, frontal images alone",
    "single-other-lateral": "one softmax, the lateral of another patient",
    "single-sentences": "one softmax, sentences as texts, regions that see their own cell alone",
    "mean": "the mean for SAF",
    "no-positions": "no positions",
    "no-lateral": "frontal images alone",
    "other-lateral": "the lateral of another patient",
    "local-mi": "local MI as in chapter 7, 3,400 steps: the time of full",
    "shuffled": "pairs shuffled: the control",
}

# %%
from localmi.notebook.collect import read_collected
from localmi.study import example_results

runs = read_collected(grid_dir or example_results() / "limitr")
by_image, nothing = runs.tables["by_image"], pd.DataFrame(columns=["variant", "map"])
by_sentence, stored_maps = (runs.tables.get(name, nothing) for name in ("by_sentence", "maps"))
variants = [name for name in VARIANTS if name in set(by_image["variant"])]
seeds = by_image.groupby("variant")["seed"].unique().map(lambda one: sorted(one.tolist()))
print("studies:", runs.data["studies"])
print("seeds:", ", ".join(f"{name} {len(seeds[name])}" for name in variants))

# %% [markdown]
# Each run kept the rank of every image's report among those of the whole test split, and the other way
# round. Of a rank $r$ among $n$ reports (or images) follows the chance of a hit in a random pool of
# $P$: that fewer than $k$ of the $r - 1$ better ones are drawn among its $P - 1$ others, a
# hypergeometric probability. So no pool needs to be drawn.

# %%
from scipy.stats import hypergeom

from localmi.statistics import mean_interval

QUERIES = {"image_to_text": "image to report", "text_to_image": "report to image"}
of_variant = {name: rows for name, rows in by_image.groupby("variant")}


def hits(rows, query, k=10, pool=100):  # [rows] chance of a right one among the first k
    others = rows["reports" if query == "image_to_text" else "images"] - 1
    better = np.ceil(rows[query]) - 1
    return hypergeom(others, better, np.minimum(pool - 1, others)).cdf(k - 1)


def value_of(metric, variant):  # mean over seeds
    return runs.metrics.query("variant == @variant and metric == @metric")["value"].mean()


# %%
hit = {name: {query: hits(rows, query) for query in QUERIES} for name, rows in of_variant.items()}
recall = {
    (name, query): mean_interval(hit[name][query], rows["patient_id"])
    for name, rows in of_variant.items()
    for query in QUERIES
}
rows = []
for name in variants:
    nats = [value_of(f"{part}_nats", name) for part in ("local", "whole")]
    values = [str(recall[name, query]) for query in QUERIES]
    rows.append([name, *nats, *values, value_of("P@10", name)])
shuffled = runs.metrics.dropna(subset="shuffled")["shuffled"]
print(f"shuffled pairs, nats: {shuffled.min():.2f} to {shuffled.max():.2f}, all runs")
columns = ["variant", "nats, local", "nats, whole", *QUERIES.values(), "P@10"]
pd.DataFrame(rows, columns=columns).set_index("variant").round(2)


# %%
def draw_recall(axes, query, shift, **style):  # hollow: of fewer than three seeds
    found = [recall[variant, query] for variant in variants]
    for variant, one, place in zip(variants, found, np.arange(len(found)) + shift):
        face = style["color"] if len(seeds[variant]) > 2 else "white"
        axes.hlines(place, one.low, one.high, color=style["color"], lw=1.5)
        axes.plot(one.value, place, "o", mfc=face, **style)
        style.pop("label", None)  # one entry in the legend


# %%
figure, axes = plt.subplots(figsize=(8, 5))
for shift, (query, name), colour in zip((-0.12, 0.12), QUERIES.items(), PALETTE):
    draw_recall(axes, query, shift, color=colour, label=name)
best = runs.metrics.query("metric == 'R@10 image_to_text by the truth'")["value"].mean()
axes.axvline(0.1, color="#555555", ls=":", label="chance")
if best > 0:  # where the truth is known
    axes.axvline(best, color=COLOURS["truth"], ls="--", label="by the truth")
axes.set(xlim=(0, 0.8), xlabel="R@10 in pools of 100")
axes.set_yticks(range(len(variants)), variants)
axes.invert_yaxis()
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
show(
    figure,
    alt="For each variant the share of queries that find a right answer among the first ten of a "
    "hundred, both ways, with intervals, between the line of chance and that of the truth.",
    caption="Figure 11.4: retrieval on test patients, mean of three seeds (hollow: of fewer); bars: 95 % "
    "intervals over patients. Dashed: the best that anybody can reach who knows every finding.",
)

# %% [markdown]
# All variants are above chance, but the two losses together find no more than the global loss alone,
# whose step takes half the time. What the paper is about, words that look at regions, adds nothing
# here, and the reason is one softmax. With `single`, the same model at about the same cost, words and
# regions carry **0.92 nats** instead of **0.53**. And local MI, which takes four steps in the time of
# one of LIMITR's, is ahead of both: it finds **0.60** of the reports among ten, not far from what the truth
# allows. (Its nats are those of one sentence, not of a report, and so are those of `single-sentences`.)
#
# Why? A likely reason, which no run has isolated: in the double form a word gets of a region only what
# it wins from *all other words of the report*. Of 47 words it wins about 1/47, and
# $\operatorname{softmax}(4 \cdot \tfrac1{47})$ is nearly uniform: $c_w$ stays close to the mean of all
# regions, which the global part has already. (The cap is not the reason: with 16 regions it is 78 %.) To
# give one region ten times the weight of another, the word must win this much more of the one than of
# the other:

# %%
print(f"log(10) / 4 = {math.log(10) / 4:.2f} of the region")
for name in [name for name in ("full", "single") if name in set(stored_maps["variant"])]:
    of_it = stored_maps.query("variant == @name and map == 'attention'")
    shares = of_it.filter(like="region_").dropna(axis=1)  # a lateral has the rest
    shares = shares.div(shares.sum(axis=1), axis=0)
    print(f"{name:6} {len(shares)} maps: the highest of {shares.shape[1]} regions has", end=" ")
    print(f"{shares.max(axis=1).mean():.3f}, all alike {1 / shares.shape[1]:.4f}")

# %% [markdown]
# So more than half of it, from all others: there can be one such word a region, and a report that says
# "opacity", "right" and "base" of the same place has three that share it. The single form asks nothing
# of the other words, and its maps are less flat, if not sharp.
#
# ### Which differences are more than luck?
#
# The test is that of chapter 10: on the mean reciprocal rank of both directions, the variants swapped
# patient by patient ("networks"); and with the seeds drawn as the patients are ("method"), where there
# are two or more. Holm's correction is over all rows of a column.

# %%
CLAIMS = {
    "local and global > global alone": ("full", "global"),
    "single attention > global alone": ("single", "global"),
    "local and global > local alone": ("full", "local"),
    "internal loss > none": ("internal", "full"),
    "own lateral > none": ("full", "no-lateral"),
    "own lateral > another's": ("full", "other-lateral"),
    "positions > none": ("full", "no-positions"),
    "SAF > mean": ("full", "mean"),
    "double attention > single": ("full", "single"),
    "single: own lateral > none": ("single", "single-no-lateral"),
    "single: own lateral > another's": ("single", "single-other-lateral"),
    "single: sentences and cells > reports": ("single-sentences", "single"),
    "full > local MI": ("full", "local-mi"),
}

# %%
shared = {
    name: sorted({*seeds.get(a, ())} & {*seeds.get(b, ())}) for name, (a, b) in CLAIMS.items()
}
claims = {name: pair for name, pair in CLAIMS.items() if shared[name]}


def reciprocal(variant, seeds):  # [S, n] mean of 1 / rank both ways
    rows = of_variant[variant].set_index("seed")
    return np.stack([(1 / rows.loc[seed, list(QUERIES)]).mean(axis=1) for seed in seeds])


def mean_of_rows(rows, values):  # a statistic of weighted rows
    return lambda weights: weights @ values / weights.sum(axis=1)


# %%
from localmi.statistics import holm, paired_permutation

tests = []
for claim, pair in claims.items():
    first, second = (reciprocal(name, shared[claim]) for name in pair)
    rows = of_variant[pair[0]]
    of_patient = rows[rows["seed"] == shared[claim][0]]["patient_id"].to_numpy()
    tests.append(paired_permutation(mean_of_rows, first, second, of_patient, permutations=5000))
networks, method = holm([x.p_value for x in tests]), holm([x.p_method for x in tests])
table = pd.DataFrame({"claim": list(claims)})
table["difference of 1/rank"] = [f"{x.difference.value:+.3f}" for x in tests]
table["95 %, method"] = [f"[{x.method.low:+.3f}, {x.method.high:+.3f}]" for x in tests]
table["p networks, Holm"], table["p method"] = networks, [x.p_method for x in tests]
table["p method, Holm"] = method
table.round(3).set_index("claim")

# %%
figure, axes = plt.subplots(figsize=(8, 4.2))
for place, one in enumerate(tests):
    axes.hlines(place, one.method.low, one.method.high, color=PALETTE[0], lw=1)
    axes.hlines(place, one.difference.low, one.difference.high, color=PALETTE[0], lw=3)
    face = PALETTE[0] if networks[place] < 0.05 else "white"
    axes.plot(one.difference.value, place, "o", color=PALETTE[0], markerfacecolor=face)
axes.axvline(0, color=COLOURS["truth"], ls="--")
axes.set(xlabel="difference of the mean reciprocal rank")
axes.set_yticks(range(len(claims)), list(claims))
axes.invert_yaxis()
show(
    figure,
    alt="For each claim the difference of the mean reciprocal rank, with an interval over patients and "
    "a wider one over patients and seeds, beside a dashed line at zero.",
    caption="Figure 11.5: claims; right of 0 the first is better; thick: 95 % intervals over patients, "
    "thin: over patients and seeds; filled: told from 0 for these networks, after Holm; no thin line: "
    "one seed.",
)

# %% [markdown]
# Of these networks four differences are beyond doubt: one softmax is better than two, and with it
# words and regions better than the global loss alone; sentences and cells find less than whole
# reports; and local MI more than `full`. Of the method, of which three networks are a small sample,
# one softmax against two stands alone: against the global loss $p$ is **0.004** before the correction
# and **0.051** after it, and the networks of local MI differ so much that its interval holds 0. `full`
# and `global` cannot be told apart. Positions and the internal loss have no effect that could be told
# from none, and SAF's, if it is one, is small ($p$ **0.023** before the correction).
#
# ### What does the lateral add, and to which reports?
#
# Section 1 says what must vanish with another patient's lateral, and where nothing is said of depth:
# the part that only a lateral shows. A second look at the same findings may help wherever there is one.
# Gains are in $R@10$, the mean of both directions, with intervals over patients and no correction for
# their number.


# %%
def gain(own, other, chosen):  # of the own lateral, in R@10, over the images that `chosen` says
    more = sum(hit[own][query] - hit[other][query] for query in QUERIES) / 2
    return mean_interval(more[chosen], of_variant[own]["patient_id"].to_numpy()[chosen])


# %%
pairs = [
    (own, form + other)
    for own, form in (("full", ""), ("single", "single-"))
    for other in ("no-lateral", "other-lateral")
]
pairs = [two for two in pairs if all(seeds.get(name) == seeds[variants[0]] for name in two)]

# %%
first = of_variant[variants[0]]
there = first["lateral"].to_numpy(bool)
said = first["depth"].to_numpy(bool) if "depth" in first else np.zeros(len(there), bool)
groups = {"all": np.ones_like(there), "with lateral": there, "no lateral": ~there}
groups |= {"with lateral, depth said": there & said, "with lateral, depth not said": there & ~said}
groups |= {"no lateral, depth said": ~there & said, "no lateral, depth not said": ~there & ~said}
rows = {}
for name, chosen in groups.items():
    rows[name] = {"images": chosen.sum() // len(seeds[variants[0]])}
    if chosen.any():
        rows[name] |= {f"{own} v {other}": str(gain(own, other, chosen)) for own, other in pairs}
pd.DataFrame.from_dict(rows, orient="index")

# %%
for part in ("local", "whole"):
    names = dict.fromkeys(name for pair in pairs for name in pair)
    nats = [f"{name} {value_of(f'{part}_nats', name):.2f}" for name in names]
    print(f"nats, {part}: {', '.join(nats)}")

# %% [markdown]
# Images that *have* a lateral gain by it, **0.06** against none and **0.06** against another patient's
# in the double form, less in the single one. Whether those whose report tells the depth gain more
# cannot be told from these intervals. In the double form images *without* one lose as much. So over
# all images no gain can be told from 0. A pool holds both kinds, and the mean of two views is another
# kind of vector than that of one alone: that may be the reason; it was not tested.
#
# Of the **0.442 nats** of section 1 nothing can be seen. That is no wonder: of the **7.96 nats** that a
# report tells with its depth the model has found less than one, and which ones it finds first nobody has
# asked it.
#
# **What could go wrong**: to report the gain over images that have a lateral. It is true, and the price
# is paid by some of those that have none.
#
# ### Where do they look?
#
# The pointing game of section 9, seed by seed. A sentence is asked alone, as in a search; the networks
# but `single-sentences` were trained on whole reports, where its words have others beside them.

# %%
rows = []
for name in variants:
    of_it = by_sentence[by_sentence["variant"] == name].dropna(axis=1, how="all")
    for kind in ("attention", "cosine", "score"):
        if kind in of_it:
            for column in (kind, f"{kind}, words alone"):
                mean = mean_interval(of_it[column].to_numpy(), of_it["patient_id"])
                each = " ".join(f"{x:.2f}" for x in of_it.groupby("seed")[column].mean())
                rows.append([name, column, str(mean), each])
by_chance = runs.metrics.query("metric.str.startswith('pointing')")["chance"].mean()
print(f"chance {by_chance:.2f}")
columns = ["variant", "map", "mean of these networks", "each seed"]
pd.DataFrame(rows, columns=columns).set_index("variant")

# %%
from localmi.phantom import PhantomConfig, render
from localmi.phantom.latents import study_of

drawn = PhantomConfig(seed=5, lateral_view=0.6, depth_said=1.0)  # the study of the stored grid


def draw_again(row):  # by its ids alone, as chapter 9 does
    return render(study_of(drawn, row["study_id"]), drawn, int(row["number"]))


shown = [("full", "attention"), ("full", "cosine"), ("single", "attention"), ("local-mi", "score")]
asked = ["pneumothorax", "consolidation", "pleural_effusion"]
rows = {
    (variant, kind, one["finding"]): one
    for variant, kind in shown[::-1]
    for _, one in stored_maps.query("variant == @variant and map == @kind")[::-1].iterrows()
}  # the first of each
shown = [pair for pair in shown if all((*pair, name) in rows for name in asked)]


# %%
def draw_map(axes, row):
    variant, kind, name = row["variant"], row["map"], row["finding"]
    heat = row.filter(like="region_").dropna().to_numpy(float)
    most = f": at most {heat.max() / heat.sum():.0%}" if kind == "attention" else ""
    heat, side = np.maximum(heat, np.median(heat)), math.isqrt(len(heat))
    picture = None if grid_dir else draw_again(row)  # another study is not drawn
    image = np.zeros((256, 256)) if picture is None else picture.image
    mask = {} if picture is None else {name: picture.masks[name]}
    title = f"{variant}, {kind}{most}\n{name}".replace("_", " ")
    plot_radiograph(axes, image, title=title, outlines=mask, heat=heat.reshape(side, side))
    axes.title.set_fontsize("x-small")


# %%
width = max(1, len(shown))  # an empty column where no map is
figure, panels = plt.subplots(len(asked), width, figsize=(2.6 * width, 8.4), squeeze=False)
for (variant, kind), column in zip(shown, panels.T):
    for name, axes in zip(asked, column):
        draw_map(axes, rows[variant, kind, name])
show(
    figure,
    alt="Three findings, outlined, each under the maps of a sentence that affirms it: attention and "
    "cosine of the full variant, attention of the single form, and the score of local MI.",
    caption="Figure 11.6: where the first test sentence of each finding looks, one seed; tinted: the "
    "upper half of the regions, the highest most, each map on a scale of its own. Outlined: its finding. "
    "At most: the share of one region in the frontal image's. (Maps of another grid are drawn without "
    "their image.)",
)

# %% [markdown]
# By double attention, in `full`, the highest region touches the finding no more often than a random one would.
# With one softmax it does in each of the three networks, but in none is it far above what the words
# alone can do: they know the usual place. With sentences as texts, and regions that see their own cell
# alone, it is above them in each, in one by little (**0.46** against **0.38** in the mean), though this
# variant has hardly begun to learn. So it may be whole reports, or regions that see the whole image,
# that keep attention from pointing; which of the two, no run tells apart. Local MI, whose whole score
# is one region's, is ahead in each network, of its own words too.
#
# **What could go wrong**: to show a map because it is there. Attention need not say what a score is
# made of; whether it points must be measured, beside chance and the words alone.
#
# ## 11 What can this study not say?
#
# | claim of the paper | here |
# |---|---|
# | local and global alignment beat global alone | not in its double form; with one softmax yes |
# | laterals help | images that have one; some others lose as much |
# | attention shows where | not in its double form; with sentences and cells it does |
# | SAF, positions, the internal loss help | no difference that three seeds can tell |
#
# (The paper reports $R@1$ of 40 % in a pool of 1,000, after 50 epochs of MIMIC-CXR.) And beyond it:
#
# - **Size.** 16 regions, 800 steps of 16 images; the paper's model has 361 regions and 290 times the
#   steps, of 48. Words may learn to compete in that time; the cap, 13 % there, only tightens.
# - **Language.** Each sentence here speaks of one finding and is drawn without regard to the others.
#   Words of real reports hang together across sentences.
# - **The lateral.** What it is worth was put in. In real reports it may be more, and nobody has
#   counted it.
# - **Local MI beside it** is trained on sentences, LIMITR on reports; their nats are of different
#   things, and only retrieval and pointing set them side by side. It has LIMITR's time here, not its
#   steps: four times as many. And each sentence of these reports speaks of one finding, at one place,
#   which is what local MI supposes. Times hold for one machine.
#
# **On your own data.** `notebooks/parameters/11_paper.yaml` has the paper's sizes, for a GPU; chapter 14
# says how MIMIC-CXR is laid out and checked.
#
# ```text
# python -m localmi prepare --source mimic --data-dir ../mimic-cxr-jpg \
#   --reports ../mimic-cxr-reports.zip --out ../mimic-304 --image-size 304 \
#   --views AP,PA,LATERAL,LL
# python -m localmi run notebooks/11_limitr.ipynb -f notebooks/parameters/11_paper.yaml \
#   -p data_dir ../mimic-304
# ```
#
# Where nobody knows the truth, class-based retrieval, section 9 and the row *by the truth* are left
# out. The grid of section 10 takes two to three hours on 2 cores, and is read here by `-p grid_dir
# grid/runs/limitr/tables`.

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** A lateral view tells whether a finding lies in front or at the back. How much is that of
# a report?
#
# <details><summary>.44 nats beside 7.5 here, if reports say so; 0, if they do not.</summary>
#
# **Right.** What nobody says cannot be learnt from reports.
#
# </details>
# <details><summary>About as much as the frontal view: it is a second image.</summary>
#
# **No.** Most of what it shows, the frontal one shows, too.
#
# </details>
# <details><summary>It cannot be computed.</summary>
#
# **No.** It is a coin that is independent of all else: its entropy times how often it is said.
#
# </details>
#
# **Question 2.** In a double softmax one region of 361 can get at most ...
#
# <details><summary>13 %.</summary>
#
# **Right.** $e^4 / (e^4 + 360)$, whatever is learnt. A pale map may be as sure as it can be.
#
# </details>
# <details><summary>100 % of a word's attention.</summary>
#
# **No.** The first softmax leaves numbers between 0 and 1, and $e^4$ is then the largest ratio.
#
# </details>
# <details><summary>1/361.</summary>
#
# **No.** That is the least decided case.
#
# </details>
#
# **Question 3.** A view that was not taken is filled with vectors near 0. Why does that matter?
#
# <details><summary>It does not: 0 adds nothing.</summary>
#
# **No.** Its products are near 0, and so it takes its share of every softmax.
#
# </details>
# <details><summary>It takes memory.</summary>
#
# **No.** That, too; the maps are worse off.
#
# </details>
# <details><summary>It takes up to half of the attention.</summary>
#
# **Right.** Left out before the softmax, it changes nothing.
#
# </details>
#
# **Question 4.** A loss falls on shuffled pairs as it does on matched ones. What is it?
#
# <details><summary>A weak bound on the information.</summary>
#
# **No.** A bound must say 0 there.
#
# </details>
# <details><summary>No evidence of information between image and text.</summary>
#
# **Right.** It recognises what was made from itself. It may still be of use: ask a comparison.
#
# </details>
# <details><summary>A bug in the shuffling.</summary>
#
# **No.** In section 5 the other two losses say 0 of the same shuffled pairs.
#
# </details>
#
# **Question 5.** A sentence stands in 40 of 195 reports. What is chance of R@1 for an image whose report
# has it?
#
# <details><summary>1/195.</summary>
#
# **No.** It is right in all 40, and they have one score.
#
# </details>
# <details><summary>40/195.</summary>
#
# **No.** That would be so if each copy had a score of its own.
#
# </details>
# <details><summary>1 in the number of *different* texts.</summary>
#
# **Right.** Random is their order. If several are right, so many more.
#
# </details>
#
# **Question 6.** The full model equals the global loss alone; with one softmax in place of two it does
# not. What do you conclude?
#
# <details><summary>Attention does not help in radiology.</summary>
#
# **No.** One form of it did not, here.
#
# </details>
# <details><summary>The form of the attention matters; why, is a hypothesis until it is isolated.</summary>
#
# **Right.** Each word wins of a region only what it wins from all other words. Likely, and not tested
# alone.
#
# </details>
# <details><summary>LIMITR's results are wrong.</summary>
#
# **No.** It had 290 times the steps. This study says what it says.
#
# </details>

# %% [markdown]
# ## Key points
#
# - What a second view can add is known beforehand: here a coin for three findings, $\log 2$ wherever
#   it is said. A measured gain must vanish with another patient's lateral.
# - The vector of a word is a sum over its pieces, so rare words are long; a mean over a padded text
#   depends on its neighbours.
# - The double softmax caps the attention of one region at $e^4/(e^4 + N - 1)$: compare maps of one
#   grid only.
# - What is not there must be masked *before* a softmax.
# - SAF can find the few vectors that matter where a mean drowns them. Without positions no score knows
#   where a region lies.
# - External and global loss are InfoNCE: $\log B - \mathcal L/2$ is a bound in nats. The internal loss falls on
#   shuffled pairs as well.
# - Chance of $R@k$ is not $k/P$ where texts repeat.
# - A part is worth what the model loses without it. Here one softmax decided whether words and regions
#   add anything to two vectors; and at equal time a sentence and its one region found more than all of it.
#
# ## References
#
# - Dawidowicz et al. 2023, LIMITR: Leveraging Local Information for Medical Image-Text Representation,
#   ICCV. <https://doi.org/10.48550/arXiv.2303.11755>; the public code:
#   <https://github.com/gefend/LIMITR>
# - Diao et al. 2021, Similarity Reasoning and Filtration for Image-Text Matching, AAAI.
#   <https://doi.org/10.48550/arXiv.2101.01368> (SAF)
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - van den Oord et al. 2018, Representation learning with contrastive predictive coding.
#   <https://doi.org/10.48550/arXiv.1807.03748>
# - Vaswani et al. 2017, Attention is all you need. <https://doi.org/10.48550/arXiv.1706.03762>
#   (positions)

# %% [markdown]
# What a run leaves beside its record: the rank of every test image's own report and of every image
# for its report, the hits of every sentence, and some maps. Section 10 compares runs by them.

# %%
from localmi.data.batches import LATERAL_VIEWS
from localmi.evaluate.retrieval import first_ranks

if run_dir:
    table = tables["both" if "both" in tables else "local"]
    report, itself = number[test.study], np.eye(len(test), dtype=bool)
    rivals = (report[:, None] != report) | itself  # beside an image, only those of other reports
    of_report = np.where(rivals, table[:, report], -np.inf).T  # [n, n], a row an image's report

# %%
if run_dir:
    by_image = test.manifest[["study_id", "patient_id"]].assign(
        image_to_text=first_ranks(table, right),
        reports=len(reports),
        text_to_image=first_ranks(of_report, itself),
        images=rivals.sum(axis=0),
    )
    seen_from_the_side = cache.manifest[cache.manifest["view"].isin(LATERAL_VIEWS)]["study_id"]
    by_image["lateral"] = by_image["study_id"].isin(seen_from_the_side)
    if truth:
        deep = truth.sentences[truth.sentences["depth"].isin(["anterior", "posterior"])]
        by_image["depth"] = by_image["study_id"].isin(deep["study_id"])
    by_image.drop(columns="study_id").to_csv(f"{run_dir}/by_image.csv", index=False)

# %%
if run_dir and pointed:
    hits = {name: one.astype(int) for name, one in pointed.items()}
    columns = present[["patient_id", "finding"]]
    columns.assign(**hits).to_csv(f"{run_dir}/by_sentence.csv", index=False)
    nth = test.manifest.groupby("study_id").cumcount().to_numpy()  # image of its study
    present["number"], some = nth[images], present.drop_duplicates("finding").index
    rows = [
        present.loc[some, ["study_id", "number", "finding", "text"]].assign(
            map=name, **pd.DataFrame(one[some].reshape(len(some), -1), some).add_prefix("region_")
        )
        for name, one in maps.items()
    ]
    pd.concat(rows).to_csv(f"{run_dir}/maps.csv", index=False, float_format="%.4g")

# %%
from localmi.record import Result, record_metrics

kept = {
    f"{name}_nats": Result(
        one.held_out.bound,
        "test",
        {"shuffled": one.shuffled.bound.value, "cap": one.held_out.cap},
    )
    for name, one in found.items()
}
for (name, direction), one in retrieved.items():
    for k, recall in one.recall.items():
        kept[f"R@{k} {direction} {name}"] = Result(recall, "test", {"chance": one.chance[k]})

# %% tags=["record"]
from localmi.statistics import Interval

if truth:
    beside = {"chance": float(np.mean(list(classes.prevalence.values())))}
    kept[f"P@{ks[-1]}"] = Result(classes.mean[ks[-1]], "test", beside)
for name, hit in pointed.items():
    beside = {"chance": float(game.chance.mean())}
    kept[f"pointing {name}"] = Result(mean_interval(hit, who), "test", beside)
if training.step > first_step:  # not where a finished run is looked at again
    each = training_seconds / (training.step - first_step)
    kept["seconds a step"] = Result(Interval(each, each, each), "train", {})
record = record_metrics(kept, data=cache.describe(), run_dir=run_dir)
