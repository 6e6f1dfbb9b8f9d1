"""What more cores give: `serve` with all its processes pinned to 1, 2, 4 and 8 cores, under the same load."""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
from pathlib import Path

from planes_servers import whole_serve
from planes_wrk import Cell, Target, measure
from topk_rig import Bench, Recommender, Report, spread

STEPS = (1, 2, 4, 8)


def pinned(bench: Bench, recommender: Recommender, program: Path, cells: dict[str, Cell]) -> list[Report]:
    """One `serve` for each number of cores, all up at the same time; wrk has the cores that are left, if any are."""
    cores = sorted(os.sched_getaffinity(0))
    steps = [step for step in STEPS if step <= len(cores)]
    held = {plural(step): frozenset(cores[:step]) for step in steps}
    # The same cores in all steps, where there are enough.
    spare = frozenset(cores[steps[-1] :])
    loading = {name: spare or frozenset(cores) - taken for name, taken in held.items()}

    def wrk_cores(target: Target) -> frozenset[int]:
        return loading[target.name] or held[target.name]

    with contextlib.ExitStack() as started:
        targets = [
            started.enter_context(whole_serve(bench, recommender, program, taken, name)) for name, taken in held.items()
        ]
        results = measure(bench, "more cores", targets, [*cells.values()], cores=wrk_cores)
    reports = []
    for what, result in zip(cells, results, strict=True):
        title = f"{what}, {result.cell.connections} connections, serve pinned to"
        report = Report(title, ("", "requests/s", "p50 ms", "p99 ms", "CPU µs a request", "wrk has"))
        for name in result.rounds:
            values = (result.values(name, "rate"), result.values(name, "p50_ms"), result.values(name, "p99_ms"))
            wrk_has = plural(len(loading[name])) + " of its own" if loading[name] else "shares serve's"
            rate, p50, p99 = (spread(each, digits) for each, digits in zip(values, (0, 3, 2), strict=True))
            report.rows.append((name, rate, p50, p99, spread(result.cpu(name), 0), wrk_has))
        for fewer, more in itertools.pairwise(result.rounds):
            gain = result.ratio(more, fewer)
            report.rows.append((f"{more} / {fewer}", spread(gain), "", "", "", ""))
            report.targets.append((f"{more} give more requests/s than {fewer}", statistics.median(gain) > 1))
        report.rows.append(("cores busy with other things", spread(result.others()), "", "", "", ""))
        report.record.update(result.record())
        reports.append(report)
    return reports


def plural(cores: int) -> str:
    return "1 core" if cores == 1 else f"{cores} cores"
