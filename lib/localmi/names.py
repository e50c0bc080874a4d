"""The names of what can be chosen; apart from what computes them, which imports torch.

A name here and a row in its table make a choice: `mi.estimators.ESTIMATORS`, `mi.critics.CRITICS`,
`mi.selection.SELECTIONS`, `model.alignment.OBJECTIVES`.
"""

from typing import Literal

Bound = Literal["infonce", "mine", "dv", "nwj", "tuba", "interpolated", "js", "smile", "demi"]
Critic = Literal["concat", "bilinear", "separable", "centred"]
Direction = Literal["image_to_text", "text_to_image", "symmetric"]
Objective = Literal["local", "global"]
Split = Literal["train", "validate", "test"]
Unit = Literal["sentence", "report"]  # what a text is
RegionSelection = Literal["per_pair_max", "soft", "attention", "positive_argmax", "matched_max"]
BY_MATCH = ("positive_argmax", "matched_max")  # readings that ask who is matched with whom
Sentences = Literal["one", "several", "all"]  # of a report, in a step
RegionContext = Literal["image", "region"]  # what a region sees
TextPooling = Literal["cls", "mean"]  # what of the word pieces is the text's feature
Attention = Literal["double", "single"]  # of words and regions
WordPooling = Literal["attention", "mean"]  # from many vectors to one
Lateral = Literal["own", "other", "none"]  # whose lateral view an image has beside it
SelfSupervised = Literal["msn", "dino", "mae"]  # from images without texts
RecordVariable = Literal[  # of a patient's record; the first three are groups
    "demographic",
    "scan",
    "stay",
    "sex",
    "age",
    "age5",
    "age10",
    "view",
    "position",
    "admitted",
    "died",
    "icu",
    "stay_days",
    "labels",  # of no record: those of the image's report, a control that tells much
]
RecordOf = Literal["own", "other"]  # whose record an image has beside it
Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
BatchStatistics = Literal["all", "own"]  # of several processes: of whose images
FRONTAL_VIEWS = ("AP", "PA")  # what is kept where no views are named
Source = Literal["auto", "mimic", "openi", "csv", "nih", "chexpert"]  # of images
Task = Literal["pathology9", "edema", "chexpert14"]
Policy = Literal[  # what uncertain and blank labels count as
    "explicit", "zeros", "ones", "explicit_blank_zero", "zeros_blank_zero", "ones_blank_zero"
]
