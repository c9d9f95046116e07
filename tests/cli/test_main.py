"""The command line as a user meets it: output, messages, exit codes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.commands import edgeasd
from tests.detect.models import make_model
from tests.installation import fault_that_passes

RATE = 16_000


def edgeasd_process(
    *arguments: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "edgeasd", *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a recording that goes wrong and well again."""
    folder = tmp_path_factory.mktemp("cli")
    make_model(folder / "tiny.onnx")
    (folder / "sound.wav").write_bytes(fault_that_passes())
    return folder


def configure(folder: Path, text: str = "", machine: str = "") -> Path:
    """Write a configuration that plays the recording, changed by what is given."""
    path = folder / "edgeasd.toml"
    path.write_text(
        f'state_dir = "state"\n{text}\n[[machine]]\nname = "m1"\nmodel = "tiny.onnx"\n{machine}\n'
        + ("" if "[machine." in machine else '[machine.file]\npath = "sound.wav"\npaced = false\n')
    )
    return path


def assert_told(config: Path, *parts: str) -> None:
    """Check that the daemon tells what it refuses, in a line that holds *parts*, and stays."""
    command = [sys.executable, "-m", "edgeasd", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        told = next(line for line in daemon.stderr if "not applied" in line)
        assert daemon.poll() is None
        daemon.terminate()
        _, rest = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, rest
    assert "Traceback" not in rest
    for part in parts:
        assert part in told


def assert_refused(result: subprocess.CompletedProcess[str], exit_code: int, *parts: str) -> None:
    """Check that a command ended with one line that holds *parts*, and no traceback."""
    assert result.returncode == exit_code, result.stderr
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("edgeasd: ")
    for part in parts:
        assert part in line


def test_score_tells_start_and_end_of_an_alarm(folder: Path) -> None:
    """A line for each score, every 256 ms once there are 10 s, and the events among them."""
    result = edgeasd_process("score", "--model", folder / "tiny.onnx", folder / "sound.wav")

    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0
    assert result.stderr == ""
    assert [row["first_sample"] for row in rows] == [4096 * index for index in range(len(rows))]
    assert [row["event"] for row in rows if row["event"]] == ["start", "end"]
    (start,) = [row for row in rows if row["event"] == "start"]
    assert 25 < start["end_s"] < 30


def test_score_csv_holds_what_the_json_lines_hold(folder: Path) -> None:
    """Both forms have the same rows, floats in full."""
    command = ("score", "--model", folder / "tiny.onnx", folder / "sound.wav")
    lines = edgeasd(*command).stdout.splitlines()

    rows = list(csv.DictReader(edgeasd(*command, "--format", "csv").stdout.splitlines()))

    assert [float(row["score"]) for row in rows] == [json.loads(line)["score"] for line in lines]
    assert list(rows[0]) == list(json.loads(lines[0]))


def test_score_of_a_file_whose_name_is_no_text_gives_the_name_as_it_is(folder: Path) -> None:
    """A name that is not UTF-8 stands in the table byte for byte."""
    path = folder / os.fsdecode(b"sound-\xff.wav")
    path.symlink_to("sound.wav")

    result = edgeasd_process(
        *("score", "--model", folder / "tiny.onnx", "--format", "csv", path),
        environment={"PYTHONIOENCODING": "utf-8:strict"},  # as in most locales
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1].startswith(f"{path},")


def test_score_per_clip_of_ten_seconds_is_the_score_of_its_only_full_window_run(
    folder: Path,
) -> None:
    """The clip score of 10 s equals the one streaming score, bit for bit."""
    clip = folder / "clip.wav"
    samples, _ = soundfile.read(folder / "sound.wav", frames=160_000, dtype="int16")
    soundfile.write(clip, samples, RATE)

    whole = json.loads(
        edgeasd("score", "--model", folder / "tiny.onnx", "--per", "clip", clip).stdout
    )
    streamed = edgeasd("score", "--model", folder / "tiny.onnx", clip).stdout

    assert whole["n_windows"] == 31
    assert whole["score"] == json.loads(streamed)["score"]
    assert whole["anomalous"] is False


def test_model_prints_what_the_file_says(folder: Path) -> None:
    """The document is printed as JSON, with the hash and without the bulk of the references."""
    result = edgeasd_process("model", folder / "tiny.onnx")

    document = json.loads(result.stdout)
    assert document["id"] == "tiny"
    assert len(document["sha256"]) == 64
    assert "float32" not in document["sections"][0]["references"]


@pytest.mark.parametrize(
    ("text", "machine", "parts"),
    [
        ("nod = 'x'", "", ["unknown key 'nod'; did you mean 'node'?"]),
        ("", "[machine.alarm]\nraise_after = 0", ["alarm.raise_after=0 must be at least 1"]),
        ("[mqtt]\nport = 'x'", "", ["mqtt.port='x' must be a whole number"]),
        ("[mqtt", "", ["is not valid TOML", "line 2"]),
    ],
)
def test_run_with_a_wrong_configuration_names_the_key(
    folder: Path, text: str, machine: str, parts: list[str]
) -> None:
    """The message names file and key, and the exit code keeps systemd from restarting."""
    result = edgeasd("run", "--config", configure(folder, text, machine))

    assert_refused(result, os.EX_CONFIG, *parts)


def test_run_with_several_mistakes_tells_each_in_a_line(folder: Path) -> None:
    """The lines come one after another, each with the file, and with the name of the machine."""
    config = configure(folder, "[mqtt]\nport = 'x'", "[machine.alarm]\nraise_after = 0")

    result = edgeasd("run", "--config", config)

    assert result.returncode == os.EX_CONFIG
    assert result.stderr.splitlines() == [
        f"edgeasd: {config}: machine 'm1': alarm.raise_after=0 must be at least 1",
        f"edgeasd: {config}: mqtt.port='x' must be a whole number",
    ]


def test_run_without_a_configuration_says_where_one_is(folder: Path) -> None:
    """A missing file is named together with the example."""
    result = edgeasd_process("run", "--config", folder / "none.toml")

    assert_refused(result, os.EX_CONFIG, "none.toml", "deploy/edgeasd.example.toml")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["cannot be read (No such file or directory)", "python -m train export"]),
        (b"", ["is not an ONNX model"]),
        (b"something else entirely", ["is not an ONNX model"]),
    ],
)
def test_run_with_a_foreign_model_names_the_file(
    folder: Path, content: bytes | None, parts: list[str]
) -> None:
    """The log names the model file; the daemon waits for one that can be used."""
    path = folder / "foreign.onnx"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    config = configure(folder)
    config.write_text(config.read_text().replace("tiny.onnx", path.name))

    assert_told(config, "machine 'm1'", "foreign.onnx", *parts)


def test_run_with_an_unknown_section_lists_those_there_are(folder: Path) -> None:
    """The log names the section and the choice."""
    assert_told(configure(folder, machine='section = "07"'), "section='07' must be one of 00")


def test_run_with_thresholds_that_the_model_contradicts_names_both(folder: Path) -> None:
    """What only the model tells is refused as a model is, and the daemon stays."""
    config = configure(folder, machine="[machine.alarm]\nclear_threshold = 1e9")

    assert_told(config, "alarm.clear_threshold=1e+09 must be at most the model's threshold=")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["sound2.wav", "does not exist"]),
        (b"", ["sound2.wav", "is empty"]),
        (b"no sound at all, but text" * 100, ["sound2.wav"]),
    ],
)
def test_score_of_what_is_no_recording_names_the_file(
    folder: Path, content: bytes | None, parts: list[str]
) -> None:
    """A missing, empty or foreign file is named; what could be scored before it is printed."""
    bad = folder / "sound2.wav"
    bad.unlink(missing_ok=True)
    if content is not None:
        bad.write_bytes(content)

    result = edgeasd("score", "--model", folder / "tiny.onnx", folder / "sound.wav", bad)

    assert_refused(result, os.EX_NOINPUT, *parts)
    assert len(result.stdout.splitlines()) > 100


def test_score_of_several_files_goes_on_after_each_that_is_bad(folder: Path) -> None:
    """Each bad one is told, the others are scored, and the exit code is that of the first bad."""
    (folder / "empty.wav").touch()
    files = [folder / name for name in ("empty.wav", "sound.wav", "gone.wav", "sound.wav")]

    result = edgeasd("score", "--model", folder / "tiny.onnx", "--per", "clip", *files)
    by_window = edgeasd("score", "--model", folder / "tiny.onnx", *files)

    rows = [json.loads(line)["file"] for line in result.stdout.splitlines()]
    assert rows == [str(folder / "sound.wav")] * 2
    assert (
        result.stderr.splitlines()
        == by_window.stderr.splitlines()
        == [
            f"edgeasd: {folder}/empty.wav: is empty; record it again",
            f"edgeasd: {folder}/gone.wav: does not exist; check the path",
        ]
    )
    assert result.returncode == by_window.returncode == os.EX_NOINPUT


def test_score_says_which_scores_rest_on_what_sound(folder: Path) -> None:
    """A score of flat sound makes no event, and whether such a clip is anomalous is not known."""
    sound, _ = soundfile.read(folder / "sound.wav", frames=40 * RATE, dtype="float32")
    sound[15 * RATE : 16 * RATE] = 0.0
    sound[30 * RATE : 31 * RATE : 2] = 1.0
    soundfile.write(folder / "spoilt.wav", sound, RATE)
    command = ("score", "--model", folder / "tiny.onnx", folder / "spoilt.wav")

    rows = [json.loads(line) for line in edgeasd(*command).stdout.splitlines()]
    (clip,) = [json.loads(line) for line in edgeasd(*command, "--per", "clip").stdout.splitlines()]

    def signals(start_s: float, end_s: float) -> set[str]:
        return {row["signal"] for row in rows if start_s <= row["end_s"] < end_s}

    assert signals(0.0, 15.25) == signals(26.0, 30.0) == {"ok"}
    assert signals(15.25, 25.0) == {"flat_signal"}
    assert signals(31.25, 40.0) == {"clipping"}
    assert {row["event"] for row in rows if row["signal"] == "flat_signal"} == {None}
    assert (clip["signal"], clip["anomalous"]) == ("flat_signal", None)


def test_score_of_sound_that_cannot_hold_what_the_model_listens_to_warns(folder: Path) -> None:
    """Of a telephone headset everything sounds anomalous; why is told, once a file."""
    sound, _ = soundfile.read(folder / "sound.wav", frames=12 * RATE, dtype="int16")
    soundfile.write(folder / "phone.wav", sound[::2], RATE // 2)

    for per in ("clip", "window"):
        result = edgeasd(
            *("score", "--model", folder / "tiny.onnx", "--per", per, folder / "phone.wav")
        )

        assert result.returncode == 0
        assert result.stderr.splitlines() == [
            "edgeasd: warning: 8000 Hz holds nothing above 4 kHz, the model listens up to 8 kHz; "
            "use a source of 16000 Hz or more (phone.wav)"
        ]


def test_devices_without_portaudio_names_the_package(folder: Path) -> None:
    """Where PortAudio is missing the message names the Debian package."""
    blocker = folder / "blocked"
    blocker.mkdir(exist_ok=True)
    (blocker / "sounddevice.py").write_text('raise OSError("PortAudio library not found")\n')

    result = edgeasd_process("devices", environment={"PYTHONPATH": f"{blocker}:{Path.cwd()}"})

    assert_refused(result, os.EX_UNAVAILABLE, "install the package libportaudio2")


def test_check_names_what_is_wrong_and_goes_on(folder: Path) -> None:
    """Every check has a line; the exit code is that of the first failure; warnings do not count."""
    result = edgeasd_process("check", "--config", configure(folder, "[mqtt]\nport = 1"))

    lines = result.stdout.splitlines()
    assert result.returncode == os.EX_UNAVAILABLE
    assert {line[:5] for line in lines} <= {"ok   ", "warn ", "FAIL "}
    assert [line for line in lines if line.startswith("FAIL")] == [lines[-1]]
    assert "broker" in lines[-1]
    assert "check mqtt.port" in lines[-1]


def test_check_json_holds_what_the_lines_hold(folder: Path) -> None:
    """Subject, grade, text and exit code of each verdict, as JSON lines."""
    result = edgeasd("check", "--json", "--config", folder / "none.toml")

    (verdict,) = map(json.loads, result.stdout.splitlines())
    assert result.returncode == os.EX_CONFIG
    assert (verdict["subject"], verdict["grade"]) == ("configuration", "failure")
    assert verdict["exit_code"] == os.EX_CONFIG


def test_check_tells_each_mistake_of_the_configuration(folder: Path) -> None:
    """Each has a verdict of its own."""
    config = configure(folder, "[mqtt]\nport = 'x'", "[machine.alarm]\nraise_after = 0")

    result = edgeasd("check", "--config", config)

    assert result.returncode == os.EX_CONFIG
    assert result.stdout.splitlines() == [
        f"FAIL configuration: {config}: machine 'm1': alarm.raise_after=0 must be at least 1",
        f"FAIL configuration: {config}: mqtt.port='x' must be a whole number",
    ]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_to_a_full_disk_is_told_in_a_line(folder: Path, form: str, unbuffered: str) -> None:
    """Whether the first line finds the disk full, or what was buffered at the end."""
    model, sound = folder / "tiny.onnx", folder / "sound.wav"
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "edgeasd", "score", "--model", model, "--format", form, sound],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )

    assert result.returncode == os.EX_IOERR
    assert result.stderr.splitlines()[-1] == (
        "edgeasd: the output cannot be written (No space left on device); free some of its disk, "
        "or choose another file"
    )
    assert "Traceback" not in result.stderr


def test_output_that_is_closed_changes_nothing_else(folder: Path) -> None:
    """Neither the exit code nor a word: whoever closes it does not want to read."""
    model, sound = folder / "tiny.onnx", folder / "sound.wav"
    command = [sys.executable, "-m", "edgeasd", "score", "--model", model, sound]
    result = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )

    assert (result.returncode, result.stderr) == (0, "")
