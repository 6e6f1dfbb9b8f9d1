from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ncf.errors import InputError
from ncf.files import survey as module
from ncf.files.survey import survey

TEXT = st.text(alphabet=[*'a,;"\n\r ', "é", "☃"], max_size=60)


def slow(text: str, sign: str, width: int, skipped: int) -> tuple[int, bool, bool]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return len(lines), '"' in text, all(line.count(sign) == width - 1 for line in lines[skipped:])


@given(TEXT, st.integers(1, 4), st.integers(0, 3), st.integers(1, 9))
@example("a,b\nc,d", 2, 0, 1)
@example("\n", 1, 1, 1)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_sees_what_a_slow_reader_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, width: int, skipped: int, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    path = tmp_path / "x"
    path.write_bytes(text.encode())
    seen = survey(path, ",", width, skipped, "x")
    lines, quotes, even = slow(text, ",", width, skipped)
    assert (seen.lines, seen.quotes) == (lines, quotes)
    if lines > skipped:
        assert seen.even == even


@pytest.mark.parametrize("block", [1, 2, 3, 2**24])
@pytest.mark.parametrize(
    ("text", "line", "byte"),
    [(b"a,b\nc,\xe9\n", 2, "e9"), (b"\xe9", 1, "e9"), (b"a\n\n\xc3", 3, "c3"), ("é\né".encode()[:-1], 2, "c3")],
)
def test_text_that_is_not_utf_8_names_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, line: int, byte: str, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(InputError, match=f"x is not UTF-8: line {line} has the byte 0x{byte}; .* --encoding latin-1"):
        survey(tmp_path / "x", ",", 2, 0, "x")
