"""The speed of training beside that of its matrix products and gathers alone, and the time until a quality."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.load import load_split
from ncf.evaluation.ranking import Candidates, evaluate_sampled
from ncf.models.neural import MLPBranch
from ncf.training.config import MODEL_NAMES, TrainConfig
from ncf.training.cost import multiply_adds
from ncf.training.exact import ExactTraining
from ncf.training.loop import start_model
from ncf.training.method import Method, uses_bf16
from ncf.training.run import choose_device
from ncf.training.sampled import SampledTraining, epoch_batches
from ncf.training.world import World

# Users, items and interactions of MovieLens-1M and MovieLens-20M; NVIDIA's tower for the latter is 256-256-128-64.
SHAPES = {"ml-1m": (6040, 3706, 1_000_000), "ml-20m": (138_493, 26_744, 20_000_000)}
ROUNDS = 5
TO_QUALITY = 30  # epochs of the learning rate's schedule, on the way to HR@10 .72
SAMPLES = 1_000_000  # of an epoch of sampled training on a CPU, enough to measure a rate


def generated(num_users: int, num_items: int, num: int) -> Interactions:
    """About `num` distinct pairs: users are equally likely, items follow a Zipf law."""
    random = np.random.default_rng(0)
    share = 1 / np.arange(1, num_items + 1) ** 0.8
    item = random.choice(num_items, size=int(num * 1.6), p=share / share.sum())
    user = random.integers(num_users, size=len(item))
    key = np.unique(user * num_items + item)
    key = np.sort(random.permutation(key)[:num])
    users, items = (IdIndex(pl.Series(range(size))) for size in (num_users, num_items))
    return Interactions(users, items, key // num_items, key % num_items)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call until the device has finished its work."""
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def exact_floor(method: ExactTraining) -> Callable[[], object]:
    """The three products of an epoch's batches, in the precision of the training, and the gathers of their users."""
    table = method.users[0].table
    factors = method.model.branches[0].item_embedding.weight.detach()  # type: ignore[union-attr,operator]
    dtype = torch.bfloat16 if method.bf16 else torch.float32
    items = factors.to(dtype)
    users = torch.arange(method.batch_users, device=table.device)
    gradient = torch.zeros((method.batch_users, method.num_items), dtype=dtype, device=table.device)

    def run() -> None:
        for _ in range(-(-method.num_users // method.batch_users)):
            rows = table[users].to(dtype)
            rows @ items.t()
            gradient @ items
            gradient.t() @ rows

    return run


def sampled_floor(method: SampledTraining) -> Callable[[], object]:
    """For an epoch's batches: rows gathered from tables, gradients added to the tables, and the tower's products."""
    num_negatives = method.config.num_train_negatives
    batches = epoch_batches(method.positives, method.rows, num_negatives, method.generator)
    indices = [(user, items) for user, items, _, _ in batches]
    dtype = torch.bfloat16 if method.bf16 else torch.float32
    pairs: list[tuple[Tensor, Tensor]] = []
    layers: list[Tensor] = []
    for branch in method.model.branches:
        pairs.append((branch.user_embedding.weight.detach(), branch.item_embedding.weight.detach()))  # type: ignore[union-attr,arg-type]
        if isinstance(branch, MLPBranch):
            linear = [module for module in branch.modules() if isinstance(module, torch.nn.Linear)]
            layers = [
                module.weight.detach().to(dtype) for module in linear[1:]
            ]  # the user's half of the first layer is computed once for each positive

    def run() -> None:
        for user, items in indices:
            for users, catalogue in pairs:
                rows, many = users[user], catalogue[items]
                torch.zeros_like(users).index_add_(0, user.flatten(), rows.flatten(0, 1))
                torch.zeros_like(catalogue).index_add_(0, items.flatten(), many.flatten(0, 1))
            for layer in layers:
                given = torch.empty((items.numel(), layer.shape[1]), dtype=dtype, device=layer.device)
                got = given @ layer.t()
                got @ layer
                got.t() @ given

    return run


def measure(name: str, method: Method, floor: Callable[[], object], device: torch.device) -> list[str]:
    """A row of the table; epochs and their floor are measured in turn, so that noise affects both."""
    trained, bare = [], []
    for number in range(1, ROUNDS + 2):
        trained.append(seconds(lambda number=number: method.epoch(number, lambda *_: None), device))  # type: ignore[misc]
        bare.append(seconds(floor, device))
    mine, least = float(np.median(trained[1:])), float(np.median(bare[1:]))  # without the first, which warms up
    return [name, f"{mine:.3f}", f"{method.samples / mine / 1e6:,.2f}", f"{least:.3f}", f"{least / mine:.2f}"]


def to_quality(data: Path, wanted: float, device: torch.device) -> str:
    """The seconds of exact training of a GMF until HR@10 among the test's negatives reaches `wanted`."""
    split = load_split(data)
    config = TrainConfig(model="gmf", num_factors=192, epochs=TO_QUALITY).resolved("exact")
    begin = time.perf_counter()
    model = start_model(split.train, config, device)
    method = ExactTraining(model, split.train, config, device)
    spent = time.perf_counter() - begin
    candidates = Candidates.of(split.held_out, split, device, 0)
    for number in range(1, TO_QUALITY + 1):
        spent += seconds(lambda number=number: method.epoch(number, lambda *_: None), device)  # type: ignore[misc]
        model.eval()
        if (hits := evaluate_sampled(model, candidates)["HR@10"]) >= wanted:
            return f"HR@10 {hits:.4f} after {spent:.1f} s, {number} epochs"
    return f"HR@10 {hits:.4f} after {spent:.1f} s and all epochs: {wanted} was not reached"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--shape", type=click.Choice(list(SHAPES)), default="ml-1m", show_default=True)
@click.option("--batch-size", type=int, default=18_000, show_default=True, help="Samples a step of sampled training.")
@click.option("--num-factors", type=int, default=64, show_default=True)
@click.option("--num-layers", type=int, default=3, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="MovieLens-1M in the paper's format: also measure the time until HR@10 .72.",
)
def main(shape: str, batch_size: int, num_factors: int, num_layers: int, device: str, data: Path | None) -> None:
    """Measure epochs on generated data beside their floor: only the products and gathers of the same shapes.

    \b
    Examples:
      python -m benchmarks.training.speed --data ml-1m
      python -m benchmarks.training.speed --shape ml-20m --device gpu --batch-size 1048576
    """
    where = choose_device(device)
    num_users, num_items, num = SHAPES[shape]
    fit = generated(num_users, num_items, num)
    console = Console(width=120)
    table = Table("training", "s an epoch", "M samples/s", "floor s", "of the floor's speed")
    for name, negatives in [("gmf", "exact"), *((name, "4") for name in MODEL_NAMES)]:
        config = TrainConfig(
            model=name,
            num_factors=num_factors * (3 if negatives == "exact" else 1),
            num_layers=num_layers,
            negatives=negatives,
            epochs=ROUNDS + 1,
            batch_size=None if negatives == "exact" else batch_size,
        ).resolved(negatives)
        model = start_model(fit, config, where)
        if negatives == "exact":
            if num_users * num_items > 2**28 and where.type == "cpu":
                continue
            exact = ExactTraining(model, fit, config, where)
            flops = 6 * num_users * num_items * config.num_factors
            label = f"exact {name}, {config.num_factors} factors, {flops / 1e9:,.1f} GFLOP an epoch" + (
                " in bfloat16" if exact.bf16 else ""
            )
            table.add_row(*measure(label, exact, exact_floor(exact), where))
            continue
        some = fit if where.type == "cuda" else fit.take(np.arange(0, len(fit), -(-len(fit) * 5 // SAMPLES)))
        sampled = SampledTraining(model, some, config, where, World())
        rows = 2 * sum(branch.user_embedding.weight.shape[1] * 4 for branch in model.branches)  # type: ignore[union-attr]
        label = f"{name}, {6 * multiply_adds(config):,} FLOP and {2 * rows:,} B of rows a sample"
        table.add_row(*measure(label, sampled, sampled_floor(sampled), where))
    console.print(f"{num_users:,} × {num_items:,}, {len(fit):,} interactions, {num_factors} factors, {where}, ", end="")
    console.print(f"{torch.get_num_threads()} threads, bfloat16 products: {uses_bf16(TrainConfig(), where)}")
    console.print(table)
    if data is not None:
        console.print(to_quality(data, 0.72, where))


if __name__ == "__main__":
    main()
