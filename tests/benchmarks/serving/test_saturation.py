"""The section `saturation`: the time until recovery."""

from __future__ import annotations

from benchmarks.serving.saturation import recovery_seconds


def test_recovery_is_when_two_windows_in_turn_are_near_what_was_before() -> None:
    assert recovery_seconds([10, 10], 10) == 0.5
    assert recovery_seconds([900, 14, 16, 15, 14, 90], 10) == 2.0
    assert recovery_seconds([900, None, 16], 10) is None
