"""The command line of a room of sections: which of them run, how long, and where points and report go."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.rig.machine import commit, machine
from benchmarks.rig.points import Points
from benchmarks.rig.run import BenchRun, running


@dataclass(frozen=True)
class Room:
    """Sections of a package by name, in the order in which they run; each is a module with `run(run)`.

    `quick` and `on_gpu` are the sections that run there by default, `rounds` and `seconds` those of a usual run;
    `settings` are further facts that the figures depend on.
    """

    package: str
    about: str
    sections: Mapping[str, str]
    quick: Sequence[str]
    on_gpu: Sequence[str]
    output: str
    rounds: int
    seconds: float
    settings: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, only: str | None, quick: bool, device: str) -> list[str]:
        """The sections to run. Raises click.BadParameter for a name that is not a section."""
        usual = self.quick if quick else self.on_gpu if device == "gpu" else tuple(self.sections)
        names = [name.strip() for name in only.split(",")] if only else list(usual)
        for name in names:
            if name not in self.sections:
                raise click.BadParameter(
                    f"'{name}' is not a section; choose from {', '.join(self.sections)}", param_hint="--only"
                )
        return [name for name in self.sections if name in names]


def command(room: Room, report: Callable[[Points, Path], Path]) -> click.Command:
    """The command of a room; `report` writes the report of some points into a folder and returns its page."""
    sections = "\n".join(f"  {name:<11} {about}" for name, about in room.sections.items())

    @click.command(
        context_settings={"help_option_names": ["-h", "--help"]}, epilog=f"\b\nSections:\n{sections}", help=room.about
    )
    @click.option(
        "--only",
        help=f"Sections to run, with commas between them.  [default: all; quick: {', '.join(room.quick)}; "
        f"on a GPU: {', '.join(room.on_gpu)}]",
    )
    @click.option("--quick", is_flag=True, help="Fewer sections and points, 2 short rounds.")
    @click.option("--rounds", type=click.IntRange(1), help=f"Interleaved rounds.  [default: {room.rounds}, quick 2]")
    @click.option(
        "--seconds",
        type=click.FloatRange(0.1),
        help=f"Seconds a point and round.  [default: {room.seconds:g}, quick {room.seconds / 2:g}]",
    )
    @click.option(
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"Folder for points and report.  [default: {room.output}, quick: {room.output}-quick]",
    )
    @click.option(
        "--device", type=click.Choice(("cpu", "gpu")), default="cpu", show_default=True, help="Where the models run."
    )
    @click.option("--fresh", is_flag=True, help="Delete the points of an earlier run in OUTPUT first.")
    def main(
        only: str | None, quick: bool, rounds: int | None, seconds: float | None, output: Path | None, device: str,
        fresh: bool,
    ) -> None:  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGHUP):  # end by an exception, so that every server is stopped
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
        names = room.chosen(only, quick, device)
        output = output or Path(f"{room.output}-quick" if quick else room.output)
        rounds, seconds = rounds or (2 if quick else room.rounds), seconds or (room.seconds / (2 if quick else 1))
        settings = {
            **machine(),
            **room.settings,
            "device": device,
            "quick": quick,
            "rounds": rounds,
            "seconds a point": seconds,
        }
        points = Points(output, settings, commit(), fresh)
        try:
            with running(points, rounds, seconds, quick, device) as run:
                left_out = [name for name in names if not measured(room, run, name)]
        except KeyboardInterrupt:
            click.echo("interrupted; run the same command again to continue", err=True)
            sys.exit(130)
        finally:
            if points.points:
                click.echo(f"wrote {report(points, output / 'report')}", err=True)
        sys.exit(1 if left_out else 0)

    return main


def measured(room: Room, run: BenchRun, name: str) -> bool:
    """Run a section; -> whether it could run. A section that cannot run does not stop the others."""
    began, before = time.monotonic(), len(run.points.points)
    try:
        importlib.import_module(f"{room.package}.{name}").run(run)
    except Exception as error:
        reason = error.message if isinstance(error, click.ClickException) else f"{type(error).__name__}: {error}"
        run.say(f"{name} is left out: {reason}")
        return False
    run.say(f"{name}: {len(run.points.points) - before} points in {time.monotonic() - began:.0f} s")
    return True
