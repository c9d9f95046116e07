"""The daemon, run as a script, which notes the events that it committed and that were acknowledged.

Arguments: a file for the notes, then the command line of ``edgeasd``.  A note is a line, ``put`` or
``remove`` and an event's id; the first is written once `Outbox.put` has returned, the second before
`Outbox.remove` is called.  What is written outlives SIGKILL.
"""

from __future__ import annotations

import os
import sys

from edgeasd.cli.main import start
from edgeasd.publish.outbox.outbox import Outbox


def note_everything(path: str) -> None:
    """Have every outbox of this process write its notes to *path*."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    put, remove = Outbox.put, Outbox.remove

    def noted_put(
        self: Outbox, event_id: str, topic: str, payload: bytes, note: bytes = b""
    ) -> None:
        put(self, event_id, topic, payload, note)
        os.write(file, f"put {event_id} {topic}\n".encode())

    def noted_remove(self: Outbox, *event_ids: str) -> None:
        os.write(file, "".join(f"remove {event_id} -\n" for event_id in event_ids).encode())
        remove(self, *event_ids)

    Outbox.put = noted_put  # type: ignore[method-assign]
    Outbox.remove = noted_remove  # type: ignore[method-assign]


if __name__ == "__main__":
    note_everything(sys.argv[1])
    sys.argv = ["edgeasd", *sys.argv[2:]]
    start()  # which sets up the log, in which the test reads
