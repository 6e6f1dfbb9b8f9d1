"""OpenAI's requests and answers without a model: what is asked of one, and what its events become."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from serve.errors import BadRequest
from serve.worker.openai.answered import Answered
from serve.worker.openai.asked import Asked, read_asked
from tests.support.one_worker import OneWorker

HELLO = [{"role": "user", "content": "Hello"}]


def read(**document: Any) -> Asked:
    return read_asked(document, "messages" in document)


def sampling(**document: Any) -> Any:
    return json.loads(read(**document).document["sampling_parameters"])


def test_a_chat_goes_on_until_there_is_no_room_and_a_completion_for_16_tokens() -> None:
    assert sampling(messages=HELLO) == {"max_tokens": None}
    assert sampling(prompt="Hello") == {"max_tokens": 16}
    asked = {"temperature": 0.5, "top_p": 1, "seed": 7, "stop": "."}
    assert sampling(messages=HELLO, max_completion_tokens=3, **asked) == {**asked, "max_tokens": 3, "stop": ["."]}


def test_content_in_parts_is_one_text() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    found = read(messages=[{"role": "user", "content": parts}], stream=True, stream_options={"include_usage": True})
    assert json.loads(found.document["messages"]) == HELLO
    assert (found.stream, found.include_usage, found.document["stream"]) == (True, True, True)
    assert read(prompt=["Hello"]).document["text_input"] == "Hello"


def test_fields_that_ask_for_nothing_may_be_there() -> None:
    read(
        messages=HELLO, n=1, logprobs=False, response_format={"type": "text"}, tools=[], user="me", presence_penalty=0.0
    )


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"messages": []}, "messages is empty"),
        ({"messages": "Hello"}, "messages is 'Hello'"),
        ({"messages": [{"content": "Hello"}]}, r"messages\[0\] has no role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part that is no text"),
        ({"messages": [{"role": "user", "content": 7}]}, r"messages\[0\].content is 7"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": ["a", "b"]}, "prompt is a list"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens is 0"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens is true"),
        ({"prompt": "a", "temperature": -0.1}, "temperature is -0.1; it must be a number from 0 to 2"),
        ({"prompt": "a", "top_p": "1"}, "top_p is '1'"),
        ({"prompt": "a", "seed": 1.5}, "seed is 1.5"),
        ({"prompt": "a", "seed": 2**63}, "64 bits"),
        ({"prompt": "a", "stop": ["x"] * 17}, "stop is a list"),
        ({"prompt": "a", "stop": ""}, "stop is ''"),
        ({"prompt": "a", "stream": 1}, "stream is 1"),
        ({"prompt": "a", "stream_options": True}, "stream_options is true"),
        ({"prompt": "a", "n": 2}, "n is 2"),
        ({"prompt": "a", "n": True}, "n is true"),
        ({"prompt": "a", "logprobs": 5}, "logprobs is 5"),
        ({"prompt": "a", "user_id": "u17"}, "field 'user_id' is unknown"),
        ({"prompt": "a", "max_completion_tokens": 3}, "max_completion_tokens"),
    ],
)
def test_what_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read(**document)


def chunks(chat: bool, *events: dict[str, Any], include_usage: bool = False) -> list[Any]:
    async def told() -> AsyncGenerator[dict[str, Any], None]:
        for event in events:
            yield event

    async def all_of_them() -> list[bytes]:
        return [part async for part in Answered(chat, "1", "m").chunks(told(), include_usage)]

    parts = [part.removeprefix(b"data: ").strip() for part in asyncio.run(all_of_them())]
    return [part if part == b"[DONE]" else json.loads(part) for part in parts]


def test_an_error_in_the_middle_is_the_last_chunk() -> None:
    first, second, last = chunks(True, {"text_output": "a", "num_output_tokens": 1}, {"error": "out of memory"})
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert second["choices"][0]["delta"] == {"content": "a"}
    assert last["error"]["message"] == "out of memory"


def test_vllm_s_word_for_not_finished_is_none() -> None:
    events = [{"text_output": ["a"], "finish_reason": "None", "num_input_tokens": 3, "num_output_tokens": 1},
              {"text_output": "", "finish_reason": "stop", "num_input_tokens": 3, "num_output_tokens": 1}]  # fmt: skip
    first, second, usage, done = chunks(False, *events, include_usage=True)
    assert [each["choices"][0]["finish_reason"] for each in (first, second)] == [None, "stop"]
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert done == b"[DONE]"


def test_nothing_of_it_is_loaded_before_a_request_asks_for_it() -> None:
    code = "import sys, serve.worker.application; print([name for name in sys.modules if 'openai' in name])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_errors_have_openai_s_form_on_its_paths_and_ours_elsewhere(tmp_path: Path) -> None:
    async def ask() -> list[tuple[int, Any]]:
        worker = OneWorker(tmp_path)
        await worker.start()
        try:
            one, other = b'{"model": "m", "prompt": "a"}', b'{"model": "x", "prompt": "a"}'
            sent = [("/v1/completions", one), ("/v1/completions", other), ("/v1/completions", b"{"),
                    ("/v1/chat/completions", b"[]"), ("/v1/chat/completions", b"{}"), ("/v1/models", b""),
                    ("/invocations", one)]  # fmt: skip
            answers = [await worker.ask(body, {}, path) for path, body in sent]
            return [(status, json.loads(body)["error"]) for status, _, body in answers]
        finally:
            await worker.stop()

    recommender, unknown, broken, no_object, missing, method, ours = asyncio.run(ask())
    assert (recommender[0], "m is no language model" in recommender[1]["message"]) == (400, True)
    assert (unknown[0], unknown[1]["code"], unknown[1]["type"]) == (404, "model_not_found", "invalid_request_error")
    assert [each[0] for each in (broken, no_object, missing, method)] == [400, 400, 400, 405]
    assert missing[1]["message"].startswith("messages is missing")
    assert (ours[0], isinstance(ours[1], str)) == (400, True)
