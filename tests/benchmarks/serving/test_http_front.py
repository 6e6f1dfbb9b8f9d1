from __future__ import annotations

import re

from click.testing import CliRunner

from benchmarks.serving.http_front import main


def test_both_fronts_answer_and_their_cpu_time_is_measured() -> None:
    done = CliRunner().invoke(main, ["--requests", "8000", "--connections", "4"], catch_exceptions=False)
    cost = dict(re.findall(r"^(.+?)\s+([0-9.]+) µs of CPU a request,\s+[0-9,]+ requests/s$", done.output, re.MULTILINE))
    assert list(cost) == ["serve.http1", "gunicorn asgi"]
    assert all(float(microseconds) > 1 for microseconds in cost.values())
