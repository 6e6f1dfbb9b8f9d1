"""The report's sections on Triton under perf_analyzer, and on the module in process."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.reporting.tables import RANKING, at_once, details, figure, good, kinds, spread, table, text, where
from benchmarks.rig.points import Point


def sweep(points: Sequence[Point]) -> str:
    closed, opened = where(points, load="closed"), where(points, load="open")
    parts = [sweep_sentence(good(closed))]
    rows = []
    for model in kinds(closed, "model"):
        for batch in kinds(closed, "batch"):
            for protocol in kinds(closed, "protocol"):
                here = where(closed, model=model, batch=batch, protocol=protocol)
                if not spread(good(here), "requests_per_s"):
                    continue
                best = most(good(here), "requests_per_s")
                rows.append([
                    f"{model}, batch {batch}, {protocol}", str(best.key.get("concurrency", "")),
                    *(text([best], name) for name in ("requests_per_s", "rows_per_s", "p50_ms", "p99_ms")),
                    *(text([best], name) for name in ("server_queue_us", "server_infer_us")),
                    text(good(where(here, concurrency=1)), "p99_ms"),
                ])  # fmt: skip
    head = [
        "closed loop, best stable point", "at once", "requests/s", "rows/s", "p50 ms", "p99 ms", "queue µs", "infer µs",
        "p99 ms, 1 at once",
    ]  # fmt: skip
    parts.append(table(head, rows) if rows else "")
    shares, lines = kinds(opened, "share"), []
    for key in dict.fromkeys(tuple(point.key.get(n, "") for n in ("model", "protocol", "batch")) for point in opened):
        mine = where(opened, model=key[0], protocol=key[1])
        mine = [point for point in mine if point.key.get("batch", "") == key[2]]
        name = ", ".join(str(part) for part in key[:2]) + (f", batch {key[2]}" if key[2] != "" else "")
        lines.append([name, *(marked(where(mine, share=each), "p99_ms") for each in shares)])
    if lines:
        about = "**Open loop**: p99 in ms when a share of the closed loop's best requests/s is asked for (†: unstable)"
        parts.append(f"{about}\n\n{table(['', *(f'{each:g}' for each in shares)], lines)}")
    return "\n\n".join(part for part in parts if part)


def most(points: Sequence[Point], name: str) -> Point:
    return max(points, key=lambda point: figure(point, name) or 0)


def marked(points: Sequence[Point], name: str) -> str:
    """A figure, with a dagger if the point is not stable."""
    return text(points, name) + ("†" if any(point.error and figure(point, name) for point in points) else "")


def sweep_sentence(points: Sequence[Point]) -> str:
    sentences = []
    for model in kinds(points, "model"):
        here = where(points, model=model)
        for name, unit in (("requests_per_s", "requests/s"), ("rows_per_s", "rows/s")):
            best = most(here, name)
            at = f"{best.key.get('protocol')}, batch {best.key.get('batch')}, {at_once(best.key.get('concurrency'))}"
            sentences.append(f"{model}: at most {text([best], name)} {unit} ({at}, p99 {text([best], 'p99_ms')} ms)")
    return "; ".join(sentences) + "." if sentences else ""


def in_process(points: Sequence[Point]) -> str:
    mine = good(points)
    pairs = [point for point in mine if point.key.get("model") not in RANKING]
    best = max(pairs, key=lambda point: figure(point, "samples_per_s") or 0, default=None)
    if best is None:
        sentence = "There is no figure for scoring pairs."
    else:
        at = f"{kind_of(best)}, batches of {best.key.get('batch', 0):,}"
        sentence = f"At best {text([best], 'samples_per_s')} pairs/s ({at}). A sample is a pair, in a ranking a user."
    of_kind: dict[str, list[Point]] = {}
    for point in mine:
        of_kind.setdefault(kind_of(point), []).append(point)
    batches = kinds(mine, "batch")
    tables = [
        table(
            [unit, *(f"batch {batch:,}" for batch in batches)],
            ([kind, *(text(where(group, batch=batch), name) for batch in batches)] for kind, group in of_kind.items()),
        )
        for unit, name in (("samples/s", "samples_per_s"), ("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"))
    ]
    latency = details("Latency of a batch", f"{tables[1]}\n\n{tables[2]}")
    return f"{sentence}\n\n{tables[0]}\n\n{latency}"


def kind_of(point: Point) -> str:
    words = [str(point.key[name]) for name in ("model", "device", "dtype") if name in point.key]
    return ", ".join(words + (["as a CUDA graph"] if point.key.get("graph") == "yes" else []))
