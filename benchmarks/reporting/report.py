"""The report of the benchmark, from whatever points there are: Markdown, plots, raw data, and the README's table."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import ROOT
from benchmarks.reporting import curves, plots, strain, strain_plots
from benchmarks.reporting.headline import headline, origin, wins
from benchmarks.reporting.ladder import ladder
from benchmarks.reporting.peers import more_requests, peers
from benchmarks.reporting.plots import Plot, draw
from benchmarks.reporting.sweep import in_process, sweep
from benchmarks.reporting.tables import busy, details, failures, flat, last, number, table
from benchmarks.rig.points import FILE, SETTINGS, Point, Points, read_points

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
PRESET, CONFIGS, DATA = "export_preset.json", "configs", "data"
MOST_COMMANDS, MOST_FAILURES = 40, 12


@dataclass(frozen=True)
class Section:
    """A part of the report: what it is about, its plots by file name, and what it says in a sentence and tables."""

    title: str
    about: str
    body: Callable[[Sequence[Point]], str]
    plots: Mapping[str, Plot]
    also: tuple[str, ...] = ()
    """Further sections of points that belong to it."""
    expected: str = ""
    """A status that some requests ought to get."""


SECTIONS = {
    "ladder": Section(
        "The ladder: what each step costs",
        "The same questions in process, to Triton, and to `serve` in each form. What perf_analyzer sends (gRPC, and "
        "HTTP in binary form) are random ids of its own. In process are as many threads as requests at once, but no "
        "more than cores. Memory is of what each server has loaded: Triton's SageMaker port the scoring model, Triton "
        "the scoring and the ranking model, `serve` all three of a recommender.",
        ladder, {"ladder": plots.ladder},
    ),
    "peers": Section(
        "Peers",
        "Other servers with the same module and requests, each by its own advice, beside `serve`, which has loaded "
        "three models and warmed them up when it first answers, where a peer has one.",
        peers, {"peers": plots.peers}, ("peer_start",),
    ),
    "sweep": Section(
        "Triton under perf_analyzer",
        "The models without `serve`. Along a line of the first plot there are more and more requests at once; in the "
        "second, requests come at a given rate whether or not earlier ones are answered.",
        sweep, {"sweep": curves.sweep_closed, "sweep-open": curves.sweep_open},
    ),
    "in_process": Section(
        "The module alone", "The exported module in process, in large batches.",
        in_process, {"in-process": curves.in_process},
    ),
    "saturation": Section(
        "More than can be answered",
        "Requests at given rates, below and above the capacity, whether or not earlier ones are answered.",
        strain.saturation, {"saturation": strain_plots.saturation}, expected="503",
    ),
    "soak": Section(
        "Minutes of load", "A mix of requests at half of the capacity, and the memory of every process.",
        lambda points: strain.soak(strain.last_take(points)),
        {"soak": lambda points: strain_plots.soak(strain.last_take(points))}, expected="400",
    ),
    "models": Section(
        "Many models", "One `serve` in multi-model mode with more and more models.",
        strain.models, {"models": strain_plots.models},
    ),
    "search": Section(
        "Search for a configuration", "Triton's batching and instances, 16 requests at once.",
        strain.search, {},
    ),
    "settings": Section(
        "Settings of serve",
        "Worker processes and Triton's threads, by what they do to throughput, 16 requests at once.",
        strain.settings, {},
    ),
    "cores": Section(
        "More cores", "`serve` with all its processes pinned to so many cores, 16 requests at once.",
        strain.cores, {},
    ),
}  # fmt: skip


def write_report(points: Points, folder: Path) -> Path:
    """Write the report of the points into a folder; -> its README.md."""
    data = folder / DATA
    data.mkdir(parents=True, exist_ok=True)
    for name in [name for section in SECTIONS.values() for name in section.plots]:
        (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier report, which had other points
    (data / SETTINGS).write_text(json.dumps(points.settings, indent=1) + "\n")
    copy(points.folder / FILE, data / FILE)
    copy(points.folder / PRESET, data / PRESET)
    for config in sorted((points.folder / CONFIGS).rglob("*.pbtxt")):
        copy(config, data / config.relative_to(points.folder))
    for name in dict.fromkeys(point.section for point in points.points):
        flat(points.of(name)).write_csv(data / f"{name}.csv")
    written = folder / "README.md"
    written.write_text(document(last(points.points), points.settings, folder))
    return written


def copy(source: Path, target: Path) -> None:
    if source.exists() and source.resolve() != target.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def document(points: Sequence[Point], settings: Mapping[str, Any], folder: Path) -> str:
    """The whole page; its plots are written into the folder."""
    bodies, missing = [], []
    for name, section in SECTIONS.items():
        mine = [point for point in points if point.section in (name, *section.also)]
        if mine:
            bodies.append(part(name, section, mine, folder))
        else:
            missing.append(f"{name} ({section.title})")
    failed = [point for point in points if point.error]
    parts = [
        "# Benchmarks",
        f"{origin(settings, points)} {number(len(points))} points, "
        f"{number(len(failed))} of them failed or unstable.",
        "This is a **quick** run, to see that all works: few rounds and seconds, figures not to be quoted."
        if settings.get("quick") else "",
        f"Not measured in this run: {'; '.join(missing)}." if missing else "",
        busy_sections(points),
        f"## Where a peer wins\n\n{wins(points)}",
        f"## In short\n\n{headline(points) or 'Neither the ladder nor peers were measured in this run.'}",
        *bodies,
        f"## What was measured, and on what\n\n{circumstances(settings)}",
        f"## How to run it again\n\n{again(folder)}",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def part(name: str, section: Section, points: Sequence[Point], folder: Path) -> str:
    """One section of the page, with its plots."""
    parts = [f"## {section.title}", section.about, busy(points)]
    for file, plot in section.plots.items():
        picture = draw(plot, points)
        if picture is not None:
            (folder / f"{file}.png").write_bytes(picture)
            parts.append(f"![{section.title}: {file}]({file}.png)")
    parts.append(section.body(points) or "There is no figure yet.")
    if name == "search":
        parts.append(preset(folder))
    if failed := failures(points, section.expected):
        listed = "\n".join(f"- {line}" for line in failed)
        parts.append(
            f"Failed or unstable:\n\n{listed}"
            if len(failed) <= MOST_FAILURES
            else details(f"Failed or unstable: {len(failed)}", listed)
        )
    commands = list(dict.fromkeys(point.command for point in points if point.command))
    run = [f'make bench ARGS="--only {name}"', *commands[:MOST_COMMANDS]]
    files = ", ".join(f"[{each}.csv]({DATA}/{each}.csv)" for each in dict.fromkeys(point.section for point in points))
    left = len(commands) - MOST_COMMANDS
    rest = f"\n\n{left} more are in the column `command` of the data." if left > 0 else ""
    parts.append(f"Data: {files}")
    parts.append(details("Commands", "```sh\n" + "\n".join(run) + "\n```" + rest))
    return "\n\n".join(part for part in parts if part)


def busy_sections(points: Sequence[Point]) -> str:
    names = [name for name in SECTIONS if busy([point for point in points if point.section == name])]
    return f"> **The machine was busy with other work** while these were measured: {', '.join(names)}." if names else ""


def preset(folder: Path) -> str:
    file = folder / DATA / PRESET
    if not file.exists():
        return ""
    return f"The choice, [{PRESET}]({DATA}/{PRESET}):\n\n```json\n{file.read_text().strip()}\n```"


def circumstances(settings: Mapping[str, Any]) -> str:
    lines = [
        "Load generator and servers share the cores, so every rate includes what making the load costs.",
        "In the ladder, of peers, settings and cores rounds are interleaved: what is compared was measured side by "
        "side in every round. Figures are medians, in brackets the smallest and the largest round; ratios are made in "
        "each round and then their median is taken. The other sections measure each point once.",
        "requests/s counts requests, rows/s the pairs or users in them.",
    ]
    if "pytriton" in str(settings.get("tritonserver", "")):
        lines.append(
            "Triton is the tritonserver of the nvidia-pytriton wheel. Models run in the stand-in for the libtorch "
            "backend, a Python process each; the libtorch backend of NVIDIA's image is not measured here."
        )
    rows = [[name, str(value)] for name, value in settings.items() if value not in ("", None)]
    return "\n".join(f"- {line}" for line in lines) + "\n\n" + table(["", ""], rows, words=True)


def again(folder: Path) -> str:
    configs = f" Triton's configuration of each model is in [{DATA}/{CONFIGS}]({DATA}/{CONFIGS})."
    shown = os.path.relpath(folder, ROOT) if folder.resolve().is_relative_to(ROOT) else "REPORT"
    return (
        "```sh\n"
        "make bench        # all of it; interrupted, the same command goes on where it was\n"
        "make bench-quick  # the core of it in three minutes\n"
        f"python -m benchmarks.reporting.report {shown}/{DATA} --output {shown}  # this page from its data\n"
        "```\n\n"
        f"All points are in [{DATA}/{FILE}]({DATA}/{FILE}), what they were measured on in "
        f"[{DATA}/{SETTINGS}]({DATA}/{SETTINGS})." + (configs if (folder / DATA / CONFIGS).is_dir() else "")
    )


def readme_block(points_folder: Path, readme: Path = ROOT / "README.md") -> str:
    """What stands between the marks in the project's README: the headline, and where it comes from.

    `points_folder` is the data of a report, or a run's own folder with the report in it.
    """
    points, settings = last(read_points(points_folder)), read_settings(points_folder)
    report = (points_folder.parent if points_folder.name == DATA else points_folder / "report") / "README.md"
    link = Path(os.path.relpath(report.resolve(), readme.resolve().parent)).as_posix()
    said = origin(settings, points)
    parts = [headline(points, short=True) or "Not measured yet."]
    parts += [more_requests([point for point in points if point.section == "peers"])]
    return "\n\n".join(part for part in [*parts, f"{said} [All of it]({link})."] if part)


def update_readme(readme: Path, block: str) -> None:
    """Replace what is between the marks. Raises click.ClickException where they are not both there, once, in order."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise click.ClickException(f"--readme {readme}: it has no line {BEGIN} with a line {END} below; add them once")
    before, rest = text.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{block}\n{END}{rest.split(END)[1]}")


def read_settings(folder: Path) -> dict[str, Any]:
    """What the points of a folder were measured on. Raises click.ClickException where there is no such run."""
    try:
        read: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
        if not (folder / FILE).exists():
            raise FileNotFoundError
    except (OSError, ValueError) as error:
        raise click.ClickException(
            f"{folder} has no points of a run ({FILE} and {SETTINGS}); name the folder that `make bench` wrote, such "
            "as build/bench"
        ) from error
    return read


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="[default: FOLDER/report]")
@click.option("--readme", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="README with the marks.")
def main(folder: Path, output: Path | None, readme: Path | None) -> None:
    """Write the report of the points in FOLDER again, and the table in a README between its marks.

    \b
    Examples:
      python -m benchmarks.reporting.report build/bench --output benchmarks/report
      python -m benchmarks.reporting.report benchmarks/report/data --output benchmarks/report --readme README.md
    """
    points = Points(folder, read_settings(folder))
    output = output or folder / "report"
    click.echo(f"wrote {write_report(points, output)}")
    if readme is not None:
        update_readme(readme, readme_block(output / DATA, readme))
        click.echo(f"wrote the table in {readme}")


if __name__ == "__main__":
    main()
