"""Grafana's dashboard asks for what a running `serve` has on its page of metrics, and for nothing else."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.eventually import eventually
from tests.support.serving import Server

EXAMPLES = Path(__file__).parents[2] / "examples" / "grafana"
DASHBOARD = json.loads((EXAMPLES / "dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
# Labels that Prometheus itself adds to what it reads.
PROMETHEUS = {"instance", "job"}
# Not on the page of a quiet server without a GPU: refusals have no sample before the first. Triton's page has the rest:
# https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
OF_GPUS = ("nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes")
ELSEWHERE = {"serve_requests_shed_total": {"model"}, **{name: {"gpu_uuid"} for name in OF_GPUS}}


def asked() -> Iterator[tuple[str, set[str]]]:
    """Each metric of all queries, with the labels by which it is chosen, summed up and named."""
    for panel in PANELS:
        for target in panel.get("targets", []):
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"]) + re.findall(r"{{(\w+)}}", target["legendFormat"])
            yield from chosen(target["expr"], {label.strip() for labels in grouped for label in labels.split(",")})
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield from chosen(variable["query"], set(re.findall(r"(\w+)\)$", variable["query"])))


def chosen(query: str, more: set[str]) -> Iterator[tuple[str, set[str]]]:
    selectors = re.findall(r"(\w+)\{([^}]*)\}", query)
    assert len(selectors) == len(re.findall(r"\b(?:serve|nv)_\w+", query)), f"a metric without {{}} in {query}"
    for metric, conditions in selectors:
        yield metric, more | set(re.findall(r"(\w+)[=!]", conditions))


@pytest.mark.e2e
def test_every_metric_and_label_is_on_the_page(repository: Path) -> None:
    with Server(repository) as server:
        server.wait_until_ready()
        assert server.invoke({"model": "ncf_food_model", "user_id": "u17"}).status == 200
        eventually(lambda: "serve_request_seconds_count{" in server.request("GET", "/metrics").body.decode())
        page = server.request("GET", "/metrics").body.decode()
    labels: dict[str, set[str]] = defaultdict(set)
    for name, of_sample in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", page, re.MULTILINE):
        labels[name] |= set(re.findall(r'(\w+)="', of_sample))
    for name in ELSEWHERE:
        assert name not in labels or labels[name] == ELSEWHERE[name]
    names = dict(asked())
    assert {"serve_requests_total", "serve_request_seconds_bucket", "nv_inference_queue_duration_us"} <= names.keys()
    for name, used in asked():
        assert name in labels or name in ELSEWHERE, f"{name} is not on the page"
        unknown = used - labels.get(name, ELSEWHERE.get(name, set())) - PROMETHEUS
        assert not unknown, f"{name} has no {unknown}"
    of_serve = {name for name in labels if name.startswith("serve_")}
    assert of_serve <= names.keys(), "a metric of serve is on no panel"


def test_grafana_can_import_it() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert not DASHBOARD.get("id"), "an id is of one Grafana alone"
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(letters)) == len(letters)
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_prometheus_scrapes_the_path_that_it_scrapes_by_default() -> None:
    config: dict[str, Any] = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert job["static_configs"][0]["targets"] == ["127.0.0.1:8080"]
