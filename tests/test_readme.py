"""The README says what the code does."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from edgeasd.cli.main import main
from edgeasd.common import errors
from edgeasd.common.config import (
    AlarmConfig,
    ClipsConfig,
    Config,
    FileConfig,
    MicrophoneConfig,
    SimulatorConfig,
)
from edgeasd.common.config_file import parse_config
from edgeasd.publish.payloads.state import State
from edgeasd.publish.topics import Topics

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text()


def section(title: str) -> str:
    """Return the text under the heading *title*."""
    _, _, rest = README.partition(f"# {title}\n")
    assert rest, title
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text: str) -> list[str]:
    """Return the code in the first column of the table in *text*."""
    return re.findall(r"^\| `([^`]*)` \|", text, flags=re.MULTILINE)


def test_readme_lists_every_command() -> None:
    """The table of commands has each command of the command line."""
    commands = [f"edgeasd {name}" for name in main.commands]

    assert sorted(first_column(section("Monitor a machine"))) == sorted(commands)


def test_readme_lists_every_topic() -> None:
    """The table of topics has each topic."""
    topics = Topics("{base}", "{node}")
    machine = "{machine}"

    assert [row for row in first_column(section("Topics and payloads")) if "/" in row] == [
        topics.availability,
        topics.health,
        topics.check,
        topics.state(machine),
        topics.event(machine),
        topics.score(machine),
    ]


def test_readme_lists_every_state() -> None:
    """The table of states has each state."""
    rows = [row for row in first_column(section("Topics and payloads")) if "/" not in row]

    assert sorted(rows) == sorted(get_args(State))


@pytest.mark.parametrize(
    ("row", "table"),
    [
        ("top", Config),
        ("`[clips]`", ClipsConfig),
        ("`[machine.microphone]`", MicrophoneConfig),
        ("`[machine.file]`", FileConfig),
        ("`[machine.simulator]`", SimulatorConfig),
        ("`[machine.alarm]`", AlarmConfig),
    ],
)
def test_readme_lists_every_key_of_a_table(row: str, table: type) -> None:
    """The table of configuration tables has each key of those that it spells out."""
    (line,) = [one for one in section("Configuration").splitlines() if one.startswith(f"| {row} |")]
    keys = {item.name for item in fields(table)} - {"machine", "mqtt", "clips"}

    assert keys <= set(re.findall(r"`(\w+)`", line))


def test_readme_configuration_is_valid() -> None:
    """The smallest configuration that the README shows can be used."""
    (text,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)

    config = parse_config(re.sub(r"^ +", "", text, flags=re.MULTILINE), Path("/etc/x.toml"))

    assert config.machine[0].name == "press07"


def test_readme_lists_every_exit_code() -> None:
    """The table of exit codes has each code of an error, and 0."""
    codes = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.EdgeasdError)
    }
    rows = re.findall(r"^\| (\d+) \|", section("Exit codes"), flags=re.MULTILINE)

    assert {int(row) for row in rows} == codes | {os.EX_OK}


def test_readme_links_lead_somewhere() -> None:
    """Every file that the README links to is there."""
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)

    assert links
    assert [link for link in links if not (CHECKOUT / link.partition("#")[0]).exists()] == []


def test_readme_make_targets_exist() -> None:
    """Every ``make`` target that the README names is in the Makefile."""
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = " ".join(re.findall(r"^([a-z0-9. -]+):", makefile, re.MULTILINE)).split()
    named = set(re.findall(r"\bmake ([a-z0-9.-]+)", README))

    assert named >= {"run", "test"}
    assert named - set(targets) == set()
