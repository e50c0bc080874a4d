"""Critics against the plain network on the concatenation, pair by pair."""

import pytest
import torch
from torch import Tensor, nn

from localmi.errors import ConfigError
from localmi.mi import critics
from localmi.mi.critics import (
    CRITICS,
    BilinearCritic,
    CentredCritic,
    ConcatCritic,
    Critic,
    SeparableCritic,
    build_critic,
)
from localmi.model.alignment import winners_only_scores
from localmi.processes import Processes

DIM_X, DIM_Y = 6, 9


def features(*shape_x: int, texts: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape_x, DIM_X, generator=generator, dtype=torch.float64)
    y = torch.randn(texts, DIM_Y, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), y.requires_grad_()


def concat_critic(chunk: int | None = None, hidden: tuple[int, ...] = (8, 7)) -> ConcatCritic:
    torch.manual_seed(0)
    return ConcatCritic(DIM_X, DIM_Y, hidden=hidden, chunk=chunk).double()


def a_critic(name: str) -> Critic:
    """As after a step of training: a centred one has means by then."""
    torch.manual_seed(0)
    critic = build_critic(name, DIM_X, DIM_Y, hidden=(8, 7), width=5).double()
    critic(*features(3))
    return critic.eval()


def concatenate_all_pairs(mlp: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """The slow way: every pair is concatenated and goes through the network."""
    rows = []
    for one_x in x.reshape(-1, x.shape[-1]):
        rows += [mlp(torch.cat([one_x, one_y])) for one_y in y]
    return torch.stack(rows).reshape(*x.shape[:-1], len(y))


def plain_mlp(hidden: tuple[int, ...]) -> nn.Sequential:
    sizes = [DIM_X + DIM_Y, *hidden, 1]
    layers: list[nn.Module] = []
    for index in range(len(sizes) - 1):
        layers += [nn.ReLU()] if index else []
        layers += [nn.Linear(sizes[index], sizes[index + 1])]
    return nn.Sequential(*layers).double()


def gradients(scores: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of a loss that weighs every score differently."""
    weights = torch.linspace(-1, 1, scores.numel(), dtype=scores.dtype).reshape(scores.shape)
    return torch.autograd.grad((weights * scores.sin()).sum(), inputs)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)


# --- the concat critic ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1, 8, 1000])
@pytest.mark.parametrize("hidden", [(8,), (8, 7), (8, 7, 5)])
def test_split_critic_equals_the_mlp_on_the_concatenation(
    hidden: tuple[int, ...], chunk: int | None
) -> None:
    critic, mlp = concat_critic(chunk, hidden), plain_mlp(hidden)
    mlp.load_state_dict(critic.mlp.state_dict())  # the same names and shapes
    x, y = features(3, 5)
    found, expected = critic(x, y), concatenate_all_pairs(mlp, x, y)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    assert_same(
        gradients(found, x, y, *critic.parameters()),
        gradients(expected, x, y, *mlp.parameters()),
    )


def test_float32_is_as_close() -> None:
    torch.manual_seed(0)
    critic = ConcatCritic(512, 768)
    x, y = torch.randn(4, 16, 512), torch.randn(4, 768)
    pairs = torch.cat([x[:, :, None].expand(-1, -1, 4, -1), y.expand(4, 16, -1, -1)], dim=-1)
    torch.testing.assert_close(critic(x, y), critic.mlp(pairs).squeeze(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 7, 60, 10_000])
def test_chunked_equals_unchunked(chunk: int) -> None:
    x, y = features(3, 5)
    whole, chunked = concat_critic(), concat_critic(chunk)
    torch.testing.assert_close(chunked(x, y), whole(x, y), rtol=1e-12, atol=0)
    assert_same(
        gradients(chunked(x, y), x, y, *chunked.parameters()),
        gradients(whole(x, y), x, y, *whole.parameters()),
    )


def test_blocks_for_the_cache_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(3, 5)
    critic = concat_critic()
    whole = critic(x, y)
    expected = gradients(whole, x, y, *critic.parameters())
    monkeypatch.setattr(critics, "CPU_BLOCK", 8 * 8)  # 2 of 15 x at a time
    blocks = critic(x, y)
    torch.testing.assert_close(blocks, whole, rtol=1e-12, atol=0)
    assert_same(gradients(blocks, x, y, *critic.parameters()), expected)


def largest_tensor_saved(critic: ConcatCritic, x: Tensor, y: Tensor) -> int:
    """Numbers in the largest tensor that is kept between forward and backward."""
    sizes = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        critic(x, y)
    return max(sizes)


def test_chunked_keeps_no_hidden_layer_of_the_pairs() -> None:
    pairs, width = 20 * 30, 64
    x, y = features(20, texts=30)
    per_item = (20 + 30) * width  # first layer, and weights of 64 x 64
    assert largest_tensor_saved(concat_critic(None, (width, width)), x, y) >= pairs * width
    assert largest_tensor_saved(concat_critic(60, (width, width)), x, y) <= 2 * per_item


def test_of_very_many_pairs_no_hidden_layer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody asked for chunks or not; the numbers are the same."""
    pairs, width = 20 * 30, 64
    x, y = features(20, texts=30)
    kept, not_kept = (concat_critic(None, (width, width)) for _ in range(2))
    whole = kept(x, y)
    expected = gradients(whole, x, y, *kept.parameters())
    monkeypatch.setattr(critics, "MOST_KEPT", pairs - 1)
    assert largest_tensor_saved(not_kept, x, y) <= 2 * (20 + 30) * width
    torch.testing.assert_close(not_kept(x, y), whole, rtol=1e-12, atol=0)
    assert_same(gradients(not_kept(x, y), x, y, *not_kept.parameters()), expected)


def test_without_gradient_nothing_is_computed_twice() -> None:
    critic = concat_critic(chunk=4)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    critic.mlp[1].register_forward_hook(count)
    x, y = features(2)
    with torch.no_grad():
        assert not critic(x, y).requires_grad
    assert calls == 2  # one block for each x
    critic(x, y).sum().backward()
    assert calls == 2 + 2 * 2  # forward, and again for the backward pass


def test_chunked_leaves_frozen_parameters_alone() -> None:
    x, y = features(3, 5)
    whole, chunked = concat_critic(), concat_critic(chunk=8)
    for critic in (whole, chunked):
        critic.mlp[2].requires_grad_(False)
        critic(x, y).sin().sum().backward()
        assert critic.mlp[2].weight.grad is None
    for one, other in zip(chunked.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_chunked_refuses_weights_that_changed_before_the_backward_pass() -> None:
    x, y = features(3)
    critic = concat_critic(chunk=4)
    scores = critic(x, y)
    with torch.no_grad():
        critic.mlp[-1].weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        scores.sum().backward()


@pytest.mark.parametrize("chunk", [None, 64])
def test_autocast_reaches_the_gradients(chunk: int | None) -> None:
    """Close to float32 in value and gradient, also where layers are computed again."""
    torch.manual_seed(0)
    critic = ConcatCritic(32, 48, hidden=(64, 32), chunk=chunk)
    x, y = torch.randn(8, 4, 32, requires_grad=True), torch.randn(8, 48, requires_grad=True)
    inputs = (x, y, *critic.parameters())
    exact = critic(x, y)
    expected = torch.autograd.grad(exact.square().sum(), inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = critic(x, y)
        with torch.no_grad():
            assert torch.equal(critic(x, y), rough)
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.02 * exact.norm()
    for one, other in zip(
        torch.autograd.grad(rough.float().square().sum(), inputs), expected, strict=True
    ):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.06 * other.norm()


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("chunk", [None, 2])
def test_the_last_layer_is_not_rounded_by_autocast(name: str, chunk: int | None) -> None:
    """In bfloat16 numbers of about 50 are .25 apart; scores need to be finer."""
    torch.manual_seed(0)
    critic = build_critic(name, 8, 6, hidden=(16,), width=4, chunk=chunk).eval()
    x, y = torch.randn(12, 5, 8), torch.randn(9, 6)
    with torch.no_grad():
        scale = 50 / critic(x, y).abs().mean()
        layer = critic.weight if name == "bilinear" else list(critic.parameters())[-2]
        layer *= scale
        with torch.autocast("cpu", torch.bfloat16):
            scores = {
                "all": critic(x, y),
                "paired": critic.paired(x[:9], y[:, None].expand(-1, 5, -1)),
                "chosen": critic.chosen(x, y, torch.ones(12, 9, dtype=torch.int64)),
            }
    for route, found in scores.items():
        assert found.dtype == torch.float32, route
        large = found[found.abs() > 32]
        assert (large != large.bfloat16().float()).float().mean() > 0.9, route


def test_winners_only_moves_the_means_of_a_step_once() -> None:
    """The pass that looks for the winners is not another batch."""
    torch.manual_seed(0)
    critic = build_critic("centred", 8, 6, hidden=(16,), width=4)
    x, y = torch.randn(3, 5, 8), torch.randn(4, 6)
    expected = 0.1 * critic.encode_x(x).mean(dim=(0, 1))
    winners_only_scores(critic, x, y, torch.tensor([0, 1, 2, 2]))
    torch.testing.assert_close(critic.mean_x, expected)


def test_the_critic_of_the_paper_has_its_sizes() -> None:
    shapes = [tuple(parameter.shape) for parameter in ConcatCritic(512, 768).parameters()]
    assert shapes == [(1024, 1280), (1024,), (512, 1024), (512,), (1, 512), (1,)]


# --- every critic -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("leading", [(), (3,), (3, 5), (2, 3, 2)])
def test_any_leading_shape_gives_scores_of_all_pairs(name: str, leading: tuple[int, ...]) -> None:
    x, y = features(*leading)
    critic = a_critic(name)
    scores = critic(x, y)
    assert scores.shape == (*leading, 4)
    if leading:
        last = tuple(size - 1 for size in leading)
        torch.testing.assert_close(scores[last][2], critic(x[last], y[2:3])[0])


@pytest.mark.parametrize("name", CRITICS)
def test_rows_are_x_and_columns_are_y(name: str) -> None:
    """Changing one text changes one column, and changing one image one row."""
    critic = a_critic(name)
    x, y = features(3)
    other_x, other_y = features(3, seed=1)
    scores = critic(x, y)
    changed = critic(x, torch.cat([y[:1], other_y[1:2], y[2:]])) != scores
    assert changed.any(dim=0).tolist() == [False, True, False, False]
    changed = critic(torch.cat([x[:2], other_x[2:]]), y) != scores
    assert changed.any(dim=1).tolist() == [False, False, True]


@pytest.mark.parametrize("name", CRITICS)
def test_paired_is_the_diagonal(name: str) -> None:
    critic = a_critic(name)
    x, y = features(4)
    found, expected = critic.paired(x, y), critic(x, y).diagonal()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    parameters = list(critic.parameters())
    assert_same(gradients(found, x, y, *parameters), gradients(expected, x, y, *parameters))
    deeper = critic.paired(x.reshape(2, 2, DIM_X), y.reshape(2, 2, DIM_Y))
    torch.testing.assert_close(deeper.flatten(), found)


@pytest.mark.parametrize("name", CRITICS)
def test_chosen_regions_score_as_they_do_among_all(name: str) -> None:
    critic = a_critic(name)
    x, y = features(3, 5)
    region = torch.randint(5, (3, 4), generator=torch.Generator().manual_seed(0))
    scores = critic(x, y)
    expected = torch.stack(
        [torch.stack([scores[i, region[i, j], j] for j in range(4)]) for i in range(3)]
    )
    found = critic.chosen(x, y, region)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    parameters = list(critic.parameters())
    assert_same(gradients(found, x, y, *parameters), gradients(expected, x, y, *parameters))


def attended_loop(critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """One pair at a time: the mean of its maximum and of what its weighted region scores."""
    rows = []
    for image in range(len(x)):
        row = []
        for text in range(len(y)):
            f = torch.stack([critic(region, y)[text] for region in x[image]])
            weights = f.exp() / f.exp().sum()
            region = sum(w * one for w, one in zip(weights, x[image], strict=True))
            row.append((f.max() + critic(region, y)[text]) / 2)
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("name", CRITICS)
def test_attention_equals_the_loop_in_value_and_gradient(name: str) -> None:
    critic = a_critic(name)
    x, y = features(3, 5)
    scores = critic(x, y)
    found = critic.attend(x, y, scores, scores.amax(dim=1))
    expected = attended_loop(critic, x, y)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    parameters = list(critic.parameters())
    assert_same(gradients(found, x, y, *parameters), gradients(expected, x, y, *parameters))


@pytest.mark.parametrize("name", CRITICS)
def test_attention_knows_no_order_and_no_match(name: str) -> None:
    """Other orders of regions change nothing, of images and texts the order of the scores; and
    of one region it is the score."""
    critic = a_critic(name)
    x, y = features(3, 5)

    def attended(x: Tensor, y: Tensor) -> Tensor:
        scores = critic(x, y)
        return critic.attend(x, y, scores, scores.amax(dim=1))

    found = attended(x, y)
    for turned in (attended(x.roll(2, dims=1), y), attended(x[[2, 0, 1]], y)[[1, 2, 0]]):
        torch.testing.assert_close(turned, found)
    torch.testing.assert_close(attended(x, y.roll(1, dims=0)), found.roll(1, dims=1))
    torch.testing.assert_close(attended(x[:, :1], y), critic(x[:, 0], y))


def test_winners_only_has_the_gradient_of_the_max() -> None:
    critic = a_critic("concat")
    x, y = features(3, 5)
    with torch.no_grad():
        winners = critic(x, y).argmax(dim=1)
    found, expected = critic.chosen(x, y, winners), critic(x, y).max(dim=1).values
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    parameters = list(critic.parameters())
    assert_same(gradients(found, x, y, *parameters), gradients(expected, x, y, *parameters))


def test_bilinear_and_separable_equal_their_formulas() -> None:
    x, y = features(3)
    bilinear, separable = a_critic("bilinear"), a_critic("separable")
    assert isinstance(bilinear, BilinearCritic)
    assert isinstance(separable, SeparableCritic)
    for i in range(3):
        for j in range(4):
            product = x[i] @ bilinear.weight @ y[j]
            torch.testing.assert_close(bilinear(x, y)[i, j], product)
            codes = separable.encode_x(x[i]) @ separable.encode_y(y[j])
            torch.testing.assert_close(separable(x, y)[i, j], codes)


def test_a_centred_critic_has_no_offsets_in_training() -> None:
    x, y = features(3, 5)
    scores = a_critic("centred").train()(x, y)
    torch.testing.assert_close(
        scores.mean(dim=-1), torch.zeros_like(x[..., 0])
    )  # of an image part
    torch.testing.assert_close(scores.mean(dim=(0, 1)), torch.zeros_like(y[:, 0]))  # of a text
    assert scores.std() > 1e-3


def test_a_centred_critic_is_a_fixed_function_in_eval() -> None:
    critic = a_critic("centred")
    assert isinstance(critic, CentredCritic)
    x, y = features(3, 5)
    for _ in range(200):
        critic.train()(x, y)
    critic.eval()
    codes_x, codes_y = critic.encode_x(x), critic.encode_y(y)
    torch.testing.assert_close(critic.mean_x, codes_x.mean(dim=(0, 1)))
    torch.testing.assert_close(critic.mean_y, codes_y.mean(dim=0))
    alone = critic(x[1:2], y[2:3])  # no batch to take a mean of
    expected = (codes_x[1:2] - critic.mean_x) @ (codes_y[2:3] - critic.mean_y).T
    torch.testing.assert_close(alone, expected)
    before = critic.mean_x.clone()
    critic(x + 1, y)
    assert torch.equal(critic.mean_x, before)


@pytest.mark.parametrize("name", CRITICS)
def test_initial_scores_are_neither_flat_nor_wild(name: str) -> None:
    torch.manual_seed(0)
    critic = build_critic(name, 512, 768)
    scores = critic(torch.randn(64, 512), torch.randn(64, 768))
    assert 1e-3 < scores.std() < 3


@pytest.mark.parametrize("name", CRITICS)
def test_no_items_give_no_scores(name: str) -> None:
    critic = a_critic(name)
    x, y = features(3)
    assert critic(x[:0], y).shape == (0, 4)
    assert critic(x, y[:0]).shape == (3, 0)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CRITICS)
def test_wrong_dimensions_are_named(name: str) -> None:
    critic = a_critic(name)
    x, y = features(3)
    with pytest.raises(ConfigError, match=r"image features of 6 dimensions, found shape \[3, 5\]"):
        critic(x[:, :5], y)
    with pytest.raises(ConfigError, match=r"text features of 9 dimensions, found shape \[4, 8\]"):
        critic(x, y[:, :8])
    with pytest.raises(ConfigError, match=r"texts must be \[B, 9\], found \[2, 2, 9\]"):
        critic(x, y.reshape(2, 2, DIM_Y))
    with pytest.raises(ConfigError, match=r"equal leading shapes, found \[3, 6\] and \[4, 9\]"):
        critic.paired(x, y)
    with pytest.raises(ConfigError, match="text features"):
        critic.attend(x[:, None], y[:, :8], torch.zeros(3, 1, 4), torch.zeros(3, 4))
    with pytest.raises(ConfigError, match="image features"):
        critic.chosen(x[:, :5], y, torch.zeros(3, 4, dtype=torch.int64))


def test_an_unknown_critic_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'mlp'; known are concat, bilinear, separable, centred"):
        build_critic("mlp", DIM_X, DIM_Y)


def test_impossible_sizes_are_refused() -> None:
    for name in CRITICS:
        with pytest.raises(ConfigError, match="features on both sides"):
            build_critic(name, 0, DIM_Y)
    with pytest.raises(ConfigError, match="at least one hidden layer"):
        build_critic("concat", DIM_X, DIM_Y, hidden=())
    with pytest.raises(ConfigError, match="at least one unit"):
        build_critic("separable", DIM_X, DIM_Y, hidden=(8, 0))
    with pytest.raises(ConfigError, match="number of pairs"):
        build_critic("concat", DIM_X, DIM_Y, chunk=0)


def test_what_is_scored_in_parts_sends_nothing_to_other_processes() -> None:
    """Each of several scores its own parts of a split, and may have more of them than others."""
    critic = CentredCritic(DIM_X, DIM_Y, hidden=(8,), width=4).double().eval()
    x, y = features(3, texts=5)
    alone = critic(x, y)
    critic.processes = Processes(rank=1, size=2)  # that were never started: a message would fail
    torch.testing.assert_close(critic(x, y), alone)
