from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _short_discard(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refused body the front reads on for a while; here a short one, for most tests wait for its end."""
    monkeypatch.setattr("serve.http1.connection.DISCARD_SECONDS", 0.2)
