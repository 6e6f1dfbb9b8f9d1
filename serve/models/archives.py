"""The archive that SageMaker unpacks for one model of a multi-model endpoint: which models are in it, and how Triton
sees them.

An archive has config.pbtxt and version folders at its top, or one folder for each model. If it has several models,
requests go to the ensemble, or to the recommender whose parts they are. In Triton this model has the name that
SageMaker gave the archive, for example H, and each other model is H@<its name>, so that two archives may use equal
names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from serve.errors import BadRequest, show
from serve.models.preflight import without_code
from serve.models.repository import PLAIN_NAME, Release, Repository
from serve.models.view import View
from serve.triton.model_config import is_ensemble, read_config, renamed, steps

SEPARATOR = "@"  # no name of SageMaker's contains it, and `PLAIN_NAME` excludes it
MAX_DEPTH = 3  # <hash>/model/<name>


def confined(url: object, root: Path) -> Path:
    """The folder that a `url` names, links in its path followed. Raises BadRequest unless it is a folder below `root`.

    Files elsewhere may belong to others, and reading some files of /dev and /proc never ends.
    """
    wanted = f"it must be a folder below {root}"
    if not isinstance(url, str) or not url:
        raise BadRequest(f"url is {show(url)}; {wanted}")
    try:
        folder, top = Path(url).resolve(), root.resolve()
        if not os.path.isabs(url) or top not in folder.parents or folder.parts[1] in ("dev", "proc", "sys"):  # noqa: PTH117
            raise BadRequest(f"url is {show(url)}; {wanted}")
        if not folder.is_dir():
            raise BadRequest(f"url is {show(url)}, which is no folder; {wanted}")
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, links in a circle
        reason = getattr(error, "strerror", None) or error
        raise BadRequest(f"url is {show(url)}, which cannot be read ({reason}); {wanted}") from error
    return folder


@dataclass(frozen=True)
class Archive:
    """The models of an archive, first the one that requests go to; `release` if they are a recommender.

    `repository` is the folder that contains the models' folders, `url` the same folder as the caller wrote it.
    """

    repository: Path
    url: str
    models: tuple[str, ...]
    release: Release | None = None

    @classmethod
    def read(cls, folder: Path, root: Path, url: str) -> Archive:
        """Look at an unpacked archive. Raises BadRequest if it is not clear which model requests go to."""
        try:
            found = _models_in(folder)
            if not found:
                raise BadRequest(
                    f"{url} holds no model; it needs config.pbtxt and <version>/, or <name>/config.pbtxt and "
                    "<name>/<version>/"
                )
            for path in (each for model in found for each in (model, model / "config.pbtxt")):
                if root.resolve() not in path.resolve().parents:
                    raise BadRequest(f"{path} leads out of {root}; put the files themselves into the archive")
            models, release = _choose({model.name: _config(model) for model in found}, found[0].parent, url)
            for model in models:
                path = found[0].parent / model
                if why := without_code(path, read_config(_config(path))):
                    raise BadRequest(f"{url} cannot be served: {why}")
        except (OSError, ValueError) as error:
            raise BadRequest(f"{url} cannot be served: {error}") from error
        repository = found[0].parent
        seen = Path(url) / os.path.relpath(repository, folder)
        return cls(repository, os.path.normpath(seen), models, release)

    def names(self, name: str) -> tuple[str, ...]:
        """Triton's names of the models, in the order of `models`."""
        return (name, *(f"{name}{SEPARATOR}{model}" for model in self.models[1:]))

    def lay_out(self, view: View, name: str) -> dict[str, int]:
        """Show the models to Triton; -> the most rows of a request, by part of a recommender.

        Raises OSError or ValueError.
        """
        names = dict(zip(self.models, self.names(name), strict=True))
        if self.release:
            return View(self.repository, view.folder).place(self.release, names)
        for model, shown in names.items():
            config = _config(self.repository / model)
            view.show(self.repository / model, shown, config and renamed(config, names))
        return {}

    def as_seen_outside(self, text: str, view: View, name: str) -> str:
        """A message of Triton's with the archive's paths in place of the view's."""
        for model, shown in zip(self.models, self.names(name), strict=True):
            text = text.replace(f"{view.folder / shown}/", f"{self.repository / model}/")
        return text


def _models_in(folder: Path, depth: int = 0) -> list[Path]:
    """The folders of models: the folder itself, else those in it, else those further down, if all are in one folder."""
    if _is_model(folder):
        return [folder]
    folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    models = [each for each in folders if _is_model(each)]
    if models or depth == MAX_DEPTH:
        return models
    deeper = [found for each in folders if (found := _models_in(each, depth + 1))]
    return deeper[0] if len(deeper) == 1 else []


def _is_model(folder: Path) -> bool:
    """Whether a folder is a model: it has a configuration, or versions only, because Triton completes the configuration
    of some backends itself."""
    if (folder / "config.pbtxt").is_file():
        return True
    return any(
        each.name.isdecimal() and each.is_dir() and not (each / "config.pbtxt").is_file() for each in folder.iterdir()
    )


def _config(model: Path) -> str:
    """The text of a model's configuration, empty if it has none."""
    path = model / "config.pbtxt"
    return path.read_text() if path.is_file() else ""


def _choose(configs: dict[str, str], repository: Path, url: str) -> tuple[tuple[str, ...], Release | None]:
    """The models to serve, first the one that requests go to. Raises BadRequest or ValueError."""
    if len(configs) == 1:
        return tuple(configs), None
    listed = ", ".join(configs)
    ensembles = [model for model, config in configs.items() if is_ensemble(config)]
    if ensembles:
        inner = {step for model in ensembles for step in steps(configs[model])}
        top = [model for model in ensembles if model not in inner]
        if len(top) != 1:
            raise BadRequest(f"{url} has several ensembles, and none of them uses the others: {', '.join(ensembles)}")
        return _with_steps(top[0], configs), None
    recommenders = [model for model in configs if any((repository / model).glob("[0-9]*/recommender.json"))]
    found = Repository(repository, tuple(configs), tuple(recommenders))
    if len(recommenders) != 1 or not {*configs} <= found.parts(recommenders[0]):
        raise BadRequest(
            f"{url} has several models and does not say which one is asked: {listed}; an archive holds one model, one "
            "ensemble with its parts, or one recommender as `ncf export` writes it"
        )
    release = _newest(found, recommenders[0])
    return release.parts, release


def _with_steps(top: str, configs: dict[str, str]) -> tuple[str, ...]:
    """An ensemble, and every model that it needs. Raises ValueError."""
    models = [top]
    for model in models:
        for step in steps(configs[model]):
            if step not in configs:
                raise ValueError(
                    f"the ensemble {model} has a step {step}, and there is no model of that name beside it"
                )
            if not PLAIN_NAME.fullmatch(step):
                raise ValueError(f"{step} is no name for a model; use letters, digits, '.', '_' and '-'")
            if step not in models:
                models.append(step)
    return tuple(models)


def _newest(repository: Repository, name: str) -> Release:
    """The newest version that is whole. Raises ValueError if no version is, with the reason of the newest."""
    reason = f"{name} has no version"
    for number, release in enumerate(repository.releases(name)):
        if isinstance(release, Release):
            return release
        if number == 0:
            reason = f"{name}: version {release.version} is not whole: {release}"
    raise ValueError(reason)
