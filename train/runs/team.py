"""Training of one network by several processes, started by ``torchrun``, or by one alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edgeasd.common.errors import ConfigError

_T = TypeVar("_T")

_LOADING = timedelta(hours=2)
"""Longest time that the other processes wait while the first computes the features."""


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of a run.

    Attributes:
        rank: Rank of this process, from 0; only the first writes and logs.
        size: Number of processes.
        device: Device of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes and logs."""
        return self.rank == 0

    def share(self, make: Callable[[], _T]) -> _T:
        """Return in every process the result of *make* in the first."""
        if self.size == 1:
            return make()
        box: list[_T | None] = [make() if self.is_first else None]
        dist.broadcast_object_list(box)
        return cast("_T", box[0])

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return *model* wrapped so that its gradients are averaged over the processes.

        The result must be kept while training, and each trainable parameter must get a gradient in
        every step.
        """
        if self.size == 1:
            return model
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids)

    def part(self, index: Tensor) -> Tensor:
        """Return the share of this process in the *index* of a batch, shape ``(B,)``."""
        return index[self.rank :: self.size]

    def gather(self, rows: Tensor) -> Tensor:
        """Return the *rows* of all processes in the order of their ranks, with gradients."""
        return rows if self.size == 1 else cast("Tensor", _Gather.apply(rows))

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Return each of *values* averaged over the processes."""
        numbers = torch.stack([value.detach().float() for value in values.values()])
        if self.size > 1:
            dist.all_reduce(numbers)
        return dict(zip(values, (numbers / self.size).tolist(), strict=True))


class _Gather(torch.autograd.Function):
    """Gathers rows of all processes; the gradient of a row is the sum over all processes.

    PyTorch offers this too, but under names that change between versions.
    """

    @staticmethod
    def forward(_: Any, rows: Tensor) -> Tensor:
        """Return the rows of all processes, shape ``(size * B, ...)``."""
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of the rows of this process, shape ``(B, ...)``."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Yield the team of this process: all processes of ``torchrun``, or this one alone.

    Args:
        device: Device to compute on; with CUDA each process of a computer uses its own GPU.

    Raises:
        ConfigError: If there are fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(0, 1, device)
        return
    if device.type == "cuda":
        index = int(os.environ["LOCAL_RANK"])
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"--nproc-per-node must be at most {torch.cuda.device_count()}, the number of GPUs"
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_LOADING)
    try:
        yield Team(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
