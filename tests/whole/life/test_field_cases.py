"""What callers of other containers send, and what models of their own say, on the real servers."""

from __future__ import annotations

import json
import os
import signal
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.serving import IMAGE, Server, children_of
from tests.support.small_models import ECHO_CONFIG

pytestmark = [pytest.mark.e2e, pytest.mark.core]

# Its answer has its inputs, or, for a text of two words, it is an error with this code and this text.
CODE = """
import os
import pathlib

import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        assert (pathlib.Path(args["model_repository"]) / ".." / "code" / "inference.py").read_text() == "x"
        assert pathlib.Path(os.path.normpath(args["model_repository"] + "/../environment.txt")).read_text() == "x"

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        values = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        if len(values.get("TEXT", ())) == 2:
            code, text = (word.decode() for word in values["TEXT"])
            return triton.InferenceResponse(error=triton.TritonError(text, getattr(triton.TritonError, code)))
        return triton.InferenceResponse([triton.Tensor(f"{name}_OUT", value) for name, value in values.items()])
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("models")
    (repository / "echo" / "1").mkdir(parents=True)
    (repository / "echo" / "1" / "model.py").write_text(CODE)
    (repository / "echo" / "config.pbtxt").write_text(ECHO_CONFIG)
    # What only lies beside the models: the last but one is what a model's configuration may name.
    for beside in ("code/inference.py", "notebooks/a.ipynb", "environment.txt", "__MACOSX/._echo"):
        (repository / beside).parent.mkdir(exist_ok=True)
        (repository / beside).write_text("x")
    running = Server(repository)
    if IMAGE is None:  # nobody takes a module from the folder that `serve` is started in
        started_in = tmp_path_factory.mktemp("started")
        for module in ("platform", "numpy", "torch", "json", "gunicorn"):
            (started_in / f"{module}.py").write_text("raise SystemExit('taken from the current folder')")
        running.command = ["sh", "-c", f'cd "{started_in}" && exec "$0"', *running.command]
    with running:
        running.wait_until_ready()
        yield running


def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}


NUMBERS = json.dumps(tensor("REAL", "FP64", [float("nan"), float("inf"), float("-inf"), 1.5])).encode()
TEXT = json.dumps(tensor("TEXT", "BYTES", ["café"])).encode()  # with a backslash
RAW_TEXT = TEXT.replace(b"caf\\u00e9", b"caf\xe9")  # not UTF-8
KSERVE = [
    b'{"inputs": [%s, %s]}' % (NUMBERS, TEXT),
    b'{"inputs": [%s, %s]}' % (NUMBERS, TEXT.replace(b"caf\\u00e9", "café".encode())),
    b'{"model": "echo", "inputs": [%s, %s]}' % (NUMBERS, TEXT),
    b'{"inputs": [%s, %s], "model": "echo"}' % (TEXT, NUMBERS),
    b'{"more": {"model": "x"}, "inputs": [%s]}' % NUMBERS,
    b'{"inputs": [%s]}' % RAW_TEXT,
    b'{"inputs": [%s, %s], "model": "echo"}' % (RAW_TEXT, NUMBERS),
]


@pytest.mark.parametrize("body", KSERVE)
def test_kserve_in_json_is_taken_as_triton_takes_it(echo: Server, body: bytes) -> None:
    """Whatever else is in the body: Triton parses it leniently, and so does `serve`."""
    answer = echo.invoke(body)
    assert answer.status == 200, answer.body
    assert (b"[NaN,Infinity,-Infinity,1.5]" in answer.body) == (b"NaN" in body)
    assert (b"caf\xe9" in answer.body) == (b"caf\xe9" in body)


def test_lines_of_kserve_are_taken_as_one_is(echo: Server) -> None:
    answer = echo.invoke(b'{"inputs": [%s]}\n{"inputs": [%s]}\n' % (NUMBERS, TEXT))
    first, second = answer.body.splitlines()
    assert b"answer is not JSON" in first  # a line of JSON cannot have NaN
    assert json.loads(second)["outputs"][0]["data"] == ["café"]


def test_deflate_is_taken(echo: Server) -> None:
    answer = echo.invoke(zlib.compress(b'{"inputs": [%s]}' % TEXT), {"Content-Encoding": "deflate"})
    assert answer.json["outputs"][0]["data"] == ["café"]


STATUS = {"INVALID_ARG": 400, "ALREADY_EXISTS": 400, "INTERNAL": 500, "NOT_FOUND": 500, "UNAVAILABLE": 503,
          "UNSUPPORTED": 501}  # fmt: skip
WORDS = [
    "hello",
    'Request for unknown model variant "b"',
    "Request for unknown model: 'echo' is not found",
    "no available versions",
    "Unable to parse 'inputs': attempt to access JSON non-array as array",
    "failed to parse the request JSON buffer: Invalid value. at 0",
    "Exceeds maximum queue size",
]


@pytest.mark.parametrize("code", STATUS)
def test_the_words_of_a_models_error_do_not_change_its_status(echo: Server, code: str) -> None:
    for words in WORDS:
        answer = echo.invoke({"inputs": [tensor("TEXT", "BYTES", [code, words])]})
        assert answer.status == STATUS[code], answer.body
        assert words in answer.json["error"]


def test_what_is_no_request_for_a_plain_model_is_told_about_kserve(echo: Server) -> None:
    for body in ({"instances": [[1, 2]]}, {"instances": [{"a": 1}]}, [[1, 2]], {"user_id": 7}, {"x": 1}):
        answer = echo.invoke(body)
        assert b"echo is no recommender" in answer.body


def starting(server: Server) -> int | None:
    """The tritonserver that is to serve, and not one that is only asked which options it knows."""
    with suppress(OSError):
        triton = children_of(server.process.pid).get("tritonserver")
        return triton if triton and b"--http-port" in Path(f"/proc/{triton}/cmdline").read_bytes() else None
    return None


def test_a_tritonserver_that_crashes_while_it_starts_is_started_again(one_model: Path) -> None:
    """Killed at three moments of its first start."""
    with Server(one_model) as first, Server(one_model) as second, Server(one_model) as third:
        for server, seconds in ((first, 0.0), (second, 0.2), (third, 0.5)):
            triton = eventually(lambda server=server: starting(server))
            time.sleep(seconds)
            os.kill(triton, signal.SIGKILL)
        for server in (first, second, third):
            server.wait_until_ready()
            assert "tritonserver was killed by SIGKILL; starting it again" in server.log.read_text()
