"""One process that opens an id file, looks random ids up in it, and says what that took in time and memory."""

from __future__ import annotations

import json
import random
import sys
import time
from array import array
from pathlib import Path

from serve.recommend.id_files import IdFile

LOOK_UPS = 100_000


def memory() -> dict[str, float]:
    """This process's own memory and what it has mapped of files, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def measure(path: Path, count: int) -> dict[str, float]:
    random.seed()
    texts = [f"u{random.randrange(count):08d}" for _ in range(LOOK_UPS)]
    forth, back = array("d", bytes(8 * LOOK_UPS)), array("d", bytes(8 * LOOK_UPS))
    before = memory()
    began = time.perf_counter()
    file = IdFile(path)
    opened = time.perf_counter() - began
    after_open = memory()
    for place, text in enumerate(texts):
        began = time.perf_counter()
        index = file.index(text)
        between = time.perf_counter()
        same = file.raw(index)
        back[place] = time.perf_counter() - between
        forth[place] = between - began
        assert same == text
    assert len(file) == count
    assert file.index("nobody") == -1
    after = memory()
    p50, p99 = (sorted(forth)[int(LOOK_UPS * part)] for part in (0.5, 0.99))
    return {
        "open, ms": 1e3 * opened,
        "id to index, µs at p50": 1e6 * p50,
        "id to index, µs at p99": 1e6 * p99,
        "index to id, µs at p50": 1e6 * sorted(back)[LOOK_UPS // 2],
        "file, MB": path.stat().st_size / 2**20,
        "own memory before, MB": before["RssAnon"],
        "own memory after opening, MB": after_open["RssAnon"],
        f"own memory after {LOOK_UPS:,} look-ups, MB": after["RssAnon"],
        "mapped from files before, MB": before["RssFile"],
        f"mapped from files after {LOOK_UPS:,} look-ups, MB (shared)": after["RssFile"],
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
