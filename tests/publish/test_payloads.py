"""Payloads agree with their schemas, and their values are exact."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.baseline.score_drift import Drift
from edgeasd.baseline.validity import AlarmCount
from edgeasd.common.types import AlarmEvent, Score
from edgeasd.publish.payloads.encoding import StreamClock, encode, rfc3339
from edgeasd.publish.payloads.event import AudioQuality, event_payload
from edgeasd.publish.payloads.fields import ModelIdentity, Payload
from edgeasd.publish.payloads.health import (
    CalibrationHealth,
    ClipsHealth,
    MachineHealth,
    MqttHealth,
    health_payload,
)
from edgeasd.publish.payloads.score import score_payload
from edgeasd.publish.payloads.state import state_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMAS = Path(__file__).parents[2] / "deploy" / "schemas"
RATE = 16_000
START_S = 1_795_364_100.0
CLOCK = StreamClock(START_S, RATE)
MODEL = ModelIdentity("press07", "9c1e" * 16, "1.4.0")
AUDIO = AudioQuality(level_dbfs=-31.2, gaps=0, overruns=0)


def event(**changed: Any) -> Payload:
    """A start 34.12 s into the stream."""
    end = 545_920
    alarm = AlarmEvent("start", 3.42, 2.80, 2.40, start_sample=end, first_sample=end)
    arguments: dict[str, Any] = {
        "event": alarm,
        "node": "edge-03",
        "machine": "press07",
        "boot_id": "5f1c2a9b",
        "seq": 123,
        "clock": CLOCK,
        "clock_synced": True,
        "model": MODEL,
        "audio": AUDIO,
        **changed,
    }
    return event_payload(arguments.pop("event"), **arguments)


def state(**changed: Any) -> Payload:
    """An alarm that lasts."""
    arguments: dict[str, Any] = {
        "node": "edge-03",
        "machine": "press07",
        "state": "alarm",
        "since_s": START_S,
        "event_id": "edge-03-5f1c2a9b-000123",
        "score": 3.42,
        "threshold": 2.8,
        "reason": "score 3.42 is above the threshold 2.80",
        **changed,
    }
    return state_payload(**arguments)


def score(values: tuple[float, ...] = (1.0, 4.0, 2.5), level_dbfs: float = -31.2) -> Payload:
    """Three scores, 4096 samples apart."""
    scores = [Score(value, 4096 * index, 160_000) for index, value in enumerate(values)]
    return score_payload(
        scores,
        node="edge-03",
        machine="press07",
        clock=CLOCK,
        threshold=2.8,
        level_dbfs=level_dbfs,
    )


def health(
    *, storage_fault: str = "", real_time_factor: float = 0.08, drift_ppm: float = 12.5
) -> Payload:
    """A node with one machine."""
    machine = MachineHealth(
        name="press07",
        state="ok",
        reason="",
        blocks=1200,
        windows=117,
        gaps=1,
        overruns=0,
        real_time_factor=real_time_factor,
        late_s=0.0,
        restarts=0,
        level_dbfs=-31.2,
        drift_ppm=drift_ppm,
        model=MODEL,
        model_fault="",
        calibration=CalibrationHealth(
            2, "", Drift(0.1, 24, drifted=False), AlarmCount(1, 24.0, 0.4, too_many=False)
        ),
    )
    return health_payload(
        node="edge-03",
        time_s=START_S,
        version="0.2.0",
        uptime_s=30.5,
        boot_id="5f1c2a9b",
        mqtt=MqttHealth(connected=True, reconnects=2, queued_events=0, dropped_events=0, fault=""),
        machines=[machine],
        storage_fault=storage_fault,
        clips=ClipsHealth(ok=True, reason="", written=3, dropped=0),
        refused=["node='edge-04' needs a restart"],
    )


BUILDERS: dict[str, Callable[[], Payload]] = {
    "event": event,
    "state": state,
    "score": score,
    "health": health,
}


IMPOSSIBLE: list[tuple[str, Any]] = [
    ("schema", "edgeasd.event/2"),
    ("type", "begin"),
    ("state", "broken"),
    ("node", "a/b"),
    ("machine", ""),
    ("time", "2026-11-22 16:15:34"),
    ("since", "2026-11-22T16:15:34Z"),
    ("boot_id", "xyz"),
    ("seq", -1),
    ("n_scores", 0),
    ("duration_s", -0.5),
]


def validator(name: str) -> Any:
    """The schema of *name*, itself checked."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_event_of_the_reference_has_its_fields() -> None:
    """The example of the documentation comes out field by field."""
    made = event()

    assert made == {
        "schema": "edgeasd.event/1",
        "id": "edge-03-5f1c2a9b-000123",
        "type": "start",
        "time": "2026-11-22T16:15:34.120Z",
        "time_ms": 1_795_364_134_120,
        "clock_synced": True,
        "boot_id": "5f1c2a9b",
        "seq": 123,
        "node": "edge-03",
        "machine": "press07",
        "first_sample": 545_920,
        "score": 3.42,
        "threshold": 2.80,
        "clear_threshold": 2.40,
        "duration_s": 0.0,
        "model": {"id": "press07", "sha256": "9c1e" * 16, "version": "1.4.0"},
        "audio": {"level_dbfs": -31.2, "gaps": 0, "overruns": 0},
        "clip": None,
    }


def test_event_end_has_the_duration_of_the_alarm() -> None:
    """The duration is counted in samples since the score that started the alarm."""
    end = AlarmEvent("end", 1.0, 2.8, 2.4, start_sample=RATE, first_sample=RATE * 11 + RATE // 4)

    made = event(event=end)

    assert made["duration_s"] == 10.25


@pytest.mark.parametrize(
    "made",
    [
        event(),
        event(audio=AudioQuality(-math.inf, 3, 1), clock_synced=False, seq=1_234_567),
        state(),
        state(state="ok", event_id=None, score=None, reason=""),
        score(),
        score((0.5,), level_dbfs=-math.inf),
        health(),
        health(storage_fault="disk full", real_time_factor=math.nan, drift_ppm=math.nan),
    ],
    ids=lambda made: made["schema"],
)
def test_payload_as_sent_agrees_with_its_schema(made: Payload) -> None:
    """A payload as sent has exactly the fields that its schema describes."""
    name = made["schema"].removeprefix("edgeasd.").removesuffix("/1")

    sent = json.loads(encode(made))

    validator(name).validate(sent)
    assert sent.keys() == validator(name).schema["properties"].keys()


def mutations(value: Any) -> Iterator[Any]:
    """Every way to lose, add or mistype one thing in *value*."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {other: value[other] for other in value if other != key}
            yield from ({**value, key: changed} for changed in mutations(inner))
        yield {**value, "surprise": 1}
    elif isinstance(value, list):
        yield from ([changed] for inner in value for changed in mutations(inner))
        yield "no list"
    elif isinstance(value, str):
        yield 1
    else:
        yield "no number, no boolean and no null"


@pytest.mark.parametrize("name", BUILDERS)
def test_schema_of_a_wrong_payload_refuses_it(name: str) -> None:
    """No key may be missing, extra or of another type, at any depth."""
    right = json.loads(encode(BUILDERS[name]()))
    schema = validator(name)

    accepted = [wrong for wrong in mutations(copy.deepcopy(right)) if schema.is_valid(wrong)]

    assert schema.is_valid(right)
    assert accepted == []


@pytest.mark.parametrize(
    ("name", "key", "wrong"),
    [
        (name, key, wrong)
        for name, build in BUILDERS.items()
        for key, wrong in IMPOSSIBLE
        if key in build()
    ],
)
def test_schema_of_a_value_that_cannot_be_refuses_it(name: str, key: str, wrong: Any) -> None:
    """Names, times, states and counts have their form."""
    made = {**BUILDERS[name](), key: wrong}

    accepted = validator(name).is_valid(made)

    assert not accepted


@pytest.mark.parametrize("name", BUILDERS)
def test_schema_describes_every_field(name: str) -> None:
    """Each property says in words what it means."""
    silent: list[str] = []

    definitions = validator(name).schema.get("$defs", {})

    def walk(where: str, schema: dict[str, Any]) -> None:
        for key, inner in schema.get("properties", {}).items():
            kind = definitions.get(inner.get("$ref", "").rpartition("/")[2], {})
            if not (inner.get("description") or kind.get("description")):
                silent.append(f"{where}.{key}")
            walk(f"{where}.{key}", inner)
            walk(f"{where}.{key}[]", inner.get("items", {}))

    walk(name, validator(name).schema)
    for key, kind in definitions.items():
        walk(key, kind)

    assert silent == []


def test_score_payload_of_several_scores_sums_them_up() -> None:
    """The last score, the extremes and the mean; position and time are the last's."""
    made = score((1.0, 4.0, 2.5))

    assert [made[key] for key in ("score", "min", "mean", "max")] == [2.5, 1.0, 2.5, 4.0]
    assert (made["n_scores"], made["first_sample"], made["n_samples"]) == (3, 8192, 160_000)
    assert made["time_ms"] == 1000 * START_S + 10_512


def test_health_payload_of_a_storage_fault_says_so() -> None:
    """Storage is ok exactly when there is no fault."""
    well, ill = health(), health(storage_fault="disk full")

    assert well["storage"] == {"ok": True, "reason": ""}
    assert ill["storage"] == {"ok": False, "reason": "disk full"}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_encode_of_any_score_survives_the_round_trip(value: float) -> None:
    """A subscriber reads exactly the score that was computed."""
    sent = encode(state(score=value))

    assert json.loads(sent)["score"] == value


EVENT_VALIDATOR = validator("event")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=8) | st.just("\ud800")  # JSON, so a model's name, may have half a pair
POSITIONS = st.integers(0, 2**44)  # 35 years


ALARMS = st.builds(
    lambda kind, numbers, positions: AlarmEvent(kind, *numbers, *positions),
    st.sampled_from(["start", "update", "end"]),
    st.tuples(NUMBERS, NUMBERS, NUMBERS),
    st.tuples(POSITIONS, POSITIONS).map(sorted),
)


@given(
    ALARMS,
    st.builds(AudioQuality, NUMBERS | st.just(-math.inf), st.integers(0), st.integers(0)),
    st.builds(ModelIdentity, TEXTS, st.just("0" * 64), TEXTS),
    st.floats(0, 2**37),  # Linux refuses to set its clock before 1970
)
def test_event_of_any_finding_is_sent_and_agrees_with_its_schema(
    alarm: AlarmEvent, audio: AudioQuality, model: ModelIdentity, start_s: float
) -> None:
    """Whatever the score, the position, the clock and the model's name, the alert is sent."""
    sent = encode(event(event=alarm, audio=audio, model=model, clock=StreamClock(start_s, RATE)))

    read = json.loads(sent)
    EVENT_VALIDATOR.validate(read)
    assert read["score"] == alarm.score
    assert read["first_sample"] == alarm.first_sample
    assert read["time"] == rfc3339(read["time_ms"])


def test_encode_is_compact_utf8() -> None:
    """It has no blanks, and letters are not escaped."""
    sent = encode({"reason": "Gerät stumm", "n": 1})

    assert sent == '{"reason":"Gerät stumm","n":1}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_encode_of_no_number_raises(value: float) -> None:
    """A score that is not a number is a bug, and not valid JSON."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(state(score=value))


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_364_134_120, "2026-11-22T16:15:34.120Z"),
        (1_795_364_134_999, "2026-11-22T16:15:34.999Z"),
        (951_782_400_007, "2000-02-29T00:00:00.007Z"),
    ],
)
def test_rfc3339_is_utc_with_milliseconds(time_ms: int, text: str) -> None:
    """The text is the same instant as the number, in UTC whatever the computer's zone."""
    assert rfc3339(time_ms) == text


@given(st.integers(0, 10**12))
def test_clock_after_years_is_right_to_the_millisecond(sample: int) -> None:
    """Two years into a stream, a position still gives its time to the millisecond."""
    exact = (1_795_364_100_000 * RATE + 1000 * sample) / RATE

    assert abs(CLOCK.time_ms(sample) - exact) <= 0.501
