"""The state of all machines of a broker, as heard over MQTT; pure.

Anybody on the network may have sent a message, so what is kept is bounded in size and number.  Ages
are measured by our own monotonic clock; times by the clock of a node are shown, but never compared
with ours.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeasd.common.config.keys import is_level
from edgeasd.common.text import printable, rough_time
from edgeasd.publish.topics import OFFLINE, ONLINE

if TYPE_CHECKING:
    from edgeasd.publish.mqtt.inbound import Received

N_SCORES = 30
"""Scores of a machine that are kept."""
_N_EVENTS = 8
"""Events of all machines that are kept."""
_SILENT_S = 180.0
"""Seconds without a message after which a node counts as dead though the broker says it is online:
three health messages at the default interval."""
_MOST_BYTES = 250_000
"""Size of a payload up to which it is read: the health of some three hundred machines, which takes
a few milliseconds to parse."""
_MOST_NODES = 1_000
_MOST_MACHINES = 10_000
"""Machines of all nodes together: more than a terminal can show, few enough to count quickly."""
_MOST_TOLD = 1_000
"""Topics for which the watcher remembers having told that a message was ignored."""
_LONGEST_NAME = 200
_LONGEST_STATE = 40
_LONGEST_REASON = 500
_LARGEST = 1e15
"""Magnitude above which a number is invalid: no time in milliseconds and no score is larger."""
_LAST_S = 253_402_300_800.0
"""Unix time of the end of the year 9999, the last that `time.localtime` is sure to know."""
_LEAVES = frozenset({(1, "availability"), (1, "health"), (2, "state"), (2, "score"), (2, "event")})
"""Number of levels below the name of the node, and the last of them, of the topics we read."""


@dataclass(slots=True)
class MachineView:
    """The last messages about one machine.

    Attributes:
        state: State of the machine.
        reason: Reason for the state.
        since_s: When the state began, Unix time by the clock of the node, seconds.
        threshold: Threshold of the score.
        scores: The last scores, the newest at the end.
        scored_s: When the last score came, seconds of the clock of `Fleet.hear`.
        warning: What is wrong with the model or the calibration; empty if nothing is.
    """

    state: str = "unknown"
    reason: str = ""
    since_s: float = math.nan
    threshold: float = math.nan
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=N_SCORES))
    scored_s: float = math.nan
    warning: str = ""


@dataclass(slots=True)
class NodeView:
    """The last messages about one computer.

    Attributes:
        availability: ``online``, ``offline``, or ``unknown``.
        alive_s: When the last sign of life came, seconds of the clock of `Fleet.hear`; minus
            infinity if none has come yet.
        uptime_s: How long the daemon has been running, seconds.
        queued: Alerts that wait for the broker.
        machines: Machines of the computer, by name.
    """

    availability: str = "unknown"
    alive_s: float = -math.inf
    uptime_s: float = math.nan
    queued: int = 0
    machines: dict[str, MachineView] = field(default_factory=dict)


class Fleet:
    """All nodes that were heard of.

    Attributes:
        nodes: Nodes by name, with the levels of the base topic in front.
        events: The last events in words, the oldest first.
        listening_since_s: When the connection was made, seconds of the clock of `hear`; infinity
            without a connection, as silence then means nothing.
        n_left_out: Messages that were ignored: too large, or of one node or machine too many.
        left_out: The last of these messages in words.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeView] = {}
        self.events: deque[str] = deque(maxlen=_N_EVENTS)
        self.listening_since_s = math.inf
        self.n_left_out = 0
        self.left_out = ""
        self._told: set[str] = set()
        self._n_machines = 0

    def is_dead(self, node: NodeView, now_s: float) -> bool:
        """Whether *node* is offline or has been silent for too long."""
        heard_s = max(node.alive_s, self.listening_since_s)
        return node.availability == "offline" or now_s - heard_s > _SILENT_S

    def hear(self, message: Received, now_s: float, time_s: float) -> list[str]:
        """Take in a message, and return its news in words: events, changes of states, warnings.

        Args:
            message: A message on any topic.
            now_s: The time now by a monotonic clock, seconds.
            time_s: The time now as Unix time, seconds; only shown.
        """
        base, _, rest = f"/{message.topic}".partition("/edgeasd/v1/")
        node, *levels = rest.split("/")
        is_ours = (len(levels), levels[-1] if levels else "") in _LEAVES
        if not is_ours or not all(map(is_level, (node, *levels))):
            return []
        name = printable(f"{base}/{node}".lstrip("/"), _LONGEST_NAME)
        if len(message.payload) > _MOST_BYTES:
            words = f"a message of {len(message.payload)} bytes"
            news = self.leave_out("/".join((name, *levels)), words)
        elif not message.payload:
            news = self._forget(name, levels)
        else:
            news = self._take_in(message, name, levels, now_s)
        # The words of an event begin with its own time.
        at = "" if levels[-1] == "event" else f"{local_time(time_s)} "
        return [f"{at}{words}" for words in news]

    def leave_out(self, topic: str, what: str) -> Iterator[str]:
        """Count a message that is ignored, and yield words on it once for each topic."""
        self.n_left_out += 1
        self.left_out = f"{topic}: {what} is ignored"
        if topic not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(topic)
            yield self.left_out

    def _forget(self, name: str, levels: list[str]) -> Iterator[str]:
        """Forget what an empty retained message deletes at the broker."""
        node = self.nodes.get(name)
        if node is None:
            return
        if levels == ["availability"]:
            node.availability = "unknown"
        elif levels[1:] == ["state"] and levels[0] in node.machines:
            del node.machines[levels[0]]
            self._n_machines -= 1
            yield f"{name}/{levels[0]} is no longer monitored"
        if node.availability == "unknown" and not node.machines:
            del self.nodes[name]

    def _take_in(
        self, message: Received, name: str, levels: list[str], now_s: float
    ) -> Iterator[str]:
        if name not in self.nodes and len(self.nodes) >= _MOST_NODES:
            yield from self.leave_out("/".join((name, *levels)), "one node too many")
            return
        node = self.nodes.setdefault(name, NodeView())
        said = _parse(message.payload)
        # A retained message may be years old.
        if not message.retain and (said or message.payload == ONLINE):
            node.alive_s = now_s
        match levels:
            case ["availability"]:
                yield from _hear_availability(node, name, message.payload)
            case ["health"]:
                yield from self._hear_health(node, name, said)
            case [machine, leaf]:
                view = self._machine(node, machine)
                if view is None:
                    yield from self.leave_out(f"{name}/{machine}/{leaf}", "one machine too many")
                elif leaf == "state":
                    yield from _hear_state(view, f"{name}/{machine}", said)
                elif leaf == "event":
                    words = _event_in_words(f"{name}/{machine}", said)
                    self.events.append(words)
                    yield words
                elif not message.retain:
                    _hear_score(view, said, now_s)

    def _machine(self, node: NodeView, name: str) -> MachineView | None:
        """Return the machine *name* of *node*; None if it is new and there are too many."""
        if name not in node.machines:
            if self._n_machines >= _MOST_MACHINES:
                return None
            self._n_machines += 1
            node.machines[name] = MachineView()
        return node.machines[name]

    def _hear_health(self, node: NodeView, name: str, said: dict[str, Any]) -> Iterator[str]:
        node.uptime_s = _number(said, "uptime_s")
        queued = _number(_table(said.get("mqtt")), "queued_events")
        node.queued = 0 if math.isnan(queued) else round(queued)
        machines = said.get("machines")
        for part in map(_table, machines if isinstance(machines, list) else []):
            machine = part.get("name")
            view = (
                self._machine(node, machine)
                if isinstance(machine, str) and is_level(machine)
                else None
            )
            if view is not None:
                before, view.warning = view.warning, _warning_of(part)
                if view.warning not in {"", before}:
                    yield f"{name}/{machine} warning: {view.warning}"


def _hear_availability(node: NodeView, name: str, payload: bytes) -> Iterator[str]:
    before = node.availability
    node.availability = {ONLINE: "online", OFFLINE: "offline"}.get(payload, "unknown")
    if before != node.availability:
        yield f"{name} {node.availability}"


def _hear_state(view: MachineView, who: str, said: dict[str, Any]) -> Iterator[str]:
    before = (view.state, view.reason)
    view.state = _text(said, "state", _LONGEST_STATE) or "unknown"
    view.reason = _text(said, "reason", _LONGEST_REASON)
    view.since_s = _number(said, "since_ms") / 1000
    view.threshold = _number(said, "threshold")
    if before != (view.state, view.reason):
        yield f"{who} {view.state}" + (f": {view.reason}" if view.reason else "")


def _hear_score(view: MachineView, said: dict[str, Any], now_s: float) -> None:
    score = _number(said, "max")
    if not math.isnan(score):
        view.scores.append(score)
        view.scored_s = now_s
    view.threshold = _number(said, "threshold")


def _event_in_words(who: str, said: dict[str, Any]) -> str:
    duration_s = _number(said, "duration_s")
    return (
        f"{local_time(_number(said, 'time_ms') / 1000)} {who} "
        f"alarm {_text(said, 'type', _LONGEST_STATE)}, score {_number(said, 'score'):.2f}, "
        f"threshold {_number(said, 'threshold'):.2f}"
        + (f", after {rough_time(duration_s)}" if duration_s > 0 else "")
    )


def local_time(time_s: float) -> str:
    """Return a Unix time as local date and time; ``?`` if it is out of range."""
    if not 0.0 <= time_s < _LAST_S:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        return _table(json.loads(payload))
    except (ValueError, RecursionError):
        return {}


def _table(said: Any) -> dict[str, Any]:
    """Return *said*; an empty dictionary if it is something else."""
    return said if isinstance(said, dict) else {}


def _warning_of(machine: dict[str, Any]) -> str:
    """Return the faults of model and calibration of *machine* in a health message."""
    said = (machine, "model_fault"), (_table(machine.get("calibration")), "warning")
    return "; ".join(filter(None, (_text(*one, _LONGEST_REASON) for one in said)))


def _text(said: dict[str, Any], key: str, limit: int) -> str:
    """Return the text at *key* of *said*; an empty one if there is no text."""
    value = said.get(key)
    return printable(value, limit) if isinstance(value, str) else ""


def _number(said: dict[str, Any], key: str) -> float:
    """Return the number at *key* of *said*; NaN if there is none, or if it is absurdly large."""
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value) if abs(value) < _LARGEST else math.nan
