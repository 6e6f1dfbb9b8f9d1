"""What was read, in five lines, so that nothing is lost in silence."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.data.splits import HeldOut, Split, SplitOptions
from ncf.errors import brief
from ncf.files.columns import some_names
from ncf.files.source import Source
from ncf.files.values import SECONDS

MEANINGS = {"user": "users", "item": "items", "weight": "weights", "timestamp": "times", "event": "events"}


def look_at(
    source: Source, num_users: int, num_items: int, num_pairs: int, repeated: int, held_out: str
) -> tuple[str, ...]:
    """The lines: files and rows, users and items, columns, rows left out, held-out items; then notes."""
    files = source.tables[0].shown if len(source.tables) == 1 else f"{len(source.tables)} files"
    left = [str(each) for each in source.left_out]
    if repeated:
        kept = "their weights are added" if source.reading.sum_repeats else "the latest of each is kept"
        left.append(f"{repeated:,} repeated pairs of user and item ({kept})")
    used = [f"{brief(name)} ({meaning_of(source, what)})" for what, name in source.roles.used.items()]
    unused = f"; not used: {some_names(source.unused)}" if source.unused else ""
    return (
        f"read: {files}, {source.num_rows:,} rows",
        f"users and items: {num_users:,} and {num_items:,}, with {num_pairs:,} interactions, "
        f"{100 * num_pairs / max(1, num_users * num_items):.3g} % of all pairs",
        f"columns: {', '.join(used)}{unused}",
        f"left out: {'; '.join(left) or 'nothing'}",
        f"held out: {held_out}",
        *(f"note: {note}" for note in source.notes),
    )


def folder_look(folder: Path, split: Split) -> tuple[str, ...]:
    """The lines for a folder that has a split of its own."""
    train, held_out, users = split.train, split.held_out, len(np.unique(split.held_out.user_index))
    return (
        f"read: {folder}, {len(train) + len(held_out):,} interactions, with a split of its own",
        f"users and items: {train.num_users:,} and {train.num_items:,}, with {len(train):,} interactions to train on",
        f"held out: {len(held_out):,} items of {users:,} users, in the folder's own files",
    )


def held_out_words(options: SplitOptions, time: npt.NDArray[Any] | None, unit: str, name: str | None) -> str:
    """How the held-out items of each user were chosen; `time` [T] are the times of these items."""
    num = options.held_out
    which = "item" if num == 1 else f"{num} items"
    of_each = "a random item of each user" if num == 1 else f"{num} random items of each user"
    if options.split == "ratio":
        which = f"{100 * options.share:.3g} % of the items"
        of_each = f"a random {100 * options.share:.3g} % of each user's items"
    if time is None:
        return f"{of_each}, for there is no column of times"
    span = ""
    if len(time):
        span = f", {time_text(time.min(), unit)} to {time_text(time.max(), unit)}"
    return f"each user's latest {which} by {name}{span}"


def time_words(cut: Any, share: float, num: int, unit: str, name: str, unknown: str, again: int) -> str:
    """How a cut at one time held out `num` interactions, and what comes later but is left out.

    `share` of the rows are later: where many have the same time, that is not the share that was asked for.
    """
    repeats = f"; {again:,} repeat a pair of before" if again else ""
    return (
        f"{num:,} interactions from {time_text(cut, unit)} on by {name}, the latest {100 * share:.3g} % of all"
        f"{unknown}{repeats}"
    )


def unknown_words(pairs: HeldOut) -> str:
    """How many of the pairs are left out, because the training lacks their user or item (-1)."""
    left = len(pairs) - int(pairs.known.sum())
    if not left:
        return ""
    users, items = (int((index < 0).sum()) for index in (pairs.user_index, pairs.item_index))
    return f"; {left:,} are left out, for the training has no such user ({users:,}) or item ({items:,})"


def time_text(value: Any, unit: str) -> str:
    """A time as a date; as the number if its unit is unknown."""
    if unit:
        try:
            return datetime.fromtimestamp(float(value) * SECONDS[unit], timezone.utc).strftime("%Y-%m-%d")
        except (OverflowError, ValueError, OSError):
            pass
    return f"{np.asarray(value).item():,}"


def meaning_of(source: Source, what: str) -> str:
    if what == "timestamp" and source.times != "dates":
        return f"times in {source.unit}" if source.unit else "times"
    return MEANINGS[what]
