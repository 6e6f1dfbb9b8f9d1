"""The Python API, without a server (tests/whole/test_recommender.py compares it with one)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ncf import Recommender
from ncf.data.load import load_split
from ncf.errors import InputError

QUICK: dict[str, Any] = {"num_factors": 8, "epochs": 2}


@pytest.fixture(scope="module")
def frame(food_csv: Path) -> pl.DataFrame:
    return pl.read_csv(food_csv)


@pytest.fixture(scope="module")
def model(frame: pl.DataFrame) -> Recommender:
    items = frame.select("item_id").unique().with_columns(kind=pl.col("item_id").str.split("-").list.first())
    return Recommender(**QUICK).fit(frame, items=items)


def test_frames_paths_and_splits_train_the_same_model(frame: pl.DataFrame, food_csv: Path, model: Recommender) -> None:
    renamed = frame.rename({"user_id": "customer", "item_id": "sku", "timestamp": "at"})
    columns = {"user": "customer", "item": "sku", "timestamp": "at"}
    expected = model.recommend("u17", k=5)
    for data, named in ((renamed, columns), (food_csv, {}), (str(food_csv), {}), (load_split(food_csv), {})):
        other = Recommender(**QUICK).fit(data, **named)
        assert other.recommend("u17", k=5).equals(expected)


class LikePandas:
    """What `as_polars` uses of a frame of pandas, which the project does not install."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns, self.iloc, self._columns = list(columns), None, columns

    def __getitem__(self, name: str) -> Any:
        values = np.array(self._columns[name])
        series = pl.Series(self._columns[name])
        return type("Column", (), {"to_numpy": lambda self: values, "isna": lambda self: series.is_null()})()


def test_a_frame_of_pandas_is_read_without_pyarrow(frame: pl.DataFrame, model: Recommender) -> None:
    columns = {name: frame[name].to_list() for name in frame.columns}
    columns["user_id"] = np.array(columns["user_id"], dtype=object)
    other = Recommender(**QUICK).fit(LikePandas(columns))
    assert other.recommend("u17", k=5).equals(model.recommend("u17", k=5))


def test_a_split_by_time_is_said_by_keyword(frame: pl.DataFrame, tmp_path: Path) -> None:
    timed = Recommender(num_factors=4, epochs=1, split="time", test_share=0.1, split_seed=3).fit(frame)
    loaded = Recommender.load(timed.save(tmp_path / "run"))
    assert (loaded.config.split.split, loaded.config.split.test_share, loaded.config.split.seed) == ("time", 0.1, 3)
    assert loaded.evaluate().table().equals(timed.evaluate().table())
    harder = timed.evaluate(negatives_among="popular").table()
    assert harder.filter(protocol="full").equals(timed.evaluate().table().filter(protocol="full"))
    assert not harder.equals(timed.evaluate().table())


def test_what_was_fitted_can_be_saved_loaded_and_exported(model: Recommender, tmp_path: Path, food_csv: Path) -> None:
    path = model.save(tmp_path / "run")
    again = Recommender.load(path)
    assert again.config == model.config
    assert again.recommend(["u17", "u18"], k=4).equals(model.recommend(["u17", "u18"], k=4))
    assert again.evaluate(food_csv).report() == again.evaluate().report() == model.evaluate().report()
    exported = again.export(tmp_path / "repository", "food", k=7)
    assert (exported.k, exported.version, exported.score.name) == (7, 1, "food")
    with pytest.raises(InputError, match="exists already; choose another path"):
        model.save(path)


def test_history_has_a_row_for_each_epoch(model: Recommender) -> None:
    assert model.history["epoch"].to_list() == [1, 2]
    assert {"loss", "hit_rate_at_10", "ndcg_at_10"} <= set(model.history.columns)


def test_several_users_are_rows_of_one_frame(model: Recommender) -> None:
    found = model.recommend(pl.Series(["u17", "stranger"]), k=3, where={"kind": "soup"})
    assert found["user_id"].to_list() == ["u17"] * 3 + ["stranger"] * 3
    assert found["item_id"].str.starts_with("soup").all()
    assert model.similar(["soup-01", "taco-01"], k=2)["like_item_id"].to_list() == ["soup-01"] * 2 + ["taco-01"] * 2
    assert model.recommend([], k=2).columns == ["user_id", "item_id", "score"]


def test_vectors_have_the_scores_as_products(model: Recommender) -> None:
    user, item = model.user_vectors(), model.item_vectors()
    of_user = user.filter(user_id="u17")["vector"].item().to_numpy()
    products = item.with_columns(score=pl.Series(np.stack(item["vector"].to_list()) @ of_user))
    pairs = pl.DataFrame({"user_id": ["u17"] * len(item), "item_id": item["item_id"]})
    assert products["score"].to_list() == pytest.approx(model.score(pairs)["score"].to_list(), abs=1e-5)


def test_vectors_of_a_network_are_refused(fashion_csv: Path) -> None:
    neumf = Recommender(model="neumf", num_factors=4, epochs=1).fit(fashion_csv)
    with pytest.raises(InputError, match="the model is neumf, whose score comes from a network"):
        neumf.item_vectors()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda model: Recommender(nun_factors=8), "setting 'nun_factors' is unknown; did you mean 'num_factors'?"),
        (lambda model: Recommender(num_factors=0), "num_factors is 0; it must be at least 1"),
        (lambda model: Recommender(split="user"), "split is 'user'; choose leave-one-out, ratio, time"),
        (lambda model: model.evaluate(negatives_among="all"), "negatives_among is 'all'; choose unseen, popular"),
        (lambda model: Recommender("huge"), "no preset is called 'huge'"),
        (lambda model: Recommender(device="tpu"), "device is 'tpu'; choose auto, cpu, gpu"),
        (lambda model: Recommender().recommend("u1"), "this recommender is not trained; call fit, or Recommender.load"),
        (lambda model: Recommender.load("/nowhere"), "/nowhere is no run directory"),
        (lambda model: Recommender().fit({"user_id": [], "item_id": []}), "the frame has no rows"),
        (lambda model: Recommender().fit({"user_id": ["a", "a"], "item_id": [1, 2]}), "one user only ('a')"),
        (lambda model: Recommender().fit({"who": ["a"], "item_id": [1]}), "the frame has no column 'user_id'"),
        (lambda model: Recommender().fit(17), "data is a int; give a frame of pandas, Polars or Arrow, or a path"),
        (lambda model: model.recommend("u17", k=301), "k is 301; it must be from 1 to 300, the number of items"),
        (lambda model: model.recommend(), "recommend takes a user, several users, or history=[items]: one of them"),
        (
            lambda model: model.recommend("u17", where={"kin": 1}),
            "where names 'kin', which the items have no",
        ),
        (lambda model: model.score({"user_id": ["u17"]}), "pairs has no column 'item_id'; it has user_id"),
    ],
)
def test_a_mistake_is_said(model: Recommender, mistake: Callable[[Recommender], Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        mistake(model)
    assert message in str(caught.value)


def test_importing_ncf_loads_neither_torch_nor_polars() -> None:
    code = (
        "import sys, ncf; assert not {'torch', 'polars'} & set(sys.modules); from ncf import Recommender; "
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
