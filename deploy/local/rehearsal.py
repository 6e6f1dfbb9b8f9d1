"""The whole rehearsal: endpoints from their files behind one port, until a signal ends it, and then the summary."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from aiohttp import web

from deploy.checked import checked
from deploy.errors import DeployError, UserError
from deploy.file.archive import remove
from deploy.file.endpoint import EndpointFile
from deploy.file.jobs import TrainJob, TransformJob
from deploy.file.load import Loaded
from deploy.local.asynchronous import Queue
from deploy.local.control import Control
from deploy.local.endpoint import Endpoint
from deploy.local.place import Place, safe_ports
from deploy.local.runtime import Runtime
from deploy.local.storage import Storage
from deploy.local.training import train
from deploy.local.transform import transform

Images = Mapping[str, list[str]]


async def rehearse_job(
    loaded: Loaded[TrainJob] | Loaded[TransformJob], images: Images, docker: bool, say: Callable[[str], None]
) -> list[str]:
    """Run a job to its end; the lines that tell of it. Raises DeployError."""
    job = loaded.content
    work = Path(tempfile.mkdtemp(prefix="ncf-deploy-local-"))
    region = _region(job.region)
    place = Place(job.name, region, work, Storage(region, loaded.folder), say, images, safe_ports(), docker)
    say("This is a rehearsal and no platform for production.")
    try:
        if isinstance(job, TransformJob):
            return await transform(job, place)
        return await train(job, f"{job.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}", place)
    finally:
        remove(work)


def _region(given: str | None) -> str:
    return given or os.environ.get("AWS_REGION") or "us-east-1"


async def rehearse(
    paths: Sequence[Path], port: int, images: Images, docker: bool, say: Callable[[str], None]
) -> list[str]:
    """Host what the files declare until a signal ends it, and give the summary. Raises DeployError."""
    names: dict[str, Path] = {}
    files = {path: checked(path) for path in paths}
    for path, one in files.items():
        if one.file.function:
            raise UserError(f"{path}: Lambda functions are not rehearsed; docs/image.md runs one by Lambda's emulator")
        if (first := names.setdefault(one.file.name, path)) != path:
            raise UserError(f"{path} and {first} both name the endpoint {one.file.name}; rename one of them")
    work = Path(tempfile.mkdtemp(prefix="ncf-deploy-local-"))
    try:
        ports, endpoints = safe_ports(), {}
        for path, one in files.items():
            region = _region(one.file.region)
            storage = Storage(region, one.loaded.folder)
            endpoints[path] = Endpoint(one, Place(one.file.name, region, work, storage, say, images, ports, docker))
        return await Rehearsal(endpoints, port, say).run()
    finally:
        remove(work)


class Rehearsal:
    """Endpoints by the path of their files, behind one port."""

    def __init__(self, by_path: dict[Path, Endpoint], port: int, say: Callable[[str], None]) -> None:
        self._by_path, self._port, self._say = by_path, port, say
        self.endpoints = {endpoint.name: endpoint for endpoint in by_path.values()}
        self._queues: dict[str, Queue] = {}
        self._updates: set[asyncio.Task[None]] = set()
        self._ends = asyncio.Event()

    async def run(self) -> list[str]:
        """The summary, in lines."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ends.set)
        loop.add_signal_handler(signal.SIGHUP, self._update_all)
        for name, endpoint in self.endpoints.items():
            for words in not_rehearsed(endpoint.live.file):
                self._say(f"{name}: {words}")
            if endpoint.live.file.asynchronous:
                self._queues[name] = Queue(endpoint, endpoint.live.file.asynchronous)
        application = web.Application()
        Runtime(self.endpoints, self._queues).add_to(application)
        Control(self.endpoints).add_to(application)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=5)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, "127.0.0.1", self._port).start()
            except OSError as error:
                raise UserError(f"port {self._port} is taken; end its program, or give another --port") from error
            creation, ends = asyncio.create_task(self._create()), asyncio.create_task(self._ends.wait())
            await asyncio.wait({creation, ends}, return_when=asyncio.FIRST_COMPLETED)
            if not creation.done():
                creation.cancel()
                await asyncio.wait({creation})
                return self.summary()
            await creation
            self._say(f"Ready at http://127.0.0.1:{self._port}. This is a rehearsal and no platform for production.")
            self._say(f"  boto3.client('sagemaker-runtime', endpoint_url='http://127.0.0.1:{self._port}', …)")
            self._say(f"  kill -HUP {os.getpid()} updates from the changed file; Ctrl-C ends it and prints a summary")
            await ends
            await asyncio.gather(*(endpoint.settle() for endpoint in self.endpoints.values()))
            return self.summary()
        finally:
            for task in self._updates:
                task.cancel()
            for queue in self._queues.values():
                queue.stop()
            await runner.cleanup()
            await asyncio.gather(*(endpoint.stop() for endpoint in self.endpoints.values()))

    async def _create(self) -> None:
        tasks = [asyncio.create_task(endpoint.create()) for endpoint in self.endpoints.values()]
        try:
            await asyncio.gather(*tasks)
        finally:  # if one fails, the others are given up
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _update_all(self) -> None:
        for path, endpoint in self._by_path.items():
            task = asyncio.ensure_future(self._update(path, endpoint))
            self._updates.add(task)
            task.add_done_callback(self._updates.discard)

    async def _update(self, path: Path, endpoint: Endpoint) -> None:
        try:
            await endpoint.update(await asyncio.to_thread(checked, path))
        except DeployError as error:
            self._say(f"{endpoint.name} is not updated: {error}")

    def summary(self) -> list[str]:
        return [line for name, endpoint in self.endpoints.items() for line in summary(endpoint, self._queues.get(name))]


def summary(endpoint: Endpoint, queue: Queue | None) -> list[str]:
    """What an endpoint has done, in lines."""
    lines = [f"{endpoint.name} ({endpoint.status})"]
    for fleet in endpoint.fleets:
        for name, hosted in fleet.variants.items():
            lines.append(f"  version {fleet.number}, {name}, weight {fleet.weights[name]:g}: {hosted.figures}")
            if hosted.restarts:
                lines.append(f"    {hosted.restarts} restarts of its containers")
            if hosted.cold_starts:
                lines.append(f"    {hosted.cold_starts} cold starts")
            lines += [f"    {each.loads} models loaded, {each.unloads} unloaded" for each in hosted.models]
        if fleet.shadow:
            lines.append(f"  version {fleet.number}, shadow {fleet.shadow.variant.name}: {fleet.shadow.figures}")
            lines.append(f"    {fleet.comparison}")
        if fleet.captured:
            lines.append(f"  version {fleet.number}: {fleet.captured.written} requests captured")
    if queue:
        lines.append(f"  asynchronous: {queue.done} answered, {queue.failed} failed, {queue.jobs.qsize()} waiting")
    return lines + [f"  {event}" for event in endpoint.past]


def not_rehearsed(file: EndpointFile) -> Iterator[str]:
    """What of a file means nothing here."""
    queue = file.asynchronous
    left_out = {
        "scaling": any(hosted.scaling for hosted in file.everything_hosted),
        "vpc": file.vpc,
        "network_isolation": file.network_isolation,
        "kms_key": file.kms_key,
        "metrics": file.metrics,
        "dashboard": file.dashboard,
        "topics that the stack creates": queue and "create" in (queue.success_topic, queue.error_topic),
        "alarms that rollback names": file.update and file.update.rollback and file.update.rollback.alarms,
    }
    if those := [name for name, is_given in left_out.items() if is_given]:
        yield f"not rehearsed here: {', '.join(those)}"
