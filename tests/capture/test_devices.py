"""A name means one sound input, and a sound card keeps its name when its number changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeasd.capture.microphone.devices import (
    Card,
    InputDevice,
    card_number,
    card_of,
    check_channel,
    find_device,
    read_cards,
    stable_name,
    without_number,
)
from edgeasd.common.errors import AudioDeviceError

WEBCAM = InputDevice(0, "HD Webcam: USB Audio (hw:1,0)", "ALSA", 1, 48_000, is_default=False)
USB_1 = InputDevice(2, "USB PnP Sound: Audio (hw:2,0)", "ALSA", 1, 44_100, is_default=False)
USB_2 = InputDevice(3, "USB PnP Sound: Audio (hw:3,0)", "ALSA", 2, 44_100, is_default=False)
PULSE = InputDevice(5, "pulse", "ALSA", 32, 44_100, is_default=True)
PULSE_JACK = InputDevice(6, "pulse", "JACK", 2, 48_000, is_default=False)
SOCKET = InputDevice(
    7,
    "Codec: USB Audio (hw:4,0)",
    "ALSA",
    1,
    48_000,
    is_default=False,
    usb_path="usb:0000:00:14.0-1.4",
    usb_id="usb-id:0d8c:0014:A7",
)
TWIN = InputDevice(
    8,
    "Codec: USB Audio (hw:5,0)",
    "ALSA",
    1,
    48_000,
    is_default=False,
    usb_path="usb:0000:00:14.0-2",
    usb_id="usb-id:0d8c:0014",
)
ALL = [WEBCAM, USB_1, USB_2, PULSE, PULSE_JACK]


@pytest.mark.parametrize(
    ("wanted", "device"),
    [
        ("", PULSE),
        ("USB PnP Sound: Audio (hw:3,0)", USB_2),
        ("hd webcam", WEBCAM),
        ("(hw:2", USB_1),
        ("pulse, ALSA", PULSE),
        ("pulse, jack", PULSE_JACK),
    ],
)
def test_find_device_unique_name_or_part_gives_the_device(wanted: str, device: InputDevice) -> None:
    """A full name, a part in any case, a name with its host API, and nothing each mean one."""
    assert find_device(wanted, ALL) is device


def test_find_device_full_name_wins_over_parts_of_others() -> None:
    """A name that is also a part of another still means the device of that name."""
    short = InputDevice(7, "USB", "ALSA", 1, 48_000, is_default=False)

    assert find_device("USB", [*ALL, short]) is short


@pytest.mark.parametrize(
    ("wanted", "devices", "message"),
    [
        (
            "usb pnp",
            ALL,
            (
                "microphone.device='usb pnp' must be one of: "
                "USB PnP Sound: Audio (hw:2,0), ALSA; USB PnP Sound: Audio (hw:3,0), ALSA"
            ),
        ),
        ("pulse", ALL, "microphone.device='pulse' must be one of: pulse, ALSA; pulse, JACK"),
        (
            "Rode",
            [WEBCAM, PULSE],
            (
                "microphone.device='Rode' is not there; there are: "
                "HD Webcam: USB Audio (hw:1,0), ALSA; pulse, ALSA"
            ),
        ),
        (
            "",
            [WEBCAM],
            "no default microphone is set; name one of: HD Webcam: USB Audio (hw:1,0), ALSA",
        ),
        ("", [], "no microphone is there; connect one"),
        ("Rode", [], "no microphone is there; connect one"),
    ],
)
def test_find_device_none_or_several_is_refused(
    wanted: str, devices: list[InputDevice], message: str
) -> None:
    """The message lists what could be taken instead."""
    with pytest.raises(AudioDeviceError) as caught:
        find_device(wanted, devices)

    assert str(caught.value) == message


def test_check_channel_beyond_the_device_is_refused() -> None:
    """The message says how many channels there are."""
    check_channel(1, USB_2)

    with pytest.raises(AudioDeviceError) as caught:
        check_channel(2, USB_2)

    assert str(caught.value) == (
        "microphone.channel=2 must be from 0 to 1, "
        "as 'USB PnP Sound: Audio (hw:3,0)' has 2 channels"
    )


@pytest.mark.parametrize(
    ("wanted", "device"),
    [
        ("usb:0000:00:14.0-1.4", SOCKET),
        ("usb:0000:00:14.0-2", TWIN),
        ("usb-id:0d8c:0014:A7", SOCKET),
        ("usb-id:0d8c:0014", TWIN),
        ("(hw:4,0)", SOCKET),
    ],
)
def test_find_device_usb_name_means_one_of_two_of_a_kind(wanted: str, device: InputDevice) -> None:
    """Socket and serial number tell apart what the name does not."""
    assert find_device(wanted, [*ALL, SOCKET, TWIN]) is device


def test_find_device_vendor_and_product_alone_mean_the_only_one_of_its_kind() -> None:
    """The serial number may be left out while there is one such device."""
    assert find_device("usb-id:0d8c:0014", [*ALL, SOCKET]) is SOCKET


@pytest.mark.parametrize("wanted", ["usb:0000:00:14.0-1", "usb-id:0d8c:0014:B8", "usb-id:0d8c:001"])
def test_find_device_part_of_a_usb_name_is_refused(wanted: str) -> None:
    """A socket or number is never a part of another; the message tells those that are there."""
    with pytest.raises(AudioDeviceError) as caught:
        find_device(wanted, [PULSE, SOCKET])

    assert str(caught.value) == (
        f"microphone.device={wanted!r} is not there; there are: "
        "pulse, ALSA; Codec: USB Audio (hw:4,0), ALSA = usb:0000:00:14.0-1.4"
    )


def test_stable_name_is_the_surest_that_means_the_device_alone() -> None:
    """Socket before name, and the name without its number unless two have it."""
    devices = [*ALL, SOCKET, TWIN]

    names = [stable_name(device, devices) for device in devices]

    assert names == [
        "HD Webcam: USB Audio",
        "USB PnP Sound: Audio (hw:2,0), ALSA",
        "USB PnP Sound: Audio (hw:3,0), ALSA",
        "pulse, ALSA",
        "pulse, JACK",
        "usb:0000:00:14.0-1.4",
        "usb:0000:00:14.0-2",
    ]


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
