"""Items and users that a run does not know, by their features: in the run, in the exported modules, in the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from ncf import Recommender
from ncf.data.item_columns import columns_of
from ncf.errors import InputError
from ncf.export.new import with_new
from ncf.export.ranker import Conditions, Ranker
from ncf.training.run_directory import Run, load_features
from tests.conftest import run_ncf

NEW = pl.DataFrame({"item_id": ["soup-new", "taco-new", "odd-new", "soup-01"], "kind": ["soup", "taco", "?", "taco"]})
PEOPLE = pl.DataFrame({"user_id": ["newcomer"], "region": ["east"]})


@pytest.fixture(scope="module", params=["gmf", "neumf"])
def model(request: pytest.FixtureRequest, food_csv: Path) -> Recommender:
    frame = pl.read_csv(food_csv)
    items = frame.select("item_id").unique(maintain_order=True)
    users = frame.select("user_id").unique(maintain_order=True).with_row_index("number")
    return Recommender(model=request.param, num_factors=8, epochs=3).fit(
        frame,
        item_features=items.with_columns(kind=pl.col("item_id").str.split("-").list.first()),
        user_features=users.select(
            "user_id", region=pl.when(pl.col("number") % 2 == 0).then(pl.lit("east")).otherwise(pl.lit("west"))
        ),
    )


def test_new_items_and_users_have_the_rows_of_their_values(model: Recommender) -> None:
    run, words = with_new(model._run, NEW, PEOPLE)
    known = model._run
    assert run.items.ids.to_list() == [*known.items.ids.to_list(), "soup-new", "taco-new", "odd-new"]
    assert run.users.ids.to_list() == [*known.users.ids.to_list(), "newcomer"]
    assert words == [
        "3 new items from --new-items; 1 others are in the run already, and stay as they are",
        "1 of them have no value that the run knows, and get what all items have in common",
        "1 new users from --new-users",
    ]
    learned = load_features(known)
    assert learned is not None
    assert learned.items is not None
    soup = list(learned.items.encoding.columns[0].values).index("soup") + 1
    *tables, bias = learned.items.rows
    place = len(known.items)
    for branch, rows in zip(run.model.branches, tables, strict=True):
        torch.testing.assert_close(branch.item_embedding.weight[place], rows[0] + rows[soup])  # type: ignore[union-attr,index]
    torch.testing.assert_close(run.model.item_bias.weight[place], bias[0] + bias[soup] + learned.raised)
    users, items = torch.arange(len(known.users)).unsqueeze(1), torch.arange(place)
    with torch.inference_mode():
        assert torch.equal(run.model(users, items), known.model(users, items))
    assert int(run.known.counts()[-1]) == 0


@pytest.mark.core
def test_the_exported_modules_rank_them(model: Recommender, tmp_path: Path) -> None:
    """The export compares its modules with the model of the longer run; the ranker asks the exported query module."""
    run, _ = with_new(model._run, NEW, PEOPLE)
    kinds = pl.DataFrame({"item_id": run.items.ids}).with_columns(kind=pl.col("item_id").str.split("-").list.first())
    ranker = Ranker(run, columns_of(kinds, run.items, "item_id", "items"))

    def recommended(user: str, **conditions: Any) -> list[Any]:
        item, _ = ranker.for_users([user], len(run.items), Conditions(**conditions))
        return run.items.decode(item[0][item[0] >= 0])

    everything = recommended("u17")
    assert {"soup-new", "taco-new", "odd-new"} <= set(everything)
    assert "soup-new" not in recommended("u17", exclude=["soup-new"])
    soups = recommended("u17", where={"kind": "soup"})
    assert "soup-new" in soups
    assert all(item.startswith("soup") for item in soups)
    assert len(recommended("newcomer")) == len(run.items)
    made = model.export(tmp_path, "food", new_items=NEW, new_users=PEOPLE, items=kinds)
    query = torch.jit.load(str(made.query / "1" / "model.pt"))  # type: ignore[no-untyped-call]
    user = run.users.ids.to_list().index("u17")
    item, score = query(torch.tensor([[[1, user]]]))
    mine, scores = ranker.for_users(["u17"], 100, Conditions())
    assert item[0].tolist() == mine[0].tolist()
    assert score[0].tolist() == pytest.approx(scores[0].tolist(), abs=1e-5)


def test_the_command_exports_them(model: Recommender, tmp_path: Path) -> None:
    run = model.save(tmp_path / "run")
    NEW.write_csv(tmp_path / "new.csv")
    options = ["--run", run, "--repository", tmp_path / "repository", "--name", "food"]
    done = run_ncf("export", *options, "--new-items", tmp_path / "new.csv")
    assert done.returncode == 0, done.stderr
    assert f"3 new items from {tmp_path / 'new.csv'}; 1 others are in the run already" in done.stderr
    assert b"taco-new" in (tmp_path / "repository" / "food" / "1" / "items.ids").read_bytes()


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"new_items": {"item_id": ["x"], "sort": ["soup"]}}, "no column 'kind', which the model was trained with"),
        ({"new_items": {"kind": ["soup"], "sort": ["soup"]}}, "has no column 'item_id'; it has kind, sort"),
        ({"new_items": {"item_id": ["x", "x"], "kind": ["soup", "pho"]}}, "has item 'x' in more than one row"),
    ],
)
def test_a_bad_table_is_refused(model: Recommender, new: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        with_new(model._run, **new)
    assert message in str(caught.value)


def test_a_table_without_new_items_changes_nothing(model: Recommender) -> None:
    run, words = with_new(model._run, NEW.filter(item_id="soup-01"))
    assert words == ["0 new items from --new-items; 1 others are in the run already, and stay as they are"]
    assert run.items.ids.equals(model._run.items.ids)


def test_a_run_without_features_has_no_rows_for_them(food_run: Run) -> None:
    assert with_new(food_run) == (food_run, [])
    with pytest.raises(InputError, match=r"--new-items needs a run that knows features of items, and .* train it with"):
        with_new(food_run, NEW)
