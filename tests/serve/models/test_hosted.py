from __future__ import annotations

from pathlib import Path

import pytest

from serve.models.hosted import hosted
from serve.settings import Settings
from tests.support.small_models import slow_model


@pytest.mark.parametrize(
    ("default", "arguments", "only"), [("tiny", "", True), ("slow", "", False), ("tiny", "--load-model=slow", False)]
)
def test_whether_all_models_are_exported_ones(
    one_model: Path, tmp_path: Path, default: str, arguments: str, only: bool
) -> None:
    """Only then Triton need not complete configurations."""
    repository, scratch = tmp_path / "repository", tmp_path / "scratch"
    repository.mkdir()
    scratch.mkdir()
    for model in one_model.iterdir():
        (repository / model.name).symlink_to(model)
    slow_model(repository)
    environment = {
        "SERVE_MODEL_REPOSITORY": str(repository),
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": default,
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS": arguments,
    }
    assert hosted(Settings.from_environment(environment), scratch).only_recommenders is only
