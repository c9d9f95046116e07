"""``edgeasd check``: is everything there that the daemon will need?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgeasd.capture.source import open_source
from edgeasd.config import Config, MachineConfig, MicrophoneConfig, load_config
from edgeasd.detect.model import load_model
from edgeasd.detect.signal import SignalMeter
from edgeasd.detector import make_detector
from edgeasd.errors import AudioDeviceError, EdgeasdError
from edgeasd.publish.mqtt import check_broker
from edgeasd.publish.outbox import Outbox

_LISTEN_S = 2.0
_BROKER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Attributes:
        subject: What was checked.
        text: The finding; of a failure, with its remedy.
        error: The failure, `None` if all is well.
    """

    subject: str
    text: str
    error: EdgeasdError | None = None


def run_checks(config_path: Path) -> Iterator[Verdict]:
    """Yield a verdict for the configuration, each machine's model and source, and the broker."""
    try:
        config = load_config(config_path)
    except EdgeasdError as exc:
        yield Verdict("configuration", str(exc), exc)
        return
    yield Verdict("configuration", f"{config_path}, {len(config.machine)} machines")
    for machine in config.machine:
        yield _verdict(f"{machine.name}: model", partial(_check_model, machine))
        yield _verdict(f"{machine.name}: sound", partial(_check_source, machine))
    yield _verdict("state directory", partial(_check_state, config))
    yield _verdict("broker", partial(_check_broker, config))


def _verdict(subject: str, find: Callable[[], str]) -> Verdict:
    try:
        return Verdict(subject, find())
    except EdgeasdError as exc:
        return Verdict(subject, str(exc), exc)


def _check_model(machine: MachineConfig) -> str:
    model = load_model(machine.model)
    detector = make_detector(model, machine.section, machine.alarm)
    document = model.document
    return (
        f"{document.id} {document.version}, section {document.sections[detector.section].name}, "
        f"sha256 {model.sha256[:12]}, threshold {detector.alarm.threshold:.3f}"
    )


def _check_source(machine: MachineConfig) -> str:
    source = open_source(machine.source)
    try:
        meter = SignalMeter(source.sample_rate)
        wanted = round(_LISTEN_S * source.sample_rate)
        heard = 0
        while heard < wanted and not source.ended:
            block = source.read(_LISTEN_S)
            if block is None:
                raise AudioDeviceError(f"no sound within {_LISTEN_S:g} s {source.fault}".rstrip())
            meter.process(block)
            heard += len(block.samples)
    finally:
        source.close()
    if meter.state == "flat_signal" and isinstance(machine.source, MicrophoneConfig):
        raise AudioDeviceError("the sound has no signal at all; is the microphone connected?")
    return f"{source.sample_rate} Hz, {meter.level_dbfs:.1f} dBFS, {meter.state}"


def _check_state(config: Config) -> str:
    outbox = Outbox(config.state_dir / "outbox.sqlite3")
    try:
        return f"{config.state_dir}, {len(outbox)} alerts not yet delivered"
    finally:
        outbox.close()


def _check_broker(config: Config) -> str:
    check_broker(config.mqtt, _BROKER_TIMEOUT_S)
    return f"{config.mqtt.host}:{config.mqtt.port} accepts the connection"
