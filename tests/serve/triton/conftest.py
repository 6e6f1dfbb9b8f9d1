"""A tritonserver that the tests of a file share."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.bare_triton import Triton


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    server = Triton(tmp_path_factory.mktemp("triton"))
    try:
        while server.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v2/health/live", timeout=1)
                break
            except (OSError, urllib.error.URLError):
                continue
        assert server.process.poll() is None, server.log.read_text()
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
