"""Whatever stands in a sound file, it is read or refused, and what is read is sound."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.capture.recording.wavfile import WavFile, read_clip
from edgeasd.common.errors import AudioFileError
from tests.mutation import spoiled

pytestmark = pytest.mark.fuzz


def recording(form: str, subtype: str, n_channels: int) -> bytes:
    """Return a sound file of 3000 samples at 8 kHz."""
    values = np.random.default_rng(0).normal(0.0, 0.1, (3_000, n_channels))
    file = io.BytesIO()
    soundfile.write(file, values, 8_000, format=form, subtype=subtype)
    return file.getvalue()


RECORDINGS = [
    recording("WAV", "PCM_16", 1),
    recording("WAV", "PCM_24", 2),
    recording("WAV", "FLOAT", 1),
    recording("WAVEX", "PCM_16", 3),
    recording("FLAC", "PCM_16", 1),
    recording("FLAC", "PCM_24", 2),
]


@given(st.sampled_from(RECORDINGS).flatmap(spoiled))
def test_wavfile_any_spoiled_recording_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """A damaged file gives blocks of finite samples without a gap, or an AudioFileError."""
    path = tmp_path_factory.getbasetemp() / "spoiled.wav"
    path.write_bytes(content)

    try:
        source = WavFile(path)
    except AudioFileError as exc:
        assert str(exc).startswith(f"{path}: ")
        return
    position = 0
    while (block := source.read(0.0)) is not None:
        assert block.first_sample == position
        assert np.isfinite(block.samples).all()
        position += block.samples.size
    source.close()

    assert source.ended
    assert np.isfinite(read_clip(path)).all()
