from __future__ import annotations

import asyncio
import contextlib
import gc
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serve.errors import BadRequest
from serve.formats.json_format import Decoded
from serve.settings import Settings
from serve.telemetry.counts import Tally
from serve.worker.call import Call, Places
from serve.worker.recommendations import Recommenders


@pytest.mark.parametrize("many", [False, True])
def test_a_refused_request_leaves_nothing_to_the_collector(many: bool, tally: Tally) -> None:
    """An error that holds a frame that holds the error is memory that stays for minutes under steady bad requests."""
    served = cast(Any, SimpleNamespace(last=SimpleNamespace(recommenders={"m": 1})))
    recommenders = Recommenders(Settings.from_environment({}), served, cast(Any, None))
    call = Call({}, Places(1, tally), iter(["id"]))

    async def refused() -> None:
        documents: list[object] = [{"kk": 1}, {"user_id": "u", "k": 0}] if many else [{"kk": 1}]
        with contextlib.suppress(BadRequest):
            await recommenders.answer(Decoded(documents, many), call, "m")

    async def left() -> int:
        await refused()
        return sum(type(each) is BadRequest for each in gc.get_objects())

    recommenders.recommend = cast(Any, lambda *_: asyncio.sleep(0))  # type: ignore[method-assign]
    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(left()) == 0
    finally:
        gc.enable()
