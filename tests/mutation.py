"""Ways to spoil a file, for the tests that let hypothesis look for one that does harm."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

_EXTREMES = (b"\x00", b"\xff", b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x01\x00\x00\x00")
_MAX_SPAN = 64


def fewer_examples(divisor: int) -> settings:
    """Return settings for a test that takes long: the profile's examples over *divisor*."""
    assert settings.default is not None
    return settings(max_examples=settings.default.max_examples // divisor)


@st.composite
def spoiled(draw: st.DrawFn, content: bytes, head: int = 100, max_changes: int = 4) -> bytes:
    """Draw *content* cut off, or with bytes flipped, overwritten, left out or doubled.

    Args:
        draw: Of hypothesis.
        content: What is whole.
        head: Half of the changes are among so many first bytes, where a header says what follows.
        max_changes: Most changes.
    """
    spoilt = bytearray(content)
    for _ in range(draw(st.integers(1, max_changes))):
        last = max(0, len(spoilt) - 1)
        start = draw(st.integers(0, min(head, last)) | st.integers(0, last))
        stop = start + draw(st.integers(1, _MAX_SPAN))
        change = draw(st.sampled_from(["flip", "overwrite", "extreme", "omit", "double", "cut"]))
        if change == "flip":
            spoilt[start : start + 1] = bytes(
                byte ^ 1 << draw(st.integers(0, 7)) for byte in spoilt[start : start + 1]
            )
        elif change == "overwrite":
            new = draw(st.binary(min_size=1, max_size=8))
            spoilt[start : start + len(new)] = new
        elif change == "extreme":
            new = draw(st.sampled_from(_EXTREMES))
            spoilt[start : start + len(new)] = new
        elif change == "omit":
            del spoilt[start:stop]
        elif change == "double":
            spoilt[start:start] = spoilt[start:stop]
        else:
            del spoilt[start:]
    return bytes(spoilt)


_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.sampled_from([10**6, 2**31, 2**64, 10**400, 1e-320, 1e308, -1e308, 0.0, -0.0])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@st.composite
def altered(draw: st.DrawFn, document: dict[str, Any], max_changes: int = 3) -> dict[str, Any]:
    """Draw the plain values of *document* with some replaced, left out, added or moved."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, max_changes))):
        place: Any = changed
        key = None
        # Down from the top, so that a field of the top is as likely as all in a long list.
        while isinstance(place, (dict, list)) and place:
            parent = place
            keys = sorted(parent) if isinstance(parent, dict) else range(len(parent))
            key = draw(st.sampled_from(keys))
            place = parent[key]
            if draw(st.integers(0, 3)) == 0:
                break
        if key is None:
            continue
        change = draw(st.sampled_from(["replace", "replace", "scale", "omit", "add", "copy"]))
        if change == "replace":
            parent[key] = draw(_PLAIN)
        elif change == "scale" and isinstance(place, (int, float)):
            factor = draw(st.sampled_from([-1, 0, 2, 0.5, 10, 1000, 1e30]))
            with suppress(OverflowError):  # a whole number that no float can hold
                parent[key] = place * factor
        elif change == "omit":
            del parent[key]
        elif change == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=3))] = draw(_PLAIN)
        elif change == "copy" and isinstance(parent, list):
            parent.append(place)
    return changed
