"""Benchmark of the whole `serve`: what it adds to Triton, where the time goes, and pairs beside TorchServe."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.peers.torchserve import torchserve
from benchmarks.ranking.catalogue import ITEMS, USERS
from benchmarks.rig.closed_loop import Load, load, post
from benchmarks.rig.rig import Bench, Recommender, Report, random_recommender, serving, share, spread
from ncf.export.export import MAX_BATCH_SIZE, MAX_BATCH_SIZE_QUERY, MAX_BATCH_SIZE_TOPK
from serve.formats import registry as codec
from serve.models.repository import Recommender as Opened
from serve.models.served import Served, ServedFile
from serve.recommend.parse import parse_request
from serve.recommend.plan import plan
from serve.settings import Settings
from serve.supervisor.ports import LOOPBACK
from serve.triton import tensors
from serve.triton.address import TritonAddress
from serve.triton.pool import TritonPool, TritonResponse
from serve.worker.invocations import DataPlane

REQUESTS = 2_048
# Java compiles while it runs: load each server for so many points before the clock counts.
WARM_UP = 5
Target = tuple[int, list[bytes]]


def whole_serve(bench: Bench) -> list[Report]:
    """Section C."""
    recommender = random_recommender(bench, "gmf", 64, USERS, ITEMS)
    users = [random.randrange(recommender.num_users) for _ in range(REQUESTS)]
    asked = [post("/invocations", orjson.dumps({"user_id": raw(recommender, user), "k": 10})) for user in users]
    rows = [tensors.encode_int64(1, (1,), {"user_index": array("q", (user,))}) for user in users]
    path = f"/v2/models/{recommender.name}_topk/infer"
    direct = [post(path, each.body, each.header_length) for each in rows]
    with serving(bench, recommender.repository) as (public, http_port):
        targets: dict[str, Target] = {"serve": (public, asked), "Triton directly": (http_port, direct)}
        results = asyncio.run(loads(bench, targets, (1, 16)))
        canned = asyncio.run(
            TritonPool(TritonAddress(LOOPBACK, http_port)).request(b"POST", path, rows[0].body, rows[0].header_length)
        )
    report = load_table(
        "C. top 10 by raw id: the whole serve beside the same request to its Triton, made by the same client", results
    )
    added = differences(results["serve", 1], results["Triton directly", 1])
    report.rows.append(("serve adds, ms at p50", "1", spread(added, 3), "", ""))
    added_16 = differences(results["serve", 16], results["Triton directly", 16])
    report.rows.append(("serve adds, ms at p50", "16", spread(added_16, 3), "", ""))
    report.record["serve adds, ms"] = {"1": added, "16": added_16}
    report.targets.append(("serve adds less than 0.3 ms at concurrency 1", statistics.median(added) < 0.3))
    return [report, parts(bench, recommender, canned)]


def raw(recommender: Recommender, user: int) -> str:
    return str(recommender.run.users.ids[user])


async def loads(bench: Bench, targets: dict[str, Target], steps: tuple[int, ...]) -> dict[tuple[str, int], list[Load]]:
    """Interleaved rounds of load on every target at every concurrency."""
    results: dict[tuple[str, int], list[Load]] = {(name, c): [] for c in steps for name in targets}
    task = bench.progress.add_task("load", total=(bench.rounds + 1) * len(results))
    for port, requests in targets.values():
        await load(port, requests, max(steps), WARM_UP * bench.seconds)
    for number in range(bench.rounds + 1):
        for key in [*results][:: -1 if number % 2 else 1]:
            port, requests = targets[key[0]]
            random.shuffle(requests)
            found = await load(port, requests, key[1], bench.seconds)
            if number:
                results[key].append(found)
            bench.progress.advance(task)
    bench.progress.remove_task(task)
    return results


def load_table(title: str, results: dict[tuple[str, int], list[Load]]) -> Report:
    report = Report(title, ("", "concurrency", "p50 ms", "p99 ms", "requests/s"))
    for (name, concurrency), rounds in results.items():
        p50, p99 = ([1e3 * share(each.times, part) for each in rounds] for part in (0.5, 0.99))
        rates = [each.rate for each in rounds]
        report.rows.append((name, str(concurrency), spread(p50, 3), spread(p99), spread(rates, 0)))
        report.record[f"{name}, concurrency {concurrency}"] = {"p50 ms": p50, "p99 ms": p99, "requests/s": rates}
    return report


def differences(above: list[Load], below: list[Load]) -> list[float]:
    """ms at p50, round by round."""
    return [1e3 * (share(a.times, 0.5) - share(b.times, 0.5)) for a, b in zip(above, below, strict=True)]


class FixedServed(ServedFile):
    """Always the same recommender."""

    def __init__(self, served: Served, opened: Opened) -> None:
        self.served, self.opened = served, opened

    def current(self) -> Served:
        return self.served

    def recommender(self, name: str) -> Opened:
        return self.opened


class CannedTriton(TritonPool):
    """Answers at once, and always the same."""

    def __init__(self, answer: TritonResponse) -> None:
        self.answer = answer

    async def request(
        self, method: bytes, path: str, body: bytes = b"", header_length: int | None = None
    ) -> TritonResponse:
        return self.answer


def parts(bench: Bench, recommender: Recommender, canned: TritonResponse) -> Report:
    """What a worker does for one request, step by step, in this process; users change with every call."""
    exported = recommender.exported
    names = (exported.score.name, exported.topk.name, exported.query.name)
    rows = dict(zip(names, (MAX_BATCH_SIZE, MAX_BATCH_SIZE_TOPK, MAX_BATCH_SIZE_QUERY), strict=True))
    opened = Opened.open(recommender.repository, recommender.name, exported.version, rows)
    served = FixedServed(Served(True, names, {recommender.name: exported.version}), opened)
    settings = Settings.from_environment({"SERVE_MODEL_REPOSITORY": str(recommender.repository)})
    pool = CannedTriton(canned)
    plane = DataPlane(settings, served, pool, pool)
    users = [raw(recommender, random.randrange(recommender.num_users)) for _ in range(REQUESTS)]
    bodies = [orjson.dumps({"user_id": user, "k": 10}) for user in users]
    documents = [codec.JSON.decode(body, 5000).requests[0] for body in bodies]
    requests = [parse_request(document, 5000) for document in documents]
    plans = [plan(request, opened) for request in requests]
    outputs = tensors.decode_outputs(canned.body, canned.header_length)
    answers = [each.finish(outputs) for each in plans]
    json_headers = {b"content-type": b"application/json"}

    def whole(body: bytes) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            if b"error" in message.get("body", b""):
                raise RuntimeError(message["body"])

        scope = {"path": "/invocations", "method": "POST", "headers": [*json_headers.items()]}
        with contextlib.suppress(StopIteration):
            plane(scope, receive, send).__await__().__next__()

    steps: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        "decode JSON": (lambda body: codec.JSON.decode(body, 5000), bodies),
        "check the request": (lambda document: parse_request(document, 5000), documents),
        "look the id up": (opened.users.index, users),
        "plan, the look-up included": (lambda request: plan(request, opened), requests),
        "encode tensors": (lambda each: tensors.encode_int64(each.rows, each.shape, each.columns), plans),
        "decode outputs": (lambda each: tensors.decode_outputs(canned.body, canned.header_length), plans),
        "build the answer, 10 raw ids": (lambda each: each.finish(outputs), plans),
        "encode JSON": (lambda answer: codec.JSON.encode([answer], False), answers),
        "the data plane in all, Triton answering at once": (whole, bodies),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(bench.rounds + 1):
        for name, (step, values) in steps.items():
            began = time.perf_counter()
            for value in values:
                step(value)
            times[name].append(1e6 * (time.perf_counter() - began) / len(values))
    report = Report("C. one such request in a worker, µs in process", ("step", "µs (smallest–largest round)"))
    report.rows += [(name, spread(found[1:], 1)) for name, found in times.items()]
    report.record = {name: found[1:] for name, found in times.items()}
    return report


def pairs(bench: Bench, peers: Path | None) -> list[Report]:
    """Section D."""
    recommender = random_recommender(bench, "gmf", 64, USERS, ITEMS)
    items = recommender.run.items.ids

    def bodies(count: int) -> list[bytes]:
        return [
            orjson.dumps(
                {
                    "pairs": [
                        {
                            "user_id": raw(recommender, random.randrange(recommender.num_users)),
                            "item_id": items[random.randrange(recommender.num_items)],
                        }
                        for _ in range(count)
                    ]
                }
            )
            for _ in range(REQUESTS if count == 1 else 256)
        ]

    reports = []
    with contextlib.ExitStack() as started:
        public, _ = started.enter_context(serving(bench, recommender.repository))
        ports = {"serve": (public, "/invocations")}
        if peers is not None:
            ports["TorchServe"] = (started.enter_context(torchserve(bench, peers, recommender)), "/predictions/pairs")
        for count in (1, 100):
            made = bodies(count)
            targets = {name: (port, [post(path, body) for body in made]) for name, (port, path) in ports.items()}
            results = asyncio.run(loads(bench, targets, (16,)))
            what = "1 pair" if count == 1 else f"{count} pairs"
            report = load_table(f"D. {what} a request by raw ids, JSON", results)
            if peers is not None:
                both = zip(results["serve", 16], results["TorchServe", 16], strict=True)
                gain = [ours.rate / theirs.rate for ours, theirs in both]
                report.rows.append(("serve / TorchServe", "16", "", "", spread(gain, 2)))
                report.record["serve / TorchServe, requests/s"] = gain
            reports.append(report)
    return reports
