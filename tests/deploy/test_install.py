"""``deploy/install.sh`` in a clean Debian."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from edgeasd import __version__
from edgeasd.capture.simulator.rotating_machine import render_clip
from tests.deploy.checkouts import make_newer, make_uninstallable
from tests.deploy.debian import INSTALL, Debian
from tests.deploy.namespaces import eventually
from tests.detect.models import make_model

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.fixture
def debian(installed_debian: Debian, tmp_path: Path) -> Iterator[Debian]:
    """A Debian with edgeasd in it, of this test alone."""
    debian = installed_debian.copy(tmp_path / "root")
    yield debian
    debian.remove()


def _mode(path: Path) -> int:
    assert path.stat().st_uid == 0
    return stat.S_IMODE(path.stat().st_mode)


def _named_edgeasd(debian: Debian) -> list[str]:
    """Return what bears that name in the root; nothing within what does, nor what tests planted."""
    found = {str(path.relative_to(debian.root)) for path in debian.root.rglob("*edgeasd*")}
    return sorted(
        path
        for path in found
        if not path.startswith("srv/") and not any(path.startswith(f"{one}/") for one in found)
    )


def test_install_in_a_clean_debian_makes_it_run(installed_debian: Debian) -> None:
    """Nothing but the script is needed: packages, program, unit and configuration are there."""
    root = installed_debian.root

    assert installed_debian.run("edgeasd", "--version").stdout.split()[-1] == __version__
    assert _mode(root / "etc/edgeasd") == 0o755
    assert _mode(root / "etc/edgeasd/models") == 0o755
    assert _mode(root / "etc/edgeasd/edgeasd.toml") == 0o644
    assert not (root / "etc/edgeasd/mqtt_password").exists()
    assert _mode(root / "etc/systemd/system/edgeasd.service") == 0o644
    wanted = root / "etc/systemd/system/multi-user.target.wants/edgeasd.service"
    assert wanted.is_symlink()
    # Root's umask was 077: the service's user must read this all the same.
    release = Path(str(root) + str((root / "opt/edgeasd/current").readlink()))
    assert all(stat.S_IMODE(path.lstat().st_mode) & 0o004 for path in release.rglob("*"))
    assert not (root / "root/.cache").exists()


def test_install_runs_nothing_that_another_user_left(installed_debian: Debian) -> None:
    """Neither from the folder that it is started in, nor from a home, nor by a search path."""
    assert (installed_debian.root / "srv/planted/ensurepip.py").exists()
    assert not (installed_debian.root / "srv/planted/done").exists()


def test_install_holds_a_lock_that_is_roots_alone(installed_debian: Debian) -> None:
    """What others can open they can lock, and keep every upgrade back."""
    assert _mode(installed_debian.root / "opt/edgeasd/lock") == 0o600


def test_install_says_what_comes_next(installed_debian: Debian) -> None:
    """The last lines are what is left to do, in order."""
    said = installed_debian.first_words

    assert "installing python3 python3-venv libportaudio2" in said
    _, _, steps = said.partition("is installed; now\n")
    assert "edgeasd check" in steps
    assert "'systemctl enable --now edgeasd'" in steps


def test_installed_unit_verifies_without_a_word(installed_debian: Debian) -> None:
    """``systemd-analyze verify`` in that Debian has nothing to say of the installed unit."""
    said = installed_debian.run("systemd-analyze", "verify", "--man=no", "edgeasd.service").stdout

    assert said == ""


def test_installed_program_scores_a_recording(installed_debian: Debian) -> None:
    """The installed program hears the worn bearing with the model that comes with it."""
    clip = render_clip(seed=7, duration_s=15, faulty=True)
    soundfile.write(installed_debian.root / "srv" / "worn.wav", clip, 16_000)
    # A link followed inside of the root.
    (model,) = installed_debian.root.glob("opt/edgeasd/releases/*/lib/*/site-packages/**/demo.onnx")
    inside = "/" + str(model.relative_to(installed_debian.root))

    said = installed_debian.run(
        "edgeasd", "score", "--model", inside, "--section", "00", "/srv/worn.wav"
    ).stdout

    assert "start" in [json.loads(line)["event"] for line in said.splitlines()]


def test_install_again_changes_nothing(debian: Debian) -> None:
    """The same version again keeps program and configuration; a loose password file is closed."""
    config = debian.root / "etc/edgeasd/edgeasd.toml"
    config.write_text('node = "mine"\n')
    password = debian.root / "etc/edgeasd/mqtt_password"
    password.write_text("secret\n")
    password.chmod(0o644)
    before = (debian.root / "opt/edgeasd/current").readlink()

    said = debian.run(INSTALL).stdout

    assert "nothing has changed" in said
    assert (debian.root / "opt/edgeasd/current").readlink() == before
    assert len(list((debian.root / "opt/edgeasd/releases").iterdir())) == 1
    assert config.read_text() == 'node = "mine"\n'
    assert password.read_text() == "secret\n"
    assert _mode(password) == 0o600


def test_install_mends_what_was_removed(debian: Debian) -> None:
    """A lost unit, command or leftover of a run that was killed is put right by another run."""
    (debian.root / "etc/systemd/system/edgeasd.service").unlink()
    (debian.root / "usr/local/bin/edgeasd").unlink()
    (debian.root / "opt/edgeasd/releases/half").mkdir()

    debian.run(INSTALL)

    assert (debian.root / "etc/systemd/system/edgeasd.service").exists()
    assert debian.run("edgeasd", "--version").stdout.split()[-1] == __version__
    assert len(list((debian.root / "opt/edgeasd/releases").iterdir())) == 1


def test_install_of_a_wheel_upgrades(debian: Debian) -> None:
    """A wheel in place of the checkout is installed; the old version is gone afterwards."""
    make_newer(debian.root / "srv/newer")
    pip = "/opt/edgeasd/current/bin/pip"
    debian.run(pip, "wheel", "--quiet", "--no-deps", "--wheel-dir=/srv", "/srv/newer")

    said = debian.run(INSTALL, "/srv/edgeasd-9.9.9-py3-none-any.whl").stdout

    assert "edgeasd, version 9.9.9 is installed" in said
    assert debian.run("edgeasd", "--version").stdout.split()[-1] == "9.9.9"
    assert len(list((debian.root / "opt/edgeasd/releases").iterdir())) == 1


def test_upgrade_that_cannot_be_installed_leaves_the_old_version(debian: Debian) -> None:
    """A package that cannot be had ends the upgrade before anything of the old one is touched."""
    make_uninstallable(debian.root / "srv/newer")
    before = (debian.root / "opt/edgeasd/current").readlink()

    result = debian.run("/srv/newer/deploy/install.sh", check=False)

    assert result.returncode != 0
    assert "click>=8888" in result.stdout
    assert (debian.root / "opt/edgeasd/current").readlink() == before
    assert len(list((debian.root / "opt/edgeasd/releases").iterdir())) == 1
    assert debian.run("edgeasd", "--version").stdout.split()[-1] == __version__


def test_upgrade_by_packages_that_were_tampered_with_leaves_the_old_version(debian: Debian) -> None:
    """A wheel of the right name and version that is another one is not installed."""
    shutil.copytree(debian.wheels, debian.root / "srv/wheels")
    (wheel,) = (debian.root / "srv/wheels").glob("click-*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("click/planted.py", "")

    result = debian.run("env", "PIP_FIND_LINKS=/srv/wheels", INSTALL, check=False)

    assert result.returncode != 0
    assert "DO NOT MATCH THE HASHES" in result.stdout
    assert len(list((debian.root / "opt/edgeasd/releases").iterdir())) == 1
    assert debian.run("edgeasd", "--version").stdout.split()[-1] == __version__


def test_wheel_without_the_program_is_refused_wherever_it_is_started(debian: Debian) -> None:
    """The checkout that it may be started in is not taken for what the wheel should hold."""
    make_newer(debian.root / "srv/newer")
    (debian.root / "srv/newer/edgeasd/service/daemon.py").unlink()
    pip = "/opt/edgeasd/current/bin/pip"
    debian.run(pip, "wheel", "--quiet", "--no-deps", "--wheel-dir=/srv", "/srv/newer")

    result = debian.run(
        *("sh", "-c", f"cd $(dirname {INSTALL})/..; exec {INSTALL} /srv/edgeasd-9.9.9-*.whl"),
        check=False,
    )

    assert result.returncode != 0
    assert "No module named 'edgeasd.service.daemon'" in result.stdout
    assert debian.run("edgeasd", "--version").stdout.split()[-1] == __version__


def test_install_does_not_believe_what_others_can_have_put_there(debian: Debian) -> None:
    """Neither the old releases, nor a password that is a link: its target keeps owner and mode."""
    shadow, config = debian.root / "etc/shadow", debian.root / "etc/edgeasd"
    before = shadow.stat()
    os.chown(config, 1234, 1234)
    (config / "mqtt_password").symlink_to("/etc/shadow")
    debian.run(INSTALL)
    assert (shadow.stat().st_mode, shadow.stat().st_gid) == (before.st_mode, before.st_gid)

    os.chown(debian.root / "opt/edgeasd", 1234, 1234)
    result = debian.run(INSTALL, check=False)

    assert result.returncode == 1
    assert result.stdout == (
        "install.sh: /opt/edgeasd must belong to root alone; see what is in it, remove it, and "
        "run this again\n"
    )


def test_purge_follows_no_link(debian: Debian) -> None:
    """What a user of the state directory put there goes, and not what it leads to."""
    state = debian.root / "var/lib/private/edgeasd"
    state.mkdir(parents=True)
    (debian.root / "var/lib/edgeasd").symlink_to("private/edgeasd")
    (state / "clips").symlink_to("/home")
    (debian.root / "home/kept").touch()

    debian.run(INSTALL, "--purge")

    assert (debian.root / "home/kept").exists()
    assert not state.exists()


def test_uninstall_leaves_configuration_and_data(debian: Debian) -> None:
    """What was written by hand and what was heard stays, and the message says where."""
    data = debian.root / "var/lib/private/edgeasd"
    data.mkdir(parents=True)
    (data / "outbox.sqlite3").touch()
    (debian.root / "var/lib/edgeasd").symlink_to("private/edgeasd")

    said = debian.run(INSTALL, "--uninstall").stdout

    assert "kept: /etc/edgeasd, /var/lib/edgeasd" in said
    assert _named_edgeasd(debian) == [
        "etc/edgeasd",
        "var/lib/edgeasd",
        "var/lib/private/edgeasd",
    ]
    assert (data / "outbox.sqlite3").exists()


def test_purge_leaves_nothing(debian: Debian) -> None:
    """Configuration, drop-ins and data go as well; a second time there is nothing to complain."""
    (debian.root / "etc/systemd/system/edgeasd.service.d").mkdir()
    (debian.root / "var/lib/private/edgeasd").mkdir(parents=True)
    (debian.root / "var/lib/edgeasd").symlink_to("private/edgeasd")

    debian.run(INSTALL, "--purge")

    assert _named_edgeasd(debian) == []
    assert not list((debian.root / "opt").iterdir())
    assert not (debian.root / "root/.cache").exists()
    debian.run(INSTALL, "--purge")


def test_install_in_the_next_debian_listens_after_the_boot(next_debian: Debian) -> None:
    """Debian 13, its Python and its service manager take the unit without a word."""
    said = next_debian.run(INSTALL).stdout
    folder = next_debian.root / "etc/edgeasd"
    make_model(folder / "models/tiny.onnx")
    (folder / "edgeasd.toml").write_text(
        '[[machine]]\nname = "m1"\nmodel = "models/tiny.onnx"\n[machine.simulator]\n'
    )

    with next_debian.boot() as booted:
        eventually(lambda: booted.show("ActiveState") == "active", "it listens")
        journal = booted.journal()

    assert f"edgeasd, version {__version__} is installed" in said
    assert "Started" in journal
    assert not [line for line in journal.splitlines() if "nsupported" in line or "gnoring" in line]
