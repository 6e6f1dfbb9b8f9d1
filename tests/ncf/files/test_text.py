from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncf.errors import InputError
from ncf.files import survey, text
from ncf.files.find import Found
from ncf.files.reading import Columns, Reading
from ncf.files.table import Table
from ncf.files.text import open_text

SIGNS = [",", ";", "|", "\t", "::", "^", " "]


def opened(folder: Path, content: str | bytes, name: str = "x.csv", **reading: object) -> Table | None:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    scratch = Path(tempfile.mkdtemp(dir=folder))
    return open_text(path, Found(path, name), Columns(), Reading(**reading), scratch)  # type: ignore[arg-type]


def rows_of(table: Table | None) -> list[tuple[str, ...]]:
    """The rows that are not blank; a missing value is the empty text."""
    assert table is not None
    frame = table.frame.select(table.names).collect().fill_null("")
    return [row for row in frame.rows() if any(row)]


SIGNS_OF_FIELDS = [*'ab1",;|\n\té ☃']
PLAIN = st.text(alphabet=[*"ab1é", "☃"], min_size=1, max_size=4)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, str, list[list[str]]]:
    """A sign, a file as Python's csv writes it, with any quoting, line ends and blank lines, and its rows."""
    sign = draw(st.sampled_from([",", ";", "|"]))
    width = draw(st.integers(2, 4))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    more = ["\r"] if quoting == csv.QUOTE_ALL else []  # Python writes it without quotes otherwise
    field = st.text(alphabet=SIGNS_OF_FIELDS + more, max_size=8)
    first = draw(st.lists(PLAIN, min_size=3, max_size=8))
    rows = [[name, *(draw(field) for _ in range(width - 1))] for name in first]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    parts = []
    for row in [[f"c{number}" for number in range(width)], *rows]:
        target = io.StringIO()
        csv.writer(target, delimiter=sign, quoting=quoting, lineterminator=end).writerow(row)
        parts += [target.getvalue(), end * draw(st.integers(0, 1))]
    content = "".join(parts)
    return sign, content.rstrip("\r\n") if draw(st.booleans()) else content, rows


@given(tables(), st.integers(1, 40), st.integers(1, 3))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_python_writes_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: tuple[str, str, list[list[str]]], block: int, rows: int
) -> None:
    monkeypatch.setattr(survey, "BLOCK", block)
    monkeypatch.setattr(text, "BLOCK", block)
    monkeypatch.setattr(text, "ROWS", rows)
    sign, content, wanted = table
    assert rows_of(opened(tmp_path, content, separator=sign)) == [tuple(row) for row in wanted]


@pytest.mark.parametrize("head", [24, 2**18])
@pytest.mark.parametrize("block", [1, 2, 3, 5, 2**24])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("sign", SIGNS)
def test_any_separator_and_line_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str, end: str, block: int, head: int
) -> None:
    monkeypatch.setattr(survey, "BLOCK", block)
    monkeypatch.setattr(text, "BLOCK", block)
    monkeypatch.setattr(text, "HEAD", head)
    rows = [("a", "x", "1"), ("b", "", "2"), ("c", "z", "")]
    content = "".join(sign.join(row) + end for row in [("user_id", "item_id", "n"), *rows])
    given = {"separator": sign} if sign == "^" or head == 24 else {}
    assert rows_of(opened(tmp_path, content, "x.txt", **given)) == rows


def place_of(table: Table | None, value: str) -> str:
    assert table is not None
    frame = table.frame.with_row_index("row").filter(pl.col(table.names[0]) == value).select("row").collect()
    return table.place(int(frame.item()))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("user_id,item_id\na,x\nLAST,y\n", 3),
        ("# comment\n\n\nuser_id,item_id\n\na,x\n\n\nLAST,y\n", 9),
        ('user_id,item_id\n"a",x\n\nLAST,y\n', 4),
        ('user_id,item_id\n"a\nb",x\n\nLAST,y\n', 5),
        ('user_id,item_id\r\n"a\r\nb",7" single\r\n\r\nLAST,y\r\n', 5),
        ('user_id,item_id\na,"x\ry"\nb,7" single\nLAST,y\n', 4),
        ("\r\n\r\nuser_id,item_id\r\nLAST,y\r\n", 4),
    ],
)
def test_a_row_knows_its_line(tmp_path: Path, content: str, line: int) -> None:
    assert place_of(opened(tmp_path, content), "LAST") == f"line {line}"


TITLES = (
    'user_id,item_id,title\na,x,"Heroes\nb,x,Low\nc,z,Low\na,y,Low\na,z,Low\nb,y,vinyl 12"\nb,z,ok\nc,y,ok\nc,q,ok\n'
)


def test_tab_separated_quotes_are_text(tmp_path: Path) -> None:
    rows = rows_of(opened(tmp_path, TITLES.replace(",", "\t"), "x.tsv"))
    assert len(rows) == 9
    assert rows[0] == ("a", "x", '"Heroes')


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_that_swallows_rows_is_an_error_that_names_its_line(tmp_path: Path, end: str) -> None:
    with pytest.raises(
        InputError, match=r"the quote in line 2 is closed in line 7 only, and the lines between look lik"
    ):
        opened(tmp_path, TITLES.replace("\n", end))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('user_id,item_id\na,x\nb,"y\nc,z\n', "the quote that begins a field in line 3 is never closed; close it"),
        ('user_id,item_id\na,x\nb,"y\nc"\nd,"e"f\n', "begins a field in line 5 ends amid a field in line 5"),
        (
            "user_id,item_id\na,x,5\n",
            "line 2 has more fields than the header has names (2), separated by comma: 'a,x,5'",
        ),
        ('user_id,item_id\na,"x",5\n', "line 2 has more fields than the header has names (2)"),
        (
            "user_id::item_id\na::x::5\n",
            "separated by '::': 'a::x::5'; correct it, or leave such lines out with --skip-bad",
        ),
        ('user_id,item_id\na,7" single\nb,\rx\n', r"line 3 has a carriage return (\r) amid a field without quotes"),
        ("user_id,item_id\na,x" + ",y" * 9999, "line 2 has more fields than the header has names"),
    ],
)
def test_rows_that_are_not_whole_are_errors(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        opened(tmp_path, content)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_rows_with_too_many_fields_are_left_out_and_counted(tmp_path: Path) -> None:
    for quote in ("", '"'):
        table = opened(tmp_path, f"user_id,item_id\n{quote}a{quote},x\nb,y,5\n\nc,z\nd,y,6,7\n", skip_bad_rows=True)
        assert table is not None
        assert rows_of(table) == [("a", "x"), ("c", "z")]
        assert table.left_out == {"with too many fields": (2, "line 3")}


@pytest.mark.parametrize(
    "content",
    [
        'user_id,item_id,review\na,x,"good\nbut, too, long"\nb,x,"ok"\n',  # text with the commas of a row
        'user_id,item_id,review\na,x,"He said: ""no""\n\nthen, later, yes"\nb,"y",ok\n',
        'user_id,item_id,review\na,x,"one\n1,2,3"\nb,y,"two\n1,2,3"\n',
    ],
)
def test_text_of_several_lines_stays_text(tmp_path: Path, content: str) -> None:
    assert rows_of(opened(tmp_path, content)) == [tuple(row) for row in csv.reader(io.StringIO(content))][1:]


@pytest.mark.parametrize("end", ["u,i\n", "u,i,too,many\n", 'u,"never closed\n'])
def test_a_long_field_is_read_and_the_processs_own_limit_stays(tmp_path: Path, end: str) -> None:
    limit, long = csv.field_size_limit(), "x" * 140_000
    content = f'user_id,item_id\na,7" single\nb,{long}\n' + end
    if end == "u,i\n":
        assert rows_of(opened(tmp_path, content))[1] == ("b", long)
    else:
        with pytest.raises(InputError):
            opened(tmp_path, content)
    assert csv.field_size_limit() == limit


def test_a_quote_amid_a_field_is_text(tmp_path: Path) -> None:
    content = 'user_id,item_id\na,7" single\na,x\na,y\nb,x\nb,y\nb,z\n'
    assert rows_of(opened(tmp_path, content))[0] == ("a", '7" single')
    assert len(rows_of(opened(tmp_path, content))) == 6


@pytest.mark.parametrize("content", ["", "\n\n \n", "user_id,item_id\n", "user_id,item_id", "# x\nuser_id,item_id\n\n"])
def test_a_file_without_rows_is_none_or_blank(tmp_path: Path, content: str) -> None:
    table = opened(tmp_path, content)
    assert table is None or not rows_of(table)


def test_line_ends_of_old_macs_give_a_short_message(tmp_path: Path) -> None:
    content = "user,x\r" + "1,2\r" * 300_000
    with pytest.raises(InputError) as caught:
        opened(tmp_path, content, no_header=True, names="a,b,c")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_lines_of_spaces_and_ctrl_z_are_no_rows(tmp_path: Path, quote: str, end: str) -> None:
    lines = ["", "user_id,item_id", "", "  ", f"{quote}a{quote},x", "\t", "b,y", " ", "\x1a"]
    for unquoted in ("", 'c,7" single'):
        table = opened(tmp_path, end.join([*lines[:7], unquoted, *lines[7:]]))
        assert rows_of(table) == [("a", "x"), ("b", "y"), *([("c", '7" single')] if unquoted else [])]
        assert place_of(table, "b") == "line 7"


def test_wide_files_are_read(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(500)]
    content = ",".join(names) + "\n" + ",".join('"v"' for _ in names) + "\n" + ",".join("7" for _ in names) + "\n"
    assert len(rows_of(opened(tmp_path, content))[0]) == 500
    with pytest.raises(InputError, match="line 3 has more fields than the header has names"):
        opened(tmp_path, content.rstrip("\n") + ",8\n")
