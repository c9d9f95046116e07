"""Recordings to clips: the layout is found, and what is no clip is told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgeasd.common.errors import EdgeasdError
from train.data.clips import Clip, Dataset, LeftOut
from train.data.layouts import is_machine_folder, read_folder
from train.data.manifest import MANIFEST_NAME, read_manifest

__all__ = ["Clip", "Dataset", "LeftOut", "machine_folders", "read_clips", "section_names"]

logger = logging.getLogger(__name__)

_DEPTH = 3
"""Folders below a root, as in ``root/dcase2022/dev_data/fan`` or ``root/mimii/6_dB_fan/fan``."""
_N_LOGGED = 10
"""Of things left out for the same reason; a set of evaluation data has 200 of them or more."""


def read_clips(path: Path) -> Dataset:
    """Return the recordings of one machine type.

    Args:
        path: Its folder, in a layout of DCASE Task 2 or MIMII, or with a ``manifest.csv``, which
            alone then counts; or a manifest of any name that ends in ``.csv``.

    Returns:
        The clips and all that was left out, which is logged too; of many for the same reason,
        the first ten and the number of the others.

    Raises:
        EdgeasdError: If there is no clip at all, or *path* or the manifest cannot be read.
    """
    try:
        dataset = _read(path)
    except OSError as exc:
        raise EdgeasdError(f"{path}: cannot be read ({exc.strerror})") from exc
    _log(path, dataset.left_out)
    if not dataset.clips:
        raise EdgeasdError(f"{path}: holds no clips; {_expected(path)}")
    return dataset


def machine_folders(root: Path) -> list[Path]:
    """Return the folders of machine types at or up to three levels below *root*, sorted.

    A folder that is one machine type's gives itself.  Two may have the same name, as in MIMII,
    where each noise level has its ``fan``.

    Raises:
        EdgeasdError: If there is none, or a folder cannot be read.
    """
    try:
        folders = _find(root, _DEPTH)
    except OSError as exc:
        raise EdgeasdError(f"{exc.filename}: cannot be read ({exc.strerror})") from exc
    if not folders:
        raise EdgeasdError(f"{root}: holds no folder of a machine type; {_expected(root)}")
    return folders


def section_names(clips: Iterable[Clip]) -> list[str]:
    """Return the names of the sections of *clips*, sorted: the order of the logits."""
    return sorted({clip.section for clip in clips})


def _read(path: Path) -> Dataset:
    if path.suffix.lower() == ".csv" and path.is_file():
        return read_manifest(path)
    if (path / MANIFEST_NAME).is_file():
        return read_manifest(path / MANIFEST_NAME)
    return read_folder(path)


def _find(folder: Path, depth: int) -> list[Path]:
    if (folder / MANIFEST_NAME).is_file() or is_machine_folder(folder):
        return [folder]
    if depth == 0:
        return []
    inner = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return [found for path in inner if path.is_dir() for found in _find(path, depth - 1)]


def _expected(path: Path) -> str:
    """Return what is expected, and which folders below *path* may be meant."""
    expected = (
        "expected is the folder of one machine type with train/, test/, source_test/, "
        "target_test/, id_<NN>/ or manifest.csv, as train/README.md tells"
    )
    below = _find(path, _DEPTH) if path.is_dir() else []
    names = [str(folder.relative_to(path)) for folder in below if folder != path]
    return f"{expected}; one of its folders {', '.join(names)} may be meant" if names else expected


def _log(path: Path, left_out: Sequence[LeftOut]) -> None:
    reasons = list(dict.fromkeys(one.reason for one in left_out))
    for reason in reasons:
        names = [one.name for one in left_out if one.reason == reason]
        for name in names[:_N_LOGGED]:
            logger.warning("%s: left out: %s", name, reason)
        if len(names) > _N_LOGGED:
            n_others = len(names) - _N_LOGGED
            logger.warning("%s: left out %d more for the same reason", path, n_others)
