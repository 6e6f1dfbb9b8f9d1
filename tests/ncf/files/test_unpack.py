from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard

from ncf.errors import InputError
from ncf.files import unpack as module
from ncf.files.find import Found
from ncf.files.unpack import unpack

TEXT = "user_id,item_id\n" + "".join(f"u{number % 97},é{number % 89}\n" for number in range(3000))
PLAIN = TEXT.encode()


def zipped(**files: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return target.getvalue()


def in_frames(text: bytes) -> bytes:
    return b"".join(zstandard.compress(text[start : start + 999]) for start in range(0, len(text), 999))


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "gz of two members": lambda text: gzip.compress(text[:1000]) + gzip.compress(text[1000:]),
    "bz2": bz2.compress,
    "zst": zstandard.compress,
    "zst of several frames": in_frames,
    "zst with an empty frame": lambda text: zstandard.compress(text) + zstandard.compress(b""),
    "zst of pzstd": lambda text: b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstandard.compress(text),
    "zip": lambda text: zipped(a__csv=text),
    "gz in zip": lambda text: zipped(a__csv=gzip.compress(text)),
    "zst in bz2 in gz": lambda text: gzip.compress(bz2.compress(zstandard.compress(text))),
    "nothing": bytes,
}


def opened(folder: Path, content: bytes, name: str = "data.csv", encoding: str = "") -> tuple[bytes, str, list[str]]:
    path = folder / name
    path.write_bytes(content)
    (folder / "scratch").mkdir(exist_ok=True)
    found, kind, notes = unpack(Found(path, name), folder / "scratch", encoding)
    return found.read_bytes(), kind, notes


@pytest.mark.parametrize("block", [7, 2**17])
@pytest.mark.parametrize("kind", PACK)
def test_a_packed_file_is_unpacked_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_OF_ZSTD", block)
    assert opened(tmp_path, PACK[kind](PLAIN)) == (PLAIN, "text", [])


@pytest.mark.parametrize("kind", ["gz", "gz of two members", "bz2", "zst", "zst of several frames", "zip", "gz in zip"])
def test_a_file_that_is_cut_is_an_error_and_never_a_shorter_table(tmp_path: Path, kind: str) -> None:
    whole = PACK[kind](PLAIN)
    for size in (len(whole) - 1, len(whole) - 9, len(whole) * 2 // 3):
        with pytest.raises(InputError, match=r"^data.csv cannot be read: "):
            opened(tmp_path, whole[:size])


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_other_bytes_behind_the_end_are_an_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"^data.csv cannot be read: "):
        opened(tmp_path, PACK[kind](PLAIN) + b"u1,more\n")


def tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(PLAIN)
        archive.addfile(member, io.BytesIO(PLAIN))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(), "is a zip without a file in it"),
        (zipped(a__csv=PLAIN, b__csv=PLAIN), "is a zip of 2 files (a.csv, b.csv); unpack it, and give the file"),
        (
            zipped(**{f"a\x1b{n}": b"" for n in range(9)}),
            r"is a zip of 9 files (a\x1b0, a\x1b1, a\x1b2, a\x1b3, a\x1b4 …)",
        ),
        (zipped(**{"xl/workbook.xml": b"", "types": b""}), "is a workbook of Excel; save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0" + bytes(99), "is a workbook of Excel; save the sheet as CSV"),
        (tar(), "is a tar archive; unpack it"),
        (gzip.compress(tar()), "is a tar archive; unpack it"),
        (b"\x80\x04\x95\0", "is a pickle of Python; write the frame as Parquet"),
        (b"SQLite format 3\0", "is a database of SQLite; export the table as CSV: sqlite3"),
        (b"<!DOCTYPE html><html>", "is a web page; was the file downloaded from the right address?"),
        (b"%PDF-1.4", "is a PDF"),
        (b"\xfd7zXZ\0", "is compressed by xz; decompress it: xz -d FILE"),
        (b"a\0,\0b\0\n\0", "it has zero bytes; if it is UTF-16, give --encoding utf-16-le"),
        (b"\x89PNG\r\n\x1a\n\0", "is not text, Parquet or Arrow: it has zero bytes"),
    ],
)
def test_what_is_no_table_is_named_with_the_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        opened(tmp_path, content)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_encrypted_zip_says_so(tmp_path: Path) -> None:
    content = bytearray(zipped(a__csv=PLAIN))
    for start in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[start] |= 1
    with pytest.raises(InputError, match=r"data.csv cannot be read: .*encrypted"):
        opened(tmp_path, bytes(content))


def test_parquet_and_arrow_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1]})
    for write, kind in ((frame.write_parquet, "parquet"), (frame.write_ipc, "arrow")):
        target = io.BytesIO()
        write(target)  # type: ignore[operator]
        assert opened(tmp_path, target.getvalue(), "x.csv")[1] == kind
        assert opened(tmp_path, gzip.compress(target.getvalue()), "x.txt")[1] == kind


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (b'{"user_id": 1}\n', "x.jsonl", "json"),
        (b'\n \xef\xbb\xbf{"user_id": 1}\n', "x.txt", "text"),
        (b'\xef\xbb\xbf\n {\n"user_id": 1}\n', "x.csv", "json"),
        (b"{}\n", "x", "json"),
        (b"{0a1b-guid},item\n", "x.csv", "text"),
        (b"{a\n", "x.json", "json"),
    ],
)
def test_json_lines_are_known_by_their_first_line(tmp_path: Path, content: bytes, name: str, kind: str) -> None:
    assert opened(tmp_path, content, name)[1] == kind


def test_a_json_array_names_the_command(tmp_path: Path) -> None:
    for name in ("x.json", "x.jsonl", "x.json.gz"):
        with pytest.raises(InputError, match=r"is one JSON array; give JSON Lines, an object on each line: jq -c"):
            opened(tmp_path, gzip.compress(b'[{"user_id": 1}]') if name.endswith("gz") else b"[1]", name)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "UTF8"])
@pytest.mark.parametrize("block", [1, 5, 2**22])
def test_an_encoding_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    text = TEXT[:300]
    assert opened(tmp_path, text.encode(encoding), encoding=encoding)[0] == text.encode()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_known_by_its_mark_and_said(tmp_path: Path, encoding: str) -> None:
    mark = b"" if encoding == "utf-16" else b"\xfe\xff"
    found, _, notes = opened(tmp_path, mark + TEXT.encode(encoding))
    assert (found, notes) == (PLAIN, ["data.csv is in UTF-16"])


def test_a_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not in utf-16: .*near line 1; give the encoding that it has with --enc"):
        opened(tmp_path, b"a,b\nc,d\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"is not in cp1252: .*near line 3"):
        opened(tmp_path, b"a,b\nc,d\ne,\x81\n", encoding="cp1252")


def test_plain_utf_8_is_not_copied(tmp_path: Path) -> None:
    opened(tmp_path, PLAIN)
    assert not list((tmp_path / "scratch").iterdir())
