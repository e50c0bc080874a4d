"""What a model is worth, from arrays alone."""

from localmi.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "held_out": "SplitResult held_out_bound",
        "classification": "binary_metrics compare multi_label_metrics",
        "edema": "EDEMA_TASKS edema_metrics edema_tails edema_targets",
        "calibration": "reliability",
        "grounding": "best_threshold by_group contrast_to_noise find_lenders overlap place_names "
        "pointing_game region_centres region_confusion region_coverage resize_masks size_names",
        "retrieval": "class_retrieval zero_shot_scores",
        "occlusion": "move paint_over",
        "boxes": "box_masks read_boxes",
    },
)
