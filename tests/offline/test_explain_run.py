"""``edgeasd explain`` and ``edgeasd score --plot`` as a user meets them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from edgeasd.capture.simulator.rotating_machine import render_clip
from tests.cli.test_main import assert_refused
from tests.commands import edgeasd
from tests.conftest import CHECKOUT
from tests.detect.models import make_model
from tests.disks import mounted_tmpfs

MODEL = ("--model", CHECKOUT / "edgeasd" / "models" / "demo.onnx", "--section", "00")
"""For what is found out; its network is run some two thousand times for an explanation."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a healthy recording, and one that has a fault from 20 s to 30 s."""
    folder = tmp_path_factory.mktemp("diagnosis")
    healthy = render_clip(seed=8, duration_s=20, faulty=False)
    faulty = render_clip(seed=7, duration_s=10, faulty=True)
    soundfile.write(folder / "normal.wav", healthy, 16_000)
    soundfile.write(folder / "fault.wav", np.concatenate([healthy, faulty, healthy]), 16_000)
    soundfile.write(folder / "short.wav", healthy[:16_000], 16_000)
    make_model(folder / "tiny.onnx")
    return folder


@pytest.fixture
def tiny(folder: Path) -> tuple[str | Path, ...]:
    """A model with a quick network, for what does not depend on it."""
    return ("--model", folder / "tiny.onnx")


def test_explain_tells_the_fault_in_words_and_draws_it(folder: Path) -> None:
    """Of a minute with a fault in it, the ten seconds of the fault are explained."""
    result = edgeasd("explain", *MODEL, "--picture", folder / "why.png", folder / "fault.wav")

    assert result.returncode == 0, result.stderr
    scores, *words = result.stdout.splitlines()
    assert re.fullmatch(r"score \d+\.\d\d, threshold 2\.\d\d", scores)
    assert "dB above normal, in impacts, 87 a second" in words[0]
    assert is_drawn(folder / "why.png")


def test_explain_of_normal_sound_says_that_it_raises_no_alarm(folder: Path) -> None:
    """No recording is quite like the mean: its differences alone would look like a fault."""
    result = edgeasd("explain", *MODEL, folder / "normal.wav")

    assert result.returncode == 0, result.stderr
    assert ": no alarm; the largest differences from normal sound:" in result.stdout.splitlines()[0]


def test_score_plot_draws_a_picture_of_each_file(folder: Path, tmp_path: Path) -> None:
    """Each file has its picture, and the scores are printed as ever."""
    files = (folder / "normal.wav", folder / "fault.wav")

    result = edgeasd("score", *MODEL, "--plot", tmp_path, *files)

    assert result.returncode == 0, result.stderr
    assert result.stdout == edgeasd("score", *MODEL, *files).stdout
    assert all(is_drawn(tmp_path / f"{path.stem}.png") for path in files)


def test_score_plot_of_two_files_of_one_name_draws_both(
    folder: Path, tiny: tuple[str | Path, ...], tmp_path: Path
) -> None:
    """Machines are often recorded into folders of their own, under the same names."""
    other = tmp_path / "other" / "normal.wav"
    other.parent.mkdir()
    shutil.copy(folder / "fault.wav", other)

    edgeasd("score", *tiny, "--per", "clip", "--plot", tmp_path, folder / "normal.wav", other)

    assert {path.name for path in tmp_path.glob("*.png")} == {"normal.png", "normal-1.png"}


def test_score_of_less_than_ten_seconds_says_why_there_is_none(folder: Path) -> None:
    """Nothing at all would look like a recording in which nothing was found."""
    result = edgeasd("score", *MODEL, folder / "short.wav")

    assert result.stdout == ""
    assert result.stderr == (
        f"edgeasd: {folder}/short.wav: is shorter than the 9.8 s that a score needs; "
        "score it as a whole with --per clip\n"
    )


def test_score_plot_of_less_than_a_frame_draws_nothing(tmp_path: Path) -> None:
    """There is nothing to draw, and no warning of the library that would have drawn it."""
    soundfile.write(tmp_path / "click.wav", np.zeros(500), 16_000)

    result = edgeasd("score", *MODEL, "--plot", tmp_path, tmp_path / "click.wav")

    assert result.returncode == 0
    assert "Warning" not in result.stderr
    assert not list(tmp_path.glob("*.png"))


def test_explain_compares_with_recordings_given_as_normal(
    folder: Path, tiny: tuple[str | Path, ...]
) -> None:
    """Compared with itself a recording has nothing that stands out."""
    fault = folder / "fault.wav"

    result = edgeasd("explain", *tiny, "--normal", fault, fault)

    assert "\nno part of the spectrum stands out" in result.stdout


def test_explain_by_a_model_that_does_not_know_normal_sound_names_the_remedy(
    folder: Path, tmp_path: Path
) -> None:
    """A model made before models said what is normal needs recordings of it."""
    model = make_model(tmp_path / "tiny.onnx")

    result = edgeasd("explain", "--model", model, folder / "fault.wav")

    assert_refused(result, 65, "name recordings of it with --normal")


def test_explain_of_an_event_finds_its_clip(folder: Path, tmp_path: Path) -> None:
    """The id of an alarm's start is enough: clip, machine, model and section are found."""
    name = "edge-01-5f1c2a9b-000001"
    clips = tmp_path / "state" / "clips"
    clips.mkdir(parents=True)
    sound, rate = soundfile.read(folder / "fault.wav", dtype="int16")
    soundfile.write(clips / f"20261122T161534Z_fan_1_{name}.flac", sound, rate)
    config = tmp_path / "edgeasd.toml"
    config.write_text(
        f'state_dir = "state"\n[[machine]]\nname = "fan_1"\nmodel = "{MODEL[1]}"\nsection = "00"\n'
    )

    result = edgeasd("explain", "--config", config, name)
    by_machine = edgeasd("explain", "--config", config, "--machine", "fan_1", folder / "fault.wav")
    unknown = edgeasd("explain", "--config", config, "edge-01-5f1c2a9b-000002")

    assert "dB above normal, in impacts, 87 a second" in result.stdout, result.stderr
    assert result.stdout == by_machine.stdout
    assert_refused(unknown, 66, "edge-01-5f1c2a9b-000002: no clip of this event is in")


def test_explain_of_less_than_a_window_is_refused(folder: Path) -> None:
    """One second cannot be scored, so neither explained."""
    result = edgeasd("explain", *MODEL, folder / "short.wav")

    assert_refused(result, 66, "short.wav: must hold at least 2.1 s")


def test_picture_that_cannot_be_written_is_told(folder: Path, tiny: tuple[str | Path, ...]) -> None:
    """The folder of the picture must be there."""
    picture = folder / "absent" / "why.png"
    by_normal = ("--normal", folder / "normal.wav")

    result = edgeasd("explain", *tiny, *by_normal, "--picture", picture, folder / "fault.wav")

    assert_refused(result, 73, "why.png: cannot be written")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_picture_that_a_full_disk_cut_short_is_removed(
    folder: Path, tiny: tuple[str | Path, ...], tmp_path: Path
) -> None:
    """Half a picture, or an empty one, would be found later and opened."""
    with mounted_tmpfs(tmp_path / "disk", "16k") as disk:
        picture = disk.root / "why.png"
        by_normal = ("--normal", folder / "normal.wav")
        result = edgeasd("explain", *tiny, *by_normal, "--picture", picture, folder / "fault.wav")

        assert_refused(result, 73, "why.png: cannot be written (No space left on device)")
        assert not picture.exists()


def is_drawn(path: Path) -> bool:
    """Whether *path* is a picture with something on it."""
    image = imread(path)
    return image.shape[0] > 300 and float(image[..., :3].std()) > 0.05


@pytest.mark.parametrize(
    ("command", "option"), [("explain", ("--picture", "why.png")), ("score", ("--plot", "."))]
)
def test_picture_without_matplotlib_names_the_extra(
    folder: Path,
    tmp_path: Path,
    tiny: tuple[str | Path, ...],
    command: str,
    option: tuple[str, ...],
) -> None:
    """Whoever wants a picture is told what to install, by every command."""
    if command == "explain":
        option = (*option, "--normal", str(folder / "normal.wav"))

    result = without_matplotlib(tmp_path, command, *tiny, *option, folder / "normal.wav")

    assert_refused(result, 1, "edgeasd[plot]")


def test_calibration_without_matplotlib_names_the_extra_before_it_works(tmp_path: Path) -> None:
    """A picture that cannot be drawn is told at once, and no threshold is set."""
    command = ("calibrate", "--plot", "c.png", "--duration", "1h", "fan")

    assert_refused(without_matplotlib(tmp_path, *command), 1, "edgeasd[plot]")


def without_matplotlib(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in *folder* where matplotlib is not installed."""
    program = (
        "import sys; sys.modules['matplotlib'] = None; from edgeasd.cli.main import start; start()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
