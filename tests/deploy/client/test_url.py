"""The client against a real `serve`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.client import AskError, NcfClient
from deploy.client.retries import Retries
from deploy.commands.cli import cli
from tests.deploy.support import SINGLE, written
from tests.support.serving import Server, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def url(one_model: Path) -> Iterator[str]:
    with Server(one_model) as running:
        running.wait_until_ready()
        yield f"http://127.0.0.1:{running.port}"


def test_recommend_similar_and_score(url: str) -> None:
    client = NcfClient(url)
    found = client.recommend("user 1", k=2)
    assert (found.reason, found.model_name, found.model_version) == ("personal", "tiny", "1")
    assert len(found.items) == 2
    assert all(isinstance(item.score, float) for item in found.items)
    assert client.recommend(history=["7"], k=2).reason == "history"
    assert client.recommend("nobody").reason == "popular"
    similar = client.similar("c,d", k=3)
    assert similar.reason == "similar"
    assert "c,d" not in [item.item_id for item in similar.items]
    known, unknown = client.score([("user 1", "7"), ("user 1", "no such item")])
    assert isinstance(known, float)
    assert unknown is None


def test_a_wrong_request_has_the_services_words(url: str) -> None:
    with pytest.raises(AskError) as caught:
        NcfClient(url).recommend("user 1", k=0)
    assert (caught.value.status, caught.value.code) == (400, "bad_request")
    assert caught.value.message == "k is 0; it must be a whole number of at least 1"


def test_any_body_and_streams(url: str) -> None:
    client = NcfClient(url)
    body = b'{"user_id": "user 1", "k": 1}\n{"user_id": "user 2", "k": 1}\n'
    answer = client.invoke(body, "application/jsonlines", custom_attributes="trace=1")
    assert answer.content_type.startswith("application/jsonlines")
    lines = [json.loads(line)["recommendations"] for line in answer.body.splitlines()]
    assert [len(line) for line in lines] == [1, 1]
    streamed = b"".join(client.stream(body, "application/jsonlines"))
    assert [json.loads(line)["recommendations"] for line in streamed.splitlines()] == lines
    with pytest.raises(AskError, match="a URL answers at once"):
        client.invoke_async(body)


def test_one_client_serves_many_threads(url: str) -> None:
    client = NcfClient(url, connections=4)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: client.recommend(f"user {n % 8}", k=1), range(64)))
    assert {one.reason for one in found} == {"personal"}


def test_nobody_there_is_named() -> None:
    client = NcfClient(f"http://127.0.0.1:{free_port()}", retries=Retries(attempts=1))
    with pytest.raises(AskError, match=r"does not answer: .*is `serve` running"):
        client.recommend("user 1")


def test_invoke_asks_a_url_too(url: str, tmp_path: Path) -> None:
    file = str(written(tmp_path, SINGLE))
    asked = CliRunner().invoke(cli, ["invoke", "-f", file, "--url", url, "--data", '{"user_id": "user 1", "k": 1}'])
    assert len(json.loads(asked.stdout)["recommendations"]) == 1
    refused = CliRunner().invoke(cli, ["invoke", "-f", file, "--url", url, "--data", '{"user_id": "user 1", "k": 0}'])
    assert "k is 0" in str(refused.exception)
    assert getattr(refused.exception, "exit_code", None) == 2
