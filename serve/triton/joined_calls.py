"""Calls to models with INT64 inputs; small ones that are ready at the same time go to Triton as one.

A call costs the worker and Triton about as much for one row as for a hundred, and rows in one batch do not affect each
other. No call waits for a timer: if few are under way it goes at once, and else with all others that have come when one
of those is answered.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from serve.errors import Overloaded, ServeError, Unavailable, VersionGone
from serve.triton.failures import failure, is_gone
from serve.triton.pool import TritonPool
from serve.triton.tensors import decode_outputs, encode_int64, join_rows, split_rows

# While so many calls to one target are under way, others wait and are joined. There are half as many workers as cores
# (SERVE_WORKERS), so that all workers together can keep a model on every core busy.
MOST_UNDER_WAY = 2
# A call with more rows goes alone: its rows cost more than the call.
SMALL_ROWS = 256
# The answer to all calls that were joined if one of these is the answer to the call for all.
FOR_ALL = (VersionGone, Overloaded, Unavailable)

Columns = Mapping[str, "array[int]"]
Outputs = Mapping[str, "array[Any]"]


class Target(NamedTuple):
    """What a call goes to: one version of a model, with rows of one shape, at most `max_rows` in a call."""

    model_name: str
    version: str
    shape: tuple[int, ...]
    max_rows: int


class Rows(NamedTuple):
    """The rows of one caller, and where the outputs go."""

    number: int
    columns: Columns
    outputs: asyncio.Future[Outputs]


class _Queue:
    """The calls to one target: how many are under way, and those that wait, of which there are some only if as many
    are under way as may be."""

    __slots__ = ("loop", "under_way", "waiting")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()  # asking for it costs a system call
        self.under_way = 0
        self.waiting: list[Rows] = []


class JoinedCalls:
    """Calls of one worker; for one event loop."""

    def __init__(self, pool: TritonPool, multi_model: bool) -> None:
        self._pool = pool
        self._multi_model = multi_model
        self._queues: dict[Target, _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def joined(self, target: Target, number: int, columns: Columns, extra: bytes) -> Outputs:
        """The outputs for `number` rows, `columns` being the inputs by name, flat. Raises ServeError.

        A call with `extra` lines for the head of the request, such as a trace, goes alone.
        """
        if extra or number > min(SMALL_ROWS, target.max_rows):
            return await self.alone(target, number, columns, extra)
        queue = self._queues.get(target)
        if queue is None:
            queue = self._queues[target] = _Queue()
        if queue.under_way >= MOST_UNDER_WAY:
            rows = Rows(number, columns, queue.loop.create_future())
            queue.waiting.append(rows)
            return await rows.outputs
        queue.under_way += 1
        try:
            return await self.alone(target, number, columns, b"")
        finally:
            queue.under_way -= 1
            if queue.waiting:
                queue.under_way += 1
                task = queue.loop.create_task(self._run(target, queue))
                self._tasks.add(task)  # the event loop itself does not keep a task
                task.add_done_callback(self._tasks.discard)
            elif not queue.under_way:
                del self._queues[target]

    async def _run(self, target: Target, queue: _Queue) -> None:
        """Call for what waits, until nothing does."""
        try:
            while rows := _take(queue.waiting, target.max_rows):
                await self._answer(target, rows)
        finally:
            queue.under_way -= 1
            if not queue.under_way:
                del self._queues[target]

    async def _answer(self, target: Target, rows: list[Rows]) -> None:
        """Give each caller its outputs or its error; if the call for all fails, each is called for alone."""
        outputs: Sequence[Outputs]
        try:
            if len(rows) == 1:
                outputs = [await self.alone(target, rows[0].number, rows[0].columns, b"")]
            else:
                number, columns = join_rows([(each.number, each.columns) for each in rows])
                joined = await self.alone(target, number, columns, b"")
                outputs = split_rows(joined, [each.number for each in rows])
        except FOR_ALL as error:
            _fail(rows, error)
        except ServeError as error:
            if len(rows) == 1:
                _fail(rows, error)
            else:
                await asyncio.gather(*(self._answer(target, [each]) for each in rows))
        except BaseException as error:  # the callers must not wait for good
            _fail(rows, error)
            raise
        else:
            for each, found in zip(rows, outputs, strict=True):
                if not each.outputs.done():
                    each.outputs.set_result(found)

    async def alone(self, target: Target, number: int, columns: Columns, extra: bytes) -> Outputs:
        """As `joined`, in a call of its own."""
        path = f"/v2/models/{target.model_name}/versions/{target.version}/infer"
        request = encode_int64(number, target.shape, columns)
        answer = await self._pool.request(b"POST", path, request.body, request.header_length, extra)
        if answer.status != 200:
            gone = await is_gone(self._pool, path, answer)
            raise failure(target.model_name, answer, self._multi_model, gone)
        return decode_outputs(answer.body, answer.header_length)


def _take(waiting: list[Rows], max_rows: int) -> list[Rows]:
    """Remove as many as fit into one call, in order; those whose caller has gone are dropped."""
    taken: list[Rows] = []
    room = max_rows
    used = 0
    for each in waiting:
        if not each.outputs.done():
            if each.number > room:
                break
            room -= each.number
            taken.append(each)
        used += 1
    del waiting[:used]
    return taken


def _fail(rows: list[Rows], error: BaseException) -> None:
    for each in rows:
        if not each.outputs.done():
            if isinstance(error, Exception):
                each.outputs.set_exception(error)
            else:
                each.outputs.cancel()
