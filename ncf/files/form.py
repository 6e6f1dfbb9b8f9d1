"""The form of a text file, from its first lines: separator, quotes, header, lines before the table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ncf.errors import InputError, brief
from ncf.files.columns import SYNONYMS, plain
from ncf.files.reading import Columns, Reading

SUFFIX_SIGNS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
SIGNS = (",", "\t", ";", "|", "::", " ")
SIGN_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe", " ": "space"}
UNIT = "\x1f"  # stands for a separator of several signs
SAMPLE_LINES = 50
# What a field of a header is not: a number, a date, or nothing.
VALUE = re.compile(r"\s*(?:[-+]?[0-9.]+(?:e[-+]?[0-9]+)?|\d{4}-\d\d-\d\d.*|nan|null)?\s*", re.IGNORECASE)
ATOMIC = re.compile(r"(.+):(?:token|float|token_seq|float_seq)")  # names in RecBole's atomic files
DIGITS = re.compile(r"[1-9]\d{8,18}(?:\.\d*)?")
DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{2,4}(?!\d)")  # in any order
FRACTION = re.compile(r"\.\d*[1-9]")
STARS = re.compile(r"\d{1,2}(?:\.[05])?")
WORD = re.compile(r"[A-Za-z_ -]+")


@dataclass(frozen=True)
class Form:
    """`sign` is the separator, `skipped` the number of lines before the first row, the header included."""

    sign: str
    quotes: bool
    skipped: int
    names: tuple[str, ...]
    header: tuple[str, ...] = ()  # its fields as they are written

    @property
    def sign_name(self) -> str:
        return SIGN_NAMES.get(self.sign, f"'{self.sign}'")


def find_form(
    lines: Sequence[str], suffix: str, reading: Reading, columns: Columns, shown: str
) -> tuple[Form, list[str]]:
    """The form of a file that begins with `lines`, and what to tell the user. Raises InputError."""
    notes, before, sign = [], 0, reading.sign
    while before < len(lines) and (not lines[before].strip() or lines[before].startswith(("#", "sep="))):
        line = lines[before]
        if line.startswith("sep=") and len(line.strip()) > 4:
            sign = sign or line.strip("\r\n")[4:]
        elif line.startswith("#"):
            if plain(line[1:].split(",")[0].split("\t")[0]) in SYNONYMS["user"].split():
                break  # a header that begins with the sign of comments
            notes.append(f"{shown}: line {before + 1} is a comment and is left out")
        before += 1
    if before == len(lines):
        raise InputError(f"{shown} holds no table, only comments and blank lines; it needs a header and rows")
    sample = list(lines[before : before + SAMPLE_LINES])
    if not sign:
        sign = _sign(sample, suffix)
        if sign != SUFFIX_SIGNS.get(suffix, sign):
            notes.append(f"{shown} is separated by {SIGN_NAMES.get(sign, repr(sign))}, whatever its name says")
    quotes = _quotes(sample, sign)
    header = fields_of(sample[0], sign, quotes)
    first = [name.strip() for name in header]
    if reading.no_header:
        names = [name.strip() for name in reading.names.split(",")]
        if len(names) != len(first):
            raise InputError(
                f"{shown} has {len(first)} columns and --columns names {len(names)}; its first row is "
                f"'{brief(sample[0])}'"
            )
        return Form(sign, quotes, before, unique(names)), notes
    if _is_row(first, sample, sign, quotes, columns):
        guessed = ",".join(guess_names(sample, sign, quotes))
        raise InputError(
            f"{shown} seems to have no header: line {before + 1} is '{brief(sample[0])}'; name its columns in their "
            f"order: --no-header --columns {guessed}",
            no_header=True,
            names=guessed,
        )
    if first[0].startswith("#"):
        first[0] = first[0].lstrip("# ")
    if all(ATOMIC.fullmatch(name) for name in first):
        first = [name.rpartition(":")[0] for name in first]
    return Form(sign, quotes, before + 1, unique(first), tuple(header)), notes


def fields_of(line: str, sign: str, quotes: bool) -> list[str]:
    """The fields of one line."""
    line = line.rstrip("\r\n")
    if not quotes:
        return line.split(sign)
    if len(sign) > 1:
        line, sign = line.replace(sign, UNIT), UNIT
    try:
        return next(csv.reader([line], delimiter=sign), [""])
    except csv.Error:  # such as a carriage return amid the line
        return line.split(sign)


def guess_names(sample: Sequence[str], sign: str, quotes: bool) -> list[str]:
    """Names for the columns of a file without a header, by their values.

    The last column of dates or of numbers that are times since 1985 is the time. Of the others that have no fractions
    the first two are user and item, as in nearly all public files; then small numbers are the weight, without
    times other numbers in the last column are a count, and few words are the event.
    """
    rows = [[value.strip() for value in fields_of(line, sign, quotes)] for line in sample]
    width = Counter(map(len, rows)).most_common(1)[0][0]
    columns = [[row[column] for row in rows if len(row) == width] for column in range(width)]
    names = [f"column_{number}" for number in range(1, width + 1)]

    def name(new: str, fit: Callable[[list[str]], bool], last: bool = False) -> None:
        fitting = [number for number in range(width) if names[number].startswith("column_") and fit(columns[number])]
        if fitting:
            names[fitting[-1 if last else 0]] = new

    if width > 2:
        name("timestamp", lambda values: all(is_time(value) for value in values), last=True)
    for new in ("user_id", "item_id"):
        name(new, lambda values: not any(DATE.match(value) or FRACTION.search(value) for value in values))
        if new not in names:
            name(new, lambda values: True)
    name("weight", lambda values: all(STARS.fullmatch(value) and float(value) > 0 for value in values))
    if names[-1] == f"column_{width}" and "timestamp" not in names:
        name("count", lambda values: all(value.isdecimal() and int(value) > 0 for value in values), last=True)
    name("event", lambda values: len(set(values)) < min(10, len(values) / 2) and all(map(WORD.fullmatch, values)))
    return names


def is_time(value: str) -> bool:
    """Whether a text looks like a date, or like seconds, milliseconds, microseconds or nanoseconds since 1970."""
    if DIGITS.fullmatch(value):
        return any(5e8 * unit <= float(value) < 5e9 * unit for unit in (1, 1e3, 1e6, 1e9))
    return bool(re.match(r"\d{4}-\d\d-\d\d", value))  # the dates that can be read


def _is_row(first: Sequence[str], sample: Sequence[str], sign: str, quotes: bool, columns: Columns) -> bool:
    """Whether the first line is a row: it names no user and no item, and has numbers or values that other rows have."""
    known = (*SYNONYMS["user"].split(), *SYNONYMS["item"].split())
    if {columns.user_id, columns.item_id} & set(first) or any(plain(name.lstrip("#")) in known for name in first):
        return False
    if all(map(VALUE.fullmatch, first)):
        return True
    rows = [[value.strip() for value in fields_of(line, sign, quotes)] for line in sample[1:]]
    rows = [row for row in rows if len(row) == len(first) and row != first]
    return any(
        name and rows and (name in values or (VALUE.fullmatch(name) and all(map(VALUE.fullmatch, values))))
        for name, values in zip(first, zip(*rows, strict=True), strict=False)
    )


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names; a second column of the same name, or one without a name, gets its number."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        name = name or f"column_{number}"
        while name in found:
            name += f"_{number}"
        found.append(name)
    return tuple(found)


def _sign(sample: Sequence[str], suffix: str) -> str:
    """The separator: that of the file's ending if it splits every line alike, else the first that does."""
    usual = SUFFIX_SIGNS.get(suffix)
    signs = [*([usual] if usual else []), *(sign for sign in SIGNS if sign != usual)]
    counts = {sign: [len(fields_of(line, sign, sign in ",;|")) for line in sample if line.strip()] for sign in signs}
    if any(counts[sign][0] > 1 for sign in signs if sign != " "):
        signs.remove(" ")  # spaces in names
    even = [sign for sign in signs if min(counts[sign]) == max(counts[sign]) > 1]
    if even:
        return even[0]
    if usual and counts[usual][0] > 1:
        return usual
    most = max(signs, key=lambda sign: counts[sign][0])
    return most if counts[most][0] > 1 else usual or ","


def _quotes(sample: Sequence[str], sign: str) -> bool:
    """Whether quotes enclose fields. Tab-separated files have none, unless each quote there is at a field's end."""
    if sign in (",", ";", "|"):
        return True
    quoted = [name for line in sample for name in line.rstrip("\r\n").split(sign) if '"' in name]
    return bool(quoted) and all(len(name) > 1 and name[0] == name[-1] == '"' for name in quoted)
