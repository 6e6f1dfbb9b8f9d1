"""`ncf recommend` for very many users: its time beside the bare matrix product, and its memory.

python -m benchmarks.ranking.everybody --users 1000000 --items 100000 --factors 64
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from rich.progress import Progress

from benchmarks.rig.recommender import random_seen, text_ids
from ncf.export.everybody import recommend_everybody
from ncf.export.ranker import Conditions, Ranker
from ncf.models.neural import SCORES_AT_ONCE, build_model
from ncf.training.config import TrainConfig
from ncf.training.run_directory import Run

ROUNDS = 20  # of the bare product of one block, before the rankings and after


@click.command()
@click.option("--users", default=1_000_000, show_default=True)
@click.option("--items", default=100_000, show_default=True)
@click.option("--factors", default=64, show_default=True)
@click.option("--k", default=10, show_default=True)
@click.option("--parts", default=1, show_default=True, help="Rank only the first of so many parts of the users.")
def main(users: int, items: int, factors: int, k: int, parts: int) -> None:
    """Write the k best items of the users of a GMF with random weights into a Parquet file."""
    torch.manual_seed(0)
    with TemporaryDirectory(prefix="ncf-everybody-") as scratch:
        model = build_model("gmf", users, items, factors).eval()
        torch.save(model.state_dict(), Path(scratch) / "weights.pt")
        config = TrainConfig(model="gmf", num_factors=factors)
        ids = text_ids("u", users), text_ids("i", items)
        ranker = Ranker(Run(Path(scratch), config, *ids, random_seen(users, items), model, held_out=""))
        memory = peak_mb()
        ranked = users // parts
        product = bare_product(ranked, items, factors)
        output = Path(scratch) / "recommendations.parquet"
        with Progress(transient=True) as progress:
            task = progress.add_task("recommending", total=ranked)
            began = time.perf_counter()
            recommend_everybody(
                ranker, output, None, k, Conditions(), (1, parts),
                lambda done, _: progress.update(task, completed=done),
            )  # fmt: skip
            took = time.perf_counter() - began
        product = (product + bare_product(ranked, items, factors)) / 2
        click.echo(
            f"{ranked:,} of {users:,} users, {items:,} items, {factors} factors: {took:.0f} s, "
            f"the bare product {product:.0f} s, {product / took:.2f} of it; "
            f"most memory {peak_mb():,.0f} MB, {memory:,.0f} MB of it before the first ranking; "
            f"{output.stat().st_size / 1e6:,.0f} MB written"
        )


def bare_product(users: int, items: int, factors: int) -> float:
    """Seconds for the scores of all users, by the product of some blocks of the size that the ranker takes."""
    rows = max(1, SCORES_AT_ONCE // items)  # as many as the ranker takes
    some, every = torch.randn(rows, factors), torch.randn(items, factors)
    scores = torch.empty(rows, items)
    torch.mm(some, every.t(), out=scores)
    began = time.perf_counter()
    for _ in range(ROUNDS):
        torch.mm(some, every.t(), out=scores)
    return (time.perf_counter() - began) / ROUNDS * users / rows


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
