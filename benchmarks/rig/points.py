"""Points on disk, one line of JSON each, so that an interrupted benchmark can be continued."""

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
    """One measurement: `key` names the case that was measured, `figures` are its results, or `error` its failure.

    The name of a figure ends in its unit. Load has `requests_per_s`, `rows_per_s`, `p50_ms` … `p99_ms`, `errors` by
    code, `cpu_us` a request and `memory_mb`, both by role of the process, and `others`, the number of cores that
    processes outside the benchmark kept busy. `commit` is the commit that was checked out.
    """

    section: str
    key: dict[str, str | int | float]
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    command: str = ""
    commit: str = ""
    at: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))


class Points:
    """The points of a run, in a folder; each is on disk before the next one is measured."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], commit: str = "", fresh: bool = False) -> None:
        """Continue the run in `folder`, or begin one; `fresh` deletes the points that are there.

        Raises click.ClickException if the folder has points that were measured with other settings.
        """
        self.folder = folder
        self.commit = commit
        self.settings = dict(settings)
        folder.mkdir(parents=True, exist_ok=True)
        file, described = folder / FILE, folder / SETTINGS
        if fresh:
            file.unlink(missing_ok=True)
            described.unlink(missing_ok=True)
        if described.exists() and (before := json.loads(described.read_text())) != self.settings:
            names = dict.fromkeys((*self.settings, *before))
            other = ", ".join(name for name in names if before.get(name) != self.settings.get(name))
            raise click.ClickException(
                f"{folder} has points that were measured with other settings: {other}; give --fresh to delete them, or "
                "another --output"
            )
        described.write_text(json.dumps(self.settings, indent=1) + "\n")
        self.points = list(read_points(folder))
        whole = "".join(_line(point) for point in self.points)
        if file.exists() and whole != file.read_text():  # a line was cut off: the next one must not continue it
            (folder / f"{FILE}.new").write_text(whole)
            (folder / f"{FILE}.new").replace(file)

    def missing(self, section: str, keys: Iterable[Key]) -> list[Key]:
        """The keys that have no point yet, in the given order; a point with an error and no figures does not count."""
        done = {_name(point.key) for point in self.of(section) if point.figures or not point.error}
        return [key for key in keys if _name(key) not in done]

    def of(self, section: str) -> list[Point]:
        """The points of a section; where several have the same key, the last one."""
        return list({_name(point.key): point for point in self.points if point.section == section}.values())

    def add(self, section: str, key: Key, figures: Mapping[str, Any], error: str = "", command: str = "") -> Point:
        """Write a point to disk."""
        point = Point(section, dict(key), dict(figures), error, command, self.commit)
        with (self.folder / FILE).open("a") as file:
            file.write(_line(point))
            file.flush()
            os.fsync(file.fileno())
        self.points.append(point)
        return point

    def fail(self, section: str, keys: Iterable[Key], error: str, command: str = "") -> None:
        """Write the same error for each of the keys that has no point yet."""
        for key in self.missing(section, keys):
            self.add(section, key, {}, error, command)


def wrong_answers(figures: Mapping[str, Any]) -> str:
    """The error of a point whose server did not answer every request with 200; empty if it did."""
    errors = figures.get("errors") or {}
    if not errors:
        return ""
    listed = ", ".join(f"{count} × {code}" for code, count in errors.items())
    return f"not all of {figures['requests']} requests were answered: {listed}"


def read_points(folder: Path) -> Iterator[Point]:
    """The points of a folder, without a last line that a power failure cut off."""
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
