"""An open loop: requests are sent at random times that do not depend on the answers.

A client that waits for an answer before it asks again sends a slow server fewer requests, and so hides how long users
would wait. Here a latency counts from the time at which the request was due, even if it was sent later.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Semaphore

from deploy.client import AskError

Ask = Callable[[bytes], object]  # raises AskError
OWN_CODES = ("connection", "timeout")  # of the client itself; all other errors have the status of an answer


@dataclass(frozen=True)
class Share:
    """The part of a step that one process sends: `count` requests within `seconds` after `start`.

    `start` is of time.monotonic(), which all processes of a machine share. `first` is the number of the first request,
    which chooses its body. If `most_waiting` requests wait for an answer, the rest is not sent.
    """

    count: int
    start: float
    seconds: float
    first: int
    most_waiting: int


@dataclass
class Sent:
    """What became of a share; times are in seconds."""

    answered: list[float] = field(default_factory=list)  # latencies
    late: list[float] = field(default_factory=list)  # from the time at which a request was due until it was sent
    errors: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)  # the message of the first error of each kind
    last: float = 0.0  # when the last answer came
    unsent: int = 0


def send(share: Share, bodies: Sequence[bytes], ask: Ask) -> Sent:
    """Send a share with a thread for each request that waits, and wait for all answers."""
    sent = Sent()
    room = Semaphore(share.most_waiting)
    under_way: list[tuple[float, Future[tuple[float, AskError | None]]]] = []

    def one(body: bytes) -> tuple[float, AskError | None]:
        try:
            ask(body)
        except AskError as error:
            return time.monotonic(), error
        finally:
            room.release()
        return time.monotonic(), None

    with ThreadPoolExecutor(share.most_waiting) as threads:
        for number, due in enumerate(due_times(share)):
            time.sleep(max(0.0, due - time.monotonic()))
            if not room.acquire(blocking=False):
                sent.unsent = share.count - number
                break
            sent.late.append(time.monotonic() - due)
            under_way.append((due, threads.submit(one, bodies[(share.first + number) % len(bodies)])))
    for due, future in under_way:
        at, error = future.result()
        if error is None:
            sent.answered.append(at - due)
            sent.last = max(sent.last, at)
        else:
            kind = error.code if error.code in OWN_CODES else str(error.status)
            sent.errors[kind] += 1
            sent.reasons.setdefault(kind, str(error))
    return sent


def due_times(share: Share) -> Iterator[float]:
    """Uniform random times, in order: a Poisson process of which the number of requests is given."""
    drawn = random.Random(share.first)
    yield from sorted(share.start + drawn.uniform(0, share.seconds) for _ in range(share.count))
