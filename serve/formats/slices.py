"""Bodies of any size, one record a line: cut into slices as they arrive, and the answers to slices joined again.

A slice of JSON Lines or CSV holds whole records and is answered like a small body; only a few of them are in memory.
What cannot be read costs its own line, and one line comes out for every line that goes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from serve.errors import BadRequest, NotAcceptable, ServeError
from serve.formats import csv_format, registry
from serve.formats.csv_format import Row, RowReader, csv_request
from serve.formats.json_format import BOM, NO_LINES, Answer, Decoded, json_line, too_long
from serve.recommend.asks import DEFAULT_K, MAX_ID_CHARACTERS

# A longer line is not collected: an error takes its place.
MAX_JSON_LINE = 1_048_576
# A pair is a fraction of the work of a request for recommendations, so there is room for more of them.
PAIRS_PER_REQUEST = 10
JSON_LINES_TYPE = registry.JSON_LINES.content_types[0]
MAX_K = 10_000  # what `requests.work` counts at most


class Slice(NamedTuple):
    """Requests for some lines, in order: one a line, or, with `faults`, one for the pairs of all of them.

    `faults` has for each line what is wrong with its pair, or None.
    """

    decoded: Decoded
    faults: list[ServeError | None] | None = None


class LineSlices:
    """Cuts a body of JSON Lines or CSV into slices; where it cuts does not depend on the chunks the body comes in."""

    def __init__(
        self, format: registry.Format, max_requests: int = 500, max_work: int = 50_000, max_bytes: int = 65_536
    ) -> None:
        """A slice has at most so many requests (of pairs ten times as many), so much work (`requests.work`), and so
        many bytes; a request that has more alone is a slice of its own."""
        make = _CsvLines if format is registry.CSV else _JsonLines
        self._reader: _CsvLines | _JsonLines = make(max_requests, max_work)
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._blank = 0  # empty lines that came last: errors if anything follows, nothing at the end of the body
        self._begun = self._skipping = False
        self._empty = True

    def feed(self, chunk: bytes) -> Iterator[Slice]:
        """The slices that this chunk completes; all of them must be taken before the next chunk.

        Raises BadRequest for what is no table at all, before the first slice and never after it.
        """
        for start in range(0, len(chunk), self._max_bytes):
            self._buffer += memoryview(chunk)[start : start + self._max_bytes]
            yield from self._slices(False)

    def end(self) -> Iterator[Slice]:
        """The slices that are left when the body is whole. Raises BadRequest like `feed`, and for an empty body."""
        yield from self._slices(True)
        yield from self._take(self._reader.rows(b"", True))
        if self._empty:
            raise BadRequest(self._reader.nothing())

    def _slices(self, last: bool) -> Iterator[Slice]:
        for block in self._blocks(last):
            yield from self._take(self._reader.rows(block, last and not self._buffer))

    def _take(self, rows: list[tuple[int, Any]]) -> Iterator[Slice]:
        found = len(rows)
        while rows and self._reader.is_blank(rows[-1][1]):
            rows.pop()
        blank = found - len(rows)
        if rows and self._reader.begin(rows, self._blank):
            self._empty = False
            most, empty, first = self._reader.most, self._reader.empty, rows[0][0] - self._blank
            for start, stop in _parts(self._blank, most):
                yield from self._reader.slices([(first + at, empty) for at in range(start, stop)])
            self._blank = 0
            for start, stop in _parts(len(rows), most):
                yield from self._reader.slices(rows[start:stop])
        self._blank += blank

    def _blocks(self, last: bool) -> Iterator[bytes | None]:
        """Whole lines; None stands for one that is too long, and what is still to come of it is passed over."""
        buffer, size = self._buffer, self._max_bytes
        while buffer and (last or len(buffer) >= size):
            if self._skipping:
                end = buffer.find(b"\n") + 1
                self._skipping = not end
                del buffer[: end or len(buffer)]
                continue
            end = buffer.rfind(b"\n", 0, size) + 1 or buffer.find(b"\n", size) + 1
            if (end - 1 if end else len(buffer)) > self._reader.max_line:
                self._begun = self._skipping = True
                yield None
                continue
            if last and (not end or len(buffer) <= size):
                end = len(buffer)
            if not end:
                return
            block = bytes(memoryview(buffer)[:end])
            del buffer[:end]
            yield block if self._begun else block.removeprefix(BOM)
            self._begun = True


class _JsonLines:
    max_line = MAX_JSON_LINE
    empty: Any = b""

    def __init__(self, max_requests: int, max_work: int) -> None:
        self.most = max_requests
        self._max_work = max_work
        self._line = 1  # the number of the next line

    def rows(self, block: bytes | None, last: bool) -> list[tuple[int, Any]]:
        if block == b"":
            return []
        lines: list[Any] = block.removesuffix(b"\n").split(b"\n") if block else [too_long(self._line, self.max_line)]
        first, self._line = self._line, self._line + len(lines)
        return list(enumerate(lines, first))

    def is_blank(self, line: bytes | ServeError) -> bool:
        return not isinstance(line, ServeError) and (not line or line.isspace())

    def begin(self, rows: list[tuple[int, Any]], blank: int) -> bool:
        return True

    def slices(self, rows: list[tuple[int, Any]]) -> Iterator[Slice]:
        documents = (line if isinstance(line, ServeError) else json_line(line, number) for number, line in rows)
        return _by_work(documents, self._max_work)

    def nothing(self) -> str:
        return NO_LINES


class _CsvLines:
    max_line = csv_format.MAX_LINE
    empty: Any = ()

    def __init__(self, max_requests: int, max_work: int) -> None:
        self.most = max_requests
        self._max_work = max_work
        self._reader = RowReader()
        self._columns: tuple[str, ...] = ()
        self._pairs = False
        self._answered = False

    def rows(self, block: bytes | None, last: bool) -> list[Row]:
        return self._reader.read(block, last)

    def is_blank(self, row: list[str] | ServeError) -> bool:
        return not row

    def begin(self, rows: list[Row], blank: int) -> bool:
        """Take the columns from the first row of all; whether rows are left then."""
        if not self._columns:
            first = [] if blank else rows[0][1]
            assert isinstance(first, list)  # as long as the reader is strict, it returns no errors
            self._columns, is_header = csv_format.columns_of(first)
            self._pairs = {"user_id", "item_id"} <= set(self._columns)
            if self._pairs:
                self.most = max(1, min(self.most * PAIRS_PER_REQUEST, self._max_work // 2))
            del rows[:is_header]
        self._reader.strict = False
        return bool(rows)

    def slices(self, rows: list[Row]) -> Iterator[Slice]:
        if self._pairs:
            return iter((self._pairs_of(rows),))
        requests = (row if isinstance(row, ServeError) else csv_request(at, row, self._columns) for at, row in rows)
        return _by_work(requests, self._max_work)

    def nothing(self) -> str:
        return csv_format.HEADER_ONLY if self._columns else csv_format.EMPTY

    def _pairs_of(self, rows: list[Row]) -> Slice:
        """Of the first slice a failure of all is raised by `Recommenders.answer`, of others it stands in every line."""
        answered, self._answered = self._answered, True
        faults = [_pair_fault(number, row, self._columns) for number, row in rows]
        good: list[Any] = [row for (_, row), fault in zip(rows, faults, strict=True) if fault is None]
        if not good:
            return Slice(Decoded([faults[0]], True), faults)
        pairs = dict(zip(self._columns, map(list, zip(*good, strict=True)), strict=True))
        return Slice(Decoded([{"pairs": pairs}], answered), faults)


class SliceAnswers:
    """Writes the answers to slices; all that it writes is together one answer in its format, a line for every line."""

    def __init__(self, format: registry.Format) -> None:
        """Raises NotAcceptable for a format that has no room for many answers."""
        if format not in (registry.JSON, registry.JSON_LINES, registry.CSV):
            raise NotAcceptable(f"{format.name} has no room for answers to many lines; ask for {JSON_LINES_TYPE}")
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
        """What comes after the last slice."""
        return b"]}" if self._format is registry.JSON else b""

    def _csv(self, answers: list[Answer]) -> bytes:
        """The columns are those of the first slice with recommendations, so that every line has the same ones."""
        if not self._columns and any(answer.get("recommendations") for answer in answers):
            self._columns = tuple(csv_format.all_columns(answers))
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


def _parts(length: int, most: int) -> Iterator[tuple[int, int]]:
    """Start and stop of as few parts as hold no more than `most` each, all of about one size."""
    parts = -(-length // most)
    return ((part * length // parts, (part + 1) * length // parts) for part in range(parts))


def _by_work(requests: Iterable[Any], max_work: int) -> Iterator[Slice]:
    held: list[Any] = []
    work = 0
    for request in requests:
        more = _work(request) if type(request) is dict else 1
        if held and work + more > max_work:
            yield Slice(Decoded(held, True))
            held, work = [], 0
        held.append(request)
        work += more
    if held:
        yield Slice(Decoded(held, True))


def _work(request: dict[str, Any]) -> int:
    """No less than `requests.work` will find in a request that is not checked yet."""
    ids = 0
    for value in request.values():
        if type(value) is list:
            ids += len(value)
        elif type(value) is dict:  # pairs as two columns
            ids += sum([len(each) for each in value.values() if type(each) is list])
    k, columns = request.get("k", DEFAULT_K), request.get("with")
    k = min(k, MAX_K) if type(k) is int and k > 0 else DEFAULT_K
    width = 1 + (len(columns) if type(columns) is list else 0)
    return 1 + (2 * ids + k) * width


def _pair_fault(number: int, row: list[str] | ServeError, columns: tuple[str, ...]) -> ServeError | None:
    if isinstance(row, ServeError):
        return row
    if len(row) != 2 or not row[0] or not row[1]:
        return csv_format.row_fault(number, row, columns)
    if len(row[0]) > MAX_ID_CHARACTERS or len(row[1]) > MAX_ID_CHARACTERS:
        column = columns[len(row[0]) <= MAX_ID_CHARACTERS]
        return BadRequest(f"line {number}: {column} has more than {MAX_ID_CHARACTERS:,} characters; no id has more")
    return None
