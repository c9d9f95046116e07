"""A sound card keeps its name when its number changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeasd.capture.microphone.hardware import (
    Card,
    card_number,
    card_of,
    read_cards,
    without_number,
)

CONTROLLER = "devices/pci0000:00/0000:00:14.0"


def plug_in(root: Path, number: int, place: str, **files: str) -> None:
    """Make the kernel's files of card *number*, a USB device at *place* with the given *files*."""
    interface = root / place / f"{Path(place).name}:1.0"
    (interface / f"sound/card{number}").mkdir(parents=True)
    (interface / f"sound/card{number}/device").symlink_to("../..")
    for name, text in files.items():
        (root / place / name).write_text(f"{text}\n")
    link(root, number, interface)


def link(root: Path, number: int, device: Path) -> None:
    """List card *number* of *device* among the sound devices."""
    listed = root / "class/sound"
    listed.mkdir(parents=True, exist_ok=True)
    (listed / f"card{number}").symlink_to(device / f"sound/card{number}")


def test_card_at_a_hub_is_named_by_its_socket_and_by_what_it_is(tmp_path: Path) -> None:
    """The path leads from the controller over the hub's ports, without the number of the bus."""
    place = f"{CONTROLLER}/usb1/1-1/1-1.4"
    plug_in(tmp_path, 1, place, idVendor="0d8c", idProduct="0014", serial="A7")

    cards = read_cards(tmp_path / "class/sound")

    assert cards == {1: Card("usb:0000:00:14.0-1.4", "usb-id:0d8c:0014:A7")}


def test_card_without_serial_number_is_named_without(tmp_path: Path) -> None:
    """Cheap devices have none."""
    plug_in(tmp_path, 0, f"{CONTROLLER}/usb3/3-2", idVendor="1b3f", idProduct="2008")

    cards = read_cards(tmp_path / "class/sound")

    assert cards == {0: Card("usb:0000:00:14.0-2", "usb-id:1b3f:2008")}


def test_card_plugged_in_again_has_other_numbers_and_the_same_name(tmp_path: Path) -> None:
    """Neither the card's number nor that of the bus is part of the name."""
    files = {"idVendor": "0d8c", "idProduct": "0014", "serial": "A7"}
    plug_in(tmp_path / "before", 1, f"{CONTROLLER}/usb1/1-1", **files)
    plug_in(tmp_path / "after", 4, f"{CONTROLLER}/usb2/2-1", **files)

    before = read_cards(tmp_path / "before/class/sound")
    after = read_cards(tmp_path / "after/class/sound")

    assert before[1] == after[4]


def test_card_on_the_board_has_no_usb_name(tmp_path: Path) -> None:
    """What is not a USB device is known by name only; other sound devices are no cards."""
    board = tmp_path / "devices/pci0000:00/0000:00:1f.3"
    (board / "sound/card0").mkdir(parents=True)
    (board / "sound/card0/device").symlink_to("../..")
    link(tmp_path, 0, board)
    (tmp_path / "class/sound/controlC0").mkdir()

    assert read_cards(tmp_path / "class/sound") == {0: Card()}


def test_computer_without_sound_has_no_cards(tmp_path: Path) -> None:
    """Where the kernel knows no sound there is no list."""
    assert read_cards(tmp_path / "class/sound") == {}


@pytest.mark.parametrize(
    ("name", "number", "without", "path"),
    [
        ("USB PnP Sound: Audio (hw:1,0)", 1, "USB PnP Sound: Audio", "usb:c-1"),
        ("USB PnP Sound: Audio (hw:1,2)", 1, "USB PnP Sound: Audio", "usb:c-1,2"),
        ("USB PnP Sound: Audio (hw:7,0)", 7, "USB PnP Sound: Audio", ""),
        ("pulse", None, "pulse", ""),
    ],
)
def test_card_of_a_name_is_that_of_its_number(
    name: str, number: int | None, without: str, path: str
) -> None:
    """The number in an ALSA name leads to the card; further inputs of a card have their own."""
    cards = {1: Card("usb:c-1", "usb-id:0d8c:0014")}

    assert card_number(name) == number
    assert without_number(name) == without
    assert card_of(name, cards).usb_path == path
