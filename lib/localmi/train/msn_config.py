"""Everything one run of a masked siamese network depends on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from localmi import names
from localmi.train.config import RunConfig

if TYPE_CHECKING:
    from localmi.model.torchvision_backbones import TorchvisionViT

BASELINES: dict[str, dict[str, Any]] = {
    "dino": {"mask": 0.0, "sharpening": 0.4},
    "mae": {"mask": 0.75, "focal_views": 0, "full_scale": (0.2, 1.0)},
}


class MsnConfig(RunConfig):
    """Parameters of CXR-EHR-MSN and its baselines: `localmi.model.msn` has the formulas."""

    method: Literal["msn"] = "msn"

    # What is learnt from
    objective: names.SelfSupervised = "msn"
    views: tuple[str, ...] = ()  # of the images: ("AP", "PA"); (): all there are
    record: tuple[names.RecordVariable, ...] = ()  # variables or groups of them; (): none
    record_of: names.RecordOf = "own"  # the control: "other", of another patient
    fuse_from_identity: bool = True  # image and record begin as the image; the public code: False

    # Networks
    image_encoder: str = "vit_micro_16"  # a ViT: vit_tiny_16, vit_small_16, or torchvision's
    prototypes: int = Field(256, ge=2)
    train_prototypes: bool = True  # the public code: False
    temperature: float = Field(0.1, gt=0)
    sharpening: float = Field(
        0.25, gt=0
    )  # of the targets: their share of the temperature; DINO: 0.4
    sinkhorn: int = Field(3, ge=0)  # iterations
    mean_entropy_weight: float = Field(1.0, ge=0)  # lambda
    ema: float = Field(0.996, ge=0, lt=1)  # what the target keeps of itself, at first
    ema_end: float = Field(1.0, ge=0, le=1)  # at the last step; the public code: 0.996
    centre_momentum: float = Field(0.9, ge=0, lt=1)  # of DINO's centre

    # Views
    mask: float = Field(
        0.15, ge=0, lt=1
    )  # share of an anchor's patches that are dropped; MAE: 0.75
    mask_focal: bool = False  # of the small crops too; the public code: True
    focal_size: int = Field(48, ge=16)  # pixels a side of a small crop
    focal_views: int = Field(4, ge=0)  # small crops an image
    full_scale: tuple[float, float] = (0.3, 1.0)  # share of the image's area
    focal_scale: tuple[float, float] = (0.05, 0.3)  # the same of a small crop
    flip: float = Field(0.0, ge=0, le=1)  # share of crops that are mirrored; the public code: 0.5

    # Optimisation
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    learning_rate_end: float = Field(0.01, ge=0, le=1)  # share of it that is left at the end
    weight_decay: float = Field(0.04, ge=0)  # not of prototypes, biases, norms, places
    warm_up: float = Field(0.1, ge=0, lt=1)  # share of the steps in which the rate rises
    gradient_clip: float = Field(3.0, gt=0)  # of its norm

    def new_image_encoder(self) -> "TorchvisionViT":
        """A ViT with new weights.

        Raises:
            ConfigError: unknown name; no ViT; or a size that does not consist of whole patches.
        """
        from localmi.errors import ConfigError
        from localmi.model.image import build_backbone
        from localmi.model.sizes import check_patches
        from localmi.model.torchvision_backbones import TorchvisionViT

        backbone = build_backbone(self.image_encoder, image_size=self.image_size)
        if not isinstance(backbone, TorchvisionViT):
            raise ConfigError(
                f"image_encoder={self.image_encoder!r} has no patches to hide. Use a ViT: "
                "vit_micro_16, vit_tiny_16, vit_small_16, or one of torchvision's."
            )
        if self.focal_views and self.objective != "mae":
            check_patches(
                self.focal_size, self.image_encoder, patch=backbone.patch, parameter="focal_size"
            )
        backbone.checkpointing = self.image_checkpointing
        return backbone

    def check(self) -> None:
        """Builds the image encoder without weights. Errors as `new_image_encoder`."""
        import torch

        with torch.device("meta"):
            self.new_image_encoder()

    @model_validator(mode="before")
    @classmethod
    def _of_the_objective(cls, fields: Any) -> Any:
        """What the papers of DINO and MAE have otherwise, unless it is said."""
        if isinstance(fields, Mapping) and isinstance(name := fields.get("objective"), str):
            return BASELINES.get(name, {}) | dict(fields)
        return fields

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.record_of != "own" and not self.record:
            raise ValueError("record_of='other' needs a record: name its variables")
        if self.record and self.objective != "msn":
            raise ValueError(
                f"objective={self.objective!r} reads no record: leave `record` out, or take 'msn'"
            )
        return self
