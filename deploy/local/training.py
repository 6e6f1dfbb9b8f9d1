"""A training job: SageMaker's folders under a temporary one, the `train` verb, and the model back into S3."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tarfile
import time
from pathlib import Path

from deploy.aws.objects import writing
from deploy.errors import UserError, WorldError
from deploy.file.archive import remove
from deploy.file.jobs import TrainJob
from deploy.local.place import Place, Start, own_program, variables
from deploy.local.program import FOLLOWS, kill

KILL_SECONDS = 120.0  # between SIGTERM and SIGKILL
USERS_FAULT = 2  # the exit code of `train` for it
REASON = 1024  # bytes of output/failure that SageMaker shows


async def train(job: TrainJob, name: str, place: Place) -> list[str]:
    """Run it; where the model is. SIGHUP is the interruption of a spot instance. Raises DeployError."""
    base = place.work / "ml"
    await asyncio.to_thread(_lay_out, job, base, place)
    mine = {**variables(job.environment), "TRAINING_JOB_NAME": name}
    if place.docker:
        options = f"--volume={base}:/opt/ml", f"--user={os.getuid()}:{os.getgid()}"
        start = place.container(job.image, "train", mine, 0, *options)
    else:  # torch leaves a folder in TMPDIR, which is removed with the job's
        own = {"SAGEMAKER_BASE_DIR": str(base), "TMPDIR": str(place.work)}
        start = Start(place.command(job.image) or own_program("train"), mine | own)
    end, code = time.monotonic() + job.max_seconds, None
    while code is None and (left := end - time.monotonic()) > 0:
        for made in (base / "model", base / "output"):  # of an interrupted attempt the checkpoints alone are left
            remove(made)
            (made / "data" if made.name == "output" else made).mkdir(parents=True)
        code = await _attempt(start, left, name, place)
    if job.checkpoints:
        await asyncio.to_thread(place.storage.upload_all, f"{job.checkpoints.rstrip('/')}/{name}", base / "checkpoints")
    if code:
        failure = base / "output" / "failure"
        reason = failure.read_bytes()[:REASON].decode(errors="replace") if failure.exists() else "see its last lines"
        raise (UserError if code == USERS_FAULT else WorldError)(f"{name} failed with exit code {code}: {reason}")
    lines = [f"{name} was stopped after max_seconds, {job.max_seconds}"] if code is None else []
    for folder, archive in ((base / "model", "model.tar.gz"), (base / "output" / "data", "output.tar.gz")):
        if any(folder.iterdir()):
            uri = f"{job.output.rstrip('/')}/{name}/output/{archive}"
            await asyncio.to_thread(_pack, folder, base / archive, uri, place)
            lines.append(uri)
    return lines


async def _attempt(start: Start, left: float, name: str, place: Place) -> int | None:
    """The exit code of `train`; None if it was interrupted, or its time was up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FOLLOWS, *start.command, env={**os.environ, **start.environment}, start_new_session=True
    )
    stops = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stops.set)
    ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(stops.wait())
    try:
        await asyncio.wait({ended, stopped}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else None
    finally:  # also at Ctrl-C
        stopped.cancel()
        if not ended.done():
            place.say(f"{name} gets SIGTERM, and SIGKILL {KILL_SECONDS:g} s later")
            process.send_signal(signal.SIGTERM)
            await asyncio.wait({ended}, timeout=KILL_SECONDS)
            await kill(process, start.removal)


def _lay_out(job: TrainJob, base: Path, place: Place) -> None:
    """All that a job finds: its configuration, its channels as files, and a folder for checkpoints."""
    for folder in ("input/config", "input/data"):
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
        if not place.storage.download_all(channel.from_, base / "input" / "data" / name):
            raise UserError(f"channel {name}: there is no object under {channel.from_}; `aws s3 cp` puts data there")
    if job.checkpoints:
        (base / "checkpoints").mkdir()


def _pack(folder: Path, archive: Path, uri: str, place: Place) -> None:
    with writing(archive), tarfile.open(archive, "w:gz") as packed:
        for part in sorted(folder.iterdir()):
            packed.add(part, part.name)
    place.storage.upload(uri, archive)
