"""Keeps all training windows on the device, to be fetched by index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from train.data.split import TrainingData


class WindowBank:
    """All training windows on one device.

    A batch is one gather on the device; nothing is loaded, copied or cut during training.

    Args:
        data: Training data; its fitted clips are used, and the background as one more section.
        device: Device that holds the windows.

    Attributes:
        rows: Log-mel rows, shape ``(n_rows, n_mels)``, dB; see `train.data.windows.ClipWindows`.
    """

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        clips = [*data.fitted, *data.background]
        first_row = np.cumsum([0, *(len(one.rows) for one in clips)])
        starts = np.concatenate(
            [one.starts + first for one, first in zip(clips, first_row, strict=False)]
        )
        sections = np.repeat(
            [
                *(data.section_index(one.clip) for one in data.fitted),
                *[len(data.sections)] * len(data.background),
            ],
            [len(one.starts) for one in clips],
        )
        self.rows = torch.from_numpy(np.concatenate([one.rows for one in clips])).to(device)
        self._starts = torch.from_numpy(starts).to(device)
        self._sections = torch.from_numpy(sections).to(device)
        self._steps = torch.arange(clips[0].n_frames, device=device)

    def __len__(self) -> int:
        return len(self._starts)

    def fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return windows, shape ``(B, 1, T, M)``, dB, and their section indices, shape ``(B,)``."""
        index = index.to(self._starts.device)
        rows = self._starts[index, None] + self._steps  # (B, T)
        return self.rows[rows].unsqueeze(1), self._sections[index]

    def batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the indices of all windows in random order, *batch_size* at a time.

        Windows that do not fill a batch are left out; they are others in each epoch.
        """
        order = torch.randperm(len(self), generator=generator)
        n_batches = len(self) // batch_size
        yield from order[: n_batches * batch_size].view(n_batches, batch_size)
