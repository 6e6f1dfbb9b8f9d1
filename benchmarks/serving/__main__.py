"""`make bench`: the product measured against the server behind it and against what one would pick instead.

Every point is written down before the next is begun. An interrupted run goes on where it was; at the end, and after an
interruption, the report is drawn from what there is.
"""

from __future__ import annotations

import importlib
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.reporting.report import write_report
from benchmarks.rig.points import Points
from benchmarks.rig.rig import Bench
from benchmarks.rig.run import BenchRun, commit, machine
from benchmarks.rig.wrk import require_wrk

# Each section is a module of this package with a function `run`; they run in this order.
SECTIONS = {
    "in_process": "the exported module alone, in batches of 1,024 to 1,048,576",
    "sweep": "perf_analyzer on <name> and <name>_topk: closed and open loop, HTTP and gRPC",
    "ladder": "the same requests in process, through Triton, and through serve",
    "peers": "TorchServe, MLServer, BentoML, LitServe, mosec and Ray Serve beside serve",
    "saturation": "more requests than serve can answer, and the recovery afterwards",
    "models": "loading and unloading, and 2 to 50 models in one server",
    "search": "max_batch_size, queue delay and instances; writes a preset for `ncf export`",
    "settings": "worker processes of serve and threads of Triton",
    "cores": "serve pinned to 1, 2, 4 and 8 cores",
    "soak": "ten minutes of load, and the memory of every process",
}
QUICK = ("sweep", "ladder", "saturation")
ON_GPU = ("in_process", "sweep", "ladder", "search")


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="\b\nSections:\n" + "\n".join(f"  {name:<11} {about}" for name, about in SECTIONS.items()),
)
@click.option(
    "--only",
    help=f"Sections to run, with commas between them.  [default: all; quick: {', '.join(QUICK)}; "
    f"on a GPU: {', '.join(ON_GPU)}]",
)
@click.option("--quick", is_flag=True, help="The core of it in three minutes: fewer points, rounds and seconds.")
@click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds.  [default: 3, quick 2]")
@click.option("--seconds", type=click.FloatRange(0.1), help="Seconds a point and round.  [default: 2, quick 1]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Points and report.  [default: build/bench, quick: build/bench-quick]",
)
@click.option("--device", type=click.Choice(("cpu", "gpu")), default="cpu", help="Where the models run.")
@click.option("--fresh", is_flag=True, help="Forget the points of an earlier run in OUTPUT.")
def main(
    only: str | None, quick: bool, rounds: int | None, seconds: float | None, output: Path | None, device: str,
    fresh: bool,
) -> None:  # fmt: skip
    """Measure serve, Triton and what one would use instead; write Markdown, plots and raw data.

    \b
    Examples:
      make bench                       about an hour; interrupt it and run it again as you like
      make bench-quick                 three minutes
      python -m benchmarks.serving --only ladder,peers
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that no server stays behind
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    require_wrk()
    names = chosen(only, quick, device)
    output = output or Path("build/bench-quick" if quick else "build/bench")
    if fresh:
        shutil.rmtree(output, ignore_errors=True)
    rounds, seconds = rounds or (2 if quick else 3), seconds or (1.0 if quick else 2.0)
    points = Points(
        output,
        {**machine(), "device": device, "quick": quick, "rounds": rounds, "seconds a point": seconds},
        commit(),
    )
    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            run = BenchRun(Bench(folder, rounds, seconds, quick, device, progress), points)
            left_out = [name for name in names if not measured(run, name)]
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here")
        sys.exit(130)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if points.points:
            written = write_report(points, output / "report")
            console.print(f"wrote {written}")
    sys.exit(1 if left_out else 0)


def measured(run: BenchRun, name: str) -> bool:
    """Run one section; -> whether it could be run."""
    began, before = time.monotonic(), len(run.points.points)
    try:
        importlib.import_module(f"{__package__}.{name}").run(run)
    except Exception as error:  # one section that cannot be had is not the end of the others
        said = error.message if isinstance(error, click.ClickException) else f"{type(error).__name__}: {error}"
        run.bench.say(f"{name} is left out: {said}")
        return False
    run.bench.say(f"{name}: {len(run.points.points) - before} points in {time.monotonic() - began:.0f} s")
    return True


def chosen(only: str | None, quick: bool, device: str) -> list[str]:
    usual = QUICK if quick else ON_GPU if device == "gpu" else tuple(SECTIONS)
    names = [name.strip() for name in only.split(",")] if only else list(usual)
    for name in names:
        if name not in SECTIONS:
            raise click.BadParameter(
                f"'{name}' is no section; choose some of {', '.join(SECTIONS)}", param_hint="--only"
            )
    return [name for name in SECTIONS if name in names]


if __name__ == "__main__":
    main()
