from __future__ import annotations

import socket
from pathlib import Path

import pytest

from serve.errors import Unavailable
from serve.telemetry.page_socket import PAGE_SOCKET, PageSocket, read_page


def test_a_page_comes_whole(tmp_path: Path) -> None:
    pages = iter([b"x 1\n", b"y" * 5_000_000])
    path = tmp_path / PAGE_SOCKET
    there = PageSocket(path, lambda: next(pages))
    try:
        assert read_page(path) == b"x 1\n"
        with socket.socket(socket.AF_UNIX) as rude:  # it connects and reads nothing; it gets the second page
            rude.connect(str(path))
            rude.recv(1)
    finally:
        there.close()


def test_without_a_supervisor_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"cannot be read: No such file or directory; try again shortly"):
        read_page(tmp_path / PAGE_SOCKET)


def test_counts_that_cannot_be_read_are_no_page_and_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def page() -> bytes:
        raise OSError("too many open files")

    there = PageSocket(tmp_path / PAGE_SOCKET, page)
    try:
        with pytest.raises(Unavailable, match="the server's log has the reason"):
            read_page(tmp_path / PAGE_SOCKET)
    finally:
        there.close()
    assert ["too many open files" in record.getMessage() for record in caplog.records] == [True]
