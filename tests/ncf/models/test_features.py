"""Embeddings with features: their sums, their gradients, and the plain model that they fold into."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ncf.features.encoding import FeatureValues
from ncf.models.features import FeaturedNCF, FeatureEmbedding, explain
from ncf.models.learned_features import raised_by
from ncf.models.neural import BRANCHES, NCF, build_model

USERS, ITEMS = 5, 7
ALL = torch.arange(ITEMS)


def values(num: int, num_values: int, seed: int = 0) -> FeatureValues:
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 4, num)
    indptr = np.concatenate([[0], counts.cumsum()])
    value = generator.integers(0, num_values, indptr[-1])
    return FeatureValues(indptr, value, generator.random(indptr[-1]).astype(np.float32), num_values)


def matrix(of: FeatureValues) -> Tensor:
    dense = np.zeros((len(of.indptr) - 1, of.num_values), np.float32)
    np.add.at(dense, (np.repeat(np.arange(len(dense)), np.diff(of.indptr)), of.value), of.weight)
    return torch.from_numpy(dense)


def featured(name: str) -> FeaturedNCF:
    model = FeaturedNCF(build_model(name, USERS, ITEMS, 4), values(USERS, 3), values(ITEMS, 6, 1))
    for table in (*model.user_tables, *model.item_tables):
        nn.init.normal_(table.values.weight)
    return model


def test_a_row_is_the_own_row_plus_the_values_rows() -> None:
    of = values(ITEMS, 6)
    table = FeatureEmbedding(nn.Embedding(ITEMS, 4), of)
    nn.init.normal_(table.values.weight)
    expected = table.ids.weight + matrix(of) @ table.values.weight
    torch.testing.assert_close(table.weight, expected)
    index = torch.tensor([[3, 0], [6, 6]])  # fewer than the table's rows: gathered
    torch.testing.assert_close(table(index), expected[index])
    many = torch.arange(ITEMS).repeat(2, 3)
    torch.testing.assert_close(table(many), expected[many])
    rows = torch.randn(ITEMS, 4)
    torch.testing.assert_close(table.transposed_sums(rows), matrix(of).t() @ rows)


@pytest.mark.parametrize("name", BRANCHES)
def test_the_folded_model_has_the_same_scores_and_is_plain(name: str) -> None:
    model = featured(name).eval()
    users, items = torch.arange(USERS).unsqueeze(1), ALL.unsqueeze(0)
    plain = model.folded()
    assert type(plain) is NCF
    assert plain.state_dict().keys() == build_model(name, USERS, ITEMS, 4).state_dict().keys()
    with torch.inference_mode():
        torch.testing.assert_close(plain(users, items), model(users, items))
        torch.testing.assert_close(plain.catalogue()(torch.arange(USERS)), model(users, items))
        torch.testing.assert_close(model.catalogue()(torch.arange(USERS)), model(users, items))


@pytest.mark.parametrize("name", BRANCHES)
def test_exact_and_sampled_training_see_the_same_model(name: str) -> None:
    model = featured(name).eval()
    users = torch.tensor([4, 1])
    rows = [table.ids.weight[users] for table in model.user_tables]
    torch.testing.assert_close(model.against_all(model.of_users(rows, users)), model(users.unsqueeze(1), ALL))


def test_own_rows_are_dropped_in_training_only_and_in_all_tables_alike() -> None:
    model = featured("neumf").train()
    masks = []
    for _ in range(50):
        model.drop()
        masks.append(model.item_tables[0].kept)
        assert all(table.kept is masks[-1] for table in model.item_tables)
    kept = torch.stack([mask for mask in masks if mask is not None])
    assert 0.8 < float(kept.mean()) < 0.97
    model.eval().drop()
    assert all(table.kept is None for table in (*model.user_tables, *model.item_tables))


def test_items_by_features_have_no_rows_of_their_own() -> None:
    model = featured("gmf")
    alone = model.folded(items_by_features=True)
    expected = model.item_tables[0].sums(model.item_tables[0].values.weight)
    torch.testing.assert_close(alone.branches[0].item_embedding.weight, expected)  # type: ignore[union-attr]
    assert model.item_tables[0].ids.weight.abs().sum() > 0


def test_features_explain_what_they_can() -> None:
    of = values(4000, 3, 4)
    table = FeatureEmbedding(nn.Embedding(4000, 1), of)
    truth = torch.tensor([[1.0], [-2.0], [0.5]])
    with torch.no_grad():
        table.ids.weight.copy_(matrix(of) @ truth)
    before = table.weight.detach().clone() - table.sums(table.values.weight)
    explain(table)
    torch.testing.assert_close(table.weight, before)
    torch.testing.assert_close(table.values.weight, truth, atol=0.1, rtol=0)
    assert table.ids.weight.abs().mean() < 0.1


def test_a_new_item_gets_as_many_places_as_a_known_one() -> None:
    """Of 200 items by features alone, raised, as many are above the last place of each user as there are places."""
    torch.manual_seed(1)
    model = build_model("gmf", 60, 200, 8)
    for table in (model.branches[0].user_embedding, model.branches[0].item_embedding):
        nn.init.normal_(table.weight)  # type: ignore[union-attr,arg-type]
    by_features = build_model("gmf", 60, 200, 8)
    by_features.load_state_dict(model.state_dict())
    with torch.no_grad():
        by_features.branches[0].item_embedding.weight.mul_(0.3)  # type: ignore[union-attr,operator]
        raised = raised_by(model, by_features)
        users = torch.arange(60)
        last = model.catalogue()(users).topk(20).values[:, -1:]
        places = (by_features.catalogue()(users) + raised >= last).sum(1).float().mean()
    assert raised > 0
    assert places == pytest.approx(20, abs=0.2)
    assert raised_by(model, model) == pytest.approx(0, abs=1e-5)
