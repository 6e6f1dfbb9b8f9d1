"""NPY, NumPy's own format: reads pairs of indices, writes records or scores, and never unpickles anything."""

from __future__ import annotations

import warnings
from array import array
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from serve.errors import BadRequest, NotAcceptable, show
from serve.formats.json_format import Decoded
from serve.formats.tables import all_columns, cell_text
from serve.recommend.asks import Answer
from serve.recommend.parse import Parsed, ScoreRequest

MAGIC = b"\x93NUMPY"
# NumPy's own writer needs 118 bytes for pairs. The header is parsed as a Python literal, so its length is limited.
MAX_HEADER = 1024
# Far beyond any max_batch_size; it bounds the memory of a body of small rows before a model's own limit is known.
MAX_PAIRS = 1_000_000
# Every text of a NumPy array takes as much memory as the longest text.
MAX_ANSWER = 64 << 20
OTHER_FORMATS = "send Accept: application/json, application/jsonlines or text/csv"


def decode_npy(body: bytes, max_requests: int) -> Decoded:
    """An array [B, 2] of whole numbers (or floats without a fraction), user_index and item_index; never unpickles.

    An unsigned number beyond int64 becomes -1, which no user and no item has.
    """
    shape, fortran, dtype, start = _npy_header(body)
    if dtype.hasobject:
        raise BadRequest("the array's dtype is object, which would have to be unpickled; save int64: a.astype('int64')")
    if dtype.kind not in "iuf":
        raise BadRequest(f"the array's dtype is {show(str(dtype))}; it must be of whole numbers, such as int64")
    if len(shape) != 2 or shape[1] != 2 or shape[0] < 1:
        raise BadRequest(f"the array's shape is {show(str(shape))}; it must be (B, 2): user_index, item_index")
    if shape[0] > MAX_PAIRS:
        raise BadRequest(f"the array has {show(shape[0])} rows; at most {MAX_PAIRS:,} pairs are taken at once")
    size, there = shape[0] * 2 * dtype.itemsize, len(body) - start
    if size != there:
        raise BadRequest(
            f"the array's shape {shape} and dtype {dtype} need {size:,} bytes; after its header are {there:,}"
        )
    pairs = np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    with np.errstate(invalid="ignore"):
        indices = pairs.astype(np.int64)
    if dtype.kind == "f" and (indices != pairs).any():
        raise BadRequest("the array has a number with a fraction, or one that is none; indices are whole numbers")
    if dtype.kind == "u":  # what int64 cannot hold has come out below zero
        indices[indices < 0] = -1
    user, item = (array("q", indices[:, column].tobytes()) for column in (0, 1))
    return Decoded([Parsed(ScoreRequest(user, item))], False)


def encode_npy(answers: list[Answer], many: bool) -> bytes:
    """Scores as float32 [B], NaN for a missing score; recommendations as records [k], or [N, k] for several requests.

    A record is item_id (int64 if all are whole numbers, else text), score (float32) and further values as text; short
    rows are filled with an empty id (-1 among whole numbers) and NaN. Raises NotAcceptable for answers no array holds.
    """
    for number, answer in enumerate(answers):
        if "recommendations" not in answer and (many or "scores" not in answer):
            what = f"an error ({answer['error']['message']})" if "error" in answer else "scores"
            raise NotAcceptable(
                f"answer {number + 1} of {len(answers)} is {what}; a NumPy array holds the scores of one request, or "
                f"recommendations alone; {OTHER_FORMATS}"
            )
    if not many and "scores" in answers[0]:
        return _npy_bytes(np.array(answers[0]["scores"], dtype=np.float32))  # None becomes NaN
    table = _records(answers)
    return _npy_bytes(table if many else table[0])


def _npy_header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype, and where the data begin."""
    if not body.startswith(MAGIC):
        raise BadRequest("the body is no NPY file; send what numpy.save writes")
    version = tuple(body[6:8])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise BadRequest(f"the NPY version is {show(str(version))}; 1.0, 2.0 and 3.0 can be read")
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(body[8 : 8 + width], "little")
    start = 8 + width + length
    if length > MAX_HEADER or start > len(body):
        raise BadRequest(f"the NPY header has {length:,} bytes; it must be all there and at most {MAX_HEADER:,}")
    # Version 3.0 differs from 2.0 in the names of fields only, and an array of whole numbers has no fields.
    read = npy.read_array_header_1_0 if width == 2 else npy.read_array_header_2_0
    try:
        with warnings.catch_warnings():  # numpy warns of files that Python 2 wrote, Python of odd literals
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(BytesIO(body[8:start]))  # type: ignore[no-untyped-call]
    except Exception as error:  # the reader evaluates a literal, and may raise almost any exception
        raise BadRequest("the NPY header cannot be read; send what numpy.save writes") from error
    return shape, fortran, dtype, start


def _records(answers: list[Answer]) -> npt.NDArray[np.void]:
    k = max(len(answer["recommendations"]) for answer in answers)
    flat = [one for answer in answers for one in [*answer["recommendations"], *[{}] * k][:k]]
    columns: dict[str, list[Any]] = {}
    kinds: list[tuple[str, str]] = []
    for name in all_columns(answers):
        values = [one.get(name) for one in flat]
        if name == "score":
            columns[name], kind = values, "<f4"
        elif name == "item_id" and _whole_numbers(values):
            columns[name], kind = [-1 if value is None else value for value in values], "<i8"
        else:
            columns[name] = [cell_text(value) for value in values]
            kind = f"<U{max(map(len, columns[name]), default=0) or 1}"
        kinds.append((name, kind))
    dtype = np.dtype(kinds)
    if len(flat) * dtype.itemsize > MAX_ANSWER:
        raise NotAcceptable(
            f"as a NumPy array the answer has {len(flat) * dtype.itemsize:,} bytes, more than {MAX_ANSWER:,}; "
            f"{OTHER_FORMATS}"
        )
    table = np.zeros(len(flat), dtype)
    for name, values in columns.items():
        table[name] = values
    return table.reshape(len(answers), k)


def _whole_numbers(values: list[Any]) -> bool:
    ids = [value for value in values if value is not None]
    return bool(ids) and all(type(value) is int and -(1 << 63) <= value < 1 << 63 for value in ids)


def _npy_bytes(values: npt.NDArray[Any]) -> bytes:
    file = BytesIO()
    ascii_names = all(name.isascii() for name in values.dtype.names or ())
    version = None if ascii_names else (3, 0)
    npy.write_array(file, values, version, allow_pickle=False)  # type: ignore[no-untyped-call]
    return file.getvalue()
