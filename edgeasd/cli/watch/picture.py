"""The picture of a fleet: nodes and machines in trouble first, in as many lines as fit."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from rich.text import Text

from edgeasd.cli.terminal import line
from edgeasd.cli.watch.fleet import N_SCORES, Fleet, MachineView, NodeView, local_time
from edgeasd.common.text import rough_time
from edgeasd.publish.payloads.state import State

_WELL = frozenset({"ok", "learning"})
_STATES = frozenset(get_args(State))
_INDENT = "    "
_LEAST_WIDTH = 20
"""Columns that a reason or a warning is wrapped to at least."""
_MOST_WRAPPED = 8
"""Lines of a reason or a warning: enough for all that a daemon says, yet few."""
_COLOURS = {"ok": "green", "learning": "cyan", "alarm": "red"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-=+*#@"


def picture(fleet: Fleet, now_s: float, n_most: int, width: int, *, ascii_only: bool) -> list[Text]:
    """Return lines for the nodes and machines of *fleet*, then for its last events.

    Only lines that are shown are made: with thousands of machines the others are merely counted.

    Args:
        fleet: What was heard.
        now_s: The time now, by the clock that `Fleet.hear` was given.
        n_most: Lines that there is room for.
        width: Columns that there is room for.
        ascii_only: Whether the terminal shows only ASCII.
    """
    lines = [line(_summary(fleet, now_s)), line("")]
    if fleet.n_left_out:
        lines.append(line(f"{fleet.n_left_out} messages ignored; {fleet.left_out}", "yellow"))
    names = sorted(fleet.nodes, key=lambda name: (not _in_trouble(fleet, name, now_s), name))
    for name in names:
        n_left = n_most - len(lines)
        lines += _node_lines(fleet, name, now_s, n_left, width, ascii_only=ascii_only)
        if len(lines) > n_most:
            return [*lines[: n_most - 1], line("... and more than fit on the terminal")]
    events = [line(text) for text in reversed(fleet.events)]
    lines += [line(""), line("last events" if events else "no event yet"), *events]
    return lines[:n_most]


def _summary(fleet: Fleet, now_s: float) -> str:
    dead = {name: fleet.is_dead(node, now_s) for name, node in fleet.nodes.items()}
    states = Counter(
        "gone" if dead[name] else machine.state if machine.state in _STATES else "unknown"
        for name, node in fleet.nodes.items()
        for machine in node.machines.values()
    )
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    n_machines = states.total()
    return (
        f"{len(fleet.nodes)} nodes, {sum(dead.values())} dead; "
        f"{n_machines} machines: {counts or 'none'}"
    )


def _in_trouble(fleet: Fleet, name: str, now_s: float) -> bool:
    node = fleet.nodes[name]
    states = {machine.state for machine in node.machines.values()}
    return fleet.is_dead(node, now_s) or not states <= _WELL


def _node_lines(
    fleet: Fleet, name: str, now_s: float, n_most: int, width: int, *, ascii_only: bool
) -> Iterator[Text]:
    """Yield the lines of a node and its machines, those in trouble first, at least *n_most* + 1."""
    node, dead = fleet.nodes[name], fleet.is_dead(fleet.nodes[name], now_s)
    n_lines = 1
    yield _node_line(name, node, now_s, dead=dead)
    machines = sorted(node.machines.items(), key=lambda one: (one[1].state in _WELL, one[0]))
    for machine, view in machines:
        if n_lines > n_most:
            return
        if dead:
            n_lines += 1
            yield line(f"  {machine:<18} gone      it was {view.state}", "red")
            continue
        for text in _machine_lines(machine, view, now_s, width, ascii_only=ascii_only):
            n_lines += 1
            yield text


def _node_line(name: str, node: NodeView, now_s: float, *, dead: bool) -> Text:
    is_alive = math.isfinite(node.alive_s)
    seen = (
        f"last sign of life {rough_time(now_s - node.alive_s)} ago"
        if is_alive
        else "no sign of life yet"
    )
    status = node.availability if node.availability == "offline" or not dead else "silent"
    shows_uptime = is_alive and not dead and math.isfinite(node.uptime_s)
    up = f", up {rough_time(node.uptime_s)}" if shows_uptime else ""
    queued = f", {node.queued} alerts wait" if node.queued else ""
    return line(
        f"{name:<20} {status.upper() if dead else status}, {seen}{up}{queued}",
        "red" if dead else "",
    )


def _machine_lines(
    name: str, view: MachineView, now_s: float, width: int, *, ascii_only: bool
) -> Iterator[Text]:
    """Yield the line of a machine, and below it the reason for its state unless that fits in it."""
    scores = ""
    if view.scores:
        # The threshold is drawn at three quarters of the height.
        top = view.threshold * 4 / 3 if view.threshold > 0 else max(view.scores) + 1e-9
        low = min(0.0, *view.scores)
        blocks = sparkline(view.scores, low, top, ascii_only=ascii_only)
        age = rough_time(now_s - view.scored_s)
        scores = f"{view.scores[-1]:7.2f} / {view.threshold:.2f} {blocks:<{N_SCORES}} {age} ago"
    is_told = view.state not in _WELL and not math.isnan(view.since_s)
    since = f"since {local_time(view.since_s)}" if is_told else ""
    text = f"  {name:<18} {view.state:<11}{scores}  {since}".rstrip()
    fits = len(text) + len(view.reason) + 2 <= width
    colour = _COLOURS.get(view.state, "yellow")
    yield line(f"{text}  {view.reason}".rstrip() if fits else text, colour)
    if not fits:
        yield from _wrapped(view.reason, width, colour)
    yield from _wrapped(view.warning, width, "yellow")


def _wrapped(words: str, width: int, colour: str) -> Iterator[Text]:
    n_columns = max(_LEAST_WIDTH, width - len(_INDENT))
    for text in textwrap.wrap(words, n_columns, max_lines=_MOST_WRAPPED):
        yield line(f"{_INDENT}{text}", colour)


def sparkline(values: Sequence[float], low: float, high: float, *, ascii_only: bool) -> str:
    """Return *values* as blocks; the lowest block is *low*, the highest *high*."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    step = (high - low) / len(blocks) or 1.0
    # In this order, no value selects a block that is not there, nor does NaN.
    return "".join(
        blocks[int(min(len(blocks) - 1, max(0.0, (value - low) / step)))] for value in values
    )
