"""What perf_analyzer prints becomes figures, and what it is given to send differs from request to request."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from benchmarks.rig import perf_analyzer
from benchmarks.rig.perf_analyzer import (
    ENTRIES,
    STABLE_PERCENT,
    Load,
    agree,
    failure,
    find_analyzer,
    loop,
    parse,
    write_input,
)

CLOSED, OPEN = Load("m", "http", 4, concurrency=2), Load("m", "grpc", 1, rate=1500.0)
# Reports of real runs.
STABLE = """\
Request concurrency: 2
  Pass [1] throughput: 7020.1 infer/sec. p99 latency: 1950 usec
  Pass [2] throughput: 7.1e+03 infer/sec. p99 latency: 2010 usec
  Pass [3] throughput: 7207.84 infer/sec. p99 latency: 1991 usec
  Client:
    Request count: 1939
    Throughput: 7107.84 infer/sec
"""
STABLE_CSV = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,\
Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,\
request/response,response wait
2,7107.84,69,393,218,17,371,46,0,1072,1302,1406,1991,69,1043
"""
UNSTABLE = """\
Request concurrency: 16
  Pass [1] throughput: 5306.33 infer/sec. p99 latency: 11154 usec
  Pass [2] throughput: 4794.43 infer/sec. p99 latency: 9090 usec
  Pass [3] throughput: 5306.63 infer/sec. p99 latency: 7635 usec
Failed to obtain stable measurement within 3 measurement windows for concurrency 16. Please try to increase the \
--measurement-interval.
Failed to obtain stable measurement.
"""
LATE = """\
Request Rate: 1500 inference requests per seconds
  Pass [1] throughput: 1489.48 infer/sec. p99 latency: 2676 usec
  Pass [2] throughput: 1498.06 infer/sec. p99 latency: 2149 usec
  Pass [3] throughput: 1471.7 infer/sec. p99 latency: 7329 usec
Warning: Request latency is not stabilizing. Please try lowering the request rate.
  Client:
    Request count: 3765
    [WARNING] Perf Analyzer was not able to keep up with the desired request rate. 25.73% of the requests were delayed.
    Throughput: 1486.41 infer/sec
"""
OPEN_CSV = STABLE_CSV.replace("Concurrency,", "Request Rate,").replace("2,7107.84,", "1500,1486.41,")


def test_rows_and_requests_are_counted_apart() -> None:
    figures = parse(STABLE, STABLE_CSV, CLOSED)
    assert figures == {
        "requests_per_s": 7107.84 / 4, "rows_per_s": 7107.84,
        "p50_ms": 1.072, "p90_ms": 1.302, "p95_ms": 1.406, "p99_ms": 1.991,
        "server_queue_us": 218.0, "server_infer_us": 371.0, "requests": 1939,
    }  # fmt: skip
    assert failure(0, STABLE, 300) == ""


def test_an_unstable_point_has_the_medians_of_its_windows_and_says_so() -> None:
    figures = parse(UNSTABLE, "", Load("m", "http", 2, concurrency=16))
    assert figures == {"requests_per_s": 5306.33 / 2, "rows_per_s": 5306.33, "p99_ms": 9.09}
    error = failure(2, UNSTABLE, 200)
    assert error.startswith(f"unstable: 3 windows of 200 ms never agreed within {STABLE_PERCENT} % (p99 11.2, 9.09, ")


def test_an_open_loop_says_what_was_asked_and_whether_it_was_sent_in_time() -> None:
    figures = parse(LATE, OPEN_CSV, OPEN)
    assert (figures["asked_per_s"], figures["delayed_percent"], figures["kept_up"]) == (1500.0, 25.73, False)
    assert figures["requests_per_s"] == figures["rows_per_s"] == 1486.41
    in_time = parse(LATE.replace("25.73%", "1.15%"), OPEN_CSV, OPEN)
    assert in_time["kept_up"]
    few = LATE.replace("25.73%", "1.15%").replace("1486.41", "1300.2")
    assert not parse(few, OPEN_CSV.replace("1486.41", "1300.2"), OPEN)["kept_up"]  # sent in time, answered too late


def test_the_p99_of_the_windows_counts_even_where_perf_analyzer_is_content() -> None:
    assert failure(0, LATE, 700).startswith("unstable:")
    assert agree({"rows_per_s": [1.0, 100.0, 101.0, 102.0], "p99_ms": [9.0, 3.0, 3.1, 3.2]})  # the last three
    assert not agree({"rows_per_s": [100.0, 101.0], "p99_ms": [3.0, 3.1]})


def test_another_failure_is_the_line_that_has_the_reason() -> None:
    said = "*** Measurement Settings ***\nerror: failed to get model metadata: unknown model: 'nope' is not found\n\n"
    assert failure(99, said, 300) == (
        "perf_analyzer ended with 99: error: failed to get model metadata: unknown model: 'nope' is not found"
    )
    assert parse(said, "", CLOSED) == {}


def test_loops() -> None:
    assert loop(CLOSED) == ["--concurrency-range", "2"]
    assert loop(OPEN) == ["--request-rate-range", "1500.0", "--request-distribution", "poisson"]


def test_the_input_has_random_indices_in_range_and_requests_that_differ(tmp_path: Path) -> None:
    file = write_input(tmp_path / "input.json", {"user_index": 50_000, "item_index": 3_706})
    entries = json.loads(file.read_text())["data"]
    assert len(entries) == ENTRIES
    for name, count in (("user_index", 50_000), ("item_index", 3_706)):
        values = [entry[name][0] for entry in entries]
        assert 0 <= min(values) < count / 10
        assert count * 0.9 < max(values) < count
        assert len(set(values)) > 0.8 * ENTRIES
    assert all(ENTRIES % divisor for divisor in range(2, 40))  # prime, so every entry begins a request sometime
    assert ENTRIES > 1024


def test_a_program_that_is_missing_or_does_not_start_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perf_analyzer, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(click.ClickException, match=r"run: benchmarks/tools/get_perf_analyzer\.sh"):
        find_analyzer()
    program = tmp_path / "bin" / "perf_analyzer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'libb64.so.0d: cannot open' >&2\necho more >&2\nexit 127\n")
    program.chmod(0o755)
    with pytest.raises(click.ClickException, match=r"does not start: libb64.so.0d: cannot open; fetch it again"):
        find_analyzer()
    program.write_text("#!/bin/sh\n")
    assert find_analyzer().environment["LD_LIBRARY_PATH"] == str(tmp_path / "lib")
