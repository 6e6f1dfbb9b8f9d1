"""An endpoint: variants by weight, a shadow, and updates that step from one fleet to the next."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from deploy.checked import Checked
from deploy.errors import DeployError, UserError
from deploy.file.endpoint import EndpointFile, Update
from deploy.file.hosting import Variant
from deploy.local.api import Request
from deploy.local.capture import Captured
from deploy.local.figures import Comparison
from deploy.local.hosted import Hosted
from deploy.local.place import Place
from deploy.local.program import Reply
from deploy.local.refusals import Refusal, invalid

LOOK_SECONDS = 0.2  # between two looks at the alarms of an update
ANSWER_SECONDS = 60.0  # for a container's answer
SETTLE_SECONDS = 5.0  # for the copies that are under way at the end
MOST_COPIES = 32  # under way to a shadow at a time


@dataclass
class Fleet:
    """What one version of the file hosts."""

    number: int
    file: EndpointFile
    uploads: dict[str, str]  # by the path of an archive its key in S3, which is made of its content
    variants: dict[str, Hosted]
    weights: dict[str, float]
    shadow: Hosted | None = None
    captured: Captured | None = None
    comparison: Comparison = field(default_factory=Comparison)

    @property
    def everything(self) -> list[Hosted]:
        return [*self.variants.values(), *([self.shadow] if self.shadow else [])]

    async def start(self) -> None:
        """All or none. Raises DeployError."""
        results = await asyncio.gather(*(hosted.start() for hosted in self.everything), return_exceptions=True)
        for failure in results:
            if isinstance(failure, BaseException):
                await self.stop()
                raise failure

    async def stop(self) -> None:
        await asyncio.gather(*(hosted.stop() for hosted in self.everything))

    def choose(self, wanted: str) -> Hosted:
        """The variant that a request names, or one by the weights. Raises Refusal."""
        if wanted:
            if wanted not in self.variants:
                raise invalid(f"Variant {wanted} is not found; this endpoint has {', '.join(self.variants)}.")
            return self.variants[wanted]
        return self.variants[random.choices(list(self.weights), list(self.weights.values()))[0]]

    def alarm(self) -> str | None:
        """The first alarm of `rollback` that rings."""
        rollback = self.file.update.rollback if self.file.update else None
        if rollback is None:
            return None
        for name, hosted in self.variants.items():
            errors, latency = hosted.figures.errors_percent, hosted.figures.milliseconds(99)
            if rollback.errors_percent and hosted.figures.invocations and errors >= rollback.errors_percent:
                return f"{name} answered {errors:.1f} % with 5xx (errors_percent is {rollback.errors_percent:g})"
            if rollback.latency_ms and latency >= rollback.latency_ms:
                return f"{name} has a p99 of {latency:.0f} ms (latency_ms is {rollback.latency_ms:g})"
        return None


class Endpoint:
    """One endpoint by its name. Its states are SageMaker's: Creating, InService, Updating, RollingBack, Failed."""

    def __init__(self, checked: Checked, place: Place) -> None:
        file = checked.file
        self.name, self.place = file.name, place
        self.status, self.reason = "Creating", ""
        self.created = self.changed = time.time()
        self.past: list[str] = []  # updates and shifts, in words
        self.fleets: list[Fleet] = []
        self._share = 0.0  # of the requests, to the newest fleet of an update
        self.live = self._fleet(checked)
        self._next: Fleet | None = None
        self._copies: set[asyncio.Task[None]] = set()

    def _fleet(self, checked: Checked) -> Fleet:
        number, file = len(self.fleets) + 1, checked.file

        def hosted(variant: Variant) -> Hosted:
            label = f"{file.name}/{number}/{variant.name}"
            return Hosted(variant, self.place, label)

        variants = {variant.name: hosted(variant) for variant in file.all_variants}
        weights = {variant.name: variant.weight for variant in file.all_variants}
        shadow = hosted(file.shadow) if file.shadow else None
        captured = Captured(self.place, file.capture) if file.capture else None
        fleet = Fleet(number, file, checked.uploads, variants, weights, shadow, captured)
        self.fleets.append(fleet)
        return fleet

    async def create(self) -> None:
        """Raises DeployError, after which the endpoint is Failed."""
        self.place.say(f"{self.name}: Creating")
        try:
            await self.live.start()
        except DeployError as error:
            self._is("Failed", str(error))
            raise
        self._is("InService")

    def _is(self, status: str, reason: str = "") -> None:
        self.status, self.reason, self.changed = status, reason, time.time()
        self.place.say(f"{self.name}: {status}{f': {reason}' if reason else ''}")

    async def settle(self) -> None:
        """Wait for the shadow's answers that are under way, and write what is captured."""
        if self._copies:
            await asyncio.wait(self._copies, timeout=SETTLE_SECONDS)
        for fleet in self.fleets:
            if fleet.captured:
                await fleet.captured.close()

    async def stop(self) -> None:
        for task in self._copies:
            task.cancel()
        await asyncio.gather(*(fleet.stop() for fleet in self.fleets))

    def chosen(self, request: Request) -> tuple[Fleet, Hosted]:
        """Who answers a request. Raises Refusal."""
        if self.status in ("Creating", "Failed"):
            raise invalid(f"Endpoint {self.name} is {self.status}.")
        fleet = self._next if self._next and random.random() < self._share else self.live
        return fleet, fleet.choose(request.get("TargetVariant"))

    async def answer(self, request: Request) -> tuple[Hosted, Reply]:
        """Raises Refusal."""
        fleet, hosted = self.chosen(request)
        reply = None
        try:
            reply = await hosted.answer(request, ANSWER_SECONDS)
            if fleet.captured:
                await fleet.captured.add(hosted.variant.name, request, reply)
            return hosted, reply
        finally:
            self._copy(fleet, request, reply)

    def _copy(self, fleet: Fleet, request: Request, reply: Reply | None) -> None:
        """Send a shadow its copy, after the answer, so that nobody waits for it."""
        shadow = fleet.file.shadow
        if shadow is None or random.random() * 100 >= shadow.percent:
            return
        if len(self._copies) >= MOST_COPIES:
            fleet.comparison.skipped += 1
            return
        task = asyncio.create_task(self._compare(fleet, request, reply))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _compare(self, fleet: Fleet, request: Request, reply: Reply | None) -> None:
        assert fleet.shadow is not None
        try:
            shadow = await fleet.shadow.answer(request, ANSWER_SECONDS)
        except Refusal:
            return  # it is counted
        if reply:
            fleet.comparison.add(reply.body, shadow.body)
        if fleet.captured:
            await fleet.captured.add(fleet.shadow.variant.name, request, shadow)

    def require_rest(self) -> None:
        if self.status != "InService":
            raise UserError(f"endpoint {self.name} is {self.status}; wait until it is InService")

    def shift(self, weights: dict[str, float]) -> None:
        """New weights, at once. Raises UserError."""
        self.require_rest()
        if unknown := [name for name in weights if name not in self.live.weights]:
            raise UserError(f"endpoint {self.name} has no variant {', '.join(unknown)}")
        if not any((self.live.weights | weights).values()):
            raise UserError("all weights would be 0, so no variant would get requests")
        before, self.live.weights = self.live.weights, self.live.weights | weights
        self._note(f"weights shifted from {_listed(before)} to {_listed(self.live.weights)}")

    def _note(self, text: str) -> None:
        self.past.append(text)
        self.changed = time.time()
        self.place.say(f"{self.name}: {text}")

    async def update(self, checked: Checked) -> None:
        """Blue/green: a new fleet, requests in steps, and back to the old one if it fails or an alarm rings."""
        self.require_rest()
        file = checked.file
        if file.name != self.name:
            raise UserError(f"the file now names the endpoint {file.name}; an update keeps the name, {self.name}")
        same_files = checked.uploads == self.live.uploads
        if same_files and file == self.live.file:
            return
        if same_files and _without_weights(file) == _without_weights(self.live.file):
            weights = {variant.name: variant.weight for variant in file.all_variants}
            if weights != self.live.weights:
                self.shift(weights)
            self.live.file = file
            return
        old, new = self.live, self._fleet(checked)
        self._is("Updating")
        try:
            await new.start()
            self._next = new
            failure = await self._step_over(new)
        except DeployError as error:
            failure = str(error)
        if failure:
            self._is("RollingBack", failure)
            self._next, self._share = None, 0.0
            await new.stop()
            self._note(f"version {new.number} was rolled back to version {old.number}: {failure.splitlines()[0]}")
            self._is("InService", failure)
            return
        self.live, self._next, self._share = new, None, 0.0
        self._note(f"version {new.number} has replaced version {old.number}")
        await asyncio.sleep((file.update and file.update.keep_old_seconds) or 0)
        await old.stop()
        self._is("InService")

    async def _step_over(self, new: Fleet) -> str | None:
        """The alarm that rang, if one did."""
        wanted = new.file.update
        for percent in steps(wanted):
            self._share = percent / 100
            self.place.say(f"{self.name}: version {new.number} gets {percent} % of the requests")
            end = time.monotonic() + (wanted.wait_seconds if wanted else 0)
            while True:
                if alarm := new.alarm():
                    return alarm
                if time.monotonic() >= end:
                    break
                await asyncio.sleep(LOOK_SECONDS)
        return None


def steps(update: Update | None) -> Iterator[int]:
    """The new fleet's share of the requests in percent, step by step."""
    percent = (update and update.percent) or 100
    if update and update.strategy == "canary":
        yield percent
    else:
        yield from range(percent, 100, percent)
    yield 100


def _listed(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items())


def _without_weights(file: EndpointFile) -> EndpointFile:
    variants = [variant.model_copy(update={"weight": 1.0}) for variant in file.variants]
    return file.model_copy(update={"variants": variants, "update": None})
