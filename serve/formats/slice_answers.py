"""Writes the answers to the slices of a body with a record a line, as one answer in its format."""

from __future__ import annotations

import orjson

from serve.errors import NotAcceptable, ServeError
from serve.formats import csv_format, registry
from serve.formats.slices import Slice
from serve.formats.tables import all_columns
from serve.recommend.asks import Answer

JSON_LINES_TYPE = registry.JSON_LINES.content_types[0]


class SliceAnswers:
    """Writes the answers to slices; together they are one answer in its format, with an answer for every line."""

    def __init__(self, format: registry.Format) -> None:
        """`format` is one of FORMATS_FOR_LINES."""
        self._format = format
        self._columns: tuple[str, ...] = ()
        self._written = False

    def write(self, part: Slice, answers: list[Answer]) -> bytes:
        """The answers to a slice, as `Recommenders.answer` gives them."""
        if part.faults is not None:
            if self._format is registry.CSV and "scores" in answers[0] and not any(part.faults):
                return csv_format.encode_csv(answers, False)
            answers = _one_a_line(part.faults, answers[0])
        if self._format is registry.CSV:
            return self._csv(answers)
        if self._format is registry.JSON_LINES:
            return self._format.encode(answers, True)
        begin, self._written = b"," if self._written else b'{"responses":[', True
        return begin + b",".join(map(orjson.dumps, answers))

    def end(self) -> bytes:
        """The bytes that follow the last slice."""
        return b"]}" if self._format is registry.JSON else b""

    def _csv(self, answers: list[Answer]) -> bytes:
        """Lines of CSV; the first slice with recommendations decides the columns of all lines after it."""
        if not self._columns and any(answer.get("recommendations") for answer in answers):
            self._columns = tuple(all_columns(answers))
        return csv_format.encode_csv([self._fitting(answer) for answer in answers], True, self._columns)

    def _fitting(self, answer: Answer) -> Answer:
        """The answer, or an error if it does not fit into CSV."""
        if "error" in answer or "scores" in answer:
            return answer
        why = f"the columns of this CSV are {', '.join(self._columns)}, as in its first lines"
        if "recommendations" not in answer:
            why = "an answer of Triton's has no form in CSV"
        elif all(one.keys() <= set(self._columns) for one in answer["recommendations"]):
            return answer
        return {"error": {"code": NotAcceptable.code, "message": f"{why}; ask for {JSON_LINES_TYPE}"}}


def _one_a_line(faults: list[ServeError | None], answer: Answer) -> list[Answer]:
    """The answer to the pairs of many lines, as if every line had been a request with one pair."""
    request_id = {"request_id": answer["request_id"]} if "request_id" in answer else {}
    scores = enumerate(answer.get("scores", ()))
    unknown = {each["row"]: [{**each, "row": 0}] for each in answer.get("unknown", ())}
    same = {name: value for name, value in answer.items() if name != "unknown"}
    answers: list[Answer] = []
    for fault in faults:
        if fault is not None:
            answers.append({"error": {"code": fault.code, "message": str(fault)}, **request_id})
        elif "error" in answer:
            answers.append(answer)
        else:
            row, score = next(scores)
            answers.append({**same, "scores": [score], **({"unknown": unknown[row]} if row in unknown else {})})
    return answers
