import copy

import pytest
import torch
from torch import Tensor
from transformers import DistilBertConfig, DistilBertModel

from localmi.model.alignment import Alignment
from localmi.model.text import TextEncoder
from localmi.train.config import TrainConfig
from localmi.train.networks import build_alignment, objective_of
from localmi.train.optimisers import (
    Scheduled,
    annealed_temperature,
    control_optimiser,
    image_optimiser,
    scheduled,
    text_optimiser,
    text_parameter_groups,
)


def alignment_of(config: TrainConfig) -> Alignment:
    return build_alignment(config, objective_of(config))


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


def held(optimiser: Scheduled) -> list[int]:
    return [id(p) for group in optimiser.optimiser.param_groups for p in group["params"]]


def rates(optimiser: Scheduled) -> set[float]:
    """The learning rates in force, as shares of those set."""
    groups = optimiser.optimiser.param_groups
    return {round(group["lr"] / group["initial_lr"], 6) for group in groups}


def test_each_parameter_has_one_optimiser(configure) -> None:
    config = configure(text_learning_rate=1e-4, learning_rate=0.02)
    alignment = alignment_of(config)
    control = copy.deepcopy(alignment.critic)
    images, texts = (
        image_optimiser(config, alignment),
        text_optimiser(config, alignment.text_encoder),
    )
    controls = control_optimiser(config, control, every=4)
    expected = [*alignment.image_encoder.parameters(), *alignment.critic.parameters()]
    assert sorted(held(images)) == sorted(map(id, expected))
    assert sorted(held(texts)) == sorted(map(id, alignment.text_encoder.parameters()))
    assert sorted(held(controls)) == sorted(map(id, control.parameters()))
    assert isinstance(images.optimiser, torch.optim.Adam)
    assert isinstance(texts.optimiser, torch.optim.AdamW)
    for optimiser, rate in ((images, 0.02), (texts, 1e-4), (controls, 0.02)):
        assert {group["initial_lr"] for group in optimiser.optimiser.param_groups} == {rate}
    assert {group["weight_decay"] for group in images.optimiser.param_groups} == {0}


def test_weight_decay_is_decoupled_and_for_image_encoder_and_critics(configure) -> None:
    config = configure(weight_decay=0.5, learning_rate=0.1, text_learning_rate=1e-4)
    alignment = alignment_of(config)
    for optimiser in (
        image_optimiser(config, alignment),
        control_optimiser(config, alignment.critic, every=1),
    ):
        weight = next(iter(alignment.critic.parameters()))
        before = weight.detach().clone()
        weight.grad = torch.zeros_like(weight)  # no gradient: what is left is the decay
        optimiser.step()
        weight.grad = None
        torch.testing.assert_close(weight.detach(), before * (1 - 0.1 * 0.5))
    decays = {
        group["weight_decay"]
        for group in text_optimiser(config, alignment.text_encoder).optimiser.param_groups
    }
    assert decays == {0.1, 0.0}


@pytest.mark.parametrize(
    ("warm_up", "expected"),
    [  # ten steps
        (0.5, {0: 0.2, 1: 0.4, 4: 1.0, 5: 1.0, 6: 0.8, 9: 0.2, 10: 0.0, 12: 0.0}),
        (0.0, {0: 1.0, 1: 0.9, 5: 0.5, 9: 0.1, 10: 0.0}),
        (0.04, {0: 1.0, 1: 0.9375, 10: 0.0}),  # less than a step
        (0.25, {0: 0.4, 1: 0.8, 2: 1.0, 4: 0.8}),  # two steps and a half
    ],
)
def test_the_text_encoder_warms_up_then_decays(configure, warm_up, expected) -> None:
    config = configure(steps=10, warm_up=warm_up, text_learning_rate=1e-4)
    optimiser = text_optimiser(config, alignment_of(config).text_encoder)
    for step in range(13):
        if step in expected:
            assert rates(optimiser) == {expected[step]}, step
        optimiser.step()


def test_the_image_encoder_and_the_control_end_at_their_share(configure) -> None:
    config = configure(steps=10, learning_rate_end=0.2)
    alignment = alignment_of(config)
    optimiser = image_optimiser(config, alignment)
    control = control_optimiser(config, alignment.critic, every=4)  # makes steps 0, 4 and 8
    found = []
    for step in range(10):
        found.append(rates(optimiser))
        optimiser.step()
        if step % 4 == 0:
            control.step()
    assert found[:6:5] == [{1.0}, {0.6}]
    assert rates(optimiser) == rates(control) == {0.2}
    steady = image_optimiser(configure(), alignment)
    steady.step()
    assert rates(steady) == {1.0}


def descend(optimiser: Scheduled, loss: Tensor) -> None:
    """One step down the gradient of `loss`, as a training step makes it."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def test_an_optimiser_goes_on_from_its_state() -> None:
    def made() -> tuple[torch.nn.Linear, Scheduled]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(2, 1)
        adam = torch.optim.Adam(layer.parameters(), lr=0.1)
        return layer, scheduled(adam, steps=8, warm_up=0.5, end=0.0)

    layer, optimiser = made()
    other_layer, other = made()
    for _ in range(6):
        descend(optimiser, layer(torch.ones(2)).square().sum())
    for _ in range(3):
        descend(other, other_layer(torch.ones(2)).square().sum())
    state = copy.deepcopy(other.state_dict())
    last_layer, last = made()
    last_layer.load_state_dict(other_layer.state_dict())
    last.load_state_dict(state)
    for _ in range(3):
        descend(last, last_layer(torch.ones(2)).square().sum())
    assert torch.equal(layer.weight, last_layer.weight)
    assert rates(last) == rates(optimiser) == {0.5}


def test_descending_forgets_the_gradient_of_before() -> None:
    weight = torch.nn.Parameter(torch.tensor(1.0))
    optimiser = scheduled(torch.optim.SGD([weight], lr=0.5), steps=10)
    descend(optimiser, 3 * weight)
    descend(optimiser, weight)
    assert weight.item() == pytest.approx(1 - 0.5 * 3 - 0.5 * 1)


def test_the_temperature_goes_from_its_start_to_its_end() -> None:
    config = TrainConfig.checked(steps=5, temperature=4.0, temperature_end=0.25)
    found = [annealed_temperature(config, step) for step in range(5)]
    assert found == pytest.approx([4, 2, 1, 0.5, 0.25])
    assert annealed_temperature(TrainConfig.checked(steps=9), 4) == 1
    assert annealed_temperature(TrainConfig.checked(steps=1, temperature=3.0), 0) == pytest.approx(
        3
    )
