"""The model file: ONNX, with one JSON document in its metadata that says all else."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: TID251 - the one place

from edgeasd.detect.metadata import METADATA_KEY, Matrix, ModelDocument
from edgeasd.detect.scoring import (
    LogOddsScoring,
    MahalanobisScoring,
    NearestScoring,
    NetworkOutput,
    ReconstructionScoring,
    Scoring,
)
from edgeasd.detect.spectrum import NormalSpectrum
from edgeasd.document import DocumentError
from edgeasd.errors import ModelError
from edgeasd.stream import Float32Array

INPUT = "log_mel"
EMBEDDING = "embedding"
LOGITS = "logits"


class Model:
    """A network that can be run, and its document.  Safe to share between threads.

    Args:
        content: The bytes of a model file.
        origin: Where they come from, for messages.

    Attributes:
        document: What the file says about itself.
        sha256: Hexadecimal digest of the file, as events carry it.

    Raises:
        ModelError: If the file is not a model of ours or contradicts itself; the message names
            the field.
    """

    def __init__(self, content: bytes, origin: str) -> None:
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._origin = origin
        self._session = _open_session(content, origin)
        try:
            self.document = self._read_document()
            self._outputs = self._check_graph()
            self._check_run()
            self._learn_normal()
        except (DocumentError, ValueError) as exc:
            raise ModelError(f"{origin}: {exc}") from exc

    def with_document(self, document: ModelDocument) -> Model:
        """Return the same network with another *document*, as one that was adapted on site.

        Raises:
            ModelError: If the document contradicts itself or the network.
        """
        other = copy.copy(self)
        other.document = document
        try:
            document.check()
            other._check_run()  # noqa: SLF001 - of this very class
            other._learn_normal()  # noqa: SLF001
        except (DocumentError, ValueError) as exc:
            raise ModelError(f"{self._origin}: {exc}") from exc
        return other

    def run(self, values: Float32Array) -> NetworkOutput:
        """Return what the network says of one window.

        One window a call: a batch may be rounded differently, and replay must equal live.

        Args:
            values: Shape ``(window_frames, n_mels)``, dB, median filtered.

        Raises:
            ModelError: If the network fails, or its output is not finite: nobody would notice
                otherwise.
        """
        try:
            output = self._infer(values)
        except Exception as exc:  # as in _open_session
            raise ModelError(
                f"{self._origin}: the network cannot be run on this sound "
                f"({_first_line(exc)}); export it again"
            ) from exc
        if not np.isfinite(output.embedding if output.logits is None else output.logits).all():
            raise ModelError(f"{self._origin}: the network's output is not finite; export it again")
        return output

    def section_index(self, name: str) -> int:
        """Return the index of the section *name*; an empty name is the model's only section.

        Raises:
            ModelError: If there is no such section, or the choice is open.
        """
        names = [section.name for section in self.document.sections]
        if name == "" and len(names) == 1:
            return 0
        if name not in names:
            raise ModelError(f"{self._origin}: section={name!r} must be one of {', '.join(names)}")
        return names.index(name)

    def scoring(self, section: int) -> Scoring:
        """Return the scoring method for the section of index *section*."""
        return self._scorings[section]

    def normal_spectrum(self, section: int) -> NormalSpectrum | None:
        """Return how loud normal sound of *section* is, if the file says so."""
        return self._spectra[section]

    def _read_document(self) -> ModelDocument:
        # Names and metadata that are not UTF-8 come out of ONNX Runtime as a ValueError.
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise DocumentError(
                f"is ONNX but has no metadata {METADATA_KEY!r}; "
                "make a model file with 'python -m train export'"
            )
        return ModelDocument.from_json(metadata[METADATA_KEY])

    def _learn_normal(self) -> None:
        """Make ready what the document says of normal sound."""
        sections = self.document.sections
        self._scorings = [self._make_scoring(index) for index in range(len(sections))]
        self._spectra = [
            None
            if one.spectrum is None
            else NormalSpectrum.of_rows(_values(one.spectrum, f"sections[{index}].spectrum"))
            for index, one in enumerate(sections)
        ]

    def _make_scoring(self, index: int) -> Scoring:
        method = self.document.scoring
        if method.method == "log_odds":
            return LogOddsScoring(index)
        if method.method == "reconstruction":
            return ReconstructionScoring()
        name = f"sections[{index}].references"
        matrix = self.document.sections[index].references
        if matrix is None:
            raise DocumentError(f"{name} is missing")
        references = _values(matrix, name)
        try:
            if method.method == "nearest":
                return NearestScoring(references, method.n_neighbours)
            return MahalanobisScoring(references, self._distances())
        except ValueError as exc:
            raise DocumentError(f"sections[{index}].{exc}") from exc

    def _distances(self) -> list[tuple[float, Float32Array]]:
        return [
            (one.weight, _values(one.whitening, f"distances[{index}].whitening"))
            for index, one in enumerate(self.document.distances)
        ]

    def _check_graph(self) -> list[str]:
        """Check the graph's ends against the document and return the names of its outputs."""
        document = self.document
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = [node.name for node in self._session.get_outputs()]
        if set(inputs) != {INPUT}:
            raise DocumentError(f"graph inputs {sorted(inputs)} must be [{INPUT!r}]")
        if inputs[INPUT].type != "tensor(float)":
            raise DocumentError(
                f"graph input {INPUT} has type {inputs[INPUT].type} and must have tensor(float)"
            )
        expected = [1, document.window.n_frames, document.features.n_mels]
        shape = inputs[INPUT].shape
        # A batch of any size has a name or nothing at that place.
        if shape[1:] != expected or (isinstance(shape[0], int) and shape[0] != 1):
            raise DocumentError(
                f"graph input {INPUT} has shape {shape}; window.n_frames and features.n_mels ask "
                f"for ['batch', {', '.join(map(str, expected))}]"
            )
        needed = [EMBEDDING, LOGITS] if document.scoring.method == "log_odds" else [EMBEDDING]
        for name in needed:
            if name not in outputs:
                raise DocumentError(f"graph outputs {sorted(outputs)} must hold {name!r}")
        return needed

    def _infer(self, values: Float32Array) -> NetworkOutput:
        embedding, *logits = self._session.run(self._outputs, {INPUT: values[None, None]})
        return NetworkOutput(embedding[0], logits[0][0] if logits else None)

    def _check_run(self) -> None:
        """Run the graph on silence and check what comes out against the document."""
        features, window = self.document.features, self.document.window
        silence_db = np.float32(10.0 * np.log10(features.floor))
        try:
            output = self._infer(np.full((window.n_frames, features.n_mels), silence_db))
        except Exception as exc:
            # As in _open_session; outputs without a batch axis fail in run() itself.
            raise DocumentError(f"graph cannot be run on silence ({_first_line(exc)})") from exc
        for name, value in ((EMBEDDING, output.embedding), (LOGITS, output.logits)):
            if value is not None and (value.ndim != 1 or value.dtype != np.float32):
                raise DocumentError(f"graph output {name} must be float32 of shape ['batch', n]")
            if value is not None and not np.isfinite(value).all():
                raise DocumentError(f"graph output {name} must be finite for silence")
        self._check_lengths(output)

    def _check_lengths(self, output: NetworkOutput) -> None:
        n_dims = len(output.embedding)
        sections = self.document.sections
        references = {f"sections[{i}].references": one.references for i, one in enumerate(sections)}
        whitenings = {
            f"distances[{i}].whitening": one.whitening
            for i, one in enumerate(self.document.distances)
        }
        for name, matrix in {**references, **whitenings}.items():
            if matrix is not None and matrix.shape[1] != n_dims:
                raise DocumentError(
                    f"{name}.shape={list(matrix.shape)} must have {n_dims} columns, as many as "
                    "the graph's embedding"
                )
        if self.document.scoring.method == "reconstruction" and n_dims != 1:
            raise DocumentError(
                f"graph output {EMBEDDING} has {n_dims} values and must have 1, the error, for "
                "scoring.method='reconstruction'"
            )
        if output.logits is not None and len(output.logits) != len(sections):
            raise DocumentError(
                f"sections has {len(sections)} entries and must have one for each of "
                f"the graph's {len(output.logits)} logits"
            )


def load_model(path: Path) -> Model:
    """Load the model file at *path*.

    Raises:
        ModelError: If it cannot be read or used; the message names the field.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ModelError(
            f"{path}: cannot be read ({exc.strerror}); make a model file with 'edgeasd learn' or "
            "'python -m train export'"
        ) from exc
    return Model(content, str(path))


def _values(matrix: Matrix, name: str) -> Float32Array:
    try:
        return matrix.values()
    except DocumentError as exc:
        raise DocumentError(f"{name}.{exc}") from exc


def _open_session(content: bytes, origin: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One thread that sleeps between windows: a spinning pool would eat a core of the factory PC.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        # Without the fallback, which has nothing to fall back on but says so on standard output.
        return onnxruntime.InferenceSession(
            content,
            sess_options=options,
            providers=["CPUExecutionProvider"],
            enable_fallback=False,
        )
    except Exception as exc:
        # ONNX Runtime's exceptions share no base class but this one.
        raise ModelError(
            f"{origin}: is not an ONNX model that can be run ({_first_line(exc)})"
        ) from exc


def _first_line(exc: Exception) -> str:
    return str(exc).splitlines()[0] if str(exc) else type(exc).__name__
