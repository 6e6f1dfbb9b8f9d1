"""A tritonserver that the tests of a file share."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.support.bare_triton import Triton


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with Triton(tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture
def seed() -> int:
    """Another one at every run; pytest prints it if the test fails."""
    chosen = random.randrange(2**32)
    print("seed", chosen)
    return chosen
