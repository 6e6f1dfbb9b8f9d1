"""More interactions than memory holds: generated, prepared, mapped and trained on; time and peak memory of each step.

The data has the shape of MovieLens-20M (144 interactions a user, 750 an item) at any size: the users' activity is
log-normal, the items' popularity is like Zipf's law, no pair occurs twice, and the rows of a user are in all files.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
ROWS_A_PART = 5_000_000


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Measure large data; every step runs in a process of its own, so that its peak memory can be measured.

    \b
    Examples:
      python -m benchmarks.training.large_data all --rows 5000000
      python -m benchmarks.training.large_data all --folder /mnt/scratch/large
      python -m benchmarks.training.large_data text
    """


@main.command("all")
@click.option("--rows", default=100_000_000, help="Interactions.")
@click.option("--users", type=int, help="[default: one user for 144 interactions]")
@click.option("--items", type=int, help="[default: one item for 750 interactions]")
@click.option("--folder", type=PATH, default="build/large-data", help="A new folder, which is deleted at the end.")
@click.option("--keep", is_flag=True, help="Keep the folder.")
def all_steps(rows: int, users: int | None, items: int | None, folder: Path, keep: bool) -> None:
    """Generate, prepare, map and train."""
    if folder.exists():
        raise click.ClickException(f"{folder} exists already; choose another --folder, or delete it")
    users, items = users or max(2, rows // 144), items or max(2, rows // 750)
    if rows > users * items // 4:  # the last free pairs of a dense matrix are found by chance, which may never end
        raise click.ClickException(
            f"{rows:,} rows of {users:,} users and {items:,} items are more than a quarter of all pairs; give more "
            "--rows, --users or --items"
        )
    data, prepared = folder / "parts", folder / "prepared"
    this = [sys.executable, "-m", "benchmarks.training.large_data"]
    ncf = [sys.executable, "-m", "ncf"]
    try:
        child("generate", [*this, "generate", str(data), str(rows), str(users), str(items)])
        child("prepare", [*ncf, "prepare", "--data", str(data), "--output", str(prepared)])
        child("map and train", [*this, "train", str(prepared)])
        for path in (data, prepared):
            size = sum(file.stat().st_size for file in path.iterdir())
            click.echo(f"{path.name} on disk: {size / 1e9:.2f} GB")
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@main.command()
@click.option("--rows", default=20_000_000, help="Interactions.")
@click.option("--folder", type=PATH, default="build/large-text", help="A new folder, which is deleted at the end.")
def text(rows: int, folder: Path) -> None:
    """Read one CSV file of four columns: in memory as `ncf train` does, and streamed by `ncf prepare`."""
    import polars as pl

    if folder.exists():
        raise click.ClickException(f"{folder} exists already; choose another --folder, or delete it")
    parts, data = folder / "parts", folder / "data.csv"
    this = [sys.executable, "-m", "benchmarks.training.large_data"]
    try:
        size = (rows, max(2, rows // 144), max(2, rows // 750))
        child("generate", [*this, "generate", str(parts), *map(str, size)])
        rating = (pl.col("item_id") % 5 + 1).alias("rating")
        pl.scan_parquet(parts / "*.parquet").with_columns(rating).sink_csv(data)
        click.echo(f"{data.name} on disk: {data.stat().st_size / 1e9:.2f} GB")
        child("read and split", [*this, "split", str(data)])
        child(
            "prepare", [sys.executable, "-m", "ncf", "prepare", "--data", str(data), "--output", str(folder / "made")]
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@main.command()
@click.argument("data", type=PATH)
def split(data: Path) -> None:
    """Read DATA and split it, and do nothing else."""
    from ncf.data.load import load_split

    for line in load_split(data).look:
        click.echo(line)


def child(name: str, command: list[str]) -> None:
    """Run a step and print its time and peak memory, which includes the memory of this process when it starts it."""
    began = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"the step {name} ended with {process.returncode}; its error is above")
    click.echo(f"== {name}: {time.perf_counter() - began:.1f} s, peak {usage.ru_maxrss / 1e6:.2f} GB resident")


@main.command()
@click.argument("folder", type=PATH)
@click.argument("rows", type=int)
@click.argument("users", type=int)
@click.argument("items", type=int)
def generate(folder: Path, rows: int, users: int, items: int) -> None:
    """Write ROWS interactions of USERS with ITEMS into FOLDER, as Parquet files."""
    import numpy as np
    import polars as pl

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    activity = random.lognormal(0.0, 1.2, users).cumsum()
    popularity = random.permutation(1 / (np.arange(items) + 10.0) ** 0.9)
    parts = -(-rows // ROWS_A_PART)
    for part in range(parts):
        # Every file has its own items, so that a repeated pair is in one file, where np.unique removes it.
        own = np.arange(part, items, parts)
        share = popularity[own].cumsum()
        wanted = rows * (part + 1) // parts - rows * part // parts
        pairs = np.empty(0, np.int64)
        while len(pairs) < wanted:
            drawn = int(1.2 * (wanted - len(pairs))) + 1000
            user = np.searchsorted(activity, random.random(drawn) * activity[-1])
            item = own[np.searchsorted(share, random.random(drawn) * share[-1])]
            pairs = np.unique(np.append(pairs, user * items + item))
        pairs = random.permutation(pairs)[:wanted]
        seconds = random.integers(1_600_000_000, 1_800_000_000, wanted)
        frame = pl.DataFrame({"user_id": pairs // items, "item_id": pairs % items, "timestamp": seconds})
        frame.write_parquet(folder / f"part-{part:04}.parquet")


@main.command()
@click.argument("prepared", type=PATH)
@click.option("--steps", default=20, help="Steps of training; an epoch of 100 million takes minutes.")
@click.option("--batch-size", default=2**20, help="Samples a step.")
@click.option("--num-factors", default=16)
def train(prepared: Path, steps: int, batch_size: int, num_factors: int) -> None:
    """Map a prepared folder and train GMF on it for some steps, sampling as `ncf train --negatives 4` does."""
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `ncf` sets it
    import torch

    from ncf.data.load import load_split
    from ncf.training import recipe
    from ncf.training.config import TrainConfig
    from ncf.training.loop import start_model
    from ncf.training.sampled import SampledTraining, epoch_batches

    began, device = time.perf_counter(), torch.device("cpu")
    split = load_split(prepared)
    began = report(f"mapped {len(split.train):,} interactions", began)
    config = TrainConfig(model="gmf", num_factors=num_factors, negatives="4", batch_size=batch_size)
    plan = recipe.plan(split, config, device)
    began = report("the hold-out and its candidates", began)
    method = SampledTraining(start_model(plan.fit, plan.config, device), plan.fit, plan.config, device)
    began = report("model, optimiser, what users have seen", began)
    batches = epoch_batches(method.positives, method.rows, plan.config.num_train_negatives, method.generator)
    first = next(batches)
    began = report("the epoch's shuffle and the first block of negatives", began)
    done = 0
    for batch in itertools.islice(itertools.chain((first,), batches), steps):  # fewer if the epoch has fewer batches
        method.step(*batch, 0.003)
        done += 1
    samples = done * method.rows * (1 + plan.config.num_train_negatives)
    rate = samples / (time.perf_counter() - began)
    report(f"trained on {samples:,} samples, {rate:,.0f} a second on {torch.get_num_threads()} threads", began)


def report(step: str, began: float) -> float:
    """Print a step, its time and the resident memory; the kernel can reclaim pages of mapped files. -> the time now."""
    now = time.perf_counter()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (int(status[name].split()[0]) / 1e6 for name in ("RssAnon", "RssFile"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    click.echo(f"{step}: {now - began:.1f} s; {own:.2f} GB own, {mapped:.2f} GB mapped, peak {peak:.2f} GB")
    return time.perf_counter()


if __name__ == "__main__":
    main()
