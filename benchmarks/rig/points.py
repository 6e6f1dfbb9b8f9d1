"""What was measured so far, a line of JSON a point: a benchmark that was interrupted goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

FILE, SETTINGS = "points.jsonl", "run.json"
Key = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Point:
    """One measurement: `key` says of what, `figures` what came out; one that failed has `error` instead.

    Figures have their unit in their name; those of load are `requests_per_s`, `rows_per_s`, `p50_ms` … `p99_ms`,
    `errors` by code, `cpu_us` a request and `memory_mb`, both by role of the process, and `others`, the cores that
    were busy with what is no part of the benchmark. `commit` is what was checked out.
    """

    section: str
    key: dict[str, str | int | float]
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    command: str = ""
    commit: str = ""
    at: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))


class Points:
    """The points of one run of the benchmark, in a folder; a line is on disk before the next point is begun."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], commit: str = "") -> None:
        """Go on in `folder`, or begin there. Raises click.ClickException if it belongs to other settings."""
        self.folder = folder
        self.commit = commit
        self.settings = dict(settings)
        folder.mkdir(parents=True, exist_ok=True)
        there = folder / SETTINGS
        if there.exists() and (before := json.loads(there.read_text())) != self.settings:
            other = ", ".join(name for name in self.settings if before.get(name) != self.settings[name])
            raise click.ClickException(
                f"{folder} has the points of another run, which differs in: {other}; give --fresh to begin anew, "
                "or another --output"
            )
        there.write_text(json.dumps(self.settings, indent=1) + "\n")
        self.points = list(read_points(folder))
        whole = "".join(_line(point) for point in self.points)
        if (folder / FILE).exists() and whole != (folder / FILE).read_text():  # else the next line joins half a one
            (folder / f"{FILE}.new").write_text(whole)
            (folder / f"{FILE}.new").replace(folder / FILE)

    def missing(self, section: str, keys: Iterable[Key]) -> list[Key]:
        """The keys that are not measured, in their order; what failed without a figure is tried again."""
        done = {_name(point.key) for point in self.of(section) if point.figures or not point.error}
        return [key for key in keys if _name(key) not in done]

    def of(self, section: str) -> list[Point]:
        """A section's points; of those with one key the last."""
        return list({_name(point.key): point for point in self.points if point.section == section}.values())

    def add(self, section: str, key: Key, figures: Mapping[str, Any], error: str = "", command: str = "") -> Point:
        point = Point(section, dict(key), dict(figures), error, command, self.commit)
        with (self.folder / FILE).open("a") as file:
            file.write(_line(point))
            file.flush()
            os.fsync(file.fileno())
        self.points.append(point)
        return point


def wrong_answers(figures: Mapping[str, Any]) -> str:
    """Why figures are none of a server that answers: some of its answers were errors. Empty if none was."""
    errors = figures.get("errors") or {}
    if not errors:
        return ""
    said = ", ".join(f"{count} × {code}" for code, count in errors.items())
    return f"not all of {figures['requests']} requests were answered: {said}"


def read_points(folder: Path) -> Iterator[Point]:
    """The points of a folder; a last line that was cut off by a power failure is left out."""
    path = folder / FILE
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield Point(**json.loads(line))
        except ValueError:
            continue


def _line(point: Point) -> str:
    return json.dumps(asdict(point)) + "\n"


def _name(key: Key) -> str:
    return json.dumps(dict(key), sort_keys=True)
