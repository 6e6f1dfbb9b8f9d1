"""Read a split in the format of LightGCN's repository: each line is a user and the user's items."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from ncf.data.interactions import IdIndex, alike, count_indices, from_table, require_two
from ncf.data.lines import read_lines, require, require_ids
from ncf.data.splits import HeldOut, Split
from ncf.errors import InputError
from ncf.files.values import ids_of

log = logging.getLogger(__name__)

FILES = ("train.txt", "test.txt")
ROW = "a row is a user and then all items of this user, separated by spaces"
# Of other formats, which need not be read as this one: pairs and ratings are separated by these.
OTHER_SEPARATORS = ("\t", ",", ";", "::")


def is_adjacency(folder: Path) -> bool:
    """Whether a folder has train.txt and test.txt and the first begins as ids separated by spaces do."""
    if not all((folder / name).is_file() for name in FILES) or any(folder.glob("*.train.rating")):
        return False
    with (folder / FILES[0]).open("rb") as file:
        first = file.read(2**16).decode(errors="replace").strip().split("\n")[0]
    return not any(separator in first for separator in OTHER_SEPARATORS)


def read_adjacency_folder(folder: Path) -> Split:
    """Read the split of a folder of `train.txt` and `test.txt`, whose lines are `user item item …`.

    All items of a user in test.txt are held out; there are no times and no negatives. Ids are numbers or text. Raises
    InputError that names the file, the line and the remedy.
    """
    paths = [folder / name for name in FILES]
    (train, of_train), (test, of_test) = map(_read, paths)
    for path, pairs, what in ((paths[0], train, "interaction"), (paths[1], test, "held-out item")):
        if pairs.is_empty():
            raise InputError(f"{path} holds no {what}; {ROW}")
    ids = [alike([train[name], test[name]]) for name in ("user", "item")]
    train, test = (pl.DataFrame({"user": ids[0][part], "item": ids[1][part]}) for part in (0, 1))
    users, items = (IdIndex.of(pl.concat(both)) for both in ids)
    if nothing := len(pl.concat([of_train, of_test]).unique()) - len(users):
        log.warning("%d users have no item in %s and are left out", nothing, " or ".join(FILES))
    rows = len(test)
    test = test.unique(maintain_order=True)
    if len(test) < rows:
        log.warning("%d repeated (user, item) pairs in %s count once", rows - len(test), paths[1])
    rows = len(train)
    train = train.join(test, on=["user", "item"], how="anti", maintain_order="left")
    if leaked := rows - len(train):
        log.warning("%d held-out pairs are in %s as well and are left out of training", leaked, paths[0])
    interactions = from_table(train, users, items)
    held_out = HeldOut(users.encode(test["user"]), items.encode(test["item"]))
    counts = count_indices(interactions.user_index, len(users))
    if cold := int((counts == 0).sum()):
        log.warning("%d users have held-out items and no item to train on", cold)
    require_two(users, items, counts, folder)
    return Split(interactions, held_out)


def _read(path: Path) -> tuple[pl.DataFrame, pl.Series]:
    """The pairs of a file, as columns user and item, and its users as text, also those without items."""
    pairs, users, lines = [], [], []
    for part in read_lines(path):
        words = part.with_row_index("row").select("row", pl.col("text").str.replace_all("\t", " ").str.split(" "))
        words = words.explode("text", empty_as_null=False).filter(pl.col("text") != "")
        is_user = words["row"] != words["row"].shift(1, fill_value=len(part))
        user, item = words.filter(is_user)["text"], words.filter(~is_user)
        require_ids(user, part, path, "user", ROW)
        require_ids(item["text"], part, path, "item", ROW, item["row"])
        pairs.append((ids_of(user).gather(item["row"]), ids_of(item["text"])))
        users.append(user)
        lines.append(part.select("line", pl.col("text").str.slice(0, 100)))
    empty = pl.Series(dtype=pl.String)
    named = pl.concat(users) if users else empty
    again = ~named.is_first_distinct()
    if again.any():
        where = pl.concat(lines)
        require(~again, where, path, "this user has a line already; put all items of a user into one line")
    columns = [pl.concat(alike([pair[side] for pair in pairs])) if pairs else empty for side in (0, 1)]
    return pl.DataFrame({"user": columns[0], "item": columns[1]}), named
