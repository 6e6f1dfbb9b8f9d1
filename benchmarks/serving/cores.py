"""Section "cores": `serve` with all its processes pinned to 1, 2, 4 and 8 cores."""

from __future__ import annotations

import contextlib
import os

import click

from benchmarks.rig.questions import ASKS, Form, as_kserve, as_pairs, questions
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import whole_serve
from benchmarks.rig.wrk import Target, find_wrk, wrk

SECTION = "cores"
STEPS = (1, 2, 4, 8)
CONCURRENCY = 16
# The cheapest request, which is limited by the front, and an expensive one.
FORMS: dict[str, tuple[str, Form]] = {
    "1 pair, passed through": ("1 pair", as_kserve),
    "100 pairs, JSON": ("100 pairs", as_pairs),
}


def run(run: BenchRun) -> None:
    """Measure a `serve` for each number of cores, started together; wrk runs on the other cores, if there are any."""
    cores = sorted(os.sched_getaffinity(0))
    steps = [step for step in STEPS if step <= len(cores)]
    keys = [
        {"cores": step, "ask": ask, "concurrency": CONCURRENCY, "round": number}
        for number in range(run.rounds)
        for ask in FORMS
        for step in steps[:: -1 if number % 2 else 1]
    ]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    find_wrk()
    spare = frozenset(cores[steps[-1] :])  # for wrk: the same cores for all steps, if the machine has enough
    warm = set[tuple[int, str]]()
    with contextlib.ExitStack() as started:
        targets: dict[int, Target] = {
            step: started.enter_context(
                whole_serve(run, run.recommender.repository, frozenset(cores[:step]), f"serve on {step}")
            )
            for step in steps
        }
        advance = started.enter_context(run.steps("more cores", len(missing)))
        for key in missing:
            step, (ask, form) = int(key["cores"]), FORMS[str(key["ask"])]
            own = frozenset(cores[:step])
            bodies = [form(question) for question in questions(run.recommender, ask, int(key["round"]))]
            wrk_cores = spare or frozenset(cores) - own or own
            try:
                if (step, ask) not in warm:
                    wrk(targets[step], bodies, CONCURRENCY, 1, wrk_cores)
                    warm.add((step, ask))
                found = wrk(targets[step], bodies, CONCURRENCY, max(1, round(run.seconds)), wrk_cores)
                shared = bool(wrk_cores & own)
                run.points.add(SECTION, key, {**found.figures(ASKS[ask]), "wrk_shares_cores": shared})
            except click.ClickException as error:
                run.points.add(SECTION, key, {}, error.message)
            advance(1)
