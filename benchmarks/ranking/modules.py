"""The modules that rank catalogues, in process: the query module beside the top-K module, or sizes of their blocks."""

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
from ncf.export.query import Query
from ncf.models.fold_in import fit_fold_in
from ncf.models.neural import MLPCatalogue, build_model

CASES = (("gmf", 64, ITEMS), (MODEL, FACTORS, ITEMS), ("gmf", 64, 100_000), (MODEL, FACTORS, 100_000))
QUERY_USERS_AT_ONCE = (1, 16, 64)
POWERS = (14, 16, 17, 18, 19, 20, 22)
BLOCKS_USERS_AT_ONCE = (1, 2, 8, 16, 64)
CALLS = 64  # of one user in a round; fewer of a catalogue that takes longer
K = 100
Times = dict[str, list[float]]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=25, help="Interleaved rounds.")
@click.option("--rows", type=click.IntRange(1), default=1, help="Rows of a query: the user's, and empty ones.")
@click.option("--blocks", is_flag=True, help="Compare sizes of the blocks in which the MLP scores a catalogue.")
def main(rounds: int, rows: int, blocks: bool) -> None:
    """Print ms a user by module and users at once, on one thread: the smallest and the median round.

    \b
    Examples:
      python -m benchmarks.ranking.modules
      python -m benchmarks.ranking.modules --blocks
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if blocks:
        compare_blocks(rounds)
    else:
        compare_query(rounds, rows)


def compare_query(rounds: int, rows: int) -> None:
    """The ratio is the median of the rounds' ratios."""
    table = Table("", "users at once", "top-K", "query", "query / top-K")
    for name, factors, items in CASES:
        known = random_seen(USERS, items)
        catalogue = build_model(name, USERS, items, factors).eval().catalogue()
        no_columns = torch.empty((0, items), dtype=torch.int64)
        query = Query(catalogue, fit_fold_in(catalogue, known), known, USERS, K, no_columns)
        modules = {
            "top-K": torch.jit.script(TopK(catalogue, known, USERS, K).eval()),
            "query": torch.jit.script(query.eval()),
        }
        for count in QUERY_USERS_AT_ONCE:
            times = timed(modules, rounds, count, max(1, CALLS * ITEMS // items // count), rows)
            ratios = [mine / other for mine, other in zip(times["query"], times["top-K"], strict=True)]
            case = f"{name} {factors}, {items:,} items"
            table.add_row(case, str(count), *map(text, times.values()), f"{statistics.median(ratios):.3f}")
    Console(width=120).print(table)


def compare_blocks(rounds: int) -> None:
    known = random_seen(USERS, ITEMS)
    model = build_model(MODEL, USERS, ITEMS, FACTORS).eval()
    modules = {}
    for power in POWERS:
        catalogue = model.catalogue()
        for part in catalogue.parts:
            if isinstance(part, MLPCatalogue):
                part.block_floats = 2**power
        modules[f"2^{power}"] = torch.jit.script(TopK(catalogue, known, USERS, K).eval())
    found = [timed(modules, rounds, count, max(1, CALLS // 4 // count)) for count in BLOCKS_USERS_AT_ONCE]
    table = Table("floats a block", *(f"{count} at once" for count in BLOCKS_USERS_AT_ONCE))
    for name in modules:
        table.add_row(name, *(text(times[name]) for times in found))
    Console(width=120).print(table)


def timed(modules: dict[str, torch.jit.ScriptModule], rounds: int, count: int, calls: int, rows: int = 1) -> Times:
    """Ms a user of each round by module, every second round in reverse order."""
    times: Times = {name: [] for name in modules}
    for number in track(range(-2, rounds), f"{count} users", console=Console(stderr=True), transient=True):
        for name in [*modules][:: -1 if number % 2 else 1]:
            ms = one(modules[name], count, calls, rows if name == "query" else 0)
            if number >= 0:  # TorchScript optimises a module in its first calls
                times[name].append(ms)
    return times


def one(module: torch.jit.ScriptModule, count: int, calls: int, rows: int) -> float:
    """Ms a user, for `count` users at once; in queries of `rows` rows, if there are any."""
    asked = torch.randint(USERS, (calls, count, 1))
    if rows:
        users, asked = asked, torch.zeros((calls, count, rows, 2), dtype=torch.int64)
        asked[..., 0, 0], asked[..., 0, 1] = Query.USER, users[..., 0]
    with torch.inference_mode():
        began = time.perf_counter()
        for each in asked:
            module(each)
    return 1e3 * (time.perf_counter() - began) / calls / count


def text(times: list[float]) -> str:
    return f"{min(times):.3f} / {statistics.median(times):.3f}"


if __name__ == "__main__":
    main()
