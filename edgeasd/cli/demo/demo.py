"""Runs the daemon on a simulated machine, and prints what a subscriber of its alerts receives."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import edgeasd
from edgeasd.cli.demo.broker import EmbeddedBroker
from edgeasd.common.config.keys import Config, MachineConfig, MqttConfig, SimulatorConfig
from edgeasd.common.errors import BrokerError
from edgeasd.common.output import say
from edgeasd.publish.mqtt.connection import Connection
from edgeasd.publish.topics import Topics
from edgeasd.service.daemon import Daemon

MODEL = Path(edgeasd.__file__).parent / "models" / "demo.onnx"

_FAULT_AFTER_S = 15.0
_FAULT_DURATION_S = 12.0
_GIVE_UP_AFTER_S = 60.0
_BAR_WIDTH = 40
"""Columns of the bar of a score, of which the threshold is in the middle."""
_TURN_S = 0.5
"""Seconds to wait for a message at a time."""


def run_demo() -> bool:
    """Run the daemon until a subscriber has received the start and the end of a simulated fault.

    Returns:
        Whether the subscriber received one start and one end, each when it should.
    """
    with tempfile.TemporaryDirectory() as state_dir, EmbeddedBroker() as broker:
        config = Config(
            node="demo",
            state_dir=Path(state_dir),
            mqtt=MqttConfig(host="127.0.0.1", port=broker.port),
            machine=(
                MachineConfig(
                    name="fan",
                    model=MODEL,
                    section="00",
                    source=SimulatorConfig(
                        fault_after_s=_FAULT_AFTER_S, fault_duration_s=_FAULT_DURATION_S
                    ),
                ),
            ),
        )
        daemon = Daemon(config)
        subscriber = _Subscriber(config, daemon)
        subscriber.start()
        daemon.follow_signals()
        give_up = threading.Timer(_GIVE_UP_AFTER_S, daemon.stop)
        give_up.start()
        try:
            daemon.run()
        finally:
            give_up.cancel()
        return subscriber.report()


class _Subscriber(threading.Thread):
    """Prints the alerts and scores of the demo, and stops the daemon after the end of the alarm.

    Args:
        config: Configuration of the daemon.
        daemon: The daemon to stop.
    """

    def __init__(self, config: Config, daemon: Daemon) -> None:
        super().__init__(name="subscriber", daemon=True)
        self._daemon = daemon
        self._topics = Topics(config.mqtt.base, config.node)
        self._machine = config.machine[0].name
        self._connection = Connection(config.mqtt, "edgeasd-demo-subscriber")
        self._connection.subscribe(self._topics.event(self._machine), qos=1)
        self._connection.subscribe(self._topics.score(self._machine), qos=0)
        self._events: list[tuple[str, float]] = []

    def run(self) -> None:
        """Print events on standard output, and each score with a bar on standard error."""
        _say(
            f"A simulated fan runs. Its bearing fails after {_FAULT_AFTER_S:.0f} s and is repaired "
            f"{_FAULT_DURATION_S:.0f} s later. An MQTT subscriber receives these events:"
        )
        with suppress(BrokerError):  # Ctrl-C ended the daemon, and then the broker
            while [kind for kind, _ in self._events] != ["start", "end"]:
                self._connection.serve(_TURN_S)
                for message in self._connection.received():
                    self._hear(message.topic, message.payload)
        self._daemon.stop()

    def report(self) -> bool:
        """Print what was received, and return whether it is what should have been received."""
        fault_end_s = _FAULT_AFTER_S + _FAULT_DURATION_S
        told = ", ".join(f"{kind} at {time_s:.1f} s" for kind, time_s in self._events)
        match self._events:
            case [("start", start_s), ("end", end_s)] if (
                _FAULT_AFTER_S < start_s < fault_end_s < end_s
            ):
                _say(
                    f"One start, {start_s - _FAULT_AFTER_S:.1f} s after the fault; "
                    f"one end, {end_s - fault_end_s:.1f} s after its repair."
                )
                return True
        _say(
            f"Expected one start from {_FAULT_AFTER_S:.0f} s to {fault_end_s:.0f} s and one end "
            f"after it; received: {told or 'nothing'}"
        )
        return False

    def _hear(self, topic: str, payload: bytes) -> None:
        message = json.loads(payload)
        position_s = message["first_sample"] / 16_000
        if topic == self._topics.event(self._machine):
            self._events.append((message["type"], position_s))
            say(f"{topic} {payload.decode()}")
            sys.stdout.flush()
            return
        end_s = position_s + message["n_samples"] / 16_000
        bar = "#" * min(_BAR_WIDTH, max(0, round(message["score"] / message["threshold"] * 20)))
        state = "fault" if 0 <= end_s - _FAULT_AFTER_S < _FAULT_DURATION_S else "healthy"
        _say(
            f"{end_s:5.1f} s  {state:7}  score {message['score']:6.2f}  "
            f"threshold {message['threshold']:.2f}  |{bar:<{_BAR_WIDTH}}|"
        )


def _say(text: str) -> None:
    say(text, err=True)
