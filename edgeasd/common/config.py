"""The tables of the configuration: every key with its default, unit and rule.

``deploy/edgeasd.example.toml`` shows every key; a test holds the two together.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from edgeasd.common.documents import FilePath, ReadAs, Rule, at_least, between, one_of, rule

MOST_BASE_CHARACTERS = 1000
"""A topic, of at most 65535 bytes, must hold the names below the base as well."""
_LEVEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BASE = re.compile(r"(?!\$)[^\s\x00-\x1f\x7f+#/]+(/[^\s\x00-\x1f\x7f+#/]+)*")
MOST_MQTT_BYTES = 65_535
"""Of a string in MQTT; section 1.5.3 of version 3.1.1."""
_LONGEST = 1000
"""Characters of a host's name."""


def is_level(name: str) -> bool:
    """Return whether *name* may be that of a node or machine, and so a level of its topics."""
    return _LEVEL.fullmatch(name) is not None and name.strip(".") != ""


def is_base(text: str) -> bool:
    """Return whether *text* may be put in front of the topics; it may be empty."""
    return text == "" or (len(text) <= MOST_BASE_CHARACTERS and _BASE.fullmatch(text) is not None)


_LEVEL_NAME = rule(
    is_level,
    "1 to 64 letters, digits, '_', '.' or '-', as it becomes a level of an MQTT topic",
)


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """Where alerts go."""

    host: Annotated[
        str,
        rule(lambda value: 1 <= len(value) <= _LONGEST, f"a name of at most {_LONGEST} characters"),
    ] = "localhost"
    """Broker's host name or address."""
    port: Annotated[int, between(1, 65_535)] = 1883
    """Broker's TCP port; 8883 is usual with TLS."""
    version: Annotated[str, one_of("3.1.1", "5")] = "3.1.1"
    """Version of MQTT; with 5 the broker says which messages it refuses, and why."""
    base: Annotated[
        str,
        rule(
            is_base,
            "topic levels joined by '/', without '+', '#', blanks, control characters or a "
            f"'$' in front, and at most {MOST_BASE_CHARACTERS} characters",
        ),
    ] = ""
    """Topic levels put before ``edgeasd/v1/...``, for example ``acme/plant1``."""
    username: Annotated[
        str,
        rule(
            lambda value: len(value.encode()) <= MOST_MQTT_BYTES,
            f"at most {MOST_MQTT_BYTES} bytes",
        ),
    ] = ""
    """Broker account; empty connects anonymously."""
    password_file: FilePath | None = None
    """File whose first line is the password, for example a systemd credential."""
    ca_file: FilePath | None = None
    """PEM file of the authority that signed the broker's certificate; given, TLS is used."""
    cert_file: FilePath | None = None
    """PEM file of this node's certificate, where the broker asks for one."""
    key_file: FilePath | None = None
    """PEM file of this node's private key."""
    keepalive_s: Annotated[int, between(5, 3600)] = 30
    """Seconds; a dead connection is noticed after about one and a half of them."""
    score_interval_s: Annotated[float, at_least(1.0)] = 1.0
    """Seconds between two messages on a machine's score topic."""
    health_interval_s: Annotated[float, at_least(1.0)] = 60.0
    """Seconds between two health messages when nothing changes."""


def _tls_mistake(mqtt: MqttConfig) -> str:
    if (mqtt.cert_file is None) != (mqtt.key_file is None):
        return "{name}.cert_file and {name}.key_file must be given together"
    if mqtt.cert_file is not None and mqtt.ca_file is None:
        return "{name}.cert_file needs {name}.ca_file, which switches TLS on"
    return ""


@dataclass(frozen=True, slots=True)
class MicrophoneConfig:
    """A sound input of this computer."""

    device: str = ""
    """What ``edgeasd devices`` calls it: socket (``usb:``), vendor, product and serial number
    (``usb-id:``), or a part of its name; empty takes the default input."""
    channel: Annotated[int, between(0, 63)] = 0
    """Channel of the device, counted from 0."""
    sample_rate: Annotated[
        int,
        rule(
            lambda value: value == 0 or value in range(8_000, 384_001),
            "0 or from 8000 to 384000",
        ),
    ] = 0
    """Hertz; 0 opens the device at its own rate.  Resampled to the model's rate."""
    latency_s: Annotated[float, between(0.01, 5.0)] = 0.3
    """Seconds of sound that PortAudio buffers; more survives a busier computer."""


@dataclass(frozen=True, slots=True)
class FileConfig:
    """A recording in place of a microphone."""

    path: FilePath
    """WAV or FLAC file, any rate."""
    channel: Annotated[int, between(0, 1023)] = 0
    """Channel of the file, counted from 0."""
    paced: bool = True
    """Whether to play in real time rather than as fast as possible."""
    repeat: bool = False
    """Whether to begin anew at the end of the file, without end."""


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """A simulated machine, to try things without any."""

    seed: Annotated[int, at_least(0)] = 1
    """Same seed, same sound."""
    fault_after_s: Annotated[float, at_least(0.0)] = 30.0
    """Seconds from the start until the fault is switched on."""
    fault_duration_s: Annotated[float, at_least(0.0)] = 30.0
    """Seconds for which the fault lasts; 0 leaves the machine healthy."""
    paced: bool = True
    """Whether to play in real time rather than as fast as possible."""


SourceConfig = MicrophoneConfig | FileConfig | SimulatorConfig


@dataclass(frozen=True, slots=True)
class AlarmConfig:
    """When a score becomes an alarm.  A score comes every 256 ms."""

    threshold: float | None = None
    """Score at which the alarm is raised; by default the model's, for its section."""
    clear_threshold: float | None = None
    """Score below which the alarm may end; by default the model's, for its section."""
    raise_after: Annotated[int, at_least(1)] = 4
    """Consecutive scores at or above the threshold that raise the alarm."""
    clear_after: Annotated[int, at_least(1)] = 8
    """Consecutive scores below the clear threshold that end the alarm."""
    cool_down_s: Annotated[float, at_least(0.0)] = 30.0
    """Seconds after an end in which no new alarm starts."""
    update_every_s: Annotated[float, at_least(1.0)] = 60.0
    """Seconds between two updates while an alarm lasts."""


def _threshold_mistake(alarm: AlarmConfig) -> str:
    threshold, clear = alarm.threshold, alarm.clear_threshold
    if threshold is None or clear is None or clear <= threshold:
        return ""
    return f"{{name}}.clear_threshold={clear:g} must be at most threshold={threshold:g}"


@dataclass(frozen=True, slots=True)
class _Machine:
    name: Annotated[str, _LEVEL_NAME]
    """Name in topics and payloads, unique on this node."""
    model: FilePath
    """Model file, as ``python -m train export`` makes it."""
    section: str = ""
    """Section of the model that this machine is; may stay empty if the model has one."""


@dataclass(frozen=True, slots=True)
class MachineConfig(_Machine):
    """One machine: what listens to it, and what knows its normal sound."""

    source: SourceConfig = field(default_factory=MicrophoneConfig)
    """What listens to it."""
    alarm: AlarmConfig = field(default_factory=AlarmConfig)
    """When it raises an alarm."""


@dataclass(frozen=True, slots=True)
class MachineTable(_Machine):
    """One machine as it stands in the file, where the source is a table of its kind."""

    microphone: MicrophoneConfig | None = None
    """The table ``[machine.microphone]``."""
    file: FileConfig | None = None
    """The table ``[machine.file]``, in place of a microphone."""
    simulator: SimulatorConfig | None = None
    """The table ``[machine.simulator]``, in place of a microphone."""
    alarm: Annotated[AlarmConfig, Rule(_threshold_mistake)] = field(default_factory=AlarmConfig)
    """The table ``[machine.alarm]``."""

    def sources(self) -> dict[str, SourceConfig]:
        """Return the tables of sources that are given, by their names."""
        tables = {
            "microphone": self.microphone,
            "file": self.file,
            "simulator": self.simulator,
        }
        return {name: table for name, table in tables.items() if table is not None}

    def machine(self) -> MachineConfig:
        """Return the machine; without a source it has the default microphone."""
        source = next(iter(self.sources().values()), MicrophoneConfig())
        return MachineConfig(self.name, self.model, self.section, source, self.alarm)


def _source_mistake(machine: MachineTable) -> str:
    kinds = list(machine.sources())
    return f"{{name}} must have one source, not {' and '.join(kinds)}" if len(kinds) > 1 else ""


_MACHINE_TABLE = Annotated[MachineTable, Rule(_source_mistake)]


@dataclass(frozen=True, slots=True)
class ClipsConfig:
    """The sound around the start of an alarm, kept on this computer."""

    enabled: bool = True
    """Whether to keep any: people near a machine can be heard in them."""
    directory: FilePath | None = None
    """Where they are kept; by default ``clips`` in the state directory."""
    before_s: Annotated[float, between(0.0, 120.0)] = 20.0
    """Seconds kept from before the start; a score rests on the 10 s before it."""
    after_s: Annotated[float, between(0.0, 120.0)] = 10.0
    """Seconds kept from after the start."""
    max_age_days: Annotated[float, at_least(0.0)] = 30.0
    """Days of running, whatever the wall clock says, after which a clip is removed."""
    max_size_mb: Annotated[float, at_least(1.0)] = 1000.0
    """Megabytes that all clips together may take; beyond it the oldest are removed."""


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "edge"


def _machines_mistake(machines: tuple[MachineConfig, ...]) -> str:
    if not machines:
        return "needs at least one [[machine]] table"
    counts = Counter(machine.name for machine in machines)
    name, count = counts.most_common(1)[0]
    return f"{{name}}.name={name!r} must be unique" if count > 1 else ""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    machine: Annotated[
        tuple[Annotated[MachineConfig, ReadAs(_MACHINE_TABLE, MachineTable.machine)], ...],
        Rule(_machines_mistake),
    ]
    """One table ``[[machine]]`` for each machine."""
    node: Annotated[str, _LEVEL_NAME] = field(default_factory=_host_name)
    """Name of this computer in topics and payloads; by default its host name."""
    state_dir: FilePath = Path("/var/lib/edgeasd")
    """Directory for what must outlive a restart: undelivered alerts."""
    log_level: Annotated[str, one_of("debug", "info", "warning", "error")] = "info"
    """Least severity that is logged."""
    mqtt: Annotated[MqttConfig, Rule(_tls_mistake)] = field(default_factory=MqttConfig)
    """The table ``[mqtt]``."""
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    """The table ``[clips]``."""

    @property
    def clips_dir(self) -> Path:
        """Where clips are kept."""
        return self.clips.directory or self.state_dir / "clips"
