"""What can be told of ``deploy/install.sh`` without running it; tests/service runs it."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.conftest import CHECKOUT

SCRIPT = CHECKOUT / "deploy" / "install.sh"


def _run(*arguments: str, nobody: bool = False) -> subprocess.CompletedProcess[str]:
    drop = ["setpriv", "--reuid=65534", "--clear-groups"] if nobody and os.geteuid() == 0 else []
    return subprocess.run(
        # As text, because the checkout may lie where only its owner can read.
        [*drop, "bash", "-c", SCRIPT.read_text(), "install.sh", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_install_script_has_no_findings_of_shellcheck() -> None:
    """The linter of shell scripts has nothing to say."""
    assert shutil.which("shellcheck"), "install the Debian package shellcheck"

    result = subprocess.run(
        ["shellcheck", SCRIPT], capture_output=True, text=True, check=False, timeout=60
    )

    assert (result.returncode, result.stdout) == (0, "")


def test_install_script_help_names_every_option() -> None:
    """``--help`` names what the script knows, and does nothing."""
    result = _run("--help")

    assert result.returncode == 0
    assert all(option in result.stdout for option in ("--uninstall", "--purge", "WHEEL"))


def test_install_script_refuses_an_unknown_option() -> None:
    """A mistyped option is answered by the usage, not by an installation."""
    result = _run("--uninstal")

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: install.sh")


@pytest.mark.parametrize("arguments", [(), ("--uninstall",), ("--purge",)])
def test_install_script_refuses_to_run_without_root(arguments: tuple[str, ...]) -> None:
    """Who is not root is told what to do."""
    result = _run(*arguments, nobody=True)

    assert result.returncode == 1
    assert result.stderr == "install.sh: must be run as root, for example with sudo\n"
