"""Cuts a body of any size with one record a line into slices of requests, as the body arrives.

A slice of JSON Lines or CSV holds whole records and is answered like a small body, so only a few records are in memory.
A line that cannot be read has an error in its place, and every line that goes in has one line in the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from serve.errors import BadRequest, ServeError
from serve.formats import csv_format, registry
from serve.formats.csv_rows import MAX_LINE, Row, RowReader
from serve.formats.json_format import BOM, NO_LINES, Decoded, json_line, too_long
from serve.recommend.asks import DEFAULT_K, MAX_K

# A longer line is not kept in memory: an error takes its place.
MAX_JSON_LINE = 1_048_576
# A pair is a fraction of the work of a request for recommendations, so a slice may have more of them.
PAIRS_PER_REQUEST = 10


class Slice(NamedTuple):
    """Requests for some lines, in order: one a line, or, with `faults`, one for the pairs of all lines.

    `faults` has for each line what is wrong with its pair, or None.
    """

    decoded: Decoded
    faults: list[ServeError | None] | None = None


class LineSlices:
    """Cuts a body of JSON Lines or CSV into slices; where it cuts does not depend on the chunks the body comes in."""

    def __init__(
        self, format: registry.Format, max_requests: int = 500, max_work: int = 50_000, max_bytes: int = 65_536
    ) -> None:
        """The most requests of a slice (or ten times as many pairs), the most work (`recommend.parse.work`) and the
        most bytes; a request that has more alone is a slice of its own."""
        make = _CsvLines if format is registry.CSV else _JsonLines
        self._reader: _CsvLines | _JsonLines = make(max_requests, max_work)
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        # Empty lines that came last: errors if a line follows, nothing at the end of the body.
        self._blank = 0
        self._begun = self._skipping = False
        self._empty = True

    def feed(self, chunk: bytes) -> Iterator[Slice]:
        """The slices that this chunk completes; all of them must be taken before the next chunk.

        Raises BadRequest for a header of CSV that names columns which cannot be asked for.
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
        """The slices of rows, and of the empty lines before them."""
        found = len(rows)
        while rows and self._reader.is_blank(rows[-1][1]):
            rows.pop()
        blank = found - len(rows)
        if rows:
            first = rows[0][0] - self._blank
            self._reader.begin(rows)
            if rows or self._blank:
                self._empty = False
            for start, stop in _parts(self._blank, self._reader.most):
                yield from self._reader.slices([(first + at, self._reader.empty) for at in range(start, stop)])
            self._blank = 0
            for start, stop in _parts(len(rows), self._reader.most):
                yield from self._reader.slices(rows[start:stop])
        self._blank += blank

    def _blocks(self, last: bool) -> Iterator[bytes | None]:
        """Whole lines. None stands for a line that is too long; the rest of that line is skipped as it comes."""
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

    def begin(self, rows: list[tuple[int, Any]]) -> None:
        """JSON Lines have no header."""

    def slices(self, rows: Sequence[tuple[int, Any]]) -> Iterator[Slice]:
        documents = (line if isinstance(line, ServeError) else json_line(line, number) for number, line in rows)
        return _by_work(documents, self._max_work)

    def nothing(self) -> str:
        return NO_LINES


class _CsvLines:
    max_line = MAX_LINE
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

    def is_blank(self, row: Sequence[str] | ServeError) -> bool:
        return not isinstance(row, ServeError) and not row

    def begin(self, rows: list[Row]) -> None:
        """Take the columns from the first row that shows them, and remove that row from `rows` if it is a header."""
        if self._columns:
            return
        for at, (number, row) in enumerate(rows):
            if isinstance(row, ServeError) or not row:
                continue
            shown = csv_format.columns_of(row)
            if shown is None:
                rows[at] = (number, csv_format.row_fault(number, row, ()))
                continue
            self._columns, is_header = shown
            self._pairs = {"user_id", "item_id"} <= set(self._columns)
            if self._pairs:
                self.most = max(1, min(self.most * PAIRS_PER_REQUEST, self._max_work // 2))
            if is_header:
                del rows[at]
            return

    def slices(self, rows: Sequence[Row]) -> Iterator[Slice]:
        if self._pairs:
            return iter((self._pairs_of(rows),))
        requests = (
            row if isinstance(row, ServeError) else csv_format.csv_request(at, row, self._columns) for at, row in rows
        )
        return _by_work(requests, self._max_work)

    def nothing(self) -> str:
        return csv_format.HEADER_ONLY if self._columns else csv_format.EMPTY

    def _pairs_of(self, rows: Sequence[Row]) -> Slice:
        """One request for the pairs of all rows.

        If the first such request fails, `Recommenders.answer` raises the failure, which is the status of the whole
        answer; after that, lines are answered already, and the failure stands in every line of its slice.
        """
        faults = [csv_format.pair_fault(number, row, self._columns) for number, row in rows]
        good: list[Any] = [row for (_, row), fault in zip(rows, faults, strict=True) if fault is None]
        if not good:
            return Slice(Decoded([faults[0]], True), faults)
        answered, self._answered = self._answered, True
        pairs = dict(zip(self._columns, map(list, zip(*good, strict=True)), strict=True))
        return Slice(Decoded([{"pairs": pairs}], answered), faults)


def _parts(length: int, most: int) -> Iterator[tuple[int, int]]:
    """Start and stop of as few parts as possible, of about equal size, with at most `most` each."""
    parts = -(-length // most)
    return ((part * length // parts, (part + 1) * length // parts) for part in range(parts))


def _by_work(requests: Iterable[Any], max_work: int) -> Iterator[Slice]:
    """Slices of at most `max_work`, or of one request that has more."""
    gathered: list[Any] = []
    work = 0
    for request in requests:
        more = _work(request) if type(request) is dict else 1
        if gathered and work + more > max_work:
            yield Slice(Decoded(gathered, True))
            gathered, work = [], 0
        gathered.append(request)
        work += more
    if gathered:
        yield Slice(Decoded(gathered, True))


def _work(request: dict[str, Any]) -> int:
    """An upper bound of `recommend.parse.work` for a request that is not checked yet."""
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
