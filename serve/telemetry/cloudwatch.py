"""Metrics for CloudWatch: on stdout, a line for each model and interval in the embedded metric format.

Latency is written as values with counts, so that CloudWatch's percentiles are right over any number of lines. The
published specification allows only numbers and lists of up to 100 numbers, but CloudWatch reads this form too, and
AWS's own exporter for OpenTelemetry writes it.
"""

from __future__ import annotations

import logging
import os
import threading
import time

import orjson

from serve.telemetry.counts import BUCKETS, INFERENCE, Record, TallyFolder, Totals

log = logging.getLogger("serve")

NAMESPACE = "ncf-triton"
NO_MODEL = "(none)"  # for requests that reached no model: a dimension must have a value, and no model has this name
STDOUT = 1
LAST_SECONDS = 2.0


def emf_lines(before: Totals, after: Totals, now: float) -> list[str]:
    """The lines for the time between two totals: one for each model with requests answered, shed or in flight."""
    lines = []
    for model in sorted({key[0] for key in after.requests} | after.in_flight.keys() | after.shed.keys()):
        requests, errors, latency = _difference(before, after, model)
        shed = after.shed.get(model, 0) - before.shed.get(model, 0)
        in_flight = max(0, after.in_flight.get(model, 0))
        if not (requests or shed or in_flight):
            continue
        values: dict[str, object] = {"Requests": requests, "Errors": errors, "Shed": shed, "InFlight": in_flight}
        metrics = [{"Name": name, "Unit": "Count"} for name in values]
        if requests:
            metrics.append({"Name": "Latency", "Unit": "Milliseconds"})
            values["Latency"] = _histogram(latency)
        directive = {"Namespace": NAMESPACE, "Dimensions": [["model"]], "Metrics": metrics}
        head = {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}
        lines.append(orjson.dumps({"_aws": head, "model": model or NO_MODEL, **values}).decode())
    return lines


def _difference(before: Totals, after: Totals, model: str) -> tuple[int, int, Record]:
    """The model's requests for inference: their number, the number answered with 5xx, and their durations."""
    requests, errors = 0, 0
    latency: Record = [0.0] * (len(BUCKETS) + 2)
    for key, record in after.requests.items():
        if key[0] != model or key[1] not in INFERENCE:
            continue
        earlier = before.requests.get(key)
        difference = [a - b for a, b in zip(record, earlier, strict=True)] if earlier else record
        count = int(sum(difference[:-1]))
        requests += count
        errors += count if key[2] >= 500 else 0
        latency = [a + b for a, b in zip(latency, difference, strict=True)]
    return requests, errors, latency


def _histogram(record: Record) -> dict[str, object]:
    """Durations in milliseconds: the middle of each bucket that is not empty, with its count.

    For requests beyond the last bound the value is that bound.
    """
    bounds = [0.0, *BUCKETS, BUCKETS[-1]]
    found = [(low, high, int(count)) for low, high, count in zip(bounds, bounds[1:], record, strict=False) if count]
    return {
        "Values": [_ms((low + high) / 2) for low, high, _ in found],
        "Counts": [count for _, _, count in found],
        "Min": _ms(found[0][0]),
        "Max": _ms(found[-1][1]),
        "Count": sum(count for _, _, count in found),
        "Sum": _ms(record[-1]),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


class EmfWriter:
    """Writes each interval's lines in its own thread, so that only this thread waits if nobody reads stdout."""

    def __init__(self, tallies: TallyFolder, seconds: float, fd: int = STDOUT) -> None:
        self._tallies, self._seconds, self._fd = tallies, seconds, fd
        self._before = Totals()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="emf", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write the last interval and end; call this when the workers have ended."""
        self._ended.set()
        self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(self._seconds)
            try:
                now = self._tallies.read()
                lines = emf_lines(self._before, now, time.time())
                self._before = now  # must come before the writing: an interval that fails is not written twice
                for line in lines:  # each in one write, because other processes write to the same stdout
                    os.write(self._fd, line.encode() + b"\n")
            except (OSError, ValueError) as error:
                log.error("metrics: the lines for CloudWatch of one interval are lost: %s", error)
