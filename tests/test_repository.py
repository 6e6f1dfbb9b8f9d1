from __future__ import annotations

from pathlib import Path

import pytest

from serve.repository import Repository, RepositoryError


def model(folder: Path, name: str, recommender: bool = False) -> None:
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").touch()
    if recommender:
        (folder / name / "1" / "recommender.json").touch()


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
    assert found.to_load(None) == found.models


def test_c055_no_model_one_model_several_models(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="No model found in model repository"):
        Repository.scan(tmp_path).to_load(None)
    model(tmp_path, "a")
    assert Repository.scan(tmp_path).to_load(None) == ("a",)
    model(tmp_path, "b")
    with pytest.raises(RepositoryError, match="a, b"):
        Repository.scan(tmp_path).to_load(None)
    assert Repository.scan(tmp_path).to_load("b") == ("b",)


def test_c054_the_default_must_exist(tmp_path: Path) -> None:
    model(tmp_path, "a")
    with pytest.raises(RepositoryError, match="SAGEMAKER_TRITON_DEFAULT_MODEL_NAME x does not exist"):
        Repository.scan(tmp_path).to_load("x")


def test_c056_a_model_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").touch()
    with pytest.raises(RepositoryError, match="Incorrect directory structure"):
        Repository.scan(tmp_path).to_load(None)
