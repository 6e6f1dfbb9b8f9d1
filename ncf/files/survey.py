"""One pass over the bytes of a text file: is it UTF-8, has it quotes, has every line the same number of fields?"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncf.errors import InputError

BLOCK = 2**24
NEWLINE = 10


@dataclass(frozen=True)
class Survey:
    """`lines` counts all lines of the file, `even` is whether each has as many fields as the header, quotes aside."""

    lines: int
    quotes: bool
    even: bool


def survey(path: Path, sign: str, width: int, skipped: int, shown: str) -> Survey:
    """Look at every byte. Raises InputError that names the line for text that is not UTF-8."""
    lines, quotes, even = 0, False, True
    decoder = codecs.getincrementaldecoder("utf-8")()
    marks = np.empty(0, np.uint8)  # separators and line ends since the last whole line
    to_skip, last = skipped, NEWLINE
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            if not (block.isascii() and not decoder.getstate()[0]):
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    line = lines + error.object[: error.start].count(b"\n") + 1
                    raise not_utf8(shown, line, error.object, error.start) from None
            quotes = quotes or b'"' in block
            values = np.frombuffer(block, np.uint8)
            lines += int(np.count_nonzero(values == NEWLINE))
            last = int(values[-1])
            if even:
                marks = np.append(marks, values[(values == NEWLINE) | (values == ord(sign))])
                while to_skip and NEWLINE in marks:
                    marks, to_skip = marks[int((marks == NEWLINE).argmax()) + 1 :], to_skip - 1
                if not to_skip:
                    whole = len(marks) // width * width
                    even = _even(marks[:whole].reshape(-1, width))
                    marks = marks[whole:]
    if decoder.getstate()[0]:
        raise not_utf8(shown, lines + 1, decoder.getstate()[0], 0)
    unended = last != NEWLINE
    if even and not to_skip:
        even = (
            _even(np.append(marks, [NEWLINE] * unended).reshape(-1, width))
            if (len(marks) + unended) % width == 0
            else False
        )
    return Survey(lines + unended, quotes, even)


def not_utf8(shown: str, line: int, block: bytes, place: int) -> InputError:
    """The error for the byte at `place` of a block; after letters that are UTF-8 no other encoding is likely."""
    encoding = "cp1252" if any(0x80 <= byte < 0xA0 for byte in block[place : place + 2**16]) else "latin-1"
    return InputError(
        f"{shown} is not UTF-8: line {line:,} has the byte 0x{block[place]:02x}; give the encoding that it has, such "
        "as --encoding latin-1 or --encoding cp1252",
        **({"encoding": encoding} if block[:place].isascii() else {}),
    )


def _even(rows: np.typing.NDArray[np.uint8]) -> bool:
    """Whether each row of marks is separators and then a line end."""
    return bool((rows[:, -1] == NEWLINE).all() and (rows[:, :-1] != NEWLINE).all())
