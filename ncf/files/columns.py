"""Which column of a file means what: named by the user, by our own names, or by names that public data have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ncf.errors import InputError, brief
from ncf.files.reading import Columns, Reading
from ncf.files.table import Table

OPTIONS = {
    "user": "--user-column", "item": "--item-column", "weight": "--weight-column", "timestamp": "--timestamp-column",
    "event": "--event-column",
}  # fmt: skip
OURS = {"user": "user_id", "item": "item_id", "weight": "weight", "timestamp": "timestamp", "event": "event"}
FIELDS = {"user": "user_id", "item": "item_id"}  # of Columns, where they differ from the meaning
# As in public data; compared without capitals, spaces, `_` and `-`.
SYNONYMS = {
    "user": "user userid uid customer customerid visitorid reviewerid accountid memberid clientid",
    "item": "item itemid iid movie movieid article articleid product productid isbn asin bookid sku trackid songid "
    "artistid gameid businessid newsid recipeid",
    "timestamp": "timestamp time ts at date datetime tdat eventtime unixreviewtime createdat unixtime",
    "event": "event eventtype behavior behaviour action",
}
MOST_SHOWN = 12  # names in a message
RATINGS = "rating ratings bookrating stars score overall userrating"


@dataclass(frozen=True)
class Roles:
    """The name in the file of each column that is used; None for one that the file does not have."""

    user: str
    item: str
    weight: str | None = None
    timestamp: str | None = None
    event: str | None = None

    @property
    def used(self) -> dict[str, str]:
        """The names by their meaning."""
        named = {"user": self.user, "item": self.item}
        others = {"weight": self.weight, "timestamp": self.timestamp, "event": self.event}
        return named | {what: name for what, name in others.items() if name is not None}


def find_roles(names: Sequence[str], columns: Columns, reading: Reading, where: str) -> tuple[Roles, list[str]]:
    """The roles of a file's columns, and what to tell the user about them.

    Raises InputError for a column that is missing, or that two names fit.
    """
    given = {
        "user": columns.user_id, "item": columns.item_id, "weight": columns.weight, "timestamp": columns.timestamp,
        "event": columns.event,
    }  # fmt: skip
    if columns.event and not reading.event_weights:
        raise InputError("--event-column needs --event-weights, such as --event-weights view=1,cart=3,buy=10")
    found: dict[str, str | None] = {}
    notes: list[str] = []
    for what, name in given.items():
        if what == "event" and not reading.event_weights:
            continue
        if name is not None:
            if name not in names:
                raise missing_column(names, name, where, OPTIONS[what])
            found[what] = name
            continue
        fitting = names_for(what, names, reading)
        if len(fitting) == 1:
            found[what] = fitting[0]
        elif len(fitting) > 1 and (what in ("user", "item", "event") or (what == "weight" and reading.min_weight)):
            raise InputError(
                f"{where} has {' and '.join(quoted(fitting))}, and each could be the {what}; name one with "
                f"{OPTIONS[what]}",
                **{FIELDS.get(what, what): likeliest(what, fitting)},
            )
        elif fitting:
            notes.append(
                f"{' and '.join(quoted(fitting))} could each be the {what}, so none is used: {OPTIONS[what]} names one"
            )
        elif what in ("user", "item", "event") or (what == "weight" and reading.min_weight):
            raise missing_column(names, OURS[what], where, OPTIONS[what])
    if reading.half_life and not found.get("timestamp"):
        raise InputError(f"{where} has no column of times, which half_life needs; name it with --timestamp-column")
    chosen = [name for name in found.values() if name]
    if twice := [name for name in chosen if chosen.count(name) > 1]:
        raise InputError(f"{where}: column '{twice[0]}' is used for two things; give each its own column")
    return Roles(**found), notes  # type: ignore[arg-type]


def common_roles(tables: Sequence[Table], columns: Columns, reading: Reading) -> tuple[Roles, list[str]]:
    """The roles of the columns of all files, and what to tell the user. Raises InputError if the files disagree."""
    found, failed = list[tuple[Table, Roles, list[str]]](), list[tuple[Table, InputError]]()
    for table in tables:
        try:
            found.append((table, *find_roles(table.names, columns, reading, table.shown)))
        except InputError as error:
            failed.append((table, error))
    if failed and found:
        raise InputError(
            f"{failed[0][0].shown} holds no interactions ({some_names(failed[0][0].names)}), and "
            f"{', '.join(table.shown for table, *_ in found[:5])} can; give only such files, as {_command(found[0][0])}"
        )
    if failed:
        raise failed[0][1]
    (first, roles, notes), *others = found
    for table, other, _ in others:
        if other != roles:
            what = next(what for what in OPTIONS if roles.used.get(what) != other.used.get(what))
            has = [roles.used.get(what), other.used.get(what)]
            lack, name = (0, has[1]) if has[0] is None else (1, has[0])
            pair = [first.shown, table.shown]
            raise InputError(
                f"{pair[lack]} has no column '{name}' and {pair[1 - lack]} has; give it to all files or to none"
            )
    return roles, notes


def require_same_columns(tables: Sequence[Table]) -> None:
    """Raises InputError for files found in a folder whose columns differ: they are hardly parts of one table."""
    first = tables[0]
    for table in tables[1:]:
        if set(table.names) != set(first.names):
            raise InputError(
                f"{first.shown} has the columns {some_names(first.names)}, and {table.shown} has "
                f"{some_names(table.names)}, so they are hardly parts of one table; give the files that you mean, as "
                f"{_command(first)}"
            )


def _command(table: Table) -> str:
    return f"--data {shlex.quote(table.shown)}"


def missing_column(names: Sequence[str], name: str, where: str, option: str) -> InputError:
    one = "; is it separated in another way? --separator names the sign" if len(names) == 1 else ""
    return InputError(
        f"{where} has no column '{name}'; it has {some_names(names)}{one}. Name yours with {option}; for a file "
        "without a header give --no-header and --columns"
    )


def some_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(map(brief, names[:MOST_SHOWN])) + more


def quoted(names: Sequence[str]) -> list[str]:
    return [f"'{brief(name)}'" for name in names]


def likeliest(what: str, fitting: Sequence[str]) -> str:
    """Of names that could all be one thing, the likeliest: one of ids, then the usual order of our list."""
    words = SYNONYMS.get(what, RATINGS).split()
    return min(fitting, key=lambda name: (not plain(name).endswith("id"), words.index(plain(name))))


def plain(name: str) -> str:
    """A name without capitals, spaces, `_` and `-`."""
    return re.sub(r"[\s_-]", "", name).lower()


def names_for(what: str, names: Sequence[str], reading: Reading) -> list[str]:
    """The names that could be the user, the item, the weight, the timestamp or the event; ours goes before all."""
    if OURS[what] in names:
        return [OURS[what]]
    words = SYNONYMS.get(what, "weight")
    if what == "weight" and reading.wants_weights:
        words = RATINGS
    return [name for name in names if plain(name) in words.split()]
