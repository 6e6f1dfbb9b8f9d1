from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from serve.telemetry.counts import Tally


@pytest.fixture
def tally(tmp_path: Path) -> Iterator[Tally]:
    """A worker's counts."""
    with closing(Tally(tmp_path)) as counts:
        yield counts
