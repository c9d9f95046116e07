"""Which sound input a name means."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from edgeasd.capture.microphone.hardware import without_number
from edgeasd.common.errors import AudioDeviceError

_IDS = ("usb:", "usb-id:")


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
        usb_path: Socket that it is plugged into, as in `hardware.Card`; empty if none is known.
        usb_id: Vendor, product and serial number, likewise.
    """

    index: int
    name: str
    host_api: str
    n_channels: int
    sample_rate: int
    is_default: bool
    usb_path: str = ""
    usb_id: str = ""

    @property
    def full_name(self) -> str:
        """Name and host API, which tells apart devices of the same name."""
        return f"{self.name}, {self.host_api}"


def find_device(wanted: str, devices: list[InputDevice]) -> InputDevice:
    """Return the one of *devices* that *wanted* means.

    A name in full decides; else any part of one, if it is part of no other.  Upper and lower case
    are the same then.

    Args:
        wanted: A USB path or id as in `InputDevice`, where the id may leave out the serial number;
            or a name, or name and host API as `InputDevice.full_name`, or part of that; empty
            means the default input.
        devices: What there is.

    Raises:
        AudioDeviceError: If that is none or several; the message lists what could be taken.
    """
    if not devices:
        raise AudioDeviceError("no microphone is there; connect one")
    if wanted == "":
        found = [device for device in devices if device.is_default]
        if not found:
            names = _names(devices)
            raise AudioDeviceError(f"no default microphone is set; name one of: {names}")
        return found[0]
    for found in _matches(wanted, devices):
        if len(found) == 1:
            return found[0]
        if found:
            raise AudioDeviceError(f"microphone.device={wanted!r} must be one of: {_names(found)}")
    raise AudioDeviceError(
        f"microphone.device={wanted!r} is not there; there are: {_names(devices)}"
    )


def stable_name(device: InputDevice, devices: list[InputDevice]) -> str:
    """Return what to configure as ``microphone.device`` so that *device* is found again.

    The socket if it has one, as a new microphone at the same machine is then found as well; else
    what it is; else its name, without the number that changes if it can be done without.
    """
    for wanted in (device.usb_path, device.usb_id, without_number(device.name)):
        with suppress(AudioDeviceError):
            if wanted and find_device(wanted, devices) is device:
                return wanted
    return device.full_name


def check_channel(channel: int, device: InputDevice) -> None:
    """Raise `AudioDeviceError` if *device* has no *channel*, counted from 0."""
    if channel >= device.n_channels:
        raise AudioDeviceError(
            f"microphone.channel={channel} must be from 0 to {device.n_channels - 1}, "
            f"as {device.name!r} has {device.n_channels} channel{'s'[: device.n_channels > 1]}"
        )


def _matches(wanted: str, devices: list[InputDevice]) -> tuple[list[InputDevice], ...]:
    """Return what *wanted* could mean, the surest way of reading it first."""
    if wanted.startswith(_IDS):
        return (
            [device for device in devices if wanted in (device.usb_path, device.usb_id)],
            [device for device in devices if device.usb_id.startswith(f"{wanted}:")],
        )
    return (
        [device for device in devices if wanted in (device.name, device.full_name)],
        [device for device in devices if wanted.lower() in device.full_name.lower()],
    )


def _names(devices: list[InputDevice]) -> str:
    return "; ".join(
        f"{device.full_name} = {device.usb_path}" if device.usb_path else device.full_name
        for device in devices
    )
