"""Counts of requests by model, kind, status and duration: each worker counts its own, the supervisor adds them up.

A worker writes all its totals into one file, about once a second. While it lives it has a lock on a second file, so
the supervisor can tell a dead worker from an idle worker even if another process has got the dead worker's pid. The
supervisor adds the counts of a dead worker to its own and deletes the worker's files: counters never go down, and the
number of files does not grow with the number of workers that have died.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from serve.files import replace

log = logging.getLogger("serve")

# The kinds of request for inference; "none" if a request failed before its kind was known.
INFERENCE = ("recommend", "kserve", "binary", "generate", "lines", "none")
# The kinds of request that change which models there are, by the method of a request for /models.
CHANGES = {"POST": "load", "DELETE": "unload"}
KINDS = (*INFERENCE, *CHANGES.values())
# Upper bounds of durations in seconds, from an answer within half a millisecond to an answer after a minute.
BUCKETS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
# The name of this folder in the folder that the supervisor and its workers share.
TALLY_FOLDER = "tally"
# Further models are counted together, under a name that no model can have.
MAX_MODELS, OTHER = 1000, "(other)"

# The number of requests for each of BUCKETS, the number beyond the last bound, then the sum of all durations.
Record = list[float]


@dataclass
class Totals:
    """Counts since the start: requests by (model, kind, status); by model, requests in flight and requests shed."""

    requests: dict[tuple[str, str, int], Record] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    shed: dict[str, int] = field(default_factory=dict)
    workers: int = 0

    def add(self, other: Totals) -> None:
        for key, record in other.requests.items():
            mine = self.requests.get(key)
            self.requests[key] = [a + b for a, b in zip(mine, record, strict=True)] if mine else list(record)
        for mine_by_model, by_model in ((self.in_flight, other.in_flight), (self.shed, other.shed)):
            for model, count in by_model.items():
                mine_by_model[model] = mine_by_model.get(model, 0) + count
        self.workers += other.workers

    def to_json(self) -> bytes:
        requests = [[*key, record] for key, record in self.requests.items()]
        return orjson.dumps({"requests": requests, "in_flight": self.in_flight, "shed": self.shed})

    @classmethod
    def from_json(cls, text: bytes) -> Totals:
        read = orjson.loads(text)
        requests = {(model, kind, status): record for model, kind, status, record in read["requests"]}
        return cls(requests, read["in_flight"], read["shed"])


class Tally:
    """One worker's counts. Only the event loop may use it, so it needs no locks; a request costs a few look-ups."""

    def __init__(self, folder: Path) -> None:
        self.totals = Totals()
        self._requests, self._in_flight, self._shed = self.totals.requests, self.totals.in_flight, self.totals.shed
        self._written = b""
        self._may_complain = True
        name = f"{os.getpid()}-{time.time_ns():x}"
        self._file = folder / f"{name}.json"
        new = folder / f"{name}.new"
        self._held = new.open("wb")
        # It is locked before it gets its name: the supervisor takes a worker whose file is unlocked for dead.
        fcntl.flock(self._held, fcntl.LOCK_EX)
        new.replace(folder / f"{name}.lock")

    def begin(self, model: str) -> None:
        """A request to a model is in flight until `done`; the same request may be in flight to several models."""
        try:
            self._in_flight[model] += 1
        except KeyError:
            self._in_flight[self._bounded(model)] += 1

    def done(self, model: str) -> None:
        self._in_flight[self._bounded(model)] -= 1

    def end(self, model: str, kind: str, status: int, seconds: float) -> None:
        """A request was answered, or its caller has gone; `model` is "" if the request reached no model."""
        record = self._requests.get((model, kind, status))
        if record is None:
            key = self._bounded(model), kind if kind in KINDS else "none", status
            record = self._requests.setdefault(key, [0] * (len(BUCKETS) + 1) + [0.0])
        record[bisect_left(BUCKETS, seconds)] += 1
        record[-1] += seconds

    def shed(self, model: str) -> None:
        """A request was refused because too many were in flight."""
        model = self._bounded(model)
        self._shed[model] = self._shed.get(model, 0) + 1

    def _bounded(self, model: str) -> str:
        """The name to count under, which is a key of `in_flight` from then on."""
        if model not in self._in_flight:
            if len(self._in_flight) >= MAX_MODELS:
                model = OTHER
            self._in_flight.setdefault(model, 0)
        return model

    def flush(self) -> None:
        """Write the totals if they have changed since the last time."""
        if (text := self.totals.to_json()) == self._written:
            return
        try:
            replace(self._file, text)
        except OSError as error:  # a full disk must not cost an answer
            if self._may_complain:
                log.error("metrics: cannot write %s: %s", self._file, error.strerror)
            self._may_complain = False
            return
        self._written, self._may_complain = text, True

    def close(self) -> None:
        """Write the totals and release the lock, because the worker ends."""
        self.flush()
        self._held.close()


class TallyFolder:
    """The counts of all workers, read by the supervisor; safe to use from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gone = Totals()  # of workers that have died
        self._lock = threading.Lock()

    def read(self) -> Totals:
        """The totals of all workers, living and dead. Raises OSError or ValueError if a file cannot be read: an error
        is better than counters that go down."""
        with self._lock:
            living: list[Totals] = []
            for lock in self._folder.glob("*.lock"):
                gone = _is_free(lock)  # must come before the counts are read: then a dead worker's are its last counts
                counts = lock.with_suffix(".json")
                totals = Totals.from_json(counts.read_bytes()) if counts.exists() else Totals()
                if not gone:
                    totals.workers = 1
                    living.append(totals)
                    continue
                totals.in_flight = {}
                lock.unlink()  # must come first: if it cannot be deleted, the counts must not be added here again
                self._gone.add(totals)
                for rest in (counts, lock.with_suffix(".new")):
                    rest.unlink(missing_ok=True)
            total = Totals()
            for totals in (self._gone, *living):
                total.add(totals)
            return total


def _is_free(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
