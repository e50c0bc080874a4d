"""A step of a masked siamese network beside the same with lightly's parts.

    python -m pip install --no-deps lightly==1.6.0 lightning-utilities==0.15.3
    python benchmarks/siamese.py                                about 3 minutes on 2 cores

Both train the same ViT on the same grey images, to as many views of the same sizes, with heads of
one build and as many prototypes. One step = the views, both networks, the loss, the backward pass,
the optimiser and the moving average. Here the views are cut from the whole batch on its device;
there image by image, by PIL, in this process, with the colours that its transform draws: "views
alone" is that part. lightly is not in the environment, where nothing else would use it, and it
would bring Lightning; so this is no part of `make bench`. Nothing is written.
"""

import argparse
import copy
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from rows import PARTS, Bench, as_markdown
from timing import Work
from torch import Tensor, nn

from localmi.data.batches import normalise
from localmi.data.crops import Crops
from localmi.model.siamese import Siamese, ViewsOfImage
from localmi.train.msn_config import MsnConfig

OURS, LIGHTLY = "ours", "lightly"


@dataclass(frozen=True)
class Size:
    """B images of `side` pixels to 2 views of that side and some small ones."""

    encoder: str
    images: int
    side: int
    focal: int
    num_focal: int
    prototypes: int

    def __str__(self) -> str:
        return (
            f"{self.encoder}, {self.images} x {self.side} px, {self.num_focal} x {self.focal} px"
        )


SIZES = {
    "quick": [Size("vit_micro_16", 2, 64, 32, 1, 8)],
    "cpu": [
        Size("vit_micro_16", 64, 128, 48, 2, 128),  # the grid of chapter 12
        Size("vit_tiny_16", 8, 224, 96, 10, 1024),  # the paper's views
    ],
}
SIZES["cuda"] = [Size("vit_small_16", 64, 224, 96, 10, 1024)]


def network(size: Size) -> tuple[MsnConfig, Siamese]:
    config = MsnConfig.checked(
        image_encoder=size.encoder,
        image_size=size.side,
        focal_size=size.focal,
        focal_views=size.num_focal,
        prototypes=size.prototypes,
    )
    return config, Siamese(
        config.new_image_encoder(),
        record_dim=0,
        iterations=config.sinkhorn,
        mean_entropy_weight=1.0,
        prototypes=size.prototypes,
        mask=config.mask,
        mask_focal=False,
        temperature=config.temperature,
        sharpening=config.sharpening,
        train_prototypes=True,
    )


def ours(size: Size, device: str, *, views_alone: bool) -> Work:
    config, model = network(size)
    model.to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)
    crops = Crops(full=size.side, focal=size.focal, num_focal=size.num_focal)
    images = torch.randint(256, (size.images, 1, size.side, size.side), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        views = ViewsOfImage(*crops(normalise(images.to(device)), generator))
        if views_alone:
            return
        loss = model.loss(views, None, generator).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.after_step(config.ema)

    return step


def lightlys(size: Size, device: str, *, views_alone: bool) -> Work:
    parts = lightly()
    _, model = network(size)
    backbone = parts.MaskedVisionTransformerTorchvision(vit=model.encoder.features)
    width = model.encoder.pooled_dim
    head = parts.MSNProjectionHead(width, hidden_dim=4 * width, output_dim=width)
    anchor = nn.ModuleList([backbone, head]).to(device)
    target = copy.deepcopy(anchor).requires_grad_(False)
    prototypes = nn.Linear(width, size.prototypes, bias=False).to(device)
    criterion = parts.MSNLoss()
    optimiser = torch.optim.AdamW([*anchor.parameters(), *prototypes.parameters()], fused=True)
    transform = parts.MSNTransform(size.side, size.focal, 2, size.num_focal)
    pixels = torch.randint(256, (size.images, size.side, size.side), dtype=torch.uint8)
    images = [Image.fromarray(one.numpy()).convert("RGB") for one in pixels]

    def masked(views: Tensor) -> Tensor:
        tokens = 1 + (views.shape[-1] // 16) ** 2
        keep, _ = parts.random_token_mask((len(views), tokens), mask_ratio=0.15, device=device)
        return anchor[1](anchor[0](views, idx_keep=keep))

    def step() -> None:
        each = [torch.stack(view).to(device) for view in zip(*map(transform, images), strict=True)]
        if views_alone:
            return
        with torch.no_grad():
            targets = target[1](target[0](each[0]))
        anchors = [masked(each[1])]
        anchors += [anchor[1](anchor[0](torch.cat(each[2:])))] if size.num_focal else []
        loss = criterion(torch.cat(anchors), targets, prototypes.weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        parts.update_momentum(anchor, target, 0.996)

    return step


def lightly() -> SimpleNamespace:
    """What is used of it.

    Raises:
        SystemExit: it is not installed.
    """
    try:
        from lightly.loss import MSNLoss
        from lightly.models import utils
        from lightly.models.modules.heads import MSNProjectionHead
        from lightly.models.modules.masked_vision_transformer_torchvision import (
            MaskedVisionTransformerTorchvision,
        )
        from lightly.transforms.msn_transform import MSNTransform
    except ImportError as error:
        words = (__doc__ or "").splitlines()[2].strip()
        raise SystemExit(f"This benchmark needs lightly ({error}): {words}") from error
    found: dict[str, Any] = {
        one.__name__: one
        for one in (MSNLoss, MSNProjectionHead, MaskedVisionTransformerTorchvision, MSNTransform)
    }
    names = ("random_token_mask", "update_momentum")
    return SimpleNamespace(**found, **{name: getattr(utils, name) for name in names})


WAYS = {OURS: ours, LIGHTLY: lightlys}


def prepare(way: str, size: Size, device: str, views_alone: bool) -> tuple[Work, Work]:
    """The same step twice: what is loaded late is there after the first."""
    torch.manual_seed(0)
    step = WAYS[way](size, device, views_alone=views_alone)
    return step, step


def compare(bench: Bench, sizes: list[Size]) -> None:
    """A row of a whole step and one of its views alone, at each size."""
    for size in sizes:
        for alone, what in ((False, "whole step"), (True, "views alone")):
            names = {way: f"{way}, {what}: {size}" for way in WAYS}
            ways = {
                name: partial(prepare, way, size, bench.device, alone)
                for way, name in names.items()
            }
            pair = (names[OURS], names[LIGHTLY])
            bench.compare("siamese networks", ways, pair, slow=True, peaks=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    profile = "quick" if options.quick else device
    bench = Bench(profile, options.threads)
    compare(bench, SIZES[profile])
    print(as_markdown({name: found for name, found in vars(bench).items() if name in PARTS}))


if __name__ == "__main__":
    main()
