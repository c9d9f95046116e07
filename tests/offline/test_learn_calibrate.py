"""From normal sound to a trusted threshold: the commands of the first day, as they are typed."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from edgeasd.baseline.tail import Rate
from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.cli.main import main
from edgeasd.common.config.file import load_config
from edgeasd.common.config.keys import Config
from edgeasd.common.errors import ModelError
from edgeasd.common.types import Float32Array
from edgeasd.detect.pipeline import clip_outputs
from edgeasd.models.calibration_file import (
    calibrated_model,
    calibration_path,
    read_calibrations,
    write_calibrations,
)
from edgeasd.offline.learn import TEMPLATE, Learned
from tests.detect.models import faulty_sound, load_model, make_model, normal_sound

pytestmark = pytest.mark.usefixtures("shared_trials")

RATE = 16_000
TEXT = """
node = "n1"
state_dir = "state"
[[machine]]
name = "press07"
model = "press07.onnx"
[machine.file]
path = "live.flac"
paced = false
"""


def write(path: Path, samples: Float32Array) -> None:
    """Write a recording."""
    soundfile.write(path, samples, RATE, subtype="PCM_16")


def muted(n_samples: int) -> Float32Array:
    """Return what a muted input gives: a converter that hears itself."""
    steps = np.random.default_rng(1).normal(0.0, 0.6, n_samples)
    return (np.round(steps) / 32_768).astype(np.float32)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, recordings, and a model learned from one of them."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "edgeasd.toml").write_text(TEXT)
    (folder / "clips").mkdir()
    sound = normal_sound(330 * RATE, 1)
    for number, start in enumerate(range(0, 330, 10)):
        clip = sound[start * RATE : (start + 10) * RATE]
        write(folder / "clips" / f"section_00_source_train_normal_{number:04d}.flac", clip)
    write(folder / "normal.flac", normal_sound(330 * RATE, 2))
    write(folder / "live.flac", normal_sound(330 * RATE, 3))
    write(folder / "silent.flac", np.zeros(330 * RATE, np.float32))
    write(folder / "short.flac", normal_sound(60 * RATE, 4))
    write(folder / "muted.flac", muted(70 * RATE))
    change = np.sin(2.0 * np.pi * 700.0 * np.arange(70 * RATE) / RATE).astype(np.float32)
    write(folder / "new.flac", normal_sound(70 * RATE, 5) + 0.02 * change)
    assert edgeasd(folder, "learn press07 clips").exit_code == 0
    return folder


def edgeasd(folder: Path, line: str) -> Result:
    """Run a command line in *folder*, whose names in it are files of the folder."""
    command, *words = line.split()
    words = [str(folder / word) if (folder / word).exists() else word for word in words]
    return CliRunner().invoke(main, [command, "--config", str(folder / "edgeasd.toml"), *words])


def config_of(folder: Path) -> Config:
    """Return the configuration of the site."""
    return load_config(folder / "edgeasd.toml")


def refused(folder: Path, line: str, exit_code: int) -> str:
    """Return the one line with which a command line is refused."""
    result = edgeasd(folder, line)
    assert result.exit_code == exit_code, result.output
    (message,) = result.stderr.splitlines()
    return message.removeprefix("edgeasd: ").replace(f"{folder}/", "")


@pytest.fixture(scope="module")
def calibration(site: Path) -> tuple[str, str]:
    """The site file after a calibration, and what the command printed."""
    path = calibration_path(config_of(site).machine[0])
    result = edgeasd(site, "calibrate press07 normal.flac --false-alarms-per-week 500")
    assert result.exit_code == 0, result.output
    assert path.stat().st_mode & stat.S_IROTH
    text = path.read_text()
    path.unlink()
    return text, result.stdout


@pytest.fixture
def calibrated(site: Path, calibration: tuple[str, str]) -> Iterator[str]:
    """What the command printed; the site file is there until the test ends."""
    path = calibration_path(config_of(site).machine[0])
    path.write_text(calibration[0])
    yield calibration[1]
    path.unlink(missing_ok=True)


def test_learn_takes_seconds_and_tells_what_it_learned(site: Path) -> None:
    """Six minutes of clips, a first threshold, and a warning that ten minutes are wanted."""
    began = time.monotonic()

    result = edgeasd(site, "learn --replace press07 clips")

    assert time.monotonic() - began < 60.0
    lines = result.stdout.splitlines()
    assert lines[0] == "learned from 33 clips of 10 s (5 min) from 1 recording"
    assert lines[1].startswith("typical score ")
    assert lines[2].startswith("first threshold ")
    assert lines[3] == (
        "warning: 5 min of sound are too little for a good model; learn from 10 min or more"
    )


def test_learned_threshold_far_above_the_typical_score_is_told() -> None:
    """A machine that would hear nothing but loud faults does not go by unnoticed."""
    near, far = (
        Learned(Path("m.onnx"), 100, 1, 50.0, threshold, Rate(0.0, 0.0, 0.0)).lines()
        for threshold in (199.0, 450.0)
    )

    assert len(near) == 4
    assert far[3] == (
        "warning: the threshold is 9 times the typical score, so faint faults would be missed; "
        "learn from more sound, or calibrate"
    )


def test_learned_model_tells_normal_from_faulty(site: Path) -> None:
    """The daemon's own replay: normal sound stays below the threshold, the fault is above."""
    write(site / "faulty.flac", faulty_sound(30 * RATE, 6))

    scores = {}
    for name in ("short", "faulty"):
        path = str(site / f"{name}.flac")
        line = ["score", "--model", str(site / "press07.onnx"), "--per", "clip", path]
        scores[name] = json.loads(CliRunner().invoke(main, line).stdout)

    assert not scores["short"]["anomalous"]
    assert scores["faulty"]["anomalous"]


def test_learned_model_embeds_a_window_as_its_mean(site: Path) -> None:
    """The graph of a few bytes is the mean over time; the document was appended to it."""
    model = load_model(site / "press07.onnx")

    output = clip_outputs(model, read_clip(site / "short.flac"))[3]

    assert (site / "press07.onnx").read_bytes().startswith(TEMPLATE.read_bytes())
    assert output.embedding.shape == (128,)
    assert model.document.training["n_clips"] == 33
    assert model.normal_spectrum(0) is not None


def test_calibrate_writes_a_version_that_is_in_force(site: Path, calibrated: str) -> None:
    """The file names its model; the machine's model then has the new threshold."""
    machine = config_of(site).machine[0]
    model = load_model(machine.model)

    made = read_calibrations(machine).versions[-1]
    in_force = calibrated_model(machine, model)

    assert made.model_sha256 == model.sha256
    assert in_force.warning == ""
    assert in_force.model.document.sections[0].threshold == made.threshold
    assert in_force.model.document.sections[0].clear_threshold == made.clear_threshold
    assert made.low_per_week <= made.expected_per_week <= made.high_per_week
    assert made.expected_per_week == pytest.approx(500.0, rel=0.3)
    assert "independent decisions" in calibrated
    shown = json.loads(CliRunner().invoke(main, ["model", str(machine.model)]).stdout)
    assert shown["sites"]["press07"]["threshold"] == made.threshold
    assert f"threshold {made.threshold:.4g}" in calibrated


def test_calibrate_says_and_draws_what_the_sound_cannot_support(site: Path) -> None:
    """One a year from five minutes: set for it, and not promised."""
    pytest.importorskip("matplotlib")
    picture = site / "picture.png"

    result = edgeasd(
        site, f"calibrate press07 normal.flac --false-alarms-per-week 0.02 --plot {picture}"
    )
    calibration_path(config_of(site).machine[0]).unlink()

    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "warning: this sound is too short to confirm 1 a year" in result.stdout
    assert "decisions are few, at least 300 are recommended" in result.stdout
    assert "of normal sound, the estimate would be good to a factor of two" in result.stdout


def test_calibrate_listens_live_without_files(site: Path, calibrated: str) -> None:
    """The machine's own source is heard for as long as is asked."""
    del calibrated

    result = edgeasd(site, "calibrate press07 --duration 6m --false-alarms-per-week 500")

    assert result.exit_code == 0, result.output
    made = read_calibrations(config_of(site).machine[0]).versions[-1]
    assert made.sources == ()
    assert made.sound_s == pytest.approx(320.0, abs=1.0)


def test_undo_brings_back_version_after_version(site: Path, calibrated: str) -> None:
    """First the calibration before, then the model's own threshold, then there is nothing."""
    del calibrated
    machine = config_of(site).machine[0]
    first = read_calibrations(machine).versions[-1]
    write_calibrations(machine, read_calibrations(machine).with_version(replace(first, number=2)))

    once = edgeasd(site, "calibrate press07 --undo")
    assert read_calibrations(machine).versions == (first,)
    twice = edgeasd(site, "calibrate press07 --undo")

    assert once.stdout.startswith("version 2 is undone; ")
    assert "(version 1)" in once.stdout
    assert "(the model's own)" in twice.stdout
    own = load_model(machine.model).document.sections[0].threshold
    assert (
        calibrated_model(machine, load_model(machine.model)).model.document.sections[0].threshold
        == own
    )
    assert refused(site, "calibrate press07 --undo", os.EX_CONFIG) == (
        "machine='press07' has no calibration to undo"
    )


def test_added_references_make_new_sound_normal(site: Path, calibrated: str) -> None:
    """What was above the threshold is below it; the model file stays as it was; undo undoes.

    A clip of an alarm that sounds like the new sound is named.
    """
    del calibrated
    machine = config_of(site).machine[0]
    clips = config_of(site).clips_dir
    clips.mkdir(parents=True)
    name = "20261123T010203Z_press07_n1-0123abcd-000007.flac"
    write(clips / name, soundfile.read(site / "new.flac", dtype="float32")[0][: 30 * RATE])
    content = machine.model.read_bytes()

    result = edgeasd(
        site, "calibrate press07 --add-references new.flac --false-alarms-per-week 500"
    )

    assert result.exit_code == 0, result.output
    assert f"warning: the new sound is more like {name}" in result.stdout
    assert "before this change 100% of the new sound scored above the threshold" in result.stdout
    assert machine.model.read_bytes() == content
    adapted = calibrated_model(machine, load_model(machine.model))
    outputs = clip_outputs(adapted.model, read_clip(site / "new.flac")[: 10 * RATE])
    score = adapted.model.scoring(0).clip_value(
        np.mean([one.embedding for one in outputs], axis=0, dtype=np.float64)
    )
    assert score < adapted.model.document.sections[0].threshold
    references = adapted.model.document.sections[0].references
    assert references is not None
    assert references.shape == (2, 128)
    assert "version 2 is undone" in edgeasd(site, "calibrate press07 --undo").stdout


def test_muted_sound_is_nobodys_normal_sound(site: Path, calibrated: str) -> None:
    """With a muted minute or without it: the same references, such a threshold, and a note."""
    del calibrated
    machine = config_of(site).machine[0]
    new = soundfile.read(site / "new.flac", dtype="float32")[0]
    write(site / "new-and-muted.flac", np.concatenate([muted(60 * RATE), new]))
    made = []

    for name in ("new.flac", "new-and-muted.flac"):
        line = f"calibrate press07 --false-alarms-per-week 500 --add-references {name}"
        result = edgeasd(site, line)
        assert result.exit_code == 0, result.output
        made.append(read_calibrations(machine).versions[-1])
        edgeasd(site, "calibrate press07 --undo")

    assert made[1].references == made[0].references
    # A minute is no multiple of the hop: the scores are of other moments.
    assert made[1].threshold == pytest.approx(made[0].threshold, rel=0.02)
    assert "60 s of flat sound left out; is the microphone connected?" in result.stdout


def test_learn_leaves_muted_sound_out_and_tells_how_much(site: Path, tmp_path: Path) -> None:
    """The model is that of the rest, and no window goes over the seam."""
    sound = normal_sound(330 * RATE, 2)
    write(tmp_path / "a.flac", np.concatenate([sound, muted(65 * RATE)]))
    text = (site / "edgeasd.toml").read_text().replace("press07.onnx", str(tmp_path / "a.onnx"))
    (tmp_path / "edgeasd.toml").write_text(text)

    result = edgeasd(tmp_path, "learn press07 a.flac")
    learned = load_model(tmp_path / "a.onnx").document
    assert edgeasd(tmp_path, f"learn --replace press07 {site}/normal.flac").exit_code == 0

    assert result.stdout.splitlines()[:2] == [
        "65 s of flat sound left out; is the microphone connected?",
        "learned from 33 clips of 10 s (5 min) from 1 recording",
    ]
    without = load_model(tmp_path / "a.onnx").document
    assert learned.sections == without.sections
    assert learned.distances == without.distances


def test_calibrate_tells_of_sound_that_is_flat_and_of_sound_that_is_clipped(
    site: Path, calibrated: str, tmp_path: Path
) -> None:
    """Scores that rest on flat sound are left out; clipped sound the daemon would hear as well."""
    del calibrated
    sound = normal_sound(330 * RATE, 2)
    sound[100 * RATE : 103 * RATE] = 0.0
    sound[200 * RATE : 201 * RATE : 2] = 1.0
    write(tmp_path / "b.flac", sound)

    result = edgeasd(site, f"calibrate press07 {tmp_path}/b.flac --false-alarms-per-week 500")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:2] == [
        "3 s of flat sound left out; is the microphone connected?",
        "warning: for 1 s the sound is clipped; turn down the gain of the microphone",
    ]
    made = read_calibrations(config_of(site).machine[0]).versions[-1]
    # No score is from 10 s before the flat stretch to its end.
    assert made.sound_s == pytest.approx(320.0 - 13.0, abs=1.0)


def test_calibrate_by_clips_of_ten_seconds_scores_across_their_seams(site: Path) -> None:
    """In DCASE's layout a clip has one score of its own; scores go on, by windows of two clips."""
    folder = site / "others"
    folder.mkdir()
    sound = normal_sound(330 * RATE, 2)
    for number in range(33):
        write(folder / f"{number:04d}.flac", sound[number * 10 * RATE : (number + 1) * 10 * RATE])

    result = edgeasd(site, "calibrate press07 others --false-alarms-per-week 500")

    assert result.exit_code == 0, result.output
    path = calibration_path(config_of(site).machine[0])
    made = read_calibrations(config_of(site).machine[0]).versions[-1]
    path.unlink()
    # Of 39 windows of a quarter of a second that begin in a clip, the last has no room in it.
    assert made.sound_s == pytest.approx((33 * 38 - 37) * 0.256)


def test_alarm_clip_that_is_damaged_does_not_end_the_work(site: Path, calibrated: str) -> None:
    """A power cut may have left half of one; what was learned is stored, and it is told."""
    del calibrated
    clips = config_of(site).clips_dir
    clips.mkdir(parents=True, exist_ok=True)
    bad = clips / "20261123T010204Z_press07_n1-0123abcd-000008.flac"
    bad.write_bytes(b"fLaC")

    result = edgeasd(
        site, "calibrate press07 --add-references new.flac --false-alarms-per-week 500"
    )
    bad.unlink()

    assert result.exit_code == 0, result.output
    assert f"was not compared with a past alarm: {bad}: is not a sound" in result.stdout


def test_calibration_of_another_model_is_told_and_not_used(site: Path, calibrated: str) -> None:
    """A new model file runs with its own threshold until it is calibrated."""
    del calibrated
    machine = config_of(site).machine[0]
    content = machine.model.read_bytes()
    make_model(machine.model, normal=normal_sound(20 * RATE))
    model = load_model(machine.model)

    found = calibrated_model(machine, model)
    machine.model.write_bytes(content)

    assert found.model is model
    assert found.calibration is None
    assert (
        "press07.onnx.press07.json: this calibration file is of another model (sha256 "
        in found.warning
    )
    assert "run 'edgeasd calibrate press07'" in found.warning
    assert "the model's own threshold is in force" in found.warning


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "must be a table"),
        ('{"machine": "saw"}', "machine='saw' must be 'press07'"),
        ('{"machine": "press07", "schema": "edgeasd.site/9"}', "must be one of edgeasd.site/1"),
        ('{"machine": "press07", "versions": [{}]}', "versions[0].number is missing"),
    ],
)
def test_damaged_site_file_is_told_and_not_used(site: Path, content: str, reason: str) -> None:
    """The daemon goes on with the model's own threshold; the command says what is wrong."""
    machine = config_of(site).machine[0]
    path = calibration_path(machine)
    path.write_text(content)

    found = calibrated_model(machine, load_model(machine.model))
    with pytest.raises(ModelError) as caught:
        read_calibrations(machine)
    path.unlink()

    assert found.calibration is None
    assert reason in found.warning
    assert reason in str(caught.value)


def test_calibration_for_another_alarm_is_used_with_a_warning(site: Path, calibrated: str) -> None:
    """Other run lengths make other false alarms than those promised."""
    del calibrated
    text = (site / "edgeasd.toml").read_text()
    (site / "edgeasd.toml").write_text(text + "[machine.alarm]\nraise_after = 1\n")
    machine = config_of(site).machine[0]

    found = calibrated_model(machine, load_model(machine.model))
    (site / "edgeasd.toml").write_text(text)

    assert found.calibration is not None
    assert "was made for raise_after=4, clear_after=8, cool_down_s=30" in found.warning


@pytest.mark.parametrize(
    ("line", "exit_code", "message"),
    [
        (
            "learn press07 clips",
            os.EX_DATAERR,
            "press07.onnx: already exists; add --replace, or name another file as machine.model "
            "in the configuration",
        ),
        (
            "learn --replace press07 short.flac",
            os.EX_NOINPUT,
            "normal sound=1.0 min must be at least 4.5 min in pieces of 10 s or more that are "
            "not silent; record 3.5 min more",
        ),
        (
            "learn --replace press07 silent.flac",
            os.EX_NOINPUT,
            "normal sound=0.0 min must be at least 4.5 min in pieces of 10 s or more that are "
            "not silent; record 4.5 min more; 330 s of flat sound left out; is the microphone "
            "connected?",
        ),
        (
            "calibrate press07 short.flac",
            os.EX_NOINPUT,
            "normal sound=1.0 min must be at least 3.4 min in pieces of 10 s or more that are "
            "not silent; record 2.4 min more",
        ),
        (
            "calibrate press07 --add-references muted.flac normal.flac",
            os.EX_NOINPUT,
            "new normal sound=0 clips of 10 s must be at least 6; record 60 s more of it; 70 s of "
            "flat sound left out; is the microphone connected?",
        ),
        (
            "calibrate press07 clips",
            1,
            "clips/section_00_source_train_normal_0000.flac: the model was learned from it, so its "
            "scores are too low; calibrate with normal sound from another time",
        ),
        (
            "calibrate saw normal.flac",
            os.EX_CONFIG,
            "machine='saw' must be one of press07",
        ),
        (
            "calibrate press07 --add-references new.flac",
            os.EX_NOINPUT,
            "machine='press07' also needs normal sound from before the change, for a threshold "
            "that fits both; name it as FILES",
        ),
        (
            "calibrate press07 --add-references new.flac normal.flac new.flac",
            os.EX_NOINPUT,
            "new.flac: is named both as old and as new normal sound; name as FILES what was "
            "recorded before the change",
        ),
        (
            "calibrate press07 --add-references clips normal.flac",
            1,
            "clips/section_00_source_train_normal_0000.flac: the model was learned from it, so its "
            "scores are too low; calibrate with normal sound from another time",
        ),
        (
            "calibrate press07 --add-references short.flac normal.flac gone.flac",
            os.EX_NOINPUT,
            "gone.flac: does not exist; check the path",
        ),
    ],
)
def test_wrong_use_is_told_in_one_line(site: Path, line: str, exit_code: int, message: str) -> None:
    """Each says what must be otherwise, and how much is missing."""
    told = refused(site, line, exit_code)

    assert told.replace(f"{Path.cwd()}/", "") == message


def test_site_file_that_cannot_be_written_is_told(
    site: Path, calibrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: what was there stays, and there is no half a file."""
    del calibrated
    machine = config_of(site).machine[0]
    before = read_calibrations(machine)
    files = sorted(site.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = refused(site, "calibrate press07 --undo", os.EX_CANTCREAT)

    assert message.startswith(
        "press07.onnx.press07.json: cannot be written (No space left on device); run the command as"
    )
    assert sorted(site.iterdir()) == files
    assert read_calibrations(machine) == before


def test_site_file_that_could_not_be_written_is_told_before_the_work(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who listens for six hours hears of it before, not after."""

    def closed(*_: object, **__: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("edgeasd.common.files.whole_file.open", closed, raising=False)
    monkeypatch.setattr("edgeasd.offline.calibration.live_scores.open_source", None)
    message = refused(site, "calibrate press07 --duration 1h", os.EX_CANTCREAT)

    assert message.startswith("press07.onnx.press07.json: cannot be written (Permission denied)")


def test_undo_tells_that_the_configuration_goes_before_what_is_in_force(
    site: Path, calibrated: str
) -> None:
    """As calibrate itself does: else the threshold told is none that the daemon goes by."""
    del calibrated
    text = (site / "edgeasd.toml").read_text()
    (site / "edgeasd.toml").write_text(text + "[machine.alarm]\nthreshold = 5.0\n")

    result = edgeasd(site, "calibrate press07 --undo")
    (site / "edgeasd.toml").write_text(text)

    assert result.stdout.splitlines()[-1] == (
        "warning: alarm.threshold in the configuration overrides this calibration; remove that key"
    )


def test_score_of_a_machine_is_by_what_was_calibrated(site: Path, calibrated: str) -> None:
    """As the daemon scores it; by the model file alone, the model's own threshold holds."""
    del calibrated
    machine = config_of(site).machine[0]
    threshold = read_calibrations(machine).versions[-1].threshold

    by_machine = edgeasd(site, "score --machine press07 --per clip live.flac")
    by_model = edgeasd(site, "score --model press07.onnx --per clip live.flac")

    assert json.loads(by_machine.stdout)["threshold"] == threshold
    assert json.loads(by_model.stdout)["threshold"] != threshold
    assert edgeasd(site, "score live.flac").exit_code == 2
