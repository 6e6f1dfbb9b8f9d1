"""The models as the supervisor sees them: those of a repository, or those of a multi-model endpoint."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from serve.models.multi_model_care import MultiModelCare
from serve.models.single_model import SingleModel
from serve.settings import Settings
from serve.triton.admin import TritonAdmin


class Hosted(Protocol):
    """The methods that the supervisor calls, in the order of its calls."""

    @property
    def folder(self) -> Path:
        """The folder that Triton sees."""

    def check(self, backends: Path) -> int:
        """Before the first start of Triton, whose backends are in that folder: log which models it cannot load; -> how
        many processes of its Python backend the other models need at least.

        Raises StartError if no request could be answered.
        """

    def to_load(self) -> list[str]:
        """The models that Triton loads when it is started, for the first time or again."""

    def report(self, admin: TritonAdmin) -> str:
        """After a start of Triton: make known to the workers what is ready; -> the models' names for the log.

        Raises StartError if no request could be answered, Unavailable if Triton has gone again.
        """

    def watch(self, admin: TritonAdmin, stopped: threading.Event) -> None:
        """Follow what changes until `stopped`; runs in a thread of its own."""

    def pause(self) -> None:
        """Triton has ended: nothing is ready until the next `report`."""


def hosted(settings: Settings, scratch: Path, backends: Path) -> Hosted:
    """The models that the settings ask for; `scratch` is the folder that supervisor and workers share,
    `backends` that of Triton's backends.

    Raises StartError or RepositoryError.
    """
    if settings.multi_model:
        return MultiModelCare(settings.multi_model_root.absolute(), scratch)
    return SingleModel(settings, scratch, backends)
