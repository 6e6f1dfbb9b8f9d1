from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serve.telemetry.counts import BUCKETS, KINDS, MAX_MODELS, OTHER, Tally, TallyFolder, Totals

WORKER = """
import sys
from pathlib import Path
from serve.telemetry.counts import Tally

tally = Tally(Path(sys.argv[1]))
for line in sys.stdin:
    tally.begin("food")
    if line.strip() == "end":
        tally.end("food", "recommend", 200, 0.01)
        tally.done("food")
    tally.flush()
    print("done", flush=True)
"""


class Worker:
    """A process that counts one request for each line it is sent."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def count(totals: Totals) -> int:
    return int(sum(sum(record[:-1]) for record in totals.requests.values()))


def test_a_request_is_counted_in_the_bucket_of_its_time(tally: Tally) -> None:
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, BUCKETS[-1], 1000.0):
        tally.end("food", "recommend", 200, seconds)
    record = tally.totals.requests["food", "recommend", 200]
    assert (record[0], record[1], record[len(BUCKETS) - 1], record[len(BUCKETS)]) == (2, 1, 1, 1)
    assert count(tally.totals) == 5
    assert record[-1] == pytest.approx(1000 + BUCKETS[0] * 2.01 + BUCKETS[-1])


def test_a_request_may_be_in_flight_to_several_models_or_none(tally: Tally) -> None:
    tally.begin("food")
    tally.begin("fashion")
    tally.begin("food")
    assert tally.totals.in_flight == {"food": 2, "fashion": 1}
    tally.end("food", "recommend", 200, 0.1)
    tally.done("food")
    tally.done("fashion")
    tally.end("", "none", 400, 0.1)
    assert tally.totals.in_flight == {"": 0, "food": 1, "fashion": 0}
    assert set(tally.totals.requests) == {("food", "recommend", 200), ("", "none", 400)}


def test_names_are_bounded_whatever_is_counted(tally: Tally) -> None:
    for number in range(MAX_MODELS + 50):
        for _ in range(2):
            tally.begin(f"m{number}")
            tally.shed(f"m{number}")
            tally.end(f"m{number}", f"kind {number}", 200, 0.1)
            tally.done(f"m{number}")
    totals = tally.totals
    names = {model for model, _, _ in totals.requests}
    assert names == totals.in_flight.keys() == totals.shed.keys()
    assert len(names) == MAX_MODELS + 1
    assert {kind for _, kind, _ in totals.requests} <= set(KINDS)
    assert not any(totals.in_flight.values())
    assert totals.shed[OTHER] == 100
    assert count(totals) == 2 * (MAX_MODELS + 50)


def test_totals_are_the_same_after_a_file(tally: Tally) -> None:
    tally.begin("é\r\n")
    tally.end("food", "lines", 503, 0.3)
    tally.shed("food")
    assert Totals.from_json(tally.totals.to_json()) == tally.totals


def test_a_file_is_written_only_when_something_happened(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.begin("food")
    tally.flush()
    [path] = tmp_path.glob("*.json")
    first = path.stat().st_ino
    tally.flush()
    assert path.stat().st_ino == first
    tally.end("food", "recommend", 200, 0.1)
    tally.flush()
    assert path.stat().st_ino != first
    tally.close()


def test_all_workers_are_summed_and_the_dead_stay_counted(tmp_path: Path) -> None:
    folder = TallyFolder(tmp_path)
    assert folder.read() == Totals()
    first, second = Worker(tmp_path), Worker(tmp_path)
    try:
        for worker in (first, second):
            worker.ask("end")
            worker.ask("stay in flight")
        totals = folder.read()
        assert (count(totals), totals.in_flight, totals.workers) == (2, {"food": 2}, 2)
        first.kill()
        for _ in range(3):
            totals = folder.read()
            assert (count(totals), totals.in_flight, totals.workers) == (2, {"food": 1}, 1)
        second.ask("end")
        assert count(folder.read()) == 3
    finally:
        first.kill()
        second.kill()
    totals = folder.read()
    assert (count(totals), totals.in_flight, totals.workers) == (3, {}, 0)


def test_workers_that_are_gone_leave_no_files(tmp_path: Path) -> None:
    folder = TallyFolder(tmp_path)
    for number in range(20):
        tally = Tally(tmp_path)
        if number % 2:  # the others end before they have counted anything
            tally.begin("food")
            tally.end("food", "recommend", 200, 0.1)
        tally.close()
        assert count(folder.read()) == (number + 1) // 2
        assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_costs_a_line_and_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "tally"
    folder.mkdir()
    tally = Tally(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    for _ in range(3):
        tally.end("food", "recommend", 200, 0.1)
        tally.flush()
    assert len(caplog.records) == 1
    folder.mkdir()
    tally.close()
    assert len(list(folder.glob("*.json"))) == 1


def test_counts_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.begin("food")
    tally.flush()
    [path] = tmp_path.glob("*.json")
    path.write_text("{")
    with pytest.raises(ValueError, match="line 1"):
        TallyFolder(tmp_path).read()
    tally.close()
