"""Everything one run of LIMITR depends on."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from localmi import names
from localmi.train.config import PairsConfig

if TYPE_CHECKING:
    from localmi.model.words import WordEncoder


class LimitrConfig(PairsConfig):
    """Parameters of LIMITR: `localmi.model.limitr` has the formulas."""

    method: Literal["limitr"] = "limitr"

    # What is aligned
    unit: names.Unit = "report"  # what a text is; the paper: the whole report
    sentences: Literal["one", "all"] = "one"  # of a report, in a step, where texts are sentences
    lateral: names.Lateral = "own"  # the control: "other", of another patient
    external_weight: float = Field(1.0, ge=0)  # of the losses of words and regions, a bound each
    global_weight: float = Field(1.0, ge=0)  # of the loss of whole image and whole text, a bound
    internal_weight: float = Field(0.0, ge=0)  # of the loss within a pair, no bound

    # Networks
    dim: int = Field(128, ge=4)  # of regions and words
    attention: names.Attention = "double"
    pooling: names.WordPooling = "attention"  # of what words (regions) say; or their mean
    positions: bool = True  # a region knows its place
    dropout: float = Field(0.4, ge=0, lt=1)  # in the pooling
    chunk: int = Field(8, ge=0)  # texts that are scored at a time; 0: all
    max_tokens: int = Field(97, ge=8, le=512)  # word pieces of a text

    # Optimisation
    adam_beta: float = Field(0.5, ge=0, lt=1)  # the first
    gradient_clip: float = Field(0.25, gt=0)  # of its norm

    def new_text_encoder(self) -> "WordEncoder":
        """The text encoder, as it is loaded. Errors as `WordEncoder`."""
        from localmi.model.words import WordEncoder

        return WordEncoder(self.text_encoder, max_tokens=self.max_tokens)

    @model_validator(mode="after")
    def _has_a_loss(self) -> Self:
        if not self.external_weight and not self.global_weight:
            raise ValueError(
                "external_weight and global_weight are both 0: nothing would be compared between "
                "images and texts. Set one above 0"
            )
        return self
