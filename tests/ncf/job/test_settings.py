"""Hyper-parameters of a training job (CONTRACT C98, C105): text, in the words of ours and of the workshop."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ncf.commands.train import train
from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.files.reading import Columns
from ncf.job.settings import COLUMNS, JobSettings, as_options, hyperparameters, read_settings
from ncf.training.config import TrainConfig
from ncf.training.presets import PRESETS, configure

# S3 of the contract: what notebook 1.2 gives its job.
WORKSHOP = {
    "epochs": 1, "lr": 0.001, "batch": 256, "top_k": 10, "dropout": 0, "factor_num": 32, "num_layers": 3, "num_ng": 4,
    "test_num_ng": 99,
}  # fmt: skip


def settings(folder: Path, values: Any, *arguments: str) -> JobSettings:
    path = folder / "hyperparameters.json"
    path.write_text(json.dumps(values))
    return read_settings(path, arguments)


def test_c098_every_hyperparameter_is_text_of_its_type(tmp_path: Path) -> None:
    values = {
        "model": '"neumf"', "num_factors": "8", "dropout": "0.25", "pretrain": "true", "seed": " 7 ", "epochs": "null",
        "user_column": '"who \\"it\\" is"', "model_name": '"food"', "k": "20", "device": "cpu", "max_time": '"30m"',
        "processes": "2", "sagemaker_program": "x", "_tuning_objective_metric": "NDCG",
    }  # fmt: skip
    got = settings(tmp_path, values)
    assert (got.model_name, got.k, got.device, got.max_seconds, got.processes) == ("food", 20, "cpu", 1800, 2)
    config = got.config
    assert (config.model, config.num_factors, config.dropout, config.pretrain, config.seed, config.epochs) == (
        "neumf", 8, 0.25, True, 7, None,
    )  # fmt: skip
    assert config.split.columns.user_id == 'who "it" is'
    usual = replace(PRESETS["default"], refit=True)  # a job ends in an export
    assert settings(tmp_path, {}) == JobSettings(usual, "ncf_model", 100, "auto", math.inf, 0)
    assert not settings(tmp_path, {"refit": "false"}).config.refit
    assert read_settings(tmp_path / "none.json") == settings(tmp_path, {})


def test_c098_the_workshops_own_are_understood(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = settings(tmp_path, WORKSHOP).config
    assert (config.epochs, config.learning_rate, config.batch_size, config.dropout) == (1, 0.001, 256, 0.0)
    assert (config.num_factors, config.num_layers, config.negatives) == (32, 3, "4")
    assert "hyperparameter 'lr' is 'learning_rate' here" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": "2"}, "hyperparameter 'epoch' is unknown; did you mean 'epochs'?"),
        ({"learning-rat": "1"}, "hyperparameter 'learning-rat' is unknown; did you mean 'learning_rate'?"),
        ({"embedding_dim": "8"}, "hyperparameter 'embedding_dim' is unknown; it is called 'num_factors' here"),
        ({"test": "t.csv"}, "'test' is unknown; give the held-out items a channel of their own, which is called test"),
        ({"split": "tim"}, "split is 'tim'; choose leave-one-out, ratio, time"),
        ({"zzz": "8"}, "hyperparameter 'zzz' is unknown; there are model, num_factors"),
        ({"epochs": "two"}, "hyperparameter 'epochs' is 'two'; it must be a whole number"),
        ({"epochs": "2.0"}, "hyperparameter 'epochs' is '2.0'; it must be a whole number"),
        ({"l2": '"much"'}, "hyperparameter 'l2' is 'much'; it must be a number"),
        ({"pretrain": "yes"}, "hyperparameter 'pretrain' is 'yes'; it must be true or false"),
        ({"epochs": "0"}, "epochs is 0; it must be at least 1"),
        ({"device": "tpu"}, "hyperparameter 'device' is 'tpu'; choose auto, cpu, gpu"),
        ({"processes": "0"}, "hyperparameter 'processes' is 0; it must be from 1 to 64"),
        ({"k": "0"}, "k is 0"),
        ({"model_name": "a b"}, "'a b' is no model name"),
        ({"max_time": "soon"}, "max_time is 'soon'"),
        ({"preset": "best"}, "no preset is called 'best'"),
        ({"lr": "1", "learning_rate": "1"}, "hyperparameter 'learning_rate' is given twice"),
        ({"top_k": "20"}, "hyperparameter 'top_k' is '20', and can only be 10 here: HR and NDCG are measured at 10"),
        ({"test_num_ng": "9"}, "can only be 99 here"),
        ([], "must hold an object"),
    ],
)
def test_c101_what_cannot_be_is_refused(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        settings(tmp_path, values)
    assert message in str(caught.value)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_bytes(b"\xff{")
    with pytest.raises(InputError, match=r"h.json is no JSON"):
        read_settings(tmp_path / "h.json")


def test_c105_arguments_count_more_than_the_file(tmp_path: Path) -> None:
    words = ("--epochs", "3", "--learning-rate=0.5", "--pretrain", "--model", "neumf", "--num_factors", "8")
    config = settings(tmp_path, {"epochs": "2"}, *words).config
    assert (config.epochs, config.learning_rate, config.pretrain, config.num_factors) == (3, 0.5, True, 8)
    with pytest.raises(InputError, match="train does not understand 'epochs'"):
        settings(tmp_path, {}, "epochs", "3")


def test_every_setting_of_a_run_is_a_hyperparameter_and_an_option() -> None:
    options = {parameter.name for parameter in train.params}
    assert hyperparameters().keys() - {"model_name", "k", "processes"} <= options
    folders_and_resuming = {"data", "output", "resume", "checkpoints", "tensorboard"}
    of_channels = {"test", "init", "item_features", "user_features"}
    assert options - hyperparameters().keys() == folders_and_resuming | of_channels


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        TrainConfig(
            refit=True, pretrain=True, dropout=0.0, l2=1e-9, schedule="cosine", seed=3, split=SplitOptions(seed=3)
        ),
        TrainConfig(
            model="gmf", negatives="12", learning_rate=1e-05, members=3, split=SplitOptions(Columns(user_id="-a b"))
        ),
        configure(
            None, {"seed": 3, "split_seed": 4, "split": "time", "test_share": 0.25, "negatives_among": "popular"}
        ),
    ],
)
def test_options_say_what_a_configuration_says(config: TrainConfig) -> None:
    given = train.make_context("train", ["--data", "d", "--output", "o", *as_options(config)]).params
    mine = {name: given[name] for name in hyperparameters() if name in config.to_dict()}
    columns = Columns(**{field: given[name] for name, field in COLUMNS.items()})
    assert configure(None, {**mine, "columns": columns}) == config
