"""Calls that are joined: who waits for whom, and what each gets. The pool is a fake, because a test must decide when
Triton answers and with what."""

from __future__ import annotations

import asyncio
import struct
from array import array
from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson
import pytest

from serve.errors import BadRequest, Overloaded, ServeError, TritonFailed, VersionGone
from serve.triton.joined_calls import SMALL_ROWS, JoinedCalls, Target
from serve.triton.pool import TritonPool, TritonResponse

pytestmark = pytest.mark.core

TARGET = Target("m", "3", (1,), 8)


class Pool:
    """Answers a call with twice its rows when `go` is called, or with 400 if a row is in `bad`."""

    def __init__(self, *bad: int) -> None:
        self.calls: list[list[int]] = []  # the rows of each call
        self.extra: list[bytes] = []
        self.bad = set(bad)
        self.is_gone = False
        self.fault: TritonResponse | Exception | None = None
        self._held: list[asyncio.Future[None]] = []

    async def request(
        self, method: bytes, path: str, body: bytes = b"", header_length: int = 0, extra: bytes = b""
    ) -> TritonResponse:
        if method == b"GET":
            assert path == "/v2/models/m/versions/3/ready"
            return TritonResponse(400 if self.is_gone else 200)
        assert path == "/v2/models/m/versions/3/infer"
        rows = array("q", body[header_length:]).tolist()
        assert orjson.loads(body[:header_length])["inputs"][0]["shape"] == [len(rows), 1]
        self.calls.append(rows)
        self.extra.append(extra)
        held = asyncio.get_running_loop().create_future()
        self._held.append(held)
        await held
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault is not None:
            return self.fault
        if self.bad.intersection(rows):
            return TritonResponse(400, b'{"error":"a bad row"}')
        size = 8 * len(rows)
        header = orjson.dumps(
            {"outputs": [{"name": "y", "datatype": "INT64", "parameters": {"binary_data_size": size}}]}
        )
        doubled = struct.pack(f"<{len(rows)}q", *(2 * row for row in rows))
        return TritonResponse(200, header + doubled, header_length=len(header))

    async def go(self, number: int = 1) -> None:
        """Let the oldest calls end, and everybody who hears of it act."""
        for held in [self._held.pop(0) for _ in range(number)]:
            if not held.done():  # its caller has gone
                held.set_result(None)
        await turns()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


Ask = Callable[..., "asyncio.Task[list[int]]"]


def calls(pool: Pool, test: Callable[[Ask], Awaitable[None]]) -> None:
    """Run a test, which gets a function that asks for some rows; nothing may be left over after it."""

    async def run() -> None:
        made = JoinedCalls(cast(TritonPool, pool), False)

        async def infer(rows: tuple[int, ...], extra: bytes) -> list[int]:
            outputs = await made.joined(TARGET, len(rows), {"x": array("q", rows)}, extra)
            return outputs["y"].tolist()

        def ask(*rows: int, extra: bytes = b"") -> asyncio.Task[list[int]]:
            return asyncio.get_running_loop().create_task(infer(rows, extra))

        await test(ask)
        await turns()
        assert not made._queues
        assert not made._tasks

    asyncio.run(run())


def test_few_calls_go_at_once_and_the_others_together_when_one_is_answered() -> None:
    pool = Pool()

    async def test(ask: Ask) -> None:
        first = [ask(1), ask(2, 3)]
        waiting = [ask(4), ask(5, 6), ask(7)]
        await turns()
        assert pool.calls == [[1], [2, 3]]
        await pool.go()
        assert pool.calls == [[1], [2, 3], [4, 5, 6, 7]]
        await pool.go(2)
        assert [await each for each in first + waiting] == [[2], [4, 6], [8], [10, 12], [14]]

    calls(pool, test)


def test_a_call_has_no_more_rows_than_the_model_takes_and_keeps_the_order() -> None:
    pool = Pool()

    async def test(ask: Ask) -> None:
        asked = [ask(1), ask(2), ask(*range(10, 15)), ask(*range(20, 24)), ask(30)]
        await turns()
        await pool.go()
        assert pool.calls[2:] == [[10, 11, 12, 13, 14]]
        await pool.go()
        assert pool.calls[3:] == [[20, 21, 22, 23, 30]]
        await pool.go(2)
        assert [len(await each) for each in asked] == [1, 1, 5, 4, 1]

    calls(pool, test)


def test_large_calls_and_calls_with_a_trace_go_alone_and_at_once() -> None:
    pool = Pool()
    large = TARGET._replace(max_rows=10_000)

    async def run() -> None:
        made = JoinedCalls(cast(TritonPool, pool), False)

        def infer(rows: int, extra: bytes = b"") -> asyncio.Task[Any]:
            work = made.joined(large, rows, {"x": array("q", [0]) * rows}, extra)
            return asyncio.get_running_loop().create_task(cast(Any, work))

        asked = [infer(1), infer(1), infer(1), infer(SMALL_ROWS + 1), infer(1, b"traceparent: x\r\n")]
        await turns()
        assert [len(rows) for rows in pool.calls] == [1, 1, SMALL_ROWS + 1, 1]
        assert pool.extra == [b"", b"", b"", b"traceparent: x\r\n"]
        await pool.go(4)
        await pool.go()
        await asyncio.gather(*asked)

    asyncio.run(run())


def test_a_call_that_fails_is_made_again_for_each_so_that_only_the_bad_one_fails() -> None:
    pool = Pool(5)

    async def test(ask: Ask) -> None:
        first = [ask(1), ask(2)]
        waiting = [ask(4), ask(5), ask(6)]
        await turns()
        await pool.go()
        assert pool.calls[2:] == [[4, 5, 6]]
        await pool.go(2)
        assert pool.calls[3:] == [[4], [5], [6]]
        await pool.go(3)
        assert [await each for each in (*first, waiting[0], waiting[2])] == [[2], [4], [8], [12]]
        with pytest.raises(BadRequest, match="a bad row"):
            await waiting[1]

    calls(pool, test)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (TritonResponse(404, b'{"error":"Request for unknown model: m"}'), VersionGone),
        (VersionGone("dropped"), VersionGone),
        (TritonResponse(503, b'{"error":"Exceeds maximum queue size"}'), Overloaded),
        (ZeroDivisionError("a bug"), ZeroDivisionError),
    ],
)
def test_what_concerns_all_is_told_to_all_and_tried_no_more(
    fault: TritonResponse | Exception, error: type[Exception]
) -> None:
    pool = Pool()

    async def test(ask: Ask) -> None:
        asked = [ask(1), ask(2), ask(3), ask(4)]
        await turns()
        await pool.go(2)
        pool.fault, pool.is_gone = fault, error is VersionGone
        await pool.go()
        assert pool.calls == [[1], [2], [3, 4]]
        assert [type(each.exception()) for each in asked[2:]] == [error, error]

    calls(pool, test)


def test_a_caller_who_has_gone_is_asked_nothing_and_hurts_nobody() -> None:
    pool = Pool()

    async def test(ask: Ask) -> None:
        asked = [ask(1), ask(2), ask(3), ask(4), ask(5)]
        await turns()
        asked[3].cancel()
        await pool.go()
        assert pool.calls[2:] == [[3, 5]]
        asked[2].cancel()  # its rows are under way
        await pool.go(2)
        assert [await asked[at] for at in (0, 1, 4)] == [[2], [4], [10]]

    calls(pool, test)


def test_the_callers_that_wait_go_on_if_the_one_under_way_is_cancelled_or_fails() -> None:
    pool = Pool()

    async def test(ask: Ask) -> None:
        asked = [ask(1), ask(2), ask(3)]
        await turns()
        asked[0].cancel()
        await turns()
        assert pool.calls[2:] == [[3]]
        pool.fault = TritonResponse(500, b'{"error":"no"}')
        await pool.go(3)
        with pytest.raises(TritonFailed):
            await asked[1]
        with pytest.raises(ServeError):
            await asked[2]

    calls(pool, test)
