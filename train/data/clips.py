"""The form that every layout of recordings is read into."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

AUDIO_SUFFIXES = (".wav", ".flac")
DOMAINS = ("source", "target")
SPLITS = ("train", "test")
LABELS = ("normal", "anomaly")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, and what is known of it.

    Attributes:
        path: WAV or FLAC file, any rate, any number of channels.
        machine_type: As in DCASE Task 2, for example ``fan``.
        section: For example ``00``.
        domain: ``source`` or ``target``.
        split: ``train`` or ``test``.
        label: ``normal`` or ``anomaly``.
        attributes: Of the machine and its surroundings, as in the file's name; may be empty.
        channel: Of the file, counted from 0.
    """

    path: Path
    machine_type: str
    section: str
    domain: str
    split: str
    label: str
    attributes: str = ""
    channel: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is no clip.

    Attributes:
        name: Path of a file or folder; of a row of a manifest, the path and the line.
        reason: Why it cannot be used.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The recordings of one machine type.

    Attributes:
        clips: In the order of their paths, or of the manifest.
        left_out: All else that was found.
    """

    clips: list[Clip]
    left_out: list[LeftOut]


class LayoutError(ValueError):
    """A file or row that does not say what it is; the message is the reason."""


def make_dataset(items: Iterable[tuple[str, _T]], parse: Callable[[_T], Clip]) -> Dataset:
    """Return what *parse* makes of each item, and what it refuses.

    Args:
        items: Name of each for `LeftOut`, and what *parse* takes.
        parse: Raises `LayoutError` for what is no clip.
    """
    clips: dict[tuple[Path, int], Clip] = {}
    left_out = []
    for name, item in items:
        try:
            _add(clips, parse(item))
        except LayoutError as exc:  # noqa: PERF203 - a few thousand names at most
            left_out.append(LeftOut(name, str(exc)))
    return Dataset(list(clips.values()), left_out)


def refuse_other_than_audio(path: Path) -> None:
    """Check that *path* ends as a recording does.

    Raises:
        LayoutError: If it does not.
    """
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        raise LayoutError("the name must end in .wav or .flac")


def refuse_anomalous_training(split: str, label: str) -> None:
    """Check that a training clip is normal.

    Raises:
        LayoutError: If it is not.
    """
    if split == "train" and label != "normal":
        raise LayoutError("training clips must be normal")


def machine_type_of(folder: Path) -> str:
    """Return the name of a machine type's folder, also where it is given as ``.`` or ``..``."""
    return (folder.resolve() if folder.name in ("", "..") else folder).name


def _add(clips: dict[tuple[Path, int], Clip], clip: Clip) -> None:
    # A recording that is there twice, as WAV and as FLAC, could be trained on and tested with.
    key = (clip.path.resolve().with_suffix(""), clip.channel)
    if clips.setdefault(key, clip) is not clip:
        raise LayoutError("the same recording is there already, maybe in another format")
