"""Parts of a network that are computed again for their gradient, to save memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def computed_again(network: nn.Module, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`step(x)`, a part of a network, of which only x is kept until the backward pass.

    There it is computed again, with the same dropout; BatchNorm's running statistics are not
    moved a second time. Of a sequence each part does so for itself.
    """
    for part in step if isinstance(step, nn.Sequential) else (step,):
        x = checkpoint(
            part, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _still(network))
        )
    return x


@contextmanager
def _still(network: nn.Module) -> Iterator[None]:
    """Running statistics do not move."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        counted = norm.num_batches_tracked
        norm.momentum, norm.num_batches_tracked = 0.0, None if counted is None else counted.clone()
    try:
        yield
    finally:
        for norm, (momentum, number) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, number
