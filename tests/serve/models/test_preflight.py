"""The problems that are found before Triton is started, and those that are left to Triton."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from serve.models import preflight

ON_CPU = "instance_group [ { kind: KIND_CPU count: 2 }, { kind: KIND_AUTO } ]"


@pytest.fixture
def backends(tmp_path: Path) -> Path:
    """As in NVIDIA's image: a libtorch backend, and a backend that is based on the Python backend."""
    for file in ("python/libtriton_python.so", "pytorch/libtriton_pytorch.so", "pytorch/model.py", "vllm/model.py"):
        (tmp_path / "backends" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "backends" / file).touch()
    return tmp_path / "backends"


def model(folder: Path, config: str, **versions: bytes | None) -> Path:
    """A model whose versions v1, v2 … have a model.pt of these bytes, None for a whole one."""
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    for version, content in versions.items():
        (folder / version[1:]).mkdir()
        file = folder / version[1:] / "model.pt"
        if content is None:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("model/data.pkl", "x")
        else:
            file.write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("config", "versions", "expected"),
    [
        (
            'platform: "tensorrt_plan"',
            {"v1": b""},
            "asks for the backend 'tensorrt', and this Triton has python, pytorch",
        ),
        ('backend: "onnxruntime"', {"v1": b""}, "asks for the backend 'onnxruntime'"),
        (
            'backend: "python" instance_group { kind: KIND_GPU }',
            {"v1": b""},
            "there is none here; start the container with",
        ),
        ('backend: "python"', {}, "has no version; put the files of the first version into"),
        (
            'platform: "pytorch_libtorch"',
            {"v1": b"PK\3\4 and no more"},
            "1/model.pt cannot be loaded as TorchScript: its end is miss",
        ),
        (
            'platform: "pytorch_libtorch"',
            {"v1": b"x", "v10": b"y"},
            "10/model.pt cannot be loaded as TorchScript: it is no",
        ),
        ('platform: "pytorch_libtorch" default_model_filename: "a.pt"', {"v1": None}, "1/a.pt is missing"),
    ],
)
def test_what_cannot_be_loaded(
    tmp_path: Path, backends: Path, monkeypatch: pytest.MonkeyPatch,
    config: str, versions: dict[str, bytes | None], expected: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(preflight, "count_gpus", lambda: 0)
    found = preflight.problem(model(tmp_path / "m", config, **versions), backends)
    assert found is not None
    assert expected in found
    assert str(tmp_path / "m") in found


@pytest.mark.parametrize(
    ("config", "versions"),
    [
        ('platform: "pytorch_libtorch" ' + ON_CPU, {"v1": None}),
        ('platform: "pytorch_libtorch"', {"v1": None, "v2": b"not whole yet"}),
        ('platform: "pytorch_libtorch"', {"v1": b"\0\0\0\0PTMF"}),
        ('platform: "pytorch_libtorch" cc_model_filenames { key: "7.5" value: "b.pt" }', {"v1": b""}),
        ('backend: "mine" runtime: "libmine.so"', {"v1": b""}),
        ('platform: "ensemble"', {}),
        ('backend: "pytorch" platform: "torch_aoti"', {"v1": b""}),
        ("", {"v1": b""}),
        ("{{{", {"v1": b""}),
    ],
)
def test_what_is_left_to_triton(tmp_path: Path, backends: Path, config: str, versions: dict[str, bytes | None]) -> None:
    assert preflight.problem(model(tmp_path / "m", config, **versions), backends) is None


def test_a_backend_that_a_model_brings_or_that_nobody_knows_of(tmp_path: Path, backends: Path) -> None:
    folder = model(tmp_path / "m", 'backend: "mine"', v1=b"")
    assert preflight.problem(folder, None) is None
    assert preflight.problem(folder, backends) is not None
    (folder / "1" / "libtriton_mine.so").touch()
    assert preflight.problem(folder, backends) is None


def test_what_may_not_be_read(tmp_path: Path, backends: Path) -> None:
    folder = model(tmp_path / "m", "", v1=None)
    (folder / "config.pbtxt").unlink()
    assert preflight.problem(folder, backends) is None
    (folder / "config.pbtxt").mkdir()  # an error for root, too
    assert "config.pbtxt cannot be read by user" in str(preflight.problem(folder, backends))


def test_processes_of_the_python_backend_are_counted(tmp_path: Path, backends: Path) -> None:
    models = [
        model(tmp_path / "a", 'backend: "python" ' + ON_CPU),
        model(tmp_path / "b", 'backend: "vllm"'),
        model(tmp_path / "c", 'platform: "pytorch_libtorch" ' + ON_CPU),
        model(tmp_path / "d", "", v1=b""),
    ]
    assert preflight.instances_in_python(models, backends) == 4
    assert preflight.instances_in_python(models, None) == 0
    steps = "".join(f'step {{ model_name: "{name}" }} ' for name in ("a", "a", "none", "e"))
    ensemble = model(tmp_path / "e", f'platform: "ensemble" ensemble_scheduling {{ {steps} }}')
    assert (
        preflight.instances_in_python([ensemble], backends) == preflight.instances_in_python(models[:1], backends) > 0
    )
    (backends / "pytorch" / "libtriton_pytorch.so").unlink()  # as with the wheel's server
    assert preflight.instances_in_python(models, backends) == 7


@pytest.mark.parametrize(
    ("config", "folders", "message"),
    [
        ("", ["1", "2"], "m has no 2/model.py; copy it, or remove version 2"),
        ("version_policy { all { } }", ["1", "2"], "m has no 1/model.py"),
        ("version_policy { specific { versions: [ 1 ] } }", ["1", "2"], "m has no 1/model.py"),
        ('default_model_filename: "main.py"', ["1"], "m has no 1/main.py"),
        ("", ["1", "2_old"], "takes {}/2_old for version 2; give it a name that does not begin with a digit"),
        ("", ["02"], "takes {}/02 for version 2"),
    ],
)
def test_what_makes_triton_wait_for_ever(
    backends: Path, tmp_path: Path, config: str, folders: list[str], message: str
) -> None:
    folder = model(tmp_path / "m", f'backend: "python" {config}')
    for name in folders:
        (folder / name).mkdir()
    assert message.format(folder) in str(preflight.problem(folder, backends))


def test_a_backup_that_triton_passes_over_is_no_problem(backends: Path, tmp_path: Path) -> None:
    folder = model(tmp_path / "m", 'backend: "python"')
    for name in ("2", "1_old", "old_3"):
        (folder / name).mkdir()
    (folder / "2" / "model.py").touch()
    assert preflight.problem(folder, backends) is None


def test_a_folder_that_triton_is_not_shown_is_no_problem(backends: Path, tmp_path: Path) -> None:
    folder = model(tmp_path / "m", 'platform: "pytorch_libtorch"', v1=None)
    (folder / "2_old").mkdir()
    assert "takes" in str(preflight.problem(folder, backends))
    assert preflight.problem(folder, backends, shown_whole=False) is None
