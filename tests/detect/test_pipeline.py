"""Tests of the stages together, on small real networks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeasd.baseline.validity import AlarmCounter
from edgeasd.common.types import AudioBlock, Float32Array
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.levels import LevelMeter
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Detection, Pipeline
from edgeasd.detect.scoring import clip_score
from edgeasd.detect.windows import WindowSpec
from edgeasd.offline.recordings.cutter import Cutter
from tests.detect.cutting import BLOCK_LENGTHS, Stream, cut_at, cut_every, cuts, stream_of, streams
from tests.detect.models import (
    faulty_sound,
    load_model,
    make_content,
    make_document,
    make_model,
    normal_sound,
    offline_windows,
)

SMALL = {
    method: Model(
        make_content(
            make_document(
                n_sections=n_sections,
                method=method,
                features=FeatureSpec(n_fft=64, hop_length=32, n_mels=8),
                window=WindowSpec(n_frames=8, hop_frames=4, median_frames=3),
                clip_windows=5,
            ),
            normal=normal_sound(8_000),
        ),
        method,
    )
    for method, n_sections in (("nearest", 1), ("log_odds", 3))
}
SOUND = np.concatenate((normal_sound(3_000), faulty_sound(2_000), normal_sound(3_000, seed=1)))
METHODS = pytest.mark.parametrize("method", ["nearest", "log_odds"])


def make_pipeline(
    model: Model, update_every: int = 500, source_rate: int | None = None
) -> Pipeline:
    """Return a pipeline for the first section of *model*, with its thresholds."""
    section = model.document.sections[0]
    spec = AlarmSpec(
        section.threshold,
        section.clear_threshold,
        raise_after=2,
        clear_after=2,
        update_every=update_every,
    )
    return Pipeline(model, 0, spec, source_rate=source_rate)


def play(pipeline: Pipeline, blocks: list[AudioBlock]) -> list[Detection]:
    """Return what *pipeline* makes of *blocks*."""
    return [detection for block in blocks for detection in pipeline.process(block)]


def event_types(detections: list[Detection]) -> list[str]:
    """Return the types of the events in *detections*."""
    return [detection.event.type for detection in detections if detection.event is not None]


def offline_scores(model: Model, samples: Float32Array) -> list[float]:
    """Return the clip score of every run of windows of *samples*, by the functions for clips."""
    outputs = [model.run(window) for window in offline_windows(samples, model.document)]
    n_windows = model.document.scoring.clip_windows
    return [
        clip_score(model.scoring(0), outputs[start : start + n_windows])
        for start in range(len(outputs) - n_windows + 1)
    ]


# --- the cut of the blocks -----------------------------------------------------------------------


@METHODS
def test_pipeline_finds_the_fault(method: str) -> None:
    """The sound that these tests play starts an alarm, keeps it and ends it."""
    detections = play(make_pipeline(SMALL[method]), cut_every(SOUND, 1000))

    types = event_types(detections)
    assert types[0] == "start"
    assert types[-1] == "end"
    assert set(types[1:-1]) == {"update"}


@METHODS
@pytest.mark.parametrize("block_length", BLOCK_LENGTHS)
def test_pipeline_streamed_equals_offline(method: str, block_length: int) -> None:
    """Scores are the clip scores of the offline windows for every block size, bit for bit."""
    model = SMALL[method]
    pipeline = make_pipeline(model)

    detections = play(pipeline, cut_every(SOUND, block_length))

    assert [detection.score.value for detection in detections] == offline_scores(model, SOUND)
    assert pipeline.windows == len(detections) + 4
    assert pipeline.gaps == 0


@settings(max_examples=50)
@given(cuts(len(SOUND)), st.integers(0, 2**40))
def test_pipeline_any_cut_gives_the_same_scores_and_events(
    places: list[int], first_sample: int
) -> None:
    """Scores, events and positions do not depend on the cut of the blocks."""
    model = SMALL["nearest"]
    whole = play(make_pipeline(model), [AudioBlock(SOUND, first_sample)])

    detections = play(make_pipeline(model), cut_at(SOUND, places, first_sample))

    assert detections == whole
    assert detections[0].score.first_sample == first_sample


@settings(max_examples=30)
@given(cuts(len(SOUND)), st.lists(st.integers(1, len(SOUND) - 1), max_size=3, unique=True))
def test_pipeline_resampled_sound_with_gaps_gives_the_same_for_any_cut(
    places: list[int], gaps: list[int]
) -> None:
    """At another rate and with interruptions, nothing depends on the cut of the blocks either."""

    def detect(cuts: set[int]) -> list[Detection]:
        pipeline = make_pipeline(SMALL["nearest"], source_rate=11_025)
        blocks = [
            # A gap is 1000 samples of time; no sample of SOUND is lost.
            replace(block, first_sample=at + 1000 * bisect_right(breaks, at))
            for block in cut_at(SOUND, sorted(cuts))
            for at in [block.first_sample]
        ]
        return play(pipeline, blocks) + pipeline.flush()

    breaks = sorted(gaps)

    assert detect({*places, *breaks}) == detect(set(breaks))


# --- sound that says nothing of the machine ------------------------------------------------------

SLOW = Model(
    make_content(
        make_document(
            n_sections=1,
            method="nearest",
            features=FeatureSpec(sample_rate=1_600, n_fft=64, hop_length=32, n_mels=8, fmax=800.0),
            window=WindowSpec(n_frames=8, hop_frames=4, median_frames=3),
            clip_windows=5,
        ),
        normal=normal_sound(8_000),
    ),
    "slow",
)
"""A second of its sound is 1600 samples: streams of half a minute are cut in no time."""
SPAN = 400
SPOILT = stream_of(
    [
        *(("normal", 2_000), ("faulty", 2_000), ("flat", 3_700), ("faulty", 1_500)),
        *(("muted", 900), ("normal", 2_500), ("lost", 0), ("faulty", 1_800), ("lost", 0)),
        *(("clipped", 1_000), ("normal", 3_000), ("quiet", 17_000), ("faulty", 1_300)),
        *(("flat", 410), ("faulty", 1_700), ("normal", 3_000)),
    ]
)


@dataclass
class Listener:
    """All that depends on sound: what the daemon makes of a stream, and the meters."""

    pipeline: Pipeline
    counter: AlarmCounter
    levels: LevelMeter
    cutter: Cutter
    clips: list[object]
    detections: list[Detection]

    def hear(self, block: AudioBlock) -> None:
        """Let all of them hear *block*."""
        self.levels.process(block)
        self.clips += [
            (one.flaw, one.n_lost, one.levels, one.samples.tobytes())
            for one in self.cutter.process(block)
        ]
        self._take(self.pipeline.process(block))

    def _take(self, detections: list[Detection]) -> None:
        for one in detections:
            self.counter.process(one)
            self.detections.append(one)

    def end(self) -> list[object]:
        """End the stream, and return all that was found in it."""
        self._take(self.pipeline.flush())
        signal = self.pipeline.signal
        return [
            self.detections,
            self.clips,
            self.counter.count,
            self.levels.levels,
            self.levels.signal.state,
            (signal.state, signal.level_dbfs, signal.n_defective, signal.n_judged),
            (self.pipeline.gaps, self.pipeline.windows, self.pipeline.alarm.active),
        ]


def everything(stream: Stream, places: Sequence[int], rate: int) -> list[object]:
    """Return what is found in *stream*, of a source of *rate*, cut at *places*."""
    listener = Listener(
        make_pipeline(SLOW, source_rate=rate),
        AlarmCounter(7.0, 1_600),
        LevelMeter(rate),
        Cutter(rate),
        [],
        [],
    )
    for block in stream.blocks(places):
        listener.hear(block)
    return listener.end()


@pytest.mark.parametrize("rate", [1_600, 4_410])
@pytest.mark.parametrize("length", [1, 17, 64, 1_000])
def test_pipeline_spoilt_sound_gives_the_same_for_every_block_size(rate: int, length: int) -> None:
    """Scores, events, states, levels, counts and clips; flat, muted, clipped and lost sound."""
    whole = everything(SPOILT, [], rate)

    assert everything(SPOILT, range(length, len(SPOILT.samples), length), rate) == whole


@settings(max_examples=40)
@given(streams(6_000), st.data())
def test_pipeline_any_spoilt_sound_gives_the_same_for_any_cut(
    stream: Stream, data: st.DataObject
) -> None:
    """Whatever a stream holds, and wherever it is cut."""
    places = data.draw(cuts(len(stream.samples)))
    rate = data.draw(st.sampled_from([1_600, 4_410]))

    assert everything(stream, places, rate) == everything(stream, [], rate)


def test_pipeline_spoilt_sound_has_events_and_defects_of_all_kinds() -> None:
    """The stream that these tests cut holds what they are about."""
    detections = play(make_pipeline(SLOW), SPOILT.blocks([]))

    assert {one.signal for one in detections} == {"ok", "flat_signal", "too_quiet", "clipping"}
    assert event_types(detections).count("start") >= 2
    assert all(one.event is None for one in detections if one.signal == "flat_signal")
    assert any(one.event is not None for one in detections if one.signal == "clipping")


@pytest.mark.parametrize("block_length", BLOCK_LENGTHS)
def test_pipeline_flat_sound_after_a_score_does_not_hide_its_event(block_length: int) -> None:
    """A fault that tears the cable off is told, also where both are in one block."""
    fault = faulty_sound(3_000)
    alone = play(make_pipeline(SLOW), [AudioBlock(fault, 0)])
    torn_off = np.concatenate((fault, np.zeros(8_000, np.float32)))

    detections = play(make_pipeline(SLOW), cut_every(torn_off, block_length))

    heard = [one for one in detections if one.signal != "flat_signal"]
    assert event_types(alone) == ["start", *["update"] * event_types(alone).count("update")]
    assert heard[: len(alone)] == alone
    # A span that only begins within its sound is none of a score's.
    assert all(one.score.end_sample < 3_000 + 2 * SPAN for one in heard)


def test_pipeline_that_joins_gaps_scores_windows_of_both_sides() -> None:
    """Clips of a machine that follow each other are scored on, by windows of one clip each."""
    clips = [normal_sound(2_000, seed) for seed in (3, 4)]
    pipeline = Pipeline(SLOW, 0, AlarmSpec(np.inf, np.inf), joins_gaps=True)

    detections = play(pipeline, [AudioBlock(clips[0], 0), AudioBlock(clips[1], 2_001)])

    outputs = [
        SLOW.run(window) for clip in clips for window in offline_windows(clip, SLOW.document)
    ]
    assert [one.score.value for one in detections] == [
        clip_score(SLOW.scoring(0), outputs[start : start + 5]) for start in range(len(outputs) - 4)
    ]


@METHODS
def test_pipeline_clip_of_ten_seconds_gives_one_score(tmp_path: Path, method: str) -> None:
    """A clip of the paper's length gives one score: that of all its 31 windows, exactly."""
    model = load_model(make_model(tmp_path / "a.onnx", n_sections=2, method=method))
    samples = faulty_sound(160_000, seed=3)

    detections = play(make_pipeline(model), cut_every(samples, 1600))

    outputs = [model.run(window) for window in offline_windows(samples, model.document)]
    assert len(outputs) == 31
    (detection,) = detections
    assert detection.score.value == clip_score(model.scoring(0), outputs)
    assert detection.score.first_sample == 0
    assert detection.score.n_samples == (30 * 8 + 63) * 512 + 1024


@pytest.mark.data
def test_pipeline_recording_scores_do_not_depend_on_the_cut(
    tmp_path: Path, data_folder: Path
) -> None:
    """Two recordings of a real machine, end to end, score the same however they are cut."""
    paths = sorted((data_folder / "dcase2020" / "slider" / "test").glob("*.flac"))[:2]
    assert len(paths) == 2
    samples = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths])
    model = load_model(make_model(tmp_path / "a.onnx"))

    runs = [
        play(make_pipeline(model), cut_every(samples, length)) for length in (160, 4_801, 10**9)
    ]

    assert runs[0] == runs[1] == runs[2]
    assert [detection.score.value for detection in runs[0]] == offline_scores(model, samples)


# --- gaps ----------------------------------------------------------------------------------------


@METHODS
@pytest.mark.parametrize("gap", [1, 32, 10**6])
def test_pipeline_after_a_gap_scores_like_a_fresh_one(method: str, gap: int) -> None:
    """A gap is counted, and no score rests on sound of both sides of it."""
    model = SMALL[method]
    pipeline, fresh = make_pipeline(model), make_pipeline(model)
    play(pipeline, cut_every(SOUND[:2_000], 300))
    after = cut_every(SOUND[2_000:], 300, first_sample=2_000 + gap)

    detections = play(pipeline, after)

    expected = [detection.score for detection in play(fresh, after)]
    assert [detection.score for detection in detections] == expected
    assert pipeline.gaps == 1
    assert fresh.gaps == 0


def test_pipeline_gap_before_an_empty_block_is_counted_once() -> None:
    """A block without samples still says where the stream stands."""
    pipeline = make_pipeline(SMALL["nearest"])
    play(pipeline, [AudioBlock(SOUND[:500], 0)])

    play(pipeline, [AudioBlock(SOUND[:0], 700), AudioBlock(SOUND[:500], 700)])

    assert pipeline.gaps == 1


def test_pipeline_alarm_survives_a_gap() -> None:
    """An alarm lasts over a gap without an event, and ends once, for the start before it."""
    pipeline = make_pipeline(SMALL["nearest"], update_every=10**9)
    before = play(pipeline, cut_every(faulty_sound(2_000), 300))
    (start,) = [detection.event for detection in before if detection.event is not None]

    still_faulty = play(pipeline, cut_every(faulty_sound(1_000), 300, first_sample=5_000))
    healthy = play(pipeline, cut_every(normal_sound(2_000), 300, first_sample=9_000))

    assert event_types(still_faulty) == []
    (end,) = [detection.event for detection in healthy if detection.event is not None]
    assert (start.type, end.type) == ("start", "end")
    assert end.start_sample == start.first_sample
    assert pipeline.gaps == 2
    assert not pipeline.alarm.active


@pytest.mark.parametrize("first_sample", [0, 1_999])
def test_pipeline_block_that_goes_back_raises(first_sample: int) -> None:
    """A position that was already heard is a bug of the source."""
    pipeline = make_pipeline(SMALL["nearest"])
    pipeline.process(AudioBlock(SOUND[:2_000], 0))

    with pytest.raises(ValueError, match=f"^first_sample={first_sample} must be at least 2000$"):
        pipeline.process(AudioBlock(SOUND[:10], first_sample))


def test_pipeline_reset_equals_new() -> None:
    """After a reset sound, alarm and position are forgotten; the counters stay."""
    model = SMALL["nearest"]
    pipeline = make_pipeline(model)
    play(pipeline, [AudioBlock(faulty_sound(2_000), 10**6)])
    assert pipeline.alarm.active
    windows = pipeline.windows

    pipeline.reset()

    assert not pipeline.alarm.active
    assert play(pipeline, cut_every(SOUND, 700)) == play(
        make_pipeline(model), [AudioBlock(SOUND, 0)]
    )
    assert pipeline.gaps == 0
    assert pipeline.windows > windows > 0


def test_pipelines_that_share_a_model_do_not_meet() -> None:
    """Two machines on one model score as each alone, block by block in turn."""
    model = SMALL["nearest"]
    sounds = [SOUND, SOUND[::-1].copy()]
    alone = [play(make_pipeline(model), cut_every(sound, 700)) for sound in sounds]
    pipelines = [make_pipeline(model) for _ in sounds]

    together: list[list[Detection]] = [[], []]
    for blocks in zip(*(cut_every(sound, 700) for sound in sounds), strict=True):
        for found, pipeline, block in zip(together, pipelines, blocks, strict=True):
            found.extend(pipeline.process(block))

    assert together == alone
