"""What a client returns and raises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OVERLOADED = (429, 503)


class AskError(Exception):
    """A request that was not answered.

    `status` is the container's own (behind an endpoint SageMaker's 424 holds it), `code` is `serve`'s or AWS's, and
    `log` the address of the container's log stream if the platform gave one.
    """

    def __init__(self, status: int, code: str, message: str, log: str = "", retry_after: float = 0) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status, self.code, self.message, self.log = status, code, message, log
        self.retry_after = retry_after

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered a moment later."""
        return self.status in OVERLOADED


def refusal(status: int, body: bytes, log: str = "", retry_after: float = 0) -> AskError:
    """The error in a body of `serve`."""
    try:
        document = json.loads(body)
        message, code = str(document["error"]), str(document.get("code", "error"))
    except (ValueError, TypeError, KeyError):
        message, code = body[:500].decode(errors="replace") or "no reason given", "error"
    return AskError(status, code, message, log, retry_after)


@dataclass(frozen=True)
class Item:
    """A recommended item; `columns` has what `with_columns` asked for, and the score of an unknown item is None."""

    item_id: Any
    score: float | None
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Recommendations:
    """Items, best first; `reason` is personal, history, similar or popular."""

    items: list[Item]
    reason: str
    model_name: str
    model_version: str
    message: str | None = None


def recommendations(document: Mapping[str, Any]) -> Recommendations:
    items = [
        Item(one["item_id"], one.get("score"), {k: v for k, v in one.items() if k not in ("item_id", "score")})
        for one in document["recommendations"]
    ]
    about = (document.get("reason", ""), document.get("model_name", ""), document.get("model_version", ""))
    return Recommendations(items, *about, document.get("message"))
