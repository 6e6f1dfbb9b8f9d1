"""New users by their history: as good as trained ones, and total."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ncf.data.interactions import IntArray, from_table
from ncf.data.protocols import leave_one_out
from ncf.data.sample import Catalogue, generate
from ncf.data.splits import HeldOut, Split
from ncf.evaluation.ranking import evaluate_full
from ncf.models.fold_in import FoldIn, features, fit_fold_in, random_items
from ncf.models.neural import NCF, GMFBranch, MLPBranch, build_model
from ncf.models.scorers import Popularity, Scorer
from ncf.models.seen import SeenItems
from ncf.training.config import TrainConfig
from tests.support.training import train

TASTES = Catalogue(groups=tuple("abcdefgh"), items_per_group=25, num_users=600, user_prefix="", seed=3)
NEW = 150  # users, the last ones
CONFIG = TrainConfig(negatives="4", epochs=20, num_factors=8, learning_rate=0.01, batch_size=4096, patience=20, seed=1)


@dataclass(frozen=True)
class Planted:
    """A model trained on everything, one that never saw the new users, and what there is to rank for them."""

    trained: NCF
    base: NCF
    known: SeenItems
    history: SeenItems
    held_out: HeldOut
    popularity: Popularity


def seen(split: Split) -> SeenItems:
    train = split.train
    return SeenItems.of(train.user_index, train.item_index, train.num_users, train.num_items)


def plant(config: TrainConfig) -> Planted:
    split = leave_one_out(from_table(generate(TASTES).rename({"user_id": "user", "item_id": "item"})))
    first = split.train.num_users - NEW
    old, new = split.held_out.user_index < first, split.held_out.user_index >= first
    held_out = [HeldOut(split.held_out.user_index[rows], split.held_out.item_index[rows]) for rows in (old, new)]
    others = Split(split.train.take(split.train.user_index < first), held_out[0])
    trained, base = (train(some, config).model for some in (split, others))
    popularity = Popularity(torch.as_tensor(others.train.popularity()))
    return Planted(trained, base, seen(others), seen(split), held_out[1], popularity)


def histories(seen: SeenItems, user: IntArray) -> tuple[Tensor, Tensor]:
    rows = [seen.items[seen.indptr[u] : seen.indptr[u + 1]] for u in user]
    history = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    return history, history >= 0


def with_users(model: NCF, user: IntArray, embeddings: list[Tensor]) -> NCF:
    model = copy.deepcopy(model)
    for branch, rows in zip(model.branches, embeddings, strict=True):
        assert isinstance(branch, GMFBranch | MLPBranch)
        branch.user_embedding.weight.data[torch.as_tensor(user)] = rows
    return model


@pytest.mark.parametrize("model", ["gmf", "mlp", "neumf"])
def test_new_users_are_ranked_for_as_if_trained(model: str) -> None:
    """Over two seeds: the hit rate of 150 users has a standard error of .04, and processors round differently."""
    folded = trained = popular = 0.0
    for seed in (1, 2):
        planted = plant(replace(CONFIG, model=model, seed=seed))
        user = planted.held_out.user_index
        fold_in = fit_fold_in(planted.base.catalogue(), planted.known)

        def hit_rate(scorer: Scorer, planted: Planted = planted) -> float:
            return evaluate_full(scorer, planted.held_out, planted.history)["HR@10"]

        folded += hit_rate(with_users(planted.base, user, fold_in(*histories(planted.history, user))))
        trained += hit_rate(planted.trained)
        popular += hit_rate(planted.popularity)
    assert folded >= 0.8 * trained
    assert folded >= 2 * popular


@pytest.fixture(scope="module")
def model() -> NCF:
    torch.manual_seed(0)
    return build_model("neumf", 40, 30, 4).eval()


@pytest.fixture(scope="module")
def known() -> SeenItems:
    random = np.random.default_rng(0)
    return SeenItems.of(random.integers(0, 35, 300), random.integers(0, 30, 300), 40, 30)  # five users have nothing


@pytest.fixture(scope="module")
def fold_in(model: NCF, known: SeenItems) -> FoldIn:
    return fit_fold_in(model.catalogue(), known).eval()


def joined(module: torch.nn.Module, history: list[list[int]], present: list[list[bool]] | None = None) -> Tensor:
    rows = torch.tensor(history)
    return torch.cat(module(rows, torch.ones_like(rows, dtype=torch.bool) if present is None else present), dim=1)


def test_one_embedding_a_branch(model: NCF, fold_in: FoldIn) -> None:
    embeddings = fold_in(torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.ones((3, 2), dtype=torch.bool))
    assert [tuple(e.shape) for e in embeddings] == [(3, 4), (3, 8)]
    assert [e.dtype for e in embeddings] == [torch.float32] * 2
    assert not list(fold_in.parameters())


def test_the_script_gives_what_the_module_gives(fold_in: FoldIn) -> None:
    history, present = torch.randint(-3, 40, (9, 12)), torch.rand(9, 12) < 0.7
    for eager, scripted in zip(fold_in(history, present), torch.jit.script(fold_in)(history, present), strict=True):
        torch.testing.assert_close(scripted, eager)


def test_padding_repetitions_order_and_strangers_do_not_count(fold_in: FoldIn) -> None:
    plain = joined(fold_in, [[3, 7, 11]])
    for history in ([[11, 3, 7]], [[3, 3, 7, 11, 7]], [[-1, 3, 30, 7, 11, 2**63 - 1, -(2**63)]]):
        torch.testing.assert_close(joined(fold_in, history), plain)
    present = torch.tensor([[True, False, True, True, False]])
    torch.testing.assert_close(torch.cat(fold_in(torch.tensor([[3, 5, 7, 11, -9]]), present), dim=1), plain)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0), (1, 1), (64, 4096)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_any_history_has_finite_embeddings(fold_in: FoldIn, shape: tuple[int, int], share: float) -> None:
    scripted = torch.jit.script(fold_in)
    for history in (torch.randint(30, shape), torch.randint(-(2**62), 2**62, shape)):
        embeddings = scripted(history, torch.rand(shape) < share)
        assert all(len(e) == shape[0] and e.isfinite().all() for e in embeddings)


def test_rows_do_not_see_each_other(fold_in: FoldIn) -> None:
    together = joined(fold_in, [[1, 2, 3], [4, 4, 99], [5, 6, 7]])
    other = joined(fold_in, [[1, 2, 3], [8, 9, 10], [11, -1, -1]])
    assert torch.equal(together[0], other[0])
    torch.testing.assert_close(together[:1], joined(fold_in, [[1, 2, 3]]))


def test_what_is_longer_than_any_known_history_does_not_count_for_more() -> None:
    total, count = torch.tensor([[6.0, 12.0]]), torch.tensor([6])
    assert torch.equal(features(total, count, 6), features(50 * total, 50 * count, 6))
    assert not torch.equal(features(total, count, 300), features(50 * total, 50 * count, 300))


def test_random_items_are_different_items_of_their_user(known: SeenItems) -> None:
    users = torch.tensor([3, 0, 20])
    kept = torch.stack([known.counts()[3], torch.tensor(1), torch.tensor(2)])
    chosen = torch.split(random_items(known, users, kept, torch.Generator().manual_seed(1)), kept.tolist())
    for user, items in zip(users.tolist(), chosen, strict=True):
        seen = known.items[known.indptr[user] : known.indptr[user + 1]].tolist()
        assert set(items.tolist()) <= set(seen)
        assert len(set(items.tolist())) == len(items)
    assert len(chosen[0]) == known.counts()[3]


def test_the_same_data_give_the_same_map(model: NCF, known: SeenItems, fold_in: FoldIn) -> None:
    torch.rand(7)  # the global generator must not matter
    again = fit_fold_in(model.catalogue(), known)
    for name, value in fold_in.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_catalogues_tables_are_shared(model: NCF, known: SeenItems) -> None:
    catalogue = model.catalogue()
    fold_in = fit_fold_in(catalogue, known)
    held = {buffer.data_ptr() for buffer in fold_in.buffers()}
    assert {part.items().data_ptr() for part in catalogue.parts} <= held


@pytest.mark.parametrize("users", [[0], [0, 1], [0, 1, 2]])
def test_few_users_with_one_item_are_enough(model: NCF, users: list[int]) -> None:
    fold_in = fit_fold_in(model.catalogue(), SeenItems.of(np.array(users), np.array(users), 40, 30))
    assert joined(fold_in, [[1, 2, 3, 20, 21, 22]]).abs().max() < 5  # nothing explodes
