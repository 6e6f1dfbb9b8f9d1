"""The settings of a run, as config.json and checkpoints have them."""

from __future__ import annotations

import json

import pytest

from ncf.data.interactions import Columns
from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.training.config import TrainConfig, seconds
from ncf.training.presets import configure

# A config.json of a run that was trained before the split had settings of its own; the rest has its default.
WRITTEN = {
    "model": "gmf", "num_factors": 8, "seed": 5, "held_out": 2, "min_user_interactions": 3, "min_item_interactions": 4,
    "columns": {"user_id": "customer", "item_id": "item_id", "weight": "weight", "timestamp": "timestamp"},
    "data": "ratings.csv",
}  # fmt: skip


def test_a_run_that_was_written_earlier_is_read_and_written_the_same() -> None:
    config = TrainConfig.from_dict(WRITTEN)
    assert config.seed == 5
    assert config.split == SplitOptions(Columns(user_id="customer"), 5, 2, 3, 4)
    written = json.loads(json.dumps(config.to_dict()))
    assert {**written, "data": "ratings.csv"} | WRITTEN == {**written, "data": "ratings.csv"}
    assert "split" not in written
    assert "split_seed" not in written


def test_the_seeds_of_split_and_training_may_differ() -> None:
    config = TrainConfig(seed=2, split=SplitOptions(seed=1))
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["split_seed"] == 1


def test_an_option_goes_to_split_or_training_and_the_seed_to_both() -> None:
    config = configure(None, {"seed": 4, "held_out": 3, "epochs": 2, "columns": Columns(item_id="sku"), "l2": None})
    assert config.split == SplitOptions(Columns(item_id="sku"), seed=4, held_out=3)
    assert (config.seed, config.epochs, config.l2) == (4, 2, None)


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("1.5s", 1.5), ("30m", 1800), (" 2h ", 7200)])
def test_a_time_is_read_in_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "inf", "m"])
def test_a_time_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="give seconds, or a number with s, m or h"):
        seconds(text)
