"""What training is tested with: the tiny study, a tiny BERT, few steps."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import VisionTransformer, get_model
from transformers import AutoTokenizer, BertConfig, BertModel

from localmi.data.cache.cache import Cache
from localmi.downstream import pretrained_encoder
from localmi.model import torchvision_backbones
from localmi.model.bert import PACKAGED, model_location
from localmi.train.config import TrainConfig
from localmi.train.limitr import LimitrTraining
from localmi.train.limitr_config import LimitrConfig
from localmi.train.msn import MsnPretraining
from localmi.train.msn_config import MsnConfig
from localmi.train.pretraining import Pretraining


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The folder of a BERT of 16, made in no time; dropout as in any BERT."""

    def make(dropout: float = 0.1, layers: int = 1) -> str:
        folder = tmp_path_factory.getbasetemp() / f"bert-{dropout}-{layers}"
        if not folder.exists():
            tokenizer = AutoTokenizer.from_pretrained(model_location(PACKAGED))
            tokenizer.save_pretrained(folder)
            config = BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                num_hidden_layers=layers,
                num_attention_heads=2,
                intermediate_size=32,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                initializer_range=0.2,
            )
            with torch.random.fork_rng():
                torch.manual_seed(0)
                BertModel(config).save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture
def configure(tiny_bert: Callable[..., str]) -> Callable[..., TrainConfig]:
    """A configuration for the tiny study, with changes; the text encoder is not trained."""

    def make(**changes: Any) -> TrainConfig:
        small: dict[str, Any] = {
            "image_size": 64,
            "local_stage": 4,
            "critic_hidden": (16, 8),
            "text_encoder": tiny_bert(),
            "text_learning_rate": 0,
            "batch_size": 5,
            "steps": 6,
            "learning_rate": 0.01,
            "same_text_is_mismatch": True,
            "precision": "float32",
            "device": "cpu",
        }
        return TrainConfig.checked(**(small | changes))

    return make


@pytest.fixture
def build_limitr(
    tiny_bert: Callable[..., str], lateral_cache: Cache
) -> Callable[..., LimitrTraining]:
    """A run of LIMITR on the tiny study with laterals, or on `cache`, with changes."""

    def make(cache: Cache | None = None, **changes: Any) -> LimitrTraining:
        small: dict[str, Any] = {
            "image_size": 64,
            "local_stage": 4,
            "dim": 8,
            "text_encoder": tiny_bert(layers=4),
            "text_learning_rate": 0,
            "batch_size": 5,
            "steps": 6,
            "learning_rate": 0.01,
            "precision": "float32",
            "device": "cpu",
        }
        config = LimitrConfig.checked(**(small | changes))
        return LimitrTraining(config, lateral_cache if cache is None else cache)

    return make


@pytest.fixture
def build_msn(tiny_cache: Cache, record_cache: Cache) -> Callable[..., MsnPretraining]:
    """A run on the images of the tiny study, or of that with records, or on `cache`."""

    def make(cache: Cache | None = None, **changes: Any) -> MsnPretraining:
        small: dict[str, Any] = {
            "image_size": 64,
            "prototypes": 6,
            "focal_size": 32,
            "focal_views": 1,
            "batch_size": 5,
            "steps": 6,
            "ema": 0.5,
            "precision": "float32",
            "device": "cpu",
        }
        config = MsnConfig.checked(**(small | changes))
        usual = record_cache if config.record else tiny_cache
        return MsnPretraining(config, usual if cache is None else cache)

    return make


@pytest.fixture
def build(configure: Callable[..., TrainConfig], tiny_cache: Cache) -> Callable[..., Pretraining]:
    """A run on the tiny study, or on `cache`, with changes of the configuration."""

    def make(cache: Cache | None = None, **changes: Any) -> Pretraining:
        return Pretraining(configure(**changes), tiny_cache if cache is None else cache)

    return make


@pytest.fixture
def small_vit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., VisionTransformer]]:
    """`vit_b_16` has three layers of 16 and patches of 8 x 8: the real one has 86 million weights.

    Gives what makes one.
    """

    def make(*, image_size: int = 64, num_layers: int = 3) -> VisionTransformer:
        return VisionTransformer(
            image_size=image_size,
            patch_size=8,
            num_layers=num_layers,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
        )

    def small(name: str, *, weights: str | None = None, **sizes: int) -> torch.nn.Module:
        if name == "vit_b_16":
            return make(**sizes)
        return get_model(name, weights=weights, **sizes)

    monkeypatch.setattr(torchvision_backbones, "get_model", small)
    pretrained_encoder._backbone.cache_clear()
    yield make
    pretrained_encoder._backbone.cache_clear()  # the next test may mean the real one


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty folder of a run."""
    folder = tmp_path / "run"
    folder.mkdir()
    return folder
