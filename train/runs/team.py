"""Several processes that train one network, started by ``torchrun``; one alone is a team of one."""

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
"""How long the others wait while the first makes the features of all clips."""


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of a run.

    Attributes:
        rank: Of this one, from 0; the first writes and logs.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes and logs."""
        return self.rank == 0

    def share(self, make: Callable[[], _T]) -> _T:
        """Return in every process what *make* returns in the first."""
        if self.size == 1:
            return make()
        box: list[_T | None] = [make() if self.is_first else None]
        dist.broadcast_object_list(box)
        return cast("_T", box[0])

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return *model* such that its gradients are the team's mean.

        They are for as long as what is returned is kept; each parameter that can learn must get a
        gradient in every step.
        """
        if self.size == 1:
            return model
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids)

    def part(self, index: Tensor) -> Tensor:
        """Return this process's share of a batch's *index*, shape ``(B,)``."""
        return index[self.rank :: self.size]

    def gather(self, rows: Tensor) -> Tensor:
        """Return the *rows* of all processes, one process after the other, with gradients."""
        return rows if self.size == 1 else cast("Tensor", _Gather.apply(rows))

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Return each of *values* averaged over the team."""
        numbers = torch.stack([value.detach().float() for value in values.values()])
        if self.size > 1:
            dist.all_reduce(numbers)
        return dict(zip(values, (numbers / self.size).tolist(), strict=True))


class _Gather(torch.autograd.Function):
    """The rows of all processes; the gradient of each is the sum of what all processes give it.

    PyTorch has this under names that change from version to version.
    """

    @staticmethod
    def forward(_: Any, rows: Tensor) -> Tensor:
        """Return the rows of all processes, shape ``(size * B, ...)``."""
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of this process's rows, shape ``(B, ...)``."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Yield the team of this process: that of ``torchrun`` if it was started so.

    Args:
        device: Where to compute; with CUDA each process of a computer takes a GPU of its own.

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
