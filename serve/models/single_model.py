"""A single-model endpoint: what is in the repository, checked before Triton starts and after."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from serve.errors import StartError
from serve.models import preflight
from serve.models.repository import Repository
from serve.models.rollout import NO_REASON, Rollout
from serve.models.served import SERVED_FILE, VIEW_FOLDER
from serve.models.view import View
from serve.settings import Settings
from serve.triton.admin import TritonAdmin
from serve.triton.arguments import further_arguments
from serve.triton.native import ranking_instances

log = logging.getLogger("serve")


class SingleModel:
    """The models of the repository as the supervisor sees them; see `Hosted` for the methods it calls."""

    def __init__(self, settings: Settings, scratch: Path, backends: Path) -> None:
        """Raises StartError or RepositoryError if the repository cannot be served."""
        path = settings.model_repository.absolute()
        if not path.is_dir():
            raise StartError(
                f"SERVE_MODEL_REPOSITORY {path} is no folder; mount a model repository there (docker run -v "
                f"REPOSITORY:{path}:ro …); `ncf export --repository REPOSITORY` writes one"
            )
        try:
            repository = Repository.scan(path)
            for name in repository.passed_over:
                log.error(
                    "%s is passed over: a model's name has letters, digits, '.', '_' and '-', first a letter or digit",
                    path / name,
                )
            models = repository.to_load(settings.default_model_name)
        except OSError as error:
            raise StartError(f"SERVE_MODEL_REPOSITORY {path}: {preflight.unreadable(error)}") from error
        self.settings = settings
        self.folder = scratch / VIEW_FOLDER
        self.folder.mkdir()
        self.rollout = Rollout(
            View(path, self.folder, ranking_instances(backends)),
            scratch / SERVED_FILE,
            default=settings.default_model_name,
        )
        self.rollout.lay_out(models)
        # Plain models that Triton cannot load: with some it would wait for ever.
        self.hopeless: set[str] = set()

    def to_load(self) -> list[str]:
        return [name for name in self.rollout.to_load() if name not in self.hopeless]

    def check(self, backends: Path) -> int:
        # If the user gives Triton other folders of backends, what these hold is not known here.
        words = further_arguments(self.settings)
        if any("config-name" in word for word in words):
            return 0  # Triton will not read the configurations that are read here
        own = any("backend-dir" in word or "shm-default" in word for word in words)
        known = None if own or not backends.is_dir() else backends
        live, repository = self.rollout.live, self.rollout.view.repository
        models = {name: repository / name for name in self.to_load()}
        plain = self.rollout.plain
        problems = {
            name: why for name, folder in models.items() if (why := preflight.problem(folder, known, name in plain))
        }
        failed = [name for name, release in live.items() if release is None]
        for name, why in problems.items():
            release = next((each for each in live.values() if each and name in each.parts), None)
            if release:
                log.error("%s: version %d is not served: %s: %s", release.name, release.version, name, why)
            else:
                log.error("%s is not served: %s", name, why)
                self.hopeless.add(name)
            failed.append(release.name if release else name)
        self._ends_without(failed)
        return preflight.instances_in_python((models[name] for name in models if name not in problems), known)

    def pause(self) -> None:
        self.rollout.pause()

    def report(self, admin: TritonAdmin) -> str:
        failed = self.rollout.settle(admin)
        index = admin.index()
        ready = {state.name for state in index if state.ready}
        reasons = {state.name: state.reason for state in index}
        # Besides those that are served: what an ensemble or a flag of Triton's had it load.
        others = sorted(reasons.keys() - {*self.rollout.served.models})
        for name in (*self.rollout.plain, *others):
            if name not in ready:
                if name not in self.hopeless:
                    reason = reasons.get(name) or NO_REASON
                    log.error("%s is not served: %s", name, self.rollout.refused.one_line(reason))
                failed.append(name)
        self._ends_without(failed)
        return ", ".join(sorted(ready))

    def watch(self, admin: TritonAdmin, stopped: threading.Event) -> None:
        self.rollout.watch(admin, stopped)

    def _ends_without(self, failed: list[str]) -> None:
        """Raises StartError if no request could be answered because these models failed."""
        default = self.settings.default_model_name
        wanted = [default] if default else list(self.rollout.served.choices)
        if all(name in failed for name in wanted):
            raise StartError(f"no request can be answered without {' or '.join(wanted)}")
