"""The one form that all sources of sound share, and how one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgeasd.capture.microphone.channel import Microphone
from edgeasd.capture.recording.wavfile import WavFile
from edgeasd.common.config import FileConfig, SimulatorConfig

if TYPE_CHECKING:
    from edgeasd.capture.microphone.search import Search
    from edgeasd.common.config import SourceConfig
    from edgeasd.common.types import AudioBlock


class AudioSource(Protocol):
    """Where sound comes from; its blocks are at its own rate."""

    @property
    def sample_rate(self) -> int:
        """Hertz."""

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Return the next block, or None if no sound came within *timeout_s* seconds.

        One thread reads.
        """

    @property
    def ended(self) -> bool:
        """Whether all has been read: of a file; never of a microphone or the simulator."""

    @property
    def overruns(self) -> int:
        """How often sound was lost so far."""

    @property
    def fault(self) -> str:
        """Why there is no sound now, for people to read; empty when all is well."""

    @property
    def hung(self) -> bool:
        """Whether sound stays out for no known reason, so that only a restart may help."""

    @property
    def late_s(self) -> float:
        """For how long sound that is there has waited to be read, seconds."""

    @property
    def drift_ppm(self) -> float:
        """By how many millionths its clock is fast against the computer's; NaN if not known."""

    def close(self) -> None:
        """Let go of the device or file; `read` gives nothing more.  Any thread may call this."""


def open_source(config: SourceConfig, search: Search | None = None) -> AudioSource:
    """Return the source that *config* describes.

    Args:
        config: Of the source.
        search: Looks for a microphone; None looks once.

    Raises:
        AudioFileError: If the file cannot be read.
        AudioDeviceError: If the microphone or the audio library is not there.
    """
    if isinstance(config, SimulatorConfig):
        # Its filters come with 49 MB of scipy.signal, which a daemon on a microphone never needs.
        from edgeasd.capture.simulator.simulator import Simulator  # noqa: PLC0415

        return Simulator(config)
    if isinstance(config, FileConfig):
        return WavFile(config.path, config.channel, paced=config.paced, repeat=config.repeat)
    return Microphone(config, search)
