"""Many models in one container: fetched and loaded when they are asked for, the least recently used unloaded."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from pathlib import Path

from deploy.aws.objects import Missing
from deploy.errors import UserError, WorldError
from deploy.file.archive import remove
from deploy.local.api import Request
from deploy.local.program import Program, Reply
from deploy.local.refusals import Refusal, invalid
from deploy.local.storage import Storage

LOAD_SECONDS = 360.0  # that SageMaker gives a load or an unload; the caller waits for its 60 s only
NOT_LOADED, NO_MEMORY = 404, 507


class Models:
    """The archives under a prefix in S3, in a container of a multi-model endpoint."""

    def __init__(self, prefix: str, keeps: bool, storage: Storage, root: Path) -> None:
        self.loads = self.unloads = 0
        self._prefix, self._keeps, self._storage, self._root = prefix, keeps, storage, root
        self._loads: OrderedDict[str, asyncio.Task[Reply]] = OrderedDict()  # the least recently asked first

    async def answer(self, program: Program, request: Request, seconds: float) -> Reply:
        target = request.get("TargetModel")
        if not target:
            raise invalid("Target model header is required for multi-model endpoints.")
        if ".." in target.split("/"):
            raise invalid(f"TargetModel {target} leads out of {self._prefix}")
        for _ in range(2 + len(self._loads)):
            loaded = await self._loaded(program, target, seconds)
            if loaded.status not in (200, 409):
                return loaded
            headers = request.to_container()
            reply = await program.ask("POST", f"/models/{identity(target)}/invoke", request.body, headers, seconds)
            if reply.status == NOT_LOADED:  # the container was started again, or another request has made room
                self._loads.pop(target, None)
            elif reply.status != NO_MEMORY or not await self._make_room(program, target):
                break
        if not self._keeps:
            await self._unload(program, target)
        return reply

    async def _loaded(self, program: Program, target: str, seconds: float) -> Reply:
        """Wait for a load, which goes on if the caller's time is up."""
        task = self._loads.get(target)
        if task is None or (task.done() and (task.cancelled() or task.exception() or task.result().status != 200)):
            task = self._loads[target] = asyncio.create_task(self._load(program, target))
        self._loads.move_to_end(target)
        try:
            return await asyncio.wait_for(asyncio.shield(task), seconds)
        except asyncio.TimeoutError:
            message = f"Model {target} is not ready for inference yet; its load goes on. Try again."
            raise Refusal(429, "ModelNotReadyException", message) from None
        except Missing as error:
            raise invalid(f"Failed to download model data ({self._prefix}{target}). {error}") from error
        except (UserError, WorldError) as error:
            raise invalid(f"Failed to unpack model data ({self._prefix}{target}). {error}") from error

    async def _load(self, program: Program, target: str) -> Reply:
        name = identity(target)
        folder = self._root / name / "model"
        if not folder.exists():
            try:
                await asyncio.to_thread(self._storage.unpack, f"{self._prefix}{target}", folder, False)
            except BaseException:
                await asyncio.to_thread(remove, folder.parent)
                raise
        body = json.dumps({"model_name": name, "url": str(folder)}).encode()
        headers = {"Content-Type": "application/json", "X-Amzn-SageMaker-Target-Model": target}
        while True:
            reply = await program.ask("POST", "/models", body, headers, LOAD_SECONDS)
            if reply.status != NO_MEMORY or not await self._make_room(program, target):
                break
        if reply.status == 200:
            self.loads += 1
        return reply

    async def _make_room(self, program: Program, target: str) -> bool:
        """Unload the model that has not been asked for the longest; whether there was another one than `target`."""
        others = (name for name, task in self._loads.items() if name != target and task.done())
        if (oldest := next(others, None)) is None:
            return False
        await self._unload(program, oldest)
        return True

    async def _unload(self, program: Program, target: str) -> None:
        self._loads.pop(target, None)
        name = identity(target)
        headers = {"X-Amzn-SageMaker-Target-Model": target}
        if (await program.ask("DELETE", f"/models/{name}", b"", headers, LOAD_SECONDS)).status == 200:
            self.unloads += 1
        await asyncio.to_thread(remove, self._root / name)


def identity(target: str) -> str:
    """SageMaker names a model by a hash of 32 digits."""
    return hashlib.sha256(target.encode()).hexdigest()[:32]
