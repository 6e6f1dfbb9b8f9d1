"""Benchmark of id files: opening one, looking ids up in it, and the memory that takes."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import ROOT
from benchmarks.rig.rig import Bench, Report, spread, text_ids
from ncf.export.id_file import write_id_file

PROCESS = "benchmarks.ranking.id_process"


def id_files(bench: Bench) -> list[Report]:
    """Section E; each round is a process of its own, so that its memory is the file's and nothing else's."""
    count = 1_000_000 if bench.quick else 10_000_000
    path = bench.folder / "ids"
    task = bench.progress.add_task(f"writing {count:,} ids", total=bench.rounds + 1)
    write_id_file(path, text_ids("u", count))
    bench.progress.advance(task)
    found = []
    for _ in range(bench.rounds):
        command = [sys.executable, "-m", PROCESS, str(path), str(count)]
        found.append(
            json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)
        )
        bench.progress.advance(task)
    path.unlink()
    bench.progress.remove_task(task)
    report = Report(
        f"E. an id file of {count:,} ids: a process for each round, fresh random ids",
        ("", "median (smallest–largest round)"),
        [(name, spread([each[name] for each in found])) for name in found[0]],
        record={name: [each[name] for each in found] for name in found[0]},
    )
    report.targets = [
        ("opened in less than 50 ms", max(each["open, ms"] for each in found) < 50),
        ("look-up in less than 20 µs at p50", max(each["id to index, µs at p50"] for each in found) < 20),
    ]
    return [report]
