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

from edgeasd.common.documents.mistakes import join
from edgeasd.common.documents.reading import (
    DocumentError,
    FilePath,
    ReadAs,
    Rule,
    at_least,
    between,
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


def test_read_table_tells_all_mistakes_unknown_keys_first() -> None:
    """Each mistake is told in a line of its own, at whatever depth it is."""
    table = {"text": 3, "inner": {"count": 0, "cuont": 1}, "inners": [{}, 7, {"count": 2}], "z": 1}

    with pytest.raises(DocumentError) as caught:
        read_table(Outer, table)

    assert caught.value.lines == (
        "unknown key 'inner.cuont'; did you mean 'count'?",
        "unknown key 'z'; known are text, switch, ratio, limit, path, kind, names, inner, inners, "
        "free",
        "text=3 must be a string",
        "inner.count=0 must be at least 1",
        "inners[0].count is missing",
        "inners[1] must be a table",
    )
    assert str(caught.value) == "; ".join(caught.value.lines)


def test_read_table_misspelt_key_is_not_missing_as_well() -> None:
    """A needed key that is misspelt is one mistake; where it is left out, it is another."""
    with pytest.raises(DocumentError) as caught:
        read_table(Outer, {"inner": {"cuont": 1}, "inners": [{}]})

    assert caught.value.lines == (
        "unknown key 'inner.cuont'; did you mean 'count'?",
        "inners[0].count is missing",
    )


@pytest.mark.parametrize(
    "table",
    [
        {f"key{index}": 1 for index in range(25)},
        {"inners": [{}] * 25},
        {"inners": [{}] * 12} | {f"key{index}": 1 for index in range(13)},
    ],
    ids=["unknown", "missing", "both"],
)
def test_read_table_tells_so_many_mistakes_and_counts_the_rest(table: dict[str, Any]) -> None:
    """Nobody wants to read more than 20 lines."""
    with pytest.raises(DocumentError) as caught:
        read_table(Outer, table)

    assert len(caught.value.lines) == 21
    assert caught.value.lines[-1] == "... and 5 more"


@pytest.mark.parametrize(
    "table",
    [{f"{index}": 1 for index in range(200_000)}, {"inners": [{}] * 200_000}],
    ids=["unknown", "missing"],
)
def test_read_table_of_another_kind_is_told_in_a_line(table: dict[str, Any]) -> None:
    """Mistakes beyond all sense are only counted."""
    with pytest.raises(DocumentError) as caught:
        read_table(Outer, table, "outer")

    assert caught.value.lines == (
        "outer has 200000 keys and values that are wrong; is it a file of another kind?",
    )


def test_read_table_long_keys_and_values_are_cut() -> None:
    """No line is longer than people read, whatever stands in the document."""
    with pytest.raises(DocumentError) as caught:
        read_table(Outer, {"k" * 1_000_000: 1, "text": ["v" * 1_000_000] * 1_000})

    assert len(caught.value.lines) == 2
    assert all(len(line) < 500 for line in caught.value.lines)


@pytest.mark.parametrize("table", [{"\ud800": 1}, {"inner": {"\ud800": 1}}], ids=["top", "inner"])
def test_read_table_key_that_is_half_a_character_is_unknown(table: dict[str, Any]) -> None:
    """JSON can hold half of a surrogate pair; as a key it is like any other unknown one."""
    with pytest.raises(DocumentError, match=r"^unknown key '(inner\.)?\\ud800'; known are "):
        read_table(Outer, table)


def test_read_table_relative_paths_start_in_the_folder() -> None:
    """A folder is put before paths that are relative."""
    folder = Path("/srv")

    assert read_table(Outer, {"path": "a/b"}, folder=folder).path == Path("/srv/a/b")
    assert read_table(Outer, {"path": "/a/b"}, folder=folder).path == Path("/a/b")


def test_read_table_calls_tables_as_it_is_told() -> None:
    """A table that has a name of its own is called by it."""
    with pytest.raises(DocumentError) as caught:
        read_table(
            Outer,
            {"inners": [{"count": 0}, {"cuont": 1}]},
            called={("inners", 0): "the first", ("inners", 1): "the second"},
        )

    assert caught.value.lines == (
        "the second: unknown key 'cuont'; did you mean 'count'?",
        "the first: count=0 must be at least 1",
    )


@dataclass(frozen=True)
class Pair:
    both: tuple[int, int]


@dataclass(frozen=True)
class PairTable:
    low: int
    high: int

    def pair(self) -> Pair:
        return Pair((self.low, self.high))


def _pair_mistake(pair: PairTable) -> str:
    return "" if pair.low <= pair.high else f"{{name}}.low must be at most high={pair.high}"


@dataclass(frozen=True)
class Pairs:
    pairs: tuple[
        Annotated[Pair, ReadAs(Annotated[PairTable, Rule(_pair_mistake)], PairTable.pair)], ...
    ]


def test_read_table_value_of_another_form_is_made_from_its_table() -> None:
    """A value may stand in the document in a form of its own."""
    table = {"pairs": [{"low": 1, "high": 2}, {"low": 3, "high": 3}]}

    assert read_table(Pairs, table) == Pairs((Pair((1, 2)), Pair((3, 3))))


def test_read_table_mistakes_of_another_form_are_those_of_its_table() -> None:
    """Messages name the keys that the document has."""
    table = {"pairs": [{"low": 4, "high": 2}, {"lo": 3, "high": 3}, {"both": [1, 2]}]}

    with pytest.raises(DocumentError) as caught:
        read_table(Pairs, table)

    assert caught.value.lines == (
        "unknown key 'pairs[1].lo'; did you mean 'low'?",
        "unknown key 'pairs[2].both'; known are low, high",
        "pairs[0].low must be at most high=2",
        "pairs[2].low is missing",
        "pairs[2].high is missing",
    )


def test_refuse_unknown_keys_tells_each() -> None:
    """Every unknown key is told, with the nearest known one."""
    with pytest.raises(DocumentError) as caught:
        refuse_unknown_keys({"pth": 1, "path": 2, "zzz": 3}, ["path", "label"])

    assert caught.value.lines == (
        "unknown key 'pth'; did you mean 'path'?",
        "unknown key 'zzz'; known are path, label",
    )


def test_refuse_unknown_keys_known_ones_pass() -> None:
    """Keys that are known, or a table without any, are accepted."""
    refuse_unknown_keys({}, [])
    refuse_unknown_keys({"a": 1}, ["a", "b"])


def test_read_table_what_no_rule_of_ours_covers_is_told_in_the_words_of_pydantic() -> None:
    """No mistake is left without a line."""
    with pytest.raises(DocumentError) as caught:
        read_table(Pair, {"both": [1, 2, 3]})

    assert str(caught.value).startswith("both=[1, 2, 3]: Tuple should have at most 2 items")


@pytest.mark.parametrize("table", [[], None, "text"])
def test_read_table_something_else_is_no_table(table: Any) -> None:
    """What is read must be a table, at the top too."""
    with pytest.raises(DocumentError, match=r"^must be a table$"):
        read_table(Outer, table)


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
