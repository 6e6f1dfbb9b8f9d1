"""A TorchServe that scores pairs by raw ids with the exported module: its own recommended settings, our model."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sysconfig
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks.rig.rig import Bench, Recommender, free_ports, process, wait_for
from serve.supervisor.ports import LOOPBACK

HANDLER = Path(__file__).parent / "workers.py"
# As many workers as cores; a batch for all that wait, at the shortest delay that can be set.
BATCH_SIZE, BATCH_DELAY_MS = 8, 1
# Warnings alone: as it comes it logs every request and its metrics, which no other server here does.
LOGGING = """<Configuration><Appenders><Console name="out"><PatternLayout/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""


@contextlib.contextmanager
def torchserve(bench: Bench, peers: Path, recommender: Recommender) -> Iterator[int]:
    """Its port for predictions; `peers` is the Python of the environment that has it. It needs Java."""
    program = peers.parent / "torchserve"
    if not program.exists() or shutil.which("java") is None:
        raise click.ClickException(f"TorchServe needs {program} (requirements-bench.txt) and java on PATH")
    folder = Path(tempfile.mkdtemp(dir=bench.folder))
    archive(folder / "pairs.mar", recommender)
    inference, management, metrics, grpc, grpc_management = free_ports(5)
    cores = len(os.sched_getaffinity(0))
    (folder / "log4j2.xml").write_text(LOGGING)
    model = {
        "defaultVersion": True,
        "marName": "pairs.mar",
        "minWorkers": cores,
        "maxWorkers": cores,
        "batchSize": BATCH_SIZE,
        "maxBatchDelay": BATCH_DELAY_MS,
        "responseTimeout": 60,
    }
    (folder / "config.properties").write_text(
        "\n".join(
            [
                f"inference_address=http://{LOOPBACK}:{inference}",
                f"management_address=http://{LOOPBACK}:{management}",
                f"metrics_address=http://{LOOPBACK}:{metrics}",
                f"grpc_inference_port={grpc}",
                f"grpc_management_port={grpc_management}",
                "disable_token_authorization=true",
                "enable_envvars_config=true",
                "disable_system_metrics=true",
                "job_queue_size=1000",
                "models=" + json.dumps({"pairs": {"1.0": model}}),
                "load_models=pairs.mar",
                f"model_store={folder}",
                "",
            ]
        )
    )
    environment = {
        **os.environ,
        "PATH": f"{peers.parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{sysconfig.get_path('purelib')}",  # this environment's torch
        "LOG_LOCATION": str(folder),
        "METRICS_LOCATION": str(folder),
        "TEMP": str(folder),
    }
    command = [
        str(program), "--foreground", "--ncs", "--disable-token-auth", "--model-store", str(folder),
        "--ts-config", str(folder / "config.properties"), "--log-config", str(folder / "log4j2.xml"),
    ]  # fmt: skip
    task = bench.progress.add_task("starting TorchServe", total=None)
    with process(command, environment, folder / "log") as started:
        wait_for(lambda: healthy(management, cores), started, folder / "log")
        bench.progress.remove_task(task)
        yield inference


def archive(path: Path, recommender: Recommender) -> None:
    """The model with its handler and ids, as torch-model-archiver packs them."""
    manifest = {
        "runtime": "python",
        "archiverVersion": "0.12.0",
        "model": {
            "modelName": "pairs",
            "modelVersion": "1.0",
            "serializedFile": "model.pt",
            "handler": f"{HANDLER.name}:handle",
        },
    }
    run = recommender.run
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        packed.write(recommender.exported.score / str(recommender.exported.version) / "model.pt", "model.pt")
        packed.write(HANDLER, HANDLER.name)
        for name, index in (("users", run.users), ("items", run.items)):
            packed.writestr(f"{name}.json", json.dumps({raw: i for i, raw in enumerate(index.ids.to_list())}))


def healthy(management: int, workers: int) -> bool:
    """Whether all workers have loaded the model."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{management}/models/pairs", timeout=2) as answer:
            described = json.load(answer)[0]["workers"]
    except (OSError, ValueError, KeyError):
        return False
    return [worker["status"] for worker in described] == ["READY"] * workers
