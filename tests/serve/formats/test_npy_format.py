from __future__ import annotations

import contextlib
import io
import tracemalloc
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import BadRequest, NotAcceptable
from serve.formats.npy_format import decode_npy, encode_npy

pytestmark = pytest.mark.core

anything = settings(deadline=None, database=None)
WHOLE = ["<i1", "<u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", ">i8", "<u8", ">u8"]
scores = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)
# NumPy takes NULs at the end of a text for the end of it.
texts = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=6)


def npy(values: np.ndarray[Any, Any], version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values, version)
    return file.getvalue()


def with_header(text: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    length = len(text.encode()).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + text.encode() + data


def header(descr: object = "<i8", fortran: object = False, shape: object = (1, 2)) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}}}"


def read(body: bytes) -> np.ndarray[Any, Any]:
    loaded: np.ndarray[Any, Any] = np.load(io.BytesIO(body), allow_pickle=False)
    return loaded


def refusal(body: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        decode_npy(body, 1)
    message = str(caught.value)
    assert len(message) < 250
    assert "\n" not in message
    return message


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", WHOLE)
def test_pairs_of_indices_are_read(dtype: str, order: Any, version: tuple[int, int]) -> None:
    values = np.array([[1, 2], [3, 4], [127, 0]], dtype=dtype, order=order)
    (parsed,), many = decode_npy(npy(values, version), 1)
    assert not many
    assert parsed.model is None
    assert parsed.request == (array("q", [1, 3, 127]), array("q", [2, 4, 0]))
    assert all(type(column) is array for column in parsed.request)


def test_numbers_beyond_int64_are_unknown_and_negative_ones_stay() -> None:
    (parsed,), _ = decode_npy(npy(np.array([[2**63, 2**64 - 1], [2**63 - 1, 7]], dtype="<u8")), 1)
    assert parsed.request == (array("q", [-1, 2**63 - 1]), array("q", [-1, 7]))
    (parsed,), _ = decode_npy(npy(np.array([[-5, -128]], dtype="<i1")), 1)
    assert parsed.request == (array("q", [-5]), array("q", [-128]))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is no NPY file; send what numpy.save writes"),
        (b"PK\3\4", "the body is no NPY file"),
        (b"\x93NUMPY", "the NPY version is '()'"),
        (b"\x93NUMPY\4\0", "the NPY version is '(4, 0)'; 1.0, 2.0 and 3.0 can be read"),
        (b"\x93NUMPY\1\0\xff\xff{", "the NPY header has 65,535 bytes"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{", "the NPY header has 4,294,967,295 bytes; it must be all there and at most"),
        (with_header(header() + " " * 1000), "the NPY header has"),
        (with_header(""), "the NPY header cannot be read"),
        (with_header("{'descr': "), "cannot be read"),
        (with_header("(" * 900), "cannot be read"),
        (with_header("-" * 900 + "1"), "cannot be read"),
        (with_header("[" * 150 + "]" * 150), "cannot be read"),
        (with_header("'\\d\\xz'"), "cannot be read"),
        (with_header("__import__('os').getcwd()"), "cannot be read"),
        (with_header(header()[:-1] + ", 'more': 1}"), "cannot be read"),
        (with_header(header(descr="<q9")), "cannot be read"),
        (with_header(header(descr=7)), "cannot be read"),
        (with_header(header(descr=("<i8", (10**15,)))), "cannot be read"),
        (with_header(header(fortran=1)), "cannot be read"),
        (with_header(header(shape=[1, 2])), "cannot be read"),
        (with_header(header(shape=(1.0, 2))), "cannot be read"),
        (with_header("\xff" * 9, version=b"\3\0"), "cannot be read"),
        (with_header(header(descr="|O"), b"cos\nsystem\n(S'true'\ntR."), "object, which would have to be unpickled"),
        (npy(np.full((2, 2), 0.5)), "the array has a number with a fraction, or one that is none"),
        (npy(np.full((2, 2), np.nan)), "the array has a number with a fraction, or one that is none"),
        (npy(np.zeros((2, 2), complex)), "the array's dtype is 'complex128'; it must be of whole numbers"),
        (npy(np.zeros((2, 2), "?")), "dtype is 'bool'"),
        (npy(np.zeros((2, 2), "<m8[s]")), "dtype is 'timedelta64[s]'"),
        (npy(np.zeros((2, 2), "<U3")), "dtype is '<U3'"),
        (npy(np.zeros(2, [("user", "<i8"), ("item", "<i8")])), "dtype is '[("),
        (npy(np.zeros((0, 2), "<i8")), "the array's shape is '(0, 2)'; it must be (B, 2): user_index, item_index"),
        (npy(np.zeros((2, 3), "<i8")), "shape is '(2, 3)'"),
        (npy(np.zeros((2,), "<i8")), "shape is '(2,)'"),
        (npy(np.zeros((1, 2, 1), "<i8")), "shape is '(1, 2, 1)'"),
        (npy(np.zeros((), "<i8")), "shape is '()'"),
        (with_header(header(shape=(-1, 2))), "shape is '(-1, 2)'"),
        (with_header(header(shape=(10**300, 2))), "the array has 1000000"),
        (with_header(header(shape=(1_000_001, 2))), "the array has 1000001 rows; at most 1,000,000 pairs"),
        (with_header(header(shape=(1_000_000, 2))), "need 16,000,000 bytes; after its header are 0"),
        (npy(np.zeros((2, 2), "<i8"))[:-1], "shape (2, 2) and dtype int64 need 32 bytes; after its header are 31"),
        (npy(np.zeros((2, 2), "<i8")) + b"\0", "need 32 bytes; after its header are 33"),
    ],
)  # fmt: skip
def test_what_holds_no_pairs_is_refused(body: bytes, message: str) -> None:
    assert message in refusal(body)


def test_a_claim_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        refusal(b"\x93NUMPY\2\0\xff\xff\xff\xff" + b"{" * 1000)
        refusal(with_header(header(shape=(10**12, 2))))
        refusal(with_header(header(shape=(1_000_000, 2))))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_header_that_python_2_wrote_is_read_without_a_warning() -> None:
    (parsed,), _ = decode_npy(with_header("{'descr': '<i8', 'fortran_order': False, 'shape': (1L, 2L)}", bytes(16)), 1)
    assert parsed.request == (array("q", [0]), array("q", [0]))


VALID = npy(np.array([[1, 2], [3, 4]], dtype="<i4"))


@anything
@given(st.binary(max_size=30), st.integers(0, len(VALID)), st.integers(0, 30))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, width: int) -> None:
    for body in (noise, VALID[:at] + noise + VALID[at + width :], b"\x93NUMPY\1\0" + noise):
        with contextlib.suppress(BadRequest):
            decode_npy(body, 1)


@anything
@given(st.text(max_size=60), st.sampled_from([b"\1\0", b"\2\0", b"\3\0"]))
def test_any_header_is_read_or_refused(text: str, version: bytes) -> None:
    for body in (with_header(text, b"", version), with_header(header(descr=text), bytes(16), version)):
        with contextlib.suppress(BadRequest):
            decode_npy(body, 1)


@anything
@given(st.lists(scores, min_size=1, max_size=5))
def test_scores_are_read_back(values: list[float | None]) -> None:
    loaded = read(encode_npy([{"scores": values}], False))
    assert loaded.dtype == np.float32
    assert [None if np.isnan(value) else value for value in loaded] == values


@anything
@given(
    st.lists(st.lists(st.tuples(texts, scores, texts), max_size=3), min_size=1, max_size=3),
    st.booleans(),
    texts.filter(lambda name: name not in ("item_id", "score")),
)
def test_recommendations_are_read_back(answers: list[list[Any]], many: bool, field: str) -> None:
    answers = answers if many else answers[:1]
    k = max(map(len, answers))
    body = encode_npy(
        [{"recommendations": [{"item_id": i, "score": s, field: t} for i, s, t in r]} for r in answers], many
    )
    loaded = read(body)
    assert loaded.shape == ((len(answers), k) if many else (k,))
    for row, ranked in zip(loaded.reshape(len(answers), k), answers, strict=True):
        found = [(one[0], None if np.isnan(one[1]) else one[1], *list(one)[2:]) for one in row.tolist()]
        padding = ("", None, "") if any(answers) else ("", None)
        assert found == [*map(tuple, ranked), *[padding] * (k - len(ranked))]


def test_whole_numbers_stay_numbers_and_short_rows_are_filled() -> None:
    first = {"recommendations": [{"item_id": 7, "score": 0.5}, {"item_id": -(2**63), "score": None}]}
    second = {"recommendations": [{"item_id": 2**63 - 1}]}
    loaded = read(encode_npy([first, second], True))
    assert loaded.dtype == [("item_id", "<i8"), ("score", "<f4")]
    assert loaded["item_id"].tolist() == [[7, -(2**63)], [2**63 - 1, -1]]
    assert loaded["score"][0, 0] == 0.5
    assert np.isnan(loaded["score"]).tolist() == [[False, True], [True, True]]
    assert read(encode_npy([first], False)).shape == (2,)
    large = read(encode_npy([{"recommendations": [{"item_id": 2**63, "score": 1.0}, {"item_id": 1}]}], False))
    assert large["item_id"].tolist() == ["9223372036854775808", "1"]
    assert read(encode_npy([{"recommendations": []}], False)).shape == (0,)


def test_further_values_are_text() -> None:
    ranked = [{"item_id": "a", "score": 1.0, "name": "Ä", "tags": ["x"]}, {"item_id": "b", "score": 2.0, "größe": 3}]
    loaded = read(encode_npy([{"recommendations": ranked}], False))
    assert loaded.dtype.names == ("item_id", "score", "name", "tags", "größe")
    assert loaded.tolist() == [("a", 1.0, "Ä", '["x"]', ""), ("b", 2.0, "", "", "3")]


RANKED = {"recommendations": [{"item_id": "a", "score": 1.0}]}
FAILED = {"error": {"code": "unknown_model", "message": "no such model"}}


@pytest.mark.parametrize(
    ("answers", "many", "message"),
    [
        ([FAILED], False, r"answer 1 of 1 is an error \(no such model\)"),
        ([RANKED, FAILED], True, "answer 2 of 2 is an error"),
        ([RANKED, {"scores": [1.0]}], True, "answer 2 of 2 is scores"),
        ([{"scores": [1.0]}], True, "answer 1 of 1 is scores"),
        (
            [{"recommendations": [{"item_id": "x" * 1_000_000}] * 20}],
            False,
            "has 80,000,080 bytes, more than 67,108,864",
        ),
    ],
    ids=range(5),
)
def test_answers_that_no_array_holds(answers: list[dict[str, Any]], many: bool, message: str) -> None:
    with pytest.raises(NotAcceptable, match=message) as caught:
        encode_npy(answers, many)
    assert "send Accept: application/json, application/jsonlines or text/csv" in str(caught.value)
