"""A file as plain UTF-8 text, Parquet or Arrow: what it is, is decided by its first bytes, not by its name."""

from __future__ import annotations

import bz2
import codecs
import gzip
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import zstandard

from ncf.errors import InputError, brief
from ncf.files.find import Found, new_file

BLOCK = 2**22
BLOCK_OF_ZSTD = 2**17
PEEK = 2**16
PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x50\x2a\x4d\x18": "zstd",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
BINARY = {b"PAR1": "parquet", b"ARROW1": "arrow"}
# What people give by mistake, and the remedy.
OTHER = {
    b"\xd0\xcf\x11\xe0": "is a workbook of Excel; save the sheet as CSV",
    b"%PDF": "is a PDF; give the table as CSV or Parquet",
    b"SQLite": "is a database of SQLite; export the table as CSV: sqlite3 -header -csv FILE 'select …'",
    **dict.fromkeys(
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "is a pickle of Python; write the frame as Parquet: frame.to_parquet(…)",
    ),
    b"ORC": "is an ORC file; convert it to Parquet",
    b"Obj\x01": "is an Avro file; convert it to Parquet",
    b"\xfd7zXZ": "is compressed by xz; decompress it: xz -d FILE",
    b"7z\xbc\xaf": "is a 7z archive; unpack it, and give the file",
    b"<!DOCTYPE": "is a web page; was the file downloaded from the right address?",
    b"<html": "is a web page; was the file downloaded from the right address?",
}
BOMS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
JSON = (".json", ".jsonl", ".ndjson")
JSON_OBJECT = re.compile(rb'\{\s*["}]')
FAULTS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, zstandard.ZstdError, RuntimeError, NotImplementedError)


def unpack(found: Found, scratch: Path, encoding: str = "") -> tuple[Path, str, list[str]]:
    """The file, decompressed and in UTF-8, its kind (text, json, parquet or arrow), and what to tell the user.

    A file that is already so is not copied. Raises InputError that names the file, what it is, and the remedy.
    """
    path, notes = found.path, list[str]()
    try:
        while kind := _starts(head := _peek(path), PACKED):
            path = _unpacked(path, kind, scratch, found.shown)
        if binary := _starts(head, BINARY):
            return path, binary, notes
        if other := _starts(head, OTHER):
            raise InputError(f"{found.shown} {other}")
        if head[257:262] == b"ustar":
            raise InputError(f"{found.shown} is a tar archive; unpack it, and give the file or the folder")
        if not encoding and (marked := _starts(head, BOMS)):
            encoding = marked
            notes.append(f"{found.shown} is in UTF-16")
        if not encoding and b"\0" in head:
            raise InputError(
                f"{found.shown} is not text, Parquet or Arrow: it has zero bytes; if it is UTF-16, give "
                "--encoding utf-16-le",
                **({"encoding": "utf-16-le"} if head[1::2].count(0) > len(head) / 4 else {}),
            )
        if encoding and codecs.lookup(encoding).name not in ("utf-8", "ascii"):
            path = _in_utf8(path, encoding, scratch, found.shown)
            head = _peek(path)
    except FAULTS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{found.shown} cannot be read: {reason}") from error
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip()
    is_json = bool(JSON_OBJECT.match(begin)) or (begin.startswith(b"{") and found.suffix in JSON)
    if begin.startswith(b"[") and found.suffix in JSON:
        raise InputError(f"{found.shown} is one JSON array; give JSON Lines, an object on each line: jq -c '.[]' FILE")
    return path, "json" if is_json else "text", notes


def _peek(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PEEK)


def _starts(head: bytes, table: dict[bytes, str]) -> str:
    return next((meaning for magic, meaning in table.items() if head.startswith(magic)), "")


def _unpacked(path: Path, kind: str, scratch: Path, shown: str) -> Path:
    target = new_file(scratch, ".plain")
    with _opened(path, kind, shown) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, BLOCK)
    return target


@contextmanager
def _opened(path: Path, kind: str, shown: str) -> Iterator[IO[bytes]]:
    if kind == "gzip":
        with gzip.open(path) as packed:
            yield cast(IO[bytes], packed)
    elif kind == "bzip2":
        with bz2.open(path) as packed:
            yield cast(IO[bytes], packed)
    elif kind == "zstd":
        with path.open("rb") as file:
            yield cast(IO[bytes], _Zstd(file))
    else:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if any(name.startswith("xl/") for name in names):
                raise InputError(f"{shown} is a workbook of Excel; save the sheet as CSV")
            if not names:
                raise InputError(f"{shown} is a zip without a file in it")
            if len(names) > 1:
                listed = ", ".join(map(brief, names[:5])) + (" …" if len(names) > 5 else "")
                raise InputError(f"{shown} is a zip of {len(names)} files ({listed}); unpack it, and give the file")
            with archive.open(names[0]) as inside:
                yield inside


class _Zstd:
    """A zstd file of one or more frames. zstandard's own reader takes a file that is cut for a whole one."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.rest = file, b""
        self.frame = zstandard.ZstdDecompressor().decompressobj()

    def read(self, size: int = -1) -> bytes:
        while block := self.rest or self.file.read(BLOCK_OF_ZSTD):
            if self.frame.eof:
                self.frame = zstandard.ZstdDecompressor().decompressobj()
            text = self.frame.decompress(block)
            self.rest = self.frame.unused_data
            if text:
                return text
        if not self.frame.eof:
            raise EOFError("it ends amid a frame, so a part of it is missing")
        return b""


def _in_utf8(path: Path, encoding: str, scratch: Path, shown: str) -> Path:
    target, decoder = new_file(scratch, ".plain"), codecs.getincrementaldecoder(encoding)()
    lines = 1
    with path.open("rb") as source, target.open("w", encoding="utf-8", newline="") as file:
        while True:
            block = source.read(BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                reason = getattr(error, "reason", error)
                if isinstance(error, UnicodeDecodeError):
                    lines += error.object[: error.start].count(b"\n")
                raise InputError(
                    f"{shown} is not in {encoding}: {reason} near line {lines:,}; give the encoding that it has with "
                    "--encoding",
                    **({"encoding": "latin-1"} if codecs.lookup(encoding).name == "cp1252" else {}),
                ) from error
            lines += text.count("\n")
            file.write(text.removeprefix("\ufeff"))
            if not block:
                return target
