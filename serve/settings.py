"""The settings of `serve`: the environment read by the table in serve/settings_table.py, and what follows from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.settings_table import MIB, SETTINGS, Setting
from serve.settings_values import Refused

__all__ = ["SETTINGS", "Setting", "Settings", "SettingsError"]


class SettingsError(Exception):
    """A variable's value cannot be used; the message names the variable, the value and what is expected."""

    exit_code = 2


@dataclass(frozen=True)
class Settings:
    """The environment, read and checked once.

    The log settings hold what Triton is told and the further arguments in the same variable. A port is None where its
    default lies outside the safe range: it is to be chosen from that.
    """

    model_repository: Path
    bind_address: str
    port: int
    safe_port_range: tuple[int, int] | None
    default_model_name: str | None
    multi_model: bool
    multi_model_root: Path
    ping_mode: str | None
    inference_type: str
    workers: int
    max_body_bytes: int
    max_list_items: int
    max_work: int
    max_in_flight: int
    timeout_seconds: float
    access_log: bool
    emf_seconds: int
    batch: str
    max_payload_mb: int | None
    batch_strategy: str | None
    max_concurrent_transforms: int | None
    allow_grpc: bool
    grpc_port: int | None
    allow_metrics: bool
    metrics_port: int | None
    thread_count: int
    buffer_manager_thread_count: int | None
    log_verbose: tuple[str, ...]
    log_info: tuple[str, ...]
    log_warning: tuple[str, ...]
    log_error: tuple[str, ...]
    shm_default_byte_size: int
    shm_growth_byte_size: int
    tensorflow_version: str | None
    model_load_gpu_limit: float | None
    model_namespacing: str | None
    additional_args: tuple[str, ...]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read all settings; an empty value counts as not set. Raises SettingsError."""
        given = {setting.field: environment.get(setting.name, "").strip() for setting in SETTINGS}
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            values[setting.field] = _read(setting, given[setting.field] or setting.default)
        values["additional_args"] = values["additional_args"] or ()
        # One worker for two cores: Triton and its models need the other one. Two cores answer 4,270 requests/s of one
        # pair with 1 worker, 3,470 with 2, 3,400 with 4 (benchmarks/report, settings of serve).
        values["workers"] = values["workers"] or max(1, len(os.sched_getaffinity(0)) // 2)
        if is_true(values["batch"]):
            values |= {field: value for field, value in _batch_limits(values).items() if not given[field]}
        if values["safe_port_range"]:
            values |= _within(values["safe_port_range"], values, given)
        settings = cls(**values)
        settings._check_distinct_ports()
        return settings

    @property
    def in_batch(self) -> bool:
        """Whether this is a batch transform: `true` on the platform, `True` in the SDK's local mode."""
        return is_true(self.batch)

    def _check_distinct_ports(self) -> None:
        open_ports = {"SAGEMAKER_BIND_TO_PORT": self.port}
        for name, port, allowed in (
            ("SAGEMAKER_TRITON_GRPC_PORT", self.grpc_port, self.allow_grpc),
            ("SAGEMAKER_TRITON_METRICS_PORT", self.metrics_port, self.allow_metrics),
        ):
            for other, taken in open_ports.items():
                if allowed and port == taken:
                    raise SettingsError(f"{name} is '{port}'; it must be another port than {other}")
            if allowed and port is not None:
                open_ports[name] = port


def is_true(text: str) -> bool:
    return text.lower() == "true"


def _read(setting: Setting, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return setting.parse(text)
    except Refused as refused:
        raise SettingsError(f"{setting.name} {refused}") from refused
    except ValueError as error:
        if setting.field == "inference_type":  # the stock container's words, and its exit code
            wrong = SettingsError(f"Invalid {setting.name} '{text}'; it must be {setting.expected}")
            wrong.exit_code = 1
            raise wrong from error
        raise SettingsError(f"{setting.name} is '{text}'; it must be {setting.expected}") from error


def _batch_limits(values: Mapping[str, Any]) -> dict[str, float]:
    """What a batch transform may take where nobody says otherwise: SageMaker's own most, and what the job has set."""
    payload = values["max_payload_mb"]
    limit = 2**31 if payload == 0 else max(100, payload or 0) * MIB
    return {"max_body_bytes": limit, "timeout_seconds": 3600.0}


def _within(safe: tuple[int, int], values: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, None]:
    """Which of Triton's ports are to be chosen from the safe range. Raises SettingsError for one set outside it."""
    choose: dict[str, None] = {}
    for setting in SETTINGS:
        if setting.field in ("grpc_port", "metrics_port") and not safe[0] <= values[setting.field] <= safe[1]:
            if given[setting.field]:
                raise SettingsError(
                    f"{setting.name} is '{values[setting.field]}'; it must be inside SAGEMAKER_SAFE_PORT_RANGE "
                    f"{safe[0]}-{safe[1]}"
                )
            choose[setting.field] = None
    return choose
