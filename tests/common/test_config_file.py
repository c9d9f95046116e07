"""Tests of the configuration file."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.config.file import load_config, parse_config
from edgeasd.common.config.keys import (
    AlarmConfig,
    Config,
    FileConfig,
    MachineConfig,
    MicrophoneConfig,
    SimulatorConfig,
)
from edgeasd.common.errors import ConfigError

PATH = Path("/etc/edgeasd/edgeasd.toml")
LEVEL_RULE = (
    "must be 1 to 64 letters, digits, '_', '.' or '-', as it becomes a level of an MQTT topic"
)
BASE_RULE = (
    "must be topic levels joined by '/', without '+', '#', blanks, control characters or a "
    "'$' in front, and at most 1000 characters"
)
MACHINE = '[[machine]]\nname = "press"\nmodel = "press.onnx"\n'


def refusal(text: str) -> str:
    """Return the lines with which the configuration *text* is refused, without the path."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, PATH)
    lines = caught.value.lines
    assert all(line.startswith(f"{PATH}: ") for line in lines)
    return "\n".join(line.removeprefix(f"{PATH}: ") for line in lines)


def test_parse_config_least_text_gives_defaults() -> None:
    """A machine with a name and a model is a configuration; all else has defaults."""
    config = parse_config(MACHINE, PATH)

    machine = MachineConfig("press", Path("/etc/edgeasd/press.onnx"))
    assert config == Config(machine=(machine,))
    assert machine.source == MicrophoneConfig()
    assert machine.alarm == AlarmConfig()


def test_parse_config_several_machines_keep_their_order_and_sources() -> None:
    """Machines come in the order of the file, each with the source of its own table."""
    text = (
        '[[machine]]\nname = "a"\nmodel = "m"\nsection = "01"\n[machine.file]\npath = "a.wav"\n'
        '[[machine]]\nname = "b"\nmodel = "m"\n[machine.simulator]\nseed = 7\n'
        '[[machine]]\nname = "c"\nmodel = "m"\n[machine.microphone]\ndevice = "USB"\n'
        "[machine.alarm]\nthreshold = 2\nclear_threshold = 1\n"
    )

    config = parse_config(text, PATH)

    model = Path("/etc/edgeasd/m")
    assert config.machine == (
        MachineConfig("a", model, section="01", source=FileConfig(Path("/etc/edgeasd/a.wav"))),
        MachineConfig("b", model, source=SimulatorConfig(seed=7)),
        MachineConfig(
            "c",
            model,
            source=MicrophoneConfig(device="USB"),
            alarm=AlarmConfig(threshold=2.0, clear_threshold=1.0),
        ),
    )


def test_parse_config_relative_paths_start_at_the_file() -> None:
    """Relative paths are taken from the folder of the file, absolute ones stay."""
    text = (
        'state_dir = "state"\n[mqtt]\npassword_file = "secret"\nca_file = "/ssl/ca.pem"\n'
        'cert_file = "node.pem"\nkey_file = "../node.key"\n'
        '[[machine]]\nname = "a"\nmodel = "models/a.onnx"\n[machine.file]\npath = "a.wav"\n'
    )

    config = parse_config(text, Path("/srv/line/edgeasd.toml"))

    assert config.state_dir == Path("/srv/line/state")
    assert config.mqtt.password_file == Path("/srv/line/secret")
    assert config.mqtt.ca_file == Path("/ssl/ca.pem")
    assert config.mqtt.cert_file == Path("/srv/line/node.pem")
    assert config.mqtt.key_file == Path("/srv/line/../node.key")
    assert config.machine[0].model == Path("/srv/line/models/a.onnx")
    assert config.machine[0].source == FileConfig(Path("/srv/line/a.wav"))


@pytest.mark.parametrize(
    ("host_name", "node"),
    [("edge-03", "edge-03"), ("Fabrik Süd", "Fabrik-S-d"), ("", "edge"), ("x" * 70, "x" * 64)],
)
def test_parse_config_node_is_the_host_name_as_a_topic_level(
    monkeypatch: pytest.MonkeyPatch, host_name: str, node: str
) -> None:
    """The node is the host name, with what a topic level cannot hold replaced."""
    monkeypatch.setattr(socket, "gethostname", lambda: host_name)

    assert parse_config(MACHINE, PATH).node == node


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs at least one [[machine]] table"),
        ("machine = []", "needs at least one [[machine]] table"),
        ('[machine]\nname = "a"', "needs at least one [[machine]] table"),
        ("machine = 3", "needs at least one [[machine]] table"),
        ("machine = [3]", "machine[0] must be a table"),
        (
            "[[machines]]",
            "unknown key 'machines'; did you mean 'machine'?\nneeds at least one [[machine]] table",
        ),
        ("[mqqt]\n" + MACHINE, "unknown key 'mqqt'; did you mean 'mqtt'?"),
        (
            "x = 1\n" + MACHINE,
            "unknown key 'x'; known are machine, node, state_dir, log_level, mqtt, clips",
        ),
        ("[mqtt]\nprot = 1\n" + MACHINE, "unknown key 'mqtt.prot'; did you mean 'port'?"),
        ("mqtt = 1\n" + MACHINE, "mqtt must be a table"),
        (MACHINE + "modle = 1", "machine 'press': unknown key 'modle'; did you mean 'model'?"),
        (
            MACHINE + "[machine.microfone]",
            "machine 'press': unknown key 'microfone'; did you mean 'microphone'?",
        ),
        (
            MACHINE + "[machine.source]",
            (
                "machine 'press': unknown key 'source'; known are name, model, section, "
                "microphone, file, simulator, alarm"
            ),
        ),
        (
            MACHINE + "[machine.alarm]\nrais_after = 1",
            "machine 'press': unknown key 'alarm.rais_after'; did you mean 'raise_after'?",
        ),
        (
            MACHINE + "[machine.microphone]\ndevise = 1",
            "machine 'press': unknown key 'microphone.devise'; did you mean 'device'?",
        ),
        ('[[machine]]\nmodel = "m"', "machine[0].name is missing"),
        ('[[machine]]\nname = "a"', "machine 'a': model is missing"),
        (MACHINE + MACHINE, "machine.name='press' must be unique"),
        (MACHINE + '[[machine]]\nname = "b"', "machine 'b': model is missing"),
        (MACHINE + "[machine.file]", "machine 'press': file.path is missing"),
        (
            MACHINE + '[machine.simulator]\n[machine.file]\npath = "a"',
            "machine 'press': must have one source, not file and simulator",
        ),
        (
            MACHINE + '[machine.microphone]\n[machine.simulator]\n[machine.file]\npath = "a"',
            "machine 'press': must have one source, not microphone and file and simulator",
        ),
        (MACHINE + "file = 3", "machine 'press': file must be a table"),
        (MACHINE + "alarm = []", "machine 'press': alarm must be a table"),
        (MACHINE + "section = 0", "machine 'press': section=0 must be a string"),
        ('[[machine]]\nname = "a/b"\nmodel = "m"', f"machine[0].name='a/b' {LEVEL_RULE}"),
        ('[[machine]]\nname = ""\nmodel = "m"', f"machine[0].name='' {LEVEL_RULE}"),
        ('[[machine]]\nname = "a"\nmodel = ""', "machine 'a': model='' must be a path"),
        ('node = "a+b"\n' + MACHINE, f"node='a+b' {LEVEL_RULE}"),
        (
            'log_level = "loud"\n' + MACHINE,
            "log_level='loud' must be one of debug, info, warning, error",
        ),
        ("[mqtt]\nport = 0\n" + MACHINE, "mqtt.port=0 must be from 1 to 65535"),
        ('[mqtt]\nport = "1883"\n' + MACHINE, "mqtt.port='1883' must be a whole number"),
        ("[mqtt]\nport = true\n" + MACHINE, "mqtt.port=True must be a whole number"),
        ("[mqtt]\nkeepalive_s = 4\n" + MACHINE, "mqtt.keepalive_s=4 must be from 5 to 3600"),
        ('[mqtt]\nbase = "a/+"\n' + MACHINE, f"mqtt.base='a/+' {BASE_RULE}"),
        ('[mqtt]\nbase = "a/"\n' + MACHINE, f"mqtt.base='a/' {BASE_RULE}"),
        ('[mqtt]\nbase = "/a"\n' + MACHINE, f"mqtt.base='/a' {BASE_RULE}"),
        ('[mqtt]\nbase = "$SYS"\n' + MACHINE, f"mqtt.base='$SYS' {BASE_RULE}"),
        ('[mqtt]\nbase = "a b"\n' + MACHINE, f"mqtt.base='a b' {BASE_RULE}"),
        ('[mqtt]\nbase = "a\\u0000"\n' + MACHINE, f"mqtt.base='a\\x00' {BASE_RULE}"),
        ('[mqtt]\nhost = ""\n' + MACHINE, "mqtt.host='' must be a name of at most 1000 characters"),
        (
            f'[mqtt]\nbase = "{"b" * 1_001}"\n{MACHINE}',
            f"mqtt.base='{'b' * 37}...{'b' * 38}' {BASE_RULE}",
        ),
        (
            f'[mqtt]\nusername = "{"u" * 65_536}"\n{MACHINE}',
            f"mqtt.username='{'u' * 37}...{'u' * 38}' must be at most 65535 bytes",
        ),
        ('[mqtt]\npassword_file = ""\n' + MACHINE, "mqtt.password_file='' must be a path"),
        ("[mqtt]\npassword_file = 3\n" + MACHINE, "mqtt.password_file=3 must be a path"),
        (
            '[mqtt]\nca_file = "a"\ncert_file = "b"\n' + MACHINE,
            "mqtt.cert_file and mqtt.key_file must be given together",
        ),
        (
            '[mqtt]\ncert_file = "b"\nkey_file = "c"\n' + MACHINE,
            "mqtt.cert_file needs mqtt.ca_file, which switches TLS on",
        ),
        (
            "[mqtt]\nhealth_interval_s = inf\n" + MACHINE,
            "mqtt.health_interval_s=inf must be a number",
        ),
        (
            "[mqtt]\nscore_interval_s = 0.5\n" + MACHINE,
            "mqtt.score_interval_s=0.5 must be at least 1",
        ),
        (
            MACHINE + "[machine.microphone]\nsample_rate = 7999",
            "machine 'press': microphone.sample_rate=7999 must be 0 or from 8000 to 384000",
        ),
        (
            MACHINE + "[machine.microphone]\nchannel = 64",
            "machine 'press': microphone.channel=64 must be from 0 to 63",
        ),
        (
            MACHINE + "[machine.alarm]\nraise_after = 0",
            "machine 'press': alarm.raise_after=0 must be at least 1",
        ),
        (
            MACHINE + "[machine.alarm]\nthreshold = nan",
            "machine 'press': alarm.threshold=nan must be a number",
        ),
        (
            MACHINE + "[machine.alarm]\nthreshold = 1.5\nclear_threshold = 2",
            "machine 'press': alarm.clear_threshold=2 must be at most threshold=1.5",
        ),
    ],
)
def test_parse_config_mistake_is_named(text: str, message: str) -> None:
    """Every mistake is told with the name of the key, its value and the rule that it breaks."""
    assert refusal(text) == message


def test_parse_config_all_mistakes_are_told_by_the_names_of_machines() -> None:
    """One reading tells what is wrong in every table, and which machine it is about."""
    text = (
        'log_level = "loud"\nnoed = "a"\n[mqtt]\nport = 0\ncert_file = "a"\n'
        '[[machine]]\nname = "press07"\nmodle = "a"\n[machine.alarm]\nraise_after = 0\n'
        '[[machine]]\nname = "fan"\nmodel = "m"\n[machine.alarm]\n'
        "threshold = 1\nclear_threshold = 2\n[machine.microphone]\nchanel = 1\n"
        '[[machine]]\nname = "a/b"\nmodel = "m"\n'
    )

    assert refusal(text).splitlines() == [
        "machine 'press07': unknown key 'modle'; did you mean 'model'?",
        "machine 'fan': unknown key 'microphone.chanel'; did you mean 'channel'?",
        "unknown key 'noed'; did you mean 'node'?",
        "machine 'press07': alarm.raise_after=0 must be at least 1",
        "machine 'fan': alarm.clear_threshold=2 must be at most threshold=1",
        f"machine[2].name='a/b' {LEVEL_RULE}",
        "log_level='loud' must be one of debug, info, warning, error",
        "mqtt.port=0 must be from 1 to 65535",
    ]


def test_parse_config_machines_of_one_name_are_told_by_index() -> None:
    """A name that two machines have does not say which of them is meant."""
    machine = '[[machine]]\nname = "a"\n'

    assert refusal(f'{machine}model = "m"\n{machine}') == "machine[1].model is missing"


@pytest.mark.parametrize("base", ["", "acme", "acme/plant1/press", "a$b", "Werk-Süd/ä"])
def test_parse_config_base_of_topic_levels_is_accepted(base: str) -> None:
    """Levels joined by '/' are a base, in any script."""
    assert parse_config(f'[mqtt]\nbase = "{base}"\n{MACHINE}', PATH).mqtt.base == base


def test_parse_config_broken_toml_is_told_with_its_line() -> None:
    """A mistake in the TOML itself is told with line and column."""
    message = refusal(MACHINE + "section =\n")

    assert message == "is not valid TOML: Invalid value (at line 4, column 10)"


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "a = 1" + "0" * 5000, "a = 2026-02-30", "\ufeff\ufeffa = 1"]
)
def test_parse_config_what_the_parser_cannot_take_is_not_toml(text: str) -> None:
    """Nesting, numbers and dates beyond the parser are refused like any other broken TOML."""
    assert refusal(text).startswith("is not valid TOML: ")


def test_parse_config_error_hides_its_cause_but_keeps_it() -> None:
    """The cause of a refusal stays on the exception, for debugging."""
    with pytest.raises(ConfigError) as caught:
        parse_config("", PATH)

    assert caught.value.__cause__ is not None


def test_load_config_reads_the_file(tmp_path: Path) -> None:
    """A file gives what its text gives."""
    path = tmp_path / "edgeasd.toml"
    path.write_text(MACHINE, encoding="utf-8")

    assert load_config(path) == parse_config(MACHINE, path)


@pytest.mark.parametrize(
    "content",
    [
        MACHINE.encode("utf-8-sig"),
        MACHINE.replace("\n", "\r\n").encode(),
    ],
    ids=["byte order mark", "CRLF"],
)
def test_load_config_written_on_windows_is_read(tmp_path: Path, content: bytes) -> None:
    """The byte order mark and line ends of an editor on Windows do no harm."""
    path = tmp_path / "edgeasd.toml"
    path.write_bytes(content)

    assert load_config(path) == parse_config(MACHINE, path)


def test_load_config_missing_file_names_the_example(tmp_path: Path) -> None:
    """Without a file, the message says which one and where to start from."""
    path = tmp_path / "edgeasd.toml"

    with pytest.raises(ConfigError) as caught:
        load_config(path)

    assert str(caught.value) == (
        f"{path}: cannot be read (No such file or directory); "
        "see deploy/edgeasd.example.toml for one to start from"
    )
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOENT


def test_load_config_folder_is_refused(tmp_path: Path) -> None:
    """A folder in place of the file is refused like a file that cannot be read."""
    with pytest.raises(ConfigError, match=r": cannot be read \(Is a directory\); see deploy/"):
        load_config(tmp_path)


def test_load_config_not_utf8_is_told_with_its_position(tmp_path: Path) -> None:
    """A file in another encoding is refused, with the first byte that is wrong."""
    path = tmp_path / "edgeasd.toml"
    path.write_bytes(b'node = "S\xfcd"\n')

    with pytest.raises(ConfigError) as caught:
        load_config(path)

    assert str(caught.value) == f"{path}: is not UTF-8 text (invalid start byte at byte 9)"


@given(st.binary(max_size=200))
def test_load_config_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Any bytes in place of a configuration are refused with a ConfigError."""
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError):
        load_config(path)
