"""A process that opens an id file, looks random ids up in it, and prints the time and memory that it needed."""

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
    """This process's own memory and its pages of mapped files, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "RssFile")}


def measure(path: Path, count: int) -> dict[str, float]:
    """Figures of a file with the ids u00000000 to `count` - 1; `index` is from id to index, `raw` from index to id."""
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
    p50, p99 = (sorted(forth)[int(LOOK_UPS * share)] for share in (0.5, 0.99))
    return {
        "open_ms": 1e3 * opened,
        "index_p50_us": 1e6 * p50,
        "index_p99_us": 1e6 * p99,
        "raw_p50_us": 1e6 * sorted(back)[LOOK_UPS // 2],
        "file_mb": path.stat().st_size / 1e6,
        "own_before_mb": before["RssAnon"],
        "own_open_mb": after_open["RssAnon"],
        "own_after_mb": after["RssAnon"],
        "mapped_before_mb": before["RssFile"],
        "mapped_after_mb": after["RssFile"],
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
