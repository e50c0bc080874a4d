"""One run on several processes, started by torchrun (`python -m localmi launch`).

The *global* batch is the same for every number of processes; each takes its share of the images
and of the texts, scores its own images against all texts, and gathers the rows of scores. So every
process holds the whole [M, M] and computes the bound as one process would. Taught in
14_full_mimic_cxr.
"""

import functools
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from localmi import ranks
from localmi.errors import ConfigError, TrainingError

# A process that keeps the others waiting for longer, within a step, has hung.
STEP_SECONDS = float(os.environ.get(ranks.STEP_SECONDS, ranks.PATIENCE))
FEW = 4096  # numbers
MEETING_SECONDS = 600  # for the slowest to read its data, or to write a checkpoint
MAKING_SECONDS = 86_400  # for one to make what all read; where it dies torchrun ends the others


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    rank: of this process; that of rank 0 is the record of the run. size: how many there are.
    group: of torch.distributed, in which nobody may keep the others waiting for long.
    """

    rank: int = 0
    size: int = 1
    group: distributed.ProcessGroup | None = None

    def __deepcopy__(self, memo: Any) -> "Processes":
        return self  # a copy of a network is of the same processes

    def holders(self, total: int) -> Tensor:
        """Which process has each of `total` rows, [total] int64: in order, and evenly."""
        return torch.arange(total) * self.size // max(total, 1)

    def share(self, total: int) -> slice:
        """The rows among `total` that this process has."""
        own = (self.holders(total) == self.rank).nonzero().flatten().tolist()
        return slice(own[0], own[-1] + 1) if own else slice(0, 0)

    def gather(self, rows: Tensor, holders: Tensor, *, alike: bool = False) -> Tensor:
        """The rows of all processes, with their gradient.

        Every process goes on to compute the same loss from them. Its gradient with regard to a row
        therefore comes from every process, and is summed: `size` times that of one process, which
        the mean over processes in `mean_gradients` takes back.

        Args:
            rows: [m, ...], those of this process.
            holders: [M] which process has each of the M rows, in order within a process.
            alike: from the rows all compute the same, as from scores the loss; then all have the
                same gradient, and none has to be sent.

        Returns:
            [M, ...], the same on every process.
        """
        if self.size == 1:
            return rows
        counts = holders.bincount(minlength=self.size)
        most = int(counts.max())
        place = torch.empty_like(holders)
        for rank in range(self.size):
            place[holders == rank] = rank * most + torch.arange(int(counts[rank]))
        padded = nn.functional.pad(rows, (0, 0) * (rows.ndim - 1) + (0, most - len(rows)))
        everyones: Tensor = _Gather.apply(padded, self, alike)
        return everyones[place.to(rows.device)]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes, with its gradient; the same shape."""
        if self.size == 1:
            return values
        return self.gather(values[None], torch.arange(self.size)).sum(dim=0)

    def sum_in_place(self, values: Tensor) -> None:
        """The sum over processes, without gradient; few numbers are the sum of a gather, for an
        all_reduce of gloo takes five times as long."""
        if self.size > 1 and values.numel() > FEW:
            distributed.all_reduce(values, group=self.group)
        elif self.size > 1:
            everyones = [torch.empty_like(values) for _ in range(self.size)]
            distributed.all_gather(everyones, values, group=self.group)
            torch.sum(torch.stack(everyones), dim=0, out=values)

    def mean_gradients(self, network: nn.Module) -> None:
        """Each gradient of the network becomes its mean over processes."""
        gradients = (one.grad for one in network.parameters())
        self.mean_in_place(one for one in gradients if one is not None)

    def mean_in_place(self, tensors: Iterable[Tensor]) -> None:
        """Each becomes its mean over processes; one message for all of one type."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for one in tensors:
            by_type[one.dtype].append(one)
        for some in by_type.values():
            message = torch.cat([one.flatten() for one in some]).div_(self.size)
            distributed.all_reduce(message, group=self.group)
            parts = message.split([one.numel() for one in some])
            for one, part in zip(some, parts, strict=True):
                one.copy_(part.view_as(one))

    def any(self, flag: bool) -> bool:
        """Whether it is so on any process: what all of them must decide alike."""
        if self.size == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.int32)
        self.sum_in_place(flags)
        return bool(flags)

    def meet(self, what: str, seconds: float = MEETING_SECONDS) -> None:
        """Waits until all have come.

        Raises:
            TrainingError: some have not, after so many seconds; says which.
        """
        if self.size == 1:
            return
        try:
            distributed.monitored_barrier(
                timeout=timedelta(seconds=seconds), wait_all_ranks=self.rank == 0
            )
        except RuntimeError as error:
            raise TrainingError(
                f"Not all of {self.size} processes came to {what}: {error}"
            ) from error

    def check_equal(self, values: Tensor, what: str) -> None:
        """Refuses to go on where `values` [n] float64 differ between processes.

        Raises:
            TrainingError: they do; says of which processes.
        """
        everyones = self.gather(values[None], torch.arange(self.size))
        if others := (everyones != everyones[0]).any(dim=1).nonzero().flatten().tolist():
            raise TrainingError(
                f"Processes {others} have another {what} than process 0. All must run the same "
                "version of everything on the same data, with the same parameters."
            )


ALONE = Processes()


def join(device: torch.device) -> Processes:
    """The processes that torchrun has started, of which this is one; `ALONE` without torchrun.

    Raises ConfigError: there are fewer GPUs than processes.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return ALONE
    if not distributed.is_initialized():
        if device.type == "cuda":
            take_own_gpu()
        timeout = timedelta(seconds=MEETING_SECONDS)
        store, rank, size = next(distributed.rendezvous("env://", timeout=timeout))
        # torchrun keeps one store for all its attempts; without this the addresses in it are those
        # of the processes that were there before, and all wait for them.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=distributed.PrefixStore(f"attempt {attempt}", store),
            rank=rank,
            world_size=size,
            timeout=timeout,
        )
    return _joined()


def take_own_gpu() -> None:
    """The GPU that has the number of this process on its machine is what "cuda" means from now on.

    Raises:
        ConfigError: there is none of this number.
    """
    own, there = ranks.rank_here(), torch.cuda.device_count()
    if own >= there:
        raise ConfigError(
            f"Process {own + 1} of this machine has no GPU of its own: there are {there}. "
            f"Start at most as many: --nproc {there}."
        )
    torch.cuda.set_device(own)


@functools.cache
def _joined() -> Processes:
    everyone = Processes(distributed.get_rank(), distributed.get_world_size())
    everyone.meet("the start")
    group = distributed.new_group(timeout=timedelta(seconds=STEP_SECONDS))
    assert isinstance(group, distributed.ProcessGroup)  # else this rank were not in it
    return replace(everyone, group=group)


class _Gather(torch.autograd.Function):
    """[c, ...] of each process -> [size * c, ...]; the gradient of a row is summed over all."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: Processes, alike: bool) -> Tensor:
        ctx.rank, ctx.size, ctx.group = processes.rank, processes.size, processes.group
        ctx.alike = alike
        everyones = rows.new_empty(ctx.size * len(rows), *rows.shape[1:])
        distributed.all_gather(list(everyones.chunk(ctx.size)), rows.contiguous(), group=ctx.group)
        return everyones

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if ctx.alike:  # the sum of equal ones
            return ctx.size * gradient.chunk(ctx.size)[ctx.rank], None, None
        from_all = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        distributed.all_to_all_single(from_all, gradient.contiguous(), group=ctx.group)
        return from_all.unflatten(0, (ctx.size, -1)).sum(dim=0), None, None
