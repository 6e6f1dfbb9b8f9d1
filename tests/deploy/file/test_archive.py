"""Model archives that an endpoint could not unpack or serve are refused; equal content is one key in S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import UserError
from deploy.file import archive
from tests.deploy.support import model_archive


def test_a_good_archive_is_good(tmp_path: Path) -> None:
    archive.check(model_archive(tmp_path / "a.tar.gz", "./food/config.pbtxt", "./food/1/model.pt"))
    archive.check(model_archive(tmp_path / "b.tar.gz", links={"ncf_food_model/2": "1"}))


@pytest.mark.parametrize(
    ("names", "links", "expected"),
    [
        (("../evil", "food/config.pbtxt"), {}, r"unpacked outside its folder by \.\./evil"),
        (("/etc/passwd", "food/config.pbtxt"), {}, "unpacked outside its folder by /etc/passwd"),
        (("food/config.pbtxt", "food/../../x"), {}, "unpacked outside its folder"),
        (("food/config.pbtxt",), {"food/1": "../../etc"}, "unpacked outside its folder by food/1"),
        (("food/config.pbtxt",), {"food/1": "/etc"}, "unpacked outside its folder by food/1"),
        (("config.pbtxt", "1/model.pt"), {}, "config.pbtxt at its top"),
        (("README.md",), {}, "holds no NAME/config.pbtxt"),
    ],
)
def test_a_bad_archive_is_refused(names: tuple[str, ...], links: dict[str, str], expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        archive.check(model_archive(tmp_path / "bad.tar.gz", *names, links=links))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(UserError, match=r"no readable \.tar\.gz"):
        archive.check(tmp_path / "no.tar.gz")
    cut = model_archive(tmp_path / "cut.tar.gz", *(f"food/{n}/config.pbtxt" for n in range(500)))
    cut.write_bytes(cut.read_bytes()[:-900])
    with pytest.raises(UserError, match=r"no readable \.tar\.gz"):
        archive.check(cut)
    with pytest.raises(UserError, match="No such file"):
        archive.uploads_of(["none.tar.gz"], tmp_path, "s3://bucket/ncf")


def test_equal_content_has_one_key(tmp_path: Path) -> None:
    for name, content in (("a.tar.gz", b"1"), ("b.tar.gz", b"1"), ("c.tar.gz", b"2")):
        (tmp_path / name).write_bytes(content)
    found = archive.uploads_of(["a.tar.gz", "b.tar.gz", "c.tar.gz"], tmp_path, "s3://bucket/ncf/")
    a, b, c = (uri.split("/") for uri in found.values())
    assert a[:4] == ["s3:", "", "bucket", "ncf"]
    assert len(a[4]) == 64
    assert a[4] == b[4] != c[4]
    assert a[5] == "a.tar.gz"


def test_an_archive_of_another_kind_only_has_to_unpack(tmp_path: Path) -> None:
    archive.check(model_archive(tmp_path / "other.tar.gz", "model.joblib"), is_of_triton=False)
    with pytest.raises(UserError, match="outside its folder"):
        archive.check(model_archive(tmp_path / "bad.tar.gz", "../model.joblib"), is_of_triton=False)
