"""Settings of `serve` that decide how the cores are shared: worker processes, and Triton's threads for requests."""

from __future__ import annotations

import contextlib
import os
from functools import partial

import click

from benchmarks.rig.processes import memory_mb
from benchmarks.rig.questions import ASKS, TOP, as_pairs, as_top, questions
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import SERVE, whole_serve
from benchmarks.rig.wrk import wrk

SECTION = "settings"
THREADS = (1, 2, 8, 32)
CONCURRENCY = 16


def run(run: BenchRun) -> None:
    """A `serve` for each value, all up at the same time, loaded in interleaved rounds."""
    choices = settings(len(os.sched_getaffinity(0)))
    keys = [
        {"setting": setting, "value": value, "ask": asked, "concurrency": CONCURRENCY, "round": number}
        for number in range(min(run.bench.rounds, 3))
        for asked in ASKS
        for setting, value in choices[:: -1 if number % 2 else 1]
    ]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    task = run.bench.progress.add_task("settings of serve", total=len(missing))
    with contextlib.ExitStack() as started:
        start = partial(whole_serve, run.bench, run.recommender, SERVE)
        served = {
            (name, value): started.enter_context(start(name=f"serve, {name}={value}", settings={name: str(value)}))
            for name, value in choices
        }
        warm = set[tuple[str, str]]()
        for key in missing:
            target, asked = served[str(key["setting"]), int(key["value"])], str(key["ask"])
            form = as_top if asked == TOP else as_pairs
            bodies = [form(question) for question in questions(run.recommender, asked, int(key["round"]))]
            try:
                if (target.name, asked) not in warm:
                    wrk(target, bodies, CONCURRENCY, 1)
                    warm.add((target.name, asked))
                found = wrk(target, bodies, CONCURRENCY, max(1, round(run.bench.seconds)))
                run.points.add(SECTION, key, {**found.figures(ASKS[asked]), "memory_mb": memory_mb(target.process)})
            except click.ClickException as error:
                run.points.add(SECTION, key, {}, error.message)
            run.bench.progress.advance(task)
    run.bench.progress.remove_task(task)


def settings(cores: int) -> list[tuple[str, int]]:
    """Half as many workers as cores, as many, and twice as many; Triton's threads with the default of workers."""
    workers = sorted({max(1, cores // 2), cores, 2 * cores})
    return [("SERVE_WORKERS", each) for each in workers] + [("SAGEMAKER_TRITON_THREAD_COUNT", n) for n in THREADS]
