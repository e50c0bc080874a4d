"""The synthetic study: images, reports and patient records with a known answer."""

from localmi.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "config": "PhantomConfig ReportNoise",
        "latents": "Finding Study",
        "image": "render",
        "lateral": "render_lateral",
        "report": "compose_report",
        "truth": "true_mi",
        "record_truth": "record_auc true_record_mi",
        "oracle": "oracle_scores",
        "read": "Truth finding_sentences read_truth",
    },
)
