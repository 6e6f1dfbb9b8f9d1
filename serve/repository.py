"""What a Triton model repository on disk holds: models, and which of them are recommenders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from serve.ids import IdFile


class RepositoryError(Exception):
    """The repository cannot be served; the message says why in one line."""


@dataclass(frozen=True)
class Repository:
    """Names of the models in a repository, and of those that are recommenders, sorted."""

    path: Path
    models: tuple[str, ...]
    recommenders: tuple[str, ...]

    @classmethod
    def scan(cls, path: Path) -> Repository:
        """Look at the directories of a repository; what starts with a dot is no model."""
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        return cls(
            path,
            tuple(folder.name for folder in folders),
            tuple(folder.name for folder in folders if any(folder.glob("*/recommender.json"))),
        )

    def to_load(self, default_model_name: str | None) -> tuple[str, ...]:
        """The models Triton shall load: all where there are recommenders, else the default or only one.

        Raises RepositoryError in the words of SageMaker's own Triton container where nothing sensible can be loaded.
        """
        if (self.path / "config.pbtxt").exists():
            raise RepositoryError(
                f"Incorrect directory structure: {self.path}/config.pbtxt exists; the model repository needs one "
                "folder a model, <name>/config.pbtxt and <name>/<version>/"
            )
        if default_model_name is not None and default_model_name not in self.models:
            raise RepositoryError(
                f"Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME {default_model_name} does not exist; "
                f"{self.path} holds: {', '.join(self.models) or 'nothing'}"
            )
        if not self.models:
            raise RepositoryError(f"No model found in model repository {self.path}; `ncf export` writes one")
        if self.recommenders:
            return self.models
        if default_model_name is not None:
            return (default_model_name,)
        if len(self.models) > 1:
            raise RepositoryError(
                f"More than one model in {self.path} and none is a recommender: {', '.join(self.models)}; "
                "name one with SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"
            )
        return self.models


@dataclass(frozen=True)
class Recommender:
    """One version of a recommender: the models behind it and its ids."""

    name: str
    version: str
    topk_model: str
    k: int
    users: IdFile
    items: IdFile

    @classmethod
    def open(cls, repository: Path, name: str, version: str) -> Recommender:
        """Open a version. Raises OSError, ValueError or KeyError if its files are not whole."""
        folder = repository / name / version
        described = json.loads((folder / "recommender.json").read_text())
        return cls(
            name,
            version,
            described["topk_model"],
            described["k"],
            IdFile(folder / "users.ids"),
            IdFile(folder / "items.ids"),
        )
