"""The metadata of an ONNX file, read and written without loading the file.

The reader goes over the wire format of Protocol Buffers: it copies no tensor, does not recurse, and
does not depend on what a version of ONNX Runtime accepts.

References:
    onnx.proto; Protocol Buffers, Encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from edgeasd.common.documents.reading import DocumentError

_MOST_FIELDS = 200_000
"""Most fields in a file; the weights of a tensor are one field.  Networks have some thousands."""
_DEEPEST = 16
"""Most levels of graphs within graphs."""
_RANDOM = frozenset(
    (b"Bernoulli", b"Multinomial", b"RandomNormal", b"RandomNormalLike", b"RandomUniform",
     b"RandomUniformLike")
)  # fmt: skip

# For each kind of message, the fields that may hold a tensor, directly or further down.
_INNER = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
        "training": {1: "graph", 2: "graph"},
        "function": {7: "node", 11: "attribute"},
        "node": {5: "attribute"},
        "attribute": {
            5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor",
            23: "sparse tensor",
        },
        "sparse tensor": {1: "tensor", 2: "tensor"},
        "tensor": {},
    }
)  # fmt: skip
_GRAPH = 7
_METADATA = 14
_OP_TYPE = 4
_TENSOR_NAME = 8
_EXTERNAL_DATA = 13
_DATA_LOCATION = 14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a message: a number, or where its bytes are in the file."""

    number: int
    value: int = 0
    start: int = 0
    end: int = 0
    is_bytes: bool = False


def read_metadata(content: bytes, key: str) -> bytes | None:
    """Return the metadata property *key* of the ONNX file *content*; `None` if it has none.

    Raises:
        DocumentError: If it is not an ONNX file, needs other files, or draws random numbers, which
            would give the same sound another score each time.
    """
    if content[4:8] == b"ORTM":
        raise DocumentError(
            "is in ONNX Runtime's own format, .ort, which is not taken; export it as ONNX"
        )
    walk = _Walk(content)
    found = None
    fields = list(walk.fields(0, len(content)))
    for field in fields:
        if field.number == _METADATA and field.is_bytes:
            # Of several properties with one key the last one counts, as in ONNX Runtime.
            inner = {one.number: content[one.start : one.end] for one in walk.fields_of(field)}
            found = inner.get(2, b"") if inner.get(1) == key.encode() else found
    if not any(field.number == _GRAPH and field.is_bytes for field in fields):
        raise DocumentError("is not an ONNX model that can be run (there is no graph in it)")
    walk.check("model", fields)
    return found


def with_metadata(content: bytes, key: str, text: str) -> bytes:
    """Return the ONNX file *content* with the metadata property *key* added, which holds *text*.

    Serialised messages of Protocol Buffers that follow each other are merged when they are read, so
    that the property need only be appended, as one more entry of ``ModelProto.metadata_props``.

    References:
        onnx.proto, ModelProto (field 14) and StringStringEntryProto (1, 2); Protocol Buffers,
        Encoding, "Last One Wins".
    """
    entry = _length_delimited(1, key) + _length_delimited(2, text)
    return content + _length_delimited(_METADATA, entry)


class _Walk:
    """Reads the fields of messages in *content*, up to a number of them in all."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._n_fields = 0

    def check(self, kind: str, fields: list[_Field]) -> None:
        """Check the message of that *kind* with these *fields*, and all messages in it."""
        pending = [(kind, fields, 0)]
        while pending:
            kind, fields, depth = pending.pop()
            if depth > _DEEPEST:
                raise DocumentError(f"graph holds graphs more than {_DEEPEST} levels deep")
            if kind == "tensor":
                self._check_tensor(fields)
            elif kind == "node":
                self._check_node(fields)
            for field in fields:
                inner = _INNER[kind].get(field.number)
                if inner is not None and field.is_bytes:
                    pending.append((inner, list(self.fields_of(field)), depth + (inner == "graph")))

    def fields_of(self, field: _Field) -> Iterator[_Field]:
        """Yield the fields of the message in *field*."""
        return self.fields(field.start, field.end)

    def fields(self, at: int, end: int) -> Iterator[_Field]:
        """Yield the fields of the message between two positions in the file."""
        while at < end:
            self._n_fields += 1
            if self._n_fields > _MOST_FIELDS:
                raise DocumentError(f"graph has more than {_MOST_FIELDS} fields")
            tag, at = self._varint(at, end)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == _VARINT:
                value, at = self._varint(at, end)
                yield _Field(number, value=value)
                continue
            n_bytes = {_FIXED64: 8, _FIXED32: 4}.get(wire_type, -1)
            if wire_type == _BYTES:
                n_bytes, at = self._varint(at, end)
            if n_bytes < 0 or at + n_bytes > end:
                raise _damaged(at)
            yield _Field(number, start=at, end=at + n_bytes, is_bytes=wire_type == _BYTES)
            at += n_bytes

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follow
                return value, at
        raise _damaged(at)

    def _texts(self, fields: list[_Field], number: int) -> list[bytes]:
        return [self._content[one.start : one.end] for one in fields if one.number == number]

    def _check_tensor(self, fields: list[_Field]) -> None:
        for field in fields:
            is_elsewhere = field.number == _DATA_LOCATION and field.value != 0
            if is_elsewhere or field.number == _EXTERNAL_DATA:
                names = b" ".join(self._texts(fields, _TENSOR_NAME))
                raise DocumentError(
                    f"graph tensor {names[:64].decode(errors='replace')!r} has external data; a "
                    "model is one file: export it with its weights inside"
                )

    def _check_node(self, fields: list[_Field]) -> None:
        for op_type in _RANDOM.intersection(self._texts(fields, _OP_TYPE)):
            raise DocumentError(
                f"graph node of type {op_type.decode()} draws random numbers; the same sound must "
                "always give the same score"
            )


def _length_delimited(field_number: int, value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _varint(field_number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Return *value* in groups of seven bits, the lowest first; the top bit says if more follow."""
    groups = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _damaged(at: int) -> DocumentError:
    return DocumentError(f"is not an ONNX model that can be run (it is damaged at byte {at})")
