from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ncf.data.load import load_split
from ncf.errors import InputError
from ncf.models import blend as folding
from ncf.models.blend import Blend, fold, standardise
from ncf.models.neural import build_model, joined
from ncf.training.config import TrainConfig
from tests.support.training import CPU, figures, train


def test_a_blend_of_little_rank_is_folded_exactly() -> None:
    torch.manual_seed(0)
    models = [build_model("gmf", 50, 40, 5).eval() for _ in range(2)]
    blend = Blend([(0.25, models[0].catalogue()), (0.75, models[1].catalogue())], 50, 40, CPU)
    users = torch.arange(50)
    wanted = sum(
        weight * standardise(model.catalogue()(users))
        for weight, model in zip((0.25, 0.75), models, strict=True)
    )  # fmt: skip
    # 2 × 5 factors, standardised by row: a constant a row more, and the mean over users is the bias.
    folded = fold(blend, 12, scale=2.0, offset=-3.0, seed=0)
    got = folded(users.unsqueeze(1), torch.arange(40).unsqueeze(0))
    assert torch.allclose(got, 2.0 * wanted - 3.0, atol=1e-4)
    assert torch.allclose(folded.catalogue()(users), got, atol=1e-5)


def test_a_blend_too_large_to_keep_is_computed_again_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build_model("gmf", 50, 40, 8).eval()
    kept = fold(Blend([(1.0, model.catalogue())], 50, 40, CPU), 4, 1.0, 0.0, 0)
    monkeypatch.setattr(folding, "KEPT_FLOATS", 0)
    monkeypatch.setattr(folding, "SCORES_AT_ONCE", 40 * 7)
    again = fold(Blend([(1.0, model.catalogue())], 50, 40, CPU), 4, 1.0, 0.0, 0)
    users = torch.arange(50)
    assert torch.allclose(kept.catalogue()(users), again.catalogue()(users), atol=1e-4)


def test_a_row_of_equal_scores_does_not_divide_by_zero() -> None:
    assert torch.equal(standardise(torch.full((2, 5), 3.0)), torch.zeros((2, 5)))


def test_members_folded_into_one_gmf_rank_at_least_as_well_as_one(food_csv: Path) -> None:
    split = load_split(food_csv)
    config = TrainConfig(model="gmf", num_factors=8, epochs=15)
    one = figures(train(split, config).model, split)["model"]["full"]["NDCG@10"]
    result = train(split, config, members=3, fold_factors=24, closed_form=0.3)
    assert len(result.model.branches) == 1
    assert result.model.branches[0].user_embedding.weight.shape[1] == 24  # type: ignore[union-attr]
    assert [epoch.stage for epoch in result.epochs[::15]] == ["member 1", "member 2", "member 3"]
    assert result.best is None
    assert result.origin == "folded from 3 GMFs and EDLAE"
    assert figures(result.model, split)["model"]["full"]["NDCG@10"] >= one


def test_neumf_starts_from_its_branches(food_csv: Path) -> None:
    split = load_split(food_csv)
    gmf, mlp, neumf = (build_model(name, 9, 7, 4).eval() for name in ("gmf", "mlp", "neumf"))
    user, item = torch.arange(9).unsqueeze(1), torch.arange(7).unsqueeze(0)
    with torch.no_grad():
        assert torch.allclose(joined(neumf, gmf, mlp)(user, item), (gmf(user, item) + mlp(user, item)) / 2, atol=1e-6)
    result = train(split, TrainConfig(num_factors=8, pretrain=True, epochs=2))
    assert [epoch.stage for epoch in result.epochs] == ["gmf", "gmf", "mlp", "mlp", "neumf", "neumf"]


@pytest.mark.parametrize("overrides", [{"members": 2}, {"closed_form": 0.2}, {"fold_factors": 8}])
def test_what_is_folded_is_a_gmf(overrides: dict[str, object]) -> None:
    with pytest.raises(InputError, match="need model gmf"):
        TrainConfig(model="neumf", **overrides)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="pretrain is for neumf"):
        TrainConfig(model="gmf", pretrain=True)
