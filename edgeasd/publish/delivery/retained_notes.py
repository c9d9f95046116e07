"""Notes on disk of the topics on which this node may have retained messages at a broker.

A topic is noted before a message is retained on it, and struck out when the broker has acknowledged
that it is cleared.  The file also lists the last runs of the daemon, which tell its own messages
from those of another client.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from edgeasd.common.errors import os_reason
from edgeasd.common.files.small_file import read_small
from edgeasd.common.files.whole_file import whole_file
from edgeasd.publish.topics import topics_of_retained

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

_log = logging.getLogger(__name__)

FILE_NAME = "retained.txt"
"""Name of the file of notes in the state directory."""

_MAX_TOPICS = 10_000
_MAX_RUNS = 100
_MAX_BYTES = 4 * 2**20
_RUN = re.compile(r"[0-9a-f]{1,32}")


class RetainedNotes:
    """Notes in a file, one a line; damaged lines are skipped.

    Args:
        path: The file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fault = ""
        # In the order in which they were noted: of too many, the oldest are forgotten.
        self._topics: dict[tuple[str, str], None] = {}
        self._runs: dict[str, None] = {}
        for line in self._read().split("\n"):
            self._take(line)

    @property
    def runs(self) -> Collection[str]:
        """Boot ids of the last runs of the daemon that are noted."""
        return tuple(self._runs)

    def topics(self, host: str) -> list[str]:
        """Return the topics on which messages may be retained at the broker *host*."""
        return [topic for noted, topic in self._topics if noted == host]

    def hosts(self) -> list[str]:
        """Return the brokers at which messages may be retained, the last one used last."""
        return list(dict.fromkeys(host for host, _ in self._topics))

    def begin(self, run: str) -> None:
        """Note a run of the daemon; it is written with the next topic."""
        self._runs[run] = None

    def note(self, host: str, topics: Iterable[str]) -> None:
        """Note *topics*, before messages are retained on them at the broker *host*."""
        for topic in topics:
            self._topics.pop((host, topic), None)
            self._topics[host, topic] = None
        self._write()

    def strike(self, host: str, topics: Collection[str]) -> None:
        """Strike out *topics*, which were cleared at the broker *host*."""
        gone = {(host, topic) for topic in topics} & self._topics.keys()
        for one in gone:
            del self._topics[one]
        if gone:
            self._write()

    def _read(self) -> str:
        try:
            return read_small(self._path, _MAX_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as exc:
            _log.warning("%s: cannot be read (%s)", self._path, os_reason(exc))
            return ""

    def _take(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        topic, _, host = rest.partition(" ")
        if kind == "run" and _RUN.fullmatch(rest):
            self._runs[rest] = None
        # A damaged topic may be one that nothing can be published on, which ends the connection.
        elif kind == "retained" and host and topics_of_retained(topic) is not None:
            self._topics[host, topic] = None

    def _write(self) -> None:
        self._topics = dict(list(self._topics.items())[-_MAX_TOPICS:])
        self._runs = dict(list(self._runs.items())[-_MAX_RUNS:])
        lines = [f"run {run}" for run in self._runs]
        lines += [f"retained {topic} {host}" for host, topic in self._topics]
        fault = ""
        try:
            with whole_file(self._path, 0o600) as file:
                file.write("".join(f"{line}\n" for line in lines).encode())
        except OSError as exc:
            fault = f"{self._path}: cannot be written ({os_reason(exc)})"
        if fault and fault != self._fault:
            _log.warning("%s; retained messages may stay at the broker for ever", fault)
        self._fault = fault
