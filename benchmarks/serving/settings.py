"""Section "settings": the settings of `serve` that divide the cores: worker processes, and Triton's threads."""

from __future__ import annotations

import contextlib
import os
from functools import partial

import click

from benchmarks.rig.processes import memory_mb
from benchmarks.rig.questions import ASKS, TOP, as_pairs, as_top, questions
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import whole_serve
from benchmarks.rig.wrk import find_wrk, wrk

SECTION = "settings"
THREADS = (1, 2, 8, 32)
CONCURRENCY = 16


def run(run: BenchRun) -> None:
    """Measure a `serve` for each value; they are started together and loaded in interleaved rounds."""
    choices = settings(len(os.sched_getaffinity(0)))
    keys = [
        {"setting": setting, "value": value, "ask": asked, "concurrency": CONCURRENCY, "round": number}
        for number in range(min(run.rounds, 3))
        for asked in ASKS
        for setting, value in choices[:: -1 if number % 2 else 1]
    ]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    find_wrk()
    warm = set[tuple[str, str]]()
    with contextlib.ExitStack() as started:
        start = partial(whole_serve, run, run.recommender.repository)
        targets = {
            (name, value): started.enter_context(start(name=f"serve, {name}={value}", settings={name: str(value)}))
            for name, value in choices
        }
        advance = started.enter_context(run.steps("settings of serve", len(missing)))
        for key in missing:
            target, asked = targets[str(key["setting"]), int(key["value"])], str(key["ask"])
            form = as_top if asked == TOP else as_pairs
            bodies = [form(question) for question in questions(run.recommender, asked, int(key["round"]))]
            try:
                if (target.name, asked) not in warm:
                    wrk(target, bodies, CONCURRENCY, 1)
                    warm.add((target.name, asked))
                found = wrk(target, bodies, CONCURRENCY, max(1, round(run.seconds)))
                run.points.add(SECTION, key, {**found.figures(ASKS[asked]), "memory_mb": memory_mb(target.process)})
            except click.ClickException as error:
                run.points.add(SECTION, key, {}, error.message)
            advance(1)


def settings(cores: int) -> list[tuple[str, int]]:
    """Names and values: half as many workers as cores, as many, twice as many; and numbers of Triton's threads."""
    workers = sorted({max(1, cores // 2), cores, 2 * cores})
    return [("SERVE_WORKERS", each) for each in workers] + [("SAGEMAKER_TRITON_THREAD_COUNT", n) for n in THREADS]
