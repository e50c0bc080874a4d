"""Image and text encoders, what aligns them, and classifiers."""

from localmi.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "image": "ResNet256 build_backbone build_image_encoder",
        "text": "TextEncoder",
        "alignment": "Alignment OBJECTIVES local_scores",
        "classifier": "Classifier",
    },
)
