from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ncf.data.load import load_split
from ncf.data.splits import Split
from ncf.evaluation import baselines
from ncf.evaluation.baselines import Baselines, fit_baselines
from ncf.evaluation.ranking import Candidates, evaluate_full, evaluate_sampled
from ncf.models.scorers import Popularity
from ncf.models.seen import SeenItems

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def food(food_csv: Path) -> Split:
    return load_split(food_csv)


def fit(split: Split) -> Baselines:
    seen = SeenItems.of_interactions(split.train)
    return fit_baselines(torch.as_tensor(split.train.popularity()), seen)


@pytest.fixture(scope="module")
def fitted(food: Split) -> Baselines:
    return fit(food)


def test_a_pair_scores_what_the_catalogue_says(fitted: Baselines) -> None:
    user, item = torch.tensor([[5], [0], [5]]), torch.tensor([[1, 2, 3], [4, 4, 0], [299, 0, 7]])
    for scorer in fitted.scorers.values():
        expected = scorer.catalogue()(user.squeeze(1)).gather(1, item)
        torch.testing.assert_close(scorer(user, item), expected)


def test_taste_is_found_where_popularity_knows_nothing(food: Split, fitted: Baselines) -> None:
    """Of 12 groups the two favourite ones hold .9 of a user's interactions."""
    seen, candidates = SeenItems.of_interactions(food.train), Candidates.of(food.held_out, food, CPU, 0)
    assert list(fitted.scorers) == ["popularity", "ease", "ials"]
    assert not fitted.left_out
    for name, least in (("ease", 0.70), ("ials", 0.68)):
        assert evaluate_sampled(fitted.scorers[name], candidates)["HR@10"] > least
        assert evaluate_full(fitted.scorers[name], food.held_out, seen)["HR@10"] > 0.4
    assert evaluate_sampled(fitted.scorers["popularity"], candidates)["HR@10"] < 0.4


def test_settings_follow_from_the_data(food: Split, fitted: Baselines) -> None:
    mean = len(food.train) / food.train.num_users
    settings = fitted.settings
    assert settings["ease"] == {"l2": pytest.approx(8 * mean)}
    assert settings["ials"]["regularization"] == pytest.approx(0.09 / mean**0.5)
    assert settings["ials"]["unobserved_weight"] == pytest.approx(7 * mean / 300)
    assert settings["ials"]["factors"] == 96


def test_ease_is_left_out_of_a_large_catalogue(food: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "EASE_MAX_ITEMS", 299)
    found = fit(food)
    assert list(found.scorers) == ["popularity", "ials"]
    assert found.left_out == {"ease": "300 items, and it inverts a matrix of items × items: 299 at the most"}
    assert "ease" not in found.settings


def test_work_is_counted_before_it_is_done(food: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    less = baselines.ials_work(len(food.train), 1500, 32)
    monkeypatch.setattr(baselines, "MAX_WORK", {"cpu": less})
    assert fit(food).settings["ials"]["factors"] == 32
    monkeypatch.setattr(baselines, "MAX_WORK", {"cpu": 10.0})
    found = fit(food)
    assert list(found.scorers) == ["popularity"]
    assert set(found.left_out) == {"ease", "ials"}
    assert all("multiply-adds, 1e+01 at the most" in reason for reason in found.left_out.values())


def test_work_of_real_data() -> None:
    """MovieLens-1M is within the bound of a CPU with the most factors, MovieLens-20M is not."""
    bound = baselines.MAX_WORK["cpu"]
    assert baselines.ease_work(6040, 3706) < bound / 5
    assert baselines.ials_work(994_169, 6040 + 3706, 96) < bound / 5
    assert baselines.ials_work(20_000_000, 138_493 + 26_744, 96) > bound
    assert baselines.ease_work(138_493, 20_000) < baselines.MAX_WORK["cuda"]


def test_popularity_is_the_same_for_everybody() -> None:
    scorer = Popularity(torch.tensor([3, 1, 2]))
    assert scorer(torch.tensor([[0], [1]]), torch.tensor([[0, 1], [2, 2]])).tolist() == [[3, 1], [2, 2]]
    assert scorer.catalogue()(torch.tensor([1, 0])).tolist() == [[3, 1, 2], [3, 1, 2]]
