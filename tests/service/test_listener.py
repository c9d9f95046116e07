"""One machine while its model, its alarm and its model file change, without a daemon around it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgeasd.common.config.keys import AlarmConfig
from edgeasd.common.types import AlarmEvent, AudioBlock, Float32Array, Score
from edgeasd.models.cache import FileWatch
from edgeasd.models.detector import Detector, make_detector
from edgeasd.publish.payloads.encoding import StreamClock
from edgeasd.publish.payloads.event import AudioQuality
from edgeasd.service.machine import runwatch
from edgeasd.service.machine.listener import Listener
from edgeasd.service.machine.reporter import Reporter
from tests.detect.faulty_models import make_failing, make_stalling
from tests.detect.models import load_model, make_model, normal_sound
from tests.publish.brokers import wait_until

N_BLOCK = 1000


class Recording:
    """Sound in memory as a source, which has the listener told of a change at a block of its own.

    Args:
        samples: The sound.
        sample_rate: Hertz.
        changes: What to do just before the block of that number is handed over.
        gap_at: Number of the block before which a second of sound is lost.
    """

    overruns = 0
    fault = ""
    hung = False
    late_s = 0.0
    drift_ppm = 0.0

    def __init__(self, samples: Float32Array, sample_rate: int, gap_at: int = -1) -> None:
        self.sample_rate = sample_rate
        self.blocks = [
            AudioBlock(
                samples[first : first + N_BLOCK],
                first + (sample_rate if 0 <= gap_at <= first // N_BLOCK else 0),
            )
            for first in range(0, len(samples), N_BLOCK)
        ]
        self.changes: dict[int, tuple[Listener, Detector]] = {}
        self._number = 0

    @property
    def ended(self) -> bool:
        """Whether all was read."""
        return self._number == len(self.blocks)

    def read(self, timeout_s: float) -> AudioBlock | None:  # noqa: ARG002 - never waits
        """Return the next block."""
        if self._number in self.changes:
            listener, detector = self.changes[self._number]
            listener.use(detector)
        self._number += 1
        return self.blocks[self._number - 1]

    def close(self) -> None:
        """Let go of nothing."""


class Notes(Reporter):
    """A reporter that remembers events, scores, and another threshold than the one before.

    Args:
        detector: Detector that is in force at first.
        score_interval_s: Seconds of sound between two messages; by default each has one score.
    """

    score_interval_s = 0.0

    def __init__(self, detector: Detector, score_interval_s: float = 0.0) -> None:
        self.score_interval_s = score_interval_s
        self.said: list[str | Score] = []
        self.messages: list[list[Score]] = []
        self._threshold = detector.alarm.threshold

    def event(
        self,
        event: AlarmEvent,
        detector: Detector,
        clock: StreamClock,
        audio: AudioQuality,
        *,
        has_clip: bool,
    ) -> str:
        """Note an event."""
        del clock, audio, has_clip
        self._note(detector)
        self.said.append(event.type)
        return "n1-00000000-000001"

    def scores(
        self, scores: Sequence[Score], detector: Detector, clock: StreamClock, level_dbfs: float
    ) -> None:
        """Note scores."""
        del clock, level_dbfs
        self._note(detector)
        self.said += scores
        self.messages.append(list(scores))

    def _note(self, detector: Detector) -> None:
        if detector.alarm.threshold != self._threshold:
            self._threshold = detector.alarm.threshold
            self.said.append(f"threshold {self._threshold:g}")


def detector_of(path: Path, **alarm: float) -> Detector:
    """Return what scores by the model at *path*."""
    return make_detector(load_model(path), "", AlarmConfig(**alarm))  # type: ignore[arg-type]


@pytest.fixture
def old(tmp_path: Path) -> Detector:
    """A model that scores after three seconds, and an alarm that normal sound does not raise."""
    make_model(tmp_path / "old.onnx", clip_windows=4)
    return detector_of(tmp_path / "old.onnx", threshold=1e9, clear_threshold=1e9)


def heard(
    detector: Detector, source: Recording, at: int = -1, then: Detector | None = None
) -> tuple[Notes, Listener]:
    """Return what a listener says of *source*, told *at* a block to use another detector."""
    notes = Notes(detector)
    listener = Listener("m1", detector, source, notes)
    if then is not None:
        source.changes[at] = (listener, then)
    listener.start()

    def is_over() -> bool:
        listener.end_stuck_run()
        return not listener.running

    wait_until(is_over, "the end of the recording", 60.0)
    assert listener.error is None
    return notes, listener


def scores_of(said: Sequence[str | Score]) -> Iterator[Score]:
    """Yield the scores among *said*."""
    return (one for one in said if isinstance(one, Score))


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_new_model_scores_as_one_that_began_with_the_sound_it_heard(
    tmp_path: Path, old: Detector, rate: int
) -> None:
    """Old scores run up to the change, new ones from there, each bit for bit those of a replay."""
    make_model(tmp_path / "new.onnx", clip_windows=8, seed=7)
    new = detector_of(tmp_path / "new.onnx", threshold=2e9, clear_threshold=2e9)
    samples = normal_sound(12 * rate, 5, rate)
    at = 3 * rate // N_BLOCK

    notes, listener = heard(old, Recording(samples, rate), at, new)

    where = notes.said.index("threshold 2e+09")
    before, after = list(scores_of(notes.said[:where])), list(scores_of(notes.said[where:]))
    alone, _ = heard(old, Recording(samples, rate))
    fresh = new.pipeline(rate)
    blocks = Recording(samples, rate).blocks[at:]
    expected = [one.score for block in blocks for one in fresh.process(block)]
    expected += [one.score for one in fresh.flush()]
    assert before == list(scores_of(alone.said))[: len(before)]
    assert after == expected[1:]  # the first one is what it took over by
    assert len(after) > 10
    ends = [score.end_sample for score in before[-1:] + after]
    assert max(b - a for a, b in pairwise(ends)) <= 2 * 4096
    assert listener.audio.gaps == 0


def test_new_model_counts_what_it_heard_beside_the_old_one_once(
    tmp_path: Path, old: Detector
) -> None:
    """Windows and gaps go on over a change as if there had been none, whatever falls into it."""
    make_model(tmp_path / "new.onnx", clip_windows=4, seed=7)
    new = detector_of(tmp_path / "new.onnx")
    samples = normal_sound(20 * 16_000, 5)
    gap_at = 5 * 16
    _, alone = heard(old, Recording(samples, 16_000, gap_at))

    _, listener = heard(old, Recording(samples, 16_000, gap_at), 4 * 16, new)

    assert listener.counts.windows - alone.counts.windows in {
        -1,
        0,
    }  # it began in the middle of a hop
    assert (alone.audio.gaps, listener.audio.gaps) == (1, 1)


def test_no_message_mixes_the_scores_of_two_models(tmp_path: Path, old: Detector) -> None:
    """What the old model said is published before the new one takes over."""
    make_model(tmp_path / "new.onnx", clip_windows=8, seed=7)
    notes = Notes(old, score_interval_s=5.0)
    source = Recording(normal_sound(12 * 16_000, 5), 16_000)
    listener = Listener("m1", old, source, notes)
    source.changes[48] = (listener, detector_of(tmp_path / "new.onnx"))
    listener.start()
    wait_until(lambda: not listener.running, "the end of the recording")

    # The new one's scores rest on more windows.
    lengths = [{score.n_samples for score in message} for message in notes.messages]
    assert all(len(one) == 1 for one in lengths)
    assert len(set.union(*lengths)) == 2


def test_raised_alarm_outlives_a_new_model_and_new_settings(tmp_path: Path, old: Detector) -> None:
    """Neither says a second ``start``, and the ``end`` comes by what is in force then."""
    make_model(tmp_path / "new.onnx", clip_windows=4, seed=7)
    new = detector_of(tmp_path / "new.onnx", threshold=-2e9, clear_threshold=-2e9)
    raised = replace(old, alarm=detector_of(tmp_path / "old.onnx", threshold=-1e9).alarm)
    cleared = replace(new, alarm=old.alarm)
    notes = Notes(raised)
    source = Recording(normal_sound(16 * 16_000, 5), 16_000)
    listener = Listener("m1", raised, source, notes)
    source.changes = {5 * 16: (listener, new), 11 * 16: (listener, cleared)}
    listener.start()
    wait_until(lambda: not listener.running, "the end of the recording")

    told = [one for one in notes.said if isinstance(one, str)]
    assert told == ["start", "threshold -2e+09", "threshold 1e+09", "end"]


def test_new_threshold_of_the_same_model_holds_at_once(old: Detector) -> None:
    """Also where the model comes as another object, as it does when it was calibrated."""
    model = old.model.with_document(old.model.document)
    then = replace(old, model=model, alarm=replace(old.alarm, threshold=2e9))
    samples = normal_sound(8 * 16_000, 5)
    alone, _ = heard(old, Recording(samples, 16_000))

    notes, listener = heard(old, Recording(samples, 16_000), 5 * 16, then)

    where = notes.said.index("threshold 2e+09")
    assert notes.said[:where] + notes.said[where + 1 :] == alone.said
    at = next(one for one in notes.said[where:] if isinstance(one, Score)).end_sample
    assert 0 <= at - 5 * 16 * N_BLOCK < 2 * 4096
    assert listener.counts.windows == 24


def test_model_that_fails_on_sound_is_given_up(tmp_path: Path, old: Detector) -> None:
    """The old one scores all of the sound, and why the new one did not is told once."""
    make_failing(make_model(tmp_path / "new.onnx", clip_windows=4, seed=7))
    samples = normal_sound(12 * 16_000, 5)
    alone, _ = heard(old, Recording(samples, 16_000))

    notes, listener = heard(
        old, Recording(samples, 16_000), 3 * 16, detector_of(tmp_path / "new.onnx")
    )

    assert notes.said == alone.said
    assert "output is not finite" in listener.refusal
    assert listener.in_force is listener.wanted is old


def test_model_that_fails_from_the_start_gives_way_to_one_that_does_not(
    tmp_path: Path, old: Detector
) -> None:
    """It is told, it ends nothing, and one that is left for the listener takes over as ever."""
    make_failing(make_model(tmp_path / "failing.onnx", clip_windows=4))
    source = Recording(normal_sound(12 * 16_000, 5), 16_000)
    faults = []

    notes, listener = heard(detector_of(tmp_path / "failing.onnx"), source)
    faults.append(listener.facts().model_fault)
    source = Recording(normal_sound(12 * 16_000, 5), 16_000)
    mended, listener = heard(detector_of(tmp_path / "failing.onnx"), source, 5 * 16, old)
    faults.append(listener.facts().model_fault)

    assert "output is not finite" in faults[0]
    assert faults[1] == ""
    assert notes.said == []
    assert mended.said[0] == "threshold 1e+09"
    assert len(list(scores_of(mended.said))) > 10


def test_model_that_fails_once_goes_on_and_keeps_its_alarm(tmp_path: Path) -> None:
    """A window that it cannot score costs the scores that rest on it, and says no second start."""
    path = tmp_path / "failing.onnx"
    make_failing(make_model(path, clip_windows=4), loudest_db=(20.0, 1e6))
    sound = normal_sound(20 * 16_000, 5)
    sound[8 * 16_000 : 9 * 16_000] = 0.99 * np.sign(sound[8 * 16_000 : 9 * 16_000])
    raised = detector_of(path, threshold=-1e9, clear_threshold=-1e9)

    notes, listener = heard(raised, Recording(sound, 16_000))

    assert [one for one in notes.said if isinstance(one, str)] == ["start"]
    assert listener.facts().alarm
    assert listener.facts().model_fault == ""
    assert listener.facts().ended
    ends = [score.end_sample for score in scores_of(notes.said)]
    assert max(b - a for a, b in pairwise(ends)) > 4 * 16_000
    assert ends[-1] > 19 * 16_000


def test_file_that_grows_counts_as_changed_once_it_rests(tmp_path: Path) -> None:
    """While it is written it is left alone; then it has changed, once."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    watch = FileWatch([path])
    seen = [watch.changed()]
    for n_bytes in (1, 2, 3):
        path.write_bytes(b"x" * 100 * n_bytes)
        seen.append(watch.changed())

    assert seen == [False, False, False, False]
    assert [watch.changed() for _ in range(3)] == [True, False, False]


def test_file_written_anew_with_its_size_and_time_counts_as_changed(tmp_path: Path) -> None:
    """As `cp -p` and images do, whose files all have one time; the inode tells when it changed."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    before = path.stat()
    watch = FileWatch([path])

    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of files is a coarse one
        path.write_bytes(b"new")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [watch.changed() for _ in range(3)] == [False, True, False]


def test_file_of_the_same_size_in_its_place_counts_as_changed(tmp_path: Path) -> None:
    """A file renamed into the place of another differs by its inode alone."""
    path, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    path.write_bytes(b"old")
    other.write_bytes(b"new")
    watch = FileWatch([path])

    other.replace(path)
    replaced = [watch.changed() for _ in range(3)]
    path.unlink()
    gone = [watch.changed() for _ in range(3)]

    assert replaced == [False, True, False]
    assert gone == [False, True, False]


def test_network_that_is_lost_in_a_window_is_ended(
    tmp_path: Path, old: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start it is told, on trial beside another it is given up; the thread goes on."""
    monkeypatch.setattr(runwatch, "LONGEST_RUN_S", 0.2)
    make_stalling(make_model(tmp_path / "lost.onnx", clip_windows=4, seed=7))
    lost = detector_of(tmp_path / "lost.onnx")
    samples = normal_sound(6 * 16_000, 5)
    alone, _ = heard(old, Recording(samples, 16_000))

    notes, listener = heard(lost, Recording(samples[: 3 * 16_000], 16_000))
    beside, beside_listener = heard(old, Recording(samples, 16_000), 16, lost)

    assert "does not come to an end" in listener.facts().model_fault
    assert notes.said == []
    assert beside.said == alone.said
    assert "does not come to an end" in beside_listener.refusal


def test_window_that_is_not_due_yet_is_not_missed(old: Detector) -> None:
    """A model of long windows is no scorer that has stopped: age counts from when one is due."""
    listener = Listener("m1", old, Recording(normal_sound(1000), 16_000), Notes(old))

    assert -2.08 <= listener.facts().window_age_s < 0.0
    assert listener._pipeline.due_s == pytest.approx(2.08)
    listener._pipeline.process(AudioBlock(normal_sound(3 * 16_000), 0))
    assert listener._pipeline.due_s == pytest.approx(0.256)
