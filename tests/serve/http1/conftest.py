"""What all tests of the front share: a short time for the rest of a refused body."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _short_discard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front reads on behind a refused body before it closes, and tests wait for the end of the connection."""
    monkeypatch.setattr("serve.http1.connection.DISCARD_SECONDS", 0.2)
