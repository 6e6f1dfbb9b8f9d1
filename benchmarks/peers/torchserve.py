"""A TorchServe that scores pairs and ranks the catalogue with the exported modules, as TorchServe recommends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks.rig.machine import package_folders
from benchmarks.rig.run import BenchRun
from benchmarks.rig.starting import free_ports, process, wait_for
from serve.supervisor.ports import LOOPBACK

HANDLER, SCORER = "torchserve_handler.py", "peer_scorer.py"
# A batch for the requests that wait, with the shortest delay that can be set.
BATCH_SIZE, BATCH_DELAY_MS = 8, 1
# Warnings only: by default TorchServe logs every request and its metrics, which no other server here does.
LOGGING = """<Configuration><Appenders><Console name="out"><PatternLayout/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""


@contextlib.contextmanager
def torchserve(run: BenchRun, environment_folder: Path, model: Path, entry: str) -> Iterator[int]:
    """Start it with a worker a core; yield its port for predictions. It needs Java.

    `environment_folder` is the virtual environment with TorchServe, `model` a folder as `model_folder` writes it, and
    `entry` the handler's function.
    """
    programs = environment_folder / "bin"
    program = programs / "torchserve"
    if not program.exists() or shutil.which("java") is None:
        raise click.ClickException(f"TorchServe needs {program} (run: make .venv/bench/ready) and java on PATH")
    folder = Path(tempfile.mkdtemp(dir=run.folder))
    archive(folder / "pairs.mar", model, entry)
    inference, management, metrics, grpc, grpc_management = free_ports(5)
    cores = len(os.sched_getaffinity(0))
    (folder / "log4j2.xml").write_text(LOGGING)
    settings = {
        "defaultVersion": True, "marName": "pairs.mar", "minWorkers": cores, "maxWorkers": cores,
        "batchSize": BATCH_SIZE, "maxBatchDelay": BATCH_DELAY_MS, "responseTimeout": 60,
    }  # fmt: skip
    lines = [
        f"inference_address=http://{LOOPBACK}:{inference}", f"management_address=http://{LOOPBACK}:{management}",
        f"metrics_address=http://{LOOPBACK}:{metrics}", f"grpc_inference_port={grpc}",
        f"grpc_management_port={grpc_management}", "disable_token_authorization=true", "enable_envvars_config=true",
        "disable_system_metrics=true", "job_queue_size=1000",
        "models=" + json.dumps({"pairs": {"1.0": settings}}), "load_models=pairs.mar", f"model_store={folder}",
    ]  # fmt: skip
    (folder / "config.properties").write_text("\n".join(lines) + "\n")
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(package_folders()),  # for the torch of this environment
        "LOG_LOCATION": str(folder),
        "METRICS_LOCATION": str(folder),
        "TEMP": str(folder),
    }
    command = [
        str(program), "--foreground", "--ncs", "--disable-token-auth", "--model-store", str(folder),
        "--ts-config", str(folder / "config.properties"), "--log-config", str(folder / "log4j2.xml"),
    ]  # fmt: skip
    with process(command, environment, folder / "log") as started:
        with run.steps("starting TorchServe"):
            wait_for(lambda: healthy(management, cores), started, folder / "log")
        yield inference


def archive(path: Path, model: Path, entry: str) -> None:
    """Pack the model folder with the handler, as torch-model-archiver does."""
    described = {"modelName": "pairs", "modelVersion": "1.0", "serializedFile": "model.pt"}
    manifest = {
        "runtime": "python", "archiverVersion": "0.12.0", "model": {**described, "handler": f"{HANDLER}:{entry}"}
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        for name in (HANDLER, SCORER):
            packed.write(Path(__file__).parent / name, name)
        for file in sorted(model.iterdir()):
            packed.write(file, file.name)


def healthy(management: int, workers: int) -> bool:
    """Whether all workers have loaded the model."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{management}/models/pairs", timeout=2) as answer:
            described = json.load(answer)[0]["workers"]
    except (OSError, ValueError, KeyError):
        return False
    return [worker["status"] for worker in described] == ["READY"] * workers
