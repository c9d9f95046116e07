"""Topics fit a namespace that exists."""

from __future__ import annotations

import pytest

from edgeasd.publish.topics import Topics


@pytest.mark.parametrize(
    ("base", "prefix"), [("", ""), ("acme", "acme/"), ("acme/plant1/press", "acme/plant1/press/")]
)
def test_topics_with_base_put_it_in_front(base: str, prefix: str) -> None:
    """Every topic starts with the base; without one, there is no leading slash."""
    topics = Topics(base, "edge-03")

    made = [
        topics.availability,
        topics.health,
        topics.state("press07"),
        topics.event("press07"),
        topics.score("press07"),
    ]

    assert made == [
        f"{prefix}edgeasd/v1/edge-03/availability",
        f"{prefix}edgeasd/v1/edge-03/health",
        f"{prefix}edgeasd/v1/edge-03/press07/state",
        f"{prefix}edgeasd/v1/edge-03/press07/event",
        f"{prefix}edgeasd/v1/edge-03/press07/score",
    ]
