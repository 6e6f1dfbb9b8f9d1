"""Section "cores": what more cores give, `serve` with all its processes pinned to 1, 2, 4 and 8 of them."""

from __future__ import annotations

import contextlib
import os

import click

from benchmarks.rig.questions import ASKS, Form, as_kserve, as_pairs, questions
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import SERVE, whole_serve
from benchmarks.rig.wrk import Target, wrk

SECTION = "cores"
STEPS = (1, 2, 4, 8)
CONCURRENCY = 16
# The cheapest request, where the front is what limits, and one that has more to do.
FORMS: dict[str, tuple[str, Form]] = {
    "1 pair, passed through": ("1 pair", as_kserve),
    "100 pairs, JSON": ("100 pairs", as_pairs),
}


def run(run: BenchRun) -> None:
    """One `serve` for each number of cores, all up at the same time; wrk has the cores that are left, if any are."""
    cores = sorted(os.sched_getaffinity(0))
    steps = [step for step in STEPS if step <= len(cores)]
    keys = [
        {"cores": step, "ask": ask, "concurrency": CONCURRENCY, "round": number}
        for number in range(run.bench.rounds)
        for ask in FORMS
        for step in steps[:: -1 if number % 2 else 1]
    ]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    spare = frozenset(cores[steps[-1] :])  # the same for all steps, where there are enough
    task = run.bench.progress.add_task("more cores", total=len(missing))
    with contextlib.ExitStack() as started:
        targets: dict[int, Target] = {
            step: started.enter_context(
                whole_serve(run.bench, run.recommender, SERVE, frozenset(cores[:step]), f"serve on {step}")
            )
            for step in steps
        }
        warm = set[tuple[int, str]]()
        for key in missing:
            step, (ask, form) = int(key["cores"]), FORMS[str(key["ask"])]
            own = frozenset(cores[:step])
            bodies = [form(question) for question in questions(run.recommender, ask, int(key["round"]))]
            wrk_cores = spare or frozenset(cores) - own or own
            try:
                if (step, ask) not in warm:
                    wrk(targets[step], bodies, CONCURRENCY, 1, wrk_cores)
                    warm.add((step, ask))
                found = wrk(targets[step], bodies, CONCURRENCY, max(1, round(run.bench.seconds)), wrk_cores)
                shared = bool(wrk_cores & own)
                run.points.add(SECTION, key, {**found.figures(ASKS[ask]), "wrk_shares_cores": shared})
            except click.ClickException as error:
                run.points.add(SECTION, key, {}, error.message)
            run.bench.progress.advance(task)
    run.bench.progress.remove_task(task)
