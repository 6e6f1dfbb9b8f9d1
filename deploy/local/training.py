"""A training job: SageMaker's folders under a temporary one, the `train` verb, and the model back into S3."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tarfile
from pathlib import Path

from deploy.errors import UserError, WorldError
from deploy.file.jobs import TrainJob
from deploy.local.place import Place, own_program, variables
from deploy.local.program import FOLLOWS
from deploy.local.storage import writing

KILL_SECONDS = 120.0  # between SIGTERM and SIGKILL
REASON = 1024  # bytes of output/failure that SageMaker shows


async def train(job: TrainJob, name: str, place: Place) -> list[str]:
    """Run it; where the model is. Raises DeployError."""
    base = place.work / "ml"
    await asyncio.to_thread(_lay_out, job, base, place)
    command = place.command(job.image) or own_program("train")
    environment = {
        **os.environ, **variables(job.environment), "SAGEMAKER_BASE_DIR": str(base), "TRAINING_JOB_NAME": name,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FOLLOWS, *command, env=environment, start_new_session=True
    )
    late = False
    try:
        await asyncio.wait_for(process.wait(), job.max_seconds)
    except (asyncio.TimeoutError, asyncio.CancelledError) as stopped:
        late = isinstance(stopped, asyncio.TimeoutError)
        place.say(f"{name} gets SIGTERM, and SIGKILL {KILL_SECONDS:g} s later")
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), KILL_SECONDS)
        except asyncio.TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if not late:
            raise
    if job.checkpoints:
        await asyncio.to_thread(_up, base / "checkpoints", f"{job.checkpoints.rstrip('/')}/{job.name}", place)
    failure = base / "output" / "failure"
    if process.returncode and not late:
        reason = (
            failure.read_bytes()[:REASON].decode(errors="replace") if failure.exists() else "its last lines say why"
        )
        raise WorldError(f"{name} failed with exit code {process.returncode}: {reason}")
    lines = [f"{name} was stopped after max_seconds, {job.max_seconds}"] if late else []
    for folder, archive in ((base / "model", "model.tar.gz"), (base / "output" / "data", "output.tar.gz")):
        if any(folder.iterdir()):
            uri = f"{job.output.rstrip('/')}/{name}/output/{archive}"
            await asyncio.to_thread(_pack, folder, base / archive, uri, place)
            lines.append(uri)
    return lines


def _lay_out(job: TrainJob, base: Path, place: Place) -> None:
    """All that a job finds: its configuration, its channels as files, and its checkpoints."""
    for folder in ("input/config", "input/data", "model", "output/data"):
        (base / folder).mkdir(parents=True)
    channels = {
        name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None",
               **({"ContentType": channel.content_type} if channel.content_type else {})}
        for name, channel in job.channels.items()
    }  # fmt: skip
    host = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
    for file, content in (
        ("hyperparameters", job.hyperparameters),
        ("inputdataconfig", channels),
        ("resourceconfig", host),
    ):
        (base / "input" / "config" / f"{file}.json").write_text(json.dumps(content))
    for name, channel in job.channels.items():
        if not _down(channel.from_, base / "input" / "data" / name, place):
            raise UserError(f"channel {name}: there is no object under {channel.from_}; `aws s3 cp` puts data there")
    if job.checkpoints:
        _down(f"{job.checkpoints.rstrip('/')}/{job.name}/", base / "checkpoints", place)


def _down(prefix: str, folder: Path, place: Place) -> int:
    """Every object under a prefix as a file below a folder; how many."""
    folder.mkdir()
    count = 0
    for uri in place.storage.listed(prefix):
        below = uri.removeprefix(prefix if prefix.endswith("/") else prefix.rpartition("/")[0]).lstrip("/")
        target = folder / below
        if uri.endswith("/") or ".." in target.parts:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        place.storage.download(uri, target)
        count += 1
    return count


def _up(folder: Path, prefix: str, place: Place) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            place.storage.upload(f"{prefix}/{file.relative_to(folder).as_posix()}", file)


def _pack(folder: Path, archive: Path, uri: str, place: Place) -> None:
    with writing(archive), tarfile.open(archive, "w:gz") as packed:
        for part in sorted(folder.iterdir()):
            packed.add(part, part.name)
    place.storage.upload(uri, archive)
