"""The top-K module with several sizes of the blocks in which the MLP scores a catalogue."""

from __future__ import annotations

import statistics
import time

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.rig.recommender import random_seen
from benchmarks.rig.run import FACTORS, ITEMS, MODEL, USERS
from ncf.export.modules import TopK
from ncf.models.neural import MLPCatalogue, build_model

POWERS = (14, 16, 17, 18, 19, 20, 22)
USERS_AT_ONCE = (1, 2, 8, 16, 64)
CALLS = 16
K = 100


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=25, help="Interleaved rounds.")
def main(rounds: int) -> None:
    """Print ms a user by floats a block and users at once, on one thread: the smallest and the median round.

    \b
    Example:
      python -m benchmarks.ranking.blocks
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    known = random_seen(USERS, ITEMS)
    model = build_model(MODEL, USERS, ITEMS, FACTORS).eval()
    modules = {}
    for power in POWERS:
        catalogue = model.catalogue()
        for part in catalogue.parts:
            if isinstance(part, MLPCatalogue):
                part.block_floats = 2**power
        modules[power] = torch.jit.script(TopK(catalogue, known, USERS, K).eval())
    table = Table("floats a block", *(f"{count} at once" for count in USERS_AT_ONCE))
    times: dict[tuple[int, int], list[float]] = {}
    for _ in track(range(rounds), "rounds", console=Console(stderr=True), transient=True):
        for count in USERS_AT_ONCE:
            for power, module in modules.items():
                times.setdefault((power, count), []).append(one(module, count))
    for power in POWERS:
        found = (times[power, count] for count in USERS_AT_ONCE)
        table.add_row(f"2^{power}", *(f"{min(each):.2f} / {statistics.median(each):.2f}" for each in found))
    Console(width=120).print(table)


def one(module: torch.jit.ScriptModule, count: int) -> float:
    """Ms a user, for `count` users at once."""
    calls = max(1, CALLS // count)
    users = torch.randint(USERS, (calls, count, 1))
    with torch.inference_mode():
        began = time.perf_counter()
        for each in users:
            module(each)
    return 1e3 * (time.perf_counter() - began) / calls / count


if __name__ == "__main__":
    main()
