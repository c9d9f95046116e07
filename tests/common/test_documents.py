"""Tests of the strict reading of plain values into dataclasses."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.documents import (
    DocumentError,
    FilePath,
    at_least,
    between,
    join,
    one_of,
    read_table,
    refuse_unknown_keys,
    rule,
)


@dataclass(frozen=True)
class Inner:
    count: Annotated[int, at_least(1)]
    """Must be given."""


@dataclass(frozen=True)
class Outer:
    text: str = "a"
    switch: bool = False
    ratio: Annotated[float, between(0, 1)] = 0.5
    limit: float | None = None
    path: FilePath | None = None
    kind: Annotated[str, one_of("x", "y")] = "x"
    names: Annotated[tuple[str, ...], rule(lambda value: len(value) < 3, "at most two names")] = ()
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    free: dict[str, Any] = field(default_factory=dict)


def test_read_table_empty_gives_defaults() -> None:
    """A table without keys gives the defaults of the dataclass."""
    assert read_table(Outer, {}) == Outer()


def test_read_table_every_type_is_converted() -> None:
    """Values of every type arrive as the annotations say."""
    table = {
        "text": "b",
        "switch": True,
        "ratio": 1,
        "limit": 3,
        "path": "a/b",
        "kind": "y",
        "names": ["p", "q"],
        "inner": {"count": 2},
        "inners": [{"count": 3}],
        "free": {"any": [1, {"thing": None}]},
    }

    outer = read_table(Outer, table)

    assert outer == Outer(
        text="b",
        switch=True,
        ratio=1.0,
        limit=3.0,
        path=Path("a/b"),
        kind="y",
        names=("p", "q"),
        inner=Inner(2),
        inners=(Inner(3),),
        free={"any": [1, {"thing": None}]},
    )
    assert isinstance(outer.ratio, float)
    assert isinstance(outer.limit, float)


def test_read_table_null_gives_none_where_the_field_may_be_none() -> None:
    """JSON's null is None for an optional field."""
    assert read_table(Outer, {"limit": None, "inner": None}) == Outer()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"txet": "b"}, "unknown key 'txet'; did you mean 'text'?"),
        (
            {"zzz": 1},
            (
                "unknown key 'zzz'; known are text, switch, ratio, limit, path, kind, names, "
                "inner, inners, free"
            ),
        ),
        ({"inner": {"cuont": 1}}, "unknown key 'inner.cuont'; did you mean 'count'?"),
        ({"inner": {}}, "inner.count is missing"),
        ({"inner": {"count": 0}}, "inner.count=0 must be at least 1"),
        ({"inners": [{"count": 1}, {"count": -1}]}, "inners[1].count=-1 must be at least 1"),
        ({"inner": 3}, "inner must be a table"),
        ({"inner": [1]}, "inner must be a table"),
        ({"text": 3}, "text=3 must be a string"),
        ({"text": None}, "text=None must be a string"),
        ({"switch": 1}, "switch=1 must be true or false"),
        ({"switch": "true"}, "switch='true' must be true or false"),
        ({"inner": {"count": 1.0}}, "inner.count=1.0 must be a whole number"),
        ({"inner": {"count": True}}, "inner.count=True must be a whole number"),
        ({"ratio": "0.5"}, "ratio='0.5' must be a number"),
        ({"ratio": True}, "ratio=True must be a number"),
        ({"ratio": float("nan")}, "ratio=nan must be a number"),
        ({"limit": float("-inf")}, "limit=-inf must be a number"),
        ({"ratio": 1.5}, "ratio=1.5 must be from 0 to 1"),
        ({"path": ""}, "path='' must be a path"),
        ({"path": "a\0b"}, "path='a\\x00b' must be a path"),
        ({"path": 7}, "path=7 must be a path"),
        ({"kind": "z"}, "kind='z' must be one of x, y"),
        ({"names": "p"}, "names must be a list"),
        ({"names": ["p", 1]}, "names[1]=1 must be a string"),
        ({"names": ["p", "q", "r"]}, "names=['p', 'q', 'r'] must be at most two names"),
        ({"inners": {"count": 1}}, "inners must be a list"),
        ({"inners": [1]}, "inners[0] must be a table"),
        ({"free": []}, "free=[] must be a table"),
    ],
)
def test_read_table_wrong_value_is_named(table: dict[str, Any], message: str) -> None:
    """Every mistake is told with its full name, its value and the rule that it breaks."""
    with pytest.raises(DocumentError) as caught:
        read_table(Outer, table)

    assert str(caught.value) == message


def test_read_table_where_stands_before_every_name() -> None:
    """The name of the table leads the names of its keys."""
    with pytest.raises(DocumentError) as caught:
        read_table(Outer, {"inner": {"count": 0}}, "outer")

    assert str(caught.value) == "outer.inner.count=0 must be at least 1"


def test_read_table_whole_number_too_long_for_a_float_is_refused() -> None:
    """A whole number that no float can hold is not a number here, and no OverflowError."""
    table = {"limit": 10**400}

    with pytest.raises(
        DocumentError, match=r"^limit=<number of about 401 digits> must be a number$"
    ):
        read_table(Outer, table)


def test_read_table_largest_float_is_accepted() -> None:
    """The largest float is still a number."""
    assert read_table(Outer, {"limit": sys.float_info.max}).limit == sys.float_info.max


def test_refuse_unknown_keys_known_ones_pass() -> None:
    """Keys that are known, or a table without any, are accepted."""
    refuse_unknown_keys({}, [])
    refuse_unknown_keys({"a": 1}, ["a", "b"])


def test_join_at_the_top_is_the_key_alone() -> None:
    """A table without a name adds nothing to its keys."""
    assert join("", "key") == "key"
    assert join("where", "key") == "where.key"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*Outer.__dataclass_fields__, "count"]), inner)
    ),
)


@given(st.dictionaries(st.sampled_from([*Outer.__dataclass_fields__, "z"]), PLAIN, max_size=3))
def test_read_table_any_plain_value_is_read_or_refused(table: dict[str, Any]) -> None:
    """Whatever plain values stand in a table, it is read or refused with a DocumentError."""
    try:
        outer = read_table(Outer, table)
    except DocumentError:
        return
    assert isinstance(outer, Outer)


@given(PLAIN)
def test_read_table_any_json_at_the_top_is_read_or_refused(value: Any) -> None:
    """Any JSON value in place of a table is read or refused with a DocumentError."""
    plain = json.loads(json.dumps(value))

    with suppress(DocumentError):
        read_table(Outer, plain, "top")
