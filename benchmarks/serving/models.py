"""Section "models": 2 to 50 models in one `serve` in multi-model mode: loading, memory, throughput, unloading.

A model here is the part of a recommender that scores pairs, each under a name of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.rig.open_loop import JSON_TYPE, Request, closed_loop
from benchmarks.rig.points import Key, wrong_answers
from benchmarks.rig.processes import memory_mb
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import SERVE, whole_serve
from benchmarks.rig.wrk import Target
from benchmarks.serving.saturation import cost, per_request
from serve.supervisor.ports import LOOPBACK

SECTION = "models"
COUNTS, QUICK_COUNTS = (2, 5, 10, 20, 50), (2, 5)
AT_ONCE = 2  # loads and unloads
CONNECTIONS = 16
PAIRS = 10  # of one request
UNLOADED = 2  # of each count but the last, to be loaded again by the next
LOAD_SECONDS = 360  # what SageMaker waits
WARM_SECONDS = 1
MOST_ROUNDS = 3  # of the throughput, so that all of it takes five minutes


def run(run: BenchRun) -> None:
    """One server, to which models are added; what a run before has measured is loaded and not measured again."""
    counts = QUICK_COUNTS if run.quick else COUNTS
    keys = [key for count in (0, *counts) for key in keys_of(count, min(MOST_ROUNDS, run.bench.rounds))]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    task = run.bench.progress.add_task("models", total=len(missing))
    try:
        with endpoint(run) as server:
            for count in (0, *counts):
                wanted = run.points.missing(SECTION, keys_of(count, min(MOST_ROUNDS, run.bench.rounds)))
                if wanted:
                    measure(run, server, count, wanted, last=count == counts[-1])
                    run.bench.progress.advance(task, len(wanted))
    except click.ClickException as error:
        for key in run.points.missing(SECTION, missing):
            run.points.add(SECTION, key, {}, error=error.message)
    run.bench.progress.remove_task(task)


def keys_of(count: int, rounds: int) -> list[Key]:
    """What is measured with so many models, in order; with none, the memory to compare with."""
    if not count:
        return [{"models": 0, "what": "memory"}]
    return [
        {"models": count, "what": "load"},
        *({"models": count, "what": "throughput", "round": number} for number in range(rounds)),
        {"models": count, "what": "memory"},
        {"models": count, "what": "unload"},
    ]


@dataclass
class Endpoint:
    """`serve` in multi-model mode and what is loaded there; `pattern` is the folder every model is a copy of."""

    target: Target
    root: Path
    pattern: Path
    loaded: list[str]

    def load_to(self, count: int) -> list[float]:
        """Load models until there are so many; seconds each took."""
        names = [f"model-{number:02}" for number in range(len(self.loaded), count)]
        for name in names:
            folder = self.root / name / "model"
            if not folder.exists():
                shutil.copytree(self.pattern, folder, copy_function=os.link)
        seconds = in_pairs(self.load, names)
        self.loaded += names
        return seconds

    def load(self, name: str) -> None:
        self.ask("POST", "/models", {"model_name": name, "url": str(self.root / name / "model")})

    def unload_to(self, count: int) -> list[float]:
        """Unload the last ones until there are so many; seconds each took."""
        self.loaded, names = self.loaded[:count], self.loaded[count:]
        return in_pairs(lambda name: self.ask("DELETE", f"/models/{name}"), names[::-1])

    def ask(self, method: str, path: str, document: object = None) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, self.target.port, timeout=LOAD_SECONDS)
        with contextlib.closing(connection):
            try:
                body = None if document is None else json.dumps(document)
                connection.request(method, path, body, {"Content-Type": JSON_TYPE})
                answer = connection.getresponse()
                said = answer.read()
            except OSError as error:
                raise click.ClickException(f"{method} {path}: {error}") from error
        if answer.status != 200:
            raise click.ClickException(f"{method} {path} is {answer.status}: {said[:300].decode(errors='replace')}")

    def requests(self, names: Iterable[str]) -> list[Request]:
        """A request to each of the models, in KServe-v2."""
        tensor = {"shape": [PAIRS, 1], "datatype": "INT64", "data": [*range(PAIRS)]}
        body = json.dumps({"inputs": [{"name": name, **tensor} for name in ("user_index", "item_index")]}).encode()
        return [Request(f"/models/{name}/invoke", body) for name in names]


def in_pairs(act: Callable[[str], None], names: Iterable[str]) -> list[float]:
    """Seconds of each call, two at a time."""

    def timed(name: str) -> float:
        began = time.monotonic()
        act(name)
        return time.monotonic() - began

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [*pool.map(timed, names)]


@contextlib.contextmanager
def endpoint(run: BenchRun) -> Iterator[Endpoint]:
    """A `serve` that has no models yet."""
    pattern = run.recommender.repository / run.recommender.name
    root = Path(tempfile.mkdtemp(dir=run.bench.folder, prefix="models-"))
    settings = {"SAGEMAKER_MULTI_MODEL": "true", "SERVE_MULTI_MODEL_ROOT": str(root)}
    with whole_serve(run.bench, run.recommender, SERVE, settings=settings) as target:
        yield Endpoint(target, root, pattern, [])


def measure(run: BenchRun, server: Endpoint, count: int, wanted: list[Key], last: bool) -> None:
    """The points of one number of models. Raises click.ClickException if loading or unloading fails."""
    load_s = server.load_to(count)
    for key in wanted:
        figures: dict[str, Any]
        if key["what"] == "load":
            figures = {"load_s": load_s, "at_once": AT_ONCE}
        elif key["what"] == "throughput":
            figures = throughput(run, server, backwards=int(key["round"]) % 2 == 1)
        elif key["what"] == "memory":
            figures = memory(run, server, count)
        else:
            figures = {"unload_s": server.unload_to(0 if last else count - UNLOADED), "at_once": AT_ONCE}
        run.points.add(SECTION, key, figures, wrong_answers(figures), "SAGEMAKER_MULTI_MODEL=true serve")


def throughput(run: BenchRun, server: Endpoint, backwards: bool) -> dict[str, Any]:
    """All models in turn, and one of them alone, whose figures have `one_model_` before their names."""
    figures: dict[str, Any] = {}
    ways = [("", server.loaded), ("one_model_", server.loaded[:1])]
    for prefix, names in ways[:: -1 if backwards else 1]:
        requests = server.requests(names)
        closed_loop(server.target.port, requests, CONNECTIONS, WARM_SECONDS)
        with cost(server.target) as costs:
            found = closed_loop(server.target.port, requests, CONNECTIONS, run.bench.seconds)
        found |= per_request(costs, found["requests"])
        figures |= {f"{prefix}{name}": value for name, value in found.items()}
    return figures


def memory(run: BenchRun, server: Endpoint, count: int) -> dict[str, Any]:
    """MB by role, and how much one model adds to the server without any."""
    now = memory_mb(server.target.process)
    empty = next((p.figures["memory_mb"] for p in run.points.of(SECTION) if p.key["models"] == 0 and p.figures), None)
    added = sum(now.values()) - sum(empty.values()) if empty and count else None
    return {"memory_mb": now, "mb_a_model": added / count if added is not None else None}
