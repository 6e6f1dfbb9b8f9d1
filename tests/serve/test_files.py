"""Files that are replaced in one step."""

from __future__ import annotations

import threading
from pathlib import Path

from serve.files import replace


def test_a_reader_never_finds_half_of_a_content(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    contents = [b"a" * 100_000, b"b" * 200_000]
    replace(path, contents[0])
    written = threading.Event()

    def write() -> None:
        for turn in range(300):
            replace(path, contents[turn % 2])
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not written.is_set() or reads == 0:
        assert path.read_bytes() in contents
        reads += 1
    writer.join()
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_every_write_has_a_later_time(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    times = []
    for _ in range(50):
        replace(path, "the same content")
        times.append(path.stat().st_mtime_ns)
    assert times == sorted(set(times))
