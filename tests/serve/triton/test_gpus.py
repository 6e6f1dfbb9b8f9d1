from __future__ import annotations

from pathlib import Path

import pytest

from serve.models import preflight
from serve.triton import gpus
from serve.triton.gpus import count_gpus
from serve.triton.runtime import NGC_SERVER, find_runtime


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for /dev, and is empty."""
    folder = tmp_path / "dev"
    folder.mkdir()
    monkeypatch.setattr(gpus, "DEVICES", folder)
    return folder


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ((), 0),
        (("null", "nvidiactl", "nvidia-uvm", "nvidia-caps"), 0),
        (("nvidia0", "nvidiactl"), 1),
        (("nvidia0", "nvidia1", "nvidia10", "nvidiactl"), 3),
        (("dxg",), 1),
        (("nvhost-gpu", "nvhost-ctrl-gpu", "nvmap"), 1),
    ],
)
def test_gpus_are_counted_by_their_device_files(devices: Path, names: tuple[str, ...], count: int) -> None:
    for name in names:
        (devices / name).touch()
    assert count_gpus() == count


@pytest.mark.skipif(NGC_SERVER.exists(), reason="the flags of the wheel's tritonserver")
@pytest.mark.parametrize("name", ["nvidia0", "dxg", "nvmap", "nvidiactl"])
def test_the_check_of_models_and_the_start_of_triton_agree(devices: Path, tmp_path: Path, name: str) -> None:
    model = tmp_path / "model"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text('backend: "python" instance_group { kind: KIND_GPU }')
    (devices / name).touch()
    without_gpu = [flag for flag in find_runtime(tmp_path).arguments if "pinned-memory" in flag]
    problem = preflight.problem(model, None)
    assert bool(without_gpu) == (problem is not None and "asks for a GPU" in problem) == (name == "nvidiactl")
