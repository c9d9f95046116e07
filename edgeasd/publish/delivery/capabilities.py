"""What the broker can do: what it announces, and what it was seen to take.

Only a broker of MQTT 5 announces its limits.  Others end the connection at a message that they do
not support, so what they support is learned from what they take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeasd.publish.mqtt.limits import Limits

if TYPE_CHECKING:
    from edgeasd.publish.delivery.messages import Message, Sent


class Capabilities:
    """Size, quality of service and retained messages that one broker supports.

    Attributes:
        limits: Limits that it announces.
        largest_taken: Bytes of the largest packet that it took.
        takes_retained: Whether it takes retained messages; None while not known.
        takes_qos_1: Whether it takes messages at QoS 1; None while not known.
    """

    def __init__(self) -> None:
        self.limits = Limits()
        self.largest_taken = 0
        self.takes_retained: bool | None = None
        self.takes_qos_1: bool | None = None

    @property
    def keeps_retained(self) -> bool:
        """Whether it keeps retained messages, as far as is known."""
        return self.limits.retain_available and self.takes_retained is not False

    def flags(self, message: Message, n_ends: int | None) -> tuple[int, bool]:
        """Return the quality of service of *message*, and whether to ask the broker to keep it.

        A broker may end the connection at every retained message, or at every one at QoS 1.  Unless
        it is known to take these, a retained message is tried without them.

        Args:
            message: The message to be sent.
            n_ends: How often the connection ended at it since this could no longer be chance; None
                if it may be.
        """
        qos = 0 if message.kind == "transient" or self.takes_qos_1 is False else 1
        retain = message.kind == "retained" and self.takes_retained is not False
        # Never an event: at QoS 0 it would be lost where the broker only pretends to read.
        if message.kind == "retained" and n_ends is not None:
            trial = n_ends % 3
            retain = retain and (self.takes_retained is True or trial == 1)
            qos = qos if self.takes_qos_1 is True or trial == 0 else 0
        return min(qos, self.limits.maximum_qos), retain and self.limits.retain_available

    def accept(self, sent: Sent, *, ended_before: bool) -> None:
        """Take note that the broker took a message.

        Args:
            sent: The message as it was sent.
            ended_before: Whether it ended connections before, perhaps sent in another way.
        """
        self.largest_taken = max(self.largest_taken, sent.size)
        if ended_before:
            kind = sent.message.kind
            if kind != "transient" and sent.qos == 0 and self.takes_qos_1 is None:
                self.takes_qos_1 = False
            if kind == "retained" and not sent.retain and self.takes_retained is None:
                self.takes_retained = False
        if sent.qos:
            self.takes_qos_1 = True
        if sent.retain:
            self.takes_retained = True

    def faults(self, broker: str) -> list[str]:
        """Return in words what *broker* does not support, with the remedies."""
        faults = []
        if not self.keeps_retained:
            faults.append(
                f"{broker} keeps no retained messages: who subscribes later learns no state until "
                "it is published anew; allow them at the broker"
            )
        if self.limits.maximum_qos == 0 or self.takes_qos_1 is False:
            faults.append(
                f"{broker} takes messages at QoS 0 only: an alert counts as delivered when it "
                "answers a ping sent after it; allow QoS 1 at the broker"
            )
        return faults


class Will:
    """How the will of this client is published; simplified until the broker accepts it.

    A broker without retained messages, or without QoS 1, may refuse a will that needs them.

    Attributes:
        qos: Quality of service of the will.
        retain: Whether the broker shall keep it.
    """

    def __init__(self) -> None:
        self.qos = 1
        self.retain = True

    def refused(self, reason_code: int | None) -> None:
        """Simplify the will after the broker ended the connection for a reason of MQTT 5.

        Without a reason it is simplified step by step, and then begun anew.
        """
        match reason_code:
            case 0x9A:  # retain not supported
                self.retain = False
            case 0x9B:  # QoS not supported
                self.qos = 0
            case None:
                following = {(1, True): (0, True), (0, True): (0, False)}
                self.qos, self.retain = following.get((self.qos, self.retain), (1, True))
