"""The documentation says what the code does."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import get_args

import click
import jsonschema
import pytest

from edgeasd import __version__
from edgeasd.cli.main import main
from edgeasd.common import errors
from edgeasd.common.config.file import parse_config
from edgeasd.common.config.keys import (
    AlarmConfig,
    ClipsConfig,
    Config,
    FileConfig,
    MicrophoneConfig,
    SimulatorConfig,
)
from edgeasd.publish.payloads.state import State
from edgeasd.publish.topics import Topics
from tests.conftest import CHECKOUT
from tests.docs.pages import (
    NAMES,
    NOT_RUN,
    Block,
    blocks,
    command_lines,
    first_column,
    read_page,
    section,
)

MOST_LINES = 150
RUN = {
    "docs/first-hour.md",  # test_commands.py
    "docs/recordings.md",  # test_commands.py
    "docs/install.md",  # test_broker.py
    "docs/training.md",  # tests/train/test_documentation.py
}
"""Pages whose commands are run, but for those of `NOT_RUN`."""


def test_readme_is_short() -> None:
    """A stranger reads it to the end."""
    assert len(read_page("README.md").splitlines()) <= MOST_LINES


def test_readme_lists_every_command() -> None:
    """The table of commands has each command of the command line."""
    commands = [f"edgeasd {name}" for name in main.commands]

    assert sorted(first_column(section("README.md", "Commands"))) == sorted(commands)


def test_readme_lists_every_page() -> None:
    """No page of the documentation is hard to find."""
    text = section("README.md", "Documentation")

    assert [
        path for path in (CHECKOUT / "docs").glob("*.md") if f"(docs/{path.name})" not in text
    ] == []


def test_mqtt_lists_every_topic() -> None:
    """The table of topics has each topic."""
    topics = Topics("{base}", "{node}")
    machine = "{machine}"

    assert first_column(section("docs/mqtt.md", "Topics and payloads")) == [
        topics.availability,
        topics.health,
        topics.check,
        topics.state(machine),
        topics.event(machine),
        topics.score(machine),
    ]


def test_mqtt_examples_follow_their_schemas() -> None:
    """Each payload has an example, and each example is one that its schema allows."""
    examples = {block.text: json.loads(block.text) for block in blocks("json", page="docs/mqtt.md")}
    names = [re.fullmatch(r"edgeasd\.(\w+)/1", one["schema"])[1] for one in examples.values()]  # type: ignore[index]

    assert names == ["event", "state", "score", "health"]
    for name, example in zip(names, examples.values(), strict=True):
        schema = json.loads((CHECKOUT / "deploy" / "schemas" / f"{name}.schema.json").read_text())
        jsonschema.validate(example, schema)


def test_operation_lists_every_state() -> None:
    """The table of states has each state."""
    assert sorted(first_column(section("docs/operation.md", "States"))) == sorted(get_args(State))


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
def test_configuration_lists_every_key_of_a_table(row: str, table: type) -> None:
    """The table of configuration tables has each key of those that it spells out."""
    text = section("docs/configuration.md", "Configuration")
    (line,) = [one for one in text.splitlines() if one.startswith(f"| {row} |")]
    keys = {item.name for item in fields(table)} - {"machine", "mqtt", "clips"}

    assert keys <= set(re.findall(r"`(\w+)`", line))


def test_smallest_configuration_is_valid() -> None:
    """The smallest configuration that the documentation shows can be used."""
    smallest = blocks("toml", page="docs/install.md")[0]

    config = parse_config(smallest.text, Path("/etc/x.toml"))

    assert config.machine[0].name == "press07"


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.page)
def test_configurations_are_valid(block: Block) -> None:
    """What is shown of a configuration can be used, with a machine where it shows none."""
    text = block.text
    if "[[machine]]" not in text:
        machine = '[[machine]]\nname = "m"\nmodel = "m.onnx"\n'
        is_source = text.startswith("[machine.")
        text = machine + text if is_source else f"{text}\n{machine}[machine.simulator]\n"

    assert parse_config(text, Path("/etc/x.toml")).machine


def test_operation_lists_every_exit_code() -> None:
    """The table of exit codes has each code of an error, and 0."""
    codes = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.EdgeasdError)
    }
    text = section("docs/operation.md", "Exit codes")
    rows = re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)

    assert {int(row) for row in rows} == codes | {os.EX_OK}


def anchor_of(heading: str) -> str:
    """Return what a link to *heading* ends with, as GitHub has it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    """Every file and every heading that a page links to is there."""
    folder = (CHECKOUT / page).parent
    lost = []
    for link in re.findall(r"\]\((?!http)([^)]+)\)", read_page(page)):
        path, _, anchor = link.partition("#")
        target = folder / path if path else CHECKOUT / page
        if not target.exists():
            lost.append(link)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in map(anchor_of, headings):
                lost.append(link)

    assert lost == []


def test_make_targets_exist() -> None:
    """Every ``make`` target that the documentation names is in the Makefile."""
    database = subprocess.run(
        ["make", "--dry-run", "--print-data-base", "help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    targets = re.findall(r"^([a-z0-9.-]+):", database.stdout, re.MULTILINE)
    code = [line for _, line in command_lines()]
    code += [text for page in NAMES for text in re.findall(r"`([^`\n]+)`", read_page(page))]
    named = {name for text in code for name in re.findall(r"^make ([a-z0-9.-]+)", text)}

    assert named >= {"run", "test"}
    assert named - set(targets) == set()


def used_commands() -> list[tuple[str, list[str]]]:
    """Return the page and the words after ``edgeasd`` of each command in a block or in the text."""
    uses = [(page, re.split(r" [|&>]| 2>|;", line)[0]) for page, line in command_lines()]
    uses += [(page, use) for page in NAMES for use in re.findall(r"`([^`\n]+)`", read_page(page))]
    words = [
        (page, shlex.split(use.removeprefix("sudo "), comments=True)[1:])
        for page, use in uses
        if re.match(r"(sudo )?edgeasd ", use)
    ]
    return [(page, use) for page, use in words if use]


def test_commands_and_options_exist() -> None:
    """Every command and option that the documentation uses is there."""
    wrong = []
    for page, (name, *words) in used_commands():
        command = main.commands.get(name, click.Command(name))
        options = {option for parameter in command.params for option in parameter.opts}
        unknown = [word for word in words if word.startswith("--") and word not in options]
        if name not in main.commands or unknown:
            wrong.append((page, name, unknown))

    assert len(used_commands()) > 40
    assert wrong == []


def test_benchmarks_exist() -> None:
    """Every benchmark that the documentation names is there."""
    named = {
        name
        for page in NAMES
        for name in re.findall(r"python -m tests\.benchmarks\.(\w+)", read_page(page))
    }

    assert named
    assert [one for one in named if not (CHECKOUT / f"tests/benchmarks/{one}.py").exists()] == []


def test_commands_are_run_or_it_is_said_why_not() -> None:
    """No block of commands is left out by mistake."""
    lost = [
        block for block in blocks("sh") if block.page not in RUN and not block.reason_not_to_run
    ]

    assert lost == []


@pytest.mark.parametrize(("page", "beginning"), NOT_RUN)
def test_reasons_not_to_run_are_of_blocks_that_are_there(page: str, beginning: str) -> None:
    """The list of what is not run holds nothing that is gone."""
    assert [block for block in blocks("sh", page=page) if block.text.startswith(beginning)]


def test_changelog_has_this_version() -> None:
    """The newest dated section of the changelog is that of this version."""
    newest = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", read_page("CHANGELOG.md"), re.MULTILINE
    )

    assert newest[0] == __version__
