"""``python -m tests.benchmarks.calibration CACHE``: are budgets of false alarms kept?

Four machines are learned on day one from ten minutes of normal sound, calibrated from more of it,
and listened to for two days of normal operation each (`normal_operation` makes the sound).  Each
alarm in it is a false one.  Then their blades break.
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from edgeasd.baseline.alarm_rate import WEEK_S, AlarmRate, NormalScores, count_alarms
from edgeasd.baseline.covariance import NormalSound
from edgeasd.baseline.learning import CLIP_WINDOWS, cross_scores, cut_clips, learn, normal_scores
from edgeasd.baseline.score_drift import QUANTILES, ScoreDriftMeter
from edgeasd.baseline.tail import poisson_rate
from edgeasd.baseline.validity import AlarmCounter
from edgeasd.common.config.keys import AlarmConfig
from edgeasd.common.types import Float32Array, Float64Array, Score
from edgeasd.detect.alarm import Alarm, AlarmSpec
from edgeasd.detect.model.document import SectionDocument
from edgeasd.detect.pipeline import Detection
from edgeasd.models.detector import alarm_spec
from edgeasd.offline.learn import FIRST_BUDGET
from tests.benchmarks.normal_operation import (
    RATE,
    SECTIONS,
    SNRS_DB,
    WINDOW,
    Noise,
    clips_of,
    embeddings,
    load,
    mix,
    recordings,
)

HOUR_S = 3600.0
HOP_S = 0.256
WINDOWS_PER_HOUR = round(HOUR_S / HOP_S)
CALIBRATED_H = 6
BUDGETS = {"6 an hour": 6 / HOUR_S, "1 a day": 1 / (24 * HOUR_S), "1 a week": 1 / (168 * HOUR_S)}
LENGTHS = {"10 min": (1 / 6, 6), "1 h": (1.0, 6), "6 h": (6.0, 1)}
"""Hours of calibration sound, and how many such pieces are taken from the six hours."""
SPEC = alarm_spec(AlarmConfig(), SectionDocument("", 0.0, 0.0), RATE)
BEFORE_S, FAULT_S = 60, 40
CAUGHT_S = 30.0


def scores_of(normal: NormalSound, rows: Float32Array) -> Float64Array:
    """Return the scores that the daemon makes of a stream of embeddings, all at once."""
    sums = np.cumsum(
        np.concatenate((np.zeros((1, rows.shape[1])), rows.astype(np.float64))), axis=0
    )
    scores = []
    for start in range(0, len(rows) - CLIP_WINDOWS + 1, WINDOWS_PER_HOUR):
        block = sums[start : start + WINDOWS_PER_HOUR + CLIP_WINDOWS]
        means = (block[CLIP_WINDOWS:] - block[:-CLIP_WINDOWS]) / CLIP_WINDOWS
        (distance,) = normal.distances
        differences = (means - normal.references[0].values[0]) @ distance.whitening.values.T
        scores.append(np.linalg.norm(differences, axis=1))
    return np.concatenate(scores)


def learn_10_min(cache: Path, section: str, snr_db: int = SNRS_DB[0]) -> NormalSound:
    """Return what the first ten minutes of the learning stream teach."""
    rows = load(cache, section, "learn", snr_db)[: WINDOWS_PER_HOUR // 6]
    return learn(cut_clips([rows], CLIP_WINDOWS))


def official_threshold(scores: NormalScores, budget: float) -> float:
    """Return the threshold of the official baseline: a quantile of a gamma fitted to clips' scores.

    Its 90th percentile is replaced by the one that gives *budget* at a decision every ten seconds.
    """
    clips = scores.values[::CLIP_WINDOWS]
    shape, place, scale = stats.gamma.fit(clips)
    span_s = CLIP_WINDOWS * HOP_S
    return float(stats.gamma.isf(budget * span_s, shape, place, scale))


@dataclass(frozen=True)
class Trial:
    """One calibration and what came of it.

    Attributes:
        alarms: False alarms in the operation.
        duration_s: Of the operation.
        interval: Printed rates a second, 95 %; of the gamma rule none is.
        section: Of the machine.
    """

    alarms: int
    duration_s: float
    interval: tuple[float, float] | None
    section: str

    @property
    def honest(self) -> bool:
        """Whether what was measured agrees with what was printed."""
        measured = poisson_rate(self.alarms, self.duration_s)
        assert self.interval is not None
        return measured.low <= self.interval[1] and measured.high >= self.interval[0]


def spec_at(rates: AlarmRate, threshold: float) -> AlarmSpec:
    """Return the alarm at *threshold*, with the clear threshold that goes with it."""
    return replace(SPEC, threshold=threshold, clear_threshold=rates.clear_threshold(threshold))


def trials_of(
    section: str, calibration: Float64Array, operation: NormalScores
) -> Iterator[tuple[tuple[str, str, str], Trial]]:
    """Yield each calibration by pieces of *calibration*, by its length, budget and rule."""
    for length, (hours, n_pieces) in LENGTHS.items():
        size = round(hours * WINDOWS_PER_HOUR)
        for piece in range(n_pieces):
            start = piece * WINDOWS_PER_HOUR
            scores = normal_scores([calibration[start : start + size]])
            rates = AlarmRate(scores, SPEC)
            for name, budget in BUDGETS.items():
                chosen = rates.threshold(budget)
                printed, _ = rates.at(chosen)
                by_rule = {
                    "edgeasd": (chosen, (printed.low, printed.high)),
                    "gamma": (official_threshold(scores, budget), None),
                }
                for rule, (threshold, interval) in by_rule.items():
                    alarms = count_alarms(operation, spec_at(rates, threshold))
                    trial = Trial(alarms, operation.duration_s, interval, section)
                    yield (length, name, rule), trial


def hours_to_drift(calibration: Float64Array, operation: Float64Array) -> float:
    """Return after how many hours of *operation* its scores are told to have drifted; or infinity.

    As in the daemon, but that there a score during an alarm does not count.
    """
    meter = ScoreDriftMeter(np.quantile(calibration, QUANTILES).tolist(), RATE)
    hop = round(HOP_S * RATE)
    for index, value in enumerate(operation[::CLIP_WINDOWS]):
        position = index * CLIP_WINDOWS * hop
        meter.process(Score(float(value), position, CLIP_WINDOWS * hop))
        if meter.drift is not None and meter.drift.drifted:
            return position / RATE / HOUR_S
    return np.inf


def hours_to_too_many(
    rates: AlarmRate, operation: Float64Array, budget: float
) -> tuple[float, int]:
    """Return when it is told that alarms come too often, in hours of *operation*, and their number.

    Infinity and the number of all of them where it is not.
    """
    threshold = rates.threshold(budget)
    printed, _ = rates.at(threshold)
    alarm = Alarm(spec_at(rates, threshold))
    counter = AlarmCounter(printed.high * WEEK_S, RATE)
    hop = round(HOP_S * RATE)
    n_alarms = 0
    for index, value in enumerate(operation):
        score = Score(float(value), index * hop, CLIP_WINDOWS * hop)
        event = alarm.process(score)
        counter.process(Detection(score, event))
        if event is not None and event.type == "start":
            n_alarms += 1
            if counter.count is not None and counter.count.too_many:
                return score.end_sample / RATE / HOUR_S, n_alarms
    return np.inf, n_alarms


def measure_budgets(cache: Path) -> dict[tuple[str, str, str, str], list[Trial]]:
    """Calibrate by the same recordings as in operation, and by others; return all trials."""
    trials = defaultdict(list)
    for section in SECTIONS:
        normal = learn_10_min(cache, section)
        heard = scores_of(normal, load(cache, section, "operate"))
        cut = CALIBRATED_H * WINDOWS_PER_HOUR
        operation = normal_scores([heard[cut:]])
        other = scores_of(normal, load(cache, section, "calibrate"))
        print(
            f"section {section}: median score {np.median(other):.1f} calibrating, "
            f"{np.median(heard):.1f} in operation, {operation.duration_s / HOUR_S:.0f} h; drift "
            f"told after {hours_to_drift(other, heard[cut:]):.0f} h",
            flush=True,
        )
        rates = AlarmRate(normal_scores([other]), SPEC)
        for name, budget in BUDGETS.items():
            hours, n_alarms = hours_to_too_many(rates, heard[cut:], budget)
            print(f"  {name}: too many alarms told after {hours:.1f} h, at {n_alarms}", flush=True)
        for source, calibration in (("same", heard[:cut]), ("other", other)):
            for (length, name, rule), trial in trials_of(section, calibration, operation):
                trials[source, length, name, rule].append(trial)
    return trials


def print_budgets(trials: dict[tuple[str, str, str, str], list[Trial]]) -> None:
    """Print a row for each setting: measured over asked for."""
    print("| recordings | calibrated | asked for | rule | measured / asked | by section | honest |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (source, length, name, rule), each in trials.items():
        budget = BUDGETS[name]
        # The trials of a section share its operation: alarms are averaged over them.
        alarms = sum(one.alarms for one in each) * len(SECTIONS) / len(each)
        duration_s = sum({one.section: one.duration_s for one in each}.values())
        rate = poisson_rate(alarms, duration_s)
        by_section = [
            np.mean([one.alarms / one.duration_s for one in each if one.section == section])
            for section in SECTIONS
        ]
        honest = "" if rule == "gamma" else f"{np.mean([one.honest for one in each]):.0%}"
        print(
            f"| {source} | {length} | {name} | {rule} | {alarms / duration_s / budget:.2f} "
            f"({rate.low / budget:.2f} to {rate.high / budget:.2f}) | "
            f"{', '.join(f'{one / budget:.2g}' for one in by_section)} | {honest} |"
        )


def faults(section: str, snr_db: float) -> Iterator[Float32Array]:
    """Yield for each broken-blade recording a minute of normal sound, then 40 s of it."""
    normal = clips_of(section, "operate")
    rng = np.random.default_rng(zlib.crc32(f"{section}{snr_db}".encode()))
    noise = Noise(rng)
    for broken in recordings(section, "test", "anomaly").values():
        chosen = [normal[index] for index in rng.integers(len(normal), size=BEFORE_S // 10)]
        chosen += [broken[index % len(broken)] for index in range(FAULT_S // 10)]
        clean = np.concatenate([clip[: 10 * RATE] for clip in chosen])
        yield np.concatenate(list(embeddings(iter([mix(clean, noise.take(len(clean)), snr_db)]))))


def delay_s(scores: Float64Array, spec: AlarmSpec) -> float:
    """Return the seconds from the fault to the alarm; infinity if it does not come in 40 s."""
    first = BEFORE_S / HOP_S - CLIP_WINDOWS + 1
    for end in range(round(first), len(scores) + 1):
        if scores[max(0, end - SPEC.raise_after) : end].min() >= spec.threshold:
            return (end + CLIP_WINDOWS) * HOP_S - BEFORE_S
    return np.inf


def measure_faults(cache: Path) -> None:
    """Print how many broken blades are caught within 30 s, and when, at each level of noise."""
    print("| noise | calibrated | asked for | rule | caught in 30 s | median delay |")
    print("| --- | --- | --- | --- | --- | --- |")
    for snr_db in SNRS_DB:
        delays: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for section in SECTIONS:
            normal = learn_10_min(cache, section, snr_db)
            heard = scores_of(normal, load(cache, section, "calibrate", snr_db))
            broken = [scores_of(normal, rows) for rows in faults(section, snr_db)]
            for length, (hours, _) in LENGTHS.items():
                scores = normal_scores([heard[: round(hours * WINDOWS_PER_HOUR)]])
                if len(heard) < hours * WINDOWS_PER_HOUR - CLIP_WINDOWS:
                    continue
                rates = AlarmRate(scores, SPEC)
                rules: dict[str, Callable[[float], float]] = {
                    "edgeasd": rates.threshold,
                    "gamma": partial(official_threshold, scores),
                }
                for name, budget in BUDGETS.items():
                    for rule, choose in rules.items():
                        spec = replace(SPEC, threshold=choose(budget), clear_threshold=0.0)
                        delays[length, name, rule] += [delay_s(one, spec) for one in broken]
        for key, each in delays.items():
            caught = np.array(each) <= CAUGHT_S
            median = np.median(np.array(each)[caught]) if caught.any() else np.nan
            print(
                f"| {-snr_db} dB | {' | '.join(key)} | {caught.mean():.0%} of {len(each)} | "
                f"{median:.1f} s |",
                flush=True,
            )


def measure_first(cache: Path) -> None:
    """Print what the first threshold of `learn` is worth, with nothing calibrated."""
    print("| learned from | section | first threshold / typical | caught | false alarms a day |")
    print("| --- | --- | --- | --- | --- |")
    broken = {section: list(faults(section, SNRS_DB[0])) for section in SECTIONS}
    for minutes in (5, 10, 20, 60):
        for section in SECTIONS:
            rows = load(cache, section, "learn")[: round(minutes / 60 * WINDOWS_PER_HOUR)]
            normal = learn(cut_clips([rows], CLIP_WINDOWS))
            rate = AlarmRate(cross_scores([rows]), SPEC)
            threshold = rate.threshold(FIRST_BUDGET)
            spec = spec_at(rate, threshold)
            typical = 2 * spec.clear_threshold - threshold
            operation = normal_scores([scores_of(normal, load(cache, section, "operate"))])
            caught = [delay_s(scores_of(normal, one), spec) <= CAUGHT_S for one in broken[section]]
            alarms = count_alarms(operation, spec) / operation.duration_s * 24 * HOUR_S
            print(
                f"| {minutes} min | {section} | {threshold / typical:.1f} | "
                f"{np.mean(caught):.0%} | {alarms:.1f} |",
                flush=True,
            )


def main() -> None:
    """Measure budgets, faults, and what there is before any calibration."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    args = parser.parse_args()
    assert WINDOW.hop_frames * 512 / RATE == HOP_S
    print_budgets(measure_budgets(args.cache))
    measure_faults(args.cache)
    measure_first(args.cache)


if __name__ == "__main__":
    main()
