"""The section `sweep`: the order of its points."""

from __future__ import annotations

from benchmarks.serving.sweep import keys


def test_a_sweep_measures_the_closed_loop_before_its_shares() -> None:
    for quick in (True, False):
        seen = set()
        for key in keys(quick):
            same = (key["model"], key["protocol"], key["batch"])
            assert key["load"] == "closed" or same in seen
            seen.add(same)
    assert len(list(keys(True))) == 9
    assert len(list(keys(False))) == 78
