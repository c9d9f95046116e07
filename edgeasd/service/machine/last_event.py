"""What was last said of an alarm, and so how long it lasts: also for the next run of the daemon."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from edgeasd.common.clock import Moment, moment
from edgeasd.publish.payloads.encoding import encode
from edgeasd.publish.payloads.fields import Payload

_MOMENT = "moment"


@dataclass(frozen=True, slots=True)
class LastEvent:
    """What was last said of an alarm, as the outbox notes it.

    Attributes:
        payload: What was said.
        told: When; None where that is not known.
    """

    payload: Payload
    told: Moment | None

    @classmethod
    def read(cls, note: bytes) -> LastEvent:
        """Return what a *note* says, or a payload in its place."""
        payload = json.loads(note)
        told = payload.pop(_MOMENT, None)
        return cls(payload, None if told is None else Moment(**told))

    def write(self) -> bytes:
        """Return the note."""
        return encode({**self.payload, _MOMENT: None if self.told is None else asdict(self.told)})

    @property
    def raised_s(self) -> float | None:
        """How long its alarm lasts by now, seconds; None if it has ended.

        Over a boot of the computer what was heard counts, and no more: the wall clock, which alone
        goes on then, may have been set by years.
        """
        if self.payload["type"] == "end":
            return None
        heard_s: float = self.payload["duration_s"]
        since_s = None if self.told is None else moment().since(self.told)
        return heard_s + (since_s or 0.0)
