"""The overhead ladder: the same questions in process, to Triton, to its SageMaker port, and to `serve` in each form.

All servers are up at the same time and one is loaded at a time, each in every round, every second round backwards, so
that drift of the machine cancels out. HTTP is loaded by wrk, gRPC by perf_analyzer, which loads Triton's HTTP as well
so that the two tools can be told apart. In process, threads of Python call the module.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.rig.perf_analyzer import Analyzer, Load, find_analyzer, sample, write_input
from benchmarks.rig.points import wrong_answers
from benchmarks.rig.processes import cpu_seconds, memory_mb, unrelated_seconds
from benchmarks.rig.questions import ALL, ASKS, TOP, K, Question, as_csv, as_kserve, as_pairs, as_top, questions
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import SERVE, native, whole_serve
from benchmarks.rig.tritonserver import Triton, tritonserver
from benchmarks.rig.wrk import JSON_TYPE, Target, ask, wrk
from benchmarks.serving.ladder_in_process import InProcess
from serve.supervisor.ports import LOOPBACK

SECTION = "ladder"
CONCURRENCY = (1, 4, 16, 64)
QUICK_ASKS = ("1 pair", TOP)
CSV_TYPE = "text/csv"
TOLERANCE = 1e-4  # of scores from two kinds of device
Figures = dict[str, Any]
Rung = Callable[[int, int, float], Figures]
"""Concurrency, round and seconds of load to figures."""


def run(run: BenchRun) -> None:
    """Measure what is missing of all rungs, asks, concurrencies and rounds."""
    keys = [
        {"rung": rung, "ask": asked, "concurrency": c, "round": number}
        for number in range(run.bench.rounds)
        for asked in (QUICK_ASKS if run.quick else ASKS)
        for c in ((1, 16) if run.quick else CONCURRENCY)
        for rung in names(asked)[:: -1 if number % 2 else 1]
    ]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    with rungs(run) as there:
        task = run.bench.progress.add_task("ladder", total=len(missing))
        warm = set[tuple[str, str]]()
        for key in missing:
            name, asked = str(key["rung"]), str(key["ask"])
            measure = there[asked][name]
            try:
                if (name, asked) not in warm:
                    measure(16, 0, 1)
                    warm.add((name, asked))
                figures = measure(int(key["concurrency"]), int(key["round"]), run.bench.seconds)
                run.points.add(SECTION, key, figures, wrong_answers(figures))
            except (click.ClickException, OSError, HTTPException, LookupError, ValueError, ArithmeticError) as error:
                run.points.add(
                    SECTION, key, {}, error.message if isinstance(error, click.ClickException) else repr(error)
                )
            run.bench.progress.advance(task)
        run.bench.progress.remove_task(task)


def names(asked: str) -> list[str]:
    """The rungs, from the bare module upwards."""
    triton = ["in process", "Triton gRPC", "Triton HTTP, binary", "Triton HTTP"]
    if asked == TOP:
        return [*triton, "serve, JSON", "serve, JSON, all 100"]
    return [*triton, "Triton's SageMaker port", "serve, passed through", "serve, JSON pairs", "serve, CSV"]


@contextlib.contextmanager
def rungs(run: BenchRun) -> Iterator[dict[str, dict[str, Rung]]]:
    """All servers, and how each rung is measured; raises click.ClickException where two give other answers."""
    score = run.recommender.name
    topk = f"{score}_topk"
    modules = InProcess(run.recommender, run.bench.device)
    analyzer = analyzer_or_none(run)
    counts = {"user_index": run.recommender.num_users, "item_index": run.recommender.num_items}
    with contextlib.ExitStack() as started:
        triton = started.enter_context(tritonserver(run.bench, run.recommender.repository, score, topk))
        sagemaker = started.enter_context(native(run.bench, run.recommender))
        served = started.enter_context(whole_serve(run.bench, run.recommender, SERVE))
        there: dict[str, dict[str, Rung]] = {}
        for asked, rows in ASKS.items():
            model = topk if asked == TOP else score
            inputs = {name: count for name, count in counts.items() if asked != TOP or name == "user_index"}
            data = write_input(run.bench.folder / f"ladder {asked}.json", inputs)
            by_http = Target("Triton HTTP", triton.ports["http"], f"/v2/models/{model}/infer", triton.process)
            made = partial(questions, run.recommender, asked)
            there[asked] = {
                "in process": partial(modules.measure, made),
                "Triton gRPC": partial(by_perf_analyzer, analyzer, triton, "grpc", model, rows, data),
                "Triton HTTP, binary": partial(by_perf_analyzer, analyzer, triton, "http", model, rows, data),
                "Triton HTTP": partial(by_wrk, by_http, made, as_kserve, rows, JSON_TYPE),
            }
            if asked == TOP:
                there[asked]["serve, JSON"] = partial(by_wrk, served, made, as_top, rows, JSON_TYPE)
                there[asked]["serve, JSON, all 100"] = partial(
                    by_wrk, served, made, partial(as_top, k=ALL), rows, JSON_TYPE
                )
                check_top(made(0)[0], modules, served)
                continue
            forms = {
                "Triton's SageMaker port": (sagemaker, as_kserve, JSON_TYPE),
                "serve, passed through": (served, as_kserve, JSON_TYPE),
                "serve, JSON pairs": (served, as_pairs, JSON_TYPE),
                "serve, CSV": (served, as_csv, CSV_TYPE),
            }
            for name, (target, form, kind) in forms.items():
                there[asked][name] = partial(by_wrk, target, made, form, rows, kind)
            check_pairs(made(0)[0], modules, {"Triton HTTP": (by_http, as_kserve, JSON_TYPE), **forms})
        yield there


def by_wrk(
    target: Target, made: Callable[[int], list[Question]], form: Callable[[Question], bytes], rows: int, kind: str,
    concurrency: int, number: int, seconds: float,
) -> Figures:  # fmt: skip
    """Load from wrk; a second time with answers counted by status where not all were 200."""
    bodies = [form(question) for question in made(number)]
    load = partial(wrk, target, bodies, concurrency, max(1, round(seconds)), content_type=kind)
    try:
        found = load()
    except click.ClickException:
        found = load(count_errors=True)
    return {**found.figures(rows), "memory_mb": memory_mb(target.process), "tool": "wrk"}


def analyzer_or_none(run: BenchRun) -> Analyzer | None:
    """perf_analyzer, or none where it cannot be had, which costs only the rungs it measures."""
    try:
        return find_analyzer()
    except click.ClickException as error:
        run.bench.say(error.message)
        return None


def by_perf_analyzer(
    analyzer: Analyzer | None, triton: Triton, protocol: str, model: str, rows: int, data: Path,
    concurrency: int, number: int, seconds: float,
) -> Figures:  # fmt: skip
    """Load from perf_analyzer, as long as from wrk; how steady it was is left to the rounds."""
    if analyzer is None:
        raise click.ClickException("there is no perf_analyzer; fetch it: benchmarks/tools/get_perf_analyzer.sh")
    unrelated, before, began = unrelated_seconds(), cpu_seconds(triton.process), time.monotonic()
    answered = count_requests(triton, model)
    outcome = sample(analyzer, Load(model, protocol, rows, concurrency), triton.ports[protocol], data, seconds)
    elapsed, after = time.monotonic() - began, cpu_seconds(triton.process)
    if outcome.error:
        raise click.ClickException(outcome.error)
    answered = count_requests(triton, model) - answered  # more than it reports on: its first ones are warm-up
    return {
        **outcome.figures,
        "cpu_us": {role: 1e6 * (spent - before.get(role, 0)) / answered for role, spent in after.items()},
        "memory_mb": memory_mb(triton.process),
        "others": max(0.0, (unrelated_seconds() - unrelated) / elapsed),
        "tool": "perf_analyzer",
    }


def count_requests(triton: Triton, model: str) -> int:
    """How many requests to a model Triton has answered."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{triton.ports['http']}/v2/models/{model}/stats") as answer:
        statistics = json.load(answer)["model_stats"]
    return sum(int(version["inference_stats"]["success"]["count"]) for version in statistics)


def check_pairs(
    question: Question, modules: InProcess, forms: dict[str, tuple[Target, Callable[[Question], bytes], str]]
) -> None:
    """Every form of a question has the same scores for an answer."""
    expected = modules.answer(question)[0].squeeze(1).numpy()
    for name, (target, form, kind) in forms.items():
        said = ask(target, form(question), kind)
        if kind == CSV_TYPE:
            scores = [float(line) for line in said.split()]
        else:
            scores = said["scores"] if "scores" in said else said["outputs"][0]["data"]
        if len(scores) != len(expected) or not np.allclose(scores, expected, atol=TOLERANCE):
            raise click.ClickException(f"{name} gives other scores than the module: {str(said)[:300]}")


def check_top(question: Question, modules: InProcess, served: Target) -> None:
    """`serve` gives the scores that the top-K module finds; items of one score may change places."""
    expected = modules.answer(question)[1][0][:K].numpy()
    said = ask(served, as_top(question))
    scores = [each["score"] for each in said["recommendations"]]
    if len(scores) != K or not np.allclose(scores, expected, atol=TOLERANCE):
        raise click.ClickException(f"serve recommends others than the module: {str(said)[:300]}")
