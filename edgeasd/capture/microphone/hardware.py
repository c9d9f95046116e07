"""Names of USB sound cards that stay when numbers change: by their socket, by what they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SOUND_CLASS = Path("/sys/class/sound")

_CARD = re.compile(r"card(\d+)")
_ALSA_HARDWARE = re.compile(r"\s*\(hw:(\d+),(\d+)\)$")
_USB_DEVICE = re.compile(r"\d+-(\d+(?:\.\d+)*)")
_USB_BUS = re.compile(r"usb\d+")


@dataclass(frozen=True, slots=True)
class Card:
    """What stays of a sound card; both are empty if it is not a USB device.

    Attributes:
        usb_path: ``usb:CONTROLLER-PORTS``, for example ``usb:0000:00:14.0-1.4``: the socket.  The
            kernel's own ``1-1.4`` begins with the number of the bus, which may be another after a
            restart of the computer; the controller's address is not.
        usb_id: ``usb-id:VENDOR:PRODUCT:SERIAL``, for example ``usb-id:0d8c:0014:A7``: the device,
            in whatever socket.  Cheap ones have no serial number; the last part is missing then.
    """

    usb_path: str = ""
    usb_id: str = ""


def read_cards(root: Path) -> dict[int, Card]:
    """Return the sound cards that are there now, by their ALSA number.

    Args:
        root: The kernel's list of sound devices, `SOUND_CLASS`.
    """
    found = ((path, _CARD.fullmatch(path.name)) for path in root.glob("card*"))
    return {int(match[1]): _read_card(path / "device") for path, match in found if match}


def card_number(name: str) -> int | None:
    """Return the card's number in the *name* of a sound input; none if it is no ALSA hardware."""
    match = _ALSA_HARDWARE.search(name)
    return int(match[1]) if match else None


def card_of(name: str, cards: dict[int, Card]) -> Card:
    """Return the card of the sound input *name*, empty if it is not among *cards*.

    PortAudio's names of ALSA hardware end in the number of the card and that of its input.  Inputs
    of one card after the first have theirs in the names of the card: ``usb:0000:00:14.0-2,1``.
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
    except OSError:  # it has none, or was unplugged this moment
        return ""
