from __future__ import annotations

import pytest

from ncf.errors import InputError
from ncf.files.columns import Roles, find_roles
from ncf.files.reading import Columns, Reading


def roles(names: str, columns: Columns | None = None, **reading: object) -> tuple[Roles, list[str]]:
    return find_roles(names.split(","), columns or Columns(), Reading(**reading), "x.csv")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "used"),
    [
        ("user_id,item_id,weight,timestamp", ["user_id", "item_id", "weight", "timestamp"]),
        ("userId,movieId,rating,timestamp", ["userId", "movieId", None, "timestamp"]),
        ("user,item", ["user", "item", None, None]),
        ("t_dat,customer_id,article_id,price,sales_channel_id", ["customer_id", "article_id", None, "t_dat"]),
        ("timestamp,visitorid,event,itemid,transactionid", ["visitorid", "itemid", None, "timestamp"]),
        ("User-ID,ISBN,Book-Rating", ["User-ID", "ISBN", None, None]),
        (
            "event_time,event_type,product_id,category_id,user_id,user_session",
            ["user_id", "product_id", None, "event_time"],
        ),
        ("reviewerID,asin,overall,unixReviewTime", ["reviewerID", "asin", None, "unixReviewTime"]),
        ("USER ID,Item Id,Weight,DATE", ["USER ID", "Item Id", "Weight", "DATE"]),
        ("user_id,userId,item_id,movieId,weight,timestamp,date", ["user_id", "item_id", "weight", "timestamp"]),
    ],
)
def test_usual_names_are_known(names: str, used: list[str | None]) -> None:
    assert roles(names) == (Roles(*used), [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reading", "weight"), [({"min_weight": 4}, "rating"), ({"sum_repeats": True}, "rating"), ({}, None)]
)
def test_ratings_are_weights_only_if_they_are_asked_for(reading: dict[str, object], weight: str | None) -> None:
    assert roles("userId,movieId,rating", **reading)[0].weight == weight


def test_events_are_used_with_their_weights() -> None:
    found, _ = roles("visitorid,event,itemid,rating", event_weights="view=1,buy=5", sum_repeats=True)
    assert (found.event, found.weight) == ("event", None)
    found, _ = roles("user_id,item_id,what", Columns(event="what"), event_weights="view=1")
    assert found.used == {"user": "user_id", "item": "item_id", "event": "what"}


def test_two_times_are_said_and_none_is_used() -> None:
    found, notes = roles("user_id,item_id,date,Created At")
    assert found.timestamp is None
    assert notes == [
        "'date' and 'Created At' could each be the timestamp, so none is used: --timestamp-column names one"
    ]


@pytest.mark.parametrize(
    ("names", "columns", "reading", "message"),
    [
        ("a,b", {}, {}, "x.csv has no column 'user_id'; it has a, b. Name yours with --user-column; for a file witho"),
        ("user_id;item_id", {}, {}, "it has user_id;item_id; is it separated in another way? --separator names the s"),
        ("user_id,item_id,Timestamp", {"timestamp": "timestamp"}, {}, "has no column 'timestamp'; it has user_id, it"),
        ("user_id,item_id", {"weight": "weight"}, {}, "no column 'weight'; it has user_id, item_id. Name yours with"),
        ("customer,userid,item_id", {}, {}, "'customer' and 'userid', and each could be the user; name one with --us"),
        ("user_id,movie,isbn", {}, {}, "'movie' and 'isbn', and each could be the item; name one with --item-column"),
        ("user_id,item_id,stars,score", {}, {"min_weight": 3}, "'stars' and 'score', and each could be the weight; n"),
        ("user_id,item_id", {}, {"min_weight": 3}, "no column 'weight'"),
        ("user_id,item_id", {}, {"half_life": "9d"}, "no column of times, which half_life needs; name it with --time"),
        ("user_id,item_id", {}, {"event_weights": "a=1"}, "no column 'event'; it has user_id, item_id. Name yours wi"),
        ("user_id,item_id", {"event": "e"}, {}, "--event-column needs --event-weights, such as"),
        ("user_id,item_id", {"weight": "item_id"}, {}, "column 'item_id' is used for two things; give each its own c"),
        ("\x1b[31m,b\x07", {}, {}, r"it has \x1b[31m, b\x07."),
        (",".join(f"c{n}" for n in range(5000)), {}, {}, "c10, c11 and 4988 more"),
        ("x" * 90_000, {}, {}, "x…"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_column_and_option(
    names: str, columns: dict[str, str], reading: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        roles(names, Columns(**columns), **reading)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
