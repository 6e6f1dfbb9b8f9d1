from __future__ import annotations

import pytest

from ncf.errors import InputError, brief
from ncf.files.form import Form, find_form
from ncf.files.reading import Columns, Reading

HEADER = "user_id,item_id,timestamp"


def form_of(text: str, name: str = ".csv", columns: Columns | None = None, **reading: object) -> tuple[Form, list[str]]:
    lines = text.split("\n")
    return find_form(lines, name, Reading(**reading), columns or Columns(), "x" + name)  # type: ignore[arg-type]


def lines(sign: str, *rows: str) -> str:
    return "\n".join(row.replace(",", sign) for row in (HEADER, *rows, ""))


@pytest.mark.parametrize("sign", [",", "\t", ";", "|", "::", " "])
@pytest.mark.parametrize("name", [".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ""])
def test_the_separator_is_found_in_any_file_and_said_if_the_name_says_otherwise(sign: str, name: str) -> None:
    form, notes = form_of(lines(sign, "a,x,3", "b,y,4"), name)
    assert (form.sign, form.names, form.skipped) == (sign, tuple(HEADER.split(",")), 1)
    usual = {".csv": ",", ".tsv": "\t", ".inter": "\t"}.get(name, sign)
    assert len(notes) == (sign != usual)
    assert not notes or f"x{name} is separated by " in notes[0]


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("user_id|title|item_id\na|One, two|x\nb|Three|y\n", "|"),  # commas in some titles
        ("user_id;item_id;price\na;x;3,5\nb;y;4,5\n", ";"),  # decimal commas
        ('"user_id";"title";"item_id"\n"a";"One; two, three";"x"\n', ";"),
        ('user_id,item_id,text\na,x,"several\nlines, of, text"\nb,y,z\n', ","),
        ("user_id\titem_id\ttitle\na\tx\tOne, two\n", "\t"),
        ("1::1193::5::978300760\n1::661::3::978302109\n", "::"),
    ],
)
def test_signs_inside_values_do_not_mislead(text: str, sign: str) -> None:
    header = {} if text.startswith("user") or text.startswith('"') else {"no_header": True, "names": "u,i,w,t"}
    assert form_of(text, **header)[0].sign == sign


@pytest.mark.parametrize(
    ("given", "sign"), [("tab", "\t"), ("\\t", "\t"), ("pipe", "|"), (".*", ".*"), ("^", "^"), ("¦", "¦")]
)
def test_a_separator_that_is_given(given: str, sign: str) -> None:
    assert form_of(lines(sign, "a,x,3"), separator=given)[0].names == tuple(HEADER.split(","))


@pytest.mark.parametrize(
    ("text", "skipped", "notes"),
    [
        (lines(",", "a,x,1"), 1, []),
        ("# made by hand\n# in 2024\n" + HEADER, 3, ["line 1 is a comment", "line 2 is a comment"]),
        ("\n\n" + HEADER, 3, []),
        ("sep=;\n" + lines(";", "a,x,1"), 2, ["separated by semicolon"]),
        ("#user_id,item_id,timestamp\na,x,1", 1, []),
    ],
)
def test_lines_before_the_table(text: str, skipped: int, notes: list[str]) -> None:
    form, said = form_of(text)
    assert (form.skipped, form.names) == (skipped, tuple(HEADER.split(",")))
    assert all(word in note for word, note in zip(notes, said, strict=False))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("21\t27\t2\t1409192083\n22\t28\t1\t1409192084\n", "user_id,item_id,weight,timestamp"),
        ("196\t242\t3\t881250949\n", "user_id,item_id,weight,timestamp"),
        ("1,2,1409192083,5\n", "user_id,item_id,timestamp,weight"),
        ("1,2,2019-10-01 00:00:00,999\n", "user_id,item_id,timestamp,column_4"),
        ("1,2\n", "user_id,item_id"),
        ("1,,3\n", "user_id,item_id,weight"),
    ],
)
def test_a_file_without_a_header_gets_the_options_that_read_it_whole(text: str, names: str) -> None:
    with pytest.raises(InputError) as caught:
        form_of(text)
    assert "x.csv seems to have no header: line 1 is '" in str(caught.value)
    assert str(caught.value).endswith(f"name its columns in their order: --no-header --columns {names}")
    assert str(caught.value).isprintable()
    form, _ = form_of(text, no_header=True, names=names)
    assert (form.names, form.skipped, form.header) == (tuple(names.split(",")), 0, ())


def test_names_that_are_numbers_are_a_header_if_they_are_named() -> None:
    assert form_of("0,1\n5,7\n", columns=Columns("0", "1"))[0].names == ("0", "1")


def test_a_wrong_number_of_names_is_refused() -> None:
    with pytest.raises(InputError, match=r"x\.csv has 3 columns and --columns names 2; its first row is 'a,x,5'"):
        form_of("a,x,5\n", no_header=True, names="user_id,item_id")


def test_odd_headers() -> None:
    assert form_of("user_id:token\titem_id:token\trating:float\n", ".inter")[0].names == (
        "user_id",
        "item_id",
        "rating",
    )
    assert form_of("user_id, item_id ,,item_id\n")[0].names == ("user_id", "item_id", "column_3", "item_id_4")
    assert form_of("a_3,a,a\n")[0].names == ("a_3", "a", "a_3_3")
    assert form_of('"user_id"::"item_id"\n"a"::"x"\n')[0].names == ("user_id", "item_id")


def test_a_file_of_comments_holds_no_table() -> None:
    with pytest.raises(InputError, match=r"x\.csv holds no table, only comments and blank lines; it needs a header"):
        form_of("# one\n\n# two\n")


@pytest.mark.parametrize(
    ("text", "quotes"),
    [
        ('user_id\titem_id\na\t"x"\nb\ty\n', True),
        ('user_id\titem_id\na\t"Heroes\nb\tvinyl 12"\n', False),
        ("user_id\titem_id\na\tx\n", False),
    ],
)
def test_tab_separated_files_have_quotes_only_if_they_enclose_fields(text: str, quotes: bool) -> None:
    assert form_of(text, ".tsv")[0].quotes is quotes


def test_a_value_in_a_message_is_short_and_without_control_characters() -> None:
    assert brief("\x1b[31mred\n\t\0é☃") == r"\x1b[31mred\n\t\x00é☃"
    assert brief("a" * 1000) == "a" * 60 + "…"
    assert brief("\x1b" * 1000).isprintable()
    assert len(brief("\x1b" * 1000)) < 300
