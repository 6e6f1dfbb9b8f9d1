"""Bodies of requests to the small models: well, oddly and wrongly formed."""

from __future__ import annotations

import json
from typing import Any

from tests.support.small_models import LEFT, RIGHT, SHARED, asked, left, one, output, sums, tensor

ONE_TO_SIX, TWELVE = list(range(6)), list(range(12))

# Requests to `sums` by name: those that are answered or refused for what they ask …
SUMS_ASKED = {
    "flat data": left(data=[1, 2, 3]), "nested wrongly": left(data=[[[[1], 2], 3]]),
    "two rows": sums(tensor("LEFT", ONE_TO_SIX, [2, 3]), tensor("RIGHT", [[1, 2, 3], [4, 5, 6]], [2, 3])),
    "most rows": sums(tensor("LEFT", TWELVE, [4, 3]), tensor("RIGHT", TWELVE, [4, 3])),
    "inputs in another order": sums(RIGHT, LEFT),
    "id": sums(id="a1"), "id empty": sums(id=""), "id long": sums(id="x" * 5000), "id é☃": sums(id="é☃\n"),
    "one output": sums(outputs=[{"name": "SUM"}]), "no outputs": sums(outputs=[]),
    "outputs in another order": sums(outputs=[{"name": "DIFFERENCE"}, {"name": "SUM"}]),
    "same output twice": sums(outputs=[{"name": "SUM"}, {"name": "SUM"}]),
    "unknown output": sums(outputs=[{"name": "nope"}]),
    "binary output": sums(outputs=[output(binary_data=True)]), "declined": sums(outputs=[output(binary_data=False)]),
    "mixed outputs": sums(outputs=[output(binary_data=True), {"name": "DIFFERENCE"}]),
    "all outputs binary": sums(parameters={"binary_data_output": True}),
    "parameters": sums(parameters={"a": 1, "b": "x", "c": True}), "double": sums(parameters={"a": 1.5}),
    "parameters of lists": sums(parameters={"a": [1]}), "parameters of null": sums(parameters={"a": None}),
    "priority": sums(parameters={"priority": 1}), "timeout": sums(parameters={"timeout": 10_000_000}),
    "sequence": sums(parameters={"sequence_id": 7, "sequence_start": True}),
    "sequence by name": sums(parameters={"sequence_id": "seven"}),
    "triton_ parameter": sums(parameters={"triton_enable_empty_final_response": True}),
    "input parameters": left(parameters={"a": 1}), "input parameters null": left(parameters=None),
    "input parameters list": left(parameters=[]), "input parameters text": left(parameters="x"),
    "outputs first, input parameters null": b'{"outputs": [],' + left(parameters=None)[1:],
    "model_name": sums(model_name="another"), "model_version": sums(model_version="9"),
    "unknown field": sums(whatever=[1, {"a": None}]), "byte order mark": b"\xef\xbb\xbf" + sums(),
    "space around": b" \n\t" + sums() + b"\r\n ", "pretty": json.dumps(json.loads(sums()), indent=4).encode(),
    "escaped key": sums().replace(b'"inputs"', b'"\\u0069nputs"', 1),
    "numbers beyond INT32": left(data=[2**31, 2, 3]), "least INT32": left(data=[-(2**31), -1, 0]),
    "sum overflows": sums(tensor("LEFT", [2**31 - 1] * 3), tensor("RIGHT", [1, 1, 1])),
    "model raises TritonError": left(data=[666, 2, 3]), "model raises": left(data=[669, 2, 3]),
    "unknown input": left(name="nope"), "three inputs": asked(LEFT, RIGHT, tensor("MORE", [1, 2, 3])),
    "input missing": asked(LEFT), "no inputs": asked(), "one twice": sums(LEFT, LEFT), "name empty": left(name=""),
    "not UTF-8": sums(id="x").replace(b'"x"', b'"\xff"'), "zero byte after it": sums() + b"\x00",
    "datatype wrong": left(datatype="FP32"), "datatype unknown": left(datatype="INT33"),
    "datatype in small letters": left(datatype="int32"), "datatype BYTES": left(datatype="BYTES", data=["a", "b", "c"]),
    "shape wrong": left(shape=[1, 4], data=[1, 2, 3, 4]), "shape without batch": left(shape=[3]),
    "shape too long": left(shape=[1, 1, 3]), "shape zero": left(shape=[0, 3], data=[]),
    "too many rows": sums(tensor("LEFT", [1] * 15, [5, 3]), tensor("RIGHT", [2] * 15, [5, 3])),
    "batches differ": sums(tensor("LEFT", ONE_TO_SIX, [2, 3]), RIGHT), "shared memory": left(parameters=SHARED),
    "binary size without tail": left(parameters={"binary_data_size": 12}), "empty": b"",
}  # fmt: skip

# … those that are JSON of a wrong form …
WRONG: dict[str, list[Any]] = {
    "id": [7, None, []], "outputs": [None, {}, "SUM", [1], [{}], [{"name": 1}]], "parameters": [None, [], "x"],
}  # fmt: skip
WRONG_IN_TENSORS: dict[str, list[Any]] = {
    "name": [1, None], "datatype": [32, None], "shape": [[-1, 3], ["1", 3], None, 3, {}, [1.0, 3], [True, 3], [[3]]],
    "data": [None, "x", 1, {}, [], [1, 2], [1] * 4, [{}] * 3, ["a"] * 3, *([bad, 2, 3] for bad in (1.5, 2**70, True))],
}  # fmt: skip
SUMS_OF_WRONG_FORM = {
    **{f"{name} {value}": sums(**{name: value}) for name, values in WRONG.items() for value in values},
    **{f"{name} {value}": left(**{name: value}) for name, values in WRONG_IN_TENSORS.items() for value in values},
    **{f"inputs {value!r}": b'{"inputs": %s}' % value for value in (b"null", b"{}", b'"x"', b"1")},
    **{f"{name} as text": sums(parameters={name: "x"}) for name in ("priority", "timeout", "binary_data_output")},
    **{f"no {name}": sums({n: v for n, v in LEFT.items() if n != name}) for name in ("name", "shape", "datatype")},
    "inputs missing": b"{}", "key twice": b'{"inputs": 1,' + sums()[1:],
    "binary_data text": sums(outputs=[output(binary_data="x")]), "start 1": sums(parameters={"sequence_start": 1}),
    "nested 300 deep": left(data=json.loads("[" * 300 + "]" * 300)), "numbers as 1.0": left(data=[1.0, 2.0, 3.0]),
    "list": b"[]", "number": b"1", "null": b"null", "word": b'"x"', "true": b"true",
}  # fmt: skip

# Of an output of text it ends the native endpoint.
CLASSES = {str(count): sums(outputs=[output(classification=count)]) for count in (0, 2)}
LISTS = {"list of it": b"[" + sums() + b"]"}
LINES = {"two": sums() + b"\n" + sums() + b"\n", "three": (sums() + b"\n") * 3}

# … and those that are no JSON.
NOT_JSON = {
    "brace": b"{", "half": sums()[:50], "two documents": sums() + sums(), "comma": sums()[:-1] + b",}", "space": b"   ",
    "text": b"hello", "csv": b"1,2,3\n4,5,6\n", "bytes": b"\x00\x01\x02\xff",
    "utf-16": sums().decode().encode("utf-16"), "quoted": b"'" + sums() + b"'", "garbage after": sums() + b"x",
    "control in text": b'{"id": "a\x01", ' + sums()[1:], "comment": b"/* hi */" + sums(),
    "single quotes": sums().replace(b'"', b"'"), "lone surrogate": b'{"id": "\\ud800", ' + sums()[1:],
    "NaN for a whole number": left(data=[float("nan"), 2, 3]),
}  # fmt: skip

ECHO_ASKED = {
    "text": one("TEXT", "BYTES", "a", "", "é☃", "\u0000", 'q"\\'), "no text": one("TEXT", "BYTES"),
    "text short": one("TEXT", "BYTES", "a", shape=[2]), "text long": one("TEXT", "BYTES", "a", "b", shape=[1]),
    "text nested": one("TEXT", "BYTES", ["a"], ["b"]), "STRING": one("TEXT", "STRING", "a"), "no inputs": asked(),
    "text of 100 kB": one("TEXT", "BYTES", "x" * 100_000), "more text": one("TEXT", "BYTES", "a", shape=[1_000_000]),
    "doubles": one("REAL", "FP64", 0.1, -0.0, 1e308, 5e-324, 3, 1e-7), "single beyond": one("SINGLE", "FP32", 1e39),
    "singles": one("SINGLE", "FP32", 0.1, 6.01, 16777217, 1e-45, -0.0), "halves": one("HALF", "FP16", 0.5),
    "truth": one("FLAG", "BOOL", True, False), "UINT64": one("BIG", "UINT64", 0, 2**64 - 1),
    "two": asked(tensor("TEXT", ["a"], [1], "BYTES"), tensor("FLAG", [True], [1], "BOOL")),
    "one twice": asked(*[tensor("FLAG", [True], [1], "BOOL")] * 2), "rank two": one("REAL", "FP64", 1, 2, shape=[1, 2]),
    "binary out": asked(tensor("TEXT", ["a", "bc"], [2], "BYTES"), parameters={"binary_data_output": True}),
    "NaN": one("REAL", "FP64", float("nan")),
    "outputs first, NaN": b'{"outputs": [],' + one("REAL", "FP64", float("nan"))[1:],
    "many numbers": one("REAL", "FP64", *[n / 7 for n in range(10_000)]),
}  # fmt: skip
ECHO_OF_WRONG_FORM = {
    "text of 1": one("TEXT", "BYTES", 1), "text of null": one("TEXT", "BYTES", None),
    "UINT64 of 2**64": one("BIG", "UINT64", 2**64), "UINT64 of -1": one("BIG", "UINT64", -1),
    "truth of 1": one("FLAG", "BOOL", 1), "truth of text": one("FLAG", "BOOL", "true"),
    "double of text": one("REAL", "FP64", "1.5"),
    "1e400": one("REAL", "FP64", 1.5).replace(b"1.5", b"1e400"),
}  # fmt: skip
