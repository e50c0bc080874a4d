"""Siamese networks, DINO and the masked autoencoder: who is trained by what."""

import pytest
import torch
from torch import Tensor
from waves import waves

from localmi.errors import ConfigError
from localmi.model.image import build_backbone
from localmi.model.mae import Mae
from localmi.model.siamese import Dino, Siamese, ViewsOfImage, dino_loss
from localmi.model.torchvision_backbones import TorchvisionViT


@pytest.fixture
def encoder() -> TorchvisionViT:
    torch.manual_seed(0)
    found = build_backbone("vit_micro_16", image_size=64)
    assert isinstance(found, TorchvisionViT)
    return found


def views(images: int = 4) -> ViewsOfImage:
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(2, images, 1, 64, 64, generator=generator)
    return ViewsOfImage(*whole, torch.randn(2 * images, 1, 32, 32, generator=generator))


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def grown(network: torch.nn.Module) -> set[str]:
    """The parts that a gradient has reached."""
    return {
        name.split(".")[0]
        for name, one in network.named_parameters()
        if one.grad is not None and one.grad.abs().max() > 0
    }


def test_the_average_gets_no_gradient_and_the_rest_does(encoder: TorchvisionViT) -> None:
    network = Siamese(encoder, prototypes=7, record_dim=3)
    step = network.loss(views(), torch.randn(4, 3), drawn())
    step.loss.backward()
    assert grown(network) == {"encoder", "projection", "prototypes"}
    assert step.features is not None
    assert step.log_q is not None
    assert (step.features.shape, step.log_q.shape) == ((4, 96), (4, 7))
    assert not step.features.requires_grad
    assert not step.log_q.requires_grad
    assert network.learnt is network.target_encoder


def test_prototypes_as_they_were_drawn_get_none(encoder: TorchvisionViT) -> None:
    network = Siamese(encoder, prototypes=7, train_prototypes=False)
    network.loss(views(), None, drawn()).loss.backward()
    assert network.prototypes.weight.grad is None


def test_small_crops_are_masked_where_it_is_wished(encoder: TorchvisionViT) -> None:
    for masked in (False, True):
        network = Siamese(encoder, prototypes=7, mask=0.5, mask_focal=masked)
        found: list[int] = []
        encoder.tokens = lambda images, keep=None, found=found: (  # type: ignore[method-assign]
            found.append(0 if keep is None else keep.shape[1])
            or torch.ones(len(images), 1, 96, requires_grad=True)
        )
        network.loss(views(), None, drawn())
        del encoder.tokens
        assert found == [8, 2 if masked else 0]  # of 16 and of 4 patches


def test_the_record_is_used_only_where_there_is_one(encoder: TorchvisionViT) -> None:
    plain = Siamese(encoder, prototypes=7)
    reading = Siamese(encoder, prototypes=7, record_dim=3, fuse_from_identity=False)
    one, other = torch.zeros(4, 3), torch.eye(4, 3)  # BatchNorm takes out what all rows share
    same = [plain.loss(views(), None, drawn()).loss for _ in range(2)]
    assert torch.equal(*same)
    read, of_other = (reading.loss(views(), some, drawn()).loss for some in (one, other))
    assert abs(read - of_other) > 1e-3


def test_the_average_follows(encoder: TorchvisionViT) -> None:
    network = Siamese(encoder, prototypes=7)
    with torch.no_grad():
        for one in network.encoder.parameters():
            one.add_(1)
    network.after_step(0.75)
    pairs = zip(network.encoder.parameters(), network.target_encoder.parameters(), strict=True)
    for own, average in pairs:
        torch.testing.assert_close(own - average, torch.full_like(own, 0.75))


def by_loops(log_q: Tensor, student: Tensor) -> float:
    total, count = 0.0, 0
    for t, teacher in enumerate(log_q.exp()):
        for s, view in enumerate(student.log_softmax(dim=-1)):
            if s != t:
                total -= (teacher * view).sum(dim=-1).mean().item()
                count += 1
    return total / count


def test_dinos_loss_is_a_loop_and_lightlys() -> None:
    """DINOLoss of lightly 1.6.0, temperatures 1/32 and 1/8, on the same numbers."""
    teacher, student, centre = waves(6, 5, 0.9), waves(12, 5, 1.7), waves(1, 5, 2.3) / 10
    log_q = ((teacher - centre) * 32).log_softmax(dim=-1).unflatten(0, (2, 3))
    logits = (student * 8).unflatten(0, (4, 3))
    found = dino_loss(log_q, logits).item()
    assert found == pytest.approx(by_loops(log_q, logits), abs=1e-12)
    assert found == pytest.approx(3.8862864339822716, abs=1e-9)


def test_dinos_centre_moves_in_training_alone(encoder: TorchvisionViT) -> None:
    network = Dino(encoder, prototypes=7, mask=0.0, sharpening=0.4, centre_momentum=0.5)
    expected = network.target_logits(torch.cat(views()[:2])).mean(dim=0) / 2
    network.loss(views(), None, drawn()).loss.backward()
    torch.testing.assert_close(network.centre, expected)
    assert grown(network) == {"encoder", "projection", "prototypes"}
    network.eval()
    network.loss(views(), None, drawn())
    torch.testing.assert_close(network.centre, expected)


def test_mae_is_judged_by_the_hidden_patches_alone(encoder: TorchvisionViT) -> None:
    network = Mae(encoder, image_size=64, mask=0.75)
    step = network.loss(views(), None, drawn())
    step.loss.backward()
    assert {"encoder", "decoder", "paint", "hidden", "place"} <= grown(network)
    assert step.value.item() == pytest.approx(1 - step.loss.item() * 256 / 255, abs=1e-4)
    images = views().target
    kept = network.shares(images, images, drawn())
    assert kept.shape == (4,)
    # What is visible cannot change the error through the truth: only the hidden patches count.
    from localmi.model.msn import kept_patches

    keep = kept_patches(4, 16, 0.75, drawn())
    assert keep is not None
    changed = images.clone()
    for image, patches in enumerate(keep.tolist()):
        for patch in patches:
            row, column = divmod(patch, 4)
            changed[image, 0, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 0
    torch.testing.assert_close(network.shares(images, changed, drawn()), kept)
    with pytest.raises(ConfigError, match="hides all or none"):
        Mae(encoder, image_size=64, mask=0.0)


def test_mae_that_paints_nothing_has_no_share(encoder: TorchvisionViT) -> None:
    """Though half of the image is flat, as a border is."""
    network = Mae(encoder, image_size=64, mask=0.75)
    for one in network.paint[-1].parameters():
        torch.nn.init.zeros_(one)
    images = views().target
    images[:, :, :, :32] = -1.0
    torch.testing.assert_close(network.shares(images, images, drawn()), torch.zeros(4))
    assert network.shares(images, torch.zeros_like(images), drawn()).isnan().all()


def test_mae_has_as_many_heads_as_its_encoder() -> None:
    with torch.device("meta"):
        for name in ("vit_l_16", "vit_small_16"):
            network = Mae(TorchvisionViT(name, image_size=64), image_size=64)
            heads = network.encoder.features.encoder.layers[0].num_heads
            assert network.decoder.layers[0].self_attn.num_heads == heads


def test_baselines_read_no_record(encoder: TorchvisionViT) -> None:
    dino, mae = Dino(encoder, prototypes=7), Mae(encoder, image_size=64)
    with pytest.raises(ConfigError, match="DINO reads no record"):
        dino.loss(views(), torch.zeros(4, 1), drawn())
    with pytest.raises(ConfigError, match="MAE reads no record"):
        mae.loss(views(), torch.zeros(4, 1), drawn())
