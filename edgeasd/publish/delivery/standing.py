"""Messages that hold until further notice: what was last said on each topic."""

from __future__ import annotations

import threading


class Standing:
    """Retained messages by topic, and which of them are still to be sent; any thread may call.

    Args:
        first: What is said before anything else.
    """

    def __init__(self, first: dict[str, bytes]) -> None:
        self._lock = threading.Lock()  # never held for long
        self._payloads = dict(first)
        self._unsent = set(first)

    def say(self, topic: str, payload: bytes) -> None:
        """Have *payload* hold on *topic* from now on."""
        with self._lock:
            self._payloads[topic] = payload
            self._unsent.add(topic)

    def items(self) -> list[tuple[str, bytes]]:
        """Return topic and payload of all."""
        with self._lock:
            return list(self._payloads.items())

    def unsent(self) -> list[tuple[str, bytes]]:
        """Return topic and payload of those not sent yet, in the order they were first said."""
        with self._lock:
            if not self._unsent:
                return []
            return [item for item in self._payloads.items() if item[0] in self._unsent]

    def sent(self, topic: str, payload: bytes) -> None:
        """Note that *payload* was sent; what was said meanwhile is still to be sent."""
        with self._lock:
            if self._payloads.get(topic) == payload:
                self._unsent.discard(topic)

    def repeat(self, topic: str) -> None:
        """Have what holds on *topic* sent once more."""
        with self._lock:
            if topic in self._payloads:
                self._unsent.add(topic)

    def repeat_all(self) -> None:
        """Have everything sent once more: another broker, or one that may have forgotten."""
        with self._lock:
            self._unsent = set(self._payloads)

    def cleared(self, topic: str) -> None:
        """Forget *topic* if it was to be cleared, which has been done."""
        with self._lock:
            if self._payloads.get(topic) == b"":
                del self._payloads[topic]
                self._unsent.discard(topic)
