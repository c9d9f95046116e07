"""Errors that an operator can act on: a message without traceback, and an exit code.

A ``ValueError`` is a bug of the caller.  A lost block, a dropped alert or a broker that is away is
no exception at all but a counter.
"""

from __future__ import annotations

import os


class EdgeasdError(Exception):
    """Something that an operator can mend; each line names the thing and its remedy."""

    exit_code = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """What is to be mended, one thing a line."""
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "; ".join(self.lines)


class ConfigError(EdgeasdError):
    """The configuration cannot be used; a restart does not mend it."""

    exit_code = os.EX_CONFIG


class ModelError(EdgeasdError):
    """The model file cannot be used; a restart does not mend it."""

    exit_code = os.EX_DATAERR


class AudioFileError(EdgeasdError):
    """A sound file cannot be read."""

    exit_code = os.EX_NOINPUT


class AudioDeviceError(EdgeasdError):
    """A microphone or the audio library is not there; it may come back."""

    exit_code = os.EX_UNAVAILABLE


class HungDeviceError(AudioDeviceError):
    """A microphone or the sound system hangs; only a restart of the process lets go of it."""

    exit_code = os.EX_TEMPFAIL


class BrokerError(EdgeasdError):
    """The MQTT broker cannot be reached or refuses the connection."""

    exit_code = os.EX_UNAVAILABLE


class StorageError(EdgeasdError):
    """A file or directory that must be written cannot be."""

    exit_code = os.EX_CANTCREAT


class InUseError(StorageError):
    """Another process uses what only one may; it may end."""

    exit_code = os.EX_TEMPFAIL


def os_reason(exc: Exception) -> str:
    """Return what *exc* says, of an `OSError` without its number and file name."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
