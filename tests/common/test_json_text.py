"""JSON of somebody else is read within bounds, in one line of words."""

from __future__ import annotations

import pytest

from edgeasd.common.documents.json_text import read_json
from edgeasd.common.documents.reading import DocumentError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[NaN]", "is not JSON: a number in it is not finite"),
        ('{"a": {"b": -Infinity}}', "is not JSON: a number in it is not finite"),
        ("[1e999]", "is not JSON: a number in it is not finite"),
        ("[" * 33 + "]" * 33, "is JSON of more than 32 levels"),
        ('{"a":' * 900 + "1" + "}" * 900, "is JSON of more than 32 levels"),
        ("[" * 500_000, "is not JSON: maximum recursion depth exceeded"),
        ("[" + "[]," * 700_000 + "[]]", "is JSON of more than 1000000 values"),
    ],
    ids=["empty", "nan", "infinity", "large", "deep", "deeper", "endless", "many"],
)
def test_json_beyond_use_is_refused(text: str, message: str) -> None:
    """What would take memory or stack, here or wherever it is written again, is not taken."""
    with pytest.raises(DocumentError) as caught:
        read_json(text)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["[" * 32 + "]" * 32, '{"a": [1, null, "\\ud800"]}', "3"])
def test_json_of_any_form_is_read(text: str) -> None:
    """What the values are is for the reader to say."""
    read_json(text)
