"""The child process in which models are tried: whatever a hostile file does to it harms nobody.

`edgeasd.models.trial` starts it.  It reads one model after the other from standard input, each with
its length in eight bytes before it.  It writes a line of JSON to standard output when it is ready,
and one for each model: why the model is refused, empty if it can be used.
"""

from __future__ import annotations

import json
import math
import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import numpy as np

from edgeasd.common.documents.reading import DocumentError, read_table
from edgeasd.common.errors import ModelError
from edgeasd.common.text import shortened
from edgeasd.common.types import Float32Array
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.model.document import SCORE_LIMIT, ModelDocument
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import clip_frames
from edgeasd.detect.scoring import clip_score
from edgeasd.detect.windows import slice_windows

STEP_CPU_S = 5
"""Seconds of computing that loading a model, or one window of it, may take."""
MOST_LOAD = 2.0
"""Seconds of computing that a second of sound may take.  A model above one cannot keep up, but on a
computer that is busy with other things the measured time may be twice the real one."""
_MEMORY_BYTES = 2**28
"""Bytes of memory that any model may take."""
_MEMORY_PER_BYTE = 4
"""Bytes of memory that a model may take in addition for each byte of its file, which is held as it
came, as it is read, and as it is laid out to be run."""
_N_WINDOWS = 3
"""Windows of each kind of sound that a model is tried on."""
_HUM_SAMPLES = 80
"""Samples in half a period of the hum: 100 Hz at 16 kHz."""
_LONGEST_REASON = 1000
"""Characters of a reason that are passed on; a hostile model may give a longer one."""
_ORIGIN = "model"
"""Name of the model in errors, which the parent process replaces by the path of the file."""


def serve() -> None:
    """Try models until there are no more."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    # A library that prints must not answer in our place.
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    # What reading a document imports is not to count for the memory of the first model.
    with suppress(DocumentError):
        read_table(ModelDocument, {})
    _limit_harm()
    _answer(answers, "")
    while length := requests.read(8):
        n_bytes = int.from_bytes(length, "big")
        most_bytes = _MEMORY_BYTES + _MEMORY_PER_BYTE * n_bytes
        _limit(resource.RLIMIT_DATA, _memory_bytes() + most_bytes)
        _answer(answers, _fault_of(requests.read(n_bytes), most_bytes))


def _answer(answers: TextIO, reason: str) -> None:
    answers.write(json.dumps(shortened(reason, _LONGEST_REASON)) + "\n")
    answers.flush()


def _fault_of(content: bytes, most_bytes: int) -> str:
    """Return why the model file *content* cannot be used, empty if it can."""
    _limit_step()
    try:
        rehearse(Model(content, _ORIGIN))
    except Exception as exc:  # noqa: BLE001 - whatever a model does is the answer
        if isinstance(exc, MemoryError) or "bad_alloc" in str(exc):
            return f"takes more than {most_bytes // 2**20} MiB of memory; export it again"
        if isinstance(exc, ModelError):
            return str(exc).removeprefix(f"{_ORIGIN}: ")
        return f"cannot be used ({type(exc).__name__}: {exc}); export it again"
    return ""


def rehearse(model: Model) -> None:
    """Run *model* on sound of many kinds.

    Raises:
        ModelError: If it fails on one of them, or is so slow that it could never keep up.
    """
    features, window = model.document.features, model.document.window
    median = MedianFilter(window.median_frames)
    frame_s = math.inf
    for samples in _sounds(features.n_samples(window.n_frames), model.document.hop_samples):
        _limit_step()
        began_s = time.process_time()
        frames = clip_frames(samples, features, window)
        frame_s = min(frame_s, (time.process_time() - began_s) / len(frames))
        outputs, window_s = [], math.inf
        for values in slice_windows(frames, window):
            _limit_step()
            began_s = time.process_time()
            outputs.append(model.run(median.process(values)))
            window_s = min(window_s, time.process_time() - began_s)
        for index in range(len(model.document.sections)):
            score = clip_score(model.scoring(index), outputs)
            if not abs(score) <= SCORE_LIMIT:  # NaN, too, is refused
                raise ModelError(f"sections[{index}] gives a score of {score:g}; export it again")
        load = features.frames_per_s * (frame_s + window_s / window.hop_frames)
        if load > MOST_LOAD:
            raise ModelError(
                f"takes {load:.1f} s for a second of sound; take a smaller network or a "
                "longer window.hop_frames"
            )


def _sounds(n_window: int, hop: int) -> Iterator[Float32Array]:
    """Yield a few windows of silence, of noise from faint to clipped, and of a clipped hum."""
    rng = np.random.default_rng(0)
    n_samples = n_window + (_N_WINDOWS - 1) * hop
    noise = rng.standard_normal(n_samples, np.float32)
    rise = np.geomspace(1e-5, 1.0, n_samples, dtype=np.float32)
    hum = np.where(np.arange(n_samples) // _HUM_SAMPLES % 2, 1.0, -1.0)
    for sound in (0 * noise, 1e-4 * noise, 1e-2 * noise, noise, rise * noise, hum):
        yield np.clip(sound, -1.0, 1.0).astype(np.float32)


def _limit_harm() -> None:
    """Let this process write no file and leave no core dump, and let it be killed before others."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    with suppress(OSError):  # the service may be denied this
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _limit(kind: int, most: int) -> None:
    resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def _limit_step() -> None:
    """Let the kernel end this process if the step that begins now takes too long."""
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + STEP_CPU_S)


def _memory_bytes() -> int:
    """Return the bytes of memory of its own that this process has, as the kernel counts them."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
