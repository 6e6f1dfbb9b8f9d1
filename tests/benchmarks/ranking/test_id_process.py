"""The process that measures an id file, on a small file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import ROOT
from benchmarks.rig.recommender import text_ids
from ncf.export.id_file import write_id_file


def test_a_file_is_opened_and_looked_up_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    write_id_file(path, text_ids("u", 1000))
    command = [sys.executable, "-m", "benchmarks.ranking.id_process", str(path), "1000"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    figures = json.loads(ended.stdout)
    assert figures["file_mb"] == path.stat().st_size / 1e6
    assert 0 < figures["index_p50_us"] <= figures["index_p99_us"]
    assert all(value > 0 for value in figures.values())
