"""A model trained by the image itself: what its `train` verb leaves is what its `serve` verb gets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from tests.image.docker import CPU, docker
from tests.support.serving import HARDENED


@dataclass(frozen=True)
class Job:
    """A training job's folders, laid out as SageMaker does, for a user who is not root."""

    base: Path

    def prepare(self, **hyperparameters: object) -> None:
        config = self.base / "input" / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "hyperparameters.json").write_text(json.dumps({k: str(v) for k, v in hyperparameters.items()}))
        for folder in ("model", "output", "checkpoints"):
            (self.base / folder).mkdir(exist_ok=True)
            (self.base / folder).chmod(0o777)
        for path in [self.base, *self.base.rglob("*")]:
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))

    def run(self, *options: str, **hyperparameters: object) -> tuple[int, str]:
        """The exit code of `train`, and all it said."""
        self.prepare(**hyperparameters)
        outside = (*HARDENED, "--user=1000:1000", "--network=none", f"--volume={self.base}:/opt/ml")
        ended = docker("run", "--rm", *outside, *options, CPU, "train", check=False)
        return ended.returncode, ended.stdout + ended.stderr


def job_in(folder: Path) -> Job:
    """Thirty users and forty items; a user likes the items whose number leaves the same rest by five."""
    rows = [(f"u{user}", f"i{item}") for user in range(30) for item in range(40) if item % 5 == user % 5]
    data = folder / "ml" / "input" / "data" / "train"
    data.mkdir(parents=True)
    pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").write_csv(data / "ratings.csv")
    return Job(folder / "ml")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_in(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository that a job has left in /opt/ml/model."""
    trained = job_in(tmp_path_factory.mktemp("trained"))
    code, said = trained.run(model="gmf", epochs=2, model_name="trained", k=5)
    assert code == 0, said
    return trained.base / "model"
