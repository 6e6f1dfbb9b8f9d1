"""The settings of `serve`: every environment variable it reads, and what follows from their values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from serve import settings_values as values

MIB = 2**20


class SettingsError(Exception):
    """A variable's value cannot be used; the message names the variable, the value and what is expected."""

    exit_code = 2


@dataclass(frozen=True)
class Setting:
    """One variable: its name, its field in Settings, how its text is read, the default text, and its purpose."""

    name: str
    field: str
    kind: values.Kind
    default: str | None
    help: str

    @property
    def expected(self) -> str:
        """Which texts can be read."""
        return self.kind.expected

    def read(self, text: str | None) -> Any:
        """The value of a text, None for None. Raises SettingsError."""
        if text is None:
            return None
        try:
            return self.kind.parse(text)
        except values.Refused as refused:
            raise SettingsError(f"{self.name} {refused}") from refused
        except ValueError as error:
            if self.field == "inference_type":  # the message and the exit code of the stock container
                wrong = SettingsError(f"Invalid {self.name} '{text}'; it must be {self.expected}")
                wrong.exit_code = 1
                raise wrong from error
            raise SettingsError(f"{self.name} is '{text}'; it must be {self.expected}") from error


def _setting(name: str, kind: values.Kind, default: str | None, help: str) -> Any:
    return field(metadata={"name": name, "kind": kind, "default": default, "help": help})


@dataclass(frozen=True)
class Settings:
    """The environment, read and checked once.

    The log settings hold Triton's own value and then further arguments for Triton. `grpc_port` and `metrics_port` are
    None if their default lies outside the safe range: then the port is chosen from that range.
    """

    # fmt: off
    model_repository: Path = _setting(  # noqa: RUF009  this is dataclasses.field
        "SERVE_MODEL_REPOSITORY", values.FOLDER, "/opt/ml/model",
        "Triton model repository to serve; it may be read-only.")
    bind_address: str = _setting(
        "SERVE_BIND_ADDRESS", values.IP_ADDRESS, "0.0.0.0",  # noqa: S104  SageMaker's contract
        "Address of the public port.")
    port: int = _setting(
        "SAGEMAKER_BIND_TO_PORT", values.PORT, "8080",
        "The public port.")
    safe_port_range: tuple[int, int] | None = _setting(
        "SAGEMAKER_SAFE_PORT_RANGE", values.PORT_RANGE, None,
        "Range from which all ports but the public one are chosen.")
    default_model_name: str | None = _setting(
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", values.MODEL_NAME, None,
        "Model for requests that name none; unless there are several recommenders, the only model that is served.")
    multi_model: bool = _setting(
        "SAGEMAKER_MULTI_MODEL", values.TRUTH, "false",
        "Whether this is a multi-model endpoint: it starts without models, and SageMaker loads and unloads them.")
    multi_model_root: Path = _setting(  # noqa: RUF009
        "SERVE_MULTI_MODEL_ROOT", values.FOLDER, "/opt/ml/models",
        "Folder that the models of a multi-model endpoint must lie in.")
    ping_mode: str | None = _setting(
        "SAGEMAKER_TRITON_OVERRIDE_PING_MODE", values.one_of("ready", "live"), None,
        "When /ping is 200: if models can answer (ready; usual for a single model), or if serve runs (live; usual for "
        "a multi-model endpoint).")
    inference_type: str = _setting(
        "SAGEMAKER_TRITON_INFERENCE_TYPE", values.one_of("infer", "generate", "generate_stream"), "infer",
        "Triton's endpoint behind /invocations: infer, or its generate extension with one answer or many in a stream.")
    workers: int = _setting(
        "SERVE_WORKERS", values.whole_number(1, 256), None,
        "Worker processes; by default one for every two cores.")
    max_body_bytes: int = _setting(
        "SERVE_MAX_BODY_BYTES", values.BYTES, str(25 * MIB),
        "Largest request body; a larger one is answered 413. The default is 104857600 in a batch transform, or its "
        "payload limit if that is more.")
    max_list_items: int = _setting(
        "SERVE_MAX_LIST_ITEMS", values.ITEMS, "5000",
        "Most requests in one body, and most ids in one list of a request (candidates, allow, exclude, history).")
    max_work: int = _setting(
        "SERVE_MAX_WORK", values.ITEMS, "500000",
        "Most ids to look up and values to return for one body; 500,000 keep a worker busy for about half a second.")
    # At twice the load that two cores can rank, 128 answers as many requests a second as 512, with a p99 of 240 ms in
    # place of 870; 64 would refuse requests when 100 connections come at once (docs/log.md).
    max_in_flight: int = _setting(
        "SERVE_MAX_IN_FLIGHT", values.whole_number(1, 10**6), "128",
        "Most requests to one model that a worker answers at once; further ones are 503 with Retry-After at once.")
    timeout_seconds: float = _setting(
        "SERVE_TIMEOUT_SECONDS", values.number_up_to(3600), "60",
        "A request that takes longer is answered 504. The default is 3600 in a batch transform; set 3600 on an "
        "asynchronous endpoint.")
    access_log: bool = _setting(
        "SERVE_ACCESS_LOG", values.TRUTH, "false",
        "Whether every request is logged as a line of JSON on stdout, or only those answered with 500 and above.")
    emf_seconds: int = _setting(
        "SERVE_EMF_SECONDS", values.whole_number(0, 86400), "0",
        "Seconds between lines on stdout with a model's metrics for CloudWatch (embedded metric format); 0 is never.")
    batch: str = _setting(
        "SAGEMAKER_BATCH", values.TRUTH_AS_WRITTEN, "false",
        "Set by SageMaker in a batch transform; it changes limits and how /execution-parameters spells the strategy.")
    max_payload_mb: int | None = _setting(
        "SAGEMAKER_MAX_PAYLOAD_IN_MB", values.whole_number(0, 2048), None,
        "The batch transform's payload limit, which /execution-parameters repeats; 0 is no limit.")
    batch_strategy: str | None = _setting(
        "SAGEMAKER_BATCH_STRATEGY", values.STRATEGY, None,
        "The batch transform's strategy, which /execution-parameters repeats.")
    max_concurrent_transforms: int | None = _setting(
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", values.whole_number(1, 10**6), None,
        "The batch transform's number of requests at once, which /execution-parameters repeats.")
    allow_grpc: bool = _setting(
        "SAGEMAKER_TRITON_ALLOW_GRPC", values.TRUTH, "false",
        "Whether Triton's gRPC port is open on SERVE_BIND_ADDRESS; calls that change Triton are refused there.")
    grpc_port: int | None = _setting(
        "SAGEMAKER_TRITON_GRPC_PORT", values.PORT, "8001",
        "Port of Triton's gRPC if it is open; the first free port of the safe range if 8001 lies outside it.")
    allow_metrics: bool = _setting(
        "SAGEMAKER_TRITON_ALLOW_METRICS", values.TRUTH, "false",
        "Whether the metrics of GET /metrics can also be read on a port of their own.")
    metrics_port: int | None = _setting(
        "SAGEMAKER_TRITON_METRICS_PORT", values.PORT, "8002",
        "Port of the metrics if they are open; the first free port of the safe range if 8002 lies outside it.")
    # The default of Triton's own container; 1 to 32 threads differ by less than repeated runs do (docs/log.md).
    thread_count: int = _setting(
        "SAGEMAKER_TRITON_THREAD_COUNT", values.whole_number(1, 1024), "8",
        "Triton's threads that take requests.")
    buffer_manager_thread_count: int | None = _setting(
        "SAGEMAKER_TRITON_BUFFER_MANAGER_THREAD_COUNT", values.whole_number(0, 1024), None,
        "Triton's threads that copy tensors.")
    log_verbose: tuple[str, ...] = _setting(
        "SAGEMAKER_TRITON_LOG_VERBOSE", values.LOG_LEVEL, "false",
        "How much Triton logs of every request; true, the default of its own container, makes requests 45% slower.")
    log_info: tuple[str, ...] = _setting(
        "SAGEMAKER_TRITON_LOG_INFO", values.LOG_FLAG, "false",
        "Whether Triton logs its steps as well as warnings and errors.")
    log_warning: tuple[str, ...] = _setting(
        "SAGEMAKER_TRITON_LOG_WARNING", values.LOG_FLAG, "true",
        "Whether Triton logs warnings.")
    log_error: tuple[str, ...] = _setting(
        "SAGEMAKER_TRITON_LOG_ERROR", values.LOG_FLAG, "true",
        "Whether Triton logs errors.")
    shm_default_byte_size: int = _setting(
        "SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE", values.whole_number(4 * MIB, 2**50), str(16 * MIB),
        "Shared memory of each instance of a model in Python; 1 MiB where /dev/shm has no room for the default.")
    shm_growth_byte_size: int = _setting(
        "SAGEMAKER_TRITON_SHM_GROWTH_BYTE_SIZE", values.whole_number(1, 2**50), str(MIB),
        "Steps in which this shared memory grows.")
    tensorflow_version: str | None = _setting(
        "SAGEMAKER_TRITON_TENSORFLOW_VERSION", values.VERSION, None,
        "Version of Triton's TensorFlow backend.")
    model_load_gpu_limit: float | None = _setting(
        "SAGEMAKER_TRITON_MODEL_LOAD_GPU_LIMIT", values.number_up_to(1), None,
        "Fraction of each GPU's memory above which Triton loads no further model.")
    model_namespacing: str | None = _setting(
        "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING", values.TRITONS_TRUTH, None,
        "Passed unchanged to Triton's --model-namespacing, as in the stock container, in spite of the variable's name.")
    additional_args: tuple[str, ...] = _setting(
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS", values.FLAGS, None,
        "Further arguments for Triton; of a flag given twice the last one counts.")
    # fmt: on

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read all settings; a blank value counts as not set. Raises SettingsError."""
        given = {setting.field: environment.get(setting.name, "").strip() for setting in SETTINGS}
        read = {setting.field: setting.read(given[setting.field] or setting.default) for setting in SETTINGS}
        read["additional_args"] = read["additional_args"] or ()
        # One worker for two cores, because Triton and its models need the other core. Two cores answer 4,270 requests/s
        # for one pair with 1 worker, 3,470 with 2 and 3,400 with 4 (docs/log.md).
        read["workers"] = read["workers"] or max(1, len(os.sched_getaffinity(0)) // 2)
        if is_true(read["batch"]):
            limits = _batch_limits(read["max_payload_mb"])
            read |= {name: value for name, value in limits.items() if not given[name]}
        if read["safe_port_range"]:
            read |= _ports_to_choose(read["safe_port_range"], read, given)
        settings = cls(**read)
        settings._check_distinct_ports()
        return settings

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


SETTINGS = tuple(Setting(field=each.name, **each.metadata) for each in fields(Settings))


def is_true(text: str) -> bool:
    return text.lower() == "true"


def _batch_limits(payload_mb: int | None) -> dict[str, float]:
    """The limits of a batch transform that its variables do not set: SageMaker's maximum, or the job's payload limit
    in MB if that is more (0 is no limit)."""
    limit = 2**31 if payload_mb == 0 else max(100, payload_mb or 0) * MIB
    return {"max_body_bytes": limit, "timeout_seconds": 3600.0}


def _ports_to_choose(
    safe: tuple[int, int], read: Mapping[str, Any], given: Mapping[str, str]
) -> dict[str, None]:  # fmt: skip
    """None for each of Triton's ports whose default lies outside the safe range. Raises SettingsError for one that was
    set outside it."""
    choose: dict[str, None] = {}
    for setting in SETTINGS:
        if setting.field in ("grpc_port", "metrics_port") and not safe[0] <= read[setting.field] <= safe[1]:
            if given[setting.field]:
                raise SettingsError(
                    f"{setting.name} is '{read[setting.field]}'; it must be inside SAGEMAKER_SAFE_PORT_RANGE "
                    f"{safe[0]}-{safe[1]}"
                )
            choose[setting.field] = None
    return choose
