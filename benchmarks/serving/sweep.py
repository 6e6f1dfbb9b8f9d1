"""Triton itself under perf_analyzer: scoring and ranking, HTTP and gRPC, closed loop and open loop."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.rig.perf_analyzer import Load, find_analyzer, measure, sample, write_input
from benchmarks.rig.points import Key
from benchmarks.rig.run import BenchRun
from benchmarks.rig.tritonserver import tritonserver

SECTION = "sweep"
SCORE, TOPK = "score", "topk"
CONCURRENCY = (1, 4, 16, 64)
CLOSED = {SCORE: (1, 16, 256, 1024), TOPK: (1, 16)}  # rows a request
OPEN = {SCORE: (1, 256), TOPK: (1,)}
SHARES = (0.25, 0.5, 0.75, 0.9, 1.1)
ON_GPU, LARGE_ENTRIES = (16_384,), 61  # rows a request, which are these entries many times over
QUICK_CLOSED = {SCORE: (1, 256), TOPK: (1,)}
QUICK_CONCURRENCY, QUICK_SHARES = (1, 16), (0.5,)


def keys(quick: bool, device: str = "cpu") -> Iterator[Key]:
    """All points, those of the closed loop before the open ones, whose rates are shares of what it reached."""
    protocols = ("http",) if quick else ("http", "grpc")
    for model, batches in (QUICK_CLOSED if quick else CLOSED).items():
        for protocol in protocols:
            for batch in (*batches, *(ON_GPU if device == "gpu" and model == SCORE else ())):
                base: dict[str, str | int | float] = {"model": model, "protocol": protocol, "batch": batch}
                for concurrency in QUICK_CONCURRENCY if quick else CONCURRENCY:
                    yield {**base, "load": "closed", "concurrency": concurrency}
                for share in (QUICK_SHARES if quick else SHARES) if batch in OPEN[model] else ():
                    yield {**base, "load": "open", "share": share}


def run(run: BenchRun) -> None:
    """Measure what is missing; a point that fails has its error."""
    missing = run.points.missing(SECTION, keys(run.quick, run.bench.device))
    if not missing:
        return
    analyzer, recommender, bench = find_analyzer(), run.recommender, run.bench
    names = {SCORE: recommender.name, TOPK: f"{recommender.name}_topk"}
    users, items = recommender.num_users, recommender.num_items
    data = {
        SCORE: write_input(bench.folder / "score.json", {"user_index": users, "item_index": items}),
        TOPK: write_input(bench.folder / "topk.json", {"user_index": users}),
    }
    # Every entry is prepared once a thread, with all rows of a request: few of them where a request has many.
    large = {SCORE: write_input(bench.folder / "large.json", {"user_index": users, "item_index": items}, LARGE_ENTRIES)}
    with tritonserver(bench, recommender.repository, *names.values()) as triton:
        task = bench.progress.add_task("sweep", total=len(missing))
        warm = set()
        for key in missing:
            model, protocol, batch = str(key["model"]), str(key["protocol"]), int(key["batch"])
            load = Load(names[model], protocol, batch, int(key.get("concurrency", 0)), asked(run, key))
            mine = (large if batch in ON_GPU else data)[model]
            if load.concurrency or load.rate:
                if (model, batch) not in warm:
                    sample(analyzer, Load(names[model], protocol, batch, 4), triton.ports[protocol], mine, 1.0)
                    warm.add((model, batch))
                outcome = measure(analyzer, load, triton.ports[protocol], mine, bench.seconds)
                run.points.add(SECTION, key, outcome.figures, outcome.error, outcome.command)
            else:
                run.points.add(SECTION, key, {}, "the closed loop has no figure to take a share of; give --fresh")
            bench.progress.advance(task)
        bench.progress.remove_task(task)


def asked(run: BenchRun, key: Key) -> float:
    """Requests a second of an open loop: a share of the most that the closed loop reached; 0 where there is none."""
    if key["load"] != "open":
        return 0.0
    same = ("model", "protocol", "batch")
    reached = [
        float(point.figures["requests_per_s"])
        for point in run.points.of(SECTION)
        if point.key["load"] == "closed" and point.figures and all(point.key[name] == key[name] for name in same)
    ]
    return float(key["share"]) * max(reached, default=0.0)
