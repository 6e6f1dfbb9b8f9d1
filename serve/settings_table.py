"""Every environment variable `serve` reads, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.settings_values import (
    log_flag,
    log_level,
    number,
    one_of,
    port_range,
    shell_words,
    strategy,
    tritons_truth,
    truth,
    version,
    whole_number,
)

MIB = 2**20
PORT = "a whole number from 1 to 65535"
TRUTH = "true or false"
LOG_FLAG = "true or false, and further arguments for Triton after it"


@dataclass(frozen=True)
class Setting:
    """One variable: its field in Settings, how it is read, what it must look like, and what it is for."""

    name: str
    field: str
    parse: Callable[[str], Any]
    default: str | None
    expected: str
    help: str


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
        "SAGEMAKER_BIND_TO_PORT", "port", whole_number(1, 65535), "8080", PORT,
        "The public port.",
    ),
    Setting(
        "SAGEMAKER_SAFE_PORT_RANGE", "safe_port_range", port_range, None, "two ports such as 9000-9010",
        "All other ports come from this range.",
    ),
    Setting(
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", "default_model_name", str, None, "the name of a model in the repository",
        "Model for requests that name none, and the one that is served unless there are several recommenders.",
    ),
    Setting(
        "SAGEMAKER_MULTI_MODEL", "multi_model", truth, "false", TRUTH,
        "Whether SageMaker loads and unloads models at /models, and nothing is served before it does.",
    ),
    Setting(
        "SERVE_MULTI_MODEL_ROOT", "multi_model_root", Path, "/opt/ml/models", "a folder",
        "Folder that models loaded at /models must lie in.",
    ),
    Setting(
        "SAGEMAKER_TRITON_OVERRIDE_PING_MODE", "ping_mode", one_of("ready", "live"), None, "ready or live",
        "Whether /ping is 200 when models can answer (ready, as for a single model) or when serve runs (live, as for "
        "a multi-model endpoint).",
    ),
    Setting(
        "SAGEMAKER_TRITON_INFERENCE_TYPE", "inference_type", one_of("infer", "generate", "generate_stream"), "infer",
        "infer, generate or generate_stream",
        "Triton's endpoint behind /invocations: infer, or its generate extension in one answer or as a stream of them.",
    ),
    Setting(
        "SERVE_WORKERS", "workers", whole_number(1, 256), None, "a whole number from 1 to 256",
        "Worker processes; by default one for two cores.",
    ),
    Setting(
        "SERVE_MAX_BODY_BYTES", "max_body_bytes", whole_number(1, 2**31), str(25 * MIB),
        "a whole number from 1 to 2147483648",
        "Largest request body, 104857600 in a batch transform and at least its payload; a larger one is answered 413.",
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
    # Of twice the load that two cores can rank, 128 accept as many a second as 512 do, with a p99 of 240 ms, not 870;
    # 64 would refuse where 100 connections come at once (benchmarks/report, more than can be answered).
    Setting(
        "SERVE_MAX_IN_FLIGHT", "max_in_flight", whole_number(1, 10**6), "128", "a whole number from 1 to 1000000",
        "Requests to one model under way at once in one worker; the excess is answered 503 with Retry-After at once.",
    ),
    Setting(
        "SERVE_TIMEOUT_SECONDS", "timeout_seconds", number(0, 3600), "60", "a number above 0 and at most 3600",
        "A request older than this is answered 504; 3600 in a batch transform, and the value "
        "to set on an asynchronous endpoint.",
    ),
    Setting(
        "SERVE_ACCESS_LOG", "access_log", truth, "false", TRUTH,
        "Whether every request is a line of JSON on stdout, and not only those answered with 500 and above.",
    ),
    Setting(
        "SERVE_EMF_SECONDS", "emf_seconds", whole_number(0, 86400), "0", "a whole number from 0 to 86400",
        "Every so many seconds a line a model for CloudWatch metrics (embedded metric format) on stdout; 0 is never.",
    ),
    Setting(
        "SAGEMAKER_BATCH", "batch", str, "false", TRUTH,
        "Set by SageMaker in a batch transform; decides limits, and how /execution-parameters spells the strategy.",
    ),
    Setting(
        "SAGEMAKER_MAX_PAYLOAD_IN_MB", "max_payload_mb", whole_number(0, 2048), None, "a whole number from 0 to 2048",
        "The batch transform's own payload limit, repeated by /execution-parameters; 0 is none.",
    ),
    Setting(
        "SAGEMAKER_BATCH_STRATEGY", "batch_strategy", strategy, None, "SINGLE_RECORD or MULTI_RECORD",
        "The batch transform's own strategy, repeated by /execution-parameters.",
    ),
    Setting(
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "max_concurrent_transforms", whole_number(1, 10**6), None,
        "a whole number from 1 to 1000000",
        "The batch transform's own concurrency, repeated by /execution-parameters.",
    ),
    Setting(
        "SAGEMAKER_TRITON_ALLOW_GRPC", "allow_grpc", truth, "false", TRUTH,
        "Whether Triton's gRPC is open to others on SERVE_BIND_ADDRESS; what changes Triton stays closed to them.",
    ),
    Setting(
        "SAGEMAKER_TRITON_GRPC_PORT", "grpc_port", whole_number(1, 65535), "8001", PORT,
        "Port of Triton's gRPC where it is allowed; the first free one of the safe range where 8001 lies outside.",
    ),
    Setting(
        "SAGEMAKER_TRITON_ALLOW_METRICS", "allow_metrics", truth, "false", TRUTH,
        "Whether metrics, Triton's among them, can be read in Prometheus' format.",
    ),
    Setting(
        "SAGEMAKER_TRITON_METRICS_PORT", "metrics_port", whole_number(1, 65535), "8002", PORT,
        "Port of the metrics where they are allowed; the first free one of the safe range where 8002 lies outside.",
    ),
    # The default of Triton's own container; 1 to 32 differ by less than rounds do (benchmarks/report).
    Setting(
        "SAGEMAKER_TRITON_THREAD_COUNT", "thread_count", whole_number(1, 1024), "8", "a whole number from 1 to 1024",
        "Threads of Triton that take requests.",
    ),
    Setting(
        "SAGEMAKER_TRITON_BUFFER_MANAGER_THREAD_COUNT", "buffer_manager_thread_count", whole_number(0, 1024), None,
        "a whole number from 0 to 1024",
        "Threads of Triton that copy tensors.",
    ),
    Setting(
        "SAGEMAKER_TRITON_LOG_VERBOSE", "log_verbose", log_level, "false",
        "a level such as 3, or true or false, and further arguments for Triton after it",
        "How much Triton logs of every request; true, the default of its own container, makes them 45% slower.",
    ),
    Setting(
        "SAGEMAKER_TRITON_LOG_INFO", "log_info", log_flag, "false", LOG_FLAG,
        "Whether Triton logs what it does, not only warnings and errors.",
    ),
    Setting(
        "SAGEMAKER_TRITON_LOG_WARNING", "log_warning", log_flag, "true", LOG_FLAG,
        "Whether Triton logs warnings.",
    ),
    Setting(
        "SAGEMAKER_TRITON_LOG_ERROR", "log_error", log_flag, "true", LOG_FLAG,
        "Whether Triton logs errors.",
    ),
    Setting(
        "SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE", "shm_default_byte_size", whole_number(4 * MIB, 2**50),
        str(16 * MIB), "a whole number from 4194304 to 1125899906842624",
        "Shared memory of each instance of a model in Python; 1 MiB where /dev/shm has no room for the default.",
    ),
    Setting(
        "SAGEMAKER_TRITON_SHM_GROWTH_BYTE_SIZE", "shm_growth_byte_size", whole_number(1, 2**50), str(MIB),
        "a whole number from 1 to 1125899906842624",
        "Steps that this shared memory grows by.",
    ),
    Setting(
        "SAGEMAKER_TRITON_TENSORFLOW_VERSION", "tensorflow_version", version, None, "a version such as 2",
        "Version of Triton's TensorFlow backend.",
    ),
    Setting(
        "SAGEMAKER_TRITON_MODEL_LOAD_GPU_LIMIT", "model_load_gpu_limit", number(0, 1), None,
        "a number above 0 and at most 1",
        "Fraction of each GPU's memory that may be in use for another model to be loaded.",
    ),
    Setting(
        "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING", "model_namespacing", tritons_truth, None, TRUTH,
        "Passed as it is to --model-namespacing, which is what the stock container makes of this name.",
    ),
    Setting(
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS", "additional_args", shell_words, None,
        "flags of tritonserver, quoted as in a shell",
        "Further arguments for Triton; of a flag given twice the last one counts.",
    ),
)  # fmt: skip
