"""Reads plain values, as TOML and JSON give them, into frozen dataclasses.

The configuration file, the document in a model file, the calibration file and the trainer's recipes
are read with it.  A document is a dataclass: its annotations say what a value must be, with a
`Rule` in ``Annotated`` for what the type leaves open, and the docstring below a field describes it.
Pydantic does the checking, and makes the JSON schema from the same dataclass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar, get_args, get_type_hints

from edgeasd.common.documents.mistakes import (
    Place,
    bounded,
    join,
    mistakes_in,
    nearest,
    unknown_key,
)

if TYPE_CHECKING:
    from pydantic import (
        GetCoreSchemaHandler,
        GetJsonSchemaHandler,
        TypeAdapter,
        ValidationInfo,
    )
    from pydantic_core import CoreSchema, SchemaValidator

_STRICT_TYPES = ("int", "float", "bool")
"""Types that pydantic would otherwise make from text and from each other."""
_T = TypeVar("_T")


class DocumentError(Exception):
    """Keys or values that are wrong; each of the lines names one."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is wrong, one mistake each."""
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "; ".join(self.lines)


@dataclass(frozen=True, slots=True, eq=False)  # hashable, as a union of types needs it
class Rule:
    """Says what a value must be beyond its type, for use in ``Annotated``.

    Attributes:
        mistake: Returns what is wrong with a value of the type, or nothing; ``{name}`` and
            ``{value}`` in it stand for the name and the value as the document has them.
        text: What the value must be, in words.
        keywords: The same in keywords of JSON schema, as far as there are some.
    """

    mistake: Callable[[Any], str]
    text: str = ""
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see _type_adapter

        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), **self.keywords}

    def _checked(self, value: Any) -> Any:
        if mistake := self.mistake(value):
            raise ValueError(mistake)
        return value


def rule(accepts: Callable[[Any], bool], text: str, **keywords: Any) -> Rule:
    """Return the rule that a value must be *text*, which is so if *accepts* says so.

    The *keywords* are those of `Rule`.
    """
    mistake = f"{{name}}={{value}} must be {text}"
    return Rule(lambda value: "" if accepts(value) else mistake, text, keywords)


def between(low: float, high: float) -> Rule:
    """Return the rule of a number between *low* and *high*, both included."""
    return rule(
        lambda value: low <= value <= high,
        f"from {low:g} to {high:g}",
        minimum=low,
        maximum=high,
    )


def at_least(low: float) -> Rule:
    """Return the rule of a number not below *low*."""
    return rule(lambda value: value >= low, f"at least {low:g}", minimum=low)


def one_of(*values: str) -> Rule:
    """Return the rule of a string among *values*."""
    return rule(lambda value: value in values, "one of " + ", ".join(values), enum=list(values))


def at_most_items(most: int) -> Rule:
    """Return the rule of a list of at most *most* items."""
    return rule(lambda value: len(value) <= most, f"at most {most} items", maxItems=most)


@dataclass(frozen=True, slots=True)
class ReadAs:
    """Has a value read from another form than its own, for use in ``Annotated``.

    Attributes:
        form: Dataclass of the form in the document; it may have a rule.
        convert: Makes the value from that form.
    """

    form: Any
    convert: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see _type_adapter

        schema = handler.generate_schema(self.form)
        return core_schema.no_info_after_validator_function(self.convert, schema)


@dataclass(frozen=True, slots=True)
class Example:
    """Shows what a key may be that has no default worth showing, for use in ``Annotated``.

    Attributes:
        value: A plain value that the key may have.
        default: What holds without the key, in words; empty if it must be given.
    """

    value: Any
    default: str = ""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "examples": [self.value]}


class _PathInFolder:
    """Reads a path; a relative one starts in the folder that `read_table` is given."""

    def __get_pydantic_core_schema__(self, *_: Any) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see _type_adapter

        return core_schema.with_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}

    @staticmethod
    def _read(value: Any, info: ValidationInfo) -> Path:
        if not isinstance(value, str) or value == "" or "\0" in value:
            raise ValueError("{name}={value} must be a path")
        return Path(info.context or "", value)


FilePath = Annotated[Path, _PathInFolder()]
"""A path in a document; a relative one starts in the folder that `read_table` is given."""


def read_table(
    cls: type[_T],
    table: Any,
    where: str = "",
    *,
    folder: Path | None = None,
    called: Mapping[Place, str] = MappingProxyType({}),
) -> _T:
    """Return the dataclass *cls* made from the keys of *table*.

    Args:
        cls: A dataclass.
        table: A mapping of strings to plain values; keys that are no field are refused.
        where: Name of the table for messages, empty at the top.
        folder: Where relative paths in the table start; by default they stay relative.
        called: What messages call the tables at some places, such as ``("machine", 0)``.

    Raises:
        DocumentError: If keys are unknown or missing, or values have the wrong type or break a
            rule; it tells each mistake.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - see _type_adapter

    if not isinstance(table, dict):
        raise DocumentError(f"{where} must be a table".lstrip())
    try:
        value: _T = _validator(cls).validate_python(  # type: ignore[arg-type]
            table, context=folder
        )
    except ValidationError as exc:
        lines = mistakes_in(exc, partial(_known_keys, cls), where, called)
        # A traceback would show every mistake of pydantic's exception, however many there are.
        raise DocumentError(*lines) from None
    return value


def json_schema(cls: type) -> dict[str, Any]:
    """Return the JSON schema of the documents that `read_table` makes *cls* from."""
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415 - see _type_adapter

    class WithoutTitles(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - as overridden
            return False

    schema = _type_adapter(cls, described=True).json_schema(schema_generator=WithoutTitles)
    schema = json.loads(json.dumps(schema), object_hook=_tidied)
    (form,) = [part for part in schema.pop("anyOf") if part != {"type": "null"}]
    definitions = schema["$defs"]
    top = definitions.pop(form["$ref"].rpartition("/")[2]) if "$ref" in form else form
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, **schema}


def _tidied(schema: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* with its description in one line, as Markdown has it, and no other keys."""
    text = schema.get("description")
    if isinstance(text, str):
        schema["description"] = " ".join(text.split()).replace("``", "`")
    if schema.get("type") == "object" and "properties" in schema:
        # Pydantic before 2.14 leaves it out.
        return {"additionalProperties": False, **schema}
    return schema


def refuse_unknown_keys(table: Mapping[str, Any], known: Iterable[str], where: str = "") -> None:
    """Check that *table* has no key but those *known*.

    Args:
        table: A mapping of strings.
        known: The keys that it may have.
        where: Name of the table for messages, empty at the top.

    Raises:
        DocumentError: If there are others; it gives the nearest known key of each.
    """
    known = list(known)
    unknown = [key for key in table if key not in known]
    if unknown:
        lines = (unknown_key(join(where, key), nearest(key, known), known) for key in unknown)
        raise DocumentError(*bounded(lines, len(unknown)))


@cache
def _validator(cls: type) -> SchemaValidator:
    from pydantic_core import SchemaValidator  # noqa: PLC0415 - see _type_adapter

    schema = _type_adapter(cls).core_schema
    _make_strict(schema)
    return SchemaValidator(schema)


def _type_adapter(cls: type, *, described: bool = False) -> TypeAdapter[Any]:
    # Imported only when a document is read: pydantic takes 0.2 s and 12 MB, and `edgeasd --help`
    # needs neither.
    from pydantic import ConfigDict, TypeAdapter  # noqa: PLC0415

    config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=described)
    # Pydantic takes no settings for a dataclass itself here, but for the dataclasses in a union.
    in_union: Any = Optional[cls]  # noqa: UP045 - not for a class at run time
    return TypeAdapter(in_union, config=config)


def _make_strict(schema: Any) -> None:
    """Have pydantic take no text for a number in *schema*, and no number for a truth value.

    In its strict mode, it would not make tuples from lists, nor dataclasses from tables, either.
    """
    if isinstance(schema, dict):
        if schema.get("type") in _STRICT_TYPES:
            schema["strict"] = True
        for part in schema.values():
            _make_strict(part)
    elif isinstance(schema, list):
        for part in schema:
            _make_strict(part)


def _known_keys(cls: type, place: Place) -> list[str]:
    """Return the keys that the table at *place* in a document of *cls* may have."""
    for key in place:
        if isinstance(key, str):
            hint = get_type_hints(cls, include_extras=True)[key]
            cls = next(
                part for part in _parts(hint) if isinstance(part, type) and is_dataclass(part)
            )
    return [item.name for item in fields(cls)]


def _parts(hint: Any) -> Iterator[Any]:
    """Yield all that *hint* consists of; the form in the document before what is made of it."""
    if isinstance(hint, ReadAs):
        yield from _parts(hint.form)
    for part in reversed(get_args(hint)):
        yield from _parts(part)
    yield hint
