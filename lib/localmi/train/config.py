"""Everything one training run depends on, in one object that is checked at the door."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PositiveInt, model_validator

from localmi import names
from localmi.configuration import Configuration

if TYPE_CHECKING:  # what reads parameters does not wait for torch
    from localmi.model.image import ImageEncoder
    from localmi.model.text import TextEncoder

REPORT_TOKENS = 320  # word pieces


class RunConfig(Configuration):
    """What a run of any method has: an image encoder, and how long it is trained."""

    # Networks
    image_encoder: str = "resnet256_6_2_1"  # the paper's, or a ResNet or ViT of torchvision
    image_size: int = Field(256, ge=64)  # pixels a side
    image_checkpointing: bool = False  # its blocks are computed again, to save memory

    # Optimisation
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(32, ge=2)
    learning_rate: float = Field(5e-4, gt=0)
    learning_rate_end: float = Field(1.0, ge=0, le=1)  # share of it that is left at the end
    weight_decay: float = Field(0.0, ge=0)  # of all of image encoder and critic (the paper: none)
    warm_up: float = Field(0.1, ge=0, lt=1)  # share of the steps in which the text rate rises
    precision: names.Precision = "auto"  # auto: bfloat16 where it is fast
    device: names.Device = "auto"  # auto: the GPU, where there is one
    seed: int = Field(0, ge=0)

    evaluate_every: int = Field(200, ge=1)  # steps between two looks, and two checkpoints


class PairsConfig(RunConfig):
    """What a run on images and texts has besides: regions, the text encoder, augmentation."""

    shuffle_pairs: bool = False  # the control: image and text of different studies
    same_text_is_mismatch: bool = False  # of another study, though it reads the same

    # Networks
    grid: int = Field(4, ge=1)  # regions a side: 4 makes 16 regions
    local_stage: int = Field(5, ge=1, le=6)  # block that gives the regions
    region_context: names.RegionContext = "image"  # what a region sees
    cells_after: int = Field(0, ge=0, le=4)  # block after which the cells are cut
    text_encoder: str = "minilm"  # or the folder or hub name of another BERT

    # Optimisation
    text_learning_rate: float = Field(2e-5, ge=0)  # 0: the text encoder stays as it is
    text_weight_decay: float = Field(0.1, ge=0)  # of the text encoder
    augment: bool = True  # images are rotated, shifted and cropped anew in each step
    smallest_crop: float = Field(0.9, gt=0, le=1)  # of the augmentation, as a share of the side

    def new_image_encoder(self) -> "ImageEncoder":
        """An image encoder, with new weights. Errors as `build_image_encoder`."""
        from localmi.model.image import build_image_encoder

        return build_image_encoder(
            self.image_encoder,
            image_size=self.image_size,
            grid=self.grid,
            context=self.region_context,
            cells_after=self.cells_after,
            local_block=self.local_stage,
            checkpointing=self.image_checkpointing,
        )

    def new_text_encoder(self) -> "TextEncoder":
        """The text encoder, as it is loaded. Errors as `TextEncoder`."""
        raise NotImplementedError

    def check(self) -> None:
        """Builds the image encoder without weights; loads a text encoder that is in a folder.

        Raises:
            ConfigError: it takes no such images, grid or context; the folder has no whole BERT.
        """
        import torch

        with torch.device("meta"):
            self.new_image_encoder()
        if not self._text_is_packaged():
            from localmi.model.bert import model_location

            if Path(model_location(self.text_encoder)).is_dir():
                self.new_text_encoder()

    def _text_is_packaged(self) -> bool:
        packaged: str = type(self).model_fields["text_encoder"].default
        return self.text_encoder == packaged

    @property
    def text_is_frozen(self) -> bool:
        """The text encoder stays as it was loaded: each text has the same feature for ever."""
        return self.text_learning_rate == 0

    @model_validator(mode="after")
    def _cells_fit(self) -> Self:
        if self.cells_after > self.local_stage:
            raise ValueError(
                f"cells_after={self.cells_after} comes after local_stage={self.local_stage}, the "
                "last block of the regions"
            )
        return self


class TrainConfig(PairsConfig):
    """Parameters of representation learning. Paper: Sec. 4; see each group."""

    FORMER: ClassVar[frozenset[str]] = frozenset({"checkpoint_every"})  # one at each look

    # What is maximised (Eq. 3-5)
    objective: names.Objective = "local"
    bound: names.Bound = "infonce"
    direction: names.Direction = "symmetric"  # what is compared with what; both ways
    region_select: names.RegionSelection = "soft"  # how the max over regions is read
    temperature: float = Field(1.0, gt=0)  # of the soft selection at the first step
    temperature_end: float = Field(1.0, gt=0)  # at the last step; near 0: the hard maximum
    sentences: names.Sentences = "one"  # of a report, in a step; "all": no bound
    sentences_drawn: int = Field(3, ge=2)  # of a report as one text, where these are "several"
    mine_decay: float = Field(0.99, ge=0, lt=1)  # of the moving average in MINE
    winners_only: bool = False  # the critic scores again only the best regions; hard max

    # Networks
    text_pooling: names.TextPooling = "cls"  # what of the word pieces is the text's feature
    text_frozen_layers: int = Field(0, ge=0)  # its embeddings and so many layers stay as they are
    text_keep_gigabytes: float = Field(8.0, ge=0)  # of disk for what these give; more: not kept
    text_checkpointing: bool = False  # its layers are computed again, to save memory
    text_once: bool = True  # a text that a batch repeats is encoded once, with one dropout
    max_tokens: int = Field(64, ge=8, le=512)  # of a sentence; 320 of a report, for global MI
    critic: names.Critic = "concat"
    critic_hidden: tuple[PositiveInt, ...] = Field((1024, 512), min_length=1)  # its widths
    critic_chunk: int = Field(0, ge=0)  # pairs scored at once, to save memory; 0: see ConcatCritic

    # Optimisation
    channels_last: bool = False  # the image encoder's weights and maps have that layout of memory
    compile: bool = False  # the image encoder, by torch.compile: at first it takes a minute
    batch_statistics: names.BatchStatistics = "all"  # BatchNorm's, on several processes

    @model_validator(mode="before")
    @classmethod
    def _length_of_a_report(cls, fields: Any) -> Any:
        """A report is longer than a sentence: the public code, which is global, cuts at 320."""
        if isinstance(fields, Mapping) and fields.get("objective") == "global":
            return {"max_tokens": REPORT_TOKENS, **fields}
        return fields

    def new_text_encoder(self) -> "TextEncoder":
        """The text encoder, as it is loaded. Errors as `TextEncoder`."""
        from localmi.model.text import TextEncoder

        return TextEncoder(
            self.text_encoder,
            pooling=self.text_pooling,
            max_tokens=self.max_tokens,
            frozen_layers=self.text_frozen_layers,
            checkpointing=self.text_checkpointing,
        )

    def check(self) -> None:
        """As `PairsConfig.check`; or the BERT has no such layers to freeze."""
        super().check()
        if self.text_frozen_layers and self._text_is_packaged():
            self.new_text_encoder()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.winners_only and self.region_select != "per_pair_max":
            raise ValueError("winners_only needs region_select='per_pair_max', the hard max")
        if self.sentences == "several" and self.region_select in names.BY_MATCH:
            raise ValueError(
                f"sentences='several' is a bound, region_select={self.region_select!r} is none: "
                "take 'soft', 'attention' or 'per_pair_max'"
            )
        if self.compile and self.image_checkpointing:
            raise ValueError("compile does not take image_checkpointing: use one of the two")
        return self
