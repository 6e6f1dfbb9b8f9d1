from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from serve.telemetry.cloudwatch import NAMESPACE, EmfWriter, emf_lines
from serve.telemetry.counts import BUCKETS, KINDS, Tally, TallyFolder, Totals

NOW = 1_700_000_000.1234


def ended(tally: Tally, model: str, status: int, *times: float, kind: str = "recommend") -> None:
    for seconds in times:
        tally.end(model, kind, status, seconds)


def copy(tally: Tally) -> Totals:
    return Totals.from_json(tally.totals.to_json())


def check(line: str) -> dict[str, Any]:
    """What the specification asks of a document; returns its values."""
    assert "\n" not in line
    document: dict[str, Any] = json.loads(line)
    head = document.pop("_aws")
    assert head.keys() == {"Timestamp", "CloudWatchMetrics"}
    assert type(head["Timestamp"]) is int
    [directive] = head["CloudWatchMetrics"]
    assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
    assert (directive["Namespace"], directive["Dimensions"]) == (NAMESPACE, [["model"]])
    assert isinstance(document["model"], str)
    assert document["model"].strip()
    assert len(directive["Metrics"]) <= 100
    assert {metric["Unit"] for metric in directive["Metrics"]} <= {"Count", "Milliseconds"}
    assert {metric["Name"] for metric in directive["Metrics"]} | {"model"} == document.keys()
    if "Latency" in document:
        values, counts = document["Latency"]["Values"], document["Latency"]["Counts"]
        assert 0 < len(values) == len(counts) <= 100
        assert values == sorted(set(values))
        assert document["Latency"]["Min"] <= values[0] <= values[-1] <= document["Latency"]["Max"]
        assert sum(counts) == document["Latency"]["Count"] == document["Requests"]
    return {"at": head["Timestamp"], **document}


def test_a_line_for_a_model_with_what_happened_in_the_interval(tally: Tally) -> None:
    ended(tally, "food", 200, 0.004, 0.004, 70.0)
    before = copy(tally)
    ended(tally, "food", 200, 0.0041, 0.0042)
    ended(tally, "food", 503, 0.02, kind="recommend")
    ended(tally, "food", 404, 0.0001)
    ended(tally, "food", 200, 40.0, kind="load")  # this is no request for inference
    tally.shed("food")
    tally.begin("food")
    [line] = emf_lines(before, copy(tally), NOW)
    assert check(line) == {
        "at": 1_700_000_000_123,
        "model": "food",
        "Requests": 4,
        "Errors": 1,
        "Shed": 1,
        "InFlight": 1,
        "Latency": {
            "Values": [0.25, 4.0, 20.0],
            "Counts": [1, 2, 1],
            "Min": 0.0,
            "Max": 25.0,
            "Count": 4,
            "Sum": pytest.approx(28.4),
        },
    }


def test_no_line_without_traffic_and_one_for_each_model_with(tally: Tally) -> None:
    ended(tally, "quiet", 200, 0.1)
    ended(tally, "food", 200, 0.1)
    before = copy(tally)
    assert emf_lines(before, before, NOW) == []
    ended(tally, "food", 200, 0.1)
    ended(tally, "", 400, 0.1, kind="none")
    tally.shed("fashion")
    tally.begin("stuck")
    found = [check(line) for line in emf_lines(before, copy(tally), NOW)]
    assert [values["model"] for values in found] == ["(none)", "fashion", "food", "stuck"]
    assert ["Latency" in values for values in found] == [True, False, True, False]


def test_a_request_that_waited_longer_than_anything_is_still_a_number(tally: Tally) -> None:
    ended(tally, "food", 200, 1e6)
    [line] = emf_lines(Totals(), copy(tally), NOW)
    assert check(line)["Latency"]["Values"] == [BUCKETS[-1] * 1000]


def test_a_line_is_one_write_that_a_pipe_keeps_together(tally: Tally) -> None:
    for kind in KINDS:
        for status in (200, 500):
            ended(tally, "m" * 255, status, *(bound * 0.99 for bound in BUCKETS), 100.0, kind=kind)
    [line] = emf_lines(Totals(), copy(tally), NOW)
    assert len(check(line)["Latency"]["Values"]) == len(BUCKETS) + 1
    assert len(line.encode()) < 4096


def read_all(fd: int) -> list[dict[str, Any]]:
    with os.fdopen(fd) as lines:
        return [check(line.rstrip("\n")) for line in lines]


def test_the_writer_writes_every_interval_and_the_last(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    tally = Tally(tmp_path)
    writer = EmfWriter(TallyFolder(tmp_path), 0.01, write_end)
    writer.start()
    ended(tally, "food", 200, 0.1, 0.2)
    tally.flush()
    first = os.read(read_end, 4096)
    ended(tally, "food", 200, 0.3)
    tally.close()
    writer.stop()
    os.close(write_end)
    found = [check(first.decode().rstrip("\n")), *read_all(read_end)]
    assert sum(values["Requests"] for values in found) == 3


def test_a_stdout_that_is_gone_costs_a_line_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    tally = Tally(tmp_path)
    ended(tally, "food", 200, 0.1)
    tally.close()
    writer = EmfWriter(TallyFolder(tmp_path), 60, write_end)
    writer.start()
    writer.stop()
    os.close(write_end)
    assert ["Broken pipe" in record.getMessage() for record in caplog.records] == [True]
