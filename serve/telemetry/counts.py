"""What the requests came to: counted by every worker for itself, summed by the supervisor.

A worker writes its totals into one file, whole, about once a second. It holds the lock of a second file as long as it
lives, so a worker that is gone is told from one that is idle, whatever process has its pid by now. The counts of a
worker that is gone are added to the supervisor's own and its files are deleted: counters never go down, and nothing
grows with the number of workers there ever were.
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

# What a request can ask for; "none" where that was never found out.
KINDS = ("recommend", "score", "kserve", "binary", "generate", "lines", "none")
# Upper bounds in seconds: an answer within a millisecond, and one that waited for a minute, can both be told apart.
BUCKETS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
# In the folder that the supervisor and its workers share.
TALLY_FOLDER = "tally"
MAX_MODELS = 1000
OTHER = "(other)"  # the models beyond; no model can have this name

# How many took as long as each of BUCKETS says, then how many longer, then the seconds of all together.
Record = list[float]


@dataclass
class Totals:
    """Counts since the start: requests by model, kind and status; requests in flight and requests shed by model."""

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
    """One worker's counts, for its event loop alone: no locks, and a few dictionary look-ups for a request."""

    def __init__(self, folder: Path | None) -> None:
        """Without a folder, what is counted stays here."""
        self.totals = Totals()
        self._requests, self._in_flight, self._shed = self.totals.requests, self.totals.in_flight, self.totals.shed
        self._file: Path | None = None
        self._written = b""
        self._may_complain = True
        if folder is not None:
            name = f"{os.getpid()}-{time.time_ns():x}"
            self._file = folder / f"{name}.json"
            new = folder / f"{name}.new"
            self._held = new.open("wb")
            # Locked before it can be found: whoever finds it unlocked may take this worker for dead.
            fcntl.flock(self._held, fcntl.LOCK_EX)
            new.replace(folder / f"{name}.lock")

    def begin(self, model: str) -> None:
        """A request to a model is in flight until `done`; one request may be in flight to several."""
        try:
            self._in_flight[model] += 1
        except KeyError:
            self._in_flight[self._bounded(model)] += 1

    def done(self, model: str) -> None:
        self._in_flight[self._bounded(model)] -= 1

    def end(self, model: str, kind: str, status: int, seconds: float) -> None:
        """A request has its answer, or nobody who waits for one; its model is "" where none was found."""
        record = self._requests.get((model, kind, status))
        if record is None:
            key = self._bounded(model), kind if kind in KINDS else "none", status
            record = self._requests.setdefault(key, [0] * (len(BUCKETS) + 1) + [0.0])
        record[bisect_left(BUCKETS, seconds)] += 1
        record[-1] += seconds

    def shed(self, model: str) -> None:
        """A request was turned away because there were too many."""
        model = self._bounded(model)
        self._shed[model] = self._shed.get(model, 0) + 1

    def _bounded(self, model: str) -> str:
        """The name to count under. It is one of `in_flight`, which has every name there is."""
        if model not in self._in_flight:
            if len(self._in_flight) >= MAX_MODELS:
                model = OTHER
            self._in_flight.setdefault(model, 0)
        return model

    def flush(self) -> None:
        """Write the totals if they are others than last time."""
        if self._file is None or (text := self.totals.to_json()) == self._written:
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
        """The worker ends: its counts stay, what it has in flight does not."""
        self.flush()
        if self._file is not None:
            self._held.close()


class TallyFolder:
    """The supervisor's view of the folder; for any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gone = Totals()
        self._lock = threading.Lock()

    def read(self) -> Totals:
        """The totals of all workers there are and were. Raises OSError or ValueError rather than count too little."""
        with self._lock:
            living: list[Totals] = []
            for lock in self._folder.glob("*.lock"):
                gone = _is_free(lock)  # before its counts are read: those of a worker that is gone are its last
                counts = lock.with_suffix(".json")
                totals = Totals.from_json(counts.read_bytes()) if counts.exists() else Totals()
                if not gone:
                    totals.workers = 1
                    living.append(totals)
                    continue
                totals.in_flight = {}
                lock.unlink()  # first: what cannot be deleted must not be added again next time
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
