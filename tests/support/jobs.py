"""Training jobs for tests: folders as SageMaker lays them out, with data that train in a moment."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.conftest import BIN

# Thirty users and forty items; a user likes the items whose number leaves the same rest by five.
ROWS = [(f"u{user}", f"i{item}", 100 * item + user) for user in range(30) for item in range(40) if item % 5 == user % 5]
HEADER = "user_id,item_id,timestamp\n"
QUICK = {"model": "gmf", "epochs": "2", "num_factors": "4", "negatives": "2", "k": "5"}


def table(rows: Iterable[tuple[object, ...]]) -> str:
    return HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows)


class Job:
    """A job's folder, to be filled."""

    def __init__(self, base: Path, **hyperparameters: str) -> None:
        self.base = base
        self.config = base / "input" / "config"
        self.config.mkdir(parents=True)
        self.write("hyperparameters.json", hyperparameters)

    def write(self, name: str, content: object) -> None:
        """A file of the configuration."""
        (self.config / name).write_text(json.dumps(content))

    def put(self, channel: str, name: str, text: str) -> Path:
        """A file of a channel."""
        path = self.base / "input" / "data" / channel / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def failure(self) -> str:
        return (self.base / "output" / "failure").read_text()

    @property
    def run_directory(self) -> Path:
        return self.base / "output" / "data" / "run"

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """The `train` verb as a process; what it says is read from its standard error."""
        own = {**os.environ, "SAGEMAKER_BASE_DIR": str(self.base), **environment}
        return subprocess.Popen([BIN / "train"], env=own, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def small_job(base: Path, **hyperparameters: str) -> Job:
    """A job with one file that takes a second."""
    job = Job(base, **{**QUICK, **hyperparameters})
    job.put("train", "ratings.csv", table(ROWS))
    return job


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """What a process says until it says a line that a regular expression finds."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if re.search(pattern, line):
            return "".join(said)
    raise AssertionError(f"it ended with {process.wait()} and never said {pattern!r}: {''.join(said)}")
