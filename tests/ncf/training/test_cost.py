from __future__ import annotations

import pytest

from ncf.errors import InputError
from ncf.training.config import TrainConfig
from ncf.training.cost import choose_negatives, count_work

ML_1M = (6040, 3706, 994_169)
SPARSE = (1_000_000, 300_000, 20_000_000)


def test_the_cheaper_way_is_chosen_and_the_reason_counts() -> None:
    chosen, reason = choose_negatives(TrainConfig(model="gmf"), *ML_1M)
    assert chosen == "exact"
    assert "22,384,240 cells" in reason
    assert "4,970,845 samples" in reason
    assert choose_negatives(TrainConfig(model="gmf"), *SPARSE)[0] == "4"
    assert choose_negatives(TrainConfig(model="neumf"), *ML_1M)[0] == "4"  # a tower for each of the cells


def test_what_the_user_asks_for_is_done() -> None:
    assert choose_negatives(TrainConfig(model="gmf", negatives="7"), *ML_1M)[0] == "7"
    assert choose_negatives(TrainConfig(negatives="exact"), *SPARSE)[0] == "exact"
    assert choose_negatives(TrainConfig(loss="softmax"), *SPARSE)[0] == "exact"


def test_exact_training_is_for_one_process() -> None:
    assert choose_negatives(TrainConfig(model="gmf"), *ML_1M, processes=2)[0] == "4"
    for config in (TrainConfig(negatives="exact"), TrainConfig(loss="softmax"), TrainConfig(model="gmf", members=2)):
        with pytest.raises(InputError, match="one process"):
            choose_negatives(config, *ML_1M, processes=2)


def test_work_grows_with_what_it_counts() -> None:
    config = TrainConfig(model="gmf", num_factors=64)
    one, twice = count_work(config, *ML_1M), count_work(config, 6040, 2 * 3706, 994_169)
    assert twice.exact == pytest.approx(2 * one.exact, rel=0.1)  # steps and tables grow with it
    assert one.sampled < twice.sampled < 1.5 * one.sampled  # the optimiser's tables only
    assert count_work(TrainConfig(model="neumf", num_factors=64), *ML_1M).exact > 10 * one.exact
