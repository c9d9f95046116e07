"""Names of sound inputs: which input a name means, and which names stay when numbers change.

A USB sound card is named by the socket that it is plugged into, or by what it is.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeasd.common.errors import AudioDeviceError

SOUND_CLASS = Path("/sys/class/sound")
"""The kernel's list of sound devices."""

_IDS = ("usb:", "usb-id:")
_CARD = re.compile(r"card(\d+)")
_ALSA_HARDWARE = re.compile(r"\s*\(hw:(\d+),(\d+)\)$")
_USB_DEVICE = re.compile(r"\d+-(\d+(?:\.\d+)*)")
_USB_BUS = re.compile(r"usb\d+")


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A sound input, as the audio library knows it.

    Attributes:
        index: Number of the device; may be another after a restart.
        name: Name of the device; not always unique.
        host_api: Interface between the library and the device, for example ``ALSA``.
        n_channels: Channels that the device offers.
        sample_rate: Rate of the device itself, hertz.
        is_default: Whether an empty ``microphone.device`` means it.
        usb_path: Socket that it is plugged into, as in `Card`; empty if none is known.
        usb_id: Vendor, product and serial number, as in `Card`; empty if they are not known.
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

    A whole name decides; otherwise a part of a name will do, in upper or lower case, if only one
    name has it.

    Args:
        wanted: A USB path or id as in `InputDevice`, where the id may leave out the serial number;
            or a name, a name with its host API as in `InputDevice.full_name`, or a part of that.
            Empty means the default input.
        devices: Inputs that there are.

    Raises:
        AudioDeviceError: If it means no input, or several; the message lists the inputs there are.
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

    This is the socket if it has one, so that a new microphone at the same machine is found as well;
    else vendor and product; else the name, without its changing number where that is unambiguous.
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
    """Return the devices that *wanted* could mean, by each way of reading it, the surest first."""
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


@dataclass(frozen=True, slots=True)
class Card:
    """Names of a sound card that stay; both are empty if it is not a USB device.

    Attributes:
        usb_path: Socket as ``usb:CONTROLLER-PORTS``, for example ``usb:0000:00:14.0-1.4``.  The
            kernel's own ``1-1.4`` begins with the number of the bus, which may change when the
            computer restarts; the address of the controller does not.
        usb_id: Device in whatever socket, as ``usb-id:VENDOR:PRODUCT:SERIAL``, for example
            ``usb-id:0d8c:0014:A7``.  The last part is missing if it has no serial number.
    """

    usb_path: str = ""
    usb_id: str = ""


def read_cards(root: Path) -> dict[int, Card]:
    """Return the sound cards that are there now, by their ALSA number.

    Args:
        root: Kernel's list of sound devices, `SOUND_CLASS`.
    """
    found = ((path, _CARD.fullmatch(path.name)) for path in root.glob("card*"))
    return {int(match[1]): _read_card(path / "device") for path, match in found if match}


def card_number(name: str) -> int | None:
    """Return the number of the card in the *name* of a sound input; None if it has none."""
    match = _ALSA_HARDWARE.search(name)
    return int(match[1]) if match else None


def card_of(name: str, cards: dict[int, Card]) -> Card:
    """Return the card of the sound input *name*, empty if it is not among *cards*.

    PortAudio's names of ALSA hardware end in the number of the card and the number of the input.
    For every input of a card but the first, the names of the card get that number too:
    ``usb:0000:00:14.0-2,1``.
    """
    match = _ALSA_HARDWARE.search(name)
    card = cards.get(int(match[1]), Card()) if match else Card()
    if match is None or match[2] == "0" or not card.usb_path:
        return card
    return Card(f"{card.usb_path},{match[2]}", f"{card.usb_id},{match[2]}")


def without_number(name: str) -> str:
    """Return the *name* of a sound input without its numbers, which may change."""
    return _ALSA_HARDWARE.sub("", name)


def _read_card(link: Path) -> Card:
    place = link.resolve()  # for example .../0000:00:14.0/usb1/1-1/1-1.4/1-1.4:1.0
    for folder in (place, *place.parents):
        match = _USB_DEVICE.fullmatch(folder.name)
        if match:
            return Card(f"usb:{_controller(folder)}-{match[1]}", _usb_id(folder))
    return Card()


def _controller(device: Path) -> str:
    bus = next(folder for folder in device.parents if _USB_BUS.fullmatch(folder.name))
    return bus.parent.name


def _usb_id(device: Path) -> str:
    parts = (_read(device / name) for name in ("idVendor", "idProduct", "serial"))
    return "usb-id:" + ":".join(part for part in parts if part)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # there is none, or the card was unplugged this moment
        return ""
