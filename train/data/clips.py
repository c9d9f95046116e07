"""The types that recordings of every layout are read into."""

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
    """One recording and its labels.

    Attributes:
        path: Path of a WAV or FLAC file of any rate, with any number of channels.
        machine_type: Machine type as in DCASE Task 2, for example ``fan``.
        section: Name of the section, for example ``00``.
        domain: ``source`` or ``target``.
        split: ``train`` or ``test``.
        label: ``normal`` or ``anomaly``.
        attributes: Attributes in the file name, of the machine and its surroundings; may be empty.
        channel: Channel of the file, counted from 0.
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
    """A file, folder or row that is not a clip.

    Attributes:
        name: Path of the file or folder, or path and line of the row of a manifest.
        reason: Why it cannot be used.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The recordings of one machine type.

    Attributes:
        clips: The clips, in the order of their paths or of the manifest.
        left_out: Everything else that was found.
    """

    clips: list[Clip]
    left_out: list[LeftOut]


class LayoutError(ValueError):
    """A file or row does not fit the layout; the message is the reason."""


def make_dataset(items: Iterable[tuple[str, _T]], parse: Callable[[_T], Clip]) -> Dataset:
    """Return the data set of *items*, each parsed into a clip or left out.

    Args:
        items: Pairs of a name for `LeftOut` and an item.
        parse: Returns the clip of an item, or raises `LayoutError` if it is none.
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
    """Check that *path* has the suffix of a recording.

    Raises:
        LayoutError: If it has another suffix.
    """
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        raise LayoutError("the name must end in .wav or .flac")


def refuse_anomalous_training(split: str, label: str) -> None:
    """Check that a training clip is normal.

    Raises:
        LayoutError: If it is anomalous.
    """
    if split == "train" and label != "normal":
        raise LayoutError("training clips must be normal")


def machine_type_of(folder: Path) -> str:
    """Return the name of a machine type's folder, which may be given as ``.`` or ``..``."""
    return (folder.resolve() if folder.name in ("", "..") else folder).name


def _add(clips: dict[tuple[Path, int], Clip], clip: Clip) -> None:
    # The same recording as WAV and as FLAC could be used for both training and testing.
    key = (clip.path.resolve().with_suffix(""), clip.channel)
    if clips.setdefault(key, clip) is not clip:
        raise LayoutError("the same recording is already in the data, perhaps in another format")
