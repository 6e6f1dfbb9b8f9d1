"""Section "ladder": the same questions in process, to Triton, to its SageMaker port, and to `serve` in each form.

All servers run at the same time, and one of them has load. Every round measures each of them, every second round in
reverse order, so that a drift of the machine's speed cancels out. wrk loads HTTP; perf_analyzer loads gRPC, and
Triton's HTTP as well, so that the difference between the tools is known. In process, Python threads call the module.
The top 10 is also asked of a GMF, the model that ranks with the least work, from servers of its own (D145).
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.rig.perf_analyzer import Analyzer, Load, find_analyzer, sample, write_input, write_users
from benchmarks.rig.points import wrong_answers
from benchmarks.rig.processes import cost, memory_mb, per_request
from benchmarks.rig.questions import ALL, ASKS, TOP, K, Question, as_csv, as_kserve, as_pairs, as_top, questions
from benchmarks.rig.run import FACTORS, ITEMS, USERS, BenchRun
from benchmarks.rig.servers import native, whole_serve
from benchmarks.rig.tritonserver import Triton, tritonserver
from benchmarks.rig.wrk import JSON_TYPE, Target, ask, wrk
from benchmarks.serving.ladder_in_process import InProcess
from serve.supervisor.ports import LOOPBACK

SECTION = "ladder"
CONCURRENCY = (1, 4, 16, 64)
GMF = "top 10, GMF"
QUICK_ASKS = ("1 pair", TOP, GMF)
GMF_CONCURRENCY = (1, 16, 64)
CSV_TYPE = "text/csv"
TOLERANCE = 1e-4  # between scores of two kinds of device
Figures = dict[str, Any]
Rung = Callable[[int, int, float], Figures]
"""Figures from a concurrency, the number of a round, and seconds of load."""


def run(run: BenchRun) -> None:
    """Measure the points that are missing."""
    keys = [
        {"rung": rung, "ask": asked, "concurrency": c, "round": number}
        for number in range(run.rounds)
        for asked in (QUICK_ASKS if run.quick else (*ASKS, GMF))
        for c in ((1, 16) if run.quick else GMF_CONCURRENCY if asked == GMF else CONCURRENCY)
        for rung in names(asked)[:: -1 if number % 2 else 1]
    ]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    warm = set[tuple[str, str]]()
    with rungs(run) as available, run.steps("ladder", len(missing)) as advance:
        for key in missing:
            name, asked = str(key["rung"]), str(key["ask"])
            measure = available[asked][name]
            try:
                if (name, asked) not in warm:
                    measure(16, 0, 1)
                    warm.add((name, asked))
                figures = measure(int(key["concurrency"]), int(key["round"]), run.seconds)
                run.points.add(SECTION, key, figures, wrong_answers(figures))
            except (click.ClickException, OSError, HTTPException, LookupError, ValueError, ArithmeticError) as error:
                message = error.message if isinstance(error, click.ClickException) else repr(error)
                run.points.add(SECTION, key, {}, message)
            advance(1)


def names(asked: str) -> list[str]:
    """The rungs from the bare module to `serve`."""
    triton = ["in process", "Triton gRPC", "Triton HTTP, binary", "Triton HTTP"]
    if asked == TOP:
        return [*triton, "serve, JSON", "serve, JSON, all 100"]
    if asked == GMF:
        return ["in process", "Triton HTTP", "serve, JSON"]
    return [*triton, "Triton's SageMaker port", "serve, passed through", "serve, JSON pairs", "serve, CSV"]


@contextlib.contextmanager
def rungs(run: BenchRun) -> Iterator[dict[str, dict[str, Rung]]]:
    """Start all servers; yield the function that measures a rung, by ask and rung.

    Raises click.ClickException if the answers of two rungs differ.
    """
    score = run.recommender.name
    query = f"{score}_query"
    modules = InProcess(run.recommender, run.device)
    analyzer = analyzer_or_none(run)
    counts = {"user_index": run.recommender.num_users, "item_index": run.recommender.num_items}
    with contextlib.ExitStack() as started:
        triton = started.enter_context(tritonserver(run, run.recommender.repository, score, query))
        sagemaker = started.enter_context(native(run, run.recommender))
        served = started.enter_context(whole_serve(run, run.recommender.repository))
        available: dict[str, dict[str, Rung]] = {}
        for asked, rows in ASKS.items():
            model = query if asked == TOP else score
            file = run.folder / f"ladder {asked}.json"
            data = write_users(file, run.recommender.num_users) if asked == TOP else write_input(file, counts)
            by_http = http_target(triton, model)
            made = partial(questions, run.recommender, asked)
            available[asked] = {
                "Triton gRPC": partial(by_perf_analyzer, analyzer, triton, "grpc", model, rows, data),
                "Triton HTTP, binary": partial(by_perf_analyzer, analyzer, triton, "http", model, rows, data),
            }
            if asked == TOP:
                available[asked] |= top_rungs(made, modules, by_http, served)
                continue
            available[asked]["in process"] = partial(modules.measure, made)
            forms = {
                "Triton HTTP": (by_http, as_kserve, JSON_TYPE),
                "Triton's SageMaker port": (sagemaker, as_kserve, JSON_TYPE),
                "serve, passed through": (served, as_kserve, JSON_TYPE),
                "serve, JSON pairs": (served, as_pairs, JSON_TYPE),
                "serve, CSV": (served, as_csv, CSV_TYPE),
            }
            for name, (target, form, kind) in forms.items():
                available[asked][name] = partial(by_wrk, target, made, form, rows, kind)
            check_pairs(made(0)[0], modules, forms)
        gmf = run.random("gmf", FACTORS, USERS, ITEMS)
        alone = started.enter_context(tritonserver(run, gmf.repository, gmf.name, f"{gmf.name}_query"))
        available[GMF] = top_rungs(
            partial(questions, gmf, TOP),
            InProcess(gmf, run.device),
            http_target(alone, f"{gmf.name}_query"),
            started.enter_context(whole_serve(run, gmf.repository)),
        )
        yield available


def http_target(triton: Triton, model: str) -> Target:
    return Target("Triton HTTP", triton.ports["http"], f"/v2/models/{model}/infer", triton.process)


def top_rungs(
    made: Callable[[int], list[Question]], modules: InProcess, by_http: Target, served: Target
) -> dict[str, Rung]:
    """The rungs of a ranking, but for perf_analyzer's. Raises click.ClickException if their answers differ."""
    check_top(made(0)[0], modules, by_http, served)
    return {
        "in process": partial(modules.measure, made),
        "Triton HTTP": partial(by_wrk, by_http, made, as_kserve, 1, JSON_TYPE),
        "serve, JSON": partial(by_wrk, served, made, as_top, 1, JSON_TYPE),
        "serve, JSON, all 100": partial(by_wrk, served, made, partial(as_top, k=ALL), 1, JSON_TYPE),
    }


def by_wrk(
    target: Target, made: Callable[[int], list[Question]], form: Callable[[Question], bytes], rows: int, kind: str,
    concurrency: int, number: int, seconds: float,
) -> Figures:  # fmt: skip
    """Load from wrk; if an answer was not 200, load again and count the answers by status."""
    bodies = [form(question) for question in made(number)]
    load = partial(wrk, target, bodies, concurrency, max(1, round(seconds)), content_type=kind)
    try:
        found = load()
    except click.ClickException:
        found = load(count_errors=True)
    return {**found.figures(rows), "memory_mb": memory_mb(target.process), "tool": "wrk"}


def analyzer_or_none(run: BenchRun) -> Analyzer | None:
    """perf_analyzer, or None if it is missing: then only the rungs that it measures fail."""
    try:
        return find_analyzer()
    except click.ClickException as error:
        run.say(error.message)
        return None


def by_perf_analyzer(
    analyzer: Analyzer | None, triton: Triton, protocol: str, model: str, rows: int, data: Path,
    concurrency: int, number: int, seconds: float,
) -> Figures:  # fmt: skip
    """Load from perf_analyzer, as long as from wrk; the rounds show how much it varies."""
    if analyzer is None:
        raise click.ClickException("perf_analyzer is missing; run: benchmarks/tools/get_perf_analyzer.sh")
    before = count_requests(triton, model)
    with cost(triton.process) as costs:
        outcome = sample(analyzer, Load(model, protocol, rows, concurrency), triton.ports[protocol], data, seconds)
    if outcome.error:
        raise click.ClickException(outcome.error)
    answered = count_requests(triton, model) - before  # perf_analyzer does not report its warm-up requests
    return {
        **outcome.figures,
        **per_request(costs, answered),
        "memory_mb": memory_mb(triton.process),
        "tool": "perf_analyzer",
    }


def count_requests(triton: Triton, model: str) -> int:
    """The number of requests to a model that Triton has answered."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{triton.ports['http']}/v2/models/{model}/stats") as answer:
        statistics = json.load(answer)["model_stats"]
    return sum(int(version["inference_stats"]["success"]["count"]) for version in statistics)


def check_pairs(
    question: Question, modules: InProcess, forms: dict[str, tuple[Target, Callable[[Question], bytes], str]]
) -> None:
    """Check that the scores are the module's in every form of a question."""
    expected = modules.answer(question)[0].squeeze(1).numpy()
    for name, (target, form, kind) in forms.items():
        answer = ask(target, form(question), kind)
        if kind == CSV_TYPE:
            scores = [float(line) for line in answer.split()]
        else:
            scores = answer["scores"] if "scores" in answer else answer["outputs"][0]["data"]
        if len(scores) != len(expected) or not np.allclose(scores, expected, atol=TOLERANCE):
            raise click.ClickException(f"{name} answers other scores than the module: {str(answer)[:300]}")


def check_top(question: Question, modules: InProcess, by_http: Target, served: Target) -> None:
    """Check that the scores are the query module's; items with equal scores may change places."""
    expected = modules.answer(question)[1][0][:K].numpy()
    outputs = {each["name"]: each["data"] for each in ask(by_http, as_kserve(question))["outputs"]}
    ranked = ask(served, as_top(question))["recommendations"]
    for target, scores in ((by_http, outputs["score"][:K]), (served, [each["score"] for each in ranked])):
        if len(scores) != K or not np.allclose(scores, expected, atol=TOLERANCE):
            raise click.ClickException(f"{target.name} answers other scores than the query module: {scores}")
