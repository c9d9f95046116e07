"""What is wrong with a document, in words: a line for each mistake, and not too many of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeasd.common.text import quoted

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]
"""Keys and indices that lead to a value."""
_MOST_TOLD = 20
"""Mistakes told one by one: nobody mends more of them before trying again."""
_MOST_MISTAKES = 10_000
"""Mistakes that are looked at, as each costs a kilobyte; a file with more is of another kind."""
_LONGEST_KEY = 64
"""Characters of a key that are compared with known keys: the time grows with their square."""
_UNKNOWN_KEY = "unexpected_keyword_argument"
_UNUSABLE_KEY = "string_unicode"
"""Pydantic's error for a key with half of a surrogate pair, which JSON can hold."""
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
"""What a value must be, by pydantic's error for one that is something else."""


def mistakes_in(
    error: ValidationError,
    known_keys: Callable[[Place], Sequence[str]],
    where: str,
    called: Mapping[Place, str],
) -> list[str]:
    """Return a line for each mistake that pydantic found, unknown keys first.

    Args:
        error: What pydantic raised.
        known_keys: Returns the keys that the table at a place may have.
        where: Name of the document for messages; may be empty.
        called: What messages call the tables at some places.
    """
    n_mistakes = error.error_count()
    if n_mistakes > _MOST_MISTAKES:
        text = f"has {n_mistakes} keys and values that are wrong; is it a file of another kind?"
        return [f"{where} {text}".strip()]
    unknown: list[Place] = []
    others: list[ErrorDetails] = []
    for one in error.errors(include_url=False):
        if one["type"] == _UNKNOWN_KEY:
            unknown.append(one["loc"])
        elif one["type"] == _UNUSABLE_KEY:
            unknown.append((*one["loc"], one["input"]))
        else:
            others.append(one)
    lines = []
    guesses = set()
    for place in unknown[:_MOST_TOLD]:
        known = known_keys(place[:-1])
        near = nearest(str(place[-1]), known)
        guesses.add((*place[:-1], near))
        head, name = _name(place, where, called)
        lines.append(head + unknown_key(name, near, known))
    # A key that is missing because it is misspelt is one mistake, not two.
    others = [one for one in others if one["type"] != "missing" or one["loc"] not in guesses]
    lines += [_line(one, *_name(one["loc"], where, called)) for one in others[:_MOST_TOLD]]
    return bounded(lines, len(unknown) + len(others))


def bounded(lines: Iterable[str], n_mistakes: int) -> list[str]:
    """Return the first lines for so many mistakes, and one that says how many are left out."""
    more = [f"... and {n_mistakes - _MOST_TOLD} more"] if n_mistakes > _MOST_TOLD else []
    return [*islice(lines, _MOST_TOLD), *more]


def unknown_key(name: str, near: str | None, known: Iterable[str]) -> str:
    """Return the line for the key *name*, whose *near* one is among those *known*."""
    hint = f"did you mean {near!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown key {quoted(name)}; {hint}"


def nearest(key: str, known: Iterable[str]) -> str | None:
    """Return which of the *known* keys is like *key*; `None` if none is."""
    return next(iter(difflib.get_close_matches(key[:_LONGEST_KEY], known, n=1)), None)


def join(where: str, key: str) -> str:
    """Return the dotted name of *key* in the table *where*."""
    return f"{where}.{key}" if where else key


def _name(place: Place, where: str, called: Mapping[Place, str]) -> tuple[str, str]:
    """Return how the line about the value at *place* begins, and what it calls the value."""
    head = ""
    for n_keys in range(len(place), 0, -1):
        if place[:n_keys] in called:
            head, where, place = f"{called[place[:n_keys]]}: ", "", place[n_keys:]
            break
    for key in place:
        where = join(where, key) if isinstance(key, str) else f"{where}[{key}]"
    return head, where


def _line(error: ErrorDetails, head: str, name: str) -> str:
    kind, value = error["type"], quoted(error["input"])
    if kind == "missing":
        text = f"{name} is missing"
    elif kind == "dataclass_type":
        text = f"{name} must be a table"
    elif kind == "tuple_type":
        text = f"{name} must be a list"
    elif kind in _MUST_BE:
        text = f"{name}={value} must be {_MUST_BE[kind]}"
    elif kind == "value_error":  # raised by a rule
        text = str(error["ctx"]["error"]).replace("{name}", name).replace("{value}", value)
    else:
        text = f"{name}={value}: {error['msg']}"
    return f"{head}{text.lstrip()}"
