"""One run of the benchmarks, which every section receives: how long to measure, where points go, the model."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.rig.points import Points
from benchmarks.rig.recommender import Recommender, random_recommender

MODEL, FACTORS = "neumf", 32
USERS, ITEMS = 6_040, 3_706  # as many as MovieLens-1M has
BODIES = 64  # different requests, which a round sends in turn


@dataclass(frozen=True)
class BenchRun:
    """A run of some sections; `folder` is for files that are deleted at its end, `seconds` are those of a point."""

    folder: Path
    points: Points
    rounds: int
    seconds: float
    quick: bool
    device: str
    progress: Progress
    made: dict[str, Recommender] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Print a line above the progress bars."""
        self.progress.console.print(text, highlight=False)

    @contextlib.contextmanager
    def steps(self, about: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """A progress bar; call what is yielded with the number of steps that are done."""
        task = self.progress.add_task(about, total=total)
        try:
            yield lambda done: self.progress.advance(task, done)
        finally:
            self.progress.remove_task(task)

    def random(self, model: str, factors: int, users: int, items: int) -> Recommender:
        """A recommender with random weights, which is made once a run."""
        name = f"{model}{factors}_{items}"
        if name not in self.made:
            with self.steps(f"exporting {model}, {factors} factors, {items:,} items"):
                repository = self.folder / name
                self.made[name] = random_recommender(repository, model, factors, users, items, self.device)
        return self.made[name]

    @cached_property
    def recommender(self) -> Recommender:
        """The recommender that all sections of `make bench` serve; its configuration is copied for the report."""
        made = self.random(MODEL, FACTORS, USERS, ITEMS)
        for config in made.repository.glob("*/config.pbtxt"):
            copy = self.points.folder / "configs" / f"{config.parent.name}.pbtxt"
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(config, copy)
        return made


Section = Callable[[BenchRun], None]


@contextlib.contextmanager
def running(points: Points, rounds: int, seconds: float, quick: bool, device: str) -> Iterator[BenchRun]:
    """A run that draws progress bars on standard error; its folder is deleted at the end."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            yield BenchRun(folder, points, rounds, seconds, quick, device, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def scratch_run() -> Iterator[BenchRun]:
    """A run for a command that uses the servers of this room and keeps no points."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        running(Points(Path(folder), {}), 1, 1.0, False, "cpu") as run,
    ):
        yield run
