"""The settings of a run, as config.json and checkpoints have them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.files.reading import Columns, Reading
from ncf.training.config import TrainConfig, seconds
from ncf.training.presets import configure

# A config.json of a run that was trained before the split had settings of its own; the rest has its default.
WRITTEN = {
    "model": "gmf", "num_factors": 8, "seed": 5, "held_out": 2, "min_user_interactions": 3, "min_item_interactions": 4,
    "columns": {"user_id": "customer", "item_id": "item_id", "weight": "weight", "timestamp": "timestamp"},
    "data": "ratings.csv",
}  # fmt: skip


def test_a_run_that_was_written_earlier_is_read() -> None:
    config = TrainConfig.from_dict(WRITTEN)
    assert config.seed == 5
    assert config.split == SplitOptions(Columns(user_id="customer"), Reading(), 5, 2, 3, 4)
    written = json.loads(json.dumps(config.to_dict()))
    assert {**written, **WRITTEN, "columns": written["columns"]} == {**written, "data": "ratings.csv"}
    assert not {"split", "test_share", "test"} & written.keys()
    assert "split_seed" not in written


def test_the_seeds_of_split_and_training_may_differ() -> None:
    config = TrainConfig(seed=2, split=SplitOptions(seed=1))
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["split_seed"] == 1
    given = configure(None, {"seed": 4, "split_seed": 7})
    assert (given.seed, given.split.seed) == (4, 7)
    assert configure(None, {"split_seed": 7}).seed == 0


@pytest.mark.parametrize(
    "options",
    [{"split": "ratio", "test_share": 0.1}, {"split": "time", "seed": 3}, {"test": "other/test.csv"}, {"held_out": 4}],
)
def test_every_protocol_is_written_and_read_again(options: dict[str, Any]) -> None:
    config = configure(None, {**options, "negatives_among": "popular"})
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_choice_of_the_epoch_follows_the_split() -> None:
    with pytest.raises(InputError, match=r"validation is 2, and split is time, .* give 1, or 0 to keep the last epoch"):
        configure(None, {"validation": 2, "split": "time"})
    with pytest.raises(InputError, match="negatives_among is for loss bce; loss softmax draws no negatives"):
        configure(None, {"loss": "softmax", "negatives_among": "popular"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "neumf"}, "loss squares needs model gmf, whose factors have a closed form; model is neumf"),
        ({"l2": 0.0}, "l2 is 0; loss squares needs a ridge, such as 0.003"),
        ({"learning_rate": 0.1}, "learning_rate is 0.1; loss squares has a closed form without it: leave it out"),
        ({"dropout": 0.0}, "dropout is 0.0; loss squares has a closed form without it: leave it out"),
        ({"negatives": "4"}, "loss squares is computed over all items; negatives is 4, give exact or auto"),
        ({"negatives_among": "all"}, "negatives_among is for loss bce; loss squares draws no negatives"),
        ({"among_all_members": 2}, "among_all_members is for loss bce; loss squares draws no negatives"),
    ],
)
def test_what_a_closed_form_does_not_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configure(None, {"loss": "squares", **options})
    for spectral, wanted in (
        ({"epochs": 2}, "epochs is 2; loss spectral has its"),
        ({"l2": 0.1}, "l2 is 0.1; loss sp"),
    ):
        with pytest.raises(InputError, match=wanted):
            configure(None, {"loss": "spectral", **spectral})


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
