from __future__ import annotations

from serve.formats.registry import FORMATS


def test_content_types_of_formats_are_apart() -> None:
    names = [name for format in FORMATS for name in format.content_types]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() for name in names)
    assert [format.header for format in FORMATS] == [
        b"application/json", b"application/jsonlines", b"text/csv", b"application/x-npy",
    ]  # fmt: skip
