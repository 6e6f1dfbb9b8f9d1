"""Benchmark of id files: opening one, looking ids up in it, and the memory that takes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from topk_rig import Bench, Report, share, spread, text_ids

from ncf.id_file import write_id_file
from serve.ids import IdFile

LOOK_UPS = 100_000


def id_files(bench: Bench) -> list[Report]:
    """Section E; each round is a process of its own, so that its memory is the file's and nothing else's."""
    count = 1_000_000 if bench.quick else 10_000_000
    path = bench.folder / "ids"
    task = bench.progress.add_task(f"writing {count:,} ids", total=bench.rounds + 1)
    write_id_file(path, text_ids("u", count))
    bench.progress.advance(task)
    found = []
    for _ in range(bench.rounds):
        command = [sys.executable, __file__, str(path), str(count)]
        found.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
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


def memory() -> dict[str, float]:
    """This process's own memory and what it has mapped of files, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def measure(path: Path, count: int) -> dict[str, float]:
    random.seed()
    texts = [f"u{random.randrange(count):08d}" for _ in range(LOOK_UPS)]
    before = memory()
    began = time.perf_counter()
    file = IdFile(path)
    opened = time.perf_counter() - began
    after_open = memory()
    assert len(file) == count
    forth, back = [], []
    for text in texts:
        began = time.perf_counter()
        index = file.index(text)
        forth.append(time.perf_counter() - began)
        began = time.perf_counter()
        assert file.raw(index) == text
        back.append(time.perf_counter() - began)
    assert file.index("nobody") == -1
    after = memory()
    return {
        "open, ms": 1e3 * opened,
        "id to index, µs at p50": 1e6 * share(forth, 0.5),
        "id to index, µs at p99": 1e6 * share(forth, 0.99),
        "index to id, µs at p50": 1e6 * share(back, 0.5),
        "file, MB": path.stat().st_size / 2**20,
        "own memory before, MB": before["RssAnon"],
        "own memory after opening, MB": after_open["RssAnon"],
        f"own memory after {LOOK_UPS:,} look-ups, MB": after["RssAnon"],
        "mapped from files before, MB": before["RssFile"],
        f"mapped from files after {LOOK_UPS:,} look-ups, MB (shared)": after["RssFile"],
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
