"""The servers that `make bench` compares `serve` with: their settings, their installation and their start."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson

from benchmarks import ROOT
from benchmarks.peers.torchserve import BATCH_DELAY_MS, BATCH_SIZE, torchserve
from benchmarks.rig.machine import package_folders
from benchmarks.rig.questions import ASKS, TOP
from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import BenchRun
from benchmarks.rig.starting import free_ports, process
from benchmarks.rig.wrk import Target
from serve.supervisor.ports import LOOPBACK

HERE = Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0))
INSTALL_SECONDS = 900
PAIRS = tuple(name for name in ASKS if name != TOP)
TORCHSERVE_COMMAND = (
    "torchserve --foreground --ncs --disable-token-auth --model-store DIR --ts-config DIR/config.properties "
    "--log-config DIR/log4j2.xml"
)


def as_it_is(body: bytes) -> bytes:
    return body


def scores_of(answer: Any) -> list[float]:
    found: list[float] = answer["scores"]
    return found


def kserve_pairs(body: bytes) -> bytes:
    """The pairs of a body as two columns of KServe-v2 JSON."""
    pairs = orjson.loads(body)["pairs"]
    columns = (
        {"name": name, "datatype": "BYTES", "shape": [len(pairs), 1], "data": [pair[name] for pair in pairs]}
        for name in ("user_id", "item_id")
    )
    return orjson.dumps({"inputs": list(columns)})


@dataclass(frozen=True)
class Peer:
    """A server to compare with; `name` is its package, `command` has the fields {bin}, {here}, {folder} and {port}.

    `body` turns a request of ours into its form, and `read` its answer to pairs into scores. `asks` are the questions
    that it answers; to TOP it answers in the form of `serve`. `entry` is the function of TorchServe's handler.
    """

    title: str
    name: str
    path: str
    command: str
    settings: str
    environment: tuple[tuple[str, str], ...] = ()
    body: Callable[[bytes], bytes] = as_it_is
    read: Callable[[Any], list[float]] = scores_of
    warm_up: int = 1
    asks: tuple[str, ...] = PAIRS
    entry: str = "handle"

    @property
    def folder(self) -> Path:
        """The virtual environment of this peer."""
        return ROOT / ".venv" / ("bench" if self.name == "torchserve" else f"peers/{self.name}")

    @property
    def site(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    @property
    def version(self) -> str:
        return next((found.version for found in distributions(name=self.name, path=[str(self.site)])), "")


PEERS = {
    peer.title: peer
    for peer in (
        Peer(
            "TorchServe",
            "torchserve",
            "/predictions/pairs",
            TORCHSERVE_COMMAND,
            f"{CORES} workers, batchSize {BATCH_SIZE}, maxBatchDelay {BATCH_DELAY_MS} ms, 1 thread a worker, orjson, "
            "logs of warnings alone; a worker has the scoring and the query module",
            warm_up=4,  # Java compiles while it runs
            asks=(*PAIRS, TOP),
        ),
        Peer(
            "TorchServe, plain module",
            "torchserve",
            "/predictions/pairs",
            TORCHSERVE_COMMAND,
            "as TorchServe, but the scoring module ranks: it scores every item for a user, and topk takes the best",
            warm_up=4,
            asks=(TOP,),
            entry="handle_plain",
        ),
        Peer(
            "MLServer",
            "mlserver",
            "/v2/models/pairs/infer",
            "{bin}/mlserver start {folder}",
            "custom runtime, KServe-v2 JSON with BYTES ids (a route of its own has no batching), max_batch_size 64, "
            "max_batch_time 1 ms, parallel_workers 0 (faster here than a worker a core), uvloop, orjson, no metrics",
            body=kserve_pairs,
            read=lambda answer: scores_of({"scores": answer["outputs"][0]["data"]}),
        ),
        Peer(
            "BentoML",
            "bentoml",
            "/score",
            "{bin}/bentoml serve bentoml_service:Pairs --working-dir {here} --host " + LOOPBACK + " --port {port}",
            f"{CORES} workers, adaptive batching over pairs (max_batch_size 6400), async API, uvloop and httptools, "
            "no metrics and access log; a batchable API answers a bare list",
            environment=(("BENTOML_DO_NOT_TRACK", "True"),),
            read=list,
        ),
        Peer(
            "LitServe",
            "litserve",
            "/predict",
            "{bin}/python {here}/litserve_server.py",
            f"{CORES} workers and {CORES} API servers, max_batch_size 64, batch_timeout 1 ms, fast_queue (ZeroMQ), "
            "uvloop and httptools, answers by orjson",
        ),
        Peer(
            "mosec",
            "mosec",
            "/inference",
            "{bin}/python {here}/mosec_server.py --address " + LOOPBACK + " --port {port} --log-level warning",
            f"{CORES} workers, max_batch_size 64, max_wait_time 1 ms, orjson",
        ),
        Peer(
            "Ray Serve",
            "ray",
            "/pairs",
            "{bin}/python {here}/ray_server.py",
            f"{CORES} replicas, serve.batch of 64 within 1 ms, throughput mode, HAProxy in front, orjson",
            environment=(
                ("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1"),
                ("RAY_SERVE_ENABLE_HA_PROXY", "1"),
                ("RAY_SERVE_HAPROXY_TCP_NODELAY", "1"),
                ("RAY_SERVE_HAPROXY_NBTHREAD", str(CORES)),
                ("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC", "{folder}/haproxy.cfg"),
                ("RAY_SERVE_HAPROXY_SOCKET_PATH", "{folder}/admin.sock"),
                ("RAY_SERVE_HAPROXY_SERVER_STATE_BASE", "{folder}"),
                ("RAY_SERVE_HAPROXY_SERVER_STATE_FILE", "{folder}/server-state"),
                ("RAY_USAGE_STATS_ENABLED", "0"),
            ),
        ),
    )
}


def telling(text: str) -> str:
    """The first line of a log that names an error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in (r"ERROR: (?!Ignored)", r"[\w.]*(Error|Exception|Stop)\b.*:", r".*\b(ERROR|FATAL|CRITICAL)\b"):
        for line in lines:
            if re.match(pattern, line):
                return line[:300]
    return lines[-1][:300] if lines else "its log is empty"


def install(run: BenchRun, peer: Peer) -> None:
    """Make the peer's virtual environment if it is missing. Raises click.ClickException if pip fails."""
    if peer.name == "torchserve":
        if not (peer.folder / "bin" / "torchserve").exists() or shutil.which("java") is None:
            raise click.ClickException("TorchServe needs .venv/bench (run: make .venv/bench/ready) and java on PATH")
        return
    pins, ready = HERE / f"{peer.name}.txt", peer.folder / "ready"
    if ready.exists() and ready.read_text() == pins.read_text():
        return
    made = [sys.executable, "-m", "venv", "--clear", str(peer.folder)]
    pip = [str(peer.folder / "bin" / "pip"), "install", "--disable-pip-version-check", "-r", str(pins)]
    name = f"pip install -r benchmarks/peers/{pins.name}"
    with run.steps(f"installing {peer.title} into .venv/peers/{peer.name}"):
        for command in (made, pip):
            try:
                ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
            except subprocess.TimeoutExpired:
                raise click.ClickException(f"{name}: it did not end in {INSTALL_SECONDS} s") from None
            if ended.returncode:
                raise click.ClickException(f"{name}: {telling(ended.stderr or ended.stdout)}")
    # The torch of this environment. It comes after the peer's own packages, which are used where both have a package.
    (peer.site / "project.pth").write_text("".join(f"{folder}\n" for folder in package_folders()))
    ready.write_text(pins.read_text())


def model_folder(run: BenchRun, recommender: Recommender) -> Path:
    """A folder with the exported modules and the ids, as `peer_scorer.py` and TorchServe's handler read them."""
    folder = Path(tempfile.mkdtemp(prefix="model-", dir=run.folder))
    exported = recommender.exported
    for name, part in (("model.pt", exported.score), ("query.pt", exported.query)):
        shutil.copy(part / str(exported.version) / "model.pt", folder / name)
    for name, index in (("users", recommender.run.users), ("items", recommender.run.items)):
        (folder / f"{name}.json").write_text(json.dumps({raw: i for i, raw in enumerate(index.ids.to_list())}))
    known = recommender.run.known
    np.savez(folder / "seen.npz", indptr=known.indptr.numpy(), items=known.items.numpy())
    return folder


def shown(peer: Peer) -> str:
    """The command that starts a peer, without the paths of this machine."""
    settings = [f"{name}={value.format(folder='DIR')}" for name, value in peer.environment]
    names = {"bin": f".venv/peers/{peer.name}/bin", "here": "benchmarks/peers", "folder": "DIR", "port": "PORT"}
    return " ".join([*settings, peer.command.format(**names)])


@contextlib.contextmanager
def launched(run: BenchRun, peer: Peer, model: Path) -> Iterator[tuple[Target, Path | None]]:
    """Start a peer; yield it and its log before it is ready. At the end all its processes are killed."""
    if peer.name == "torchserve":
        before = children()
        with torchserve(run, peer.folder, model, peer.entry) as port:
            yield Target(peer.title, port, peer.path, min(children() - before, default=None)), None
        return
    folder = Path(tempfile.mkdtemp(prefix="p", dir=run.folder))  # short: paths of Unix sockets are limited
    port, grpc = free_ports(2)
    if peer.name == "mlserver":
        mlserver_files(folder, port, grpc)
    names = {"bin": str(peer.folder / "bin"), "here": str(HERE), "folder": str(folder), "port": str(port)}
    mark = f"PEER_MARK={secrets.token_hex(8)}"
    environment = {
        **os.environ,
        **{name: value.format(**names) for name, value in peer.environment},
        "PATH": f"{peer.folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),  # Ray and BentoML write files there
        "PYTHONPATH": str(HERE),
        "OMP_NUM_THREADS": "1",
        "PEER_FOLDER": str(model),
        "PEER_PORT": str(port),
        "PEER_SCRATCH": str(folder),
        **dict([mark.split("=")]),
    }
    command = peer.command.format(**names).split()
    try:
        with process(command, environment, folder / "log") as started:
            yield Target(peer.title, port, peer.path, started.pid), folder / "log"
    finally:
        kill_marked(mark)


def mlserver_files(folder: Path, port: int, grpc: int) -> None:
    server = {
        "debug": False, "host": LOOPBACK, "http_port": port, "grpc_port": grpc, "metrics_endpoint": None,
        "parallel_workers": 0, "gzip_enabled": False,
    }  # fmt: skip
    model = {
        "name": "pairs", "implementation": "mlserver_runtime.Pairs", "max_batch_size": 64, "max_batch_time": 0.001,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


def children() -> set[int]:
    """The process ids of this process's own children."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == os.getpid():
                found.add(int(entry.name))
    return found


def kill_marked(mark: str) -> None:
    """Kill the processes with this environment variable: Ray's workers and HAProxy leave their process group."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
