"""Fixtures: generated data, small trained runs, an exported repository, a running `serve`."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

# A shell's background jobs ignore Ctrl-C, and what nohup starts ignores SIGHUP; so would all that the tests start, and
# be waited for without end.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
# As the ncf command does, and before torch is loaded: on shared cores spinning threads make tests many times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch

from ncf.data.item_columns import ItemColumn, read_items
from ncf.data.sample import CATALOGUES, generate
from ncf.export.export import export
from ncf.training.config import TrainConfig
from ncf.training.run import train_run
from ncf.training.run_directory import Run, load_run
from tests.support.serving import Server

BIN = Path(sys.executable).parent

# Trained just long enough that scores differ between items; how well is another test's matter.
QUICK = TrainConfig(epochs=1, num_factors=8)


# The files that take longest, those that compute between those that wait: three run at a time, on two cores perhaps.
LONGEST = (
    "test_ml1m.py", "test_multi_model_life.py", "test_lifecycle.py", "test_demo.py", "test_hosts.py", "test_rollout.py",
    "test_stuck_start.py", "test_load.py", "test_world.py", "test_attacks.py", "test_checkpoints.py", "test_batch.py",
    "test_push_to_ecr.py", "test_native_oracle_multi_model.py", "test_models.py", "test_llm.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that the processes end at the same time."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (place.get(item.path.name, len(place)), "whole" not in item.path.parts))


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """A test draws the same numbers whichever tests its process has run before it."""
    torch.manual_seed(0)


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first test process that needs it makes, and that all of them read."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker has a folder of its own in it
    folder, ready = base / name, base / f"{name}.ready"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder


@pytest.fixture(scope="session")
def catalogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated data, as <name>.csv."""

    def make(folder: Path) -> None:
        for name in ("food", "fashion"):
            generate(CATALOGUES[name]).write_csv(folder / f"{name}.csv")

    return made_once(tmp_path_factory, "catalogues", make)


@pytest.fixture(scope="session")
def food_csv(catalogues: Path) -> Path:
    return catalogues / "food.csv"


@pytest.fixture(scope="session")
def fashion_csv(catalogues: Path) -> Path:
    return catalogues / "fashion.csv"


@pytest.fixture(scope="session")
def food_run(food_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    def make(folder: Path) -> None:
        train_run(food_csv, folder / "run", QUICK, torch.device("cpu"))

    return load_run(made_once(tmp_path_factory, "food", make) / "run")


@pytest.fixture(scope="session")
def fashion_run(fashion_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    def make(folder: Path) -> None:
        train_run(fashion_csv, folder / "run", TrainConfig(model="gmf", epochs=1, num_factors=8), torch.device("cpu"))

    return load_run(made_once(tmp_path_factory, "fashion", make) / "run")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Awkward ids, a catalogue smaller than K, and a user ('all') who has seen every item."""

    def make(folder: Path) -> None:
        items = ["a b", "c,d", "é—☃", "x" * 300, "7", '"quoted"']
        rows = [("all", item) for item in items]
        rows += [(f"user {n}", items[(n + step) % len(items)]) for n in range(8) for step in range(3)]
        path = folder / "tiny.csv"
        pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").write_csv(path)
        train_run(path, folder / "run", TrainConfig(epochs=1, num_factors=4), torch.device("cpu"))

    return load_run(made_once(tmp_path_factory, "tiny", make) / "run")


@pytest.fixture(scope="session")
def one_model(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one small recommender, `tiny`: a server of it starts soonest."""
    return made_once(tmp_path_factory, "one-model", lambda folder: export(tiny_run, folder, "tiny"))


@pytest.fixture(scope="session")
def food_items_file(food_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an item such as sushi-06 the title 'Sushi 6', the kind 'sushi', the number 6, its divisors among 2, 3 and 5 as
    a list and as text such as '2|3', and whether it is even; nothing is known of pizza-01."""
    parts = [str(item).split("-") for item in food_run.items.ids]
    frame = pl.DataFrame(
        {
            "item_id": food_run.items.ids,
            "title": [f"{kind.title()} {int(number)}" for kind, number in parts],
            "kind": [kind for kind, _ in parts],
            "number": [int(number) for _, number in parts],
            "divisors": [[by for by in (2, 3, 5) if int(number) % by == 0] for _, number in parts],
            "even": ["False" if int(number) % 2 else "True" for _, number in parts],
        }
    ).with_columns(divided=pl.col("divisors").cast(pl.List(pl.String)).list.join("|"))
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    frame.filter(pl.col("item_id") != "pizza-01").write_parquet(path)
    return path


@pytest.fixture(scope="session")
def food_items(food_run: Run, food_items_file: Path) -> list[ItemColumn]:
    return read_items(food_items_file, food_run.items)


@pytest.fixture(scope="session")
def repository(
    food_run: Run,
    fashion_run: Run,
    tiny_run: Run,
    food_items: list[ItemColumn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Three recommenders, the first with metadata and the last with `topk`, and one that is broken."""

    def make(folder: Path) -> None:
        export(food_run, folder, "ncf_food_model", columns=food_items)
        export(fashion_run, folder, "ncf_fashion_model")
        export(tiny_run, folder, "tiny", with_topk=True)
        export(tiny_run, folder, "broken")
        (folder / "broken" / "1" / "model.pt").write_bytes(b"this is no TorchScript")

    return made_once(tmp_path_factory, "repository", make)


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Server]:
    """`serve` on the repository, ready."""
    with Server(repository) as running:
        running.wait_until_ready()
        yield running


def run_ncf(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The `ncf` command as a user runs it."""
    command = [str(BIN / "ncf"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "200"})
