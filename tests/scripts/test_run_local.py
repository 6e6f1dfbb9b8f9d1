"""`scripts/run_local.sh`: the commands it would give, and what it says where something is wrong.

docker is a stand-in here, for faults; with a real engine and the real image it is run in tests/image/test_run_local.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.serving import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "run_local.sh"

# Its container says a word and ends with $CODE; without $CODE it runs until it is stopped, and is never ready.
DOCKER = """#!/bin/bash
echo "$*" >> "$STATE/calls"
[ "$1" != "$FAILS" ] || { echo "docker: said by docker" >&2; exit 125; }
case $1 in
  logs) echo "said by serve"; [ -n "$CODE" ] || until [ -e "$STATE/stopped" ]; do sleep 0.05; done ;;
  info) echo "$RUNTIMES" ;;
  stop) touch "$STATE/stopped" ;;
  inspect)
    case $* in
      *Running*) [ -n "$CODE" ] || [ -e "$STATE/stopped" ] || echo true ;;
      *) echo "${CODE:-0}" ;;
    esac ;;
  cp) case $2 in */output) mkdir "$3/output"; echo "epoch is unknown" > "$3/output/failure" ;; *) exit 1 ;; esac ;;
esac
"""


class Machine:
    """A folder with a model, an archive and data, and a stand-in for docker."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.temporary = folder, folder / "state", folder / "tmp"
        for path in (self.state, self.temporary, folder / "bin", folder / "models" / "food" / "1"):
            path.mkdir(parents=True)
        (folder / "bin" / "docker").write_text(DOCKER)
        (folder / "bin" / "docker").chmod(0o755)
        shutil.make_archive(str(folder / "food"), "gztar", folder / "models")
        (folder / "ratings.csv").write_text("user_id,item_id\n")
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "STATE": str(self.state),
            "TMPDIR": str(self.temporary),
        }

    def start(self, *words: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(SCRIPT), *map(str, words)],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: object, **environment: str) -> tuple[int, str, str]:
        """-> exit code, stdout, stderr."""
        with self.start(*words, **environment) as running:
            output, errors = running.communicate(timeout=300)
        return running.returncode, output, errors

    def dry_run(self, *words: object) -> list[str]:
        """The commands, on a machine without docker; nothing may change."""
        before = sorted(self.folder.rglob("*"))
        code, output, errors = self.run("--dry-run", *words, PATH=os.defpath)
        assert (code, errors) == (0, "")
        assert sorted(self.folder.rglob("*")) == before
        return [line.removeprefix("+ ") for line in output.splitlines()]

    def was_asked(self) -> bool:
        """Whether docker was asked if the container runs."""
        return "inspect" in (self.state / "calls").read_text()

    def calls(self) -> list[str]:
        """What docker was told, but for questions."""
        lines = (self.state / "calls").read_text().splitlines()
        return [line for line in lines if line.split()[0] not in ("info", "image", "inspect", "logs")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_repository_is_mounted_read_only(machine: Machine) -> None:
    [command] = machine.dry_run("serve", "models", "-e", "A=b c")
    name = command.split("--name ")[1].split()[0]
    assert command == (
        f"docker run --detach --name {name} --user 0:0 --mount 'type=bind,source={machine.folder}/models,"
        "target=/opt/ml/model,readonly' --publish 127.0.0.1:8080:8080 --env 'A=b c' ncf-triton:cpu serve"
    )


def test_an_archive_is_unpacked_as_sagemaker_does(machine: Machine) -> None:
    words = ("serve", "food.tar.gz", "--port", 8081, "--image", "x:y")
    make, unpack, command = machine.dry_run(*words, "--", "--memory", "2g")
    assert make == "mkdir -p SCRATCH/model"
    assert unpack == "tar -xzf food.tar.gz -C SCRATCH/model"
    assert "type=bind,source=SCRATCH/model,target=/opt/ml/model,readonly" in command
    # Not what SageMaker does for one model, but then the port inside is the one outside, in any network.
    assert command.endswith(" --publish 127.0.0.1:8081:8081 --env SAGEMAKER_BIND_TO_PORT=8081 --memory 2g x:y serve")


def test_archives_of_a_multi_model_endpoint_lie_under_hashes(machine: Machine) -> None:
    shutil.copy(machine.folder / "food.tar.gz", machine.folder / "drinks.tar.gz")
    *steps, command = machine.dry_run("multi-model", "food.tar.gz", "drinks.tar.gz")
    folders = [line.split()[-1] for line in steps if line.startswith("tar ")]
    assert len(set(folders)) == 2
    for folder in folders:
        assert re.fullmatch(r"SCRATCH/models/[0-9a-f]{32}/model", folder)
    assert "source=SCRATCH/models,target=/opt/ml/models,readonly" in command
    assert "--env SAGEMAKER_MULTI_MODEL=true" in command


def test_training_gets_its_folders(machine: Machine) -> None:
    pairs = [word for pair in ("epochs=5", 'model_name=a"b\\c', "seed=") for word in ("--hyperparameter", pair)]
    make, *files, command, model, output = machine.dry_run("train", "ratings.csv", "--output", "out", *pairs)
    assert make == "mkdir -p SCRATCH/config out"
    written = dict(line.removeprefix("write SCRATCH/config/").split(": ", 1) for line in files)
    assert json.loads(written["hyperparameters.json"]) == {"epochs": "5", "model_name": 'a"b\\c', "seed": ""}
    assert json.loads(written["inputdataconfig.json"]).keys() == {"train"}
    assert json.loads(written["resourceconfig.json"])["hosts"] == ["algo-1"]
    data = f"source={machine.folder}/ratings.csv,target=/opt/ml/input/data/train/ratings.csv,readonly"
    assert "source=SCRATCH/config,target=/opt/ml/input/config,readonly" in command
    assert data in command
    assert command.endswith(" --hostname algo-1 --env TRAINING_JOB_NAME=local ncf-triton:cpu train")
    assert "publish" not in command
    assert [line.split(":")[1] for line in (model, output)] == ["/opt/ml/model out/", "/opt/ml/output out/"]


def test_a_gpu_is_given_where_docker_can(machine: Machine) -> None:
    smi = machine.folder / "bin" / "nvidia-smi"
    smi.write_text("#!/bin/sh\n")
    smi.chmod(0o755)
    for runtimes, given in (('{"nvidia":{},"runc":{}}', True), ('{"runc":{}}', False)):
        _, output, _ = machine.run("serve", "models", "--dry-run", RUNTIMES=runtimes)
        assert ("--gpus all" in output) == given


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "'' is not serve, multi-model or train; see --help"),
        (["server", "models"], "'server' is not serve, multi-model or train; see --help"),
        (["serve"], "serve takes one path and got 0; see --help"),
        (["serve", "models", "food.tar.gz"], "serve takes one path and got 2; see --help"),
        (["serve", "nowhere"], "nowhere does not exist"),
        (["serve", "models", "--port", "http"], "--port is 'http'; it must be a number, such as 8080"),
        (["serve", "models", "--port"], "--port takes a value; see --help"),
        (["serve", "models", "--memory"], "there is no option --memory; options of `docker run` go behind --; see"),
        (["serve", "models", "--output", "x"], "--output and --hyperparameter are for train only"),
        (["serve", "ratings.csv"], "ratings.csv is no .tar.gz that SageMaker could unpack; scripts/package_model.sh"),
        (["multi-model"], "multi-model takes archives, such as food.tar.gz; see --help"),
        (["multi-model", "models"], "models is no archive; scripts/package_model.sh makes them"),
        (["train", "ratings.csv"], "train needs --output DIR, a folder to make"),
        (["train", "ratings.csv", "--output", "models"], "models exists already; choose another --output"),
        (
            ["train", "ratings.csv", "--output", "o", "--hyperparameter", "k"],
            "--hyperparameter is 'k'; it must be NAME=",
        ),
    ],
)
def test_a_mistake_is_said_and_exit_code_2(machine: Machine, words: list[str], said: str) -> None:
    code, output, errors = machine.run(*words)
    assert (code, output) == (2, "")
    assert errors.splitlines()[-1].startswith(f"run_local.sh: {said}")
    assert not [*machine.temporary.iterdir()]


def test_without_docker_an_engine_or_the_image(machine: Machine) -> None:
    (machine.folder / "bare").mkdir()
    (machine.folder / "bare" / "bash").symlink_to(str(shutil.which("bash")))
    for environment, said in (
        ({"PATH": str(machine.folder / "bare")}, "docker is missing; install Docker Engine or Docker Desktop"),
        ({"FAILS": "info"}, "no Docker engine answers; start it (`docker info` says more)"),
        (
            {"FAILS": "image"},
            "there is no image ncf-triton:cpu here; `make image` builds ncf-triton:cpu, `docker pull`",
        ),
    ):
        code, output, errors = machine.run("serve", "models", **environment)
        assert (code, output) == (2, "")
        assert errors.startswith(f"run_local.sh: {said}")


def test_a_port_in_use_is_said_before_anything_is_started(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, errors = machine.run("serve", "models", "--port", port)
    assert code == 2
    assert errors == (
        f"run_local.sh: port {port} is in use; stop the program that uses it, or choose another, "
        f"such as --port {port + 1}\n"
    )
    assert machine.calls() == []


def test_a_container_that_ends_before_it_is_ready(machine: Machine) -> None:
    code, output, _ = machine.run("serve", "food.tar.gz", "--port", free_port(), CODE="7")
    assert code == 7
    assert output == (
        "said by serve\n== the container ended before /ping was 200; its last lines above say why\n"
        "== the container's exit code is 7\n"
    )
    assert [call.split()[0] for call in machine.calls()] == ["run", "rm"]
    assert not [*machine.temporary.iterdir()]


def test_what_docker_refuses_is_said_in_its_words(machine: Machine) -> None:
    code, _, errors = machine.run("serve", "models", "--port", free_port(), FAILS="run")
    assert (code, errors) == (125, "docker: said by docker\n")
    assert not [*machine.temporary.iterdir()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_container_as_sagemaker_does(machine: Machine, number: signal.Signals) -> None:
    with machine.start("serve", "models", "--port", free_port()) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "said by serve\n"
        eventually(machine.was_asked)  # bash may lose a SIGINT that comes while it starts the log
        running.send_signal(number)
        output, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    assert "== stopping: SIGTERM, and SIGKILL after 30 s\n" in output
    assert output.endswith("== the container's exit code is 0\n")
    assert [call.split()[0] for call in machine.calls()] == ["run", "stop", "rm"]
    assert "stop -t 30 " in machine.calls()[1]


def test_a_job_that_fails_says_its_reason(machine: Machine) -> None:
    code, output, _ = machine.run("train", "ratings.csv", "--output", "out", CODE="2")
    assert code == 2
    assert output.endswith("== FailureReason: epoch is unknown\n== the container's exit code is 2\n")


def test_a_job_without_a_model_has_failed(machine: Machine) -> None:
    code, _, _ = machine.run("train", "ratings.csv", "--output", "out", CODE="0")
    assert code != 0
