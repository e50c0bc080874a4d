"""Representation learning: the configuration, the step, the loop, what is kept."""

from localmi.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "config": "TrainConfig",
        "pretraining": "Pretraining",
        "limitr": "LimitrTraining",
        "limitr_config": "LimitrConfig",
        "loop": "fit",
        "msn": "MsnPretraining",
        "msn_config": "MsnConfig",
        "model_card": "write_model_card",
        "trained_model": "TrainedModel load_trained_model read_config",
    },
)
