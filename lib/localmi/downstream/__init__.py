"""The downstream tasks: classifiers on pretrained encoders, and the tables of their runs."""

from localmi.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "config": "DownstreamConfig",
        "finetuning": "Finetuning run_downstream",
        "tasks": "CLASSES auc_columns labelled_images nested_share",
        "network": "task_loss",
        "probe": "fit_probe",
        "result": "predictions_of read_predictions",
        "pretrained_encoder": "PretrainedEncoder initial_encoder load_image_encoder",
        "tables": "read_tables",
        "paper_tables": "paper_aucs",
    },
)
