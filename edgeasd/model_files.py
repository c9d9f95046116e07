"""Model files in use, and what tells that a file has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from edgeasd.detect.model import Model, load_model


class Models:
    """The model files in use: machines that name the same file share the network."""

    def __init__(self) -> None:
        # Weak: a daemon that runs for years sees many models, under many names.
        self._by_stamp: WeakValueDictionary[tuple[Path, _Stamp], Model] = WeakValueDictionary()
        self._by_digest: WeakValueDictionary[tuple[Path, str], Model] = WeakValueDictionary()

    def load(self, path: Path) -> Model:
        """Return the model in the file, read again only if the file changed.

        Raises:
            ModelError: If the file cannot be used.
        """
        stamp = _stamp(path)
        known = self._by_stamp.get((path, stamp))
        if known is not None:
            return known
        loaded = load_model(path)
        model = self._by_digest.setdefault((path, loaded.sha256), loaded)
        self._by_stamp[path, stamp] = model
        return model


class FileWatch:
    """Tells when files have changed and are whole: the same at two looks in a row.

    Args:
        paths: The files; one that is not there counts too.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._used = self._seen = self._look()

    def changed(self) -> bool:
        """Look, and return whether the files have come to rest since they changed."""
        before, self._seen = self._seen, self._look()
        if self._seen != before or self._seen == self._used:
            return False
        self._used = self._seen
        return True

    def _look(self) -> list[_Stamp]:
        return [_stamp(path) for path in self._paths]


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells one content of a file from another without reading it; all 0 without a file."""

    inode: int = 0
    n_bytes: int = 0
    modified_ns: int = 0


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return _Stamp()
    return _Stamp(found.st_ino, found.st_size, found.st_mtime_ns)
