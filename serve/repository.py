"""What a Triton model repository on disk holds: models, and which of them are recommenders."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from serve.ids import IdFile

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RepositoryError(Exception):
    """The repository cannot be served; the message says why in one line."""


@dataclass(frozen=True)
class Repository:
    """Names of the models in a repository, and of those that are recommenders, sorted."""

    path: Path
    models: tuple[str, ...]
    recommenders: tuple[str, ...]
    passed_over: tuple[str, ...] = ()

    @classmethod
    def scan(cls, path: Path) -> Repository:
        """Look at the directories of a repository; what starts with a dot is no model, and what has a name that
        Triton's Python backend cannot take (a space is enough) is passed over."""
        names = sorted(folder.name for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        models = [name for name in names if PLAIN_NAME.fullmatch(name)]
        return cls(
            path,
            tuple(models),
            tuple(name for name in models if any((path / name).glob("*/recommender.json"))),
            tuple(name for name in names if name not in models),
        )

    def halves(self, name: str) -> tuple[str, ...]:
        """The models a request to `name` needs: a recommender's two, or itself."""
        newest = max(self._versions(name, "recommender.json"), default=None)
        if newest is None:
            return (name,)
        try:
            described = json.loads((self.path / name / str(newest) / "recommender.json").read_text())
            return (name, str(described["topk_model"]))
        except (OSError, ValueError, KeyError, TypeError):  # reported when the recommender is opened
            return (name,)

    def _versions(self, name: str, file: str) -> set[int]:
        found = {path.parent.name for path in (self.path / name).glob(f"*/{file}")}
        return {int(version) for version in found if version.isascii() and version.isdecimal()}

    def link_into(self, view: Path, models: tuple[str, ...]) -> None:
        """Lay out the models to load as links in an empty folder, the repository Triton gets to see.

        A recommender's two models must be of one version. Where the newest version of one has no partner, as when an
        export was killed between the two, the newest that both have is linked in alone.
        """
        alone: dict[str, int] = {}
        for name in self.recommenders:
            versions = [self._versions(half, "model.pt") for half in self.halves(name)]
            common = set.intersection(*versions)
            if common and any(max(each) not in common for each in versions):
                alone |= dict.fromkeys(self.halves(name), max(common))
        for name in models:
            source = (self.path / name).absolute()
            if name not in alone:
                (view / name).symlink_to(source)
                continue
            (view / name).mkdir()
            for part in ("config.pbtxt", str(alone[name])):
                (view / name / part).symlink_to(source / part)

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
    max_pairs: int
    users: IdFile
    items: IdFile

    @classmethod
    def open(cls, repository: Path, name: str, version: str, max_pairs: int) -> Recommender:
        """Open a version. Raises OSError, ValueError, KeyError or TypeError if its files are not whole."""
        folder = repository / name / version
        described = json.loads((folder / "recommender.json").read_text())
        return cls(
            name,
            version,
            described["topk_model"],
            described["k"],
            max_pairs,
            IdFile(folder / "users.ids"),
            IdFile(folder / "items.ids"),
        )
