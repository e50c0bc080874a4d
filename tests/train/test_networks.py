import pytest
import torch
from transformers import DistilBertConfig, DistilBertModel

from localmi.errors import ConfigError
from localmi.mi.critics import BilinearCritic, ConcatCritic, SeparableCritic
from localmi.model.text import TextEncoder
from localmi.train.config import checked
from localmi.train.networks import (
    annealed_temperature,
    build_alignment,
    build_optimisers,
    choose_device,
    choose_dtype,
    text_parameter_groups,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def names_of(encoder: torch.nn.Module, group: dict) -> set[str]:
    wanted = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in encoder.named_parameters() if id(parameter) in wanted}


def test_biases_and_layer_norms_do_not_decay(tiny_bert) -> None:
    encoder = TextEncoder(tiny_bert())
    groups = text_parameter_groups(encoder, 0.1)
    decayed, plain = (names_of(encoder, group) for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.1, 0]
    assert decayed | plain == {name for name, _ in encoder.named_parameters()}
    assert not decayed & plain
    assert plain == {
        name
        for name, _ in encoder.named_parameters()
        if name.endswith(".bias") or "LayerNorm" in name
    }
    assert "bert.encoder.layer.0.attention.self.query.weight" in decayed
    assert "bert.embeddings.LayerNorm.weight" in plain


def test_a_layer_norm_of_another_name_does_not_decay_either() -> None:
    encoder = DistilBertModel(DistilBertConfig(vocab_size=50, dim=8, n_heads=2, hidden_dim=8))
    decayed, _ = text_parameter_groups(encoder, 0.1)
    names = names_of(encoder, decayed)
    assert "transformer.layer.0.attention.q_lin.weight" in names
    assert not [name for name in names if "norm" in name.lower() or name.endswith("bias")]


def test_each_parameter_has_one_optimiser(configure) -> None:
    config = configure(text_learning_rate=1e-4, learning_rate=0.02)
    alignment = build_alignment(config)
    optimisers = build_optimisers(config, alignment)

    def held(optimiser: torch.optim.Optimizer) -> list[int]:
        return [id(p) for group in optimiser.param_groups for p in group["params"]]

    image = [*alignment.image_encoder.parameters(), *alignment.critic.parameters()]
    assert sorted(held(optimisers.image)) == sorted(map(id, image))
    assert sorted(held(optimisers.text)) == sorted(map(id, alignment.text_encoder.parameters()))
    assert isinstance(optimisers.image, torch.optim.Adam)
    assert isinstance(optimisers.text, torch.optim.AdamW)
    assert {group["lr"] for group in optimisers.image.param_groups} == {0.02}
    assert {group["weight_decay"] for group in optimisers.image.param_groups} == {0}


@pytest.mark.parametrize(
    ("warm_up", "expected"),
    [  # ten steps at 1e-4
        (0.5, {0: 0.2, 1: 0.4, 4: 1.0, 5: 1.0, 6: 0.8, 9: 0.2, 10: 0.0, 12: 0.0}),
        (0.0, {0: 1.0, 1: 0.9, 5: 0.5, 9: 0.1, 10: 0.0}),
        (0.04, {0: 1.0, 1: 0.9375, 10: 0.0}),  # a warm-up of less than a step is none
    ],
)
def test_the_text_encoder_warms_up_then_decays(configure, warm_up, expected) -> None:
    config = configure(steps=10, warm_up=warm_up, text_learning_rate=1e-4)
    optimisers = build_optimisers(config, build_alignment(config))
    for step in range(13):
        if step in expected:
            rates = [group["lr"] for group in optimisers.text.param_groups]
            assert rates == pytest.approx([1e-4 * expected[step]] * 2), step
        optimisers.step()
    assert {group["lr"] for group in optimisers.image.param_groups} == {config.learning_rate}


def test_zero_grad_reaches_every_network(configure) -> None:
    config = configure(text_learning_rate=1e-4)
    alignment = build_alignment(config)
    for parameter in alignment.parameters():
        parameter.grad = torch.ones_like(parameter)
    build_optimisers(config, alignment).zero_grad()
    assert all(parameter.grad is None for parameter in alignment.parameters())


def test_the_temperature_goes_from_its_start_to_its_end() -> None:
    config = checked(steps=5, temperature=4.0, temperature_end=0.25)
    found = [annealed_temperature(config, step) for step in range(5)]
    assert found == pytest.approx([4, 2, 1, 0.5, 0.25])
    assert annealed_temperature(checked(steps=9), 4) == 1
    assert annealed_temperature(checked(steps=1, temperature=3.0), 0) == pytest.approx(3)


def test_the_seed_decides_the_weights(configure) -> None:
    torch.manual_seed(5)
    one = build_alignment(configure(seed=1)).state_dict()
    torch.manual_seed(6)
    same = build_alignment(configure(seed=1)).state_dict()
    other = build_alignment(configure(seed=2)).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    for name in ("critic.mlp.0.weight", "image_encoder.backbone.conv1.weight"):
        assert not torch.equal(one[name], other[name])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("concat", ConcatCritic), ("bilinear", BilinearCritic), ("separable", SeparableCritic)],
)
def test_critics_fit_the_encoders(configure, name: str, kind: type) -> None:
    for objective, dim in (("local", 64), ("global", 768)):
        alignment = build_alignment(configure(critic=name, objective=objective))
        assert isinstance(alignment.critic, kind)
        assert (alignment.critic.dim_x, alignment.critic.dim_y) == (dim, 16)


def test_the_chunk_reaches_the_critic(configure) -> None:
    assert build_alignment(configure(critic_chunk=7)).critic.chunk == 7
    assert build_alignment(configure()).critic.chunk is None


def test_devices_without_a_gpu(no_gpu: None) -> None:
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU
    with pytest.raises(ConfigError, match="device='cuda', but no GPU.*'cpu' or 'auto'"):
        choose_device("cuda")


def test_devices_with_a_gpu(gpu: None) -> None:
    assert choose_device("auto") == CUDA
    assert choose_device("cuda") == CUDA
    assert choose_device("cpu") == CPU


def test_precision_by_name() -> None:
    for device in (CPU, CUDA):
        assert choose_dtype("float32", device) == torch.float32
        assert choose_dtype("bfloat16", device) == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_precision_asks_the_hardware(monkeypatch, capabilities, dtype) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype("auto", CPU) == dtype
    has = dtype == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert choose_dtype("auto", CUDA) == dtype
