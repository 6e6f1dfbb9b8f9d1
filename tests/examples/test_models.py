"""The models of examples/models: each is built by its command, and all are served together and asked."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost
from click.testing import CliRunner
from google.protobuf import text_format
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import model_config_pb2

from ncf import Recommender
from ncf.export.export import export
from ncf.training.run_directory import Run
from tests.conftest import made_once
from tests.deploy.local.support import NOBODY, Local
from tests.support.eventually import eventually
from tests.support.serving import Answer, Server, free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "examples" / "models"
# docs/image.md: packages of its own for a model in Python; the first line is the page's.
OWN_PACKAGES = """{first_line}
import flavour
import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        return [triton.InferenceResponse([triton.Tensor("Y", np.array([flavour.VERSION], np.int32))]) for _ in requests]
"""
OWN_CONFIG = """
backend: "python"
input [ { name: "X" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
NUMBERS = np.tanh([[1.0, 1.0, 1.0, 1.0]])  # what the README of `hello` asks for


def run(script: Path, command: str, *arguments: object) -> str:
    """What a script of the examples prints; it runs in this process, where torch is loaded already."""
    done = CliRunner().invoke(
        runpy.run_path(str(script), run_name=script.stem)[command], [*map(str, arguments)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def repository(food_run: Run, fashion_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recommenders, the three examples, a tokenizer without its file, and three models that want a package: version
    1, version 2, and one that has none. `trees.txt` is what was measured."""

    def make(folder: Path) -> None:
        for name in ("hello", "embedding", "trees"):
            (folder / f"{name}.txt").write_text(run(MODELS / name / "build.py", "build", "--repository", folder))
        export(food_run, folder, "ncf_food_model")
        export(fashion_run, folder, "ncf_fashion_model")
        shutil.copytree(folder / "embedding_tokenizer", folder / "no_tokenizer")
        (folder / "no_tokenizer" / "1" / "tokenizer.json").unlink()
        (line,) = re.findall(r"^    (import sys; .*)$", (ROOT / "docs" / "image.md").read_text(), re.MULTILINE)
        for version in (1, 2, None):
            model = folder / f"own_{version}"
            (model / "1" / "packages").mkdir(parents=True)
            (model / "config.pbtxt").write_text(OWN_CONFIG)
            (model / "1" / "model.py").write_text(OWN_PACKAGES.replace("{first_line}", line))
            if version:
                (model / "1" / "packages" / "flavour.py").write_text(f"VERSION = {version}\n")

    return made_once(tmp_path_factory, "examples", make)


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(repository: Path, grpc_port: int) -> Iterator[Server]:
    open_grpc = {"SAGEMAKER_TRITON_ALLOW_GRPC": "true", "SAGEMAKER_TRITON_GRPC_PORT": str(grpc_port)}
    with Server(repository, SERVE_WORKERS="1", **open_grpc) as running:
        running.wait_until_ready()
        yield running


def tensor(name: str, datatype: str, data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(np.shape(data)), "data": data}


def outputs(answer: Answer) -> dict[str, np.ndarray[Any, Any]]:
    assert answer.status == 200, answer.body
    return {each["name"]: np.array(each["data"]).reshape(each["shape"]) for each in answer.json["outputs"]}


def embed(server: Server, *texts: str) -> Answer:
    return server.invoke({"model": "embedding", "inputs": [tensor("text", "BYTES", [[text] for text in texts])]})


def two_stages(server: Server, *users: str) -> dict[str, np.ndarray[Any, Any]]:
    return outputs(server.invoke({"model": "two_stage", "inputs": [tensor("user_id", "BYTES", [*users])]}))


def test_the_first_call_in_every_form_of_the_page(
    server: Server, grpc_port: int, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(MODELS / "hello" / "endpoint.yaml", tmp_path)
    package = [ROOT / "scripts" / "package_model.sh", repository / "hello", "-o", tmp_path / "hello.tar.gz"]
    subprocess.run(package, check=True, capture_output=True)
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    page = (MODELS / "hello" / "README.md").read_text()
    for usual, here in ((8080, server.port), (8001, grpc_port)):
        page = page.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{here}")
    (curl,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shown = subprocess.run(["bash", "-c", curl], capture_output=True, check=True).stdout
    assert json.loads(shown)["outputs"][0]["data"] == pytest.approx(NUMBERS[0], abs=1e-6)
    with Local(tmp_path / "endpoint.yaml") as local:
        local.ready()
        blocks = re.findall(r"^```python\n(.*?)^```", page.replace(":8090", f":{local.port}"), re.MULTILINE | re.DOTALL)
        assert len(blocks) == 3
        for block in blocks:
            names: dict[str, Any] = {}
            exec(compile(block, "README.md", "exec"), names)
            assert names["y"] == pytest.approx(NUMBERS, abs=1e-6)


def test_vectors_are_those_of_the_model_s_authors(server: Server) -> None:
    """The similarities that the page of all-MiniLM-L6-v2 shows for these sentences."""
    texts = ("That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day")
    vector = outputs(embed(server, *texts))["vector"]
    assert vector.shape == (4, 384)
    assert vector @ vector[0] == pytest.approx([1, 0.695, 0.943, 0.257], abs=0.001)
    longer = outputs(embed(server, texts[0], "and so on " * 60))["vector"]  # its row is filled up to the other's length
    assert longer[0] == pytest.approx(vector[0], abs=1e-5)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["fine", "sushi " * 100_000], "text 1 has 200002 tokens, and the model reads 256; send it in parts"),
        ([" "], "text 0 is empty; send words"),
        (["many"] * 65, "batch-size must be <= 64"),
    ],
)
def test_a_text_that_cannot_be_read_is_400(server: Server, texts: list[str], words: str) -> None:
    answer = embed(server, *texts)
    assert (answer.status, words in answer.json["error"]) == (400, True), answer.json


def test_a_missing_tokenizer_is_a_line_at_the_start(server: Server) -> None:
    (line,) = [line for line in server.log.read_text().splitlines() if "no_tokenizer is not served" in line]
    assert "tokenizer.json" in line


def test_new_items_are_ranked_by_their_texts(server: Server, repository: Path, food_csv: Path, tmp_path: Path) -> None:
    """A quarter of the catalogue is hidden from training: dishes of other words than those that stay."""
    data = pl.read_csv(food_csv)
    is_new = pl.col("item_id").str.tail(2).cast(pl.Int64) % 8 > 5
    hidden, known, table = data.filter(is_new), tmp_path / "known.csv", tmp_path / "near.parquet"
    data.filter(~is_new).write_csv(known)
    folder, url = MODELS / "embedding", f"http://127.0.0.1:{server.port}/invocations"
    run(folder / "nearest.py", "nearest", folder / "dishes.tsv", known, "--output", table, "--url", url)
    model = Recommender(num_factors=16, epochs=15).fit(known, item_features=table)
    model.export(repository, "cold", new_items=table)
    eventually(lambda: server.invoke({"model": "cold", "user_id": "u1"}).status == 200, about=server.log.read_text)
    new = sorted(hidden["item_id"].unique())
    had = set(hidden.select("user_id", "item_id").iter_rows())
    users = hidden["user_id"].unique(maintain_order=True).head(300).to_list()
    asked = [{"model": "cold", "user_id": user, "allow": new, "k": len(new)} for user in users]
    shares = []
    for user, answer in zip(users, server.invoke({"requests": asked}).json["responses"], strict=True):
        is_had = np.array([(user, one["item_id"]) in had for one in answer["recommendations"]])
        assert len(is_had) == len(new)
        before = np.cumsum(~is_had)[is_had]  # of each item that they had: how many others come before it
        shares.append(1 - before.mean() / (~is_had).sum())
    assert np.mean(shares) > 0.6, np.mean(shares)  # .5 would be chance; processors round differently


def test_two_stages_are_the_candidates_in_the_order_of_the_trees(server: Server, repository: Path) -> None:
    users = json.loads((repository / "two_stage_users" / "1" / "users.json").read_text())
    items = np.array(json.loads((repository / "two_stage_answer" / "1" / "items.json").read_text()))
    asked = np.array([3, 17, 900])
    query = tensor("query", "INT64", [[[1, int(user)]] for user in asked])
    first = outputs(server.invoke({"model": "two_stage_candidates", "inputs": [query]}))
    folder = repository / "two_stage_features" / "1"
    known = dict(np.load(folder / "known.npz"))
    rows = runpy.run_path(str(folder / "features.py"))["features"](known, asked, first["item_index"], first["score"])
    trees = xgboost.Booster(model_file=repository / "two_stage_trees" / "1" / "xgboost.ubj")
    score = trees.inplace_predict(rows).reshape(first["score"].shape)
    best = np.argsort(-score, 1, kind="stable")[:, :10]
    answer = two_stages(server, *(users[user] for user in asked))
    assert answer["item_id"].tolist() == items[np.take_along_axis(first["item_index"], best, 1)].tolist()
    assert answer["score"] == pytest.approx(np.take_along_axis(score, best, 1), abs=1e-5)
    assert not np.array_equal(best, np.broadcast_to(np.arange(10), best.shape))
    ncf, both = map(float, re.findall(r"\.\d+", (repository / "trees.txt").read_text())[:2])
    assert both >= 0.8 * ncf  # both are of 240 users, and another processor rounds them differently


def test_an_unknown_user_gets_the_first_stage_s_popular_items(server: Server) -> None:
    answer = two_stages(server, "nobody, ever")
    assert (np.diff(answer["score"][0]) <= 0).all()
    assert len(set(answer["item_id"][0])) == 10
    refused = server.invoke({"model": "two_stage", "inputs": [tensor("user_id", "BYTES", ["u1"] * 65)]})
    assert (refused.status, "batch-size must be <= 64" in refused.json["error"]) == (400, True), refused.json


def test_the_trees_have_one_form_for_both_backends() -> None:
    ours, fil = (
        text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        for path in (
            MODELS / "trees" / "repository" / "two_stage_trees" / "config.pbtxt",
            MODELS / "trees" / "fil" / "config.pbtxt",
        )
    )
    assert (list(ours.input), list(ours.output)) == (list(fil.input), list(fil.output))
    assert (ours.max_batch_size, fil.backend) == (fil.max_batch_size, "fil")
    assert fil.parameters["model_type"].string_value == "xgboost_ubj"


def test_models_have_different_versions_of_one_package(server: Server) -> None:
    for version in (1, 2):
        answer = server.invoke({"model": f"own_{version}", "inputs": [tensor("X", "INT32", [0])]})
        assert outputs(answer)["Y"].tolist() == [version]
    assert "own_None is not served: Internal: ModuleNotFoundError: No module named 'flavour'" in server.log.read_text()


def counts(server: Server) -> dict[str, float]:
    """By model, how many requests were answered by 200."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(server.request("GET", "/metrics").body.decode()):
        for sample in family.samples:
            if sample.name == "serve_requests_total" and sample.labels["status"] == "200" and sample.labels["model"]:
                found[sample.labels["model"]] = found.get(sample.labels["model"], 0) + sample.value
    return found


ASKED = {
    "ncf_food_model": {"user_id": "u17", "k": 3},
    "ncf_fashion_model": {"user_id": 42, "k": 3},
    "hello": {"inputs": [tensor("x", "FP32", [[1, 2, 3, 4]]), tensor("h", "FP32", [[0, 0, 0, 0]])]},
    "embedding": {"inputs": [tensor("text", "BYTES", [["noodles"]])]},
    "two_stage": {"inputs": [tensor("user_id", "BYTES", ["u17"])]},
}


def test_two_recommenders_an_encoder_and_trees_are_counted_by_model(server: Server) -> None:
    before = counts(server)
    for name, document in ASKED.items():
        assert server.invoke({"model": name, **document}).status == 200

    def are_counted() -> bool:  # a worker writes its counts every second
        now = counts(server)
        return all(now.get(name, 0) > before.get(name, 0) for name in ASKED)

    eventually(are_counted)


def test_the_same_models_on_a_multi_model_endpoint(repository: Path, tmp_path: Path) -> None:
    parts = {"ncf_food_model": ("", "_query"), "ncf_fashion_model": ("", "_query"), "hello": ("",),
             "embedding": ("", "_tokenizer", "_encoder"),
             "two_stage": ("", "_users", "_candidates", "_features", "_trees", "_answer")}  # fmt: skip
    with Server(
        tmp_path, SAGEMAKER_MULTI_MODEL="true", SERVE_MULTI_MODEL_ROOT=str(tmp_path), SERVE_WORKERS="1"
    ) as server:
        server.wait_until_ready()
        for name in ASKED:
            folder = tmp_path / name / "model"
            for part in parts[name]:
                shutil.copytree(repository / f"{name}{part}", folder / f"{name}{part}", copy_function=os.link)
            body = json.dumps({"model_name": name, "url": str(folder)}).encode()
            loaded = server.request("POST", "/models", body)
            assert loaded.status == 200, loaded.body
        for name, document in ASKED.items():
            answer = server.request("POST", f"/models/{name}/invoke", json.dumps(document).encode())
            assert answer.status == 200, answer.body
        eventually(lambda: all(counts(server).get(name) == 1 for name in ASKED))
