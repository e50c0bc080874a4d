"""What comes in: pairs of image and report, the cache, batches, labels."""

from localmi.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "cache.cache": "Cache build_cache open_cache",
        "cache.prepare": "describe_pairs estimate_needs",
        "cache.verify": "verify_cache",
        "sources.pairs": "Pairs read_pairs reasons",
        "images": "read_image",
        "reports": "body_sections sections sentence_kind split_sentences",
        "batches": "Batch SplitData TrainingBatches epoch_order normalise",
        "views": "ViewBatch ViewData",
        "augment": "Augmentation",
        "crops": "Crops",
        "unpaired": "ImageBatch ImageData",
        "record_features": "features",
        "labels": "PATHOLOGY9 POLICIES SEVERITIES TABLE_1 beside_table_1 check_test_patients "
        "class_counts label_targets",
        "splits": "split_patients",
    },
)
