"""Types of the values that pass from stage to stage; see the data-flow figure in README.md.

A position is a *sample index* since the start of the stream, never a time; time is added once, when
a payload is made.  A gap in the sound shows only as a jump in ``first_sample``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Float32Array: TypeAlias = npt.NDArray[np.float32]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Int16Array: TypeAlias = npt.NDArray[np.int16]

INT16_FULL_SCALE = 32_768.0
"""Divisor that scales int16 samples to +-1.0, exactly in float32."""

CLIP_LEVEL = 0.999
"""Magnitude from which a sample counts as clipped."""


def to_int16(samples: Float32Array) -> Int16Array:
    """Return *samples* as 16-bit integers; exact if they came from a 16-bit converter."""
    scaled = np.rint(samples * np.float32(INT16_FULL_SCALE))
    values: Int16Array = np.clip(scaled, -INT16_FULL_SCALE, INT16_FULL_SCALE - 1.0).astype(np.int16)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class AudioBlock:
    """A run of consecutive samples.

    Attributes:
        samples: Shape ``(n_samples,)``, float32, mono, full scale is +-1.0; may be empty.
        first_sample: Position of ``samples[0]`` in the stream, at the rate of the block.
    """

    samples: Float32Array
    first_sample: int


@dataclass(frozen=True, slots=True, eq=False)
class LogMelFrames:
    """Consecutive log-mel frames.

    Attributes:
        values: Shape ``(n_frames, n_mels)``, float32, dB; may have no rows.
        first_sample: Position of the first sample of the first frame.
    """

    values: Float32Array
    first_sample: int


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Log-mel frames that the model takes as one input.

    Attributes:
        values: Shape ``(window_frames, n_mels)``, float32, dB.
        first_sample: Position of the first sample of the first frame.
        n_samples: Number of samples behind the window.
    """

    values: Float32Array
    first_sample: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class Score:
    """How much a stretch of sound differs from normal sound.

    Attributes:
        value: Higher is more anomalous; its unit depends on the scoring method of the model.
        first_sample: Position of the first sample that the score rests on.
        n_samples: Number of samples that the score rests on.
    """

    value: float
    first_sample: int
    n_samples: int

    @property
    def end_sample(self) -> int:
        """Position just after the last sample that the score rests on."""
        return self.first_sample + self.n_samples


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    """A change of the alarm, or a reminder that it is still raised.

    Attributes:
        type: ``start``, ``update`` or ``end``.
        score: Value of the score that caused the event.
        threshold: Threshold in force.
        clear_threshold: Score below which the alarm may end.
        start_sample: Position just after the last sample of the score that started the alarm.
        first_sample: Position just after the last sample of the score that caused this event.
    """

    type: Literal["start", "update", "end"]
    score: float
    threshold: float
    clear_threshold: float
    start_sample: int
    first_sample: int
