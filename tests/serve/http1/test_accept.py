from __future__ import annotations

import pytest

from serve.http1.accept import accepts_gzip, weights


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, False),
        (b"", False),
        (b"gzip", True),
        (b"GZip, deflate, br", True),
        (b"x-gzip", True),
        (b"deflate, br", False),
        (b"identity", False),
        (b"*", True),
        (b"*;q=0", False),
        (b"gzip;q=0", False),
        (b"gzip;q=0, *", False),
        (b"gzip ; q = 0.000", False),
        (b"br, gzip;q=0.1", True),
        (b"*;q=0, gzip;q=0.1", True),
        (b"gzip;q=maybe", False),
    ],
)
def test_whether_the_caller_takes_gzip(header: bytes | None, wanted: bool) -> None:
    assert accepts_gzip(header) is wanted


def test_weights_are_those_of_readable_entries_in_order() -> None:
    header = b"Text/CSV;level=1;Q=0.5, , a/b; q=.25, c;q=2, d;q=-1, e;q=nan, f;q=, ;q=1, a/b;q=1, g;q=1.000"
    assert weights(header) == {"text/csv": 0.5, "a/b": 0.25, "g": 1.0}
    assert len(weights(b"a," * 100_000)) == 1
    assert weights(b"x" * 100_000) == {}
    assert list(weights(b"gzip, br," + b"y" * 100_000)) == ["gzip", "br"]
