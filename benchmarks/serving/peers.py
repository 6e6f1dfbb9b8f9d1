"""Section "peers": the servers that compete with `serve`, with the same module and requests, measured beside it."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.peers.launch import PEERS, Peer, install, launched, model_folder, scores_of, shown, telling
from benchmarks.rig.points import Key, wrong_answers
from benchmarks.rig.processes import memory_mb
from benchmarks.rig.questions import ASKS, TOP, K, as_pairs, as_top, questions
from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import whole_serve
from benchmarks.rig.wrk import Target, ask, find_wrk, wrk

START, LOAD, OURS = "peer_start", "peers", "serve"
ASKED: dict[str | int | float, str] = {1: "1 pair", 100: "100 pairs", TOP: TOP}  # by the part `rows` of a key
CONCURRENCIES, QUICK_CONCURRENCIES = (1, 16, 64), (1, 16)
# Six peers with six loads each, nine for TorchServe and three for its plain module, and `serve` beside each of them:
# limited, so that it takes ten
# minutes.
MOST_ROUNDS, MOST_SECONDS = 3, 1
FIRST_ANSWER_SECONDS, REST_SECONDS = 120, 2
FAILURES = (click.ClickException, OSError, http.client.HTTPException, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class Asked:
    """A request and its right answer: the scores, and of a ranking by item more of the best than are asked for."""

    ask: str
    body: bytes
    scores: list[float]
    best: Mapping[str, float] = field(default_factory=dict)


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
    requests = [asked(run.recommender, model, name) for name in ASKED.values()]
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
        for rows, name in ASKED.items()
        if name in PEERS[title].asks
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


def asked(recommender: Recommender, model: Path, name: str) -> Asked:
    """A request, and its answer by the exported modules in this process."""
    question, body = questions(recommender, name, 0)[0], bodies_of(recommender, name)[0]
    with torch.inference_mode():
        if question.top:
            items, scores = torch.jit.load(str(model / "query.pt"))(torch.from_numpy(question.query))
            ids = [str(recommender.run.items.ids[item]) for item in items[0].tolist()]
            return Asked(name, body, scores[0, :K].tolist(), dict(zip(ids, scores[0].tolist(), strict=True)))
        indices = (torch.from_numpy(index)[:, None] for index in (question.user_index, question.item_index))
        return Asked(name, body, torch.jit.load(str(model / "model.pt"))(*indices).squeeze(1).tolist())


def bodies_of(recommender: Recommender, name: str, number: int = 0) -> list[bytes]:
    """The requests of a round, in the form of `serve`."""
    form = as_top if name == TOP else as_pairs
    return [form(question) for question in questions(recommender, name, number)]


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
            if title == OURS or request.ask in PEERS[title].asks:
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
    if request.best:
        return ranked_scores(target.name, ask(target, request.body)["recommendations"], request.best)
    return peer.read(ask(target, peer.body(request.body))) if peer else scores_of(ask(target, request.body))


def ranked_scores(name: str, ranking: Sequence[Mapping[str, Any]], best: Mapping[str, float]) -> list[float]:
    """The scores of a ranking. Raises click.ClickException if an item is not one of the best, or has another score."""
    scores = [float(each["score"]) for each in ranking]
    compare(name, scores, [best.get(each["item_id"], np.inf) for each in ranking])
    return scores


def check(target: Target, peer: Peer | None, request: Asked) -> None:
    compare(target.name, scores_from(target, peer, request), request.scores)


def compare(name: str, scores: Sequence[float], right: Sequence[float]) -> None:
    """Raises click.ClickException if the scores are not those of the module."""
    if len(scores) != len(right):
        raise click.ClickException(f"{name} answers {len(scores)} scores instead of {len(right)}")
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
            for request in requests:
                check(ours, None, request)
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
            for request in [each for each in requests if each.ask in peer.asks]:
                compare(peer.title, scores_from(target, peer, request), scores_from(ours, None, request))
                bodies = bodies_of(run.recommender, request.ask)
                wrk(target, [peer.body(body) for body in bodies], 16, peer.warm_up)
                wrk(ours, bodies, 16, 1)
            for key in keys:
                one_load(run, peer, ours, target, key)
                advance(1)
    except FAILURES as error:
        fail(run, keys, error)


def one_load(run: BenchRun, peer: Peer, ours: Target, theirs: Target, key: Key) -> None:
    name, concurrency = ASKED[key["rows"]], int(key["concurrency"])
    bodies = bodies_of(run.recommender, name, int(key["round"]))
    seconds = max(1, round(min(run.seconds, MOST_SECONDS)))
    sent = {OURS: (ours, bodies), peer.title: (theirs, [peer.body(body) for body in bodies])}
    figures = {}
    try:
        for title in [OURS, peer.title][:: -1 if int(key["round"]) % 2 else 1]:
            target, mine = sent[title]
            found = wrk(target, mine, concurrency, seconds, count_errors=True)
            figures[title] = {**found.figures(ASKS[name]), "memory_mb": memory_mb(target.process)}
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
