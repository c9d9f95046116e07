"""Commands by root in a folder of another user, who waited for them: table of traps and commands.

Whatever is there, nothing of root's is changed, read out or waited for, and the command ends with
words.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from edgeasd.publish.outbox.outbox import Outbox
from tests.commands import edgeasd
from tests.conftest import CHECKOUT
from tests.detect.models import make_model, normal_sound
from tests.publish.brokers import free_port

DEADLINE_S = 120
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be tricked out of more"),
    pytest.mark.timeout(DEADLINE_S),  # what waits for ever fails
]

USER = 65_534
RATE = 16_000
SECRET = b"root's own\n"
TEXT = """
state_dir = "state"
[mqtt]
host = "127.0.0.1"
port = {port}
[[machine]]
name = "fan"
model = "fan.onnx"
[machine.file]
path = "sound.wav"
paced = false
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands need."""
    folder = tmp_path_factory.mktemp("site")
    make_model(folder / "fan.onnx", clip_windows=1)
    soundfile.write(folder / "sound.wav", normal_sound(45 * RATE, 3), RATE, subtype="PCM_16")
    soundfile.write(folder / "short.wav", normal_sound(4 * RATE, 4), RATE, subtype="PCM_16")
    (folder / "edgeasd.toml").write_text(TEXT.format(port=free_port()))
    (folder / "state").mkdir()
    Outbox(folder / "state" / "outbox.sqlite3").close()
    (folder / "fan" / "train").mkdir(parents=True)
    (folder / "pictures").mkdir()
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A copy of it that belongs to the user, with a vault of root's beside it."""
    folder = tmp_path / "home"
    shutil.copytree(template, folder)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)
    vault = tmp_path / "vault"
    vault.mkdir(mode=0o700)
    (vault / "secret").write_bytes(SECRET)
    (vault / "secret").chmod(0o600)
    return folder


COMMANDS = {
    "learn": "learn --replace fan sound.wav --config edgeasd.toml",
    "calibrate": "calibrate fan sound.wav --false-alarms-per-week 5000 --config edgeasd.toml",
    "calibrate live": "calibrate fan --duration 9h --false-alarms-per-week 5000"
    " --config edgeasd.toml",
    "undo": "calibrate fan --undo --config edgeasd.toml",
    "explain": "explain --model fan.onnx --normal sound.wav --picture pictures/short.png short.wav",
    "score": "score --model fan.onnx --per clip --plot pictures short.wav",
    "record": "record fan --duration 20s --config edgeasd.toml",
    "check": "check --config edgeasd.toml",
}
PLACES = {
    "learn": ["fan.onnx", ".fan.onnx.lock"],
    "calibrate": ["fan.onnx.fan.json"],
    "calibrate live": ["fan.onnx.fan.scores"],
    "undo": [".fan.onnx.fan.json.lock"],
    "explain": ["pictures/short.png", "pictures"],
    "score": ["pictures/short.png", "pictures"],
    "record": ["fan", "fan/train", "fan/recording.csv"],
    "check": ["state", "state/outbox.sqlite3", "state/outbox.sqlite3-wal", "state/clips"],
}
TRAPS: dict[str, Callable[[Path, Path], object]] = {
    "link to a file": lambda path, vault: path.symlink_to(vault / "secret"),
    "link to nothing": lambda path, vault: path.symlink_to(vault / "new"),
    "link to a folder": lambda path, vault: path.symlink_to(vault),
    "pipe": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "hard link": lambda path, vault: path.hardlink_to(vault / "secret"),
    "file": lambda path, _: path.write_bytes(b"of the user\n"),
}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize(
    ("command", "place"),
    [(command, place) for command, places in PLACES.items() for place in places],
)
def test_trap_catches_no_command_of_root(folder: Path, command: str, place: str, trap: str) -> None:
    """Nothing of root's is changed, nothing is added to it, and nobody waits."""
    vault = folder.with_name("vault")
    path = folder / place
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    TRAPS[trap](path, vault)
    if trap != "hard link":
        os.chown(path, USER, USER, follow_symlinks=False)

    result = edgeasd(*COMMANDS[command].split(), cwd=folder)
    output = result.stdout + result.stderr

    assert "Traceback" not in output
    if result.returncode:
        assert output.strip()
    assert SECRET.decode().strip() not in output
    secret = vault / "secret"
    assert [one.name for one in vault.iterdir()] == ["secret"]
    assert secret.read_bytes() == SECRET
    assert (stat.S_IMODE(secret.stat().st_mode), secret.stat().st_uid) == (0o600, 0)


@pytest.mark.parametrize("trap", ["pipe", "settings"])
def test_picture_does_not_obey_what_the_working_directory_holds(
    template: Path, tmp_path: Path, trap: str
) -> None:
    """Matplotlib would read it, and by it run programs: here TeX, with words of the user's."""
    rc = tmp_path / "matplotlibrc"
    if trap == "pipe":
        os.mkfifo(rc)
    else:
        rc.write_text("text.usetex: True\n")
    line = COMMANDS["explain"].replace("pictures/", str(tmp_path) + "/").split()
    line = [str(template / word) if (template / word).is_file() else word for word in line]

    result = subprocess.run(
        [sys.executable, "-m", "edgeasd", *line],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "short.png").read_bytes().startswith(b"\x89PNG")
