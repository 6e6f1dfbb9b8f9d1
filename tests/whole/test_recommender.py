"""The Python API and a running server give the same answers, for every ask and every condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ncf import Recommender
from ncf.training.run_directory import Run
from tests.support.serving import Server
from tests.whole.conftest import ask

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def model(food_run: Run, food_items_file: Path) -> Recommender:
    return Recommender.load(food_run.path, items=food_items_file)


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"exclude_seen": False},
        {"exclude": ["sushi-01", "taco-02", "nobody's"]},
        {"allow": ["sushi-01", "taco-02", "nobody's"]},
        {"allow": ["nobody's"]},
        {"where": {"kind": "sushi", "number": 7.0}},
        {"where": {"number": "7"}},
        {"where": {"kind": None}},
        {"where": {"kind": "vegan"}},
        {"where": {"even": True, "divisors": 3}},
        {"where": {"divided": "2|3"}, "exclude": ["soup-06"], "allow": ["soup-06", "soup-12", "taco-06"]},
    ],
)
def test_a_notebook_and_the_server_agree(server: Server, model: Recommender, conditions: dict[str, Any]) -> None:
    history = ["sushi-01", "soup-02", "?"]
    asks: list[tuple[dict[str, Any], Any]] = [
        ({"user_id": "u17"}, model.recommend("u17", k=20, **conditions)),
        ({"user_id": "stranger"}, model.recommend("stranger", k=20, **conditions)),
        ({"history": history}, model.recommend(history=history, k=20, **conditions)),
    ]
    if "exclude_seen" not in conditions:
        asks.append(({"item_id": "sushi-01"}, model.similar("sushi-01", k=20, **conditions)))
    for document, mine in asks:
        theirs = ask(server, **document, **conditions, k=20)["recommendations"]
        assert mine["item_id"].to_list() == [each["item_id"] for each in theirs], (document, conditions)
        assert mine["score"].to_list() == pytest.approx([each["score"] for each in theirs], abs=1e-5)


def test_pairs_have_the_scores_of_the_server(server: Server, model: Recommender) -> None:
    pairs = [
        {"user_id": "u17", "item_id": "soup-02"},
        {"user_id": "u18", "item_id": "taco-01"},
        {"user_id": "?", "item_id": "taco-01"},
    ]
    frame = {name: [pair[name] for pair in pairs] for name in ("user_id", "item_id")}
    mine = model.score(frame)["score"].to_list()
    theirs = ask(server, pairs=pairs)["scores"]
    assert mine[2] is None
    assert theirs[2] is None
    assert mine[:2] == pytest.approx(theirs[:2], abs=1e-5)


def test_new_items_are_served(food_csv: Path, tmp_path: Path) -> None:
    """Items that nobody has had, because their features are known."""
    frame = pl.read_csv(food_csv)
    kinds = frame.select("item_id").unique().with_columns(kind=pl.col("item_id").str.split("-").list.first())
    new = pl.DataFrame({"item_id": ["soup-new", "taco-new"], "kind": ["soup", "taco"]})
    model = Recommender(num_factors=8, epochs=3).fit(frame, item_features=kinds)
    model.export(tmp_path, "food", items=pl.concat([kinds, new]), new_items=new)
    with Server(tmp_path) as server:
        server.wait_until_ready()

        def items(**document: object) -> list[str]:
            answer = server.invoke({"model": "food", "k": 100, **document})
            assert answer.status == 200, answer.body
            return [each["item_id"] for each in answer.json["recommendations"]]

        soups = items(user_id="u17", where={"kind": "soup"})
        assert "soup-new" in soups
        assert all(item.startswith("soup") for item in soups)
        assert "soup-new" not in items(user_id="u17", where={"kind": "soup"}, exclude=["soup-new"])
        assert items(user_id="u17", allow=["taco-new"]) == ["taco-new"]
        assert items(item_id="taco-new")[0].startswith("taco")
        scored = server.invoke({"model": "food", "pairs": [{"user_id": "u17", "item_id": "taco-new"}]}).json
        assert isinstance(scored["scores"][0], float)
