"""The model: an ONNX network, and the JSON document in its metadata that says all else."""

from __future__ import annotations

import copy
import hashlib
import reprlib

import numpy as np
import onnxruntime  # noqa: TID251 - the one place

from edgeasd.common.documents.reading import DocumentError
from edgeasd.common.errors import ModelError
from edgeasd.common.types import Float32Array
from edgeasd.detect.model.document import METADATA_KEY, MOST_DOCUMENT_BYTES, ModelDocument
from edgeasd.detect.model.methods import check_lengths, scorings_of
from edgeasd.detect.model.onnx_file import read_metadata
from edgeasd.detect.model.spectrum import NormalSpectrum
from edgeasd.detect.scoring import NetworkOutput, Scoring

INPUT = "log_mel"
EMBEDDING = "embedding"
LOGITS = "logits"
MOST_BYTES = 2**26
"""Most bytes of a model file: 16 million float32 weights, several times as many as a factory PC
can run."""
_FATAL = 4
"""The only severity that ONNX Runtime logs: what fails is raised, and its log would show names out
of the file unchecked."""
_LONGEST_REASON = 200
"""Characters shown of a message of ONNX Runtime, which may repeat names out of the file."""


class Model:
    """A network that can be run, and its document.  Safe to share between threads.

    Args:
        content: The bytes of a model file.
        origin: Name of the file, for messages.

    Attributes:
        document: What the file says about itself.
        sha256: Hexadecimal digest of the file, as events carry it.

    Raises:
        ModelError: If the file is not a model for edgeasd, or contradicts itself; the message
            names the field.
    """

    def __init__(self, content: bytes, origin: str) -> None:
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._origin = origin
        try:
            # The document first: a network that it does not fit is never run.
            self.document = ModelDocument.from_json(_metadata_of(content))
            self._session = _open_session(content)
            self._outputs = self._check_graph()
            self._check_run()
            self._scorings = scorings_of(self.document)
        except (DocumentError, ValueError) as exc:
            raise ModelError(f"{origin}: {exc}") from exc

    def with_document(self, document: ModelDocument) -> Model:
        """Return the same network with another *document*, such as one from a calibration.

        Raises:
            ModelError: If the document contradicts itself or the network.
        """
        other = copy.copy(self)
        other.document = document
        try:
            document.check()
            other._check_run()  # noqa: SLF001 - the same class
            other._scorings = scorings_of(document)  # noqa: SLF001
        except (DocumentError, ValueError) as exc:
            raise ModelError(f"{self._origin}: {exc}") from exc
        return other

    def run(self, values: Float32Array, control: RunControl | None = None) -> NetworkOutput:
        """Return the network's output for one window.

        Windows are run one by one: a batch may be rounded differently, and a replay must give the
        scores that were given live.

        Args:
            values: Shape ``(window_frames, n_mels)``, dB, median filtered.
            control: Lets another thread end the run.

        Raises:
            ModelError: If the network fails, or its output is not finite, which no later stage
                would notice.
        """
        try:
            output = self._infer(values, control)
        except Exception as exc:  # see _open_session
            reason = _first_line(exc)
            if control is not None and control.stopped:
                reason = "it does not come to an end"
            raise ModelError(
                f"{self._origin}: the network cannot be run on this sound ({reason}); "
                "export it again"
            ) from exc
        if not np.isfinite(output.embedding if output.logits is None else output.logits).all():
            raise ModelError(f"{self._origin}: the network's output is not finite; export it again")
        return output

    def section_index(self, name: str) -> int:
        """Return the index of the section *name*; an empty name means the model's only section.

        Raises:
            ModelError: If there is no such section, or the name is empty and there are several.
        """
        names = [section.name for section in self.document.sections]
        if name == "" and len(names) == 1:
            return 0
        if name not in names:
            shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")  # noqa: PLR2004
            raise ModelError(f"{self._origin}: section={name!r} must be one of {shown}")
        return names.index(name)

    def scoring(self, section: int) -> Scoring:
        """Return the scoring method for the section of index *section*."""
        return self._scorings[section]

    def normal_spectrum(self, section: int) -> NormalSpectrum | None:
        """Return how loud normal sound is in the section of index *section*, if that is known."""
        rows = self.document.sections[section].spectrum
        return None if rows is None else NormalSpectrum.of_rows(rows.values)

    def _check_graph(self) -> list[str]:
        """Check the graph's inputs and outputs by the document; return the outputs to compute."""
        document = self.document
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = [node.name for node in self._session.get_outputs()]
        if set(inputs) != {INPUT}:
            raise DocumentError(f"graph inputs {reprlib.repr(sorted(inputs))} must be [{INPUT!r}]")
        if inputs[INPUT].type != "tensor(float)":
            raise DocumentError(
                f"graph input {INPUT} has type {inputs[INPUT].type} and must have tensor(float)"
            )
        expected = [1, document.window.n_frames, document.features.n_mels]
        shape = inputs[INPUT].shape
        # The first axis is the batch; where its size is free, it has a name or none.
        if shape[1:] != expected or (isinstance(shape[0], int) and shape[0] != 1):
            raise DocumentError(
                f"graph input {INPUT} has shape {reprlib.repr(shape)}; window.n_frames and "
                f"features.n_mels ask for ['batch', {', '.join(map(str, expected))}]"
            )
        needed = [EMBEDDING, LOGITS] if document.scoring.method == "log_odds" else [EMBEDDING]
        for name in needed:
            if name not in outputs:
                raise DocumentError(
                    f"graph outputs {reprlib.repr(sorted(outputs))} must hold {name!r}"
                )
        return needed

    def _infer(self, values: Float32Array, control: RunControl | None = None) -> NetworkOutput:
        options = None if control is None else control.options
        embedding, *logits = self._session.run(self._outputs, {INPUT: values[None, None]}, options)
        return NetworkOutput(embedding[0], logits[0][0] if logits else None)

    def _check_run(self) -> None:
        """Run the graph on silence and check the output by the document."""
        features, window = self.document.features, self.document.window
        silence_db = np.float32(10.0 * np.log10(features.floor))
        try:
            output = self._infer(np.full((window.n_frames, features.n_mels), silence_db))
        except Exception as exc:
            # See _open_session.  Outputs without a batch axis fail here, in _infer.
            raise DocumentError(f"graph cannot be run on silence ({_first_line(exc)})") from exc
        for name, value in ((EMBEDDING, output.embedding), (LOGITS, output.logits)):
            if value is not None and (value.ndim != 1 or value.dtype != np.float32):
                raise DocumentError(f"graph output {name} must be float32 of shape ['batch', n]")
            if value is not None and not np.isfinite(value).all():
                raise DocumentError(f"graph output {name} must be finite for silence")
        check_lengths(self.document, output)


class RunControl:
    """Lets another thread end a run of a network that takes too long."""

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()
        self.options.log_severity_level = _FATAL

    @property
    def stopped(self) -> bool:
        """Whether the run in progress, and every later one, is ended at once."""
        return bool(self.options.terminate)

    @stopped.setter
    def stopped(self, value: bool) -> None:
        self.options.terminate = value


def _metadata_of(content: bytes) -> str:
    if len(content) > MOST_BYTES:
        raise DocumentError(f"is larger than {MOST_BYTES // 2**20} MiB")
    metadata = read_metadata(content, METADATA_KEY)
    if metadata is None:
        raise DocumentError(
            f"is ONNX but has no metadata {METADATA_KEY!r}; "
            "make a model file with 'python -m train export'"
        )
    if len(metadata) > MOST_DOCUMENT_BYTES:
        raise DocumentError(
            f"metadata {METADATA_KEY!r} is larger than {MOST_DOCUMENT_BYTES // 2**20} MiB"
        )
    return metadata.decode()


def _open_session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One thread that sleeps between windows: a spinning pool would eat a core of the factory PC.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # `read_metadata` has refused models with external data; here they would not find any either.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", "/dev/null/none"
    )
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _FATAL
    try:
        # There is nothing to fall back to, and the attempt would be told on standard output.
        return onnxruntime.InferenceSession(
            content,
            sess_options=options,
            providers=["CPUExecutionProvider"],
            enable_fallback=False,
        )
    except Exception as exc:
        # The exceptions of ONNX Runtime have no other base class in common.
        raise DocumentError(f"is not an ONNX model that can be run ({_first_line(exc)})") from exc


def _first_line(exc: Exception) -> str:
    return str(exc).splitlines()[0][:_LONGEST_REASON] if str(exc) else type(exc).__name__
