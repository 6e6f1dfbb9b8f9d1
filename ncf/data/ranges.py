"""Sort rows that do not fit into memory: files by ranges of users, and from those the arrays of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.interactions import count_indices
from ncf.data.k_core import Mask
from ncf.data.prepared import ArrayFile
from ncf.data.protocols import NumOf, latest_rows
from ncf.data.random_order import Order

OnProgress = Callable[[str, int, int], None]
T = TypeVar("T")
Rows = dict[str, npt.NDArray[Any]]  # arrays user, item, row and, if there are any, time and weight [N]
ROWS_A_RANGE = 2**23
MAX_RANGES = 256  # the files of all ranges are open at the same time


def watched(values: Iterable[T], what: str, total: int, on_progress: OnProgress) -> Iterator[T]:
    """Pass the values on, and report each one after the caller has finished with it."""
    for number, value in enumerate(values, start=1):
        yield value
        on_progress(what, number, total)


def write_ranges(
    folder: Path,
    batches: Iterable[npt.NDArray[Any]],
    record: np.dtype[Any],
    of_user: npt.NDArray[np.int64],
    on_progress: OnProgress,
) -> list[Path]:
    """Write rows to files, all rows of a user to one file; `of_user` [num_users] is the number of rows of each user."""
    total, done = int(of_user.sum()), 0
    first = of_user.cumsum() - of_user
    range_of = np.unique(first // max(ROWS_A_RANGE, -(-total // MAX_RANGES)), return_inverse=True)[1]
    paths = [folder / f"{number}.rows" for number in range(int(range_of[-1]) + 1)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for records in batches:
            on_progress("reading rows", done, total)
            number = range_of[records["user"]]
            ends = np.bincount(number, minlength=len(files)).cumsum()
            for file, rows in zip(files, np.split(records[number.argsort(kind="stable")], ends[:-1]), strict=True):
                file.write(rows.data)
            done += len(records)
    on_progress("reading rows", done, total)
    return paths


def distinct(file: Path, record: np.dtype[Any], num_items: int, sum_repeats: bool) -> tuple[Rows, int]:
    """Sort the rows of a file by user and item, merge those of a pair, and map one file for each column.

    Of a pair the latest row stays, with the sum of the weights if so. Also returns the number of rows that went.
    """
    rows = np.fromfile(file, record)
    file.unlink()
    frame = pl.DataFrame({name: rows[name] for name in record.names or ()})
    pair = pl.col("user").cast(pl.Int64) * num_items + pl.col("item")
    frame = frame.sort(pair, *(["time"] if "time" in frame.columns else []), "row")
    if sum_repeats:
        frame = frame.with_columns(pl.col("weight").sum().over(pair))
    frame = frame.filter((pair != pair.shift(-1)).fill_null(True))
    maps = {}
    for name in frame.columns:
        path = file.with_suffix(f".{name}.npy")
        np.save(path, frame[name].to_numpy())
        maps[name] = np.load(path, mmap_mode="r")
    return maps, len(rows) - len(frame)


def in_core(ranges: Iterable[Rows], users: Mask, items: Mask) -> Iterator[Rows]:
    """The rows whose user [num_users] and item [num_items] stay, in the new indices."""
    user_of, item_of = (np.cumsum(mask, dtype=np.int32) - 1 for mask in (users, items))
    for rows in ranges:
        kept = users[rows["user"]] & items[rows["item"]]
        left = {name: values[kept] for name, values in rows.items()}
        yield {**left, "user": user_of[left["user"]], "item": item_of[left["item"]]}


def write_arrays(
    folder: Path, ranges: Iterable[Rows], num_users: int, with_weight: bool, order: Order | None, nums: Sequence[NumOf]
) -> tuple[npt.NDArray[np.int64], dict[str, int], npt.NDArray[Any] | None]:
    """Split the rows, by `order` or else by their times, and write the arrays of a prepared folder.

    `nums` say how many rows of a user are held out, and how many of the others choose the epoch.

    Returns the number of items of each user [num_users], the lengths of the arrays by name, and the first and last time
    of held-out items, if there are times.
    """
    of_user, in_train = (np.zeros(num_users, np.int64) for _ in range(2))
    lengths = dict.fromkeys(("train", "held_out", "validation"), 0)
    spans = []
    with ExitStack() as stack:

        def array(name: str, dtype: npt.DTypeLike) -> ArrayFile:
            return stack.enter_context(ArrayFile(folder / f"{name}.npy", dtype))

        pairs = {name: [array(f"{name}_{of}_index", np.int32) for of in ("user", "item")] for name in lengths}
        weight = array("train_weight", np.float32) if with_weight else None
        for rows in ranges:
            user, item = rows["user"], rows["item"]
            time = order(user, item) if order else rows["time"]
            held, before = latest_rows(user, (time, rows["row"]), *nums)
            if "time" in rows and len(held):
                spans += [time[held].min(), time[held].max()]
            keep = np.ones(len(user), bool)
            keep[held] = keep[before] = False
            for name, chosen in (("train", np.flatnonzero(keep)), ("held_out", held), ("validation", before)):
                pairs[name][0].append(user[chosen])
                pairs[name][1].append(item[chosen])
                lengths[name] += len(chosen)
            if weight is not None:
                weight.append(rows["weight"][keep])
            of_user += count_indices(user, num_users)
            in_train += count_indices(user[keep], num_users)
        array("train_indptr", np.int64).append(np.append(0, in_train.cumsum()))
    return of_user, lengths, np.array(spans) if spans else None
