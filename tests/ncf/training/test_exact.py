from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.load import load_split
from ncf.models.neural import NCF
from ncf.models.popular import PopularItems
from ncf.training.config import TrainConfig
from ncf.training.exact import ExactTraining, RowAdam
from ncf.training.loop import start_model
from ncf.training.sampled import Positives, epoch_batches
from ncf.training.world import World
from tests.support.training import CPU, figures, train


def small(weight: bool = False) -> Interactions:
    """30 users with 2 to 8 of 12 items."""
    random = np.random.default_rng(3)
    pairs = [(u, i) for u in range(30) for i in random.permutation(12)[: 2 + u % 7]]
    user, item = np.array(pairs, dtype=np.int64).T
    weights = random.uniform(0.5, 4, len(user)).astype(np.float32) if weight else None
    return Interactions(IdIndex(pl.Series(range(30))), IdIndex(pl.Series(range(12))), user, item, weights)


def exact(fit: Interactions, **overrides: object) -> ExactTraining:
    values = {"model": "gmf", "num_factors": 6, "precision": "fp32", "dropout": 0.0, **overrides}
    config = TrainConfig(**values).resolved("exact")  # type: ignore[arg-type]
    return ExactTraining(start_model(fit, config, CPU), fit, config, CPU)


def gradients(model: NCF) -> list[torch.Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("among", ["unseen", "all", "popular"])
@pytest.mark.parametrize("weight", [False, True])
@pytest.mark.parametrize("name", ["gmf", "mlp", "neumf"])
def test_the_exact_loss_is_the_expectation_of_the_sampled_one(name: str, weight: bool, among: str) -> None:
    fit, draws = small(weight), 1000
    method = exact(fit, model=name, negative_weight=3.0, l2=0.0, negatives_among=among)
    model = method.model
    for branch in model.branches:
        branch.user_embedding.requires_grad_(True)  # type: ignore[union-attr]
    users = torch.arange(30)
    with torch.no_grad():
        score = model.against_all([branch.user_embedding.weight for branch in model.branches])  # type: ignore[misc,union-attr]
        seen = method.seen_by(users)
        expected, gradient = method.loss(score, users, seen), method.gradient(score, users, seen)
    model.against_all([branch.user_embedding.weight for branch in model.branches]).backward(gradient)  # type: ignore[misc,union-attr,no-untyped-call]
    wanted = gradients(model)
    model.zero_grad()

    positives = Positives.of(fit, CPU, World())
    user = positives.user_index.repeat(draws)
    many = replace(
        positives,
        user_index=user,
        item_index=positives.item_index.repeat(draws),
        weight=None if positives.weight is None else positives.weight.repeat(draws),
    )
    generator = torch.Generator().manual_seed(0)
    popular = PopularItems.of(positives.seen, torch.from_numpy(fit.popularity())) if among == "popular" else None
    (batch,) = epoch_batches(many, len(user), 3, generator, among, popular)
    drawn = binary_cross_entropy_with_logits(model(*batch[:2]), *batch[2:], reduction="sum") / draws
    drawn.backward()  # type: ignore[no-untyped-call]
    assert drawn.item() == pytest.approx(expected.item(), rel=0.01)
    for one, other in zip(gradients(model), wanted, strict=True):
        assert (one - other).abs().max() < 0.08 * other.abs().max()


def test_softmax_is_the_log_of_the_share_of_what_was_seen() -> None:
    fit = small(weight=True)
    method = exact(fit, loss="softmax")
    score = torch.randn((30, 12), generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert fit.weight is not None
    weight = torch.as_tensor(fit.weight / fit.weight.mean())
    wanted = -(weight * score.log_softmax(1)[torch.as_tensor(fit.user_index), torch.as_tensor(fit.item_index)]).sum()
    wanted.backward()  # type: ignore[no-untyped-call]
    users = torch.arange(30)
    seen = method.seen_by(users)
    loss, gradient = method.loss(score.detach(), users, seen), method.gradient(score.detach(), users, seen)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert score.grad is not None
    assert torch.allclose(gradient, score.grad, atol=1e-5)


def test_l2_is_the_derivative_of_the_squared_length_a_sample() -> None:
    """Users: their own samples, seen and drawn. Items: theirs, the drawn ones spread evenly."""
    method = exact(small(), l2=0.25, negative_weight=3.0)
    users = torch.arange(30)
    rows = [table.table[users].clone().requires_grad_() for table in method.users]
    item = method.model.branches[0].item_embedding.weight  # type: ignore[union-attr]
    rows[0].grad, item.grad = torch.zeros_like(rows[0]), torch.zeros_like(item)  # type: ignore[union-attr,arg-type]
    method.decay(users, rows, method.seen_by(users))
    n_u, n_i = method.count, torch.bincount(method.seen.items, minlength=12)
    assert torch.allclose(rows[0].grad, 0.5 * (4 * n_u).unsqueeze(1) * rows[0])  # type: ignore[arg-type]
    assert torch.allclose(item.grad, 0.5 * (n_i + 3 * n_u.sum() / 12).unsqueeze(1) * item)  # type: ignore[union-attr,arg-type,operator]


def test_row_adam_is_adam_for_rows_that_move_once_an_epoch() -> None:
    table = torch.randn((6, 3), generator=torch.Generator().manual_seed(1))
    mine, parameter = table.clone(), torch.nn.Parameter(table.clone())
    rows, adam = RowAdam(mine), torch.optim.Adam([parameter], lr=0.1, betas=(0.9, 0.99))
    for epoch in range(1, 5):
        gradient = torch.randn((6, 3), generator=torch.Generator().manual_seed(epoch))
        for half in (torch.tensor([4, 0, 2]), torch.tensor([1, 5, 3])):
            rows.step(half, gradient[half], 0.1, epoch)
        parameter.grad = gradient
        adam.step()
    assert torch.allclose(mine, parameter, atol=1e-6)


@pytest.mark.parametrize("loss", ["bce", "softmax"])
def test_exact_training_finds_the_planted_taste(food_csv: Path, loss: str) -> None:
    split = load_split(food_csv)
    report = figures(train(split, TrainConfig(model="gmf", negatives="exact", loss=loss, epochs=15)).model, split)
    assert report["model"]["full"]["HR@10"] > 3 * report["popularity"]["full"]["HR@10"]


@pytest.mark.parametrize("name", ["mlp", "neumf"])
def test_a_tower_learns_over_all_cells(food_csv: Path, name: str) -> None:
    config = TrainConfig(model=name, num_factors=4, negatives="exact", epochs=6, learning_rate=0.01)
    losses = [epoch.loss for epoch in train(load_split(food_csv), config).epochs]
    assert losses == sorted(losses, reverse=True)


def test_bfloat16_and_float32_reach_the_same_quality(food_csv: Path) -> None:
    split = load_split(food_csv)
    config = TrainConfig(model="gmf", negatives="exact", epochs=15)
    hits = [
        figures(train(split, config, precision=precision).model, split)["model"]["sampled"]["HR@10"]
        for precision in ("fp32", "bf16")
    ]
    assert hits[0] == pytest.approx(hits[1], abs=0.03)


def test_the_same_seed_gives_the_same_model_bit_for_bit(food_csv: Path) -> None:
    split = load_split(food_csv)
    config = TrainConfig(model="gmf", negatives="exact", epochs=3)
    first, second, other = (train(split, config, seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["item_bias.weight"], other["item_bias.weight"])
