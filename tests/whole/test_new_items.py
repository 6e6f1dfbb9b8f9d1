"""An item that nobody has had is recommended by a running server, because its features are known."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ncf import Recommender
from tests.support.serving import Server

pytestmark = pytest.mark.e2e


def test_new_items_are_served(food_csv: Path, tmp_path: Path) -> None:
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
