"""The tables of the configuration: each key with its type, default, rule and description.

``make generate`` makes ``deploy/edgeasd.example.toml``, ``docs/configuration.md`` and the JSON
schema from what stands here.  A description begins with the unit where the value has one.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated

from edgeasd.common.documents.reading import (
    Example,
    FilePath,
    ReadAs,
    Rule,
    at_least,
    between,
    one_of,
    rule,
)

MOST_BASE_CHARACTERS = 1000
"""Characters of the base topic: a topic, of at most 65535 bytes, holds the names below it too."""
_LEVEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BASE = re.compile(r"(?!\$)[^\s\x00-\x1f\x7f+#/]+(/[^\s\x00-\x1f\x7f+#/]+)*")
MOST_MQTT_BYTES = 65_535
"""Bytes that a string in MQTT may have; section 1.5.3 of version 3.1.1."""
_LONGEST_HOST = 1000
"""Characters of a host name: more than any resolver takes."""


def is_level(name: str) -> bool:
    """Return whether *name* may be that of a node or machine, and so a level of its topics."""
    return _LEVEL.fullmatch(name) is not None and name.strip(".") != ""


def is_base(text: str) -> bool:
    """Return whether *text* may be put in front of the topics; it may be empty."""
    return text == "" or (len(text) <= MOST_BASE_CHARACTERS and _BASE.fullmatch(text) is not None)


_LEVEL_NAME = rule(
    is_level,
    "1 to 64 letters, digits, '_', '.' or '-', as it becomes a level of an MQTT topic",
    pattern=r"^(?!\.*$)[A-Za-z0-9_.-]{1,64}$",
)


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """The broker to which alerts go."""

    host: Annotated[
        str,
        rule(
            lambda value: 1 <= len(value) <= _LONGEST_HOST,
            f"a name of at most {_LONGEST_HOST} characters",
            minLength=1,
            maxLength=_LONGEST_HOST,
        ),
    ] = "localhost"
    """Host name or address of the broker."""
    port: Annotated[int, between(1, 65_535)] = 1883
    """TCP port of the broker; 8883 is usual with TLS."""
    version: Annotated[str, one_of("3.1.1", "5")] = "3.1.1"
    """Version of MQTT.  With 5 the broker says which messages it refuses, and why; under 3.1.1 a
    broker with an access control list drops them silently."""
    base: Annotated[
        str,
        rule(
            is_base,
            "topic levels joined by '/', without '+', '#', blanks, control characters or a "
            f"'$' in front, and at most {MOST_BASE_CHARACTERS} characters",
            maxLength=MOST_BASE_CHARACTERS,
        ),
    ] = ""
    """Topic levels put before ``edgeasd/v1/...``, for example "acme/plant1"; empty puts none."""
    username: Annotated[
        str,
        rule(
            lambda value: len(value.encode()) <= MOST_MQTT_BYTES,
            f"at most {MOST_MQTT_BYTES} bytes",
        ),
    ] = ""
    """Account at the broker; empty connects anonymously."""
    password_file: Annotated[FilePath | None, Example("/etc/edgeasd/mqtt_password", "none")] = None
    """File whose first line is the password.  The service is handed the file of the example, which
    only root may read, as a systemd credential."""
    ca_file: Annotated[FilePath | None, Example("/etc/edgeasd/ca.pem", "none, and no TLS")] = None
    """PEM file of the authority that signed the broker's certificate; where it is given, TLS is
    used."""
    cert_file: Annotated[FilePath | None, Example("/etc/edgeasd/node.pem", "none")] = None
    """PEM file of this node's certificate, where the broker asks for one; needs ca_file and
    key_file."""
    key_file: Annotated[FilePath | None, Example("/etc/edgeasd/node.key", "none")] = None
    """PEM file of the private key of cert_file.  The service is handed a key that only root may
    read by a drop-in with LoadCredential=node.key:/etc/edgeasd/node.key."""
    keepalive_s: Annotated[int, between(5, 3600)] = 30
    """Seconds between two signs of life; a dead connection is noticed after about one and a half
    of them."""
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


_TLS_FILES = Rule(
    _tls_mistake,
    keywords={
        "dependentRequired": {"cert_file": ["ca_file", "key_file"], "key_file": ["cert_file"]}
    },
)


@dataclass(frozen=True, slots=True)
class MicrophoneConfig:
    """A sound input of this computer."""

    device: str = ""
    """Sound input, as ``edgeasd devices`` calls it: the socket, as "usb:0000:00:14.0-1.4"; vendor,
    product and serial number, as "usb-id:0d8c:0014:A7" or without the serial number; or a part of
    the name.  Empty takes the default input.  Machines may listen to several channels of one
    device."""
    channel: Annotated[int, between(0, 63)] = 0
    """Channel of the device, counted from 0."""
    sample_rate: Annotated[
        int,
        rule(
            lambda value: value == 0 or value in range(8_000, 384_001),
            "0 or from 8000 to 384000",
            minimum=0,
            maximum=384_000,
        ),
    ] = 0
    """Hertz; 0 opens the device at its own rate.  The sound is resampled to the rate of the
    model."""
    latency_s: Annotated[float, between(0.01, 5.0)] = 0.3
    """Seconds of sound that PortAudio buffers; more of them survive a busier computer."""


@dataclass(frozen=True, slots=True)
class FileConfig:
    """A recording in place of a microphone."""

    path: Annotated[FilePath, Example("fan.wav")]
    """WAV or FLAC file, of any sample rate."""
    channel: Annotated[int, between(0, 1023)] = 0
    """Channel of the file, counted from 0."""
    paced: bool = True
    """Whether to play in real time rather than as fast as possible."""
    repeat: bool = False
    """Whether to start again each time the file ends."""


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """A simulated machine, to try things without a real one."""

    seed: Annotated[int, at_least(0)] = 1
    """Seed of the random numbers; the same seed gives the same sound."""
    fault_after_s: Annotated[float, at_least(0.0)] = 30.0
    """Seconds from the start until the fault begins."""
    fault_duration_s: Annotated[float, at_least(0.0)] = 30.0
    """Seconds for which the fault lasts; 0 leaves the machine healthy."""
    paced: bool = True
    """Whether to play in real time rather than as fast as possible."""


SourceConfig = MicrophoneConfig | FileConfig | SimulatorConfig


@dataclass(frozen=True, slots=True)
class AlarmConfig:
    """When a score becomes an alarm.  A score comes every 256 ms."""

    threshold: Annotated[float | None, Example(2.8, "that of the model for its section")] = None
    """Score at which the alarm is raised, in the unit of the model's scores."""
    clear_threshold: Annotated[float | None, Example(2.4, "that of the model for its section")] = (
        None
    )
    """Score below which the alarm may end; at most the threshold."""
    raise_after: Annotated[int, at_least(1)] = 4
    """Consecutive scores at or above the threshold that raise the alarm."""
    clear_after: Annotated[int, at_least(1)] = 8
    """Consecutive scores below the clear threshold that end the alarm."""
    cool_down_s: Annotated[float, at_least(0.0)] = 30.0
    """Seconds after the end of an alarm in which no new one starts; with 0 it may start at once."""
    update_every_s: Annotated[float, at_least(1.0)] = 60.0
    """Seconds between two updates while an alarm lasts."""


def _threshold_mistake(alarm: AlarmConfig) -> str:
    threshold, clear = alarm.threshold, alarm.clear_threshold
    if threshold is None or clear is None or clear <= threshold:
        return ""
    return f"{{name}}.clear_threshold={clear:g} must be at most threshold={threshold:g}"


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """One machine: what listens to it, and what knows its normal sound.

    `MachineTable` describes its keys in the file.
    """

    name: str
    model: Path
    section: str = ""
    source: SourceConfig = field(default_factory=MicrophoneConfig)
    alarm: AlarmConfig = field(default_factory=AlarmConfig)


@dataclass(frozen=True, slots=True)
class MachineTable:
    """One machine, with one of the tables microphone, file and simulator."""

    name: Annotated[str, _LEVEL_NAME, Example("press07")]
    """Name in topics and payloads, unique on this node."""
    model: Annotated[FilePath, Example("models/press07.onnx")]
    """Model file, as ``edgeasd learn`` or ``python -m train export`` makes it."""
    section: str = ""
    """Section of the model that this machine is; may stay empty if the model has only one."""
    microphone: MicrophoneConfig | None = None
    """What listens to the machine: one of the tables microphone, file and simulator.  Without any,
    it is the default input."""
    file: FileConfig | None = None
    """A recording in place of a microphone."""
    simulator: SimulatorConfig | None = None
    """A simulated machine in place of a microphone."""
    alarm: Annotated[AlarmConfig, Rule(_threshold_mistake)] = field(default_factory=AlarmConfig)
    """When a score becomes an alarm."""

    def sources(self) -> dict[str, SourceConfig]:
        """Return the sources that are given, by the names of their tables."""
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


_ONE_SOURCE = Rule(
    _source_mistake,
    keywords={
        "not": {
            "anyOf": [
                {"required": list(pair)}
                for pair in combinations(("microphone", "file", "simulator"), 2)
            ]
        }
    },
)


@dataclass(frozen=True, slots=True)
class ClipsConfig:
    """Sound around the start of an alarm, kept on this computer."""

    enabled: bool = True
    """Whether to keep any: people near a machine can be heard in them.  On by default, as an alarm
    that nobody can listen to is hard to judge.  Where it is switched off, the clips that are there
    are still removed when they are old."""
    directory: Annotated[
        FilePath | None, Example("/var/lib/edgeasd/clips", "`clips` in the state directory")
    ] = None
    """Directory for the FLAC files, of this computer alone; only the service's user may read
    them."""
    before_s: Annotated[float, between(0.0, 120.0)] = 20.0
    """Seconds kept from before the start, and up to a hop of 256 ms more, so that the clip gives
    the scores that were heard live; a score rests on the 10 s before it."""
    after_s: Annotated[float, between(0.0, 120.0)] = 10.0
    """Seconds kept from after the start."""
    max_age_days: Annotated[float, at_least(0.0)] = 30.0
    """Days of running, whatever the wall clock says, after which a clip is removed; this is looked
    at every hour."""
    max_size_mb: Annotated[float, at_least(1.0)] = 1000.0
    """Megabytes that all clips together may take; beyond it the oldest are removed.  A twentieth of
    the disk, at most 100 MB, is left free in any case."""


def _machines_mistake(machines: tuple[MachineConfig, ...]) -> str:
    if not machines:
        return "needs at least one [[machine]] table"
    counts = Counter(machine.name for machine in machines)
    name, count = counts.most_common(1)[0]
    return f"{{name}}.name={name!r} must be unique" if count > 1 else ""


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "edge"


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of edgeasd."""

    machine: Annotated[
        tuple[
            Annotated[
                MachineConfig, ReadAs(Annotated[MachineTable, _ONE_SOURCE], MachineTable.machine)
            ],
            ...,
        ],
        Rule(_machines_mistake, keywords={"minItems": 1}),
    ]
    """One table for each machine."""
    node: Annotated[str, _LEVEL_NAME, Example("edge-01", "the host name")] = field(
        default_factory=_host_name
    )
    """Name of this computer in topics and payloads, unique at the broker."""
    state_dir: FilePath = Path("/var/lib/edgeasd")
    """Directory for what must outlive a restart: undelivered alerts."""
    log_level: Annotated[str, one_of("debug", "info", "warning", "error")] = "info"
    """Least severity that is logged."""
    mqtt: Annotated[MqttConfig, _TLS_FILES] = field(default_factory=MqttConfig)
    """The broker to which alerts go."""
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    """Sound around the start of an alarm, kept on this computer."""

    @property
    def clips_dir(self) -> Path:
        """Where clips are kept."""
        return self.clips.directory or self.state_dir / "clips"
