"""Errors that an operator can act on: shown without traceback, with an exit code each.

A ``ValueError`` is a bug of the caller.  A lost block, a dropped alert or an unreachable broker is
not an exception but a counter.
"""

from __future__ import annotations

import os


class EdgeasdError(Exception):
    """An error that an operator can correct; each line says what is wrong and what to do."""

    exit_code = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """What is to be mended, one thing a line."""
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "; ".join(self.lines)


class ConfigError(EdgeasdError):
    """The configuration cannot be used; a restart does not help."""

    exit_code = os.EX_CONFIG


class ModelError(EdgeasdError):
    """The model file cannot be used; a restart does not help."""

    exit_code = os.EX_DATAERR


class AudioFileError(EdgeasdError):
    """A sound file cannot be read."""

    exit_code = os.EX_NOINPUT


class AudioDeviceError(EdgeasdError):
    """A microphone or the audio library is absent; it may return."""

    exit_code = os.EX_UNAVAILABLE


class HungDeviceError(AudioDeviceError):
    """A microphone or the sound system hangs; only a restart of the process releases it."""

    exit_code = os.EX_TEMPFAIL


class BrokerError(EdgeasdError):
    """The MQTT broker cannot be reached or refuses the connection."""

    exit_code = os.EX_UNAVAILABLE


class StorageError(EdgeasdError):
    """A file or directory cannot be written."""

    exit_code = os.EX_CANTCREAT


class InUseError(StorageError):
    """Another process uses something that only one may use at a time."""

    exit_code = os.EX_TEMPFAIL


def os_reason(exc: Exception) -> str:
    """Return the message of *exc*; for an `OSError` without its number and file name."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
