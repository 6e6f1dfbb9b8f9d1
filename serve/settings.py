"""Every environment variable `serve` reads, in one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class SettingsError(Exception):
    """A variable's value cannot be used; the message names the variable, the value and what is expected."""


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def port_range(text: str) -> tuple[int, int]:
    low, high = (whole_number(1, 65535)(part) for part in text.split("-"))
    if low > high:
        raise ValueError
    return low, high


def truth(text: str) -> bool:
    """True for 1, on, yes and true in any case, as Triton's own command line reads them."""
    words = {"1": True, "on": True, "yes": True, "true": True, "0": False, "off": False, "no": False, "false": False}
    if text.lower() not in words:
        raise ValueError
    return words[text.lower()]


@dataclass(frozen=True)
class Setting:
    """One variable: its field in Settings, how it is read, what it must look like, and what it is for."""

    name: str
    field: str
    parse: Callable[[str], Any]
    default: str | None
    expected: str
    help: str


def _default_workers() -> str:
    # One worker for two cores: Triton and its models need the other one (measured in docs/log.md).
    return str(max(1, len(os.sched_getaffinity(0)) // 2))


SETTINGS = (
    Setting(
        "SERVE_MODEL_REPOSITORY", "model_repository", Path, "/opt/ml/model", "a folder",
        "Triton model repository to serve; it may be read-only.",
    ),
    Setting(
        "SERVE_BIND_ADDRESS", "bind_address", str, "0.0.0.0", "an IP address",  # noqa: S104  SageMaker's contract
        "Address of the public port.",
    ),
    Setting(
        "SAGEMAKER_BIND_TO_PORT", "port", whole_number(1, 65535), "8080", "a whole number from 1 to 65535",
        "The public port.",
    ),
    Setting(
        "SAGEMAKER_SAFE_PORT_RANGE", "safe_port_range", port_range, None, "two ports such as 9000-9010",
        "Triton's own ports on the loopback interface come from this range.",
    ),
    Setting(
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", "default_model_name", str, None, "the name of a model in the repository",
        "Model for requests that name none.",
    ),
    Setting(
        "SAGEMAKER_TRITON_LOG_INFO", "triton_log_info", truth, "false", "true or false",
        "Whether Triton logs what it does, not only warnings and errors.",
    ),
    Setting(
        "SERVE_WORKERS", "workers", whole_number(1, 256), None, "a whole number from 1 to 256",
        "Worker processes of gunicorn; by default one for two cores.",
    ),
    Setting(
        "SERVE_MAX_BODY_BYTES", "max_body_bytes", whole_number(1, 2**31), str(25 * 2**20),
        "a whole number from 1 to 2147483648",
        "Largest request body; a larger one is answered 413. SageMaker's own limit is 25 MB.",
    ),
    Setting(
        "SERVE_MAX_LIST_ITEMS", "max_list_items", whole_number(1, 2**31), "5000",
        "a whole number from 1 to 2147483648",
        "Most requests in one body, and most ids in one of a request's lists (candidates, allow, exclude, history).",
    ),
    Setting(
        "SERVE_MAX_WORK", "max_work", whole_number(1, 2**31), "500000", "a whole number from 1 to 2147483648",
        "Most ids to look up and values to return for one body; 500,000 keep a worker busy for about half a second.",
    ),
    Setting(
        "SAGEMAKER_BATCH", "batch", str, "false", "true or false",
        "Set by SageMaker in a batch-transform job; decides how /execution-parameters spells the strategy.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The environment, read and checked once."""

    model_repository: Path
    bind_address: str
    port: int
    safe_port_range: tuple[int, int] | None
    default_model_name: str | None
    triton_log_info: bool
    workers: int
    max_body_bytes: int
    max_list_items: int
    max_work: int
    batch: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read all settings; an empty value counts as not set. Raises SettingsError."""
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            default = _default_workers() if setting.field == "workers" else setting.default
            text = environment.get(setting.name, "").strip() or default
            try:
                values[setting.field] = None if text is None else setting.parse(text)
            except ValueError as error:
                raise SettingsError(f"{setting.name} is '{text}'; it must be {setting.expected}") from error
        return cls(**values)
