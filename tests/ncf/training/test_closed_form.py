"""The losses with a closed form; `squares` against its definition over a dense table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.load import load_split
from ncf.training.closed_form import LeastSquares
from ncf.training.config import TrainConfig
from ncf.training.loop import start_model
from tests.support.training import CPU, figures, train

CONFIG = TrainConfig(model="gmf", num_factors=4, loss="squares", l2=0.01, negative_weight=8.0).resolved("exact")
USERS, ITEMS = 12, 9


def few(weighted: bool = False) -> Interactions:
    """The last user and the last item have nothing."""
    table = np.random.default_rng(0).random((USERS, ITEMS)) < 0.5
    table[-1], table[:, -1] = False, False
    user, item = (index.astype(np.int64) for index in table.nonzero())
    weight = np.linspace(0.5, 2.0, len(user), dtype=np.float32) if weighted else None
    return Interactions(IdIndex(pl.Series(range(USERS))), IdIndex(pl.Series(range(ITEMS))), user, item, weight)


def method(fit: Interactions) -> LeastSquares:
    return LeastSquares(start_model(fit, CONFIG, CPU), fit, CONFIG, CPU)


def epochs(way: LeastSquares, *numbers: int) -> list[float]:
    return [way.epoch(number, lambda *step: None) for number in numbers]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_its_definition_and_an_epoch_lowers_it_with_the_ridge(weighted: bool) -> None:
    fit = few(weighted)
    way, n = method(fit), len(fit)
    weight = torch.zeros((USERS, ITEMS), dtype=torch.float64)
    of_pair = np.ones(n) if fit.weight is None else fit.weight / fit.weight.mean()
    weight[fit.user_index, fit.item_index] = torch.as_tensor(of_pair, dtype=torch.float64)
    everywhere = 8.0 * n / (USERS * ITEMS)
    totals = []
    for number in range(1, 6):
        (loss,) = epochs(way, number)
        model = way.model
        with torch.no_grad():
            score = model(torch.arange(USERS)[:, None], torch.arange(ITEMS)[None]).double()
        score[-1] = 0.0  # the user without anything is no part of the loss
        dense = (weight * (1 - score).square()).sum() + everywhere * score.square().sum()
        assert loss == pytest.approx(float(dense) / (n * 9), rel=1e-4)
        of_users = (weight.sum(1) + everywhere * ITEMS)[:-1] @ way.users[:-1].double().square().sum(1)
        of_items = (weight.sum(0) + everywhere * USERS) @ way.items.double().square().sum(1)
        totals.append(float(dense + 0.01 * (of_users + of_items)))
    assert totals == sorted(totals, reverse=True)


def test_users_without_items_are_the_mean_user_and_items_without_users_score_nothing() -> None:
    way = method(few())
    epochs(way, 1, 2)
    torch.testing.assert_close(way.users[-1], way.users[:-1].mean(0))
    assert way.items[-1].abs().max() == 0.0


def test_an_epoch_depends_on_the_weights_of_the_model_alone() -> None:
    way, again = method(few()), method(few())
    epochs(way, 1, 2)
    again.model.load_state_dict(way.model.state_dict())
    again.load_state(way.state())
    assert epochs(way, 3) == epochs(again, 3)
    assert torch.equal(way.users, again.users)


def test_they_rank_as_well_as_training_by_gradients(food_csv: Path) -> None:
    split = load_split(food_csv)
    reports = {
        loss: figures(train(split, TrainConfig(model="gmf", num_factors=16, loss=loss, negatives="exact")).model, split)
        for loss in ("bce", "squares", "spectral")
    }
    reached = {loss: report["model"]["full"]["NDCG@10"] for loss, report in reports.items()}
    assert reached["squares"] > 0.95 * reached["bce"]
    assert reached["spectral"] > 0.8 * reached["bce"]
    assert reached["spectral"] > 2 * reports["bce"]["popularity"]["full"]["NDCG@10"]


@pytest.mark.parametrize("loss", ["softmax", "squares", "spectral"])
def test_a_model_of_any_loss_is_folded_with_edlae(food_csv: Path, loss: str) -> None:
    config = TrainConfig(model="gmf", num_factors=16, loss=loss, epochs=1, closed_form=0.3, fold_factors=24)
    result = train(load_split(food_csv), config)
    assert result.origin == "folded from 1 GMF and EDLAE"
    assert result.ndcg_at_10 is not None
    assert result.ndcg_at_10 > 0.15
