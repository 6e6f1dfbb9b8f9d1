"""Section "sweep": Triton without `serve` under perf_analyzer, by HTTP and gRPC, closed loop and open loop."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.rig.perf_analyzer import Load, find_analyzer, measure, sample, write_input, write_users
from benchmarks.rig.points import Key
from benchmarks.rig.run import BenchRun
from benchmarks.rig.tritonserver import tritonserver

SECTION = "sweep"
SCORE, QUERY = "score", "query"
CONCURRENCY = (1, 4, 16, 64)
CLOSED = {SCORE: (1, 16, 256, 1024), QUERY: (1, 16)}  # rows a request
OPEN = {SCORE: (1, 256), QUERY: (1,)}
SHARES = (0.25, 0.5, 0.75, 0.9, 1.1)
ON_GPU, LARGE_ENTRIES = (16_384,), 61  # rows a request; so many entries, which repeat in a request
QUICK_CLOSED = {SCORE: (1, 256), QUERY: (1,)}
QUICK_CONCURRENCY, QUICK_SHARES = (1, 16), (0.5,)


def keys(quick: bool, device: str = "cpu") -> Iterator[Key]:
    """All points; a closed loop comes before its open loops, whose rates are shares of the rate it reached."""
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
    """Measure the points that are missing."""
    missing = run.points.missing(SECTION, keys(run.quick, run.device))
    if not missing:
        return
    analyzer, recommender = find_analyzer(), run.recommender
    names = {SCORE: recommender.name, QUERY: f"{recommender.name}_query"}
    users, items = recommender.num_users, recommender.num_items
    pairs = {"user_index": users, "item_index": items}
    data = {
        SCORE: write_input(run.folder / "score.json", pairs),
        QUERY: write_users(run.folder / "query.json", users),
    }
    # perf_analyzer prepares every entry with all rows of a request: few entries where a request has many rows.
    large = write_input(run.folder / "large.json", pairs, LARGE_ENTRIES)
    warm = set()
    with (
        tritonserver(run, recommender.repository, *names.values()) as triton,
        run.steps("sweep", len(missing)) as advance,
    ):
        for key in missing:
            model, protocol, batch = str(key["model"]), str(key["protocol"]), int(key["batch"])
            load = Load(names[model], protocol, batch, int(key.get("concurrency", 0)), rate_of(run, key))
            port, entries = triton.ports[protocol], large if batch in ON_GPU else data[model]
            if load.concurrency or load.rate:
                if (model, batch) not in warm:
                    sample(analyzer, Load(names[model], protocol, batch, 4), port, entries, 1.0)
                    warm.add((model, batch))
                outcome = measure(analyzer, load, port, entries, run.seconds)
                run.points.add(SECTION, key, outcome.figures, outcome.error, outcome.command)
            else:
                run.points.add(SECTION, key, {}, "the closed loop has no figure to take a share of; give --fresh")
            advance(1)


def rate_of(run: BenchRun, key: Key) -> float:
    """Requests/s of an open loop: its share of the highest rate of the closed loop; 0 if that was not measured."""
    if key["load"] != "open":
        return 0.0
    same = ("model", "protocol", "batch")
    reached = [
        float(point.figures["requests_per_s"])
        for point in run.points.of(SECTION)
        if point.key["load"] == "closed" and point.figures and all(point.key[name] == key[name] for name in same)
    ]
    return float(key["share"]) * max(reached, default=0.0)
