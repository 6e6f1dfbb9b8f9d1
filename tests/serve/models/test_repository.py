from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from serve.models.repository import Release, Repository, RepositoryError

pytestmark = pytest.mark.core


OLD = ("b", "b_topk", "b_query")  # as every export before had it


def model(folder: Path, name: str, recommender: bool = False, version: int = 1, with_topk: bool = False) -> None:
    (folder / name / str(version)).mkdir(parents=True)
    (folder / name / "config.pbtxt").touch()
    (folder / name / str(version) / "model.pt").touch()
    if recommender:
        topk = {"topk_model": f"{name}_topk"} if with_topk else {}
        described = {**topk, "query_model": f"{name}_query", "k": 3, "columns": []}
        (folder / name / str(version) / "recommender.json").write_text(json.dumps(described))


def test_scan_finds_models_and_recommenders_and_passes_over_the_rest(tmp_path: Path) -> None:
    model(tmp_path, "b", recommender=True)
    model(tmp_path, "b_topk")
    model(tmp_path, "a")
    (tmp_path / ".export-1-x").mkdir()
    model(tmp_path, "a (copy)")
    (tmp_path / "README.md").touch()
    found = Repository.scan(tmp_path)
    assert found.models == ("a", "b", "b_topk")
    assert found.recommenders == ("b",)
    assert found.passed_over == ("a (copy)",)


def recommender(folder: Path, name: str, version: int = 1, with_topk: bool = False) -> None:
    for part in (name, *([f"{name}_topk"] if with_topk else []), f"{name}_query"):
        model(folder, part, part == name, version, with_topk)


def test_c055_no_model_one_model_several_models(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RepositoryError, match="No model found in model repository"):
        Repository.scan(tmp_path).to_load(None)
    model(tmp_path, "a")
    assert Repository.scan(tmp_path).to_load(None) == ("a",)
    assert "no SAGEMAKER_TRITON_DEFAULT_MODEL_NAME: starting with the only model there is, a" in caplog.text
    model(tmp_path, "b")
    with pytest.raises(RepositoryError, match=r"More than 1 model directory found in model repository .*: a, b; "):
        Repository.scan(tmp_path).to_load(None)


@pytest.mark.parametrize("with_topk", [False, True])
def test_c055_a_recommenders_models_count_as_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, with_topk: bool
) -> None:
    recommender(tmp_path, "b", with_topk=with_topk)
    assert Repository.scan(tmp_path).to_load(None) == ("b", "b_query", *(["b_topk"] if with_topk else []))
    assert "starting with the only model there is, b" in caplog.text
    model(tmp_path, "a")
    with pytest.raises(RepositoryError, match=r"More than 1 model directory found in model repository .*: a, b; "):
        Repository.scan(tmp_path).to_load(None)


@pytest.mark.parametrize(
    ("default", "loaded"), [("a", ("a",)), ("b", ("b", "b_query", "b_topk")), ("b_topk", ("b_topk",))]
)
def test_c053_exactly_the_default_is_loaded(tmp_path: Path, default: str, loaded: tuple[str, ...]) -> None:
    recommender(tmp_path, "b", with_topk=True)
    model(tmp_path, "a")
    assert Repository.scan(tmp_path).to_load(default) == loaded


@pytest.mark.parametrize("default", [None, "a", "b", "b_topk"])
def test_several_recommenders_are_all_loaded_with_whatever_is_beside_them(tmp_path: Path, default: str | None) -> None:
    recommender(tmp_path, "b", with_topk=True)
    recommender(tmp_path, "c")
    model(tmp_path, "a")
    (tmp_path / "empty").mkdir()
    assert Repository.scan(tmp_path).to_load(default) == ("a", "b", "b_query", "b_topk", "c", "c_query")
    assert "empty" in Repository.scan(tmp_path).to_load("empty")  # so that the start says that it has no version


def test_a_model_that_no_version_names_is_not_a_recommenders(tmp_path: Path) -> None:
    recommender(tmp_path, "b")
    model(tmp_path, "b_topk")  # somebody's own
    with pytest.raises(RepositoryError, match=r"More than 1 model directory found in model repository .*: b, b_topk; "):
        Repository.scan(tmp_path).to_load(None)
    assert Repository.scan(tmp_path).to_load("b") == ("b", "b_query")
    assert Repository.scan(tmp_path).to_load("b_topk") == ("b_topk",)


@pytest.mark.parametrize("number", ["1", ".withdrawn-1"])
def test_a_model_that_another_version_names_is_a_recommenders(tmp_path: Path, number: str) -> None:
    recommender(tmp_path, "b", with_topk=True)
    recommender(tmp_path, "b", 2)
    for part in OLD:
        (tmp_path / part / "1").rename(tmp_path / part / number)
    found = Repository.scan(tmp_path)
    assert found.to_load(None) == ("b", "b_query", "b_topk")
    newest = next(found.releases("b"))
    assert isinstance(newest, Release)
    assert newest.parts == ("b", "b_query")


def test_c054_the_default_must_exist(tmp_path: Path) -> None:
    model(tmp_path, "a")
    with pytest.raises(
        RepositoryError, match=r"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME x does not exist in .*: it holds a$"
    ):
        Repository.scan(tmp_path).to_load("x")


def test_c056_a_model_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").touch()
    with pytest.raises(
        RepositoryError, match=r"Incorrect directory structure: .* mount the folder above it, or pack that"
    ):
        Repository.scan(tmp_path).to_load(None)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], "it is empty; mount a model repository there (docker run -v REPOSITORY:{path}:ro …)"),
        ([".hidden", "model.pt"], "it holds model.pt; a model is a folder with NAME/config.pbtxt and NAME/1/model.pt"),
        (["docs/a.md"], "it holds docs; a model is a folder with"),
        (["model.tar.gz"], "it holds model.tar.gz; unpack that (tar -xzf model.tar.gz -C REPOSITORY) and mount REPOS"),
        (["1/model.pt", "2/model.pt"], "it holds 1, 2, as a model's folder does; mount the folder above it"),
        (["model_repository/a/config.pbtxt"], "the models are in {path}/model_repository; mount that folder, or name"),
        (["opt/ml/model/a/config.pbtxt"], "the models are in {path}/opt/ml/model; mount that folder, or name it"),
        (["weights.pt", "config.json"], "{path} is a run of `ncf train`; export it (`ncf export --run {path} --repos"),
        (["first/weights.pt", "first/config.json"], "{path}/first is a run of `ncf train`; export it"),
        (list("abcdefg"), "it holds a, b, c, d, e, …; a model is"),
    ],
)
def test_what_is_no_repository_is_told_apart(tmp_path: Path, files: list[str], found: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    expected = found.format(path=tmp_path)
    with pytest.raises(RepositoryError) as refused:
        Repository.scan(tmp_path).to_load(None)
    assert str(refused.value).startswith(f"No model found in model repository {tmp_path}: {expected}")
    with pytest.raises(RepositoryError) as refused:
        Repository.scan(tmp_path).to_load("x")
    assert f"MODEL_NAME x does not exist in {tmp_path}: {expected}" in str(refused.value)


def test_a_release_is_a_version_that_every_part_has(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        recommender(tmp_path, "b", version, with_topk=version == 1)
    (tmp_path / "b_query" / "10" / "model.pt").unlink()
    (tmp_path / "b" / "2").rename(tmp_path / "b" / ".withdrawn-2")
    newest, oldest = Repository.scan(tmp_path).releases("b")
    assert isinstance(newest, RepositoryError)
    assert (newest.version, str(newest)) == (10, "b_query/10/model.pt is missing")
    assert isinstance(oldest, Release)
    assert (oldest.version, oldest.parts) == (1, OLD)
    (tmp_path / "b_topk" / "1" / "model.pt").unlink()
    *_, oldest = Repository.scan(tmp_path).releases("b")
    assert str(oldest) == "b_topk/1/model.pt is missing"


def test_an_export_of_an_older_ncf_says_so(tmp_path: Path) -> None:
    model(tmp_path, "b", recommender=True)
    (tmp_path / "b" / "1" / "recommender.json").write_text('{"topk_model": "b_topk", "k": 3}')
    (found,) = Repository.scan(tmp_path).releases("b")
    assert "exported by an older ncf; export the run again" in str(found)


@pytest.mark.parametrize("version", ["007", "0", "-1", "99999999999999999999", "2147483648", "1x"])
def test_what_is_no_version_number_is_none(tmp_path: Path, version: str) -> None:
    model(tmp_path, "b", recommender=True)
    (tmp_path / "b" / "1").rename(tmp_path / "b" / version)
    assert list(Repository.scan(tmp_path).releases("b")) == []


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "7", "{}", "x"])
def test_an_unreadable_recommender_json_says_so(tmp_path: Path, text: str) -> None:
    model(tmp_path, "b", recommender=True)
    (tmp_path / "b" / "1" / "recommender.json").write_text(text)
    (found,) = Repository.scan(tmp_path).releases("b")
    assert isinstance(found, RepositoryError)
    for part in ("b_query", "b_topk"):  # they may be its own
        model(tmp_path, part)
    assert Repository.scan(tmp_path).to_load(None) == ("b", "b_query", "b_topk")


def test_a_copy_under_another_name_is_no_recommender_of_its_own(tmp_path: Path) -> None:
    recommender(tmp_path, "b")
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    (found,) = Repository.scan(tmp_path).releases("c")
    assert str(found) == "its parts are c, b_query; export it under the name c"


@pytest.mark.parametrize("file", ["b/1/model.pt", "b_query/1/model.pt", "b_topk/config.pbtxt"])
def test_a_release_is_another_one_when_a_file_changes(tmp_path: Path, file: str) -> None:
    recommender(tmp_path, "b", with_topk=True)
    (before,), (again,) = (list(Repository.scan(tmp_path).releases("b")) for _ in range(2))
    assert before == again
    (tmp_path / file).write_bytes(b"x")
    (after,) = Repository.scan(tmp_path).releases("b")
    assert after != before
