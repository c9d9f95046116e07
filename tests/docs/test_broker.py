"""The commands of docs/install.md make a broker that a node can use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.docs.pages import script_of

pytestmark = pytest.mark.network

HOST = "broker.plant.example"

STEPS = ("name", "connection", "TLS", "password", "login", "node", "message")

_SHIMS = {
    "sudo": 'exec "$@"',
    "apt-get": "exit 0",
    "systemctl": "mosquitto --daemon -c /etc/mosquitto/mosquitto.conf",
    "mosquitto_passwd": "printf 'secret\\nsecret\\n' | /usr/bin/mosquitto_passwd \"$@\"",
}
"""Replacements for commands that change this computer, or ask on the terminal."""

_INSIDE = """\
set -eu
mount --bind etc /etc/mosquitto
mount --bind var /var/lib/mosquitto
mount --bind hosts /etc/hosts
ip link set lo up
. ./commands
"""

_CHECK = """\
from pathlib import Path
from edgeasd.cli.check.broker import check_broker_steps
from edgeasd.common.config.file import load_config
for verdict in check_broker_steps(load_config(Path("edgeasd.toml"))):
    print(verdict.grade, verdict.subject)
    print(verdict.text)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own")
def test_broker_set_up_as_documented_is_one_that_a_node_can_use(tmp_path: Path) -> None:
    """Authority, certificate, accounts and shipped files fit together, by strict checks too."""
    for name, text in _SHIMS.items():
        shim = tmp_path / "bin" / name
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f"#!/bin/sh\n{text}\n")
        shim.chmod(0o755)
    (tmp_path / "etc" / "certs").mkdir(parents=True)
    (tmp_path / "var").mkdir()
    shutil.chown(tmp_path / "var", "mosquitto")
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
    (tmp_path / "deploy").symlink_to(CHECKOUT / "deploy")
    (tmp_path / "mqtt_password").write_text("secret\n")
    (tmp_path / "mqtt_password").chmod(0o600)
    (tmp_path / "edgeasd.toml").write_text(
        f'node = "edge-01"\nstate_dir = "state"\n[mqtt]\nhost = "{HOST}"\n'
        'port = 8883\nversion = "5"\nca_file = "authority/ca.pem"\nusername = "edge-01"\n'
        'password_file = "mqtt_password"\n'
        '[[machine]]\nname = "m"\nmodel = "none.onnx"\n[machine.simulator]\n'
    )
    check = f"{sys.executable} -c '{_CHECK}'"
    verify = "openssl verify -x509_strict -purpose sslserver -CAfile authority/ca.pem"
    (tmp_path / "commands").write_text(
        f"{script_of('docs/install.md')}cd ..\n{check}\n{verify} authority/broker.pem\n"
    )

    result = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", _INSIDE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
    )

    verdicts = re.findall(r"^(\w+) broker: (\w+)$", result.stdout, flags=re.MULTILINE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert verdicts == [("ok", step) for step in STEPS], result.stdout
