"""The model files in use: how they are loaded, and how a change of a file is noticed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from edgeasd.common.errors import ModelError, os_reason
from edgeasd.common.files.small_file import read_small
from edgeasd.detect.model.network import MOST_BYTES, Model
from edgeasd.models.trial import Trials


def open_model(path: Path) -> Model:
    """Return the model in the file at *path*, after it was tried in another process.

    Raises:
        ModelError: If the file cannot be used; the message names the field.
    """
    return Models().load(path)


class Models:
    """The model files in use: machines that name the same file share the network.

    Files are read, tried and loaded in a thread, so that the supervisor need not wait for them.
    """

    def __init__(self) -> None:
        # Weak references: a daemon that runs for years sees many models, under many names.
        self._by_stamp: WeakValueDictionary[tuple[Path, _Stamp], Model] = WeakValueDictionary()
        self._by_digest: WeakValueDictionary[tuple[Path, str], Model] = WeakValueDictionary()
        self._faults: dict[Path, tuple[_Stamp, str]] = {}
        self._prepared: list[Future[Model]] = []
        self._lock = threading.Lock()
        self._asked: dict[tuple[Path, _Stamp], Future[Model]] = {}
        self._works = False

    def prepare(self, paths: Iterable[Path]) -> None:
        """Begin to load the files at *paths*, even those that were refused before.

        They stay loaded until the next call, whether they are used or not.
        """
        self._faults.clear()
        self._prepared = [self.begin(path) for path in dict.fromkeys(paths)]

    @property
    def ready(self) -> bool:
        """Whether every file that was prepared has been loaded or refused."""
        return all(one.done() for one in self._prepared)

    def load(self, path: Path) -> Model:
        """Return the model in the file, which is read again only if it has changed; wait for it.

        Raises:
            ModelError: If the file cannot be used.
        """
        return self.begin(path).result()

    def begin(self, path: Path) -> Future[Model]:
        """Begin to load the file; the future will hold its model or a `ModelError`."""
        key = path, _stamp(path)
        seen, fault = self._faults.get(path, (None, ""))
        with self._lock:
            if key in self._asked:
                return self._asked[key]
            future: Future[Model] = Future()
            if seen == key[1]:
                future.set_exception(ModelError(fault))
            elif (known := self._by_stamp.get(key)) is not None:
                future.set_result(known)
            else:
                self._asked[key] = future
                self._start_work()
        return future

    def _start_work(self) -> None:
        if not self._works:
            self._works = True
            threading.Thread(target=self._work, name="models", daemon=True).start()

    def _work(self) -> None:
        """Load the files that are asked for, until there are no more."""
        trials = Trials()
        while (key := self._next()) is not None:
            self._answer(key, trials)
        trials.close()

    def _next(self) -> tuple[Path, _Stamp] | None:
        with self._lock:
            self._works = len(self._asked) > 0
            return next(iter(self._asked), None)

    def _answer(self, key: tuple[Path, _Stamp], trials: Trials) -> None:
        model, error = None, None
        try:
            model = self._load(key, trials)
        except ModelError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - no error may cost more than this model
            error = ModelError(f"{key[0]}: cannot be used ({os_reason(exc)})")
        with self._lock:
            future = self._asked.pop(key)
        if model is None:
            future.set_exception(error)
        else:
            future.set_result(model)

    def _load(self, key: tuple[Path, _Stamp], trials: Trials) -> Model:
        path, stamp = key
        content = _read(path)
        digest = hashlib.sha256(content).hexdigest()
        model = self._by_digest.get((path, digest))
        if model is None:
            fault = trials.fault_of(content, digest)
            if fault:
                self._faults[path] = stamp, f"{path}: {fault}"
                raise ModelError(f"{path}: {fault}")
            model = self._by_digest[path, digest] = Model(content, str(path))
        self._by_stamp[key] = model
        return model


class FileWatch:
    """Tells when files have changed and are complete, that is the same at two looks in a row.

    Args:
        paths: Paths of the files; a file may come into being or go.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._used = self._seen = self._look()

    def changed(self) -> bool:
        """Look at the files; return whether they have changed and are no longer being written."""
        before, self._seen = self._seen, self._look()
        if self._seen != before or self._seen == self._used:
            return False
        self._used = self._seen
        return True

    def _look(self) -> list[_Stamp]:
        return [_stamp(path) for path in self._paths]


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells one content of a file from another without reading it; all 0 without a file.

    In images in which all files have the same time, and inodes are counted from the same number,
    only the device and the time of the last change of the inode differ.
    """

    device: int = 0
    inode: int = 0
    n_bytes: int = 0
    modified_ns: int = 0
    changed_ns: int = 0


def _read(path: Path) -> bytes:
    """Return the bytes of the model file at *path*.

    Raises:
        ModelError: If it cannot be read, or is larger than a model may be.
    """
    try:
        return read_small(path, MOST_BYTES)
    except OSError as exc:
        raise ModelError(
            f"{path}: cannot be read ({exc.strerror}); make a model file with 'edgeasd learn' or "
            "'python -m train export'"
        ) from exc


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return _Stamp()
    return _Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
