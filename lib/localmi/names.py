"""The names of what can be chosen; apart from what computes them, which imports torch.

A name here and a row in its table make a choice: `mi.estimators.ESTIMATORS`, `mi.critics.CRITICS`,
`mi.selection.SELECTIONS`, `model.alignment.OBJECTIVES`.
"""

from typing import Literal

Bound = Literal["infonce", "mine", "dv", "nwj", "tuba", "interpolated", "js", "smile", "demi"]
Critic = Literal["concat", "bilinear", "separable", "centred"]
Direction = Literal["image_to_text", "text_to_image", "symmetric"]
Objective = Literal["local", "global"]
RegionSelection = Literal["per_pair_max", "soft", "positive_argmax", "matched_max"]
Policy = Literal[  # what uncertain and blank labels count as
    "explicit", "zeros", "ones", "explicit_blank_zero", "zeros_blank_zero", "ones_blank_zero"
]
