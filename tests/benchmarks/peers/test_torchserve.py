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
import torchserve_handler
handle = getattr(torchserve_handler, sys.argv[2])
context = SimpleNamespace(system_properties={"model_dir": sys.argv[1]})
assert handle(None, context) is None
print(json.dumps(handle(json.load(sys.stdin), context)))
"""


@pytest.mark.parametrize("entry", ["handle", "handle_plain"])
def test_the_handler_answers_every_request_of_a_batch_as_the_modules_do(tmp_path: Path, entry: str) -> None:
    recommender = random_recommender(tmp_path / "r", "gmf", 8, 20, 60)  # users have seen most
    run = BenchRun(tmp_path, Points(tmp_path / "points", {}), 1, 1.0, True, "cpu", Progress(disable=True))
    archive(tmp_path / "pairs.mar", model_folder(run, recommender), entry)
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(tmp_path / "pairs.mar") as packed:
        packed.extractall(unpacked)
    indices = [[(3, 5), (4, 6)], [(7, 8)]]
    users, items = recommender.run.users.ids, recommender.run.items.ids
    batch = [
        {"body": {"pairs": [{"user_id": users[user], "item_id": items[item]} for user, item in pairs]}}
        for pairs in indices
    ]
    batch[1:1] = [{"body": {"user_id": users[user], "k": k}} for user, k in ((3, 4), (5, 6))]
    ended = subprocess.run(
        [sys.executable, "-c", CALLS, unpacked, entry],
        input=json.dumps(batch), env={**os.environ, "PYTHONPATH": str(unpacked)}, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    first, *rankings, last = json.loads(ended.stdout)
    for pairs, answer in zip(indices, (first, last), strict=True):
        user, item = torch.tensor(pairs).T
        expected = recommender.run.model(user[:, None], item[:, None]).squeeze(1).tolist()
        assert answer["scores"] == pytest.approx(expected, abs=1e-6)
    for user, k, answer in zip((3, 5), (4, 6), rankings, strict=True):
        scores = recommender.run.model(torch.full((60, 1), user), torch.arange(60)[:, None]).squeeze(1)
        scores[recommender.seen(user)] = -torch.inf
        best = scores.sort(descending=True, stable=True)
        expected = [
            {"item_id": items[item], "score": pytest.approx(score, abs=1e-6)}
            for score, item in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            if score > -torch.inf
        ]
        assert answer["recommendations"] == expected[:k] != []
