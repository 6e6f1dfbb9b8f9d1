"""The report of ranking whole catalogues: a page of its own, with ratios that are made in each round."""

from __future__ import annotations

from pathlib import Path

from benchmarks.reporting.pages import RANKING
from benchmarks.reporting.ranking import DEVICE, ID_FILE
from benchmarks.reporting.report import write_report
from benchmarks.rig.points import Points


def test_every_section_has_its_table(tmp_path: Path) -> None:
    points = Points(tmp_path, {"rounds": 2})
    for number in range(2):
        for way, rate in (("every item", 10.0), ("top-K", 40.0 + 10 * number)):
            figures = {"requests_per_s": rate, "p50_ms": 1e3 / rate, "p99_ms": 2e3 / rate}
            key = {"model": "gmf 64, 3,706 items", "way": way, "round": number}
            points.add("catalogue", {**key, "concurrency": 1}, figures)
            points.add("implicit", {**key, "way": way.replace("every item", "implicit, 1 thread")}, figures)
        points.add("ids", {"ids": 1_000_000, "round": number}, dict.fromkeys(ID_FILE.values(), 2.0))
        one = {"load": "one user", "device": "gpu", "items": 1_000_000, "round": number}
        points.add("device", one, dict.fromkeys(DEVICE.values(), 0.25))
        full = {**one, "load": "full batches", "items": 26_744}
        points.add("device", full, {"users_per_s": 20_000.0 + number, "batch": 256})
    page = write_report(points, tmp_path / "report").read_text()
    assert page.startswith("# Ranking whole catalogues\n")
    assert "Not measured in this run" not in page
    for section in RANKING.sections.values():
        assert f"\n## {section.title}\n" in page
    assert "| gmf 64, 3,706 items: top-K | 22.5 (20.0–25.0) | 45.0 (40.0–50.0) | 45.0 (40.0–50.0) |" in page
    assert "| 4.50 × (4.00–5.00) |" in page
    assert "| id to index, µs at p50 | 2.00 |" in page
    assert "| gpu, 1,000,000 items | 0.250 |" in page
    assert "| gpu, 26,744 items | 256 | 20,000 |" in page
    assert "make bench-topk" in page
    assert "Where a peer wins" not in page
