"""Reads clips from a CSV file that lists recordings anywhere."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from edgeasd.common.documents.reading import DocumentError, refuse_unknown_keys
from edgeasd.common.errors import EdgeasdError
from train.data.clips import (
    DOMAINS,
    LABELS,
    SPLITS,
    Clip,
    Dataset,
    LayoutError,
    machine_type_of,
    make_dataset,
    refuse_anomalous_training,
    refuse_other_than_audio,
)

MANIFEST_NAME = "manifest.csv"

_Row = Mapping[str | Any, str | Any]
_COLUMNS = (
    "path", "machine_type", "section", "domain", "split", "label", "attributes", "channel",
)  # fmt: skip
_CHOICES = MappingProxyType({"domain": DOMAINS, "split": SPLITS, "label": LABELS})


def read_manifest(manifest: Path) -> Dataset:
    """Return the clips that a CSV file lists, in its order.

    Its first line names the columns.  Only ``path`` is required, relative to the manifest.  The
    defaults of empty or missing values are: the name of the manifest's folder as machine type,
    section ``00``, domain ``source``, label ``normal``, split ``train`` for a normal clip and
    ``test`` for an anomalous one, and channel 0.

    Raises:
        EdgeasdError: If the file cannot be read, a column is unknown, ``path`` is missing, or the
            clips belong to several machine types.
    """
    try:
        # Spreadsheet programs write a byte order mark at the start of UTF-8.
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            parse = partial(_parse, folder=manifest.parent)
            dataset = make_dataset(_rows(file, manifest), parse)
    except OSError as exc:
        raise EdgeasdError(f"{manifest}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise EdgeasdError(f"{manifest}: must be saved as UTF-8") from exc
    except DocumentError as exc:
        raise EdgeasdError(f"{manifest}: {exc}") from exc
    machine_types = sorted({clip.machine_type for clip in dataset.clips})
    if len(machine_types) > 1:
        raise EdgeasdError(
            f"{manifest}: machine_type must be the same in all rows, not "
            f"{', '.join(machine_types)}; make a manifest for each, in a folder of its own"
        )
    return dataset


def _rows(file: TextIO, manifest: Path) -> Iterator[tuple[str, _Row]]:
    """Yield the name of each row for messages, and the row."""
    rows = csv.DictReader(file, strict=True)
    try:
        columns = list(rows.fieldnames or [])
        refuse_unknown_keys(dict.fromkeys(columns), _COLUMNS)
        if "path" not in columns or len(set(columns)) < len(columns):
            raise DocumentError("the first line must name path, and no column twice")
        for row in rows:
            yield f"{manifest}:{rows.line_num}", row
    except csv.Error as exc:
        raise DocumentError(f"after line {rows.line_num}: {exc}") from exc


def _parse(row: _Row, folder: Path) -> Clip:
    if None in row:
        raise LayoutError("has more values than the first line has columns")
    given = {name: value.strip() for name, value in row.items() if value and value.strip()}
    label = given.get("label", "normal")
    defaults = {
        "machine_type": machine_type_of(folder),
        "section": "00",
        "domain": "source",
        "split": "train" if label == "normal" else "test",
        "label": label,
        "channel": "0",
    }
    fields = defaults | given
    _check(fields)
    path = folder / fields.pop("path")
    refuse_other_than_audio(path)
    if not path.is_file():
        raise LayoutError("path must be a file, relative to the folder of the manifest")
    return Clip(path=path, channel=int(fields.pop("channel")), **fields)


def _check(fields: Mapping[str, str]) -> None:
    if "path" not in fields:
        raise LayoutError("path is missing")
    for name, choices in _CHOICES.items():
        if fields[name] not in choices:
            raise LayoutError(f"{name}={fields[name]} must be one of {', '.join(choices)}")
    if not fields["channel"].isdecimal():
        raise LayoutError(f"channel={fields['channel']} must be a whole number, counted from 0")
    for name in ("machine_type", "section"):
        if "/" in fields[name]:  # the names of result files contain them
            raise LayoutError(f"{name}={fields[name]} must not hold a slash")
    refuse_anomalous_training(fields["split"], fields["label"])
