"""Section "ids": opening an id file, looking ids up in it, and the memory that this takes."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import ROOT
from benchmarks.rig.points import Key
from benchmarks.rig.recommender import text_ids
from benchmarks.rig.run import BenchRun
from ncf.export.id_file import write_id_file

SECTION = "ids"
PROGRAM = "benchmarks.ranking.id_process"


def run(run: BenchRun) -> None:
    """Each round is a process of its own, so that its memory is that of the file alone."""
    count = 1_000_000 if run.quick else 10_000_000
    keys: list[Key] = [{"ids": count, "round": number} for number in range(run.rounds)]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    path = run.folder / "ids"
    with run.steps(f"{count:,} ids", 1 + len(missing)) as advance:
        write_id_file(path, text_ids("u", count))
        advance(1)
        for key in missing:
            command = [sys.executable, "-m", PROGRAM, str(path), str(count)]
            ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            run.points.add(SECTION, key, json.loads(ended.stdout))
            advance(1)
    path.unlink()
