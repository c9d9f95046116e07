"""The first moments of the daemon: signals, and a state directory that another one uses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeasd.common.errors import InUseError, StorageError
from edgeasd.service.process.state_lock import LOCK_NAME, StateLock
from tests.installation import SIMULATOR, Installation, finish

PATIENCE_S = 60.0

# Gets a signal at the moment at which it begins to import a module.
START = """
import os, signal, sys

module, number, config = sys.argv[1:]

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.Signals[number])

sys.meta_path.insert(0, Finder())
sys.argv = ["edgeasd", "run", "--config", config]
from edgeasd.__main__ import start
start()
"""
# From the first of all to one that the making of the first machine imports.
LATE = "edgeasd.capture.simulator.simulator"
MODULES = ["click", "onnxruntime", LATE]


def start(installation: Installation, module: str, name: str) -> subprocess.Popen[str]:
    """Start the daemon, which gets the signal *name* as it begins to import *module*."""
    installation.configure(SIMULATOR)
    process = subprocess.Popen(
        [sys.executable, "-c", START, module, name, str(installation.config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    installation.processes.append(process)
    return process


def wait_for_line(process: subprocess.Popen[str], part: str) -> None:
    """Wait until the daemon logs a line with *part* in it."""
    assert process.stderr is not None
    assert any(part in line for line in process.stderr), f"it ended without {part!r}"


@pytest.mark.parametrize("module", MODULES)
def test_hangup_during_the_start_is_a_reload_after_it(
    installation: Installation, module: str
) -> None:
    """It ends nothing, whenever it comes, and is not forgotten."""
    process = start(installation, module, "SIGHUP")

    wait_for_line(process, f"read {installation.config} again")

    process.terminate()
    finish(process)


@pytest.mark.parametrize(
    ("module", "name"), [*((module, "SIGTERM") for module in MODULES), (LATE, "SIGINT")]
)
def test_stop_during_the_start_is_a_clean_end(
    installation: Installation, module: str, name: str
) -> None:
    """Exit code 0, no traceback, and a word where there is no log of machines yet."""
    log = finish(start(installation, module, name))

    assert "Traceback" not in log
    assert (f"edgeasd: stopped by {name} at the start\n" in log) == (module != LATE)


def test_second_daemon_on_a_state_directory_leaves_with_words(installation: Installation) -> None:
    """It names the process that is at work there; once that has died, it is let in."""
    installation.configure(SIMULATOR)
    first = installation.start()
    wait_for_line(first, "learning")

    second = installation.start()
    _, said = second.communicate(timeout=PATIENCE_S)
    assert first.poll() is None
    first.kill()
    first.wait(PATIENCE_S)
    third = installation.start()
    wait_for_line(third, "learning")
    third.terminate()
    finish(third)

    assert second.returncode == InUseError.exit_code == os.EX_TEMPFAIL
    assert said == (
        f"edgeasd: state_dir={installation.folder / 'state'} is in use by process "
        f"{first.pid}; stop the "
        "service first, or choose another state_dir\n"
    )


def test_state_directory_is_held_until_it_is_let_go(tmp_path: Path) -> None:
    """The file says by whom; what is left of it then is no obstacle."""
    lock = StateLock(tmp_path / "state")
    content = (tmp_path / "state" / LOCK_NAME).read_text()
    with pytest.raises(InUseError, match=f"is in use by process {os.getpid()}; stop the service"):
        StateLock(tmp_path / "state")

    lock.close()
    lock.close()

    assert content == f"{os.getpid()}\n"
    StateLock(tmp_path / "state").close()


def _link(path: Path) -> None:
    path.symlink_to("victim")


@pytest.mark.parametrize("plant", [_link, os.mkfifo, Path.mkdir], ids=["link", "fifo", "folder"])
def test_lock_that_is_no_file_is_refused(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """It is neither followed nor waited for, and what a link leads to stays as it was."""
    (tmp_path / "victim").write_text("mine")
    plant(tmp_path / LOCK_NAME)

    with pytest.raises(StorageError, match="lock must be a file that can be written; change its"):
        StateLock(tmp_path)

    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may what it must not do here")
def test_state_directory_of_another_user_is_not_for_root(tmp_path: Path) -> None:
    """Nothing of root's gets into it, which its owner could not open or might have a link for."""
    directory = tmp_path / "state"
    directory.mkdir()
    os.chown(directory, 12345, 12345)

    with pytest.raises(StorageError, match="belongs to user 12345 and is not for root; start"):
        StateLock(directory)

    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("content", ["", "no number", "9" * 100])
def test_holder_that_is_not_known_is_another_process(tmp_path: Path, content: str) -> None:
    """What the file says is not trusted further than it can be read."""
    lock = StateLock(tmp_path)
    (tmp_path / LOCK_NAME).write_text(content)

    with pytest.raises(InUseError, match=r"is in use by (another process|process 9{20});"):
        StateLock(tmp_path)
    lock.close()
