from __future__ import annotations

import os
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from serve.settings import SETTINGS, Settings, SettingsError
from serve.worker.control_plane import execution_parameters
from tests.conftest import BIN

pytestmark = pytest.mark.core

TRITON = "SAGEMAKER_TRITON_"
SAFE = {"SAGEMAKER_SAFE_PORT_RANGE": "9000-9010"}
OPEN = {f"{TRITON}ALLOW_GRPC": "true", f"{TRITON}ALLOW_METRICS": "true"}


def read(**environment: str) -> Settings:
    return Settings.from_environment(environment)


def test_c015_c053_defaults_are_sagemakers() -> None:
    settings = read()
    assert settings.model_repository == Path("/opt/ml/model")
    assert settings.multi_model_root == Path("/opt/ml/models")
    assert (settings.bind_address, settings.port) == ("0.0.0.0", 8080)
    assert settings.workers >= 1
    assert (settings.multi_model, settings.inference_type, settings.ping_mode) == (False, "infer", None)
    assert (settings.max_body_bytes, settings.timeout_seconds) == (25 * 2**20, 60)


def test_c057_defaults_are_the_stock_containers_but_for_verbose_logs() -> None:
    settings = read()
    assert (settings.allow_grpc, settings.grpc_port) == (False, 8001)
    assert (settings.allow_metrics, settings.metrics_port) == (False, 8002)
    assert (settings.thread_count, settings.buffer_manager_thread_count) == (8, None)
    assert (settings.shm_default_byte_size, settings.shm_growth_byte_size) == (16777216, 1048576)
    assert (settings.log_verbose, settings.log_info) == (("0",), ("false",))
    assert (settings.log_warning, settings.log_error) == (("true",), ("true",))
    assert settings.additional_args == ()


def test_the_settings_are_described_in_the_order_of_their_fields() -> None:
    assert [setting.field for setting in SETTINGS] == [field.name for field in fields(Settings)]
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS) == 37


def test_help_is_in_sentences() -> None:
    for setting in SETTINGS:
        assert setting.help[0].isupper(), setting.name
        assert setting.help.endswith("."), setting.name
        assert "|" not in setting.help, setting.name


def test_c007_values_are_read_empty_means_not_set_and_unknown_is_ignored() -> None:
    settings = read(
        SAGEMAKER_BIND_TO_PORT="9001",
        SAGEMAKER_SAFE_PORT_RANGE="9000-9010",
        SERVE_WORKERS="",
        OTHER="x",
        SAGEMAKER_TRITON_NEW_IDEA="x",
        SAGEMAKER_MULTI_MODEL="TRUE",
    )
    assert settings.port == 9001
    assert settings.safe_port_range == (9000, 9010)
    assert settings.multi_model is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "eighty"),
        ("SAGEMAKER_BIND_TO_PORT", "70000"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "9010-9000"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "9000"),
        ("SERVE_WORKERS", "0"),
        ("SERVE_MAX_BODY_BYTES", "25 MB"),
        ("SERVE_MAX_IN_FLIGHT", "0"),
        ("SERVE_TIMEOUT_SECONDS", "0"),
        ("SERVE_TIMEOUT_SECONDS", "nan"),
        ("SERVE_TIMEOUT_SECONDS", "inf"),
        ("SERVE_EMF_SECONDS", "-1"),
        ("SERVE_ACCESS_LOG", "maybe"),
        ("SAGEMAKER_MULTI_MODEL", "2"),
        ("SAGEMAKER_BATCH_STRATEGY", "BOTH"),
        (f"{TRITON}OVERRIDE_PING_MODE", "dead"),
        (f"{TRITON}GRPC_PORT", "0"),
        (f"{TRITON}THREAD_COUNT", "0"),
        (f"{TRITON}LOG_INFO", "maybe"),
        (f"{TRITON}LOG_VERBOSE", "-1"),
        (f"{TRITON}LOG_VERBOSE", "high"),
        (f"{TRITON}SHM_DEFAULT_BYTE_SIZE", "1048576"),  # Triton loads no model with less than 4 MiB
        (f"{TRITON}MODEL_LOAD_GPU_LIMIT", "1.1"),
        (f"{TRITON}MODEL_LOAD_GPU_LIMIT", "80%"),
        (f"{TRITON}TENSORFLOW_VERSION", "2 --http-port=1"),
        (f"{TRITON}DISABLE_MODEL_NAMESPACING", "yes"),  # Triton stops at it
    ],
)
def test_a_value_that_cannot_be_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    assert str(caught.value).startswith(f"{name} is '{value}'; it must be ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("value", "level"), [("3", "3"), ("true", "1"), ("on", "1"), ("1", "1"), ("False", "0")])
def test_c058_verbose_is_a_level_or_a_truth_word(value: str, level: str) -> None:
    assert read(SAGEMAKER_TRITON_LOG_VERBOSE=value).log_verbose == (level,)


@pytest.mark.parametrize(("value", "told"), [("1", "true"), ("on", "true"), ("TRUE", "true"), ("0", "false")])
def test_c058_the_other_logs_are_on_or_off(value: str, told: str) -> None:
    settings = read(**{f"{TRITON}LOG_{name}": value for name in ("INFO", "WARNING", "ERROR")})
    assert (settings.log_info, settings.log_warning, settings.log_error) == ((told,),) * 3


def test_c059_further_words_of_a_log_value_are_arguments() -> None:
    settings = read(
        SAGEMAKER_TRITON_LOG_INFO="false --load-model=text_encoder  --load-model=vae",
        SAGEMAKER_TRITON_LOG_VERBOSE="true --load-model unet",
        SAGEMAKER_TRITON_ADDITIONAL_ARGS="--rate-limit=off --cache-config 'local,size=1 000'",
    )
    assert settings.log_info == ("false", "--load-model=text_encoder", "--load-model=vae")
    assert settings.log_verbose == ("1", "--load-model", "unet")
    assert settings.additional_args == ("--rate-limit=off", "--cache-config", "local,size=1 000")


@pytest.mark.parametrize("name", ["ADDITIONAL_ARGS", "LOG_INFO"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--http-port=8000", "has --http-port, which serve sets itself"),
        ("--http-port 8000", "has --http-port, which serve sets itself"),
        ("--http-addr=0.0.0.0", "has --http-address, which serve sets itself"),  # Triton takes beginnings
        ("--http-restricted-api=health:a=b", "has --http-restricted-api, which serve sets itself"),
        ("--allow-http=false", "has --allow-http, which serve sets itself"),
        ("--allow-grpc=true", "has --allow-grpc, which serve sets itself; set SAGEMAKER_TRITON_ALLOW_GRPC instead"),
        ("--allow-sagemaker=true", "has --allow-sagemaker, which serve sets itself"),
        ("--model-store=/tmp", "has --model-store, which serve sets itself"),
        ("--model-control-mode=none", "has --model-control-mode, which serve sets itself"),
        ("--backend-config=python,shm-region-prefix-name=x", "has shm-region-prefix-name, which serve sets itself"),
        ("--log-info=1 vae", "has 'vae' where one of Triton's flags is expected"),
        ("--load-model -x", "has '-x' where one of Triton's flags is expected"),
        ("--", "has '--' where one of Triton's flags is expected"),
    ],
)
def test_c016_c059_arguments_that_contradict_serve_are_refused(name: str, words: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{TRITON + name: f"false {words}" if name == "LOG_INFO" else words})
    assert str(caught.value).startswith(f"{TRITON}{name} {said}")


def test_arguments_that_say_what_serve_says_anyway_are_no_mistake() -> None:
    said = ("--allow-http=true", "--model-control-mode=explicit")
    assert read(SAGEMAKER_TRITON_ADDITIONAL_ARGS=" ".join(said)).additional_args == said


def test_quotes_that_do_not_close() -> None:
    with pytest.raises(SettingsError, match="ADDITIONAL_ARGS cannot be split into words: no closing quotation"):
        read(SAGEMAKER_TRITON_ADDITIONAL_ARGS="--load-model='a")


def test_c060_the_inference_type() -> None:
    for known in ("infer", "generate", "generate_stream"):
        assert read(SAGEMAKER_TRITON_INFERENCE_TYPE=known).inference_type == known
    with pytest.raises(SettingsError, match=r"^Invalid SAGEMAKER_TRITON_INFERENCE_TYPE 'Infer'; it must be ") as caught:
        read(SAGEMAKER_TRITON_INFERENCE_TYPE="Infer")
    assert caught.value.exit_code == 1


def test_c026_the_ping_mode() -> None:
    assert read(SAGEMAKER_TRITON_OVERRIDE_PING_MODE="live").ping_mode == "live"


def test_c082_a_batch_transform_in_either_spelling_raises_the_limits() -> None:
    for batch in ("true", "True"):
        settings = read(SAGEMAKER_BATCH=batch)
        assert settings.batch == batch
        assert (settings.max_body_bytes, settings.timeout_seconds) == (100 * 2**20, 3600)
    for usual in (read(), read(SAGEMAKER_BATCH="false")):
        assert (usual.max_body_bytes, usual.timeout_seconds) == (25 * 2**20, 60)


@pytest.mark.parametrize(("payload", "limit"), [("6", 100 * 2**20), ("200", 200 * 2**20), ("0", 2**31)])
def test_c029_a_batch_transforms_own_payload_fits(payload: str, limit: int) -> None:
    assert read(SAGEMAKER_BATCH="true", SAGEMAKER_MAX_PAYLOAD_IN_MB=payload).max_body_bytes == limit


def test_limits_that_are_set_hold_in_a_batch_transform_too() -> None:
    settings = read(SAGEMAKER_BATCH="true", SERVE_MAX_BODY_BYTES="1000", SERVE_TIMEOUT_SECONDS="2.5")
    assert (settings.max_body_bytes, settings.timeout_seconds) == (1000, 2.5)


@pytest.mark.parametrize(
    ("environment", "answer"),
    [
        ({}, (16, "MULTI_RECORD", 6)),
        ({"SAGEMAKER_BATCH": "true"}, (16, "MULTI_RECORD", 6)),
        ({"SAGEMAKER_BATCH": "True"}, (16, "MultiRecord", 6)),
        ({"SAGEMAKER_BATCH": "True", "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD"}, (16, "SingleRecord", 6)),
        ({"SAGEMAKER_BATCH": "true", "SAGEMAKER_BATCH_STRATEGY": "SingleRecord"}, (16, "SINGLE_RECORD", 6)),
        ({"SAGEMAKER_BATCH_STRATEGY": "multi_record"}, (16, "MULTI_RECORD", 6)),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}, (16, "MULTI_RECORD", 1)),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "40"}, (2, "MULTI_RECORD", 40)),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}, (1, "MULTI_RECORD", 0)),
        ({"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "50"}, (50, "MULTI_RECORD", 2)),
        ({"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "4", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "100"}, (4, "MULTI_RECORD", 100)),
    ],
)
def test_c083_c084_execution_parameters(environment: dict[str, str], answer: tuple[Any, ...]) -> None:
    """The job's own values as they are, and what is ours such that concurrency × payload is at most 100 MB."""
    told = execution_parameters(read(**environment))
    assert (told["MaxConcurrentTransforms"], told["BatchStrategy"], told["MaxPayloadInMB"]) == answer


def test_c016_ports_that_are_set_lie_in_the_safe_range() -> None:
    assert (read(**SAFE).grpc_port, read(**SAFE).metrics_port) == (None, None)
    assert read(SAGEMAKER_SAFE_PORT_RANGE="8000-8010").grpc_port == 8001
    assert read(**SAFE, SAGEMAKER_TRITON_GRPC_PORT="9003").grpc_port == 9003
    with pytest.raises(SettingsError, match=r"_METRICS_PORT is '8002'; it must be inside .* 9000-9010"):
        read(**SAFE, SAGEMAKER_TRITON_METRICS_PORT="8002")


def test_ports_that_are_open_are_different_ones() -> None:
    with pytest.raises(SettingsError, match="GRPC_PORT is '8080'; it must be another port than SAGEMAKER_BIND_TO_PORT"):
        read(**OPEN, SAGEMAKER_TRITON_GRPC_PORT="8080")
    with pytest.raises(SettingsError, match=r"METRICS_PORT is '8001'; it must be another port than .*_GRPC_PORT"):
        read(**OPEN, SAGEMAKER_TRITON_METRICS_PORT="8001")
    assert read(SAGEMAKER_TRITON_GRPC_PORT="8080").grpc_port == 8080  # it is not used


@pytest.mark.parametrize(
    ("name", "value", "code", "line"),
    [
        ("SERVE_WORKERS", "many", 2, "SERVE_WORKERS is 'many'; it must be a whole number from 1 to 256"),
        (
            "SAGEMAKER_TRITON_INFERENCE_TYPE", "guess", 1,
            "Invalid SAGEMAKER_TRITON_INFERENCE_TYPE 'guess'; it must be infer, generate or generate_stream",
        ),
    ],
)  # fmt: skip
def test_c060_serve_says_it_in_one_line_and_exits(name: str, value: str, code: int, line: str) -> None:
    environment = {**os.environ, name: value}
    ended = subprocess.run([BIN / "serve"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code
    assert ended.stderr == f"serve: {line}\n"


def test_help_lists_every_variable() -> None:
    shown = subprocess.run([BIN / "serve", "--help"], capture_output=True, text=True, timeout=120, check=True).stdout
    for setting in SETTINGS:
        assert setting.name in shown
