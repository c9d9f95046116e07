"""Which sound input a name means."""

from __future__ import annotations

from dataclasses import dataclass

from edgeasd.errors import AudioDeviceError


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A sound input, as the audio library knows it.

    Attributes:
        index: Number of the device; another after a restart.
        name: Name of the device; not always unique.
        host_api: What stands between the library and the device, for example ``ALSA``.
        n_channels: Channels that it offers.
        sample_rate: Its own rate in hertz.
        is_default: Whether an empty ``microphone.device`` means it.
    """

    index: int
    name: str
    host_api: str
    n_channels: int
    sample_rate: int
    is_default: bool

    @property
    def full_name(self) -> str:
        """Name and host API, which tells apart devices of the same name."""
        return f"{self.name}, {self.host_api}"


def find_device(wanted: str, devices: list[InputDevice]) -> InputDevice:
    """Return the one of *devices* that *wanted* means.

    A name in full decides; else any part of one, if it is part of no other.  Upper and lower case
    are the same then.  Parts are what to configure: an ALSA name ends in ``(hw:1,0)``, where the
    number may be another after a restart of the computer.

    Args:
        wanted: Name, or name and host API as `InputDevice.full_name`, or part of that; empty means
            the default input.
        devices: What there is.

    Raises:
        AudioDeviceError: If that is none or several; the message lists what could be taken.
    """
    there = "; ".join(device.full_name for device in devices)
    if not devices:
        raise AudioDeviceError("no microphone is there; connect one")
    if wanted == "":
        found = [device for device in devices if device.is_default]
        if not found:
            raise AudioDeviceError(f"no default microphone is set; name one of: {there}")
        return found[0]
    for found in (
        [device for device in devices if wanted in (device.name, device.full_name)],
        [device for device in devices if wanted.lower() in device.full_name.lower()],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            candidates = "; ".join(device.full_name for device in found)
            raise AudioDeviceError(f"microphone.device={wanted!r} must be one of: {candidates}")
    raise AudioDeviceError(f"microphone.device={wanted!r} is not there; there are: {there}")


def check_channel(channel: int, device: InputDevice) -> None:
    """Raise `AudioDeviceError` if *device* has no *channel*, counted from 0."""
    if channel >= device.n_channels:
        raise AudioDeviceError(
            f"microphone.channel={channel} must be from 0 to {device.n_channels - 1}, "
            f"as {device.name!r} has {device.n_channels} channel{'s'[: device.n_channels > 1]}"
        )
