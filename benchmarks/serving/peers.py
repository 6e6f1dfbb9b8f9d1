"""Section "peers": the servers that compete with `serve`, with the same module and requests, measured beside it."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
import torch

from benchmarks.peers.launch import PEERS, Peer, install, launched, model_folder, shown, telling
from benchmarks.rig.points import Key, wrong_answers
from benchmarks.rig.processes import memory_mb
from benchmarks.rig.questions import as_pairs, questions
from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import whole_serve
from benchmarks.rig.wrk import Target, ask, find_wrk, wrk

START, LOAD, OURS = "peer_start", "peers", "serve"
ASKED = {1: "1 pair", 100: "100 pairs"}
CONCURRENCIES, QUICK_CONCURRENCIES = (1, 16, 64), (1, 16)
# Six peers with six loads each, and `serve` beside each of them: limited, so that the section takes ten minutes.
MOST_ROUNDS, MOST_SECONDS = 3, 1
FIRST_ANSWER_SECONDS, REST_SECONDS = 120, 2
FAILURES = (click.ClickException, OSError, http.client.HTTPException, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class Asked:
    """A request and its right answer."""

    body: bytes
    scores: list[float]


def run(run: BenchRun) -> None:
    """Measure the start of each server while no other one runs, then each peer's load beside one `serve`."""
    rounds = min(run.rounds, MOST_ROUNDS)
    missing_starts = run.points.missing(START, start_keys(1 if run.quick else MOST_ROUNDS))
    missing_loads = run.points.missing(LOAD, load_keys(run.quick, rounds))
    if not missing_starts and not missing_loads:
        return
    find_wrk()
    failed = set[str]()  # peers that cannot be installed, do not start, or answer other scores
    for title in PEERS:
        wanted = [key for key in (*missing_starts, *missing_loads) if key["peer"] == title]
        if wanted and not installed(run, PEERS[title]):
            failed.add(title)
    model = model_folder(run, run.recommender)
    requests = [asked(run.recommender, model, rows) for rows in ASKED]
    starts(run, model, requests, missing_starts, failed)
    loads(run, model, requests, [key for key in missing_loads if key["peer"] not in failed])


def start_keys(rounds: int) -> list[Key]:
    return [{"peer": title, "round": number} for number in range(rounds) for title in (OURS, *PEERS)]


def load_keys(quick: bool, rounds: int) -> list[Key]:
    """Peer by peer, because only one peer runs at a time."""
    return [
        {"peer": title, "rows": rows, "concurrency": concurrency, "round": number}
        for title in PEERS
        for number in range(rounds)
        for rows in ASKED
        for concurrency in (QUICK_CONCURRENCIES if quick else CONCURRENCIES)
    ]


def installed(run: BenchRun, peer: Peer) -> bool:
    try:
        install(run, peer)
    except FAILURES as error:
        command = f"pip install -r benchmarks/peers/{peer.name}.txt"
        run.points.add(START, {"peer": peer.title, "round": 0}, {}, error=one_line(error), command=command)
        return False
    return True


def asked(recommender: Recommender, model: Path, rows: int) -> Asked:
    """A request, and its scores by the exported module in this process."""
    body = bodies_of(recommender, rows)[0]
    pairs = orjson.loads(body)["pairs"]
    users, items = (orjson.loads((model / name).read_bytes()) for name in ("users.json", "items.json"))
    with torch.inference_mode():
        user = torch.tensor([[users[pair["user_id"]]] for pair in pairs])
        item = torch.tensor([[items[pair["item_id"]]] for pair in pairs])
        scores = torch.jit.load(str(model / "model.pt"))(user, item).squeeze(1).tolist()
    return Asked(body, scores)


def bodies_of(recommender: Recommender, rows: int, number: int = 0) -> list[bytes]:
    """The requests of a round, in the form of `serve`."""
    return [as_pairs(question) for question in questions(recommender, ASKED[rows], number)]


def starts(run: BenchRun, model: Path, requests: Sequence[Asked], missing: Sequence[Key], failed: set[str]) -> None:
    """Measure every start that is missing; peers whose start fails are added to `failed`."""
    with run.steps("starting peers", len(missing)) as advance:
        for key in missing:
            title = str(key["peer"])
            if title not in failed:
                try:
                    run.points.add(START, key, one_start(run, title, model, requests), command=command_of(title))
                except FAILURES as error:
                    failed.add(title)
                    run.points.add(START, key, {}, error=one_line(error), command=command_of(title))
            advance(1)


def one_start(run: BenchRun, title: str, model: Path, requests: Sequence[Asked]) -> dict[str, Any]:
    began = time.monotonic()
    with up(run, title, model) as (target, log):
        first_right_answer(target, PEERS.get(title), requests[0], log)
        seconds = time.monotonic() - began
        for request in requests:
            check(target, PEERS.get(title), request)
        time.sleep(REST_SECONDS)
        memory = sum(memory_mb(target.process).values())
    peer = PEERS.get(title)
    about = (peer.version, peer.settings) if peer else (version("ncf-triton"), "as it comes")
    return {"first_answer_s": seconds, "memory_mb": memory, "version": about[0], "settings": about[1]}


@contextlib.contextmanager
def up(run: BenchRun, title: str, model: Path) -> Iterator[tuple[Target, Path | None]]:
    """Start a server; yield it, and its log if it is a peer, which may not be ready yet."""
    if title == OURS:
        with whole_serve(run, run.recommender.repository) as target:
            yield target, None
    else:
        with launched(run, PEERS[title], model) as started:
            yield started


def first_right_answer(target: Target, peer: Peer | None, request: Asked, log: Path | None) -> None:
    """Ask until an answer arrives. Raises click.ClickException if it is wrong, if the server ends, or after a while."""
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while True:
        try:
            scores = scores_from(target, peer, request)
        except FAILURES as error:
            gone = target.process is not None and Path(f"/proc/{target.process}/stat").read_text().split()[2] == "Z"
            if gone or time.monotonic() > deadline:
                line = telling(log.read_text(errors="replace")) if log else ""
                why = "ended" if gone else f"gave no answer in {FIRST_ANSWER_SECONDS} s ({one_line(error)})"
                raise click.ClickException(f"{target.name} {why}: {line}") from error
            time.sleep(0.1)
            continue
        compare(target.name, scores, request.scores)
        return


def scores_from(target: Target, peer: Peer | None, request: Asked) -> list[float]:
    if peer is None:
        scores: list[float] = ask(target, request.body)["scores"]
        return scores
    return peer.read(ask(target, peer.body(request.body)))


def check(target: Target, peer: Peer | None, request: Asked) -> None:
    compare(target.name, scores_from(target, peer, request), request.scores)


def compare(name: str, scores: Sequence[float], right: Sequence[float]) -> None:
    """Raises click.ClickException if the scores are not those of the module."""
    if len(scores) != len(right):
        raise click.ClickException(f"{name} answers {len(scores)} scores to {len(right)} pairs")
    if not np.allclose(scores, right, atol=1e-5):
        most = float(np.abs(np.subtract(scores, right)).max())
        raise click.ClickException(f"{name} answers other scores than the exported module, by up to {most:.2g}")


def loads(run: BenchRun, model: Path, requests: Sequence[Asked], wanted: Sequence[Key]) -> None:
    """Measure every load that is missing, peer by peer, beside one `serve`."""
    if not wanted:
        return
    try:
        with (
            whole_serve(run, run.recommender.repository) as ours,
            run.steps("peers and serve under load", len(wanted)) as advance,
        ):
            check(ours, None, requests[-1])
            for title in PEERS:
                keys = [key for key in wanted if key["peer"] == title]
                if keys:
                    one_peer(run, PEERS[title], ours, model, requests, keys, advance)
    except FAILURES as error:
        fail(run, wanted, error)


def one_peer(
    run: BenchRun, peer: Peer, ours: Target, model: Path, requests: Sequence[Asked], keys: Sequence[Key],
    advance: Callable[[float], None],
) -> None:  # fmt: skip
    """The rounds of one peer; in each, `serve` is loaded right before or after it."""
    try:
        with launched(run, peer, model) as (target, log):
            first_right_answer(target, peer, requests[0], log)
            for request, rows in zip(requests, ASKED, strict=True):
                compare(peer.title, scores_from(target, peer, request), scores_from(ours, None, request))
                bodies = bodies_of(run.recommender, rows)
                wrk(target, [peer.body(body) for body in bodies], 16, peer.warm_up)
                wrk(ours, bodies, 16, 1)
            for key in keys:
                one_load(run, peer, ours, target, key)
                advance(1)
    except FAILURES as error:
        fail(run, keys, error)


def one_load(run: BenchRun, peer: Peer, ours: Target, theirs: Target, key: Key) -> None:
    rows, concurrency = int(key["rows"]), int(key["concurrency"])
    bodies = bodies_of(run.recommender, rows, int(key["round"]))
    seconds = max(1, round(min(run.seconds, MOST_SECONDS)))
    sent = {OURS: (ours, bodies), peer.title: (theirs, [peer.body(body) for body in bodies])}
    figures = {}
    try:
        for title in [OURS, peer.title][:: -1 if int(key["round"]) % 2 else 1]:
            target, mine = sent[title]
            found = wrk(target, mine, concurrency, seconds, count_errors=True)
            figures[title] = {**found.figures(rows), "memory_mb": memory_mb(target.process)}
    except click.ClickException as error:
        run.points.add(LOAD, key, {}, error=one_line(error), command=shown(peer))
        return
    wrong = "; ".join(f"{title}: {fault}" for title, mine in figures.items() if (fault := wrong_answers(mine)))
    run.points.add(LOAD, key, {**figures[peer.title], OURS: figures[OURS]}, wrong, shown(peer))


def fail(run: BenchRun, keys: Sequence[Key], error: Exception) -> None:
    """Write the error for all points that could not be measured because of it."""
    for key in run.points.missing(LOAD, keys):
        run.points.add(LOAD, key, {}, error=one_line(error), command=command_of(str(key["peer"])))


def command_of(title: str) -> str:
    return shown(PEERS[title]) if title in PEERS else "SERVE_MODEL_REPOSITORY=DIR serve"


def one_line(error: Exception) -> str:
    """The reason of an error, from a message that may contain a whole log."""
    message = error.message if isinstance(error, click.ClickException) else f"{type(error).__name__}: {error}"
    first, _, rest = message.partition("\n")
    return f"{first} {telling(rest)}"[:400] if rest.strip() else first[:400]
