"""Find out how files can be read as interactions: the options that are missing, by errors' remedies and by guesses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import polars as pl

from ncf.data.load import has_own_split, load_split, split_source
from ncf.data.splits import Split, SplitOptions
from ncf.errors import InputError
from ncf.files.columns import FIELDS, RATINGS, SYNONYMS, names_for, plain
from ncf.files.find import Found, find_files
from ncf.files.guess import COUNTS, Profile, guess_ids, guess_time, profiles
from ncf.files.open import open_table
from ncf.files.reading import Columns, Reading
from ncf.files.rows import BLANK, HEADER, LIGHT, OTHER, REASONS
from ncf.files.source import Source, open_source

MOST_FILES = 16  # of a folder, that are tried one by one
MOST_EVENTS = 10
NO_FAULTS = [REASONS[why] for why in (BLANK, HEADER, LIGHT, OTHER)]
MOST_BAD = 0.5  # share of rows; above it the columns are wrong, not the rows
GUESSES = {
    "names": "there is no header, so the columns are named by their values",
    "encoding": "the text is not UTF-8 and is read as {value}; see whether letters with accents are right",
    "skip_bad_rows": "rows that cannot be read are left out",
    "user_id": "'{value}' is taken for the user",
    "item_id": "'{value}' is taken for the item",
    "timestamp": "'{value}' is taken for the time",
    "event": "'{value}' is taken for the event",
}


@dataclass(frozen=True)
class Proposal:
    """Options with which data can be read, what was guessed, what more could be used, and what was read with them."""

    data: Sequence[Path]
    columns: Columns
    reading: Reading
    split: Split
    look: Sequence[str]
    guesses: Sequence[str] = ()
    hints: Sequence[str] = ()


def propose(data: Sequence[Path], columns: Columns, reading: Reading) -> Proposal:
    """The options that are given, and those that the data need beside them. Raises InputError if nothing is found."""
    if once := [path for path in data if str(path) == "-" or (path.exists() and not (path.is_file() or path.is_dir()))]:
        raise InputError(f"{once[0]} can be read only once, and inspect reads several times; write it to a file first")
    if own := [path for path in data if has_own_split(path)]:
        split = load_split(data, SplitOptions(columns, reading))
        look = (f"data: {own[0]}, a folder with a split of its own", *split.look)
        return Proposal(data, columns, reading, split, look)
    try:
        return _of_files(data, columns, reading)
    except InputError:
        found = list(_each_alone(data, columns, reading))
        if not found:
            raise
        best = max(found, key=lambda each: len(each.split.train))
        why = f"of the tables in {data[0]}, {best.data[0].name} has the most interactions"
        return replace(best, guesses=[why, *best.guesses])


def _each_alone(data: Sequence[Path], columns: Columns, reading: Reading) -> Iterator[Proposal]:
    """The proposals for those files of a folder that can be read alone."""
    if len(data) > 1 or not data[0].is_dir():
        return
    with TemporaryDirectory(prefix="ncf-") as scratch:
        files = find_files(data, Path(scratch))
    for found in files if 1 < len(files) <= MOST_FILES else []:
        try:
            yield _of_files([found.path], columns, reading)
        except InputError:
            continue


def _of_files(data: Sequence[Path], columns: Columns, reading: Reading) -> Proposal:
    """The proposal for files without a split of their own."""
    guesses, given = dict[str, Any](), columns.timestamp
    bad: InputError | None = None
    with TemporaryDirectory(prefix="ncf-") as folder:
        while True:
            scratch = Path(mkdtemp(dir=folder))
            try:
                source, split, columns = _read(data, columns, reading, scratch, bad)
                break
            except InputError as error:
                remedy = error.remedy or _guessed_ids(data, columns, reading, scratch)
                if not remedy or remedy.items() <= guesses.items():
                    raise
                bad = error if "skip_bad_rows" in remedy else bad
                guesses |= remedy
                columns = replace(columns, **_part(Columns, remedy))
                reading = replace(reading, **_part(Reading, remedy))
                shutil.rmtree(scratch)
        hints = list(_hints(source, split))
    guesses |= {"timestamp": columns.timestamp} if columns.timestamp != given else {}
    said = [words.format(value=guesses[what]) for what, words in GUESSES.items() if what in guesses]
    return Proposal(data, columns, reading, split, split.look, said, hints)


def _read(
    data: Sequence[Path], columns: Columns, reading: Reading, scratch: Path, bad: InputError | None
) -> tuple[Source, Split, Columns]:
    """The files, their split, and the columns with the one that is guessed to be the time.

    Raises InputError; it is `bad`, the error of the first row that is skipped, if most rows would be skipped.
    """
    source = open_source(data, columns, reading, scratch)
    if not source.roles.timestamp and (time := guess_time(profiles(source.tables[0]), source.roles.used.values())):
        timed = replace(columns, timestamp=time)
        with suppress(InputError):  # these are no times, or another error will be raised below
            source_of_times = open_source(data, timed, reading, scratch)
            return source_of_times, _split(source_of_times, timed, bad), timed
    return source, _split(source, columns, bad), columns


def _split(source: Source, columns: Columns, bad: InputError | None) -> Split:
    if bad:
        with suppress(InputError):  # no row is left
            len(source.users.ids), len(source.items.ids)  # the rows that are left out are known when the ids are
        faults = sum(left.rows for left in source.left_out if left.why not in NO_FAULTS)
        if faults > MOST_BAD * source.num_rows:
            raise bad
    return split_source(source, SplitOptions(columns, source.reading))


def _guessed_ids(data: Sequence[Path], columns: Columns, reading: Reading, scratch: Path) -> dict[str, str]:
    """The columns of users and items by the content of the first table; nothing if usual names say both."""
    found: Found = find_files(data, scratch)[0]
    table = open_table(found, scratch, columns, reading)
    if table is None:
        return {}
    known = {}
    for what, field in FIELDS.items():
        given = getattr(columns, field)
        if names := [given] if given else names_for(what, table.names, reading):
            known[what] = names[0]
    if not set(known.values()) <= set(table.names):
        return {}
    ids = guess_ids(profiles(table), known)
    return {FIELDS[what]: name for what, name in ids.items() if what not in known} if len(ids) == 2 else {}


def _part(kind: type, remedy: dict[str, Any]) -> dict[str, Any]:
    return {field.name: remedy[field.name] for field in fields(kind) if field.name in remedy}


def _hints(source: Source, split: Split) -> Iterator[str]:
    """What is not used and could be."""
    for each in profiles(source.tables[0]):
        if each.name not in source.unused:
            continue
        number = each.values.cast(pl.Float64, strict=False)
        positive = len(number) > 0 and number.null_count() == 0 and (number >= 0).all()
        usual = plain(each.name) in RATINGS.split()
        if usual or (positive and "rating" in plain(each.name)):
            named = "" if usual else f" --weight-column {quote(each.name)}"
            yield f"'{each.name}' is not used; --min-weight 4{named} leaves out rows in which it is below 4"
        elif positive and COUNTS.search(plain(each.name)):
            yield f"'{each.name}' is not used; --weight-column {quote(each.name)} makes it the weight"
        elif not source.roles.event and 2 <= each.distinct <= MOST_EVENTS and _is_event(each):
            words = each.values.value_counts(sort=True)[each.name]
            weights = ",".join(f"{word}={weight}" for weight, word in enumerate(words, start=1))
            named = "" if plain(each.name) in SYNONYMS["event"].split() else f" --event-column {quote(each.name)}"
            yield f"rows of every '{each.name}' count alike; --event-weights {quote(weights)}{named} changes that"
    if source.times and not source.unit:
        yield f"the unit of '{source.roles.timestamp}' is unknown; its order is used, and --half-life cannot be"
    repeats = sum(source.num_good) - len(split.train) - len(split.held_out)
    if repeats > 0.1 * source.num_rows and not source.reading.sum_repeats:
        yield f"{repeats:,} rows repeat a pair of user and item; --sum-repeats adds their weights"


def _is_event(column: Profile) -> bool:
    words = column.values.str.contains(r"^[A-Za-z][A-Za-z_ -]*$").all()
    return words and any(word in plain(column.name) for word in ("event", "action", "behavi", "type"))
