"""Trained versions of a recommender, and clients that ask for its answers while the versions change."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import torch

from ncf.training.config import TrainConfig
from ncf.training.run import train_run
from ncf.training.run_directory import Run, load_run
from tests.support.eventually import eventually
from tests.support.serving import Server

NAME = "shop"
ENOUGH = 500  # answers of a version, before the next change


def train(folder: Path, users: range, items: range) -> Run:
    """Users and items of a range, each user with five items: another range gives every id another index."""
    rows = [(f"u{user}", f"i{items[(user * 7 + step * step) % len(items)]}") for user in users for step in range(5)]
    folder.mkdir(parents=True)
    pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").write_csv(folder / "data.csv")
    config = TrainConfig(epochs=2, num_factors=8, seed=len(items))
    train_run(folder / "data.csv", folder / "run", config, torch.device("cpu"))
    return load_run(folder / "run")


ASKS: list[Any] = [
    {"user_id": "u120", "k": 5},
    {"user_id": "u101", "k": 3, "exclude": ["i505"], "exclude_seen": False},
    {"pairs": [{"user_id": f"u{100 + n}", "item_id": f"i{500 + n}"} for n in range(20)]},
    {"user_id": "u130", "candidates": [f"i{500 + n}" for n in range(10)]},
    {"history": ["i501", "i502"], "k": 4},
    {"item_id": "i510", "k": 4},
    {
        "inputs": [
            {"name": "user_index", "datatype": "INT64", "shape": [1, 1], "data": [7]},
            {"name": "item_index", "datatype": "INT64", "shape": [1, 1], "data": [7]},
        ]
    },
    {"requests": [{"user_id": "u120"}, {"item_id": "i510"}, {"pairs": [{"user_id": "u120", "item_id": "i510"}]}]},
]


def rounded(value: Any) -> Any:
    """Without the request's id; scores to what float32 sums in another order agree on."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items() if key != "request_id"}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


def versions_in(answer: Any) -> set[str]:
    parts = answer.get("responses", [answer])
    return {part["model_version"] for part in parts}


class Load:
    """Clients that ask without a pause and keep every answer that is not exactly one version's."""

    def __init__(self, server: Server, expected: dict[str, list[Any]]) -> None:
        self.server, self.expected = server, expected
        self.stopped = threading.Event()
        self.wrong: list[Any] = []
        self.asked: dict[str, int] = {}
        self.threads = [threading.Thread(target=self.ask, args=(offset,)) for offset in range(8)]
        self.threads.append(threading.Thread(target=self.ping))

    def ask(self, offset: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)) as connection:
            self.ask_over(connection, offset)

    def ask_over(self, connection: http.client.HTTPConnection, offset: int) -> None:
        for number in itertools.count(offset):
            if self.stopped.is_set():
                return
            ask = number % len(ASKS)
            try:
                connection.request("POST", "/invocations", json.dumps(ASKS[ask]))
                response = connection.getresponse()
                status, body = response.status, response.read()
                answer = json.loads(body)
                version = versions_in(answer) if status == 200 else set()
            except (OSError, http.client.HTTPException, KeyError) as error:
                self.wrong.append(repr(error))
                return
            if len(version) != 1 or rounded(answer) != self.expected[min(version)][ask]:
                self.wrong.append((status, body))
            else:
                self.asked[min(version)] = self.asked.get(min(version), 0) + 1

    def go_on(self, version: str) -> None:
        """Until the clients have got `ENOUGH` more answers of a version."""
        before = self.asked.get(version, 0)
        eventually(lambda: self.wrong or self.asked.get(version, 0) >= before + ENOUGH)
        assert not self.wrong, (self.wrong[:2], self.server.log.read_text()[-3000:])

    def ping(self) -> None:
        while not self.stopped.wait(0.2):
            if (status := self.server.ping()) != 200:
                self.wrong.append(("ping", status))

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive()
