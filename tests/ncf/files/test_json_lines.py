from __future__ import annotations

from pathlib import Path

import pytest

from ncf.errors import InputError
from ncf.files import json_lines
from ncf.files.json_lines import open_json_lines
from ncf.files.table import LINE, Table


def opened(folder: Path, content: str, skip: bool = False) -> Table:
    path = folder / "x.jsonl"
    path.write_bytes(content.encode())
    (folder / "scratch").mkdir()
    return open_json_lines(path, "x.jsonl", folder / "scratch", skip)


@pytest.mark.parametrize("rows", [1, 2, 2**15])
def test_objects_are_rows_of_text_and_nested_names_are_joined_by_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(json_lines, "ROWS", rows)
    table = opened(
        tmp_path,
        '\ufeff{"user_id": 1, "item": {"id": "x", "tags": ["a", 1]}}\r\n\n'
        '{"item": {"id": null}, "user_id": 2.5, "new": true}\n{"late": {}, "user_id": "é\\n"}\n\x1a',
    )
    assert table.names == ("user_id", "item.id", "item.tags", "new")
    assert table.frame.select(*table.names, LINE).collect().rows() == [
        ("1", "x", '["a",1]', None, 1), ("2.5", None, None, "true", 3), ("é\n", None, None, None, 4),
    ]  # fmt: skip
    assert table.place(1) == "line 3"


def test_a_name_that_comes_late_is_a_column_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "ROWS", 3)
    table = opened(tmp_path, '{"a": 1}\n' * 2000 + '{"a": 2, "timestamp": 5}\n')
    assert table.names == ("a", "timestamp")
    assert table.frame.collect()["timestamp"].to_list()[-2:] == [None, "5"]


@pytest.mark.parametrize("line", ['{"a": 1', "[1]", "7", "a,b", '{"a": 1}{"a": 2}', "{'a': 1}", '"\x1b[31m"'])
def test_a_line_that_is_no_object_is_named_or_left_out(tmp_path: Path, line: str) -> None:
    content = f'{{"a": 1}}\n\n{line}\n{{"a": 2}}\n{line}\n'
    with pytest.raises(InputError) as caught:
        opened(tmp_path, content)
    assert "x.jsonl: line 3 is not a JSON object (" in str(caught.value)
    assert "correct it, or leave such lines out with --skip-bad-rows" in str(caught.value)
    assert str(caught.value).isprintable()
    (tmp_path / "scratch").rmdir()
    table = opened(tmp_path, content, skip=True)
    assert table.frame.collect()["a"].to_list() == ["1", "2"]
    assert table.left_out == {"no JSON object": (2, "line 3")}


def test_columns_without_end_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MOST_NAMES", 10)
    table = opened(tmp_path, "".join(f'{{"user_id": {number}, "k{number}": 1}}\n' for number in range(50)))
    assert len(table.names) == 10
    assert table.frame.collect()["user_id"].to_list() == [str(number) for number in range(50)]
