"""A step of training equals the same step written from the formulas, a pair at a time."""

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.data.batches import Batch, TrainingBatches, normalise
from localmi.model.alignment import Alignment
from localmi.train.pretraining import Pretraining


def slow_score(critic: torch.nn.Module, parts: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Soft Eq. 5 for one image and text: temperature * log mean_n exp(f_n / temperature)."""
    scores = [critic.mlp(torch.cat([part, text]))[0] for part in parts]
    return temperature * torch.stack([(f / temperature).exp() for f in scores]).mean().log()


def slow_infonce(scores: list[list[Tensor]], image: list[int], text: list[int]) -> Tensor:
    """Eq. 4 in both directions; image i and text j of one study are no mismatched pair."""
    number = range(len(scores))
    terms = []
    for i in number:
        others = [j for j in number if j != i and image[i] != text[j]]
        row = [scores[i][i], *(scores[i][j] for j in others)]
        others = [j for j in number if j != i and image[j] != text[i]]
        column = [scores[i][i], *(scores[j][i] for j in others)]
        for choice in (row, column):
            log_sum = torch.stack([f.exp() for f in choice]).sum().log()
            terms.append(scores[i][i] - log_sum + math.log(len(choice)))
    return torch.stack(terms).mean()


def slow_step(
    pretraining: Pretraining, alignment: Alignment, batch: Batch, temperature: float
) -> Tensor:
    """The bound of a batch from features to nats; a gradient of its negative is left behind."""
    data, config = pretraining.train_data, pretraining.config
    encoder = alignment.image_encoder
    if config.objective == "local":
        parts = encoder.regions(normalise(batch.images))
    else:
        parts = encoder.pooled(normalise(batch.images))[:, None]
    if config.text_learning_rate == 0:
        alignment.text_encoder.eval()
    sentences = [data.texts[text] for text in batch.text]
    tokens = [alignment.text_encoder.tokenize([sentence]) for sentence in sentences]
    features = [alignment.text_encoder(one)[0] for one in tokens]
    if config.text_learning_rate == 0:
        features = [feature.detach() for feature in features]
    scores = [
        [slow_score(alignment.critic, parts[image], text, temperature) for text in features]
        for image in batch.owner
    ]
    image_study = [int(batch.image_study[image]) for image in batch.owner]
    if config.sentences == "several":  # an image and a set: the sum over its sentences
        owner = batch.owner.tolist()
        sets = list(dict.fromkeys(owner))
        first = [owner.index(image) for image in sets]
        members = [[text for text, own in enumerate(owner) if own == image] for image in sets]
        scores = [[sum(scores[row][text] for text in texts) for texts in members] for row in first]
        batch = replace(batch, text_study=batch.text_study[first])
        image_study = [image_study[row] for row in first]
    value = slow_infonce(scores, image_study, batch.text_study.tolist())
    (-value).backward()
    return value.detach()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 3.0, "temperature_end": 0.1},
        {"sentences": "all", "batch_size": 3},
        {"sentences": "several", "sentences_drawn": 2},
        {"sentences": "several", "sentences_drawn": 2, "shuffle_pairs": True},
        {"text_learning_rate": 1e-3},
        {"shuffle_pairs": True},
        {"objective": "global"},
        {"objective": "global", "shuffle_pairs": True},
        {"critic_chunk": 7},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_a_step_equals_one_written_from_the_formulas(
    build, tiny_cache, tiny_bert, changes: dict[str, Any]
) -> None:
    sentences = tiny_cache.sentences[tiny_cache.sentences["index"] < 2]
    pretraining = build(
        replace(tiny_cache, sentences=sentences),
        augment=False,
        text_encoder=tiny_bert(dropout=0.0),  # the loop would draw other dropout
        **changes,
    )
    config = pretraining.config
    list(pretraining.run(until=2))  # the third step: nothing is at its beginning any more
    alignment = copy.deepcopy(pretraining.alignment).train()
    alignment.zero_grad()
    several = config.sentences_drawn if config.sentences == "several" else 1
    how: dict[str, Any] = {"every": config.sentences == "all", "several": several}
    data = pretraining.train_data
    batch = TrainingBatches(data, size=config.batch_size, seed=0, **how)[2]
    assert len(batch.text) > config.batch_size or not (how["every"] or several > 1)
    if config.shuffle_pairs:
        batch, _ = batch.shuffled()
    start, end = config.temperature, config.temperature_end
    expected = slow_step(pretraining, alignment, batch, start * (end / start) ** (2 / 5))
    assert pretraining.train_step() == pytest.approx(expected.item(), abs=1e-5)
    named = dict(alignment.named_parameters())
    trained = 0
    for name, parameter in pretraining.alignment.named_parameters():
        slow = named[name].grad
        if parameter.grad is None:
            assert slow is None or not slow.any(), name
            continue
        torch.testing.assert_close(parameter.grad, slow, rtol=1e-4, atol=1e-5)
        trained += bool(slow.abs().max() > 1e-4)
    assert trained > 20


def test_every_step_has_its_own_augmentation_and_dropout(build, tiny_bert) -> None:
    """By the seed and the number of the step alone."""
    pretraining = build(text_encoder=tiny_bert(dropout=0.5), text_learning_rate=1e-3)
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    for step in (0, 1, 0):
        pretraining.step = step
        pixels = pretraining.augmented(torch.ones(2, 1, 64, 64))
        torch.manual_seed(9)  # of nothing in a step
        draw = []
        hook = pretraining.alignment.text_encoder.register_forward_hook(
            lambda module, given, found, draw=draw: draw.append(torch.rand(3))
        )
        pretraining.train_step(pretraining.batches[0])
        hook.remove()
        if step in seen:
            assert torch.equal(seen[step][0], pixels)
            assert torch.equal(seen[step][1], draw[0])
        seen[step] = pixels, draw[0]
    assert not torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(seen[0][1], seen[1][1])


def test_a_step_is_in_training_mode(build) -> None:
    """Also after a look, which is not: batch statistics and dropout, of the control too."""
    pretraining = build(critic="centred")
    pretraining.alignment.eval()
    pretraining.control.eval()
    before = pretraining.control.mean_x.clone(), pretraining.alignment.critic.mean_x.clone()
    bn = pretraining.alignment.image_encoder.backbone.bn1.running_mean.clone()
    pretraining.train_step()
    assert not torch.equal(before[0], pretraining.control.mean_x)
    assert not torch.equal(before[1], pretraining.alignment.critic.mean_x)
    assert not torch.equal(bn, pretraining.alignment.image_encoder.backbone.bn1.running_mean)


@pytest.mark.parametrize("bound", ["infonce", "mine"])
def test_the_direction_of_the_run_is_that_of_its_bound(build, bound: str) -> None:
    """Of bounds that compare along rows or columns; MINE has none."""
    found = {
        direction: build(bound=bound, direction=direction, augment=False).train_step()
        for direction in ("image_to_text", "text_to_image", "symmetric")
    }
    if bound == "mine":
        assert len(set(found.values())) == 1
        return
    assert abs(found["image_to_text"] - found["text_to_image"]) > 1e-5
    both = (found["image_to_text"] + found["text_to_image"]) / 2
    assert found["symmetric"] == pytest.approx(both, abs=1e-6)


def test_weight_decay_is_of_every_weight_of_image_encoder_and_critic(build) -> None:
    """Of BatchNorm and of biases too: decided so, and said in the configuration."""
    runs = [build(weight_decay=decay, learning_rate=0.01, augment=False) for decay in (0.0, 0.5)]
    before = {name: weights.clone() for name, weights in runs[0].alignment.named_parameters()}
    for run in runs:
        run.train_step()
    plain, decayed = (dict(run.alignment.named_parameters()) for run in runs)
    moved = [name for name in before if not torch.equal(plain[name], before[name])]
    assert any("bn1.weight" in name for name in moved)
    for name in moved:
        torch.testing.assert_close(
            decayed[name], plain[name] - 0.01 * 0.5 * before[name], rtol=1e-4, atol=1e-6
        )


def test_scores_of_a_look_are_in_the_precision_of_the_run(build) -> None:
    half, full = build(precision="bfloat16"), build()
    images = half.train_data.images(np.arange(4))
    texts = full.encode_texts(full.train_data.texts)
    (own, control), (exact, of_control) = (
        run.region_scores(images, texts) for run in (half, full)
    )
    for rough, found in ((own, exact), (control, of_control)):
        assert rough.dtype == torch.float32
        assert not torch.equal(rough, found)
        assert (rough - found).norm() < 0.05 * found.norm()


def test_the_first_step_of_adam(build) -> None:
    pretraining = build(learning_rate=0.003)
    before = {name: p.detach().clone() for name, p in pretraining.alignment.named_parameters()}
    pretraining.train_step()
    for name, parameter in pretraining.alignment.named_parameters():
        if parameter.grad is not None:
            step = parameter.grad / (parameter.grad.abs() + 1e-8)
            torch.testing.assert_close(
                parameter.detach(), before[name] - 0.003 * step, rtol=1e-4, atol=1e-6
            )


def test_winners_only_is_the_hard_max_in_value_and_gradient(build) -> None:
    runs = [
        build(region_select="per_pair_max", winners_only=winners_only, sentences="all")
        for winners_only in (False, True)
    ]
    for _ in range(3):
        plain, fast = (run.train_step() for run in runs)
        assert fast == pytest.approx(plain, abs=1e-5)
        pairs = zip(*(run.alignment.named_parameters() for run in runs), strict=True)
        for (name, one), (_, other) in pairs:
            assert (one.grad is None) == (other.grad is None), name
            if one.grad is not None:
                torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)
        runs[1].alignment.load_state_dict(runs[0].alignment.state_dict())


@pytest.mark.parametrize("objective", ["local", "global"])
def test_the_control_step_equals_one_written_from_the_formulas(build, objective: str) -> None:
    pretraining = build(objective=objective, augment=False, temperature=2.0, temperature_end=2.0)
    alignment = copy.deepcopy(pretraining.alignment).train()
    alignment.critic = copy.deepcopy(pretraining.control)
    batch = TrainingBatches(pretraining.train_data, size=5, seed=0)[0]
    slow_step(pretraining, alignment, batch.shuffled()[0], 2.0)
    pretraining.train_step()
    pairs = zip(pretraining.control.parameters(), alignment.critic.parameters(), strict=True)
    for fast, slow in pairs:
        torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-4, atol=1e-6)
    assert alignment.critic.mlp[0].weight.grad.abs().max() > 1e-4
