from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from ncf.errors import InputError
from ncf.files.find import Found, find_files

ROWS = b"user_id,item_id\na,x\n"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ROWS)


def shown(*data: Path, scratch: Path) -> list[str]:
    return [found.shown for found in find_files(data, scratch)]


def test_a_folder_gives_its_tables_by_name_without_hidden_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    tables = [folder / "a.csv", folder / "b" / "c.parquet", folder / "d.jsonl.gz", folder / "part-0.zst"]
    others = [
        folder / "README.txt",
        folder / "_SUCCESS",
        folder / ".a.csv",
        folder / "_temporary" / "x.csv",
        folder / "x.pdf",
    ]
    touch(*tables, *others)
    assert shown(folder, scratch=tmp_path) == [str(path) for path in (*tables[:3], tables[3])]


@pytest.mark.parametrize(
    "ending",
    [
        "csv",
        "tsv",
        "inter",
        "parquet",
        "pq",
        "arrow",
        "feather",
        "ipc",
        "jsonl",
        "ndjson",
        "json",
        "txt",
        "dat",
        "data",
        "CSV",
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz", ".zst", ".bz2", ".zip"])
def test_every_ending_is_found_in_a_folder(tmp_path: Path, ending: str, packed: str) -> None:
    path = tmp_path / "data" / f"x.{ending}{packed}"
    touch(path)
    (found,) = find_files([path.parent], tmp_path)
    assert (found.path, found.suffix) == (path, f".{ending.lower()}")


def test_names_of_folders_are_columns(tmp_path: Path) -> None:
    root = tmp_path / "clicks"
    touch(
        root / "dt=2024-01-01" / "hour=7" / "part-0.csv",
        root / "dt=2024-01-01 10%3A30" / "part-0.csv",
        root / "dt=__HIVE_DEFAULT_PARTITION__" / "part-0.csv",
    )
    assert [found.keys for found in find_files([root], tmp_path)] == [
        {"dt": "2024-01-01", "hour": "7"},
        {"dt": "2024-01-01 10:30"},
        {"dt": None},
    ]


def test_a_pipe_is_copied_for_it_is_read_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(ROWS,))
    writer.start()
    (found,) = find_files([fifo], tmp_path)
    writer.join()
    assert (found.path.read_bytes(), found.shown) == (ROWS, str(fifo))


def test_a_dash_is_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").write_bytes(ROWS)
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        (found,) = find_files([Path("-")], tmp_path)
    assert (found.path.read_bytes(), found.shown, found.suffix) == (ROWS, "standard input", "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["none.csv"], "none.csv does not exist; --data takes files, folders of files, and - for standard input"),
        (["s3://bucket/x.csv"], "s3://bucket/x.csv is an address, and --data takes files; copy it first"),
        (["https://host/x.csv"], "https://host/x.csv is an address"),
        (["{tmp}/a.csv", "{tmp}/./a.csv"], "a.csv is given twice; name each file once"),
        (["{tmp}", "{tmp}/a.csv"], "a.csv is given twice; name each file once"),
        (["{tmp}/empty"], "empty holds no file that ends in .csv, .tsv"),
    ],
)
def test_what_is_no_file_is_named(tmp_path: Path, data: list[str], message: str) -> None:
    touch(tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        find_files([Path(path.format(tmp=tmp_path)) for path in data], tmp_path)
    assert message in str(caught.value)


def test_an_ending_counts_without_that_of_a_compression() -> None:
    assert Found(Path("x"), "Clicks.JSONL.GZ").suffix == ".jsonl"
