from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.splits import HeldOut, Split
from ncf.models.neural import build_model
from ncf.training.config import MODEL_NAMES, TrainConfig
from tests.support.training import train

pytestmark = pytest.mark.core


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_catalogue_equals_forward_on_every_pair(name: str, num_layers: int) -> None:
    torch.manual_seed(0)
    model = build_model(name, 7, 50, 8, num_layers).eval()
    catalogue = model.catalogue()
    for part in catalogue.parts:
        part.block_floats = 64  # several blocks of items
    users = torch.tensor([3, 0, 6])
    with torch.inference_mode():
        pairs = model(users.unsqueeze(1), torch.arange(50).unsqueeze(0))
        torch.testing.assert_close(catalogue(users), pairs, rtol=1e-5, atol=1e-5)
        flat = model(torch.tensor([3, 0]), torch.tensor([9, 49]))
        torch.testing.assert_close(flat, torch.stack([pairs[0, 9], pairs[1, 49]]), rtol=1e-5, atol=1e-5)


def test_mlp_first_layer_is_a_layer_over_the_concatenation() -> None:
    branch = build_model("mlp", 5, 5, 8).branches[0]
    weight = torch.cat([branch.user_half.weight, branch.item_half.weight], dim=1)
    user, item = torch.tensor([1, 4]), torch.tensor([2, 0])
    both = torch.cat([branch.user_embedding(user), branch.item_embedding(item)], dim=1)
    expected = branch.rest(both @ weight.t() + branch.user_half.bias)
    torch.testing.assert_close(branch(user, item), expected)
    assert [layer.out_features for layer in branch.rest if hasattr(layer, "out_features")] == [16, 8]
    assert branch.user_embedding.embedding_dim == 16  # the paper's 32 → 16 → 8 for 8 factors


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="gmf, mlp, neumf"):
        build_model("svd", 2, 2, 2)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_checkerboard(name: str) -> None:
    """Even users like even items, odd users odd ones; of every user some items of the right colour were never seen.

    The right answer is known: each unseen item of the user's colour scores above every item of the other colour.
    """
    num_users, num_items = 60, 40
    random = np.random.default_rng(0)
    same = (np.arange(num_users)[:, None] + np.arange(num_items)[None, :]) % 2 == 0
    shown = same & (random.random(same.shape) < 0.8)
    user, item = np.nonzero(shown)
    users, items = (IdIndex.of(pl.Series(range(n))) for n in (num_users, num_items))
    split = Split(Interactions(users, items, user, item), HeldOut(np.empty(0, np.int64), np.empty(0, np.int64)))
    config = TrainConfig(
        model=name, num_factors=8, negatives="4", epochs=60, patience=60, batch_size=500, learning_rate=0.01, l2=0.01
    )
    model = train(split, config).model
    with torch.inference_mode():
        score = model.catalogue()(torch.arange(num_users)).numpy()
    right = same & ~shown
    wins = [
        (score[u][right[u]][:, None] > score[u][~same[u]][None, :]).mean() for u in range(num_users) if right[u].any()
    ]
    assert len(wins) > 50
    assert np.mean(wins) > 0.95
