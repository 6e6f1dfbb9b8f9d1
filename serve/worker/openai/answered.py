"""The events of a language model as answers in OpenAI's form, whole or in chunks; pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

from serve.formats.json_format import MAX_ERROR, to_json

DONE = b"data: [DONE]\n\n"


class Answered(NamedTuple):
    """What the answers to one request have in common."""

    chat: bool
    id: str
    model: str

    def whole(self, event: dict[str, Any]) -> bytes:
        """The answer to a request that wants it whole, from the model's only event."""
        text, finish = _text(event), _finish(event)
        choice: dict[str, Any] = {"text": text}
        if self.chat:
            choice = {"message": {"role": "assistant", "content": text, "refusal": None}}
        usage = _usage(_count(event, "num_input_tokens"), _count(event, "num_output_tokens"))
        kind = "chat.completion" if self.chat else "text_completion"
        return to_json({**self._head(kind), "choices": [_choice(choice, finish)], "usage": usage})

    async def chunks(
        self, events: AsyncGenerator[dict[str, Any], None], include_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        """The answer in chunks; an error of the model's after the first one becomes a chunk as well, and the last."""
        head = self._head("chat.completion.chunk" if self.chat else "text_completion")
        told = completed = 0
        async with aclosing(events):
            async for event in events:
                if "error" in event:
                    yield _chunk(error_document(str(event["error"]), "model_failed"))
                    return
                if self.chat and not completed:
                    yield _chunk({**head, "choices": [_choice({"delta": {"role": "assistant", "content": ""}}, None)]})
                told = told or _count(event, "num_input_tokens")
                completed += _count(event, "num_output_tokens")
                text, finish = _text(event), _finish(event)
                piece: dict[str, Any] = {"text": text}
                if self.chat:
                    piece = {"delta": {"content": text} if text else {}}
                if text or finish:
                    yield _chunk({**head, "choices": [_choice(piece, finish)]})
        if include_usage:
            yield _chunk({**head, "choices": [], "usage": _usage(told, completed)})
        yield DONE

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": int(time.time()), "model": self.model}


def error_body(message: str, code: str) -> bytes:
    """An error in OpenAI's form; the client chooses its exception by the status."""
    return to_json(error_document(message[:MAX_ERROR], code))


def error_document(message: str, code: str) -> dict[str, Any]:
    ours = code in ("internal", "model_failed", "unavailable", "overloaded", "deadline_exceeded", "out_of_memory")
    named = "model_not_found" if code == "unknown_model" else code
    kind = "server_error" if ours else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": named}}


def _chunk(document: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % to_json(document)


def _choice(piece: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, **piece, "logprobs": None, "finish_reason": finish}


def _usage(told: int, completed: int) -> dict[str, int]:
    return {"prompt_tokens": told, "completion_tokens": completed, "total_tokens": told + completed}


def _text(event: dict[str, Any]) -> str:
    return str(_first(event.get("text_output", "")))


def _finish(event: dict[str, Any]) -> str | None:
    """Why the answer ends, None while it goes on; vLLM's backend sends Python's word for that."""
    finish = _first(event.get("finish_reason"))
    return None if finish in (None, "", "None") else str(finish)


def _count(event: dict[str, Any], name: str) -> int:
    return int(_first(event.get(name, 0)))


def _first(value: Any) -> Any:
    """Triton writes an output of one value without its list."""
    return value[0] if isinstance(value, list) and value else value
