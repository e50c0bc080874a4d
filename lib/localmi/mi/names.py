"""Names of the ways to bound and to select; apart from what computes them, which imports torch."""

from typing import Literal

Direction = Literal["image_to_text", "text_to_image", "symmetric"]
RegionSelection = Literal["per_pair_max", "soft", "positive_argmax", "matched_max"]
