"""Files of bodies and of users."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import UserError
from deploy.load_test.bodies import from_lines, from_users


def test_a_line_is_a_body_and_a_string_is_its_text(tmp_path: Path) -> None:
    path = tmp_path / "bodies.jsonl"
    path.write_text('{"user_id": "u\u2028 1", "k": 2}\n\n"user_id,item_id\\nu1,i1"\n[1]', encoding="utf-8")
    assert from_lines(path) == ['{"user_id": "u\u2028 1", "k": 2}'.encode(), b"user_id,item_id\nu1,i1", b"[1]"]


def test_a_user_is_asked_by_the_text_of_the_id(tmp_path: Path) -> None:
    path = tmp_path / "users.txt"
    path.write_text('17\r\nu "1"\n')
    assert from_users(path) == [b'{"user_id": "17"}', b'{"user_id": "u \\"1\\""}']


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b" \n\n", "is empty; --bodies takes a file with a line for each request"),
        (b'{}\n\n{"user_id": }\n', r"bodies:3: {\"user_id\": } is no JSON: Expecting value.*a body each"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (None, "cannot be read: No such file or directory; --bodies takes a file"),
    ],
)
def test_a_file_without_bodies_is_refused(content: bytes | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bodies"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        from_lines(path)
