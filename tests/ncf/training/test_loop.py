from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ncf.data.load import load_split
from ncf.data.prepare import prepare
from ncf.errors import InputError
from ncf.models.seen import SeenItems
from ncf.training import recipe
from ncf.training.config import EXACT, TrainConfig
from ncf.training.loop import Epoch, Watch
from ncf.training.presets import configure
from ncf.training.sampled import Positives, SampledTraining, epoch_batches
from ncf.training.world import World
from tests.conftest import QUICK
from tests.support.training import CPU, figures, train


def test_an_epoch_holds_every_positive_once_with_fresh_negatives(food_csv: Path) -> None:
    split = load_split(food_csv)
    positives = Positives.of(split.train, CPU, World())
    generator = torch.Generator().manual_seed(0)
    seen = SeenItems.of(split.train.user_index, split.train.item_index, split.train.num_users, split.train.num_items)
    epochs = [list(epoch_batches(positives, 200, 4, generator)) for _ in range(2)]
    for batches in epochs:
        user = torch.cat([batch[0] for batch in batches])
        items = torch.cat([batch[1] for batch in batches])
        label = torch.cat([batch[2] for batch in batches])
        assert max(batch[1].numel() for batch in batches) <= 1000
        pairs = {(int(u), int(i)) for u, i in zip(user[:, 0], items[:, 0], strict=True)}
        assert pairs == set(zip(split.train.user_index.tolist(), split.train.item_index.tolist(), strict=True))
        assert label.sum() == len(pairs)
        known = set((torch.as_tensor(split.train.user_index) * 10_000 + split.train.item_index).tolist())
        assert not known & set((user * 10_000 + items[:, 1:]).flatten().tolist())
    assert not torch.equal(epochs[0][0][1], epochs[1][0][1])
    assert seen.indptr.equal(positives.seen.indptr)


@pytest.mark.core
def test_the_model_beats_popularity_by_a_wide_margin(food_csv: Path) -> None:
    """The planted taste: popularity ranks among all groups, a model that found the groups among one in twelve."""
    split = load_split(food_csv)
    report = figures(train(split, TrainConfig()).model, split)
    for protocol in ("sampled", "full"):
        assert report["model"][protocol]["HR@10"] > 3 * report["popularity"][protocol]["HR@10"]
    assert report["model"]["sampled"]["HR@10"] > 0.6


def test_the_best_epoch_is_kept_and_training_stops(food_csv: Path) -> None:
    heard: list[Epoch] = []
    config = TrainConfig(model="gmf", num_factors=8, negatives="4", learning_rate=0.05, epochs=40, patience=2)
    result = train(load_split(food_csv), config, Watch(on_epoch=heard.append))
    best = max(heard, key=lambda epoch: epoch.ndcg_at_10 or 0)
    assert result.best == best
    assert result.epochs == tuple(heard)
    assert len(heard) == best.epoch + 2 < 40
    assert "no better epoch in 2" in result.stopped


@pytest.mark.core
def test_the_same_seed_gives_the_same_run(food_csv: Path) -> None:
    split = load_split(food_csv)
    losses = [train(split, QUICK, seed=seed).epochs[0].loss for seed in (5, 5, 6)]
    assert losses[0] == losses[1] != losses[2]


def test_weights_weigh_the_positives(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = [(u, i, 9 if u < 5 else 1) for u in range(10) for i in range(u % 3, 20, 2)]
    path.write_text("user_id,item_id,weight\n" + "".join(f"{u},{i},{w}\n" for u, i, w in rows))
    positives = Positives.of(load_split(path).train, CPU, World())
    assert positives.weight is not None
    assert positives.weight.max() / positives.weight.min() == pytest.approx(9)
    assert positives.weight.mean() == pytest.approx(1)  # the weight of positives against negatives stays


def test_an_interrupt_keeps_the_best_epoch_so_far(food_csv: Path) -> None:
    def interrupt(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    result = train(load_split(food_csv), QUICK, Watch(on_epoch=interrupt), epochs=9)
    assert result.stopped == "interrupted"
    assert len(result.epochs) == 2


def test_a_loss_that_stops_being_a_number_keeps_the_best_epoch_so_far(
    food_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, losses = SampledTraining.epoch, iter([None, None, float("nan")])

    def epoch(*arguments: Any) -> float:
        loss: float = real(*arguments)
        return next(losses) or loss

    monkeypatch.setattr(SampledTraining, "epoch", epoch)
    result = train(load_split(food_csv), QUICK, epochs=5)
    assert len(result.epochs) == 2
    assert result.stopped == "the loss became nan"


def test_a_loss_that_is_no_number_is_refused(food_csv: Path) -> None:
    with pytest.raises(InputError, match="lower --learning-rate"):
        train(load_split(food_csv), QUICK, learning_rate=1e38)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 3, "negatives": "4"}, "batch_size is 3"),
        ({"negatives": "many"}, "negatives is 'many'; choose auto, exact, or a whole number"),
        ({"negatives": "4", "loss": "softmax"}, "loss softmax is computed over all items"),
        ({"closed_form": 1.0}, "closed_form is 1.0; it must be at least 0 and below 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"l2": float("nan")}, "l2 is nan"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"seed": 2**63}, "it must be at most 9223372036854775807"),
        ({"num_layers": 40}, "num_layers is 40; it must be at most 12"),
        ({"model": "svd"}, "choose gmf, mlp, neumf"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        configure(None, overrides)
    assert message in str(caught.value)
    with pytest.raises(InputError, match="no preset is called 'best'"):
        configure("best", {})


def test_without_a_hold_out_everything_is_fitted_and_the_last_epoch_kept(food_csv: Path) -> None:
    heard: list[Epoch] = []
    result = train(load_split(food_csv), QUICK, Watch(on_epoch=heard.append), validation=0, epochs=3)
    assert [epoch.hit_rate_at_10 for epoch in heard] == [None] * 3
    assert result.best == heard[-1]


def test_the_deadline_ends_training_after_an_epoch(food_csv: Path) -> None:
    result = train(load_split(food_csv), QUICK, Watch(deadline=0.0), epochs=9)
    assert (len(result.epochs), result.stopped) == (1, "out of time")


def test_prepared_data_without_a_choice_is_fitted_whole(food_csv: Path, tmp_path: Path) -> None:
    prepare([food_csv], tmp_path / "prepared")
    split = load_split(tmp_path / "prepared")
    assert split.validation is not None
    whole = recipe.plan(split, replace(QUICK, validation=0), CPU).fit
    assert len(whole) == len(load_split(food_csv).train) == len(split.train) + len(split.validation)
    assert len(recipe.plan(split, QUICK, CPU).fit) == len(split.train)
    with pytest.raises(InputError, match="validation is 2"):
        recipe.plan(split, replace(QUICK, validation=2), CPU)


def test_more_processes_than_interactions_are_refused(food_csv: Path) -> None:
    with pytest.raises(InputError, match="100000 processes are more than"):
        recipe.plan(load_split(food_csv), QUICK, CPU, 100_000)


def test_a_batch_larger_than_the_data_takes_no_more_memory_than_the_data(food_csv: Path) -> None:
    assert len(train(load_split(food_csv), QUICK, negatives="4", batch_size=2**40).epochs) == 1


def test_softmax_members_have_what_the_user_set_and_else_what_is_usual_there(food_csv: Path) -> None:
    config = TrainConfig(model="gmf", num_factors=8, negatives="4", softmax_members=1, epochs=2)
    one, other = recipe.member_configs(recipe.plan(load_split(food_csv), config, CPU))
    assert (one.loss, one.negatives, one.l2, one.epochs) == ("bce", "4", 0.0, 2)
    assert (other.loss, other.negatives, other.l2, other.epochs) == ("softmax", "exact", 0.04, 2)
    assert other.batch_size == EXACT["batch_size"]
