from __future__ import annotations

from pathlib import Path

import pytest

from serve.triton.out_of_memory import is_out_of_memory, oom_kills


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2 GiB", "CUDA_OUT_OF_MEMORY", "Out Of Memory", "MemoryError: …",
        "java.lang.OutOfMemoryError", "OOM when allocating tensor", "Dst tensor is not initialized",
        "Src tensor is not initialized", "CNMEM_STATUS_OUT_OF_MEMORY", "CUDNN_STATUS_NOT_INITIALIZED",
        "CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED", "Failed to allocate memory",
        "failed to allocate memory", "No space left on device",
        "[Errno 12] Cannot allocate memory", "DefaultCPUAllocator: can't allocate memory", "std::bad_alloc",
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 1 TiB",
    ],
)  # fmt: skip
def test_c070_words_for_too_little_memory(text: str) -> None:
    assert is_out_of_memory(f"Internal: {text}\n\nAt:\n  model.py(5): initialize")


@pytest.mark.parametrize("text", ["", "no such file", "ROOM is full", "zoom", "shared memory key", "ImportError: oom"])
def test_c070_words_for_something_else(text: str) -> None:
    assert not is_out_of_memory(text)


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        ("5:cpu:/docker/abc\n4:memory:/docker/abc\n0::/", "sys/fs/cgroup/memory/docker/abc/memory.oom_control"),
        ("4:memory:/docker/abc\n0::/", "sys/fs/cgroup/memory/memory.oom_control"),
        ("0::/kube/pod", "sys/fs/cgroup/kube/pod/memory.events"),
        ("0::/kube/pod", "sys/fs/cgroup/memory.events"),
        ("0::/", "sys/fs/cgroup/memory.events"),
        ("", "proc/vmstat"),
    ],
)
def test_c068_where_the_kernel_counts_what_it_killed(tmp_path: Path, cgroup: str, file: str) -> None:
    assert oom_kills(tmp_path) == 0
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(cgroup)
    assert oom_kills(tmp_path) == 0
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("oom 7\noom_kill 3\noom_kill_group 9\n")
    assert oom_kills(tmp_path) == 3


def test_c068_the_count_of_this_machine_can_be_read() -> None:
    assert oom_kills() >= 0
