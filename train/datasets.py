"""Folders of recordings to clips: one function for each layout, one form for all."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeasd.errors import EdgeasdError

logger = logging.getLogger(__name__)

_SUFFIXES = (".wav", ".flac")
_DCASE_NAME = re.compile(
    r"section_(?P<section>\d\d)_(?P<domain>source|target)_(?P<split>train|test)"
    r"_(?P<label>normal|anomaly)_\d{4}(?:_(?P<attributes>.*))?"
)
_DCASE2021_FOLDERS = ("train", "source_test", "target_test")


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, and what its place and name say of it.

    Attributes:
        path: WAV or FLAC file, any rate, any number of channels.
        machine_type: As in DCASE Task 2, for example ``fan``.
        section: For example ``00``.
        domain: ``source`` or ``target``.
        split: ``train`` or ``test``.
        label: ``normal`` or ``anomaly``.
        attributes: The rest of the name; may be empty.
    """

    path: Path
    machine_type: str
    section: str
    domain: str
    split: str
    label: str
    attributes: str = ""


class LayoutError(ValueError):
    """A file whose name or place does not say what it is; the message is the reason."""


def read_dcase2021(folder: Path) -> list[Clip]:
    """Return the clips of one machine type in the layout of DCASE 2021 Task 2.

    Args:
        folder: The machine type's folder, which gives it its name; it holds ``train``,
            ``source_test`` and ``target_test``, the latter two only for evaluation.

    Returns:
        The clips in the order of their paths.  Other files are logged with the reason.

    Raises:
        EdgeasdError: If there is no clip at all.
    """
    paths = [path for name in _DCASE2021_FOLDERS for path in sorted((folder / name).glob("*"))]
    clips = _parse_all(paths, _parse_dcase2021)
    if not clips:
        raise EdgeasdError(
            f"{folder}: holds no clips; expected is the folder of one machine type with "
            "train/section_00_source_train_normal_0000_<attributes>.wav, and for evaluation "
            f"source_test/ and target_test/{_machine_folders(folder)}"
        )
    return clips


def section_names(clips: Iterable[Clip]) -> list[str]:
    """Return the names of the sections of *clips*, sorted: the order of the logits."""
    return sorted({clip.section for clip in clips})


def _parse_all(paths: Sequence[Path], parse: Callable[[Path], Clip]) -> list[Clip]:
    clips = []
    for path in paths:
        try:
            clips.append(parse(path))
        except LayoutError as exc:  # noqa: PERF203 - a few thousand names at most
            logger.warning("%s: left out: %s", path, exc)
    return clips


def _parse_dcase2021(path: Path) -> Clip:
    if path.suffix.lower() not in _SUFFIXES:
        raise LayoutError("the name must end in .wav or .flac")
    match = _DCASE_NAME.fullmatch(path.stem)
    if match is None:
        raise LayoutError(
            "the name must be section_<NN>_<source|target>_<train|test>_<normal|anomaly>_<NNNN>, "
            "then optional _<attributes>"
        )
    fields = match.groupdict(default="")
    folder = "train" if fields["split"] == "train" else f"{fields['domain']}_test"
    if path.parent.name != folder:
        raise LayoutError(f"the name says {folder}/ and the folder is {path.parent.name}/")
    if folder == "train" and fields["label"] != "normal":
        raise LayoutError("training clips must be normal")
    return Clip(path=path, machine_type=path.parent.parent.name, **fields)


def _machine_folders(folder: Path) -> str:
    """Return a hint at folders below *folder* that look like those of a machine type."""
    names = [path.parent.name for path in sorted(folder.glob("*/train"))]
    return f"; one of its folders {', '.join(names)} may be meant" if names else ""
