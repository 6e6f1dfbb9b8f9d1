"""TorchServe's archive has all that its handler needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from benchmarks.peers.launch import model_folder
from benchmarks.peers.torchserve import archive
from benchmarks.rig.points import Points
from benchmarks.rig.recommender import random_recommender
from benchmarks.rig.run import BenchRun

CALLS = """
import json, sys
from types import SimpleNamespace
from torchserve_handler import handle
context = SimpleNamespace(system_properties={"model_dir": sys.argv[1]})
assert handle(None, context) is None
print(json.dumps(handle(json.load(sys.stdin), context)))
"""


def test_the_handler_answers_every_request_of_a_batch_with_the_scores_of_the_module(tmp_path: Path) -> None:
    recommender = random_recommender(tmp_path / "r", "gmf", 8, 20, 30)
    run = BenchRun(tmp_path, Points(tmp_path / "points", {}), 1, 1.0, True, "cpu", Progress(disable=True))
    archive(tmp_path / "pairs.mar", model_folder(run, recommender))
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(tmp_path / "pairs.mar") as packed:
        packed.extractall(unpacked)
    indices = [[(3, 5), (4, 6)], [(7, 8)]]
    users, items = recommender.run.users.ids, recommender.run.items.ids
    batch = [
        {"body": {"pairs": [{"user_id": users[user], "item_id": items[item]} for user, item in pairs]}}
        for pairs in indices
    ]
    ended = subprocess.run(
        [sys.executable, "-c", CALLS, unpacked],
        input=json.dumps(batch), env={**os.environ, "PYTHONPATH": str(unpacked)}, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    answers = json.loads(ended.stdout)
    for pairs, answer in zip(indices, answers, strict=True):
        user, item = torch.tensor(pairs).T
        expected = recommender.run.model(user[:, None], item[:, None]).squeeze(1).tolist()
        assert answer["scores"] == pytest.approx(expected, abs=1e-6)
