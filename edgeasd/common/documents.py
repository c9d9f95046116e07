"""Plain values, as TOML and JSON give them, to frozen dataclasses; strict, naming every mistake.

The configuration file and the document in a model file are both read with it.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from edgeasd.common.text import quoted

_LONGEST_KEY = 64
"""Characters of a key for which a similar one is looked for: that takes their square."""
_T = TypeVar("_T")
Rule = Mapping[str, Any]


def rule(accepts: Callable[[Any], bool], text: str) -> Rule:
    """Return field metadata: values that *accepts* refuses "must be *text*"."""
    return MappingProxyType({"accepts": accepts, "text": text})


def between(low: float, high: float) -> Rule:
    """Return the rule of a number between *low* and *high*, both included."""
    return rule(lambda value: low <= value <= high, f"from {low:g} to {high:g}")


def at_least(low: float) -> Rule:
    """Return the rule of a number not below *low*."""
    return rule(lambda value: value >= low, f"at least {low:g}")


def one_of(*values: str) -> Rule:
    """Return the rule of a string among *values*."""
    return rule(lambda value: value in values, "one of " + ", ".join(values))


class DocumentError(Exception):
    """A key or value that is wrong; the message names it."""


def read_table(cls: type[_T], table: Any, where: str = "", **given: Any) -> _T:
    """Return the dataclass *cls* made from the keys of *table*.

    Args:
        cls: A dataclass; a field's metadata may hold a `rule`.
        table: A mapping of strings to plain values; keys that are no field are refused.
        where: Name of the table for messages, empty at the top.
        given: Fields made by the caller, which the table may not set.

    Raises:
        DocumentError: If a key is unknown or missing, or a value has the wrong type or breaks
            the rule of its field.
    """
    if not isinstance(table, dict):
        raise DocumentError(f"{where} must be a table")
    hints = get_type_hints(cls)
    fields = {
        item.name: item
        for item in dataclasses.fields(cls)  # type: ignore[arg-type]
        if item.name not in given
    }
    refuse_unknown_keys(table, fields, where)
    values = dict(given)
    for name, item in fields.items():
        if name in table:
            values[name] = _read_field(hints[name], table[name], join(where, name), item.metadata)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise DocumentError(f"{join(where, name)} is missing")
    return cls(**values)


def refuse_unknown_keys(table: Mapping[str, Any], known: Iterable[str], where: str = "") -> None:
    """Check that *table* has no key but those *known*.

    Args:
        table: A mapping of strings.
        known: The keys that it may have.
        where: Name of the table for messages, empty at the top.

    Raises:
        DocumentError: If there is another key; the message gives the nearest known one.
    """
    known = list(known)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key[:_LONGEST_KEY], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise DocumentError(f"unknown key {quoted(join(where, key))}; {hint}")


def join(where: str, key: str) -> str:
    """Return the dotted name of *key* in the table *where*."""
    return f"{where}.{key}" if where else key


def _read_field(hint: Any, value: Any, name: str, metadata: Mapping[str, Any]) -> Any:
    converted = _read_value(hint, value, name)
    if "accepts" in metadata and not metadata["accepts"](converted):
        raise DocumentError(f"{name}={quoted(value)} must be {metadata['text']}")
    return converted


def _read_value(hint: Any, value: Any, name: str) -> Any:
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise DocumentError(f"{name} must be a list")
        item_hint = get_args(hint)[0]
        return tuple(
            _read_value(item_hint, item, f"{name}[{index}]") for index, item in enumerate(value)
        )
    if get_origin(hint) is dict:
        hint = dict
    options = [option for option in get_args(hint) if option is not type(None)]
    if options:
        if value is None:
            return None
        (hint,) = options
    if dataclasses.is_dataclass(hint):
        return read_table(hint, value, name)  # type: ignore[arg-type]
    expected, accepts = _TYPES[hint]
    if not accepts(value):
        raise DocumentError(f"{name}={quoted(value)} must be {expected}")
    return hint(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    # TOML and Python's JSON know inf, nan, and whole numbers of any length; no number here means
    # anything by the first two, and the last need not fit a float.
    is_number = _is_int(value) or isinstance(value, float)
    return is_number and abs(value) <= sys.float_info.max


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_str(value: Any) -> bool:
    return isinstance(value, str)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


_TYPES: Mapping[Any, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        str: ("a string", _is_str),
        bool: ("true or false", lambda value: isinstance(value, bool)),
        int: ("a whole number", _is_int),
        float: ("a number", _is_finite),
        dict: ("a table", _is_dict),
        Path: ("a path", _is_path),
    }
)
