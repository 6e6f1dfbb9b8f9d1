"""Training jobs of several processes (CONTRACT C98, C101, C103): on one host, and on two, here loopback addresses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from threading import Event
from typing import Any

import pytest

from ncf.errors import InputError
from ncf.job.cause import LaunchError, cause_of
from ncf.job.hosts import Hosts, read_hosts
from ncf.job.job import TrainingJob, processes_here
from ncf.job.launch import children, environment, first_process, free_port, launch, pass_on
from ncf.job.settings import JobSettings
from ncf.training.config import TrainConfig
from tests.support.jobs import ROWS, Job, read_until, small_job, table

HOSTS = ("127.0.0.1", "127.0.0.2")
FOREVER = {"epochs": "100000", "patience": "100000"}


def write(folder: Path, content: object) -> Path:
    path = folder / "resourceconfig.json"
    path.write_text(json.dumps(content))
    return path


def test_c098_hosts_have_ranks_by_name(tmp_path: Path) -> None:
    found = read_hosts(write(tmp_path, {"current_host": "b", "hosts": ["b", "a"], "network_interface_name": "eth0"}))
    assert found == Hosts("b", ("a", "b"), "eth0")
    assert found.rank == 1
    assert read_hosts(tmp_path / "none.json") == Hosts("localhost", ("localhost",))
    assert read_hosts(write(tmp_path, {"current_host": "a"})).rank == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"current_host": "c", "hosts": ["a", "b"]}, "current_host 'c' is not among the hosts a, b"),
        ({"hosts": "a"}, "hosts must be a list of names"),
        ([], "must hold an object"),
    ],
)
def test_c098_hosts_that_cannot_be_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_hosts(write(tmp_path, content))
    assert message in str(caught.value)


def test_c098_processes_talk_over_the_network_that_the_platform_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    two = environment(Hosts("a", ("a", "b"), "lo"), 1)
    assert (two["GLOO_SOCKET_IFNAME"], two["NCCL_SOCKET_IFNAME"]) == ("lo", "lo")
    assert environment(Hosts("a", ("a",), "eth7"), 1)["GLOO_SOCKET_IFNAME"] == "lo"
    assert "GLOO_SOCKET_IFNAME" not in environment(Hosts("a", ("a", "b"), "eth7"), 1)
    assert "resourceconfig.json names the network interface eth7, which this host does not have" in caplog.text
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "mine")
    assert environment(Hosts("a", ("a", "b"), "lo"), 1)["NCCL_SOCKET_IFNAME"] == "mine"


SAMPLED = TrainConfig(negatives="4")


@pytest.mark.parametrize(
    ("config", "settings", "hosts", "gpus", "expected"),
    [
        (SAMPLED, {}, 1, 0, 1),
        (SAMPLED, {}, 1, 8, 8),
        (SAMPLED, {"device": "cpu"}, 1, 8, 1),
        (SAMPLED, {"processes": 2}, 1, 8, 2),
        (TrainConfig(negatives="exact"), {}, 1, 8, 1),
        (TrainConfig(model="gmf", members=3), {}, 1, 8, 1),
        (TrainConfig(model="gmf"), {}, 1, 8, 1),  # these few are trained over all cells
        (TrainConfig(model="gmf"), {}, 2, 8, 8),
    ],
)
def test_a_process_for_each_gpu_where_several_can_train(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: TrainConfig, settings: dict[str, Any], hosts: int,
    gpus: int, expected: int,
) -> None:  # fmt: skip
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    data = tmp_path / "ratings.csv"
    data.write_text(table(ROWS))
    usual = JobSettings(config, "m", 5, "auto", 9.0, 0)
    assert processes_here(replace(usual, **settings), Hosts("a", ("a", "b")[:hosts]), data) == expected


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    asked = JobSettings(SAMPLED, "m", 5, "auto", 9.0, 2)
    with pytest.raises(InputError, match="'processes' is 2, each takes a GPU, and this host has 1"):
        processes_here(asked, Hosts("a", ("a",)), Path())
    assert processes_here(replace(asked, device="cpu"), Hosts("a", ("a",)), Path()) == 2


KILLED = "E1 torch/api.py:1002] failed (exitcode: -9) local_rank: 1 (pid: 7) of binary: python3"
LOST = "ncf: process 0 of 2 lost another process and ends: [/a/b/pair.cc:537] Read error: Connection reset by peer"
TORCHRUN = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["epoch 1", "ncf: epochs is 0; it must", KILLED, TORCHRUN], "epochs is 0; it must"),
        ([LOST, "[rank1]: torch.OutOfMemoryError: CUDA out of", TORCHRUN], "torch.OutOfMemoryError: CUDA out of"),
        ([LOST, KILLED, TORCHRUN], "process 1 on a was killed by SIGKILL, which is how a machine out of memory ends"),
        ([LOST, TORCHRUN], "process 0 of 2 lost another process and ends: Read error: Connection reset by peer; the"),
        (["torch.distributed.DistStoreError: Timed out"], "the hosts a, b did not come together: torch.distributed"),
        (["Traceback", "KeyboardInterrupt", TORCHRUN], "torchrun ended with exit code 1; the log says more; the"),
    ],
)  # fmt: skip
def test_c101_the_likeliest_cause_comes_first(lines: list[str], expected: str) -> None:
    found = cause_of(lines, "a", ("a", "b"), 1)
    assert str(found).startswith(expected)
    assert isinstance(found, InputError if "epochs" in expected else LaunchError)


def test_c103_of_a_training_that_is_being_stopped_only_what_ncf_says_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    full = "ncf: cannot write result.json: No space left on device"
    said = [LOST, full, "Traceback (most recent call last):", TORCHRUN.rstrip()]
    quiet = Event()
    for printed in (said, [full]):
        lines: deque[str] = deque()
        command = ["sh", "-c", 'printf "%s\\n" "$@" >&2', "sh", *said]
        with subprocess.Popen(command, stderr=PIPE, text=True) as speaker:
            pass_on(speaker, lines, quiet)
        assert list(lines) == said
        assert capsys.readouterr().err.splitlines() == printed
        quiet.set()


@pytest.mark.parametrize("current", HOSTS)
def test_c101_a_host_that_does_not_come_is_waited_for_only_so_long(tmp_path: Path, current: str) -> None:
    began = time.monotonic()
    with pytest.raises(LaunchError, match=r"the hosts 127.0.0.1, 127.0.0.2 did not come together: .* [Tt]imed out"):
        launch(Hosts(current, HOSTS, "lo"), 1, ["--data=none", f"--output={tmp_path}"], free_port(), together_seconds=2)
    assert time.monotonic() - began < 60


def test_c103_sigterm_with_two_processes_leaves_the_best_epoch(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml", processes="2", **FOREVER)
    process = job.start()
    said = read_until(process, r"epoch +3\b")
    began = time.monotonic()
    process.terminate()
    _, rest = process.communicate(timeout=100)
    said += rest
    assert process.returncode == 0, said
    assert time.monotonic() - began < 60  # of 120
    assert "INFO: 2 processes on each of localhost" in said
    assert "Traceback" not in said
    assert "lost another process" not in said
    assert json.loads((job.run_directory / "result.json").read_text())["stopped"] == "interrupted"
    assert (job.base / "model" / "ncf_model" / "1" / "model.pt").exists()
    assert not (job.base / "output" / "failure").exists()


@pytest.mark.parametrize("hosts", [1, 2])
def test_c101_what_one_process_only_can_do_is_refused_before_anything_is_read_or_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: int
) -> None:
    for name in ("launch", "gather"):
        monkeypatch.setattr(f"ncf.job.job.{name}", lambda *_: pytest.fail("it was begun"))
    processes = {"processes": "2"} if hosts == 1 else {}
    job = small_job(tmp_path / "ml", negatives="exact", **processes)
    job.write("resourceconfig.json", {"current_host": HOSTS[0], "hosts": HOSTS[:hosts]})
    assert TrainingJob(job.base).run() == 2
    assert job.failure.startswith("exact training and folded models are made by one process, and this training has 2")


def two_hosts(folder: Path, **hyperparameters: str) -> tuple[list[Job], list[subprocess.Popen[str]]]:
    """A job on two hosts, started."""
    jobs, port = [], str(free_port())
    for number, host in enumerate(HOSTS):
        job = small_job(folder / str(number), **hyperparameters)
        job.write("resourceconfig.json", {"current_host": host, "hosts": HOSTS, "network_interface_name": "lo"})
        (job.base / "checkpoints").mkdir()
        jobs.append(job)
    return jobs, [job.start(MASTER_PORT=port) for job in jobs]


def test_c098_c103_two_hosts_train_one_model_and_stop_together(tmp_path: Path) -> None:
    """The second is told a second before the first: it stays until the first, which writes, has what it needs."""
    (first, second), processes = two_hosts(tmp_path, **FOREVER)
    read_until(processes[0], r"epoch +3\b")
    processes[1].terminate()
    time.sleep(1)
    processes[0].terminate()
    said = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert (first.base / "model" / "ncf_model" / "1" / "model.pt").exists()
    assert list((first.base / "checkpoints").iterdir())
    assert list((second.base / "model").iterdir()) == list((second.base / "checkpoints").iterdir()) == []
    assert not second.run_directory.exists()
    assert "127.0.0.1 writes the model" in said[1]
    assert not any((job.base / "output" / "failure").exists() for job in (first, second))


def test_c101_a_process_that_dies_on_another_host_ends_the_job(tmp_path: Path) -> None:
    (first, second), processes = two_hosts(tmp_path, **FOREVER)
    read_until(processes[0], r"epoch +3\b")
    (torchrun,) = children(processes[1].pid)
    assert first_process(torchrun) is None  # that is on the first host
    for process in children(torchrun):
        os.kill(process, signal.SIGKILL)
    said = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    assert first.failure.startswith("process 0 of 2 lost another process and ends: ")
    assert first.failure.endswith("; the logs of 127.0.0.1, 127.0.0.2 say more")
    assert second.failure.startswith("process 0 on 127.0.0.2 was killed by SIGKILL")
    assert list((first.base / "checkpoints").iterdir())  # to go on from


def test_two_processes_that_end_by_themselves(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml", processes="2")
    (job.base / "output" / "tensorboard").mkdir(parents=True)
    process = job.start()
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert "INFO: test: HR=" in said
    assert json.loads((job.run_directory / "result.json").read_text())["stopped"] == "all epochs done"
    assert list((job.base / "output" / "tensorboard").iterdir())
