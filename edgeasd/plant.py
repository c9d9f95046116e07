"""What the machines of a plant said over MQTT, as a picture; pure.

All that is shown came over the network: it is checked, and cleaned of what would steer a terminal.
"""

from __future__ import annotations

import json
import math
import textwrap
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeasd.publish.topics import OFFLINE, ONLINE
from edgeasd.terminal import Line, printable, rough_time, sparkline

_N_SCORES = 30
_N_EVENTS = 8
_SILENT_S = 180.0
"""Three health messages, as they come by default: the broker may hold a dead node for online."""
_LARGEST = 1e15
"""Above every time in milliseconds that a calendar knows, and every score."""
_WRAPPED = 74
"""Columns of a warning, which is longer than a line."""
_COLOURS = {"ok": "green", "learning": "cyan", "alarm": "red"}


@dataclass(slots=True)
class MachineView:
    """What was heard of one machine; times are Unix times in seconds.

    Attributes:
        state: As last told.
        reason: As last told.
        since_s: Since when it is so.
        threshold: As last told.
        scores: The last ones.
        scored_s: When the last one came.
        warning: What is wrong with its model or calibration, as last told; empty when all is well.
    """

    state: str = "unknown"
    reason: str = ""
    since_s: float = math.nan
    threshold: float = math.nan
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=_N_SCORES))
    scored_s: float = math.nan
    warning: str = ""


@dataclass(slots=True)
class NodeView:
    """What was heard of one computer.

    Attributes:
        availability: ``online``, ``offline``, or ``unknown``.
        alive_s: Unix time of its last sign of life, by its own clock or ours.
        uptime_s: As last told.
        queued: Alerts that wait, as last told.
        machines: By name.
    """

    availability: str = "unknown"
    alive_s: float = -math.inf
    uptime_s: float = math.nan
    queued: int = 0
    machines: dict[str, MachineView] = field(default_factory=dict)

    def is_dead(self, now_s: float) -> bool:
        """Whether nothing that it said can be relied on any more."""
        return self.availability == "offline" or now_s - self.alive_s > _SILENT_S


class Plant:
    """All nodes that were heard of.

    Attributes:
        nodes: By name, with the levels of the topic's base in front.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeView] = {}
        self._events: deque[str] = deque(maxlen=_N_EVENTS)

    def hear(self, topic: str, payload: bytes, now_s: float) -> str | None:
        """Take in a message, and return it in words if it is news: an event, a change of state."""
        base, _, rest = f"/{topic}".partition("/edgeasd/v1/")
        levels = [printable(level) for level in rest.split("/")]
        name = printable(f"{base}/{levels[0]}".lstrip("/"))
        match levels[1:]:
            case ["availability"]:
                return self._hear_availability(name, payload, now_s)
            case ["health"]:
                return self._hear_health(name, _parse(payload), now_s)
            case [machine, "state"]:
                return self._hear_state(name, machine, _parse(payload), now_s)
            case [machine, "score"]:
                self._hear_score(name, machine, _parse(payload), now_s)
            case [machine, "event"]:
                return self._hear_event(name, machine, _parse(payload), now_s)
        return None

    def _node(self, name: str) -> NodeView:
        return self.nodes.setdefault(name, NodeView())

    def _machine(self, name: str, machine: str) -> MachineView:
        return self._node(name).machines.setdefault(machine, MachineView())

    def _hear_availability(self, name: str, payload: bytes, now_s: float) -> str | None:
        node = self._node(name)
        before = node.availability
        node.availability = {ONLINE: "online", OFFLINE: "offline"}.get(payload, "unknown")
        if before == node.availability:
            return None
        # Retained, it may be old: only a change that was seen is a sign of life.
        if node.availability == "online":
            node.alive_s = max(node.alive_s, now_s)
        return f"{local_time(now_s)} {name} {node.availability}"

    def _hear_health(self, name: str, said: dict[str, Any], now_s: float) -> str | None:
        node = self._node(name)
        # Retained, it may be old; and the node's clock may be ahead of ours.
        node.alive_s = max(node.alive_s, min(now_s, _number(said, "time_ms") / 1000))
        node.uptime_s = _number(said, "uptime_s")
        queued = _number(_table(said.get("mqtt")), "queued_events")
        node.queued = 0 if math.isnan(queued) else round(queued)
        machines = said.get("machines")
        parts = map(_table, machines if isinstance(machines, list) else [])
        news = [self._hear_warning(name, part, now_s) for part in parts]
        return "\n".join(filter(None, news)) or None

    def _hear_warning(self, name: str, said: dict[str, Any], now_s: float) -> str | None:
        """Take in what a health message says of one machine."""
        if not isinstance(said.get("name"), str):
            return None
        machine = printable(said["name"])
        view = self._machine(name, machine)
        before, view.warning = view.warning, _warning_of(said)
        if view.warning in {"", before}:
            return None
        return f"{local_time(now_s)} {name}/{machine} warning: {view.warning}"

    def _hear_state(
        self, name: str, machine: str, said: dict[str, Any], now_s: float
    ) -> str | None:
        view = self._machine(name, machine)
        before = (view.state, view.reason)
        view.state = printable(str(said.get("state", "unknown")))
        view.reason = printable(str(said.get("reason", "")))
        view.since_s = _number(said, "since_ms") / 1000
        view.threshold = _number(said, "threshold")
        if before == (view.state, view.reason):
            return None
        reason = f": {view.reason}" if view.reason else ""
        return f"{local_time(now_s)} {name}/{machine} {view.state}{reason}"

    def _hear_score(self, name: str, machine: str, said: dict[str, Any], now_s: float) -> None:
        view = self._machine(name, machine)
        score = _number(said, "max")
        if not math.isnan(score):
            view.scores.append(score)
        view.threshold = _number(said, "threshold")
        view.scored_s = now_s
        self._node(name).alive_s = now_s

    def _hear_event(self, name: str, machine: str, said: dict[str, Any], now_s: float) -> str:
        self._node(name).alive_s = now_s
        duration_s = _number(said, "duration_s")
        text = (
            f"{local_time(_number(said, 'time_ms') / 1000)} {name}/{machine} "
            f"alarm {printable(str(said.get('type')))}, score {_number(said, 'score'):.2f}, "
            f"threshold {_number(said, 'threshold'):.2f}"
            + (f", after {rough_time(duration_s)}" if duration_s > 0 else "")
        )
        self._events.append(text)
        return text

    def picture(self, now_s: float, *, ascii_only: bool) -> list[Line]:
        """Return a line for each node and machine, those in trouble first, then the last events."""
        names = sorted(self.nodes, key=lambda name: (not self._in_trouble(name, now_s), name))
        lines = [Line(self._summary(now_s)), Line("")]
        for name in names:
            lines += _node_lines(name, self.nodes[name], now_s, ascii_only=ascii_only)
        events = [Line(text) for text in reversed(self._events)]
        return [*lines, Line(""), Line("last events" if events else "no event yet"), *events]

    def _summary(self, now_s: float) -> str:
        n_dead = sum(node.is_dead(now_s) for node in self.nodes.values())
        states = [
            "gone" if node.is_dead(now_s) else machine.state
            for node in self.nodes.values()
            for machine in node.machines.values()
        ]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        return f"{len(self.nodes)} nodes, {n_dead} dead; {len(states)} machines: {counts or 'none'}"

    def _in_trouble(self, name: str, now_s: float) -> bool:
        node = self.nodes[name]
        states = {machine.state for machine in node.machines.values()}
        return node.is_dead(now_s) or not states <= {"ok", "learning"}


def local_time(time_s: float) -> str:
    """Return a Unix time as date and time of this computer's zone; ``?`` if it is none."""
    if not math.isfinite(time_s):
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _node_lines(name: str, node: NodeView, now_s: float, *, ascii_only: bool) -> Iterator[Line]:
    dead = node.is_dead(now_s)
    seen = (
        f"last sign of life {rough_time(now_s - node.alive_s)} ago"
        if math.isfinite(node.alive_s)
        else "no sign of life"
    )
    status = node.availability if node.availability == "offline" or not dead else "silent"
    up = f", up {rough_time(node.uptime_s)}" if math.isfinite(node.uptime_s) and not dead else ""
    queued = f", {node.queued} alerts wait" if node.queued else ""
    yield Line(
        f"{name:<20} {status.upper() if dead else status}, {seen}{up}{queued}",
        "red" if dead else None,
    )
    for machine, view in sorted(node.machines.items()):
        if dead:
            yield Line(f"  {machine:<18} gone      it was {view.state}", "red")
        else:
            yield _machine_line(machine, view, now_s, ascii_only=ascii_only)
            for line in textwrap.wrap(view.warning, _WRAPPED):
                yield Line(f"    {line}", "yellow")


def _machine_line(name: str, view: MachineView, now_s: float, *, ascii_only: bool) -> Line:
    scores = ""
    if view.scores:
        # The threshold is at three quarters of the height.
        top = view.threshold * 4 / 3 if view.threshold > 0 else max(view.scores) + 1e-9
        low = min(0.0, *view.scores)
        line = sparkline(view.scores, low, top, ascii_only=ascii_only)
        age = rough_time(now_s - view.scored_s)
        scores = f"{view.scores[-1]:7.2f} / {view.threshold:.2f} {line:<{_N_SCORES}} {age} ago"
    since = f"since {local_time(view.since_s)}  " if view.state not in {"ok", "learning"} else ""
    text = f"  {name:<18} {view.state:<11}{scores}  {since}{view.reason}"
    return Line(text.rstrip(), _COLOURS.get(view.state, "yellow"))


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        return _table(json.loads(payload))
    except (ValueError, RecursionError):
        return {}


def _table(said: Any) -> dict[str, Any]:
    """Return *said*; nothing if it is no table."""
    return said if isinstance(said, dict) else {}


def _warning_of(machine: dict[str, Any]) -> str:
    """Return what a health message says is wrong with the model or calibration of *machine*."""
    said = machine.get("model_fault"), _table(machine.get("calibration")).get("warning")
    return "; ".join(printable(one) for one in said if isinstance(one, str) and one)


def _number(said: dict[str, Any], key: str) -> float:
    """Return the number *key* of *said*; NaN if it is none, or out of all reason."""
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value) if abs(value) < _LARGEST else math.nan
