"""The network of a downstream variant, and its loss. Taught in 08_downstream_tasks."""

import torch
from torch import Tensor
from torch.nn import functional

from localmi.data.cache.cache import Cache
from localmi.downstream.config import RANDOM, DownstreamConfig
from localmi.downstream.pretrained_encoder import PretrainedEncoder
from localmi.downstream.tasks import CLASSES
from localmi.errors import ConfigError, check_name
from localmi.model.classifier import Classifier
from localmi.model.image import PAPERS, build_backbone
from localmi.names import Task


def build_classifier(config: DownstreamConfig, encoder: PretrainedEncoder | None) -> Classifier:
    """The network of a variant; what is not pretrained starts anew, by the seed.

    Frozen are blocks 1 to `frozen_blocks`, or fewer where fewer were pretrained, and never the
    last one; a probe takes the last pretrained block.

    Raises:
        ConfigError: unknown `image_encoder`, or another one than that of `init`;
            `region_context="region"`, but the encoder was not pretrained on cells, or they do not
            fit the image.
    """
    torch.manual_seed(config.seed)
    known = encoder.architecture if encoder else PAPERS
    if encoder and config.image_encoder not in ("", known):
        raise ConfigError(
            f"image_encoder={config.image_encoder!r}, but {config.init} holds a {known}. Leave "
            "image_encoder out, or name another init."
        )
    if encoder and known.startswith("vit_") and encoder.image_size != config.image_size:
        raise ConfigError(
            f"image_size={config.image_size}, but {config.init} holds a {known} of images of "
            f"{encoder.image_size} pixels, whose positions are learnt. Use that size."
        )
    backbone = build_backbone(
        config.image_encoder or known,
        image_size=config.image_size,
        local_block=encoder.local_block if encoder else 5,
        num_classes=len(CLASSES[config.task]),
    )
    if encoder is None:
        return Classifier(backbone)
    by_cells = config.region_context == "region"
    whole = backbone.stride(encoder.cells_after) * encoder.grid  # pixels
    if by_cells and (encoder.grid == 1 or config.image_size % whole):
        raise ConfigError(
            f"region_context='region', but {config.init} was pretrained on whole images, or on "
            f"cells that {config.image_size} pixels cannot be cut into. Use 'image'."
        )
    frozen = {
        "tuned": 0,
        "frozen": min(config.frozen_blocks, encoder.blocks, backbone.num_blocks - 1),
        "probe": encoder.blocks,
    }
    network = Classifier(
        backbone,
        frozen_blocks=frozen[config.mode],
        grid=encoder.grid if by_cells else 1,
        cells_after=encoder.cells_after,
    )
    network.load_blocks(encoder.weights)
    return network


def origin(encoder: PretrainedEncoder | None, network: Classifier, cache: Cache) -> str:
    """What a run started from, and what it kept."""
    if encoder is None:
        return "image-only: all blocks and fc1 start anew"
    words = str(encoder)
    if network.frozen_blocks:
        words += f"; blocks 1 to {network.frozen_blocks} are frozen"
    if encoder.objective != RANDOM and encoder.data_hash != cache.data_hash:
        words += "; pretrained on other data, or at another size: who was in training is not known"
    return words


def task_loss(
    task: Task, scores: Tensor, targets: Tensor, mask: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Mean binary cross-entropy over the labels that count; of edema, softmax cross-entropy.

    Args:
        task: "pathology9", "chexpert14" or "edema".
        scores, targets, mask: [B, C]; of edema one target a row is 1, and all count.
        weights: [C], of positives, or of the grades.

    Raises:
        ConfigError: unknown task.
    """
    check_name("task", task, CLASSES)
    if task == "edema":
        return functional.cross_entropy(scores, targets, weight=weights)
    each = functional.binary_cross_entropy_with_logits(
        scores, targets, pos_weight=weights, reduction="none"
    )
    return (each * mask).sum() / mask.sum()


def class_weights(task: Task, targets: Tensor, mask: Tensor) -> Tensor:
    """[C]: positives weigh as much as negatives; of edema, all grades weigh the same.

    A class that the training images lack weighs 1. Errors as `task_loss`.
    """
    check_name("task", task, CLASSES)
    positive = (targets * mask).sum(dim=0)
    if task == "edema":
        present = (positive > 0).sum()
        weights = len(targets) / (present * positive)
    else:
        weights = (mask.sum(dim=0) - positive) / positive
    return torch.where(torch.isfinite(weights) & (weights > 0), weights, torch.ones_like(weights))
