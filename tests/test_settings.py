from __future__ import annotations

import os
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from serve.settings import SETTINGS, Settings, SettingsError
from tests.conftest import BIN


def test_defaults_are_sagemakers() -> None:
    settings = Settings.from_environment({})
    assert settings.model_repository == Path("/opt/ml/model")
    assert (settings.bind_address, settings.port) == ("0.0.0.0", 8080)
    assert settings.workers >= 1


def test_the_table_and_the_record_agree() -> None:
    assert [setting.field for setting in SETTINGS] == [field.name for field in fields(Settings)]


def test_values_are_read_and_empty_means_not_set() -> None:
    settings = Settings.from_environment(
        {"SAGEMAKER_BIND_TO_PORT": "9001", "SAGEMAKER_SAFE_PORT_RANGE": "9000-9010", "SERVE_WORKERS": "", "OTHER": "x",
         "SAGEMAKER_TRITON_LOG_INFO": "ON"}
    )  # fmt: skip
    assert settings.port == 9001
    assert settings.safe_port_range == (9000, 9010)
    assert settings.triton_log_info is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "eighty"),
        ("SAGEMAKER_BIND_TO_PORT", "70000"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "9010-9000"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "9000"),
        ("SERVE_WORKERS", "0"),
        ("SERVE_MAX_BODY_BYTES", "25 MB"),
        ("SAGEMAKER_TRITON_LOG_INFO", "maybe"),
    ],
)
def test_a_value_that_cannot_be_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: value})
    assert str(caught.value).startswith(f"{name} is '{value}'; it must be ")


def test_serve_says_it_in_one_line_and_exits_2() -> None:
    environment = {**os.environ, "SERVE_WORKERS": "many"}
    ended = subprocess.run([BIN / "serve"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "serve: SERVE_WORKERS is 'many'; it must be a whole number from 1 to 256\n"


def test_help_lists_every_variable() -> None:
    shown = subprocess.run([BIN / "serve", "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
    for setting in SETTINGS:
        assert setting.name in shown
