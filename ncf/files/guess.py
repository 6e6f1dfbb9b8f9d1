"""Which column of a table could be the user, the item or the time, where no usual name says it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from ncf.files.columns import plain
from ncf.files.form import DATE, FRACTION, is_time
from ncf.files.table import Table, readable

SAMPLE = 20_000  # rows
LONGEST = 64  # mean characters of an id; longer text is prose
# Parts of names, without capitals, spaces, `_` and `-`.
HINTS = {
    "user": "user|cust|client|member|visitor|session|account|person|reader|player|email|buyer|shopper|patient|student|"
    "kund|nutzer|usuario|utilis",
    "item": "item|prod|article|movie|film|book|song|track|artist|album|game|title|sku|stock|shop|place|venue|location|"
    "video|news|recipe|anime|^app|hotel|course|business|restaurant|beer|asin|isbn|content|artikel",
}
AN_ID = re.compile(r"(id|sku|code|key|asin|isbn|email|mail)$")
COUNTS = re.compile(r"(plays?|playcount|count|quantity|qty|hours|minutes|seconds|freq|frequency|ratio|listens|clicks)$")


@dataclass(frozen=True, eq=False)
class Profile:
    """A column of the sample: how many different values it has, and what the values can be."""

    name: str
    distinct: int
    can_be_id: bool
    has_fractions: bool
    can_be_time: bool
    values: pl.Series


def profiles(table: Table) -> list[Profile]:
    """The columns of the first rows of a table."""
    kinds = (pl.String, pl.Categorical, pl.Enum, pl.Date, pl.Datetime)
    names = [name for name in table.names if table.dtypes[name].is_numeric() or table.dtypes[name] in kinds]
    with readable(table.shown):
        frame = table.frame.select(pl.col(names).cast(pl.String)).head(SAMPLE).collect()
    return [_profile(frame[name]) for name in names]


def guess_ids(columns: Collection[Profile], known: dict[str, str]) -> dict[str, str]:
    """Names of the columns of users and of items, those that are `known` included; fewer than two if nothing fits.

    A name that reminds of users or items goes before. Else they are the two columns with the most different values, and
    the user is the first of the two. Where a known column has another value in each row, nothing is guessed: the table
    is a list of users or items, not of interactions.
    """
    found = dict(known)
    if any(each.name in known.values() and not each.can_be_id for each in columns):
        return found
    able = [each for each in columns if each.can_be_id and each.name not in known.values()]
    for what in HINTS:
        named = [each for each in able if re.search(HINTS[what], plain(each.name))]
        named = [each for each in named if _says_id(each) or not each.has_fractions]
        if what not in found and named:
            best = max(named, key=lambda each: (_says_id(each), each.distinct))
            found[what] = best.name
            able.remove(best)
    missing = [what for what in HINTS if what not in found]
    able = [each for each in able if not each.has_fractions]
    best_first = sorted(able, key=lambda each: (each.can_be_time, -each.distinct))[: len(missing)]
    if len(best_first) == len(missing):
        names = [each.name for each in able if each in best_first]
        found |= dict(zip(missing, names, strict=True))
    return found


def guess_time(columns: Collection[Profile], used: Collection[str]) -> str | None:
    """The name of the column that is most likely the time of a row; None if no column can be."""
    able = [each for each in columns if each.can_be_time and each.name not in used]
    return max(able, key=lambda each: each.distinct).name if able else None


def _says_id(column: Profile) -> bool:
    return bool(AN_ID.search(plain(column.name)))


def _profile(column: pl.Series) -> Profile:
    values = column.drop_nulls().str.strip_chars()
    values = values.filter(values != "")
    distinct = values.n_unique()
    first = values.head(1000)
    times = distinct > 1 and all(map(is_time, first)) and not plain(column.name).endswith("id")
    dates = bool(len(values)) and all(map(DATE.match, first))
    text = values.str.contains(r"^[\[{]").any() or (values.str.len_chars().mean() or 0) > LONGEST  # type: ignore[operator]
    fractions = values.str.contains(FRACTION.pattern).any() and values.cast(pl.Float64, strict=False).null_count() == 0
    repeats = 2 <= distinct < len(values) and 2 * len(values) >= len(column)
    return Profile(column.name, distinct, repeats and not dates and not text, fractions, times, values)
