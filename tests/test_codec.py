from __future__ import annotations

import pytest

from serve import codec
from serve.errors import BadRequest


def test_what_is_no_json_says_so() -> None:
    with pytest.raises(BadRequest, match="is empty"):
        codec.parse_json(b"")
    with pytest.raises(BadRequest, match=r"is not JSON: .*line 1 column 2"):
        codec.parse_json(b"{x")
