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
# # 6 Encoders: an image and a sentence become vectors
#
# **You will be able to** read the paper's image encoder stage by stage, compute what a region can
# see and measure what it does see, say what a general text encoder separates and what it does not,
# write a critic that never concatenates, and follow a score from region and sentence to a number.
#
# **Before this**: [5 Radiographs and reports](05_radiographs_and_reports.ipynb). Section 8 needs what
# a bound is, DV, and the four readings b1 to b4 ([chapter 2](02_variational_bounds.ipynb), 3, and
# [chapter 4](04_local_mutual_information.ipynb), 4); all else stands alone.
#
# **Reading time**: 40 minutes.
# **Run time**: half a minute on 2 cores; a GPU is not used. **Memory**: 1.5 GB.
# **Data**: the example study, or your own by `data_dir`. Nothing is trained here: every network is
# as it was initialised, only the text encoder has been trained before, by others.

# %% tags=["setup"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from localmi.course import check, plot_radiograph, set_up, show
from localmi.study import load_study

set_up()

# %% tags=["parameters"]
seed = 0  # of everything random
text_encoder = "minilm"  # or the folder or hub name of another BERT
data_dir = ""  # folder of a study or a CSV file, "" is the example study
cache_dir = ""  # folder of its cache, "" is a folder beside the data
run_dir = ""  # where results are kept, "" keeps nothing

# %% [markdown]
# ## 1 What must an encoder give?
#
# Two networks, one for each side. The image encoder gives $N$ local vectors, one a region, and one
# global vector; the text encoder gives one vector a text.
#
# $$\text{image} \mapsto z^I_1, \dots, z^I_N \in \mathbb R^D \text{ and } z^I \in \mathbb R^P,
# \qquad \text{text} \mapsto z^R \in \mathbb R^E \qquad\text{(paper, Sec. 4)}$$
#
# That is all the method asks. Whatever network gives these three shapes will do.

# %%
from localmi.data import normalise
from localmi.model import TextEncoder, build_image_encoder

torch.manual_seed(seed)
study = load_study(data_dir, cache_dir)
images = normalise(study.images[:4])  # [B, 1, 256, 256]
image_encoder = build_image_encoder("resnet256_6_2_1", image_size=256, grid=4).eval()
language = TextEncoder(text_encoder).eval()
with torch.no_grad():
    regions, pooled = image_encoder.regions(images), image_encoder.pooled(images)
    texts = language(language.tokenize(study.sentences["text"][:3].tolist()))
print(f"images  {list(images.shape)}")
print(f"regions {list(regions.shape)}    [B, N, D]")
print(f"pooled  {list(pooled.shape)}        [B, P]")
print(f"texts   {list(texts.shape)}        [M, E]")

# %% [markdown]
# **What could go wrong**: $B$ images and $M$ texts are two different axes, even when $B = M$. All
# through the course, `scores[i, j]` is image $i$ with text $j$: rows are images.

# %% [markdown]
# ## 2 What happens to an image, stage by stage?
#
# The paper's network, `resnet256_6_2_1`, is small and made for radiographs: one channel in, 256
# pixels a side, six stages of two residual blocks. Each stage halves the side.

# %%
from localmi.data import normalise
from localmi.model import ResNet256

torch.manual_seed(seed)
network = ResNet256(num_classes=1).eval()
picture = normalise(load_study(data_dir, cache_dir).images[:1])  # [1, 1, 256, 256]
rows, blocks, stem = [("image", picture, 0)], {}, [network.conv1, network.bn1]
with torch.no_grad():
    for k in range(7):
        block = network.blocks(picture, 1, k)
        parts = stem if k == 0 else [network.get_submodule(f"layer{k}")]
        size = sum(p.numel() for part in parts for p in part.parameters())
        rows.append(("conv1" if k == 0 else f"stage {k}", block, size))
        blocks[k] = block[0]
    rows.append(("pooled", network.pooled(picture), 0))
    rows.append(("fc1", network(picture), sum(p.numel() for p in network.fc1.parameters())))

# %%
shapes = [
    (name, " × ".join(map(str, out.shape[1:])), f"{out.numel():,}", f"{size:,}")
    for name, out, size in rows
]
pd.DataFrame(shapes, columns=["after", "shape", "numbers", "parameters"]).set_index("after")

# %%
total = sum(p.numel() for p in network.parameters())
print(f"parameters: {total:,}")
assert total == sum(size for *_, size in rows) == 1_945_033

# %% [markdown]
# **1,945,033** parameters, nearly all in the last two stages; a ResNet-50 has twelve times as
# many. The image's 65,536 numbers become 8,192 at stage 5: an eighth. What is thrown away there, no
# critic can bring back.
#
# Here is one image on its way through the untrained network (mean over the channels).

# %%
figure, grid = plt.subplots(1, 7, figsize=(13, 2.2))
plot_radiograph(grid[0], picture[0, 0], title="image")
for k in range(1, 7):
    side = blocks[k].shape[-1]
    plot_radiograph(grid[k], blocks[k].mean(dim=0), title=f"stage {k}: {side} × {side}")
show(
    figure,
    alt="A radiograph and its features after six stages, ever coarser; from the fourth stage on "
    "no anatomy can be made out.",
    caption="Figure 6.1: from pixels to 4 × 4, by an untrained network.",
)

# %% [markdown]
# **What could go wrong**: batch normalisation. In training mode the features of one image depend
# on the others of its batch; in a small batch they do so strongly. Evaluate in `eval()` mode, and
# know that the running statistics need some steps before they mean anything.

# %% [markdown]
# ## 3 Are there 16 regions or 64?
#
# The paper writes of local features of 4 × 4 × 512, its code has 128 × 8 × 8. These hold the same
# 8,192 numbers: four neighbouring cells of 128 make one region of 512. That the one becomes the
# other by *folding* is our inference; neither paper nor code says so.
#
# $$z^I_{(r,c)} = \big[\,b_{2r,2c},\; b_{2r,2c+1},\; b_{2r+1,2c},\; b_{2r+1,2c+1}\,\big]
# \in \mathbb R^{4\cdot 128}$$

# %%
from torch.nn import functional

from localmi.model import build_image_encoder

torch.manual_seed(seed)
encoder = build_image_encoder("resnet256_6_2_1", image_size=256, grid=4).eval()
images = torch.randn(2, 1, 256, 256)
with torch.no_grad():
    block = encoder.backbone.blocks(images, 1, 5)  # [B, 128, 8, 8]
    regions = encoder.regions(images)  # [B, 16, 512]
folded = functional.pixel_unshuffle(block, 2)  # [B, 512, 4, 4]
print(list(block.shape), "->", list(folded.shape), "->", list(regions.shape))
for n in range(16):
    r, c = divmod(n, 4)  # row by row from the top left
    cells = block[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]  # [B, 128, 2, 2]
    assert torch.equal(regions[:, n], cells.flatten(1))
assert torch.equal(folded.flatten(1).sort().values, block.flatten(1).sort().values)
print("the same 8,192 numbers, none lost, none made")

# %% [markdown]
# With `grid=8` the same encoder gives 64 regions of 128: finer places, a smaller critic, four times
# as many scores.
#
# **What could go wrong**: `reshape`. `block.reshape(B, 16, 512)` has the right shape and the wrong
# content: its first "region" is four channels of the whole image. Nothing raises. The training even
# works, and every map of regions drawn afterwards is nonsense.
#
# ### Exercise 6.1
#
# Cut a block `[B, C, h, w]` into `grid × grid` regions `[B, N, D]`, row by row from the top left,
# without `pixel_unshuffle`. (The numbers within a region may come in any order.)

# %%
def my_regions(block, grid):                              # [B, C, h, w]
    ...

check.exercise_6_1(my_regions)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_regions(block, grid):                              # [B, C, h, w]
    cut = block.unflatten(3, (grid, -1)).unflatten(2, (grid, -1))
    cut = cut.permute(0, 2, 4, 1, 3, 5)                   # [B, grid, grid, C, h/grid, w/grid]
    return cut.flatten(3).flatten(1, 2)                   # [B, N, D]

check.exercise_6_1(my_regions)

# %% [markdown]
# ## 4 What does a region see?
#
# A region covers 64 × 64 pixels of the image. Its vector may depend on more. Layer by layer, with
# kernel $k_l$, stride $s_l$, and $j_l$ the distance in pixels between neighbours before layer $l$,
#
# $$r_l = r_{l-1} + (k_l - 1)\,j_l, \qquad j_{l+1} = j_l\, s_l, \qquad r_0 = j_1 = 1.$$
#
# For this network, after stage $k$: $r = 3 + 14\,(2^k - 1)$.

# %%
field = {k: 3 + 14 * (2**k - 1) for k in range(1, 7)}  # pixels
table = pd.DataFrame(
    {
        "cells a side": {k: 256 // 2**k for k in field},
        "a cell covers": {k: 2**k for k in field},
        "and may see": field,
    }
).rename_axis("stage")
print("pixels a side, of 256")
table

# %% [markdown]
# At stage 5 a cell may see **437** pixels: more than there are. Every region may depend on the
# whole image. *May*: does it? Ask the network. The gradient of a region's vector with respect to
# the pixels says which of them move it, and how much.
#
# The course has a second kind of region: with `context="region"`, each of the 16 tiles goes through
# the network alone and can see nothing else.

# %%
from localmi.data import normalise
from localmi.model import build_image_encoder

images = normalise(load_study(data_dir, cache_dir).images[:8])
REGION = 5  # second row, second column: rows 64 to 127, columns 64 to 127
OWN = torch.zeros(256, 256, dtype=torch.bool)
OWN[64:128, 64:128] = True


def influence(**options):
    """Mean size of the gradient of a region with respect to each pixel, [256, 256]."""
    torch.manual_seed(seed)
    encoder = build_image_encoder("resnet256_6_2_1", image_size=256, grid=4, **options).eval()
    pixels = images.clone().requires_grad_()
    vector = encoder.regions(pixels)[:, REGION]  # [B, D]
    (vector @ torch.randn(vector.shape[1])).sum().backward()  # a random direction
    return pixels.grad.abs().mean(dim=(0, 1))


# %%
maps = {
    'stage 5, context "image"': influence(),
    'stage 3, context "image"': influence(local_block=3),
    'stage 5, context "region"': influence(context="region"),
}
for name, seen in maps.items():
    reach, own = (seen > 0).float().mean(), seen[OWN].sum() / seen.sum()
    print(f"{name:26} reaches {reach:4.0%} of the pixels; {own:4.0%} of its influence: own tile")

# %%
figure, grid = plt.subplots(1, 4, figsize=(12, 3.3))
tile = {"the region's tile": OWN}
plot_radiograph(grid[0], images[0, 0], title="region 5 of 0 to 15", outlines=tile)
for axes, (name, seen) in zip(grid[1:], maps.items()):
    plot_radiograph(axes, images[0, 0], title=name, outlines=tile)
    shown = torch.log10(seen / seen.max()).clamp(min=-3)  # three decades
    heat = axes.imshow(np.ma.masked_less(shown.numpy(), -2.999), cmap="magma", vmin=-3, vmax=0)
bar = figure.colorbar(heat, ax=grid[1:], shrink=0.85, ticks=[-3, -2, -1, 0])
bar.ax.set_yticklabels(["1/1000", "1/100", "1/10", "1"])
bar.set_label("influence of a pixel")
show(
    figure,
    alt="Influence of pixels on one region. At stage 5 it spreads far beyond the region's tile, at "
    "stage 3 a little, and with tiles encoded alone it ends at the edge of the tile.",
    caption="Figure 6.2: what one region depends on, in an untrained network.",
)

# %% [markdown]
# Two things to see. The influence is no box of 437 pixels: it is a bell, and its foot is low (Luo
# et al. 2016 found this of all such networks). But it is a bell much wider than the tile, and
# training can raise its foot.
#
# Why does it matter? The method rewards a region for *knowing* what a sentence says, not for
# *being* where it is. A region that sees the whole image may know of an effusion in the other
# lung, win the maximum over the regions (section 8), and point at the wrong place with a clear
# conscience. The bound is as high as ever. Only the map is wrong.
#
# **What could go wrong**: taking the tile for the cause. With `context="image"` a winning region is
# evidence of what the network knows, not of where it looked. With `context="region"` it must have
# looked there; the price is that it cannot compare left with right, nor the heart's width with the
# chest's.
#
# ### Exercise 6.2
#
# Write the recursion for any list of (kernel, stride).

# %%
def my_receptive_field(layers):                           # [(kernel, stride), ...]
    ...

check.exercise_6_2(my_receptive_field)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_receptive_field(layers):                           # [(kernel, stride), ...]
    field, apart = 1, 1                                   # pixels
    for kernel, stride in layers:
        field += (kernel - 1) * apart
        apart *= stride                                   # counts from the next layer on
    return field

check.exercise_6_2(my_receptive_field)

# %% [markdown]
# ## 5 Which other image encoders are there?
#
# By name, every ResNet and vision transformer of torchvision. A ResNet's local block is its last
# stage but one; a transformer's is its patch tokens, and its global vector the [CLS] token. Here
# they are built on torch's *meta* device: shapes without numbers, so that 86 million parameters cost
# neither memory nor time.

# %%
from localmi.errors import ConfigError
from localmi.model import build_image_encoder

choices = [
    ("resnet256_6_2_1", 256, 4), ("resnet256_6_2_1", 256, 8), ("resnet18", 256, 4),
    ("resnet18", 256, 16), ("resnet50", 256, 8), ("vit_b_16", 64, 4),
]  # fmt: skip
rows = []
for name, size, grid in choices:
    with torch.device("meta"):
        encoder = build_image_encoder(name, image_size=size, grid=grid)
    count = sum(p.numel() for p in encoder.parameters()) / 1e6
    rows.append((name, size, grid**2, encoder.region_dim, encoder.pooled_dim, f"{count:.1f}"))
columns = ["encoder", "pixels", "regions N", "D", "P", "million parameters"]
pd.DataFrame(rows, columns=columns).set_index("encoder")

# %%
for options in ({"name": "resnet81"}, {"name": "resnet18", "image_size": 256, "grid": 5}):
    try:
        build_image_encoder(**options)
    except ConfigError as error:
        message = str(error)
        print(message if len(message) < 200 else message[:120] + " ...")

# %% [markdown]
# Folding keeps every number, so $D$ grows when $N$ shrinks: `resnet18` with 16 regions has vectors
# of 4,096 numbers, and the critic's first layer grows with them. With 256 regions it has 256.
#
# **What could go wrong**: weights trained on photographs. They help, but their first layer expects
# three colours of another spread; here the grey image is given three times.

# %% [markdown]
# ## 6 What does a general text encoder know of reports?
#
# A BERT cuts a text into word pieces, puts [CLS] before them and gives each piece a vector. The text
# feature $z^R$ is the vector of [CLS] (paper, Sec. 4) or the mean over all pieces. BERT has one layer
# more on [CLS], the *pooler*; the paper does not say whether it is used, and here it is not.

# %%
from localmi.model import TextEncoder

language = TextEncoder(text_encoder).eval()
for text in ("No pneumothorax.", "Small left pleural effusion."):
    tokens = language.tokenize([text])
    print(" ".join(language.tokenizer.convert_ids_to_tokens(tokens.input_ids[0])))
with torch.no_grad():
    tokens = language.tokenize(["No pneumothorax.", "Small left pleural effusion."])
    hidden = language.bert(tokens.input_ids, tokens.attention_mask).last_hidden_state
pieces = tokens.attention_mask.sum(dim=1).tolist()
print(f"hidden {list(hidden.shape)} = [M, T, E]; pieces of each text: {pieces}")
assert torch.allclose(language(tokens), hidden[:, 0])

# %% [markdown]
# The words of radiology come in pieces: this BERT never learnt them whole. It was trained on pairs
# of sentences from the web that *mean something similar*. Does it think what we think is similar?

# %%
SENTENCES = [
    "Small left pleural effusion.", "There is a small effusion on the left.",
    "Small right pleural effusion.", "Large left pleural effusion.",
    "No pleural effusion.", "The costophrenic angles are sharp.",
    "Right lower zone pneumonia.", "Left lower zone pneumonia.", "No pneumonia.",
    "The heart is enlarged.", "Heart size is normal.", "The bones are unremarkable.",
]  # fmt: skip


def cosines(pooling):
    """Cosine of every two sentences, [12, 12]."""
    model = TextEncoder(text_encoder, pooling=pooling).eval()
    with torch.no_grad():
        vectors = model(model.tokenize(SENTENCES))  # [12, E]
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    return vectors @ vectors.T


similar = {pooling: cosines(pooling) for pooling in ("cls", "mean")}

# %%
figure, grid = plt.subplots(1, 2, figsize=(12, 4.6), sharey=True)
for axes, (pooling, values) in zip(grid, similar.items()):
    picture = axes.imshow(values, cmap="viridis", vmin=0, vmax=1)
    axes.set(title={"cls": "[CLS]", "mean": "mean over the pieces"}[pooling])
    axes.set_yticks(range(12), [f"{text}  {i}" for i, text in enumerate(SENTENCES, start=1)])
    axes.set_xticks(range(12), range(1, 13))
    axes.tick_params(labelsize="small", length=0)
figure.colorbar(picture, ax=grid, shrink=0.8, label="cosine")
show(
    figure,
    alt="Cosines of twelve sentences: bright blocks for sentences that share their words, whatever their "
    "side and whether they affirm or deny; dark between others.",
    caption="Figure 6.3: what a general text encoder takes for similar.",
)

# %%
changes = {
    "other words, same statement": (0, 1), "other size": (0, 3), "other side": (0, 2),
    "denied": (0, 4), "denied in other words": (0, 5), "other finding": (0, 6),
}  # fmt: skip
print(f"cosine with {SENTENCES[0]!r}")
rows = {name: [float(similar[p][i, j]) for p in similar] for name, (i, j) in changes.items()}
pd.DataFrame(rows, index=["[CLS]", "mean"]).T.round(2)

# %% [markdown]
# Shared words are seen. The side is not: left and right are nearly one vector. And an effusion is closer
# to its denial than to the same statement in other words. That is what training on the web
# teaches: both *are about* effusions. A denial without the word ("the costophrenic angles are sharp") is
# as far away as another finding.
#
# Is the difference lost, or only small? A cosine weighs all directions alike; a critic need not. Take
# all ways the synthetic reports have of saying that something is there or not, and of naming a side.
# Fit a linear classifier on eight findings, and try it on the ninth, whose words it has not seen.

# %%
from localmi.phantom import phrases

FILLED = {"zone": "lower", "level": "small", "cm": "2.5"}


def corpus(task):
    """(finding, label, sentence) of every template; label 1: denied, or said of the left."""
    rows = []
    for (finding, variant), templates in phrases.PRESENT.items():
        for template in templates:
            sides = ("left", "right") if "{side}" in template else ("left",)
            for side in sides:
                label = int(side == "left") if task == "side" else 0
                if task == "polarity" or (len(sides) == 2 and variant == ""):
                    rows.append((finding, label, template.format(side=side, **FILLED)))
    if task == "polarity":
        rows += [(f, 1, text) for (f, _), texts in phrases.ABSENT.items() for text in texts]
    return pd.DataFrame(rows, columns=["finding", "label", "text"]).drop_duplicates()


# %%
for task in ("polarity", "side"):
    some = corpus(task).groupby("label").sample(2, random_state=seed)
    for _, label, text in some.itertuples(index=False):
        print(f"{task:9} {label}  {text}")

# %%
from sklearn.linear_model import LogisticRegression


def separated(task, pooling):
    """(share whose nearest neighbour has the same label, accuracy on findings left out)."""
    table = corpus(task)
    model = TextEncoder(text_encoder, pooling=pooling).eval()
    with torch.no_grad():
        vectors = model(model.tokenize(table["text"].tolist()))
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    nearest = (vectors @ vectors.T).fill_diagonal_(-1).argmax(dim=1).numpy()
    label, finding, correct = table["label"].to_numpy(), table["finding"].to_numpy(), []
    for left_out in np.unique(finding):
        rest = finding != left_out
        fit = LogisticRegression(C=100, max_iter=1000).fit(vectors[rest], label[rest])
        correct += (fit.predict(vectors[~rest]) == label[~rest]).tolist()
    return (label[nearest] == label).mean(), np.mean(correct)


# %%
cases = [(task, pooling) for task in ("polarity", "side") for pooling in ("cls", "mean")]
columns = ["nearest neighbour agrees", "linear, on a finding left out"]
pd.DataFrame([separated(*case) for case in cases], columns=columns, index=cases).round(2)

# %% [markdown]
# Denials betray themselves by their small words, "no" and "normal": even the nearest neighbour mostly
# agrees. Sides do not: the nearest neighbour of a sentence about the left is, nearly always, its twin
# about the right. Yet a linear readout tells them apart, on findings it was not fitted on. The
# information is there, in directions that the cosine hardly counts. So the critic gets the vectors
# themselves, and tuning the text encoder (`text_learning_rate` in notebook 07) can turn those
# directions up.
#
# **What could go wrong**: a method that compares by cosine and keeps the text encoder frozen. To it
# "left effusion" and "right effusion" are one sentence. And these sentences are ours, made from
# templates: on real reports, with their longer denials ("no evidence of ... or ..."), expect less.
#
# ### Exercise 6.3
#
# The mean over word pieces must not depend on the padding. Write it.

# %%
def my_mean(hidden, mask):                                # [B, T, E], [B, T]
    ...

check.exercise_6_3(my_mean)

# %% jupyter={"source_hidden": true} tags=["solution"]
def my_mean(hidden, mask):                                # [B, T, E], [B, T]
    pieces = mask.sum(dim=1, keepdim=True)                # [B, 1]
    return (hidden * mask[:, :, None]).sum(dim=1) / pieces

check.exercise_6_3(my_mean)

# %% [markdown]
# ## 7 How does a critic score all pairs without concatenating them?
#
# The paper's critic is an MLP on region and sentence, one behind the other. Its first layer is
# linear, and a linear map of a concatenation is a sum of two:
#
# $$W\,[z;\,t] = W_z\, z + W_t\, t.$$
#
# So $W_z z$ is computed once for each region, $W_t t$ once for each sentence, and only their *sum* is
# made for each pair. In a batch with $B$ images of $N$ regions and $B$ sentences the first layer
# then costs $BN + B$ products, not $B^2N$.

# %%
from localmi.mi import ConcatCritic

def my_scores(critic, z, t):  # [B, N, D], [M, E]
    first, second, last = critic.mlp[0], critic.mlp[2], critic.mlp[4]
    W_z, W_t = first.weight.split([z.shape[-1], t.shape[-1]], dim=1)
    hidden = (z @ W_z.T)[:, :, None] + t @ W_t.T + first.bias  # [B, N, M, 1024]
    return last(second(hidden.relu()).relu()).squeeze(-1)  # [B, N, M]


# %%
torch.manual_seed(seed)
B, N, D, E = 6, 16, 512, 768
critic = ConcatCritic(D, E, hidden=(1024, 512))
z, t = torch.randn(B, N, D), torch.randn(B, E)
with torch.no_grad():
    pairs = torch.cat([z[:, :, None].expand(B, N, B, D), t.expand(B, N, B, E)], dim=-1)
    concatenated = critic.mlp(pairs).squeeze(-1)  # what the formula says, and what is too slow
    assert torch.allclose(my_scores(critic, z, t), concatenated, atol=1e-5)
    assert torch.allclose(critic(z, t), concatenated, atol=1e-5)
print(f"scores {list(critic(z, t).shape)} = [B, N, M]: f(region n of image i, sentence j)")

# %%
def multiplications(B, split, N=16, D=512, E=768, hidden=(1024, 512)):
    """Of the three layers, for B images of N regions and B sentences."""
    first = B * N * D + B * E if split else B * B * N * (D + E)
    return first * hidden[0] + B * B * N * (hidden[0] * hidden[1] + hidden[1])


sizes = [8, 32, 128, 512]
table = pd.DataFrame(
    {
        "concatenated": [multiplications(B, False) / 1e9 for B in sizes],
        "split": [multiplications(B, True) / 1e9 for B in sizes],
    },
    index=pd.Index(sizes, name="B"),
)
table["times fewer"] = table["concatenated"] / table["split"]
print(f"billions of multiplications; the limit is 1 + (512 + 768) / 512 = {1 + 1280 / 512:.2f}")
table.round(2)

# %% tags=["nbval-ignore-output"]
from timeit import repeat

z, t = torch.randn(16, 16, 512), torch.randn(16, 768)


def concatenating():
    images = z[:, :, None].expand(-1, -1, 16, -1)
    return critic.mlp(torch.cat([images, t.expand(16, 16, -1, -1)], dim=-1))


with torch.no_grad():
    slow = min(repeat(concatenating, number=1, repeat=3))  # seconds
    fast = min(repeat(lambda: critic(z, t), number=1, repeat=3))
print(f"B = 16, here: {1e3 * slow:.0f} ms and {1e3 * fast:.0f} ms, {slow / fast:.1f} times faster")

# %% [markdown]
# Same function, same gradient, same parameters under the same names. Just **3.50** times fewer
# multiplications at best: from the second layer on every pair has to be computed. If that is too
# slow, a bilinear or separable critic scores all pairs with one matrix product, and can express
# less.
#
# **What could go wrong**: memory, not time. The hidden layer of all pairs is $B^2 N \cdot 1024$
# numbers: 67 million at $B = 64$, and the backward pass keeps them. `critic_chunk` computes them
# again instead.

# %% [markdown]
# ## 8 From a score for each region to one for the image
#
# The critic gives $f_{i,n,j}$: region $n$ of image $i$ with sentence $j$. A bound needs one number
# for image $i$ and sentence $j$. Eq. 5 takes the maximum over the regions, and does not say what
# happens to mismatched pairs. There are four ways to read it. A tiny example: three images of four
# regions, three sentences; sentence $j$ belongs to image $j$.

# %%
f = torch.tensor(
    [
        [[4.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 2.0]],
        [[1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 2.0, 1.0], [3.0, 0.0, 0.0]],
    ]
)  # [B = 3, N = 4, M = 3]

# %%
import math

from localmi.mi import select_regions

image = torch.arange(3)
soft = f.logsumexp(dim=1) - math.log(4)  # every region a little
best = f.amax(dim=1)  # each pair its own best region
region = f[image, :, image].argmax(dim=1)  # the best region for the MATCHED sentence
readings = {
    "matched_max": torch.where(torch.eye(3, dtype=torch.bool), best, soft),  # b1
    "positive_argmax": f[image, region],  # b2
    "per_pair_max": best,  # b3
    "soft": soft,  # b4
}
for name, scores in readings.items():
    assert torch.allclose(scores, select_regions(f, name))

# %%
def matrix(axes, values, title, rows, mark=()):
    axes.imshow(values, cmap="Blues", vmin=-1, vmax=6)
    for (r, c), value in np.ndenumerate(values.numpy()):
        bold = "bold" if (r, c) in mark else "normal"
        axes.text(c, r, f"{value:.1f}".removesuffix(".0"), ha="center", va="center", weight=bold)
    axes.set(title=title, xlabel="sentence $j$", ylabel=rows, xticks=range(3), yticks=[])
    axes.tick_params(length=0)


# %%
figure, grid = plt.subplots(2, 4, figsize=(11, 5.4), height_ratios=(4, 3))
for i in range(3):
    marked = {(int(region[i]), i)}
    matrix(grid[0, i], f[i], f"$f$ of image {i}", "region $n$", marked)
grid[0, 3].axis("off")
labels = ("b1", "b2", "b3: reported", "b4: trained")
for axes, label, (name, scores) in zip(grid[1], labels, readings.items()):
    matrix(axes, scores, f"{label}\n{name}", "image $i$", {(i, i) for i in range(3)})
show(
    figure,
    alt="Scores of three images as small tables of regions by sentences, and the four tables of "
    "images by sentences that the four readings make of them; the diagonals of the first three "
    "agree, what stands beside them does not.",
    caption="Figure 6.4: four readings of Eq. 5. Bold: the matched pairs.",
)

# %% [markdown]
# b1 lets only the matched pair take its best region; in a mismatched pair every region counts alike,
# which the soft maximum sums up. b2 reuses the region that suits the matched
# sentence. b3 treats all pairs alike: $g(i,j) = \max_n f_{i,n,j}$ needs not know who is matched
# with whom. b4 is b3 made soft.
#
# **A warning, with numbers.** Fill $f$ with noise. Nothing is known of anything, so the truth is 0.
# Only b3 and b4 may be put into a lower bound.

# %%
from localmi.mi import dv

noise = torch.Generator().manual_seed(seed)
K, R, rounds = 256, 16, 20
found = {name: 0.0 for name in readings}
for _ in range(rounds):
    f = torch.randn(K, R, K, generator=noise)
    for name in found:
        found[name] += float(dv(select_regions(f, name))) / rounds
for (name, nats), label in zip(found.items(), labels):
    verdict = "not a bound" if nats > 0.05 else "a bound: at most the truth, 0"
    print(f"{label[:2]} {name:16} DV {nats:5.2f} nats   {verdict}")

# %% [markdown]
# b1 and b2 find more than a nat in pure noise: the largest of 16 normal numbers is 1.77 on average,
# and $1.77 - \log E\,e^f = 1.77 - 0.50$ is what they report. A trained critic does worse still. Where
# all regions are drawn alike, as here, it finds its way to $\log R - (R-1)/R = 1.84$ nats of nothing
# (a test of the library trains one). Regions that differ by their place, as those of a radiograph
# do, leave the cap at $\log R = 2.77$, and a critic that knows the place reaches it (chapter 4). The
# two readings stand in the library to be shown, and carry this warning there.
#
# **What could go wrong**: somebody reports b1 or b2 as mutual information. The curves look
# excellent.

# %% [markdown]
# ## Quiz
#
# Six questions. Open the answer that you would give.
#
# **Question 1.** 8,192 numbers as 4 × 4 × 512 or 8 × 8 × 128: how does the one become the other?
#
# <details><summary>By reshape: the numbers are the same.</summary>
#
# **No.** The shape is right and the content wrong: a "region" would be four channels of the whole image,
# and nothing raises.
#
# </details>
# <details><summary>By pooling each 2 × 2 block.</summary>
#
# **No.** Three of four numbers would be lost.
#
# </details>
# <details><summary>By folding four neighbouring cells into one region.</summary>
#
# **Right.** `pixel_unshuffle` keeps places together, and loses no number.
#
# </details>
#
# **Question 2.** A cell of stage 5 may see 437 pixels, the image has 256. What follows?
#
# <details><summary>A region that wins need not lie where the finding is.</summary>
#
# **Right.** It may know of the other lung. With `context="region"` it cannot, at a price.
#
# </details>
# <details><summary>The maps of regions are worthless.</summary>
#
# **No.** They say which region *knows*. That it looked there takes another proof.
#
# </details>
# <details><summary>Nothing: in practice only its own tile counts.</summary>
#
# **No.** The influence is a bell, and much wider than the tile.
#
# </details>
#
# **Question 3.** "Left effusion" and "right effusion" have a cosine of nearly 1. Can a critic tell them
# apart?
#
# <details><summary>No: the text encoder has lost the difference.</summary>
#
# **No.** A linear readout finds it, on findings that it was not fitted on.
#
# </details>
# <details><summary>Yes, if it reads the vectors and not their cosine.</summary>
#
# **Right.** The difference lies in directions that the cosine hardly counts.
#
# </details>
# <details><summary>Only if the text encoder is trained.</summary>
#
# **No.** That helps, but is not needed.
#
# </details>
#
# **Question 4.** Why does the library not concatenate region and sentence?
#
# <details><summary>It gives another, better function.</summary>
#
# **No.** The function is the same, up to rounding: $W[z;t] = W_z z + W_t t$.
#
# </details>
# <details><summary>The two halves of the first layer are computed once each, not once a pair.</summary>
#
# **Right.** $BN + B$ products in place of $B^2 N$.
#
# </details>
# <details><summary>MLPs do not work on concatenations.</summary>
#
# **No.** They do; the paper's critic is one.
#
# </details>
#
# **Question 5.** Batch normalisation is left in training mode while features are read. What is wrong?
#
# <details><summary>Nothing, it only makes them noisier.</summary>
#
# **No.** They depend on who else is in the batch; the same image has another feature each time.
#
# </details>
# <details><summary>The weights change.</summary>
#
# **No.** No weight does; the running statistics do.
#
# </details>
# <details><summary>The feature of an image depends on the others of its batch.</summary>
#
# **Right.** And the running mean and variance move. Read in `eval()` mode.
#
# </details>
#
# **Question 6.** Scores of regions are filled with noise. Which of the four readings may be put into a
# bound?
#
# <details><summary>Those in which every pair chooses its own region, b3 and b4.</summary>
#
# **Right.** They treat matched and mismatched pairs by one rule.
#
# </details>
# <details><summary>All: noise is noise.</summary>
#
# **No.** b1 and b2 find more than a nat of nothing.
#
# </details>
# <details><summary>b2: matched and mismatched use the same region.</summary>
#
# **No.** The region was chosen by the *matched* sentence. That choice is the information it reports.
#
# </details>

# %% [markdown]
# ## Key points
#
# - An image encoder gives regions `[B, N, D]` and a pooled vector `[B, P]`; a text encoder `[M, E]`.
# - `resnet256_6_2_1` has 1,945,033 parameters; its 128 × 8 × 8 and the paper's 512 × 4 × 4 are the
#   same numbers, folded by `pixel_unshuffle` and never by `reshape`.
# - Each of its regions may see the whole image. A region that knows is not a region that looked.
# - A general text encoder sees the topic; side and negation are there, but small. Do not use the
#   cosine.
# - $W[z;t] = W_z z + W_t t$: never concatenate.
# - Let every pair choose its own region, matched or not. Where the matched sentence alone chooses, it
#   is no bound.
#
# ## References
#
# - Liao et al. 2021, Multimodal Representation Learning via Maximization of Local Mutual
#   Information, MICCAI. <https://doi.org/10.1007/978-3-030-87196-3_26>
# - He et al. 2016, Deep residual learning for image recognition, CVPR.
#   <https://doi.org/10.1109/CVPR.2016.90>
# - Luo et al. 2016, Understanding the effective receptive field in deep convolutional neural
#   networks, NeurIPS. <https://doi.org/10.48550/arXiv.1701.04128>
# - Devlin et al. 2019, BERT: pre-training of deep bidirectional transformers for language
#   understanding, NAACL. <https://doi.org/10.18653/v1/N19-1423>
# - Reimers and Gurevych 2019, Sentence-BERT: sentence embeddings using Siamese BERT-networks,
#   EMNLP. <https://doi.org/10.18653/v1/D19-1410>

# %% tags=["record"]
from localmi.record import record_metrics

record = record_metrics({}, data=load_study(data_dir, cache_dir).describe(), run_dir=run_dir)
