"""Section "models": 2 to 50 models in one `serve` in multi-model mode: loading, memory, throughput, unloading.

Each model is a copy of a recommender's scoring model, under a name of its own.
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
from benchmarks.rig.processes import cost, memory_mb, per_request
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import whole_serve
from benchmarks.rig.wrk import Target
from serve.supervisor.ports import LOOPBACK

SECTION = "models"
COUNTS, QUICK_COUNTS = (2, 5, 10, 20, 50), (2, 5)
AT_ONCE = 2  # loads and unloads
CONNECTIONS = 16
PAIRS = 10  # of one request
UNLOADED = 2  # models that are unloaded after each count but the last; the next count loads them again
LOAD_SECONDS = 360  # as long as SageMaker waits
WARM_SECONDS = 1
MOST_ROUNDS = 3  # of the throughput, so that the section takes five minutes


def run(run: BenchRun) -> None:
    """Add models to one server; points of an earlier run are not measured again."""
    counts = QUICK_COUNTS if run.quick else COUNTS
    rounds = min(MOST_ROUNDS, run.rounds)
    keys = [key for count in (0, *counts) for key in keys_of(count, rounds)]
    missing = run.points.missing(SECTION, keys)
    if not missing:
        return
    try:
        with endpoint(run) as server, run.steps("models", len(missing)) as advance:
            for count in (0, *counts):
                wanted = run.points.missing(SECTION, keys_of(count, rounds))
                if wanted:
                    measure(run, server, count, wanted, last=count == counts[-1])
                    advance(len(wanted))
    except click.ClickException as error:
        run.points.fail(SECTION, missing, error.message)


def keys_of(count: int, rounds: int) -> list[Key]:
    """The points of a number of models, in their order; without models, the memory to compare with."""
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
    """`serve` in multi-model mode and the names of its models; every model is a copy of the folder `pattern`."""

    target: Target
    root: Path
    pattern: Path
    loaded: list[str]

    def load_to(self, count: int) -> list[float]:
        """Load models until there are `count`; the seconds of each load."""
        names = [f"model-{number:02}" for number in range(len(self.loaded), count)]
        for name in names:
            folder = self.root / name / "model"
            if not folder.exists():
                shutil.copytree(self.pattern, folder, copy_function=os.link)
        seconds = in_parallel(self.load, names)
        self.loaded += names
        return seconds

    def load(self, name: str) -> None:
        self.ask("POST", "/models", {"model_name": name, "url": str(self.root / name / "model")})

    def unload_to(self, count: int) -> list[float]:
        """Unload the last models until there are `count`; the seconds of each unload."""
        self.loaded, names = self.loaded[:count], self.loaded[count:]
        return in_parallel(lambda name: self.ask("DELETE", f"/models/{name}"), names[::-1])

    def ask(self, method: str, path: str, document: object = None) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, self.target.port, timeout=LOAD_SECONDS)
        with contextlib.closing(connection):
            try:
                body = None if document is None else json.dumps(document)
                connection.request(method, path, body, {"Content-Type": JSON_TYPE})
                answer = connection.getresponse()
                read = answer.read()
            except OSError as error:
                raise click.ClickException(f"{method} {path}: {error}") from error
        if answer.status != 200:
            raise click.ClickException(f"{method} {path} is {answer.status}: {read[:300].decode(errors='replace')}")

    def requests(self, names: Iterable[str]) -> list[Request]:
        """A request in KServe-v2 for each of the models."""
        tensor = {"shape": [PAIRS, 1], "datatype": "INT64", "data": [*range(PAIRS)]}
        body = json.dumps({"inputs": [{"name": name, **tensor} for name in ("user_index", "item_index")]}).encode()
        return [Request(f"/models/{name}/invoke", body) for name in names]


def in_parallel(act: Callable[[str], None], names: Iterable[str]) -> list[float]:
    """Call `act` for all names, AT_ONCE at the same time; the seconds of each call."""

    def timed(name: str) -> float:
        began = time.monotonic()
        act(name)
        return time.monotonic() - began

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [*pool.map(timed, names)]


@contextlib.contextmanager
def endpoint(run: BenchRun) -> Iterator[Endpoint]:
    """Start a `serve` without models."""
    pattern = run.recommender.repository / run.recommender.name
    root = Path(tempfile.mkdtemp(dir=run.folder, prefix="models-"))
    settings = {"SAGEMAKER_MULTI_MODEL": "true", "SERVE_MULTI_MODEL_ROOT": str(root)}
    with whole_serve(run, run.recommender.repository, settings=settings) as target:
        yield Endpoint(target, root, pattern, [])


def measure(run: BenchRun, server: Endpoint, count: int, wanted: list[Key], last: bool) -> None:
    """Measure the points of one number of models. Raises click.ClickException if a load or an unload fails."""
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
    """Load on all models in turn, and on one model, whose figures begin with `one_model_`."""
    figures: dict[str, Any] = {}
    ways = [("", server.loaded), ("one_model_", server.loaded[:1])]
    for prefix, names in ways[:: -1 if backwards else 1]:
        requests = server.requests(names)
        closed_loop(server.target.port, requests, CONNECTIONS, WARM_SECONDS)
        with cost(server.target.process) as costs:
            found = closed_loop(server.target.port, requests, CONNECTIONS, run.seconds)
        found |= per_request(costs, found["requests"])
        figures |= {f"{prefix}{name}": value for name, value in found.items()}
    return figures


def memory(run: BenchRun, server: Endpoint, count: int) -> dict[str, Any]:
    """MB by role, and by how much each model increases the memory of a server without models."""
    now = memory_mb(server.target.process)
    empty = next((p.figures["memory_mb"] for p in run.points.of(SECTION) if p.key["models"] == 0 and p.figures), None)
    added = sum(now.values()) - sum(empty.values()) if empty and count else None
    return {"memory_mb": now, "mb_a_model": added / count if added is not None else None}
