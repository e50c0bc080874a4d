"""Between encoders and losses: views side by side, places, whole vectors."""

import pytest
import torch

from localmi.model.limitr_head import LimitrHead, View
from localmi.model.words import Words

B, M, N, L, R, P, E = 3, 2, 4, 5, 6, 7, 9


def head(views: int = 2, *, place: bool = True) -> LimitrHead:
    torch.manual_seed(0)
    return LimitrHead(R, P, E, views=views, grid=2, dim=8, place=place).eval().double()


def view(there: list[bool], seed: int = 1) -> View:
    generator = torch.Generator().manual_seed(seed)
    regions, whole = (
        torch.randn(*size, generator=generator, dtype=torch.float64)
        for size in ((B, N, R), (B, P))
    )
    return View(regions, whole, torch.tensor(there))


@pytest.fixture
def words() -> Words:
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(M, L, E, generator=generator, dtype=torch.float64)
    return Words(vectors, torch.arange(L) < torch.tensor([[5], [3]]))


def test_the_cosine_is_that_of_the_mean_of_the_views(words: Words) -> None:
    model, views = head(), [view([True] * B), view([True, False, True], seed=3)]
    found = model.cosines(views, words)
    for image in range(B):
        whole = [layer(one.whole[image]) for layer, one in zip(model.images, views, strict=True)]
        own = (whole[0] + whole[1]) / 2 if views[1].there[image] else whole[0]
        for text in range(M):
            mean = words.vectors[text][words.mask[text]].mean(dim=0)
            cosine = torch.cosine_similarity(own, model.texts(mean), dim=0)
            torch.testing.assert_close(found[image, text], cosine)


def test_what_stands_in_an_absent_view_does_not_matter(words: Words) -> None:
    model, frontal = head(), view([True] * B)
    absent, wild = view([False] * B, seed=3), view([False] * B, seed=4)
    wild.regions.fill_(1e30)
    wild.whole.fill_(float("inf"))
    ours, theirs = (model([frontal, one], words) for one in (absent, wild))
    for name, scores in ours.items():
        assert torch.equal(scores, theirs[name]), name
    alone = head(views=1)
    state = model.state_dict()
    alone.load_state_dict({name: state[name] for name in alone.state_dict()})
    for name, scores in alone([frontal], words).items():
        assert torch.equal(scores, ours[name]), name


@pytest.mark.parametrize("place", [False, True])
def test_regions_may_be_exchanged_unless_they_know_their_place(place: bool, words: Words) -> None:
    model, frontal = head(views=1, place=place), view([True] * B)
    moved = View(frontal.regions[:, [2, 0, 3, 1]], frontal.whole, frontal.there)
    for name, scores in model([frontal], words).items():
        same = torch.allclose(scores, model([moved], words)[name], rtol=0, atol=1e-12)
        assert same == (not place or name == "whole"), name


def test_only_what_is_asked_for_is_computed(words: Words) -> None:
    model, frontal = head(views=1), view([True] * B)
    assert {*model([frontal], words, whole=False)} == {"by_text", "by_image"}
    assert {*model([frontal], words, local=False)} == {"whole"}


def test_one_may_be_taken_twice() -> None:
    frontal = view([True, False, True])
    taken = frontal.take(torch.tensor([2, 2, 1]))
    assert torch.equal(taken.regions[0], frontal.regions[2])
    assert torch.equal(taken.whole[1], frontal.whole[2])
    assert taken.there.tolist() == [True, True, False]


def test_nothing_learns_through_a_detached_view(words: Words) -> None:
    frontal = view([True] * B)
    frontal.regions.requires_grad_()
    model = head(views=1)
    sum(scores.sum() for scores in model([frontal.detach()], words).values()).backward()
    assert frontal.regions.grad is None
    assert all(one.grad is not None for one in model.parameters())
