"""Plain values, as TOML and JSON give them, to frozen dataclasses: strict, and every mistake told.

The configuration file, the document in a model file, the calibration file and the trainer's recipes
are read with it.  A document is a dataclass: its annotations say what a value must be, with a rule
in `Annotated` for what the type leaves open, and the docstring below a field describes it.  From
the same dataclass comes the JSON schema.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar, get_args, get_type_hints

from edgeasd.common.text import quoted

if TYPE_CHECKING:
    from pydantic import (
        GetCoreSchemaHandler,
        GetJsonSchemaHandler,
        TypeAdapter,
        ValidationError,
        ValidationInfo,
    )
    from pydantic_core import CoreSchema, ErrorDetails, SchemaValidator

_LONGEST_KEY = 64
"""Characters of a key for which a similar one is looked for: that takes their square."""
_MOST_TOLD = 20
"""Mistakes told one by one: nobody mends more of them before trying again."""
_MOST_MISTAKES = 10_000
"""Mistakes that are looked at: a file with more of them is of another kind, and each costs a
kilobyte."""
_UNKNOWN_KEY = "unexpected_keyword_argument"
_UNUSABLE_KEY = "string_unicode"
"""The error of pydantic for a key with half a surrogate pair, which JSON can hold."""
_MUST_BE: Mapping[str, str] = MappingProxyType(
    {
        "string_type": "a string",
        "bool_type": "true or false",
        "int_type": "a whole number",
        "float_type": "a number",
        "finite_number": "a number",
        "dict_type": "a table",
    }
)
"""What a value must be, by the error of pydantic that says it is not."""
_STRICT_TYPES = ("int", "float", "bool")
"""Types that pydantic would else make from text and from each other."""

_T = TypeVar("_T")
Place = tuple[str | int, ...]
"""Keys and indices that lead to a value."""


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
    """What a value must keep to beside its type, for use in ``Annotated``.

    Attributes:
        mistake: Returns what is wrong with a value of the type, empty if nothing is; ``{name}`` and
            ``{value}`` in it stand for the name and the value as the document has them.
        text: What the value must be, in words.
        keywords: The same in the words of JSON schema, as far as it has them.
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
    """Return the rule that a value which *accepts* refuses "must be *text*"."""
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
    """That a value stands in the document in another form, for use in ``Annotated``.

    Attributes:
        form: The dataclass of that form, which may have a rule.
        convert: Makes the value from it.
    """

    form: Any
    convert: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see _type_adapter

        schema = handler.generate_schema(self.form)
        return core_schema.no_info_after_validator_function(self.convert, schema)


@dataclass(frozen=True, slots=True)
class Example:
    """What is shown for a key that has no default to show, for use in ``Annotated``.

    Attributes:
        value: A plain value that the key may have.
        default: What holds where the key is not given, in words; empty if it must be given.
    """

    value: Any
    default: str = ""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "examples": [self.value]}


class _PathInFolder:
    """A path, taken from the folder that `read_table` is given."""

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
        raise DocumentError(f"{where} must be a table")
    try:
        value: _T = _validator(cls).validate_python(  # type: ignore[arg-type]
            table, context=folder
        )
    except ValidationError as exc:
        # It would be shown with all of its mistakes wherever a traceback is.
        raise _refusal(cls, exc, where, called) from None
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
        mistakes = (
            f"unknown key {quoted(join(where, key))}; {_hint(_nearest(key, known), known)}"
            for key in unknown
        )
        raise DocumentError(*_first(mistakes, len(unknown)))


def join(where: str, key: str) -> str:
    """Return the dotted name of *key* in the table *where*."""
    return f"{where}.{key}" if where else key


@cache
def _validator(cls: type) -> SchemaValidator:
    from pydantic_core import SchemaValidator  # noqa: PLC0415 - see _type_adapter

    schema = _type_adapter(cls).core_schema
    _make_strict(schema)
    return SchemaValidator(schema)


def _type_adapter(cls: type, *, described: bool = False) -> TypeAdapter[Any]:
    # Imported where a document is read: it takes a third of the time that `edgeasd --help` does.
    from pydantic import ConfigDict, TypeAdapter  # noqa: PLC0415

    config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=described)
    # Pydantic takes no settings for a dataclass from here, but for all dataclasses in a union.
    in_union: Any = Optional[cls]  # noqa: UP045 - not for a class at run time
    return TypeAdapter(in_union, config=config)


def _make_strict(schema: Any) -> None:
    """Have every number, true and false in *schema* accepted as such only.

    In strict mode as a whole, pydantic would not make tuples from lists, nor dataclasses from
    tables.
    """
    if isinstance(schema, dict):
        if schema.get("type") in _STRICT_TYPES:
            schema["strict"] = True
        for part in schema.values():
            _make_strict(part)
    elif isinstance(schema, list):
        for part in schema:
            _make_strict(part)


def _refusal(
    cls: type, error: ValidationError, where: str, called: Mapping[Place, str]
) -> DocumentError:
    n_mistakes = error.error_count()
    if n_mistakes > _MOST_MISTAKES:
        return DocumentError(
            f"{where}{' ' if where else ''}has {n_mistakes} keys and values that are wrong; "
            "is it a file of another kind?"
        )
    unknown: list[ErrorDetails] = []
    others: list[ErrorDetails] = []
    for one in error.errors(include_url=False):
        (unknown if one["type"] in (_UNKNOWN_KEY, _UNUSABLE_KEY) else others).append(one)
    mistakes = []
    guesses = set()
    for one in unknown[:_MOST_TOLD]:
        *place, key = one["loc"] if one["type"] == _UNKNOWN_KEY else (*one["loc"], one["input"])
        known = [item.name for item in fields(_table_at(cls, place))]
        near = _nearest(str(key), known)
        guesses.add((*place, near))
        head, name = _name((*place, key), where, called)
        mistakes.append(f"{head}unknown key {quoted(name)}; {_hint(near, known)}")
    # What is missing because its key is misspelt is one mistake, not two.
    others = [one for one in others if one["type"] != "missing" or one["loc"] not in guesses]
    n_told = _MOST_TOLD - len(mistakes)
    mistakes += [_mistake(one, *_name(one["loc"], where, called)) for one in others[:n_told]]
    return DocumentError(*_first(mistakes, len(unknown) + len(others)))


def _mistake(error: ErrorDetails, head: str, name: str) -> str:
    kind, value = error["type"], error["input"]
    if kind == "missing":
        text = f"{name} is missing"
    elif kind == "dataclass_type":
        text = f"{name} must be a table"
    elif kind == "tuple_type":
        text = f"{name} must be a list"
    elif kind == "value_error":
        text = str(error["ctx"]["error"]).replace("{name}", name).replace("{value}", quoted(value))
    else:
        text = f"{name}={quoted(value)} must be {_MUST_BE[kind]}"
    return f"{head}{text.strip()}"


def _table_at(cls: type, place: Iterable[str | int]) -> type:
    """Return the dataclass of the table at *place* in a document of *cls*."""
    for key in place:
        if isinstance(key, str):
            hint = get_type_hints(cls, include_extras=True)[key]
            cls = next(
                part for part in _parts(hint) if isinstance(part, type) and is_dataclass(part)
            )
    return cls


def _parts(hint: Any) -> Iterator[Any]:
    """Yield all that *hint* consists of; the form in the document before what is made of it."""
    if isinstance(hint, ReadAs):
        yield from _parts(hint.form)
    for part in reversed(get_args(hint)):
        yield from _parts(part)
    yield hint


def _name(place: Place, where: str, called: Mapping[Place, str]) -> tuple[str, str]:
    """Return what messages begin with about the value at *place*, and its name in them."""
    head = ""
    for n_keys in range(len(place), 0, -1):
        if place[:n_keys] in called:
            head, where, place = f"{called[place[:n_keys]]}: ", "", place[n_keys:]
            break
    for key in place:
        where = join(where, key) if isinstance(key, str) else f"{where}[{key}]"
    return head, where


def _nearest(key: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key[:_LONGEST_KEY], known, n=1)), None)


def _hint(near: str | None, known: Iterable[str]) -> str:
    return f"did you mean {near!r}?" if near else f"known are {', '.join(known)}"


def _first(mistakes: Iterable[str], n_mistakes: int) -> list[str]:
    """Return the first of so many mistakes, and how many others there are."""
    more = [f"... and {n_mistakes - _MOST_TOLD} more"] if n_mistakes > _MOST_TOLD else []
    return [*islice(mistakes, _MOST_TOLD), *more]
