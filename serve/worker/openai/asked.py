"""A body in OpenAI's form as the request to a language model's generate extension; pure, no I/O.

The model has the inputs of Triton's vLLM backend. For a chat it takes `messages`, and makes a text of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from serve.errors import BadRequest, show
from serve.formats.json_format import to_json

MAX_STOPS = 16
DEFAULT_TOKENS = 16  # of OpenAI's completions; a chat may go on until the model has no more room
# What the model is asked beside the text: the fields of OpenAI's that it takes as they are.
SAMPLING = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0)}
# Fields that may be there as long as they ask for nothing: what a client sends by itself, or a caller by default.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1), "best_of": (None, 1), "echo": (None, False), "suffix": (None, ""), "logprobs": (None, False),
    "top_logprobs": (None, 0), "frequency_penalty": (None, 0), "presence_penalty": (None, 0), "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}), "tools": (None, []), "tool_choice": (None, "none", "auto"),
    "modalities": (None, ["text"]),
}  # fmt: skip
# They change no answer here.
IGNORED = ("metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user")
TAKEN = ("model", "max_tokens", "stop", "seed", "stream", "stream_options", *SAMPLING)


class Asked(NamedTuple):
    """What one request asks: `document` is what the model gets."""

    chat: bool
    stream: bool
    include_usage: bool
    document: dict[str, Any]


def read_asked(document: dict[str, Any], chat: bool) -> Asked:
    """A request for a chat or a completion. Raises BadRequest that names the field, its value and the remedy."""
    known = (*TAKEN, *(("messages", "max_completion_tokens") if chat else ("prompt",)))
    for name, value in document.items():
        if name in NEUTRAL:
            if value not in NEUTRAL[name] or (value is True and name == "n"):
                raise BadRequest(f"{name} is {show(value)}, which is not possible here; leave it out")
        elif name not in known and name not in IGNORED:
            raise BadRequest(f"field {show(name)} is unknown; known here: {', '.join(known)}")
    stream = _flag(document, "stream")
    options = document.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest(f'stream_options is {show(options)}; it must be an object such as {{"include_usage": true}}')
    text = {"messages": to_json(_messages(document)).decode()} if chat else {"text_input": _prompt(document)}
    wanted = dict.fromkeys(("exclude_input_in_output", "return_finish_reason", "return_num_input_tokens",
                            "return_num_output_tokens"), True)  # fmt: skip
    sampling = to_json(_sampling(document, chat)).decode()
    asked = {**text, **wanted, "stream": stream, "sampling_parameters": sampling}
    return Asked(chat, stream, _flag(options or {}, "include_usage"), asked)


def _sampling(document: dict[str, Any], chat: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"max_tokens": None if chat else DEFAULT_TOKENS}
    for name in ("max_tokens", "max_completion_tokens"):
        if (tokens := document.get(name)) is not None:
            if type(tokens) is not int or tokens < 1:
                raise BadRequest(f"{name} is {show(tokens)}; it must be a whole number of at least 1")
            found["max_tokens"] = tokens
    for name, (least, most) in SAMPLING.items():
        if (value := document.get(name)) is not None:
            if type(value) not in (int, float) or not least <= value <= most:
                raise BadRequest(f"{name} is {show(value)}; it must be a number from {least:g} to {most:g}")
            found[name] = value
    if (seed := document.get("seed")) is not None:
        if type(seed) is not int or not -(2**63) <= seed < 2**63:
            raise BadRequest(f"seed is {show(seed)}; it must be a whole number of 64 bits")
        found["seed"] = seed
    if (stop := document.get("stop")) is not None:
        words = [stop] if isinstance(stop, str) else stop
        if not isinstance(words, list) or len(words) > MAX_STOPS or not all(type(one) is str and one for one in words):
            raise BadRequest(f"stop is {show(stop)}; it must be a text or up to {MAX_STOPS} texts, none of them empty")
        found["stop"] = words
    return found


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"{name} is {show(value)}; it must be true or false")
    return bool(value)


def _prompt(document: dict[str, Any]) -> str:
    prompt = document.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise BadRequest(f"prompt is {show(prompt)}; it must be one text: send several in a request each")
    if not prompt:
        raise BadRequest("prompt is empty; send a text")
    return prompt


def _messages(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages with texts for content, which clients may send in parts."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        what = "empty" if messages == [] else show(messages)
        raise BadRequest(f'messages is {what}; it must be a list such as [{{"role": "user", "content": "Hello"}}]')
    found = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f'messages[{number}] has no role; it must be as {{"role": "user", "content": "Hello"}}')
        content = message.get("content")
        if isinstance(content, list):
            if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
                raise BadRequest(f"messages[{number}].content has a part that is no text; only texts are taken")
            content = "".join(part["text"] for part in content)
        if content is not None and not isinstance(content, str):
            raise BadRequest(f"messages[{number}].content is {show(content)}; it must be a text")
        found.append({**message, "content": content or ""})
    return found
