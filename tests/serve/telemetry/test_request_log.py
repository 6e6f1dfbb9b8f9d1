from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import serve.telemetry.request_log as module
from serve.telemetry.request_log import FAILURES_PER_SECOND, RequestLog, chunks, one_line, plain

WRITER = """
import sys
from serve.telemetry.request_log import RequestLog

log = RequestLog(True)
for number in range(int(sys.argv[2])):
    log.add(sys.argv[1] * 256, "food", "recommend", 200, 0.001, sys.argv[1] * 200)
    if number % 50 == 0:
        log.flush()
log.close()
"""


class Pipe:
    """A stdout of its own; `lines` closes it and has what was written."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def lines(self) -> list[dict[str, Any]]:
        os.close(self.write_end)
        with os.fdopen(self.read_end, "rb") as stream:
            text = stream.read()
        assert text == b"" or text.endswith(b"\n")
        return [json.loads(line) for line in text.split(b"\n")[:-1]]


def test_a_line_says_who_what_and_how_long() -> None:
    pipe = Pipe()
    log = RequestLog(True, pipe.write_end)
    log.add("id-1", "food", "recommend", 200, 0.0123456)
    log.add("id-2", "", "none", 400, 0.5, "k is 0", trace_id="1-67891233-abcdef012345678912345678")
    log.flush()
    log.close()
    first, second = pipe.lines()
    at = datetime.strptime(first.pop("time"), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs((datetime.now(timezone.utc) - at).total_seconds()) < 3600
    assert first == {"request_id": "id-1", "model": "food", "kind": "recommend", "status": 200, "ms": 12.346}
    assert second["error"] == "k is 0"
    assert second["trace_id"] == "1-67891233-abcdef012345678912345678"


def test_by_default_only_our_failures_are_lines() -> None:
    pipe = Pipe()
    log = RequestLog(False, pipe.write_end)
    for status in (200, 400, 404, 413, 499, 500, 503):
        log.add("id", "food", "recommend", status, 0.1)
    log.close()
    assert [line["status"] for line in pipe.lines()] == [500, 503]


def test_failures_by_the_thousand_are_a_few_lines_and_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_700_000_000.0]
    monkeypatch.setattr("serve.telemetry.request_log.time.time", lambda: now[0])
    pipe = Pipe()
    log = RequestLog(False, pipe.write_end)
    for _ in range(3):
        for _ in range(1000):
            log.add("id", "food", "recommend", 503, 0.1)
            log.flush()
        now[0] += 1
        log.flush()
    log.close()
    lines = pipe.lines()
    assert len(lines) == 3 * (FAILURES_PER_SECOND + 1)
    left_out = [line["left_out"] for line in lines if "left_out" in line]
    assert left_out == [1000 - FAILURES_PER_SECOND] * 3
    assert lines[FAILURES_PER_SECOND]["time"] == "2023-11-14T22:13:21.000Z"


@pytest.mark.parametrize("text", ["a\r\nb", "a\n", "\x1b[31m", "a\u2028b", "a\u0085b", "\u202eabc", "a\x00", "\ud800"])
def test_nothing_a_caller_sends_starts_a_new_line(text: str) -> None:
    pipe = Pipe()
    log = RequestLog(True, pipe.write_end)
    log.add(text, text, "recommend", 500, 0.1, text, text)
    log.close()
    [line] = pipe.lines()
    for name in ("request_id", "model", "error", "trace_id"):
        assert line[name].isprintable()
        assert "?" in line[name]


def test_texts_are_bounded_and_a_line_is_too() -> None:
    worst = "\U0001f600" * 10_000
    quotes = '"\\' * 10_000
    for text in (worst, quotes):
        pipe = Pipe()
        log = RequestLog(True, pipe.write_end)
        log.add(text, text, "recommend", 500, 1e9, text, text)
        log.close()
        os.set_blocking(pipe.read_end, False)
        assert len(os.read(pipe.read_end, 100_000)) <= select.PIPE_BUF
        assert pipe.lines() == []
    assert len(plain(worst, 256)) == 256
    assert one_line("né", 200) == "né"


def test_a_write_has_whole_lines_that_a_pipe_keeps_together() -> None:
    lines = [b"x" * (37 * number % 1999) + b"\n" for number in range(300)]
    found = list(chunks(lines))
    assert b"".join(found) == b"".join(lines)
    assert all(len(chunk) <= select.PIPE_BUF and chunk.endswith(b"\n") for chunk in found)


def test_lines_of_several_workers_do_not_mix(tmp_path: Path) -> None:
    pipe = Pipe()
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITER, letter, "500"], stdout=pipe.write_end) for letter in "abc"
    ]
    lines = pipe.lines()
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert len(lines) == 1500
    for line in lines:
        letter = line["request_id"][0]
        assert (line["request_id"], line["error"]) == (letter * 256, letter * 200)


def test_a_stdout_nobody_reads_loses_lines_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 200_000)
    pipe = Pipe()
    log = RequestLog(True, pipe.write_end)
    for _ in range(5000):  # more than the pipe holds and may wait
        log.add("i" * 100, "food", "recommend", 200, 0.1)
        log.flush()
    reader = subprocess.Popen([sys.executable, "-c", "import sys; print(sys.stdin.read())"],
                              stdin=pipe.read_end, stdout=subprocess.PIPE, text=True)  # fmt: skip
    os.close(pipe.read_end)
    while log._too_much():
        time.sleep(0.01)
    log.close()
    os.close(pipe.write_end)
    lines = [json.loads(line) for line in reader.communicate()[0].splitlines() if line]
    left_out = sum(line.get("left_out", 0) for line in lines)
    assert left_out > 0
    assert sum("status" in line for line in lines) + left_out == 5000


def test_a_stdout_that_is_gone_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    pipe = Pipe()
    os.close(pipe.read_end)
    log = RequestLog(True, pipe.write_end)
    for _ in range(100):
        log.add("i" * 250, "food", "recommend", 200, 0.1)
    log.close()
    os.close(pipe.write_end)
    assert len(caplog.records) == 1
