"""One container: started, pinged, asked, started again if it dies, and stopped as SageMaker does it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp

from deploy.errors import WorldError
from deploy.local.place import Start

PING_SECONDS = 2.0  # a ping must be answered within (docs/hosting.md has the container's side of all this)
KILL_SECONDS = 30.0  # between SIGTERM and SIGKILL
RESTART_SECONDS = 1.0  # before a container that died is started again; AWS publishes no figure
LOG_LINES = 12
OUR_VARIABLES = ("SERVE_", "SAGEMAKER_", "AWS_")  # of this shell, and no matter of a container's
# A program that gets SIGTERM when this process dies, so that nothing is left running if it is killed.
FOLLOWS = "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,15);os.execvp(sys.argv[1],sys.argv[1:])"


class Reply(NamedTuple):
    """A container's answer; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Gone(Exception):
    """The container did not answer: it died, or its time was up."""


class Program:
    """A container's process, on a port of its own of the loopback interface."""

    def __init__(self, label: str, start: Start, log: Path, say: Callable[[str], None]) -> None:
        self.label, self.log = label, log
        self.restarts = 0
        self.is_healthy = False
        self._start, self._say = start, say
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self, window: float) -> None:
        """Start it and wait for a good ping. Raises WorldError, with the log's last lines, if `window` seconds pass."""
        self._session = aiohttp.ClientSession(
            f"http://127.0.0.1:{self._start.port}",
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        try:
            process = await self._spawn()
            self.is_healthy = await self._is_pinged(process, window)
            if not self.is_healthy:
                code, late = process.returncode, f"did not answer /ping within {window:g} s"
                reason = late if code is None else f"ended with code {code}"
                raise WorldError(f"{self.label} {reason}, before it was healthy; its log ends:\n{self.last_lines()}")
        except BaseException:  # also if its start is cancelled
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._keep(window))

    async def _spawn(self) -> asyncio.subprocess.Process:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", FOLLOWS, *self._start.command, env={**kept, **self._start.environment},
                stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self._process

    async def _is_pinged(self, process: asyncio.subprocess.Process, window: float) -> bool:
        end = time.monotonic() + window
        while time.monotonic() < end and process.returncode is None:
            if await self._ping():
                return True
            await asyncio.sleep(0.1)
        return False

    async def _ping(self) -> bool:
        assert self._session is not None
        with suppress(aiohttp.ClientError, OSError, asyncio.TimeoutError):
            async with self._session.get("/ping", timeout=aiohttp.ClientTimeout(total=PING_SECONDS)) as answer:
                return answer.status == 200
        return False

    async def _keep(self, window: float) -> None:
        """Start it again whenever it ends."""
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self.is_healthy = False
            self.restarts += 1
            await self._kill()  # children that it left
            self._say(f"{self.label} ended with code {code} and is started again; its log: {self.log}")
            await asyncio.sleep(RESTART_SECONDS)
            self.is_healthy = await self._is_pinged(await self._spawn(), window)
            self._say(f"{self.label} is {'healthy again' if self.is_healthy else 'not healthy'}")

    async def _kill(self) -> None:
        assert self._process is not None
        await kill(self._process, self._start.removal)

    @asynccontextmanager
    async def open(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The container's answer as it comes. Raises Gone."""
        assert self._session is not None
        try:
            async with self._session.request(
                method, path, data=body or None, headers=headers, timeout=aiohttp.ClientTimeout(total=seconds),
                skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            ) as answer:  # fmt: skip
                yield answer
        except asyncio.TimeoutError as error:
            raise Gone(
                f"Your invocation timed out while waiting for a response from container {self.label} ({seconds:g} s)."
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Gone(f"The container {self.label} broke the connection: {error}") from error

    async def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Reply:
        """The container's whole answer. Raises Gone."""
        async with self.open(method, path, body, headers, seconds) as answer:
            return Reply(answer.status, lower(answer.headers), await answer.read())

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL 30 s later."""
        self.is_healthy = False
        if self._watch:
            self._watch.cancel()
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), KILL_SECONDS)
            except asyncio.TimeoutError:
                self._say(f"{self.label} had not ended {KILL_SECONDS:g} s after SIGTERM and is killed")
        if self._process:
            await self._kill()
            self._process = None
        if self._session:
            await self._session.close()

    def last_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line[:400]}" for line in lines[-LOG_LINES:]) or "    (it wrote nothing)"


async def kill(process: asyncio.subprocess.Process, removal: Sequence[str]) -> None:
    """Kill a process with all its children, which are its group, and run `removal` for what that leaves."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    if removal:
        nowhere = asyncio.subprocess.DEVNULL
        await (await asyncio.create_subprocess_exec(*removal, stdout=nowhere, stderr=nowhere)).wait()


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
