"""The arguments with which tritonserver is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serve.settings import Settings
from serve.triton.address import KEY_HEADER, RESTRICTED, TritonAddress

# The callers' header that Triton passes to models as a request parameter of the same name.
FORWARDED = "(?i)^x-amzn-sagemaker-custom-attributes$"
SHM_DEFAULT, TRITONS_OWN = 16 * 2**20, 2**20
# Assumptions about shared memory: the instances of a model, and the models that a multi-model endpoint may load.
INSTANCES, LATER = 2, 16


def grpc_host(settings: Settings) -> str:
    """The address for Triton's gRPC: the public address if it is to be open, else the loopback interface."""
    if not settings.allow_grpc:
        return "127.0.0.1"
    return f"[{settings.bind_address}]" if ":" in settings.bind_address else settings.bind_address


def triton_arguments(
    settings: Settings,
    view: Path,
    models: Sequence[str],
    address: TritonAddress,
    shm_prefix: str,
    shm_free: int,
    gpus: int,
    exit_seconds: int,
    instances: int = 0,
) -> list[str]:
    """Arguments that make Triton load `models` of the folder `view` and listen at `address`; the user's come last.

    `shm_free` is the free space in /dev/shm in bytes, `gpus` the number of GPUs, and `instances` the least number of
    processes of the Python backend that the models take.
    """
    restricted = f"{','.join(RESTRICTED)}:{KEY_HEADER}={address.key}"
    return [
        f"--model-repository={view}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--exit-on-error=false",  # one broken model must not keep the others from answering
        f"--http-address={address.host}",
        f"--http-port={address.http_port}",
        f"--http-restricted-api={restricted}",
        f"--http-header-forward-pattern={FORWARDED}",
        f"--http-thread-count={settings.thread_count}",
        f"--grpc-address={grpc_host(settings)}",
        f"--grpc-port={address.grpc_port}",
        f"--grpc-restricted-protocol={restricted}",
        *_metrics(address, gpus),
        f"--log-verbose={settings.log_verbose[0]}",
        f"--log-info={settings.log_info[0]}",
        f"--log-warning={settings.log_warning[0]}",
        f"--log-error={settings.log_error[0]}",
        f"--exit-timeout-secs={exit_seconds}",
        *_shared_memory(settings, shm_prefix, len(models), instances, shm_free),
        # With Triton's default, a few slow loads, or loads that hang, would keep all others waiting (C80c).
        *_given("--model-load-thread-count", 32 if settings.multi_model else None),
        *_given("--buffer-manager-thread-count", settings.buffer_manager_thread_count),
        *_given("--model-namespacing", settings.model_namespacing),
        *_given("--backend-config=tensorflow,version", settings.tensorflow_version),
        *(f"--model-load-gpu-limit={gpu}:{settings.model_load_gpu_limit}" for gpu in _limited(settings, gpus)),
        *further_arguments(settings),
    ]


def further_arguments(settings: Settings) -> list[str]:
    """The arguments for Triton that the environment has, in the order of the settings."""
    logs = (settings.log_verbose, settings.log_info, settings.log_warning, settings.log_error)
    return [*(word for words in logs for word in words[1:]), *settings.additional_args]


def _given(flag: str, value: object) -> list[str]:
    return [] if value is None else [f"{flag}={value}"]


def _limited(settings: Settings, gpus: int) -> range:
    return range(0 if settings.model_load_gpu_limit is None else gpus)


def _metrics(address: TritonAddress, gpus: int) -> list[str]:
    """Triton's metrics are on the loopback interface; `serve` reads them and shows them on its own page."""
    return [
        "--allow-metrics=true",
        f"--metrics-address={address.host}",
        f"--metrics-port={address.metrics_port}",
        *([] if gpus else ["--allow-gpu-metrics=false"]),  # the search takes time and logs errors
    ]


def region_size(settings: Settings, models: int, instances: int, free: int) -> int:
    """The bytes of shared memory that Triton takes at once for each instance of a model in Python."""
    # Docker gives a container 64 MiB of shared memory. Where SageMaker's default does not fit and is not asked for,
    # Triton's own default of 1 MiB is used, which grows when it must.
    size = settings.shm_default_byte_size
    fits = size * max((models or LATER) * INSTANCES, instances) < free  # a model may need more than its share
    return size if size != SHM_DEFAULT or fits else TRITONS_OWN


def _shared_memory(settings: Settings, prefix: str, models: int, instances: int, free: int) -> list[str]:
    size = region_size(settings, models, instances, free)
    return [
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        f"--backend-config=python,shm-growth-byte-size={settings.shm_growth_byte_size}",
        *_given("--backend-config=python,shm-default-byte-size", None if size == TRITONS_OWN else size),
    ]
