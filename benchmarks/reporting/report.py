"""The report of a run from the points that it has so far: Markdown, plots, raw data, and the README's table."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import ROOT
from benchmarks.reporting.headline import headline, origin
from benchmarks.reporting.pages import Page, page_of
from benchmarks.reporting.peers import more_requests
from benchmarks.reporting.plots import draw
from benchmarks.reporting.tables import busy, details, failures, flat, last, number, table
from benchmarks.rig.points import FILE, SETTINGS, Point, Points, read_points

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
PRESET, CONFIGS, DATA = "export_preset.json", "configs", "data"
MOST_COMMANDS, MOST_FAILURES = 40, 12


def write_report(points: Points, folder: Path) -> Path:
    """Write the report of some points into a folder, also over an earlier report; -> the path of its README.md.

    Raises click.ClickException if the folder has another README.md.
    """
    data = folder / DATA
    if (folder / "README.md").exists() and not (data / FILE).exists():
        raise click.ClickException(f"{folder / 'README.md'} is of no earlier report; choose another --output")
    data.mkdir(parents=True, exist_ok=True)
    for name in [name for section in page_of(points.points).sections.values() for name in section.plots]:
        (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier report, with other points
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
    """The text of the page; its plots are written into the folder."""
    page = page_of(points)
    bodies, missing = [], []
    for name, section in page.sections.items():
        mine = [point for point in points if point.section in (name, *section.also)]
        if mine:
            bodies.append(part(page, name, mine, folder))
        else:
            missing.append(f"{name} ({section.title})")
    failed = [point for point in points if point.error]
    parts = [
        f"# {page.title}",
        f"{origin(settings, points)} {number(len(points))} points, "
        f"{number(len(failed))} of them failed or unstable.",
        "This is a **quick** run, which shows that everything works; its rounds are few and short, so do not quote it."
        if settings.get("quick") else "",
        f"Not measured in this run: {'; '.join(missing)}." if missing else "",
        busy_sections(page, points),
        page.summary(points),
        *bodies,
        f"## Method and machine\n\n{circumstances(page, settings)}",
        f"## How to run it again\n\n{again(page, folder)}",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def part(page: Page, name: str, points: Sequence[Point], folder: Path) -> str:
    """A section of the page; its plots are written into the folder."""
    section = page.sections[name]
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
    run = [f'{next(iter(page.commands))} ARGS="--only {name}"', *commands[:MOST_COMMANDS]]
    files = ", ".join(f"[{each}.csv]({DATA}/{each}.csv)" for each in dict.fromkeys(point.section for point in points))
    left = len(commands) - MOST_COMMANDS
    rest = f"\n\n{left} more are in the column `command` of the data." if left > 0 else ""
    parts.append(f"Data: {files}")
    parts.append(details("Commands", "```sh\n" + "\n".join(run) + "\n```" + rest))
    return "\n\n".join(part for part in parts if part)


def busy_sections(page: Page, points: Sequence[Point]) -> str:
    """A warning that names the sections during which other processes were busy; empty without any."""
    names = [name for name in page.sections if busy([point for point in points if point.section == name])]
    return (
        f"> **The machine was busy with other work** while these sections were measured: {', '.join(names)}."
        if names
        else ""
    )


def preset(folder: Path) -> str:
    file = folder / DATA / PRESET
    if not file.exists():
        return ""
    return f"The chosen settings, [{PRESET}]({DATA}/{PRESET}):\n\n```json\n{file.read_text().strip()}\n```"


def circumstances(page: Page, settings: Mapping[str, Any]) -> str:
    """How the figures were made, and the machine that they were measured on."""
    lines = [
        "Load generator and servers share the cores, so every rate is lower by the cost of making the load.",
        page.rounds,
        "requests/s counts requests, rows/s the pairs or users in them.",
    ]
    if "pytriton" in (server := str(settings.get("tritonserver", ""))):
        stand_in = "the stand-in for the libtorch backend, a Python process for each model"
        backend = "this project's pytorch backend, inside tritonserver" if "native" in server else stand_in
        lines.append(
            f"Triton is the tritonserver of the nvidia-pytriton wheel. Models run in {backend}; the libtorch backend "
            "of NVIDIA's image is not measured here."
        )
    rows = [[name, str(value)] for name, value in settings.items() if value not in ("", None)]
    return "\n".join(f"- {line}" for line in lines) + "\n\n" + table(["", ""], rows, words=True)


def again(page: Page, folder: Path) -> str:
    """The commands that measure it again, or make the page again from its data."""
    configs = f" Triton's configuration of each model is in [{DATA}/{CONFIGS}]({DATA}/{CONFIGS})."
    width = max(map(len, page.commands))
    measure = "".join(f"{command:<{width}}  # {about}\n" for command, about in page.commands.items())
    return (
        "```sh\n"
        f"{measure}"
        f"python -m benchmarks.reporting.report REPORT/{DATA} --output REPORT  # this page from its data, in REPORT\n"
        "```\n\n"
        f"All points are in [{DATA}/{FILE}]({DATA}/{FILE}), the machine and the settings in "
        f"[{DATA}/{SETTINGS}]({DATA}/{SETTINGS})." + (configs if (folder / DATA / CONFIGS).is_dir() else "")
    )


def readme_block(points_folder: Path, readme: Path = ROOT / "README.md") -> str:
    """The text between the marks in the project's README: the headline and its origin.

    `points_folder` is the data folder of a report, or the folder of a run with its report in it.
    """
    points, settings = last(read_points(points_folder)), read_settings(points_folder)
    report = (points_folder.parent if points_folder.name == DATA else points_folder / "report") / "README.md"
    link = Path(os.path.relpath(report.resolve(), readme.resolve().parent)).as_posix()
    parts = [headline(points, short=True) or "Not measured yet."]
    parts += [more_requests([point for point in points if point.section == "peers"])]
    return "\n\n".join(part for part in [*parts, f"{origin(settings, points)} [All of it]({link})."] if part)


def update_readme(readme: Path, block: str) -> None:
    """Replace the text between the marks. Raises click.ClickException unless each mark occurs once, in their order."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise click.ClickException(f"--readme {readme} needs a line {BEGIN} and below it a line {END}, each once")
    before, rest = text.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{block}\n{END}{rest.split(END)[1]}")


def read_settings(folder: Path) -> dict[str, Any]:
    """The machine and the settings of a run. Raises click.ClickException if the folder has no points of a run."""
    try:
        read: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
        if not (folder / FILE).exists():
            raise FileNotFoundError
    except (OSError, ValueError) as error:
        raise click.ClickException(
            f"{folder} has no points of a run ({FILE} and {SETTINGS}); name a folder that `make bench` has written, "
            "such as build/bench"
        ) from error
    return read


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="[default: FOLDER/report]")
@click.option(
    "--readme",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A README with the table's marks.",
)
def main(folder: Path, output: Path | None, readme: Path | None) -> None:
    """Write the report of the points in FOLDER, and with --readme the table in a README.

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
