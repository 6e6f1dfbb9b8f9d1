"""A Triton model repository on disk: its models, and the versions of the recommenders among them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from serve.recommend.recommender import describe

log = logging.getLogger("serve")

VERSION = re.compile(r"[1-9][0-9]{0,9}")
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
WEIGHTS = "model.pt"


class RepositoryError(Exception):
    """The repository, or one version in it, cannot be served; the message is the reason, in one line."""

    version = 0


@dataclass(frozen=True)
class Release:
    """One whole version of a recommender, which means that every part that its recommender.json names has this version.

    `parts` begins with the one that scores pairs and ends with the one that takes queries. `stamp` is the stamp (see
    `file_stamp`) of the files beside the weights, `weights` that of the parts' weights, `configs` that of their
    configurations. Two releases are equal only if no file was written in between.
    """

    name: str
    version: int
    parts: tuple[str, ...]
    stamp: str
    weights: str
    configs: str

    @classmethod
    def read(cls, repository: Path, name: str, version: int) -> Release:
        """Raises RepositoryError if the version is not whole."""
        try:
            parts = (name, *describe(repository / name / str(version))["parts"])
            if parts not in (with_topk := possible_parts(name), (with_topk[0], with_topk[-1])):
                raise ValueError(f"its parts are {', '.join(map(str, parts))}; export it under the name {name}")
            for part in parts:
                if not (repository / part / str(version) / WEIGHTS).exists():
                    raise ValueError(f"{part}/{version}/{WEIGHTS} is missing")
            return cls(
                name,
                version,
                parts,
                file_stamp(beside_weights(repository / name / str(version))),
                weights_stamp(repository, parts, version),
                file_stamp(repository / part / "config.pbtxt" for part in parts),
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"recommender.json has no {error}" if isinstance(error, KeyError) else str(error)
            failed = RepositoryError(reason)
            failed.version = version
            raise failed from error

    def lacks(self, other: Release) -> str:
        """Words on the parts that another version has and this one does not; empty if there are none."""
        missing = sorted({*other.parts} - {*self.parts})
        return f"; it has no {', '.join(missing)}" if missing else ""


def possible_parts(name: str) -> tuple[str, str, str]:
    """The names that the models of a recommender have; not every version has the second."""
    return name, f"{name}_topk", f"{name}_query"


def beside_weights(version: Path) -> list[Path]:
    """The files of a recommender's version beside its weights, which are those that workers map, sorted."""
    return sorted(path for path in version.iterdir() if path.name != WEIGHTS and path.is_file())


def weights_stamp(repository: Path, parts: Iterable[str], version: int) -> str:
    """The stamp of the weights of a recommender's parts. Raises OSError if some are not there."""
    return file_stamp(repository / part / str(version) / WEIGHTS for part in parts)


def file_stamp(files: Iterable[Path]) -> str:
    """Names, sizes and times of files in one short text: files that were written to have another stamp.

    Raises OSError.
    """
    found = []
    for path in files:
        status = path.stat()
        found.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return sha256("\n".join(found).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Repository:
    """The names of the models in a repository, of its recommenders, of folders with other names, and of files beside;
    all sorted."""

    path: Path
    models: tuple[str, ...]
    recommenders: tuple[str, ...]
    passed_over: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @classmethod
    def scan(cls, path: Path) -> Repository:
        """Look at the folders of a repository. One whose name starts with a dot is no model; one whose name Triton's
        Python backend cannot use (because of a space, for example) is passed over. Raises OSError."""
        names = sorted(folder.name for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        models = [name for name in names if PLAIN_NAME.fullmatch(name)]
        return cls(
            path,
            tuple(models),
            tuple(name for name in models if any((path / name).glob("[0-9]*/recommender.json"))),
            tuple(name for name in names if name not in models),
            tuple(sorted(file.name for file in path.iterdir() if file.is_file())),
        )

    def releases(self, name: str) -> Iterator[Release | RepositoryError]:
        """A recommender's versions, newest first, with an error in the place of a version that is not whole."""
        found = {path.parent.name for path in (self.path / name).glob("*/recommender.json")}
        for version in sorted((int(each) for each in found if VERSION.fullmatch(each)), reverse=True):
            if version < 2**31:  # Triton ends at a larger one, and `ncf export` writes none
                try:
                    yield Release.read(self.path, name, version)
                except RepositoryError as error:
                    yield error

    def parts(self, name: str) -> set[str]:
        """The models that belong to a recommender: those that the recommender.json of any of its versions names, the
        withdrawn ones included. All possible ones if such a file cannot be read."""
        parts = {name}
        for path in (self.path / name).glob("*/recommender.json"):
            try:
                parts.update(describe(path.parent)["parts"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                parts.update(possible_parts(name))
        return parts.intersection(possible_parts(name))

    def to_load(self, default_model_name: str | None) -> tuple[str, ...]:
        """The models that Triton loads: all if there are several recommenders, else the default model or the only one;
        the parts of a recommender count as one.

        Raises RepositoryError, worded as in SageMaker's own Triton container, if it is not clear what to load.
        """
        if (self.path / "config.pbtxt").exists():
            raise RepositoryError(
                f"Incorrect directory structure: {self.path}/config.pbtxt exists; the model repository needs one "
                "folder a model, <name>/config.pbtxt and <name>/<version>/: mount the folder above it, or pack that "
                "(scripts/package_model.sh)"
            )
        found = any(is_model(self.path / name) for name in self.models)
        if default_model_name is not None and default_model_name not in self.models:
            raise RepositoryError(
                f"Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME {default_model_name} does not exist in "
                f"{self.path}: {'it holds ' + ', '.join(self.models) if found else what_is_there(self.path)}"
            )
        if not found:
            raise RepositoryError(f"No model found in model repository {self.path}: {what_is_there(self.path)}")
        if len(self.recommenders) > 1:
            return tuple(name for name in self.models if name == default_model_name or is_model(self.path / name))
        parts = {part for name in self.recommenders for part in self.parts(name)}
        # Other folders, such as code/, may lie beside the models.
        choices = [
            name
            for name in self.models
            if name in self.recommenders or (name not in parts and is_model(self.path / name))
        ]
        if default_model_name is None and len(choices) > 1:
            raise RepositoryError(
                f"More than 1 model directory found in model repository {self.path}: {', '.join(choices)}; keep one, "
                "or name the one to serve with SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"
            )
        chosen = default_model_name or choices[0]
        if default_model_name is None:
            log.warning("no SAGEMAKER_TRITON_DEFAULT_MODEL_NAME: starting with the only model there is, %s", chosen)
        wanted = self.parts(chosen) if chosen in self.recommenders else {chosen}
        return tuple(name for name in self.models if name in wanted)


def is_model(folder: Path) -> bool:
    """Whether Triton may accept a folder as a model: it has a configuration or a version, and may be read."""
    try:
        return (folder / "config.pbtxt").exists() or any(
            path.name.isdecimal() for path in folder.iterdir() if path.is_dir()
        )
    except PermissionError:
        return False


def what_is_there(path: Path) -> str:
    """The second half of a message about a folder without a model: its content, and how to get a repository from it."""
    names = sorted(each.name for each in path.iterdir() if not each.name.startswith("."))
    folders = [path / name for name in names if (path / name).is_dir()]
    if not names:
        return (
            f"it is empty; mount a model repository there (docker run -v REPOSITORY:{path}:ro …); "
            "`ncf export --repository REPOSITORY` writes one"
        )
    for run in (path, *folders):
        if (run / "weights.pt").exists() and (run / "config.json").exists():
            export = f"ncf export --run {run} --repository REPOSITORY --name NAME"
            return f"{run} is a run of `ncf train`; export it (`{export}`) and mount REPOSITORY"
    for name in names:
        if name.endswith((".tar.gz", ".tgz", ".tar", ".zip")):
            return f"it holds {name}; unpack that (tar -xzf {name} -C REPOSITORY) and mount REPOSITORY"
    if any(folder.name.isdecimal() for folder in folders):
        return f"it holds {', '.join(names[:5])}, as a model's folder does; mount the folder above it, or pack that"
    for levels in ("*/*", "*/*/*", "*/*/*/*"):
        for config in path.glob(f"{levels}/config.pbtxt"):
            deeper = config.parents[1]
            return (
                f"the models are in {deeper}; mount that folder, or name it with SERVE_MODEL_REPOSITORY (in a "
                "model.tar.gz the models' folders come first: scripts/package_model.sh)"
            )
    held = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"it holds {held}; a model is a folder with NAME/config.pbtxt and NAME/1/model.pt, as `ncf export` writes it"
