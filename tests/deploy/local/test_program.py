"""A container's process: its windows and its end, with shorter times than SageMaker's."""

from __future__ import annotations

import asyncio
import errno
import shlex
from pathlib import Path

import pytest

from deploy.aws.objects import writing
from deploy.errors import WorldError
from deploy.local import program
from deploy.local.figures import Comparison, Figures
from deploy.local.place import Start, free_port
from deploy.local.program import Gone, Program
from tests.deploy.local.support import FILE, STAND_IN, Local
from tests.deploy.support import written
from tests.support.eventually import eventually
from tests.support.serving import children_of


def stand_in(folder: Path, **environment: str) -> tuple[Program, list[str]]:
    said: list[str] = []
    port = free_port()
    start = Start(shlex.split(STAND_IN), {**environment, "SAGEMAKER_BIND_TO_PORT": str(port)}, port)
    return Program("shop/primary", start, folder / "log", said.append), said


def test_a_container_that_is_not_healthy_in_its_window(tmp_path: Path) -> None:
    one, _ = stand_in(tmp_path, NEVER_HEALTHY="1")
    with pytest.raises(WorldError, match=r"did not answer /ping within 1 s, before it was healthy; its log ends:"):
        asyncio.run(one.start(1))


def test_a_container_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "KILL_SECONDS", 0.1)
    one, said = stand_in(tmp_path, STUBBORN="1")

    async def life() -> None:
        await one.start(60)
        await one.stop()

    asyncio.run(life())
    assert said == ["shop/primary had not ended 0.1 s after SIGTERM and is killed"]


def test_an_answer_that_takes_too_long(tmp_path: Path) -> None:
    one, _ = stand_in(tmp_path)

    async def life() -> None:
        await one.start(60)
        try:
            await one.ask("POST", "/invocations", b'{"make": {"seconds": 20}}', {}, 0.5)
        finally:
            await one.stop()

    with pytest.raises(Gone, match="Your invocation timed out while waiting for a response from container"):
        asyncio.run(life())


def test_a_disk_that_is_full_is_said_so() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(WorldError, match="/tmp/x cannot be written: No space left on device; free space"),
        writing(Path("/tmp/x")),
    ):
        raise full


def test_figures_and_lists() -> None:
    figures = Figures()
    assert (figures.errors_percent, figures.milliseconds(99)) == (0, 0)
    for status in (200, 404, 503, 0):
        figures.count(status, 0.01)
    assert str(figures) == "4 requests, 1 × 4xx, 2 × 5xx, p50 10.0 ms, p99 10.0 ms"
    both = Comparison()
    lines = b'{"recommendations": [{"item_id": "a"}, {"item_id": "b"}]}\n{"recommendations": [{"item_id": 1}]}\n'
    both.add(lines, lines)
    both.add(b'{"recommendations": [{"item_id": "a"}, {"item_id": "b"}]}', b'{"recommendations": [{"item_id": "b"}]}')
    both.add(b"no list", b"{}")
    assert str(both) == "2 lists compared: 1 equal, 75.0 % of the items in both"


def test_containers_do_not_outlive_a_rehearsal_that_is_killed(tmp_path: Path) -> None:
    with Local(written(tmp_path, FILE)) as local:
        local.ready()
        (container,) = children_of(local.process.pid).values()
        local.process.kill()
        local.process.wait()
    eventually(lambda: not Path(f"/proc/{container}").exists())
