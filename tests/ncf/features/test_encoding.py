"""Tables of features: their ids, what is said of them, and the encoding that a run keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ncf.data.interactions import IdIndex
from ncf.errors import InputError
from ncf.features.encoding import Encoding, Features, SideFeatures, find_features, side_features
from ncf.features.table import ids_like, read_features
from ncf.files.reading import Columns

ITEMS = IdIndex(pl.Series(["a", "b", "c", "d"]))
TABLE = {"item_id": ["d", "b", "a", "x"], "kind": ["soup", "taco", "soup", "pho"], "size": [1.5, 2.5, 3.5, None],
         "same": ["yes"] * 4}  # fmt: skip


def side(table: Any = TABLE, items: IdIndex = ITEMS, columns: Columns | None = None) -> SideFeatures:
    return side_features(read_features(table, "item", columns or Columns(), "--item-features"), items, "item")


def test_what_was_read_and_what_was_left_out_is_said() -> None:
    assert side().look == (
        "features of items from --item-features: kind: 1 values (of 2; the others are in one row or in all); "
        "size: a number; same: left out, for every row has 'yes'",
        "1 of 4 items of the data have no features, and learn by their id alone",
        "1 items of --item-features are not in the data, and are left out of the training",
    )


def test_every_id_has_value_0_and_the_values_of_its_row() -> None:
    values = side().values
    rows = [values.value[start:end].tolist() for start, end in zip(values.indptr, values.indptr[1:], strict=False)]
    assert rows[2] == [0]  # c has no row
    assert rows[0][:2] == [0, 1]  # value 1 is soup
    assert 1 in rows[3]
    assert 1 not in rows[1]


def test_an_encoding_comes_back_from_json() -> None:
    found = side()
    again = Encoding.from_dict(json.loads(json.dumps(found.encoding.to_dict())))
    assert again == found.encoding
    with pytest.raises(InputError, match="the features have no column 'kind', which the model was trained with"):
        again.encode(pl.DataFrame({"size": [1.5]}), found.values.indptr[:1])


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("item_id", Columns()),
        ("sku", Columns(item_id="sku")),
        ("movieId", Columns()),
        ("item_id", Columns(item_id="sku")),
    ],
)
def test_the_column_of_ids_is_called_as_in_the_data_or_as_usual(name: str, columns: Columns) -> None:
    table = {name if each == "item_id" else each: cells for each, cells in TABLE.items()}
    assert side(table, columns=columns).encoding == side().encoding


@pytest.mark.parametrize("written", ["1", "1.0"])
def test_whole_numbers_are_one_id_however_they_are_written(tmp_path: Path, written: str) -> None:
    path = tmp_path / "items.csv"
    path.write_text(f"item_id,kind\n{written},soup\n2,soup\n3,taco\n4,taco\n")
    assert len(side(path, IdIndex(pl.Series([1, 2, 3, 4]))).look) == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"item_id": ["a", "b", "a"], "kind": ["x", "y", "x"]}, "has item 'a' in more than one row; keep one row for"),
        ({"name": ["a", "b"], "kind": ["x", "y"]}, "--item-features has no column 'item_id'; it has name, kind"),
        ({"item_id": ["a", None], "kind": ["x", "y"]}, "every row needs an id"),
        ({"item_id": ["a", "b"]}, "has no column beside 'item_id'; add one"),
        ({"item_id": [], "kind": []}, "--item-features has no rows"),
        (
            {"item_id": ["q"], "kind": ["x"]},
            "has none of the 4 items of the data: an id there is 'q', one of the data 'a'",
        ),
        (
            {"item_id": ["a", "b"], "kind": ["x", "x"]},
            "no column that tells one item from another (kind: left out, for",
        ),
        ({"sku": ["a", "b"], "movieId": ["x", "x"]}, "has 'sku' and 'movieId', and each could be the item; rename"),
        (17, "--item-features is a int; give a frame"),
    ],
)
def test_a_bad_table_is_refused(table: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        side(table)
    assert message in str(caught.value)


def test_ids_of_text_do_not_fit_a_model_of_whole_numbers() -> None:
    numbers = IdIndex(pl.Series([1, 2]))
    assert ids_like(numbers, pl.Series(["7"]), "new.csv").to_list() == [7]
    with pytest.raises(InputError, match=r"new.csv has the id 'x7', and the ids of the model are whole numbers"):
        ids_like(numbers, pl.Series(["x7"]), "new.csv")


def test_other_features_have_another_fingerprint() -> None:
    def fingerprint(table: Any) -> str:
        features = find_features(None, table, Columns(), ITEMS, ITEMS)
        assert isinstance(features, Features)
        return features.fingerprint

    changed = {**TABLE, "kind": ["soup", "taco", "taco", "soup"]}
    assert fingerprint(TABLE) == fingerprint(dict(TABLE))
    assert fingerprint(TABLE) != fingerprint(changed)
    assert find_features(None, None, Columns(), ITEMS, ITEMS) is None
