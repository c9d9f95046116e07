"""A calibration by live sound that is interrupted, as it happens, goes on where it was."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from edgeasd.capture.recording.wavfile import WavFile, read_clip
from edgeasd.cli.main import main
from edgeasd.common.config.keys import FileConfig, MachineConfig
from edgeasd.common.errors import AudioDeviceError, StorageError
from edgeasd.common.types import AudioBlock
from edgeasd.models.calibration_file import CalibratedModel, calibrated_model, read_calibrations
from edgeasd.offline.calibration.live_scores import SCHEMA, KeptScores, live_blocks
from edgeasd.offline.calibration.scores import ScoreCollector
from tests.conftest import CHECKOUT
from tests.deploy.namespaces import eventually
from tests.detect.models import load_model, make_model, normal_sound
from tests.disks import mounted_tmpfs

pytestmark = pytest.mark.usefixtures("shared_trials")

RATE = 16_000
SOUND_S = 90
TEXT = """
[[machine]]
name = "fan"
model = "fan.onnx"
[machine.file]
path = "sound.wav"
paced = false
repeat = {repeat}
"""
KEEPING_ALWAYS = """
import sys
from edgeasd.cli import main
from edgeasd.offline.calibration import live_scores
live_scores._KEEP_EVERY_S = 0.0
sys.argv[0] = "edgeasd"
main.start()
"""


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a small model, whose scores rest on two seconds."""
    return make_model(tmp_path_factory.mktemp("model") / "fan.onnx", clip_windows=1).read_bytes()


@pytest.fixture
def folder(tmp_path: Path, content: bytes) -> Path:
    """A folder with a model, a recording, and a configuration that plays it again and again."""
    (tmp_path / "fan.onnx").write_bytes(content)
    soundfile.write(tmp_path / "sound.wav", normal_sound(SOUND_S * RATE, 3), RATE, subtype="PCM_16")
    (tmp_path / "edgeasd.toml").write_text(TEXT.format(repeat="true"))
    return tmp_path


def machine_of(folder: Path) -> MachineConfig:
    """Return the machine."""
    source = FileConfig(folder / "sound.wav", paced=False)
    return MachineConfig("fan", folder / "fan.onnx", source=source)


def site_of(folder: Path) -> CalibratedModel:
    """Return the machine's model as it is in force."""
    machine = machine_of(folder)
    return calibrated_model(machine, load_model(machine.model))


def calibrate(folder: Path, duration: str) -> Result:
    """Calibrate by live sound."""
    line = ["calibrate", "fan", "--duration", duration, "--false-alarms-per-week", "5000"]
    return CliRunner().invoke(main, [*line, "--config", str(folder / "edgeasd.toml")])


def n_scores(path: Path) -> int:
    """Return how many scores are in a file of them, if it is there."""
    lines = path.read_bytes().splitlines(keepends=True)[1:] if path.exists() else []
    return sum(len(json.loads(line)[1]) for line in lines if line.endswith(b"\n"))


class Cable:
    """A microphone that hears a recording, and whose cable comes off.

    Args:
        path: Of the recording.
        off: The calls to `read` in which nothing comes.
        lost_s: Seconds that are lost meanwhile.
    """

    ended = hung = False
    overruns = 0
    drift_ppm = late_s = 0.0

    def __init__(self, path: Path, off: range, lost_s: float = 0.0) -> None:
        self._source = WavFile(path, 0, paced=False)
        self._off = off
        self._lost = round(lost_s * RATE)
        self._n_read = 0
        self.sample_rate = RATE
        self.fault = ""

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Return the next block, or nothing."""
        self._n_read += 1
        self.fault = "the cable is off" if self._n_read in self._off else ""
        if self.fault:
            return None
        block = self._source.read(timeout_s)
        if block is None:
            self.fault = "the cable is off for good"
            return None
        later = self._lost if self._n_read >= self._off.stop else 0
        return replace(block, first_sample=block.first_sample + later)

    def close(self) -> None:
        """Let go of the recording."""
        self._source.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have hundredths of a second pass for seconds of silence."""
    monkeypatch.setattr("edgeasd.offline.calibration.live_scores._SILENT_AFTER_S", 0.0)
    monkeypatch.setattr("edgeasd.offline.calibration.live_scores._N_PATIENCE", 1)


def test_cable_that_comes_off_and_back_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was heard before counts as well; nothing is scored across the gap."""
    monkeypatch.setattr("edgeasd.offline.calibration.live_scores._SILENT_AFTER_S", 0.0)
    monkeypatch.setattr("edgeasd.offline.calibration.live_scores._N_PATIENCE", np.inf)
    site, path = site_of(folder), folder / "sound.wav"
    said: list[str] = []
    collector, before, after = (ScoreCollector(site.model, site.section) for _ in range(3))
    sound = read_clip(path)[: 30 * RATE]
    cut = sum(len(block.samples) for block in itertools.islice(live_blocks_of(path), 299))

    cable = Cable(path, range(300, 320), lost_s=10.0)
    collector.add(live_blocks(cable, 30, said.append))
    before.add([AudioBlock(sound[:cut], 0)])
    after.add([AudioBlock(sound[cut:], 0)])

    assert said[0] == "no sound for 0 s (the cable is off); waiting"
    assert said[1].startswith("sound is back after ")
    assert len(said) == 2
    assert collector.runs == before.runs + after.runs
    assert len(collector.runs) == 2


def live_blocks_of(path: Path) -> Iterator[AudioBlock]:
    """Yield a recording as `Cable` delivers it."""
    return live_blocks(Cable(path, range(0)), SOUND_S)


@pytest.mark.usefixtures("impatient")
def test_cable_that_stays_off_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called again, the command goes on from what was heard, and sets the threshold."""
    monkeypatch.setattr(
        "edgeasd.offline.calibration.live_scores.open_source",
        lambda _: Cable(folder / "sound.wav", range(0)),
    )

    first = calibrate(folder, "3m")
    second = calibrate(folder, "3m")
    kept = (folder / "fan.onnx.fan.scores").read_text()
    third = calibrate(folder, "2m")

    assert first.exit_code == second.exit_code == os.EX_UNAVAILABLE
    assert "(the cable is off for good); call the command again to continue" in first.stderr
    assert (
        f"continuing from 1 min of 3 min, heard since {json.loads(kept.splitlines()[0])['began']}"
        in second.stderr
    )
    assert third.exit_code == 0, third.output
    (made,) = read_calibrations(machine_of(folder)).versions
    assert made.sound_s == pytest.approx(2 * (SOUND_S - 2.0), abs=0.5)
    assert not (folder / "fan.onnx.fan.scores").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_calibration_that_is_ended_goes_on_when_called_again(
    folder: Path, number: signal.Signals
) -> None:
    """By Ctrl-C, by a shutdown, or by a power cut, which a kill stands for."""
    kept = folder / "fan.onnx.fan.scores"
    line = ["calibrate", "fan", "--config", str(folder / "edgeasd.toml"), "--duration", "999h"]
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPING_ALWAYS, *line],
        cwd=CHECKOUT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(lambda: n_scores(kept) > 200, "scores are kept", 120.0)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    n_kept = n_scores(kept)

    result = calibrate(folder, "45s")

    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 1
        assert said.startswith("edgeasd: stopped at ")
        assert "with a shorter --duration to set the threshold at once" in said
    assert result.exit_code == 0, result.output
    assert "continuing from " in result.stderr
    (made,) = read_calibrations(machine_of(folder)).versions
    assert made.sound_s == pytest.approx(n_kept * 0.256)
    assert not kept.exists()


def test_two_calls_at_once_do_not_share_a_file(folder: Path) -> None:
    """The second one is told."""
    machine, site = machine_of(folder), site_of(folder)

    with KeptScores(machine, site), pytest.raises(StorageError) as caught:
        KeptScores(machine, site).__enter__()

    assert str(caught.value) == (
        f"{folder}/fan.onnx.fan.scores: another command is listening to 'fan'; wait until it ends"
    )


def test_call_that_heard_nothing_leaves_nothing(folder: Path) -> None:
    """No file without a score in it stays."""
    with KeptScores(machine_of(folder), site_of(folder)) as kept:
        kept.write()
        assert kept.path.exists()

    assert sorted(path.name for path in folder.iterdir()) == [
        "edgeasd.toml",
        "fan.onnx",
        "sound.wav",
    ]


def written(folder: Path, *runs: list[float]) -> bytes:
    """Return the file after those runs were written, the last one in two pieces."""
    with KeptScores(machine_of(folder), site_of(folder)) as kept:
        kept.runs += [*runs[:-1], runs[-1][:1]]
        kept.write()
        kept.runs[-1] += runs[-1][1:]
        kept.write()
    return kept.path.read_bytes()


def test_scores_come_back_as_they_were(folder: Path) -> None:
    """Bit for bit, for their file may be gone on from many times."""
    runs = [[0.1, 1 / 3, 1e300], [5e-324, -0.0], [2.0, 3.0, 4.0]]
    written(folder, *runs)

    with KeptScores(machine_of(folder), site_of(folder)) as kept:
        assert kept.runs == runs
        assert not kept.is_of_another


def test_file_that_ends_anywhere_is_gone_on_from(folder: Path) -> None:
    """Whatever a power cut left of it: what is whole counts, and what comes then is read again."""
    whole = written(folder, [1.5, 2.5], [3.5], [4.5, 5.5])
    path = folder / "fan.onnx.fan.scores"
    machine, site = machine_of(folder), site_of(folder)
    header = whole.index(b"\n") + 1

    for end in range(header - 3, len(whole) + 1):
        path.write_bytes(whole[:end])
        with KeptScores(machine, site) as kept:
            before = [list(run) for run in kept.runs]
            kept.runs.append([9.5])
            kept.write()
        with KeptScores(machine, site) as kept:
            assert kept.runs == [*before, [9.5]]
        n_whole = whole[header:end].count(b"\n") if end >= header else 0
        assert sum(map(len, before)) == [0, 2, 3, 4, 5][n_whole]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "[]",
        "{}",
        "\0",
        '{"schema": "edgeasd.live/9", "began": "2026-11-29T12:00:00+00:00", "of": {}}',
        '{"schema": "edgeasd.live/1", "began": "\\u001b[2J", "of": {}}',
        '{"schema": "edgeasd.live/1", "began": 5, "of": {}}',
    ],
)
def test_file_of_another_form_is_not_read(folder: Path, header: str) -> None:
    """A later version's, or anything else of that name."""
    path = folder / "fan.onnx.fan.scores"
    path.write_text(f"{header}\n[0, [1.5]]\n")

    with KeptScores(machine_of(folder), site_of(folder)) as kept:
        assert kept.runs == []
        kept.runs.append([2.5])
        kept.write()

    assert json.loads(path.read_text().splitlines()[0])["schema"] == SCHEMA


def test_file_that_somebody_removed_meanwhile_is_no_error(folder: Path) -> None:
    """The threshold was set by then."""
    with KeptScores(machine_of(folder), site_of(folder)) as kept:
        kept.path.unlink()
        kept.remove()


@pytest.mark.parametrize(
    "line",
    [
        "[99, [1.5]]",
        "[-1, [1.5]]",
        '["0", [1.5]]',
        "[1, [NaN]]",
        "[1, [Infinity]]",
        "[1, [true]]",
        '[1, ["1.5"]]',
        "[1, 1.5]",
        "[1]",
        "{}",
        "[" * 5000,
        "\0",
    ],
)
def test_line_that_is_none_ends_what_is_read(folder: Path, line: str) -> None:
    """Nothing else than scores in order becomes a threshold."""
    whole = written(folder, [1.5, 2.5])
    (folder / "fan.onnx.fan.scores").write_bytes(whole + line.encode() + b"\n[1, [3.5]]\n")

    with KeptScores(machine_of(folder), site_of(folder)) as kept:
        assert kept.runs == [[1.5, 2.5]]


OTHERS: dict[
    str, Callable[[MachineConfig, CalibratedModel], tuple[MachineConfig, CalibratedModel]]
] = {
    "source": lambda machine, site: (replace(machine, source=FileConfig(Path("x.wav"))), site),
    "references": lambda machine, site: (
        machine,
        replace(
            site,
            model=site.model.with_document(
                replace(
                    site.model.document,
                    sections=tuple(
                        replace(
                            one,
                            references=None
                            if one.references is None
                            else one.references.extended(one.references),
                        )
                        for one in site.model.document.sections
                    ),
                )
            ),
        ),
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_scores_of_something_else_are_not_gone_on_from(folder: Path, kind: str) -> None:
    """They would make a threshold that is of neither."""
    written(folder, [1.5, 2.5])

    with KeptScores(*OTHERS[kind](machine_of(folder), site_of(folder))) as kept:
        assert kept.runs == []
        assert kept.is_of_another


def test_scores_of_another_threshold_are_gone_on_from(folder: Path) -> None:
    """A calibration that was made meanwhile changes no score."""
    written(folder, [1.5, 2.5])
    site = site_of(folder)
    sections = tuple(replace(one, threshold=99.0) for one in site.model.document.sections)
    document = replace(site.model.document, sections=sections)

    with KeptScores(
        machine_of(folder), replace(site, model=site.model.with_document(document))
    ) as kept:
        assert kept.runs == [[1.5, 2.5]]


@pytest.fixture
def small_disk(tmp_path: Path, content: bytes) -> Iterator[Path]:
    """A disk with a model, and hardly any room."""
    with mounted_tmpfs(tmp_path / "disk", "128k") as disk:
        (disk.root / "fan.onnx").write_bytes(content)
        yield disk.root


def test_scores_that_a_full_disk_does_not_take_are_written_later(small_disk: Path) -> None:
    """Half a line that it took does not spoil what comes after it."""
    with KeptScores(machine_of(small_disk), site_of(small_disk)) as kept:
        kept.runs.append([1.5])
        kept.write()
        kept.runs[0] += [1 / 3] * 20_000
        with pytest.raises(OSError, match="No space left on device"):
            kept.write()
        del kept.runs[0][100:]
        kept.write()

    with KeptScores(machine_of(small_disk), site_of(small_disk)) as kept:
        assert kept.runs == [[1.5, *[1 / 3] * 99]]


def test_source_that_is_not_there_leaves_what_was_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cable that is still off when the command is called again costs nothing."""
    before = written(folder, [1.5, 2.5])

    def absent(_: object) -> None:
        raise AudioDeviceError("no microphone is there; connect one")

    monkeypatch.setattr("edgeasd.offline.calibration.live_scores.open_source", absent)
    (folder / "edgeasd.toml").write_text(TEXT.format(repeat="false"))
    result = calibrate(folder, "3m")

    assert result.exit_code == os.EX_UNAVAILABLE
    assert (folder / "fan.onnx.fan.scores").read_bytes() == before
