"""A multi-model endpoint without processes: a Triton of our own, the folders of an endpoint, and one worker's view."""

from __future__ import annotations

import threading
from pathlib import Path

from serve.errors import Unavailable
from serve.models.multi_model import MultiModel
from serve.models.multi_model_care import MultiModelCare
from serve.models.served import Served
from serve.triton.admin import ModelState, TritonAdmin

ENSEMBLE = 'platform: "ensemble"\nensemble_scheduling { step [ { model_name: "part" model_version: -1 } ] }\n'


class FakeTriton(TritonAdmin):
    """By model, `fails` has the error that its load raises. Loads wait for `gate`; an unload takes three looks."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.looks_until_gone: dict[str, int] = {}
        self.fails: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.away = False
        self.stuck = False
        self.loads: list[str] = []

    def index(self) -> list[ModelState]:
        if self.away:
            raise Unavailable("away")
        for name in [name for name, state in self.states.items() if state == "UNLOADING" and not self.stuck]:
            self.looks_until_gone[name] -= 1
            if self.looks_until_gone[name] <= 0:
                self.states[name] = "UNAVAILABLE"
        return [ModelState(name, "1", state, "unloaded") for name, state in self.states.items()]

    def load(self, name: str) -> None:
        self.loads.append(name)
        self.states[name] = "LOADING"
        assert self.gate.wait(120)
        if name in self.fails:
            self.states[name] = "UNAVAILABLE"
            raise self.fails[name]
        self.states[name] = "READY"

    def unload(self, name: str) -> None:
        if self.away:
            raise Unavailable("away")
        self.states[name] = "UNLOADING"
        self.looks_until_gone[name] = 3


class House:
    """The folder of archives, the folder that supervisor and workers share, and the code of both."""

    def __init__(self, path: Path) -> None:
        self.root, self.scratch = path / "root", path / "scratch"
        self.root.mkdir()
        self.scratch.mkdir()
        self.triton = FakeTriton()
        self.care = MultiModelCare(self.root, self.scratch)
        self.models = MultiModel(self.root, self.scratch)
        assert self.care.settle(self.triton) == []

    def archive(self, name: str, ensemble: bool = False) -> str:
        folder = self.root / name / "model"
        for model in ("whole", "part") if ensemble else ("plain",):
            (folder / model / "1").mkdir(parents=True)
            (folder / model / "config.pbtxt").write_text(ENSEMBLE if model == "whole" else "")
        return str(folder)

    def load(self, name: str, target: str = "") -> None:
        self.models.load(self.triton, name, str(self.root / name / "model"), target)

    def unload(self, name: str, target: str = "") -> None:
        self.models.unload(self.triton, name, target)

    @property
    def served(self) -> Served:
        return Served.read(self.models.file)

    @property
    def shown(self) -> set[str]:
        return {path.name for path in self.models.view.folder.iterdir()}
