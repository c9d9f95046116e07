"""Files that are read whole are files, and small; no other makes anybody wait."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from edgeasd.common.config.file import load_config
from edgeasd.common.config.keys import MqttConfig
from edgeasd.common.errors import ConfigError
from edgeasd.common.files.small_file import MOST_BYTES, read_small
from edgeasd.publish.mqtt.credentials import read_password, tls_context

NO_FILE = r"is not a regular file"
TOO_LARGE = rf"is larger than {MOST_BYTES} bytes"
WORST = {
    "pipe": NO_FILE,
    "/dev/zero": NO_FILE,
    "/dev/tty": r"is not a regular file|No such device or address",
    "large": TOO_LARGE,
    "folder": r"Is a directory",
    "gone": r"No such file or directory",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what is not to be read whole."""
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(("name", "told"), WORST.items(), ids=WORST)
def test_file_that_has_no_end_or_no_beginning_is_told_by_name(
    folder: Path, name: str, told: str
) -> None:
    """Whatever file it is, the message has its path, and comes at once."""
    path = folder / name

    for read in (
        lambda: load_config(path),
        lambda: read_password(path),
        lambda: tls_context(MqttConfig(ca_file=path)),
    ):
        with pytest.raises(ConfigError, match=f"{re.escape(str(path))}.*({told})"):
            read()


def test_certificate_and_key_are_files_too(folder: Path) -> None:
    """The TLS library would read on for ever."""
    config = MqttConfig(cert_file=folder / "pipe", key_file=folder / "pipe")

    with pytest.raises(ConfigError, match=NO_FILE):
        tls_context(config)


def test_small_file_is_read_to_the_last_byte(tmp_path: Path) -> None:
    """As many bytes as are allowed are taken, not one less."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)

    assert read_small(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="is larger than 99 bytes"):
        read_small(path, 99)


def test_password_that_no_packet_holds_is_told(tmp_path: Path) -> None:
    """It is told before the MQTT client stumbles over it."""
    path = tmp_path / "password"
    path.write_text("p" * 65_535 + "\n" + "x" * 100_000)
    longest = read_password(path)
    path.write_text("p" * 65_536)

    assert longest == "p" * 65_535
    with pytest.raises(ConfigError) as caught:
        read_password(path)
    assert str(caught.value) == (
        f"mqtt.password_file={path} must have at most 65535 bytes in its first line"
    )
