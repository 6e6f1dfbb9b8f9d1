from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ncf.data.interactions import IdIndex

pytestmark = pytest.mark.core


def test_id_index_goes_both_ways_and_compares_as_text() -> None:
    index = IdIndex.of(pl.Series([30, 7, 7]))
    assert index.encode(pl.Series(["7", "8", "30"])).tolist() == [0, -1, 1]
    assert index.decode(np.array([1, 0])) == [30, 7]
