"""The state of a machine, and when the watchdog may be fed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeasd.service.machine.health import Facts, alive, hangs, judge

WELL = Facts(
    fault="",
    hung=False,
    sound_age_s=0.1,
    loop_age_s=0.1,
    window_age_s=0.2,
    signal="ok",
    alarm=False,
    scored=True,
)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (WELL, "ok"),
        (replace(WELL, scored=False), "learning"),
        (replace(WELL, signal="clipping"), "clipping"),
        (replace(WELL, signal="too_quiet"), "too_quiet"),
        (replace(WELL, alarm=True), "alarm"),
        (replace(WELL, alarm=True, signal="too_quiet"), "alarm"),
        (replace(WELL, alarm=True, signal="clipping"), "alarm"),
        (replace(WELL, alarm=True, signal="flat_signal"), "flat_signal"),
        (replace(WELL, sound_age_s=2.1, alarm=True), "no_audio"),
        (replace(WELL, fault="unplugged", signal="flat_signal"), "no_audio"),
        (replace(WELL, loop_age_s=5.1, sound_age_s=5.1), "stale"),
        (replace(WELL, window_age_s=10.1), "stale"),
        (replace(WELL, window_age_s=10.1, sound_age_s=2.1), "no_audio"),
        (replace(WELL, model_fault="not finite", alarm=True, scored=False), "stale"),
        (replace(WELL, model_fault="not finite", signal="flat_signal"), "flat_signal"),
        (replace(WELL, ended=True), "ok"),
        (replace(WELL, ended=True, loop_age_s=5.1, sound_age_s=5.1), "no_audio"),
    ],
)
def test_judge_tells_what_hides_the_machine_before_what_the_machine_does(
    facts: Facts, state: str
) -> None:
    """The first cause that applies is the state, and only ``ok`` needs no reason."""
    actual, reason = judge(facts)

    assert actual == state
    assert (reason == "") == (state == "ok")


def test_judge_passes_on_what_the_source_says() -> None:
    """The reason of a source's fault is the source's own."""
    assert judge(replace(WELL, fault="USB Audio was unplugged")) == (
        "no_audio",
        "USB Audio was unplugged",
    )


@pytest.mark.parametrize(
    ("facts", "network", "expected"),
    [
        (WELL, True, True),
        (WELL, False, False),
        (replace(WELL, loop_age_s=11.0), True, False),
        (replace(WELL, sound_age_s=11.0), True, False),
        (replace(WELL, window_age_s=11.0), True, False),
        (replace(WELL, window_age_s=11.0, sound_age_s=9.0), True, True),
        (replace(WELL, sound_age_s=11.0, fault="unplugged"), True, True),
        (replace(WELL, sound_age_s=11.0, fault="gives no sound", hung=True), True, False),
        (replace(WELL, sound_age_s=9.0, hung=True), True, True),
        (replace(WELL, model_fault="not finite"), True, True),
    ],
)
def test_alive_needs_progress_or_a_known_fault(facts: Facts, network: bool, expected: bool) -> None:
    """A hang that nobody explains withholds the watchdog; a known fault does not."""
    assert alive([WELL, facts], network=network) is expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (replace(WELL, sound_age_s=11.0, fault="gives no sound", hung=True), True),
        (replace(WELL, sound_age_s=9.0, fault="gives no sound", hung=True), False),
        (replace(WELL, sound_age_s=3600.0, fault="unplugged"), False),
        (replace(WELL, loop_age_s=11.0, sound_age_s=11.0), False),
    ],
)
def test_hangs_is_for_devices_that_do_not_answer_for_ten_seconds(
    facts: Facts, expected: bool
) -> None:
    """A device that is gone is waited for, and a scorer that stands is left to the watchdog."""
    assert hangs(facts) is expected
