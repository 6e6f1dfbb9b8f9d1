from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serve.settings import Settings
from serve.triton.address import TritonAddress
from serve.triton.arguments import triton_arguments

ADDRESS = TritonAddress("127.0.0.1", 9001, 9002, 9003, "key")
ROOMY = 2**30


def arguments(
    shm_free: int = ROOMY, gpus: int = 0, models: Sequence[str] = ("a", "b"), **environment: str
) -> list[str]:
    return triton_arguments(
        Settings.from_environment({f"SAGEMAKER_TRITON_{name}": value for name, value in environment.items()}),
        Path("/view"),
        models,
        ADDRESS,
        "prefix_",
        shm_free,
        gpus,
        exit_seconds=5,
    )


def test_c053_c057_what_triton_is_told_without_any_setting() -> None:
    restricted = "model-repository,shared-memory,logging,trace,statistics:x-serve-key=key"
    assert arguments() == [
        "--model-repository=/view",
        "--model-control-mode=explicit",
        "--load-model=a",
        "--load-model=b",
        "--exit-on-error=false",
        "--http-address=127.0.0.1",
        "--http-port=9001",
        f"--http-restricted-api={restricted}",
        "--http-header-forward-pattern=(?i)^x-amzn-sagemaker-custom-attributes$",
        "--http-thread-count=8",
        "--grpc-address=127.0.0.1",
        "--grpc-port=9002",
        f"--grpc-restricted-protocol={restricted}",
        "--allow-metrics=true",
        "--metrics-address=127.0.0.1",
        "--metrics-port=9003",
        "--allow-gpu-metrics=false",
        "--log-verbose=0",
        "--log-info=false",
        "--log-warning=true",
        "--log-error=true",
        "--exit-timeout-secs=5",
        "--backend-config=python,shm-region-prefix-name=prefix_",
        "--backend-config=python,shm-growth-byte-size=1048576",
        "--backend-config=python,shm-default-byte-size=16777216",
    ]


def test_c057_what_the_settings_add() -> None:
    words = arguments(
        gpus=2,
        ALLOW_GRPC="1",
        THREAD_COUNT="10",
        BUFFER_MANAGER_THREAD_COUNT="5",
        LOG_VERBOSE="3",
        LOG_WARNING="0",
        LOG_ERROR="1",
        SHM_DEFAULT_BYTE_SIZE="16777216000",
        SHM_GROWTH_BYTE_SIZE="2097152",
        TENSORFLOW_VERSION="2",
        MODEL_LOAD_GPU_LIMIT="0.8",
        DISABLE_MODEL_NAMESPACING="False",
    )
    for word in (
        "--grpc-address=0.0.0.0",
        "--http-thread-count=10",
        "--buffer-manager-thread-count=5",
        "--log-verbose=3",
        "--log-warning=false",
        "--log-error=true",
        "--backend-config=python,shm-default-byte-size=16777216000",
        "--backend-config=python,shm-growth-byte-size=2097152",
        "--backend-config=tensorflow,version=2",
        "--model-load-gpu-limit=0:0.8",
        "--model-load-gpu-limit=1:0.8",
        "--model-namespacing=False",  # as it is
    ):
        assert words.count(word) == 1, word
    assert "--allow-gpu-metrics=false" not in words
    assert "--allow-gpu-metrics=false" in arguments(ALLOW_METRICS="on")
    assert not any("gpu-limit" in word for word in arguments(MODEL_LOAD_GPU_LIMIT="0.8"))


def test_c059_the_users_own_arguments_come_last() -> None:
    words = arguments(
        LOG_INFO="false --load-model=c", LOG_VERBOSE="0 --load-model=d", ADDITIONAL_ARGS="--log-info=true --id 'my own'"
    )
    assert words[-5:] == ["--load-model=d", "--load-model=c", "--log-info=true", "--id", "my own"]
    assert words.index("--log-info=false") < words.index("--log-info=true")


def test_grpc_on_an_address_of_ipv6() -> None:
    settings = Settings.from_environment({"SAGEMAKER_TRITON_ALLOW_GRPC": "1", "SERVE_BIND_ADDRESS": "::"})
    assert "--grpc-address=[::]" in triton_arguments(settings, Path("/view"), [], ADDRESS, "prefix_", ROOMY, 0, 5)


def test_shared_memory_that_nobody_asked_for_is_not_taken_where_there_is_little() -> None:
    dockers_own = 64 * 2**20 - 1
    assert not any("shm-default-byte-size" in word for word in arguments(shm_free=dockers_own))
    assert not any("shm-default-byte-size" in word for word in arguments(shm_free=4 * dockers_own, models=()))
    words = triton_arguments(Settings.from_environment({}), Path("/view"), ["a"], ADDRESS, "prefix_", 2**26, 0, 5, 5)
    assert not any("shm-default-byte-size" in word for word in words)  # one model, of which five processes run
    words = triton_arguments(Settings.from_environment({}), Path("/view"), ["a"], ADDRESS, "prefix_", 2**26, 0, 5, 4)
    assert not any("shm-default-byte-size" in word for word in words)  # four would leave nothing to grow into
    asked = arguments(shm_free=dockers_own, SHM_DEFAULT_BYTE_SIZE="33554432")
    assert "--backend-config=python,shm-default-byte-size=33554432" in asked
