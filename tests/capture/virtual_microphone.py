"""A microphone that hears what a test gives it, through the real ALSA and PortAudio.

ALSA's ``file`` plugin takes its samples from a pipe.  What was found with PortAudio 19.6 and
alsa-lib 1.2:

- The capturing process gets every sample, from the first one fed: none is lost, none put before.
- The pipe must exist, and be open for reading and writing, before PortAudio is initialised, as its
  search for devices opens the pipe and would wait for a writer.
- A short read makes the plugin repeat stale samples.  So the pipe always holds whole blocks: it is
  fed in blocks of 512 samples, which is what `InputStream` reads at 16 kHz.
- Until a reader comes the pipe fills up, so up to four blocks arrive at once at the start.
- ``ALSA_CONFIG_PATH`` counts when PortAudio is loaded, so capture in a process of its own, with
  `VirtualMicrophone.environment`.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from edgeasd.common.types import Int16Array

DEVICE = "vmic"
SAMPLE_RATE = 16_000
BLOCK = 512

_SYSTEM_CONFIGURATION = "/usr/share/alsa/alsa.conf"
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ, which Python 3.10 lacks
_PIPE_BYTES = 4_096
_RETRY_S = 0.002


class VirtualMicrophone:
    """The ALSA device ``vmic``, 16 kHz; to be used in a ``with`` statement.

    Args:
        directory: An empty directory for the pipe and the configuration.
        n_channels: Channels that its samples are meant for; it offers any number.
        drift_ppm: By how many millionths its clock is fast.  Given, it catches up after a delay of
            less than a second, as a clock does not wait for a busy computer.

    Attributes:
        environment: What the capturing process needs in its environment, beside the usual.
        writes: For each block fed, the number of samples fed with it and before, and the time,
            ``time.monotonic()``.
    """

    def __init__(
        self, directory: Path, n_channels: int = 1, drift_ppm: float | None = None
    ) -> None:
        self._block = BLOCK * n_channels
        self._block_s = BLOCK / SAMPLE_RATE / (1.0 + (drift_ppm or 0.0) * 1e-6)
        self._longest_delay_s = self._block_s if drift_ppm is None else 1.0
        pipe = directory / "microphone.fifo"
        configuration = directory / "asound.conf"
        configuration.write_text(
            f"pcm.{DEVICE} {{\n"
            '  type file\n  slave.pcm "null"\n  file "/dev/null"\n'
            f'  infile "{pipe}"\n  format "raw"\n}}\n',
            encoding="utf-8",
        )
        self.environment = {"ALSA_CONFIG_PATH": f"{_SYSTEM_CONFIGURATION}:{configuration}"}
        self.writes: list[tuple[int, float]] = []
        os.mkfifo(pipe)
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._stopped = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._feeder: threading.Thread | None = None

    @property
    def n_written(self) -> int:
        """How many samples were fed so far."""
        return self.writes[-1][0] if self.writes else 0

    def feed(self, samples: Int16Array) -> None:
        """Start to feed *samples*, interleaved, in real time, as many as fill whole blocks."""
        self._feeder = threading.Thread(target=self._feed, args=(samples,), daemon=True)
        self._feeder.start()

    def pause(self) -> None:
        """Stop feeding: a reader hangs, as with a stuck device."""
        self._running.clear()

    def resume(self) -> None:
        """Feed on, with the next sample."""
        self._running.set()

    def __enter__(self) -> VirtualMicrophone:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._running.set()
        if self._feeder is not None:
            self._feeder.join()
        os.close(self._pipe)

    def _feed(self, samples: Int16Array) -> None:
        due_s = time.monotonic()
        for end in range(self._block, samples.size + 1, self._block):
            self._running.wait()
            due_s += self._block_s
            if self._stopped.wait(max(0.0, due_s - time.monotonic())):
                return
            self._write(samples[end - self._block : end].tobytes())
            now_s = time.monotonic()
            self.writes.append((end, now_s))
            if now_s - due_s > self._longest_delay_s:
                due_s = now_s  # it was paused, or nobody read: do not hurry after

    def _write(self, content: bytes) -> None:
        # A write of at most PIPE_BUF bytes goes through as a whole or not at all.
        while not self._stopped.is_set():
            with suppress(BlockingIOError):
                os.write(self._pipe, content)
                return
            self._stopped.wait(_RETRY_S)
