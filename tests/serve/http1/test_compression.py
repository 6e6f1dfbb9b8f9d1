from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import BadRequest, BodyTooLarge, UnsupportedMediaType
from serve.http1.compression import MAX_MEMBERS, MIN_GZIP_BYTES, pack, unpack

LIMIT = 1_000_000
anything = settings(deadline=None, database=None)


@pytest.mark.parametrize("coding", [b"", b"identity", b" Identity , ", b","])
def test_a_body_without_coding_stays_as_it_is(coding: bytes) -> None:
    body = b"\x1f\x8b not gzip"
    assert unpack(body, coding, LIMIT) is body


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b" GZIP ", b"identity, gzip"])
def test_gzip_is_unpacked(coding: bytes) -> None:
    assert unpack(gzip.compress(b"hello"), coding, 5) == b"hello"
    assert unpack(gzip.compress(b""), coding, 5) == b""


def test_several_members_are_one_body() -> None:
    large = bytes(range(256)) * 1000
    body = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(large) + gzip.compress(b" two")
    assert unpack(body, b"gzip", LIMIT) == b"one " + large + b" two"


@pytest.mark.parametrize(
    "coding", [b"deflate, gzip", b"br", b"zstd", b"gzip, gzip", b"gzip, br", b"\xff", b"gzip;q=1", b"x" * 300]
)
def test_other_codings_are_named_and_gzip_offered(coding: bytes) -> None:
    with pytest.raises(UnsupportedMediaType, match="send the body with gzip once, or as it is") as caught:
        unpack(b"{}", coding, LIMIT)
    assert len(str(caught.value)) < 200


PACKED = gzip.compress(b"some text " * 50, mtime=0)  # the same in all test processes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not gzip"),
        (b'{"user_id": "u17"}', "the body is not gzip"),
        (zlib.compress(b"x"), "the body is not gzip"),
        (PACKED[:1], "the body is not gzip"),
        (PACKED[:2], "ends too early, after 2 bytes"),
        (PACKED[:-1], "ends too early"),
        (PACKED[:20], "ends too early"),
        (PACKED + b"\0", f"goes on with something else after {len(PACKED)} bytes"),
        (PACKED + b"{}", "goes on with something else"),
        (PACKED + PACKED[:8], "ends too early"),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "is damaged: .*incorrect data check"),
        (PACKED[:-4] + b"\0\0\0\0", "is damaged: .*incorrect length check"),
        (PACKED[:10] + b"\xff" * 30 + PACKED[40:], "is damaged"),
    ],
)
def test_what_is_no_whole_gzip_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        unpack(body, b"gzip", LIMIT)


def test_members_are_not_endless() -> None:
    empty = gzip.compress(b"")
    assert unpack(empty * MAX_MEMBERS, b"gzip", LIMIT) == b""
    with pytest.raises(BadRequest, match="more than 4,096 gzip members; compress it in one piece"):
        unpack(empty * 1_000_000, b"gzip", LIMIT)


def test_the_limit_is_of_what_comes_out() -> None:
    packed = gzip.compress(b"x" * 1000)
    assert len(unpack(packed, b"gzip", 1000)) == 1000
    with pytest.raises(BodyTooLarge, match=r"more than 999 bytes when unpacked; at most 999 are taken"):
        unpack(packed, b"gzip", 999)
    with pytest.raises(BodyTooLarge):
        unpack(packed * 2, b"gzip", 1999)
    assert len(unpack(packed * 2, b"gzip", 2000)) == 2000


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(bytes(25_000_000))
    assert len(bomb) < 30_000
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            unpack(bomb, b"gzip", LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    finally:
        tracemalloc.stop()


@anything
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_packed_is_unpacked(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert unpack(b"".join(map(pack, parts)), b"gzip", len(whole)) == whole
    assert gzip.decompress(pack(whole)) == whole
    assert pack(whole) == pack(whole)


@anything
@given(st.binary(max_size=200), st.integers(0, len(PACKED)), st.integers(0, 40), st.sampled_from([b"", PACKED]))
def test_any_bytes_are_unpacked_or_refused(noise: bytes, at: int, width: int, prefix: bytes) -> None:
    for body in (noise, PACKED[:at] + noise + PACKED[at + width :], prefix + noise):
        with contextlib.suppress(BadRequest, BodyTooLarge):
            assert len(unpack(body, b"gzip", 10_000)) <= 10_000


def test_packing_a_large_answer_makes_it_smaller() -> None:
    answer = b'{"item_id": "dumpling-07", "score": 2.625},' * 40
    assert len(answer) > MIN_GZIP_BYTES
    assert len(pack(answer)) < len(answer) / 4
    assert pack(answer)[4:8] == bytes(4)  # no time of day


@pytest.mark.parametrize("window", [15, -15])
def test_deflate_is_unpacked_in_zlibs_form_and_bare(window: int) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    packed = packer.compress(b"some text " * 5000) + packer.flush()
    assert unpack(packed, b"Deflate", 50_000) == b"some text " * 5000
    with pytest.raises(BodyTooLarge):
        unpack(packed, b"deflate", 49_999)
    with pytest.raises(BadRequest, match="goes on with something else after"):
        unpack(packed + b"x", b"deflate", LIMIT)
    for bad, message in (
        (b"", "the body is not deflate"),
        (packed[:-1], "ends too early"),
        (b"{", "ends too early|dam"),
    ):
        with pytest.raises(BadRequest, match=message):
            unpack(bad, b"deflate", LIMIT)
