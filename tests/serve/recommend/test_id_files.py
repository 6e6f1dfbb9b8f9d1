"""The `.ids` file: written by ncf, read by serve."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ncf.data.interactions import IdIndex
from ncf.export.id_file import write_id_file
from serve.recommend.id_files import IdFile


def round_trip(folder: Path, raw: list[str] | list[int]) -> tuple[IdIndex, IdFile]:
    index = IdIndex.of(pl.Series(raw))
    write_id_file(folder / "x.ids", index)
    return index, IdFile(folder / "x.ids")


@pytest.mark.parametrize(
    "raw",
    [
        ["a b", "c,d", "é—☃", "x" * 300, "", "7", '"q"'],
        [7, -3, 2**40],
        ["one"],
        list(range(5000)),
    ],
)
def test_every_id_goes_both_ways(tmp_path: Path, raw: list[str] | list[int]) -> None:
    index, file = round_trip(tmp_path, raw)
    assert len(file) == len(raw)
    for number, value in enumerate(index.ids.to_list()):
        assert file.index(value) == number
        assert file.index(str(value)) == number  # 7 and "7" are one id
        assert file.raw(number) == value
        assert type(file.raw(number)) is type(value)


def test_an_unknown_id_is_minus_one(tmp_path: Path) -> None:
    _, file = round_trip(tmp_path, [10, 11, 12])
    assert [file.index(raw) for raw in (1, 110, "", "x", "10 ", "é" * 1000)] == [-1] * 6


def test_what_is_no_whole_id_file_is_refused(tmp_path: Path) -> None:
    round_trip(tmp_path, list(range(100)))
    whole = (tmp_path / "x.ids").read_bytes()
    for bad in (whole[:-1], whole[:50], whole[:5], b"NCFIDS9\n" + whole[8:]):
        (tmp_path / "y.ids").write_bytes(bad)
        with pytest.raises(ValueError, match="export the model again"):
            IdFile(tmp_path / "y.ids")


def test_a_whole_number_may_be_written_as_a_float(tmp_path: Path) -> None:
    """pandas and NumPy write 7.0 into CSV; where ids are texts, "7.0" is another id than "7"."""
    _, numbers = round_trip(tmp_path, [7, -3, 10**17])
    assert [numbers.index(raw) for raw in ("7.0", "7.", "-3.00", "100000000000000000.0", "7.5", "7.0.0", "x")] == [
        numbers.index(7), numbers.index(7), numbers.index(-3), numbers.index(10**17), -1, -1, -1,
    ]  # fmt: skip
    _, texts = round_trip(tmp_path, ["7", "7.0"])
    assert texts.index("7") != texts.index("7.0")
