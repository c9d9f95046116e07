"""Converts sound from the rate of a device or file to the rate of a model.

Reading a recording needs it as well as the pipeline, so it stands below both of them.
"""

from __future__ import annotations

import numpy as np
import soxr

from edgeasd.common.types import AudioBlock, Float32Array


class Resampler:
    """Converts a stream of blocks from one sample rate to another.

    Sample ``n`` of the output belongs to the time of sample ``n * in_rate / out_rate`` of the
    input.  The filter looks ahead, so output comes later than input, by 10 to 100 ms; `flush` gives
    the rest.  Output does not depend on how the input was cut, and equals that of
    ``soxr.resample(..., quality="HQ")``, bit for bit.  With equal rates blocks pass untouched.

    A gap in the input starts the conversion anew at the position after it.  The output has a gap
    there too, longer than that of the input by what the filter still held.
    """

    def __init__(self, in_rate: int, out_rate: int) -> None:
        if in_rate < 1 or out_rate < 1:
            raise ValueError(f"in_rate={in_rate} and out_rate={out_rate} must be at least 1")
        self._in_rate = in_rate
        self._out_rate = out_rate
        self._next_in: int | None = None
        self._next_out = 0
        self._stream = self._new_stream()

    def process(self, block: AudioBlock) -> AudioBlock:
        """Return the samples that *block* completes, at the output rate; perhaps none."""
        if self._in_rate == self._out_rate:
            self._next_out = block.first_sample + block.samples.size
            return block
        if block.first_sample != self._next_in:
            self._start_at(block.first_sample)
        self._next_in = block.first_sample + block.samples.size
        return self._deliver(self._stream.resample_chunk(block.samples))

    def flush(self) -> AudioBlock:
        """Return what the filter still holds, at the end of the stream, and reset.

        Over the whole stream, ``n_samples`` of input give ``n_samples * out_rate / in_rate`` of
        output, rounded.
        """
        rest = np.empty(0, np.float32)
        if self._next_in is not None:
            rest = self._stream.resample_chunk(rest, last=True)
        block = self._deliver(rest)
        self.reset()
        return block

    def reset(self) -> None:
        """Forget all input; the next block may be at any position."""
        self._next_in = None
        self._next_out = 0

    def _start_at(self, first_sample: int) -> None:
        position = first_sample * self._out_rate // self._in_rate
        if self._next_in is not None:
            position = max(position, self._next_out + 1)  # a gap must stay a gap
        self._next_out = position
        self._stream = self._new_stream()

    def _new_stream(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(
            self._in_rate, self._out_rate, num_channels=1, dtype="float32", quality="HQ"
        )

    def _deliver(self, samples: Float32Array) -> AudioBlock:
        block = AudioBlock(samples, self._next_out)
        self._next_out += samples.size
        return block
