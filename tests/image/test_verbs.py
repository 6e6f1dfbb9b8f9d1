"""`train` and `serve` in containers: hardened, as SageMaker runs them, and when something is wrong."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.http1.connection import LINGER_SECONDS
from tests.image.conftest import Job
from tests.image.docker import CPU, GPU, docker, inspect
from tests.support.eventually import eventually
from tests.support.serving import HARDENED, Server, free_port, in_container
from tests.support.small_models import slow_model


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[Server]:
    """Hardened, as in every test that asks a Server: as nobody, nothing to write to but /tmp."""
    with Server(trained) as running:
        running.wait_until_ready()
        yield running


def test_c097_c100_what_it_trained_is_what_it_serves(server: Server) -> None:
    answer = server.invoke({"user_id": "u3", "k": 5})
    assert answer.status == 200, answer.body
    assert len(answer.json["recommendations"]) == 5
    scores = server.invoke({"pairs": [{"user_id": "u3", "item_id": "i8"}, {"user_id": "u3", "item_id": "i9"}]})
    assert scores.status == 200, scores.body


def test_c104_a_job_prints_its_metrics(job: Job) -> None:
    code, said = job.run(model="gmf", epochs=1)
    assert code == 0, said
    assert re.search(r"HR=(0\.\d+|1\.0+);", said)
    assert re.search(r"NDCG=(0\.\d+|1\.0+);", said)
    assert "Traceback" not in said


def test_c101_a_job_that_fails_says_why(job: Job) -> None:
    code, said = job.run(learning_rat="0.1")
    assert code != 0
    assert "learning_rate" in said
    assert "Traceback" not in said
    assert "learning_rate" in (job.base / "output" / "failure").read_text()


def test_a_job_that_cannot_write_its_model_does_not_begin(job: Job, tmp_path: Path) -> None:
    (tmp_path / "sealed").mkdir()
    began = time.monotonic()
    code, said = job.run(f"--volume={tmp_path / 'sealed'}:/opt/ml/model:ro", epochs=1000)
    assert time.monotonic() - began < 10
    assert code == 1
    assert "cannot write into /opt/ml/model" in said
    assert "Traceback" not in said


def test_an_image_without_torch_says_so(job: Job) -> None:
    job.run(epochs=1)  # the folders
    ended = docker("run", "--rm", "--network=none", f"--volume={job.base}:/opt/ml", GPU, "train", check=False)
    assert ended.returncode == 1
    assert "WITH_TORCH=1" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "torch" in (job.base / "output" / "failure").read_text()


def test_c103_a_job_that_is_stopped_leaves_its_best_epoch(job: Job) -> None:
    """SIGTERM, to process 1, once an epoch is done."""
    job.prepare(model="gmf", epochs=100000, patience=100000)
    docker(
        "run",
        "--detach",
        "--name=ncf-test-job",
        *HARDENED,
        "--user=1000:1000",
        f"--volume={job.base}:/opt/ml",
        CPU,
        "train",
    )
    try:
        eventually(lambda: "HR=" in docker("logs", "ncf-test-job").stderr)
        docker("stop", "--time=60", "ncf-test-job")
        assert inspect("ncf-test-job")["State"]["ExitCode"] == 0, docker("logs", "ncf-test-job").stderr
    finally:
        docker("rm", "--force", "ncf-test-job")
    assert (job.base / "model" / "ncf_model" / "1" / "model.pt").exists()


def wait_for(name: str, status: str) -> None:
    def reached() -> bool:
        state = inspect(name)["State"]
        assert state["Running"], docker("logs", name).stderr
        return bool(state["Health"]["Status"] == status)

    eventually(reached, about=lambda: docker("logs", name).stderr)


@pytest.mark.parametrize("user", ["0:0", "12345:6789"])
def test_c002_c008_c010_any_user_without_a_network(user: str, trained: Path) -> None:
    """Docker's own check finds it healthy; nothing of its file system has changed but /tmp."""
    name = f"ncf-test-{user.split(':')[0]}"
    options = ("--network=none", f"--user={user}", "--health-interval=1s", f"--volume={trained}:/opt/ml/model:ro")
    docker("run", "--detach", "--name", name, *options, CPU, "serve")
    try:
        wait_for(name, "healthy")
        changed = docker("diff", name).stdout.split("\n")
        assert {line.split()[1].split("/")[1] for line in changed if line and "/opt/ml" not in line} <= {"tmp", "opt"}
        docker("stop", "--time=30", name)
        state = inspect(name)["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    finally:
        docker("rm", "--force", name)


def test_c003_c005_sigterm_under_load(trained: Path) -> None:
    """Whoever was accepted is answered; the container ends by itself, with 0, long before it would be killed.

    On the host's network: the proxy of a published port takes connections for a port that is closed.
    """
    answers: list[int] = []
    stop = threading.Event()

    def ask(server: Server) -> None:
        while not stop.is_set():
            asked = time.monotonic()
            try:
                answers.append(server.invoke({"user_id": "u1"}).status)
            except ConnectionRefusedError:
                return  # the port is closed: that is no answer lost
            except OSError:
                # A server that stops waits so long for the request of a new connection; on a busy machine a client
                # may be slower.
                if time.monotonic() - asked < LINGER_SECONDS:
                    answers.append(0)

    server = Server(trained)
    mine = {"SAGEMAKER_BIND_TO_PORT": str(server.port), "SERVE_BIND_ADDRESS": "127.0.0.1"}
    server.command = in_container(CPU, server.port, trained, mine, "--network=host")
    with server:
        server.wait_until_ready()
        clients = [threading.Thread(target=ask, args=(server,)) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(2)
        before = len(answers)
        began = time.monotonic()
        assert server.stop() == 0
        stop.set()
        took = time.monotonic() - began
        for client in clients:
            client.join()
    assert took < 20
    assert before > 100
    assert set(answers[:before]) == {200}
    assert set(answers[before:]) <= {200, 503}


@pytest.mark.parametrize(
    ("mounts", "options", "reason"),
    [
        ((), (), "/opt/ml/model"),
        (("python",), ("--shm-size=512k",), "/dev/shm"),
        (("other",), (), "tensorrt"),
    ],
    ids=["no model", "little shared memory", "a model for another Triton"],
)
def test_c014_what_cannot_be_served_ends_soon_and_says_why(
    mounts: tuple[str, ...], options: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    engine = tmp_path / "other" / "engine"
    (engine / "1").mkdir(parents=True)
    (engine / "1" / "model.plan").write_bytes(b"an engine")
    (engine / "config.pbtxt").write_text('platform: "tensorrt_plan"\nmax_batch_size: 8\n')
    tmp_path.chmod(0o755)
    slow_model(tmp_path / "python")  # in Triton's Python backend, whose processes need shared memory
    folders = {"python": tmp_path / "python", "other": tmp_path / "other"}
    volumes = [f"--volume={folders[mount]}:/opt/ml/model:ro" for mount in mounts]
    began = time.monotonic()
    ended = docker("run", "--rm", *HARDENED, "--user=1000:1000", *volumes, *options, CPU, "serve", check=False)
    assert time.monotonic() - began < 10
    assert ended.returncode == 1, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("serve: ") and reason in line]
    assert len(said) == 1, ended.stderr
    assert "Traceback" not in ended.stderr


def test_c015_a_port_of_the_platforms_choice(trained: Path) -> None:
    port = free_port()
    name = f"ncf-test-{port}"
    options = (f"--publish=127.0.0.1:{port}:9001", "--env=SAGEMAKER_BIND_TO_PORT=9001", "--health-interval=1s")
    docker("run", "--detach", "--name", name, *HARDENED, *options, f"--volume={trained}:/opt/ml/model:ro", CPU, "serve")
    try:
        wait_for(name, "healthy")
        server = Server(trained)
        server.port = port
        assert server.ping() == 200
        assert json.loads(server.request("GET", "/openapi.json").body)["openapi"]
    finally:
        docker("rm", "--force", name)
