"""Reads recordings in the layouts of DCASE Task 2 (2020 to 2024), of MIMII, or of a manifest."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeasd.common.errors import EdgeasdError
from train.data.clips import (
    Clip,
    Dataset,
    LayoutError,
    LeftOut,
    machine_type_of,
    make_dataset,
    refuse_anomalous_training,
    refuse_other_than_audio,
)
from train.data.manifest import MANIFEST_NAME, read_manifest

logger = logging.getLogger(__name__)

_DEPTH = 3
"""Levels of folders to search, as in ``dcase2022/dev_data/fan`` or ``mimii/6_dB_fan/fan``."""
_N_LOGGED = 10
"""Largest number of names to log for one reason; evaluation data has 200 of them or more."""

_DCASE_PLACES = ("train", "test", "source_test", "target_test")
_MIMII_PLACE = re.compile(r"id_(?P<section>\d\d)/(?P<label>normal|abnormal)")
_PLACE = re.compile("|".join((*_DCASE_PLACES, r"id_\d\d", _MIMII_PLACE.pattern)))

_SECTION_NAME = re.compile(
    r"section_(?P<section>\d\d)_(?P<domain>source|target)_(?P<split>train|test)"
    r"_(?P<label>normal|anomaly)_\d{4,}(?:_(?P<attributes>.*))?"
)
_ID_NAME = re.compile(r"(?P<label>normal|anomaly)_id_(?P<section>\d\d)_\d{8}")
_UNLABELLED_NAME = re.compile(r"section_\d\d(?:_source|_target)?(?:_test)?_\d{4,}|id_\d\d_\d{8}")
_NO_RECORDING = re.compile(r"\..*|attributes_\d\d\.csv|recording\.csv")
"""Files to ignore: hidden files of file managers, and the lists that DCASE and ``edgeasd record``
add, whose content is in the file names too."""


def read_clips(path: Path) -> Dataset:
    """Return the recordings of one machine type.

    Args:
        path: Folder of the machine type, in a layout of DCASE Task 2 or MIMII.  If it holds a
            ``manifest.csv``, only that is read.  Or path of any manifest that ends in ``.csv``.

    Returns:
        The clips, and what was left out, which is logged too: for each reason at most ten names and
        the number of the others.

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

    If *root* is the folder of a machine type, it alone is returned.  Two folders may have the same
    name, as in MIMII, where each noise level has a folder ``fan``.

    Raises:
        EdgeasdError: If there is no such folder, or one cannot be read.
    """
    try:
        folders = _find(root, _DEPTH)
    except OSError as exc:
        raise EdgeasdError(f"{exc.filename}: cannot be read ({exc.strerror})") from exc
    if not folders:
        raise EdgeasdError(f"{root}: holds no folder of a machine type; {_expected(root)}")
    return folders


def section_names(clips: Iterable[Clip]) -> list[str]:
    """Return the names of the sections of *clips*, sorted; the logits have the same order."""
    return sorted({clip.section for clip in clips})


def _read(path: Path) -> Dataset:
    if path.suffix.lower() == ".csv" and path.is_file():
        return read_manifest(path)
    if (path / MANIFEST_NAME).is_file():
        return read_manifest(path / MANIFEST_NAME)
    return _read_folder(path)


def _find(folder: Path, depth: int) -> list[Path]:
    if (folder / MANIFEST_NAME).is_file() or _is_machine_folder(folder):
        return [folder]
    if depth == 0:
        return []
    inner = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return [found for path in inner if path.is_dir() for found in _find(path, depth - 1)]


def _expected(path: Path) -> str:
    """Return in words what is expected, and which folders below *path* may be meant."""
    expected = (
        "name the folder of one machine type with train/, test/, source_test/, target_test/, "
        "id_<NN>/ or manifest.csv, as described in train/README.md"
    )
    below = _find(path, _DEPTH) if path.is_dir() else []
    names = [str(folder.relative_to(path)) for folder in below if folder != path]
    return f"{expected}, perhaps one of {', '.join(names)} in it" if names else expected


def _log(path: Path, left_out: Sequence[LeftOut]) -> None:
    reasons = list(dict.fromkeys(one.reason for one in left_out))
    for reason in reasons:
        names = [one.name for one in left_out if one.reason == reason]
        for name in names[:_N_LOGGED]:
            logger.warning("%s: left out: %s", name, reason)
        if len(names) > _N_LOGGED:
            n_others = len(names) - _N_LOGGED
            logger.warning("%s: left out %d more for the same reason", path, n_others)


def _is_machine_folder(folder: Path) -> bool:
    """Return whether *folder* holds a folder of a known layout."""
    return any(_PLACE.fullmatch(path.name) and path.is_dir() for path in folder.iterdir())


def _read_folder(folder: Path) -> Dataset:
    """Return the clips of one machine type, whose name is that of the folder.

    The folder of a file shows its layout: ``train/``, ``test/``, ``source_test/`` and
    ``target_test/`` belong to DCASE Task 2, ``id_<NN>/normal/`` and ``id_<NN>/abnormal/`` to MIMII.
    MIMII has no split.  For each id, the last normal clips are for testing: as many as there are
    anomalous clips, but at most half of the normal ones.

    Raises:
        OSError: If *folder* cannot be read.

    References:
        Purohit et al. (2019), "MIMII dataset", and its baseline, which also takes as many normal
        test clips as anomalous ones, but the first of them; if there are few, none is left to train
        on.
    """
    items = ((str(path), path) for path in _entries(folder))
    dataset = make_dataset(items, partial(_parse, folder=folder))
    return replace(dataset, clips=_with_mimii_tests(dataset.clips))


def _entries(folder: Path, place: str = "") -> Iterator[Path]:
    """Yield the entries of *folder*; a folder of a known layout is replaced by its entries."""
    for path in sorted(folder.iterdir()):
        inner = f"{place}{path.name}"
        if _NO_RECORDING.fullmatch(path.name):
            continue
        if _PLACE.fullmatch(inner) and path.is_dir():
            yield from _entries(path, f"{inner}/")
        else:
            yield path


def _parse(path: Path, folder: Path) -> Clip:
    if not path.is_file():
        raise LayoutError("is a folder of no known layout" if path.is_dir() else "is not a file")
    refuse_other_than_audio(path)
    machine_type = machine_type_of(folder)
    place = path.parent.relative_to(folder).as_posix()
    if place in _DCASE_PLACES:
        return _parse_dcase(path, machine_type, place)
    match = _MIMII_PLACE.fullmatch(place)
    if match is None:
        raise LayoutError(
            "belongs in train/, test/, source_test/, target_test/, id_<NN>/normal/ "
            "or id_<NN>/abnormal/"
        )
    if match["label"] == "normal":
        return Clip(path, machine_type, match["section"], "source", "train", "normal")
    return Clip(path, machine_type, match["section"], "source", "test", "anomaly")


def _parse_dcase(path: Path, machine_type: str, place: str) -> Clip:
    if match := _SECTION_NAME.fullmatch(path.stem):
        fields = _section_fields(match, place)
    elif match := _ID_NAME.fullmatch(path.stem):
        fields = _id_fields(match, place)
    elif _UNLABELLED_NAME.fullmatch(path.stem):
        raise LayoutError(
            "the name has no label; rename it according to the published ground truth, or list it "
            "in a manifest.csv"
        )
    else:
        raise LayoutError(
            "the name must be section_<NN>_<source|target>_<train|test>_<normal|anomaly>_<NNNN>, "
            "then optional _<attributes>, or <normal|anomaly>_id_<NN>_<NNNNNNNN>"
        )
    refuse_anomalous_training(fields["split"], fields["label"])
    return Clip(path=path, machine_type=machine_type, **fields)


def _section_fields(match: re.Match[str], place: str) -> dict[str, Any]:
    """Return the fields of a clip that a name of DCASE 2021 to 2024 holds."""
    fields = match.groupdict(default="")
    is_train = fields["split"] == "train"
    if place not in (("train",) if is_train else ("test", f"{fields['domain']}_test")):
        named = "train" if is_train else f"{fields['domain']}_test"
        raise LayoutError(f"the name says {named}, but the folder is {place}/")
    if fields["attributes"] == "noAttribute":
        fields["attributes"] = ""
    return fields


def _id_fields(match: re.Match[str], place: str) -> dict[str, Any]:
    """Return the fields of a clip that a name and folder of DCASE 2020 hold."""
    if place not in ("train", "test"):
        raise LayoutError("a name without a domain belongs in train/ or test/")
    return {**match.groupdict(), "domain": "source", "split": place}


def _with_mimii_tests(clips: Sequence[Clip]) -> list[Clip]:
    """Return *clips* with the test split of MIMII; see `_read_folder`."""
    tests: set[Clip] = set()
    for section in {clip.section for clip in clips}:
        chosen = [clip for clip in clips if clip.section == section]
        normal = [clip for clip in chosen if clip.path.parent.name == "normal"]
        n_anomalous = sum(clip.path.parent.name == "abnormal" for clip in chosen)
        n_tests = min(n_anomalous, len(normal) // 2)
        tests.update(normal[len(normal) - n_tests :])
    return [replace(clip, split="test") if clip in tests else clip for clip in clips]
