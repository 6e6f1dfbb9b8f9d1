"""What is to be served when `serve` starts, laid out for Triton, and what came of it when Triton is up."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Protocol

from serve.models import preflight
from serve.models.multi_model import MultiModel
from serve.models.repository import Repository
from serve.models.rollout import NO_REASON, Rollout
from serve.models.served import SERVED_FILE, VIEW_FOLDER
from serve.models.view import View
from serve.settings import Settings
from serve.supervisor.child import StartError
from serve.triton.admin import TritonAdmin
from serve.triton.arguments import further_arguments

log = logging.getLogger("serve")


class Hosted(Protocol):
    """A repository's models, or those of a multi-model endpoint, as the supervisor sees them."""

    def to_load(self) -> list[str]:
        """What Triton shall load when it is started (again)."""

    def check(self, backends: Path) -> int:
        """Before the first start of Triton, with the folder of its backends: say which models it cannot load; -> how
        many processes of its Python backend the others take at the least.

        Raises StartError if it is not worth starting.
        """

    def pause(self) -> None:
        """Triton has gone: nothing is ready until the next `report`."""

    def report(self, admin: TritonAdmin) -> str:
        """After a start of Triton: make what is ready known to the workers; -> what to say of it.

        Raises StartError if it is not worth going on, Unavailable without Triton.
        """

    def watch(self, admin: TritonAdmin, stopped: threading.Event) -> None:
        """Follow what changes, until `stopped`; in a thread of its own."""

    @property
    def folder(self) -> Path:
        """The folder that Triton sees."""

    @property
    def only_recommenders(self) -> bool:
        """Whether Triton loads nothing but models that `ncf export` wrote, now and later."""


class HostedRepository(Rollout):
    """A single-model endpoint: what is in the repository."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        """Raises StartError or RepositoryError if it cannot be served."""
        path = settings.model_repository.absolute()
        if not path.is_dir():
            raise StartError(
                f"SERVE_MODEL_REPOSITORY {path} is no folder; mount a model repository there (docker run -v "
                f"REPOSITORY:{path}:ro …); `ncf export --repository REPOSITORY` writes one"
            )
        try:
            repository = Repository.scan(path)
            for name in repository.passed_over:
                log.error("%s is passed over: name a model with letters, digits, '.', '_' and '-' only", path / name)
            models = repository.to_load(settings.default_model_name)
        except OSError as error:
            raise StartError(f"SERVE_MODEL_REPOSITORY {path}: {preflight.unreadable(error)}") from error
        super().__init__(View(path, scratch / VIEW_FOLDER), scratch / SERVED_FILE)
        self.settings = settings
        self.view.folder.mkdir()
        self.lay_out(models)

    @property
    def folder(self) -> Path:
        return self.view.folder

    @property
    def only_recommenders(self) -> bool:
        return not self.plain and not any("load-model" in word for word in further_arguments(self.settings))

    def check(self, backends: Path) -> int:
        # With words of the user's own on backends nobody knows what they come to.
        words = further_arguments(self.settings)
        if any("config-name" in word for word in words):
            return 0  # other configurations than those read here
        own = any("backend-dir" in word or "shm-default" in word for word in words)
        known = None if own or not backends.is_dir() else backends
        models = {name: self.view.repository / name for name in self.to_load()}
        problems = {name: why for name, folder in models.items() if (why := preflight.problem(folder, known))}
        failed = [name for name, live in self._live.items() if live is None]
        for name, why in problems.items():
            release = next((live for live in self._live.values() if live and name in live.parts), None)
            if release:
                log.error("%s: version %d is not served: %s: %s", release.name, release.version, name, why)
            else:
                log.error("%s is not served: %s", name, why)
            failed.append(release.name if release else name)
        self._ends_without(failed)
        return preflight.instances_in_python((models[name] for name in models if name not in problems), known)

    def report(self, admin: TritonAdmin) -> str:
        failed = self.settle(admin)
        index = admin.index()
        ready = {state.name for state in index if state.ready}
        reasons = {state.name: state.reason for state in index}
        for name in self.plain:
            if name not in ready:
                log.error("%s is not served: %s", name, self.one_line(reasons.get(name) or NO_REASON))
                failed.append(name)
        self._ends_without(failed)
        return ", ".join(sorted(ready))

    def _ends_without(self, failed: list[str]) -> None:
        """Raises StartError if no request could be answered."""
        default = self.settings.default_model_name
        wanted = [default] if default else list(self.served.choices)
        if all(name in failed for name in wanted):
            raise StartError(f"no request can be answered without {' or '.join(wanted)}")


class HostedArchives(MultiModel):
    """A multi-model endpoint: what POST /models loads."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        super().__init__(settings.multi_model_root.absolute(), scratch)
        self.lay_out()

    @property
    def folder(self) -> Path:
        return self.view.folder

    @property
    def only_recommenders(self) -> bool:
        return False

    def check(self, backends: Path) -> int:
        return 0  # nothing is loaded yet; POST /models will say what cannot be

    def report(self, admin: TritonAdmin) -> str:
        self.settle(admin)
        return ", ".join(sorted(self.to_load())) or "no model yet; POST /models loads one"


def hosted(settings: Settings, scratch: Path) -> Hosted:
    """What the settings ask for. Raises StartError or RepositoryError."""
    return HostedArchives(settings, scratch) if settings.multi_model else HostedRepository(settings, scratch)
