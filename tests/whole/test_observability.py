"""Metrics, figures for CloudWatch and the log of requests, from the real servers with two workers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from serve.telemetry.page_socket import METRICS_TYPE
from tests.support.eventually import eventually
from tests.support.serving import Server, children_of, free_port

pytestmark = pytest.mark.e2e

FOOD, FASHION = "ncf_food_model", "ncf_fashion_model"
INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"


def families(text: str) -> dict[str, Metric]:
    """The families of a page by name, of which none comes twice."""
    found = list(text_string_to_metric_families(text))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


class Observed(Server):
    """A server with all there is to see switched on."""

    def __init__(self, repository: Path, **environment: str) -> None:
        self.metrics_port = free_port()
        super().__init__(
            repository,
            **{
                "SAGEMAKER_TRITON_ALLOW_METRICS": "true",
                "SAGEMAKER_TRITON_METRICS_PORT": str(self.metrics_port),
                "SERVE_WORKERS": "2",
                "SERVE_ACCESS_LOG": "true",
                "SERVE_EMF_SECONDS": "1",
                **environment,
            },
        )

    def __enter__(self) -> Observed:
        super().__enter__()
        return self

    def page(self, path: str = "/metrics") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def families(self) -> dict[str, Metric]:
        status, text = self.page()
        assert status == 200
        return families(text)

    def counts(self) -> Counter[tuple[str, int]]:
        """Requests by model and status."""
        found: Counter[tuple[str, int]] = Counter()
        for sample in self.families()["serve_requests"].samples:
            found[sample.labels["model"], int(sample.labels["status"])] += int(sample.value)
        return found

    def settled(self) -> Counter[tuple[str, int]]:
        """The counts, once they are those of all requests there were: each is a line, too."""
        same = 0
        while same < 4:
            time.sleep(0.5)
            counts = self.counts()
            same = same + 1 if sum(counts.values()) == sum("status" in line for line in self.lines()) else 0
        return counts

    def lines(self) -> list[dict[str, Any]]:
        """The lines of JSON written so far."""
        found = []
        for line in self.log.read_text().split("\n")[:-1]:
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    def workers(self) -> list[int]:
        gunicorn = children_of(self.process.pid)["gunicorn"]
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == gunicorn:
                found.append(int(folder.name))
        return found


@pytest.fixture(scope="module")
def observed(repository: Path) -> Iterator[Observed]:
    with Observed(repository) as running:
        running.wait_until_ready()
        yield running


def raw(port: int, head: bytes, body: bytes) -> int:
    """The status of a request of which every byte is the test's; 0 where there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        answer = b""
        while b"\r\n\r\n" not in answer and (part := connection.recv(65536)):
            answer += part
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_counts_are_those_of_what_was_sent_to_both_workers(observed: Observed) -> None:
    before = observed.settled()
    for number in range(40):
        assert observed.invoke({"model": FOOD, "user_id": f"u{number}"}).status == 200
    for _ in range(10):
        assert observed.invoke({"model": FASHION, "user_id": "u1", "k": 3}).status == 200
        assert observed.invoke({"model": FASHION, "user_id": "u1", "k": 0}).status == 400
        assert observed.invoke({"model": "nobody", "user_id": "u1"}).status in (400, 404)
        assert observed.request("GET", "/ping").status == 200
    sent = observed.settled() - before
    assert sent[FOOD, 200] == 40
    assert sent[FASHION, 200] == 10
    assert sum(sent.values()) == 70
    assert {model for model, _ in sent} <= {FOOD, FASHION, ""}
    families = observed.families()
    assert families["serve_workers"].samples[0].value == 2
    assert families["serve_triton_up"].samples[0].value == 1
    assert not any(sample.value for sample in families["serve_requests_in_flight"].samples)
    timed = [s for s in families["serve_request_seconds"].samples if s.name == "serve_request_seconds_count"]
    assert sum(sample.value for sample in timed) == sum(observed.counts().values())


def test_tritons_own_metrics_are_there_under_their_models(observed: Observed) -> None:
    assert observed.invoke({"model": FOOD, "user_id": "u17"}).status == 200

    def inferred() -> bool:
        success = observed.families()["nv_inference_request_success"]
        return any(s.value >= 1 and s.labels["model"].startswith(FOOD) for s in success.samples)

    eventually(inferred)


def test_nothing_else_is_on_the_port_of_the_metrics(observed: Observed) -> None:
    for path in ("/", "/invocations", "/ping", "/v2/models", "/v2/health/ready"):
        assert observed.page(path)[0] == 404


def test_c107_the_page_is_on_the_public_port_too(observed: Observed) -> None:
    assert observed.invoke({"model": FOOD, "user_id": "u17"}).status == 200
    answer = observed.request("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, METRICS_TYPE)
    there, here = families(answer.body.decode()), observed.families()
    assert there.keys() == here.keys() >= {"serve_requests", "serve_request_seconds", "nv_inference_queue_duration_us"}
    assert observed.request("HEAD", "/metrics").status == 200
    assert observed.request("POST", "/metrics", b"").status == 405


def test_a_request_is_a_line_with_its_id_and_nothing_of_its_body(observed: Observed) -> None:
    user = "somebody-whose-name-is-secret"
    answer = observed.invoke({"model": FOOD, "user_id": user, "k": 3}, {INFERENCE_ID: "line-1"})
    assert answer.status == 200
    eventually(lambda: any(line.get("request_id") == "line-1" for line in observed.lines()))
    [line] = [line for line in observed.lines() if line.get("request_id") == "line-1"]
    assert (line["model"], line["status"]) == (FOOD, 200)
    assert line["ms"] > 0
    assert line["time"].endswith("Z")
    text = observed.log.read_text()
    assert user not in text
    assert answer.json["recommendations"][0]["item_id"] not in text


@pytest.mark.parametrize(
    "hostile",
    [b"x\r{\"forged\": 1}", b"x\n{\"forged\": 1}", b"x\r\n{\"forged\": 1}: 1", b"x\xe2\x80\xa8{\"forged\": 1}",
     b"x\x85{\"forged\": 1}", b"x\x1b[2J{\"forged\": 1}", b"x" * 20_000],
    ids=["cr", "lf", "crlf", "line separator", "next line", "escape", "long"],
)  # fmt: skip
def test_an_id_cannot_write_a_line_of_its_own(observed: Observed, hostile: bytes) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n%b: %b\r\n"
    body = json.dumps({"model": FOOD, "user_id": "u17"}).encode()
    before = len(observed.lines())
    status = raw(observed.port, head % (INFERENCE_ID.encode(), hostile), body)
    observed.invoke({"model": FOOD, "user_id": "u17"}, {INFERENCE_ID: "after"})
    eventually(lambda: any(line.get("request_id") == "after" for line in observed.lines()[before:]))
    text = observed.log.read_text()
    assert not [line for line in text.splitlines() if line.lstrip().startswith('{"forged')]  # which splits at them all
    for line in observed.lines():
        assert "forged" not in line
        assert line.get("request_id", "").isprintable()
        assert len(line.get("request_id", "")) <= 256
    assert status in (0, 200, 400)


def test_a_name_that_a_caller_made_up_is_no_label(observed: Observed) -> None:
    for evil in ('evil"} 1\nserve_requests_total{model="evil', "evil" * 100, "evil\r\n", "../evil"):
        assert observed.invoke({"model": evil, "user_id": "u1"}, {INFERENCE_ID: "made-up"}).status in (400, 404)
        assert observed.request("POST", "/models/evil/invoke", b"{}").status == 404
    target = {"X-Amzn-SageMaker-Target-Model": "evil.tar.gz"}
    observed.invoke({"user_id": "u1"}, target)
    eventually(lambda: sum(line.get("request_id") == "made-up" for line in observed.lines()) == 4)
    eventually(lambda: observed.counts()["", 400] + observed.counts()["", 404] >= 4)
    assert "evil" not in observed.page()[1]
    assert not [line for line in observed.lines() if "evil" in line.get("model", "")]


def test_a_worker_that_dies_takes_no_counts_along(observed: Observed) -> None:
    before = observed.settled()
    for _ in range(20):
        observed.invoke({"model": FOOD, "user_id": "u17"})
    assert (observed.settled() - before)[FOOD, 200] == 20
    victims = observed.workers()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(set(observed.workers()) - set(victims)) == 2)
    eventually(lambda: observed.families()["serve_workers"].samples[0].value == 2)
    assert (observed.counts() - before)[FOOD, 200] == 20
    observed.wait_until_ready()
    observed.invoke({"model": FOOD, "user_id": "u17"})
    eventually(lambda: (observed.counts() - before)[FOOD, 200] == 21)


def test_without_being_asked_nothing_is_written_and_no_port_is_open(one_model: Path) -> None:
    quiet = {"SAGEMAKER_TRITON_ALLOW_METRICS": "", "SERVE_ACCESS_LOG": "", "SERVE_EMF_SECONDS": ""}
    with Observed(one_model, **quiet) as server:
        server.wait_until_ready()
        assert server.invoke({"user_id": "user 0"}).status == 200
        assert server.invoke({"user_id": "user 0", "k": 0}).status == 400
        with pytest.raises(ConnectionRefusedError):
            server.page()
        assert server.request("GET", "/metrics").status == 200  # this page needs no setting
        assert server.stop() == 0
        assert server.lines() == []


def test_a_port_that_is_taken_is_one_line_and_exit_code_2(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Observed(repository, SAGEMAKER_TRITON_METRICS_PORT=port) as server:
            assert server.process.wait(60) == 2
            [line] = [line for line in server.log.read_text().splitlines() if port in line]
            assert "Traceback" not in server.log.read_text()
            assert "SAGEMAKER_TRITON_METRICS_PORT" in line


def test_the_figures_for_cloudwatch_are_those_of_what_was_sent(observed: Observed) -> None:
    """The last test: it stops the server, because the figures from just before the end count too."""

    def documents() -> list[dict[str, Any]]:
        return [line for line in observed.lines() if "_aws" in line]

    def requests() -> Counter[str]:
        counted: Counter[str] = Counter()
        for document in documents():
            counted[document["model"]] += document["Requests"]
        return counted

    eventually(lambda: sum(requests().values()) == sum(observed.counts().values()))
    before, lines = requests(), len(observed.lines())
    for number in range(30):
        assert observed.invoke({"model": FOOD, "user_id": f"u{number}"}).status == 200
    assert observed.invoke({"model": FASHION, "user_id": "u1", "k": 0}).status == 400
    assert observed.stop() == 0
    for document in documents():
        [directive] = document["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "ncf-triton"
        assert directive["Dimensions"] == [["model"]]
        assert {metric["Name"] for metric in directive["Metrics"]} <= document.keys()
        latency = document.get("Latency", {"Counts": []})  # without it, if a request was still in flight
        assert sum(latency["Counts"]) == document["Requests"]
        assert document["Errors"] == 0
    sent = requests() - before
    assert sent[FOOD] == 30
    assert sum(sent.values()) == 31
    statuses = [line["status"] for line in observed.lines()[lines:] if "request_id" in line]
    assert Counter(statuses) == {200: 30, 400: 1}
