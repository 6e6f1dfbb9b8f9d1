"""`serve` as in SageMaker's containers: default paths and ports, read-only model, no network, any user, neighbours."""

from __future__ import annotations

import ctypes
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import pytest

from ncf.export.export import export
from ncf.training.run_directory import Run
from tests.support.eventually import eventually
from tests.support.serving import Answer, Server
from tests.support.small_models import one, sums, write_model

pytestmark = pytest.mark.e2e

T = TypeVar("T")

# Without a trace outside: /opt/ml/model is the model's folder, read-only, on top of the /opt there is.
CONTAINER = """
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/opt,upperdir=$1/upper,workdir=$1/work" none /opt
mkdir -p /opt/ml/model
mount --bind "$2" /opt/ml/model
mount -o remount,ro,bind /opt/ml/model
ip link set lo up
shift 2
exec "$@"
"""
SHELL = ["unshare", "--mount", "sh", "-euc", CONTAINER, "container"]
OWN_NETWORK = ["unshare", "--net"]
# A user that nobody knows: it reads what an image lets all users read (here a developer's folders too), writes in /tmp.
NOBODY = 12345
READS = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *READS]


class Container(Server):
    """A server with nothing in its environment but what is given, and with folders and a network of its own.

    `beside` is another container whose network it shares, as those of one endpoint do.
    """

    def __init__(
        self,
        model: Path,
        scratch: Path,
        user: list[str] | None = None,
        beside: Server | None = None,
        **environment: str,
    ) -> None:
        super().__init__(model)
        self.port = int(environment.get("SAGEMAKER_BIND_TO_PORT", "8080"))
        self.environment = {"PATH": os.environ["PATH"], **environment}
        network = ["nsenter", f"--net=/proc/{beside.process.pid}/ns/net"] if beside else OWN_NETWORK
        self.command = [*network, *SHELL, str(scratch), str(model), *(user or []), *self.command]

    def __enter__(self) -> Container:
        super().__enter__()
        own, there = Path("/proc/self/ns/net").readlink(), Path(f"/proc/{self.process.pid}/ns/net")

        def has_its_own() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return there.readlink() != own

        eventually(has_its_own)
        self.inside = ThreadPoolExecutor(1, initializer=enter_network, initargs=(there,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inside.shutdown()
        super().__exit__(kind, error, trace)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        return self.inside.submit(super().request, method, path, body, headers).result()

    def see(self, path: str) -> str:
        """A file of /proc as the container sees itself."""
        return Path(f"/proc/{self.process.pid}/{path}").read_text()

    def listening(self) -> set[tuple[str, int]]:
        """Every address, as the kernel writes it, and port that anything in the network listens on."""
        rows = [line.split() for name in ("tcp", "tcp6") for line in self.see(f"net/{name}").splitlines()[1:]]
        places = [row[1].rpartition(":") for row in rows if row[3] == "0A"]
        return {(address, int(port, 16)) for address, _, port in places}


def enter_network(namespace: Path) -> None:
    """Everything that this thread connects to from now on is there."""
    with namespace.open() as file:
        assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture(scope="module", autouse=True)
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips everything here where a process cannot have folders and a network of its own."""
    folders = [str(tmp_path_factory.mktemp(name)) for name in ("scratch", "model")]
    command = [*OWN_NETWORK, *SHELL, *folders, *AS_NOBODY, "true"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = ended.stderr.strip() if ended.returncode else ""
    except FileNotFoundError as error:
        reason = str(error)
    if reason:
        pytest.skip(
            f"a process cannot be put into namespaces here, which takes root, util-linux and iproute2: {reason}"
        )


MakeContainer = Callable[..., Container]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> MakeContainer:
    def make(model: Path, **more: object) -> Container:
        return Container(model, tmp_path_factory.mktemp("scratch"), **more)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories of one model each."""
    path = tmp_path_factory.mktemp("models")
    for name in ("sums", "double"):
        write_model(name, path / name / name)
    return path


@pytest.fixture(scope="module")
def alone(container: MakeContainer, models: Path) -> Iterator[Container]:
    """With no setting at all; SageMaker's local mode waits so long for it."""
    with container(models / "sums") as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def recommender(
    container: MakeContainer, tiny_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    path = tmp_path_factory.mktemp("recommender")
    export(tiny_run, path, "tiny")
    with container(path, user=AS_NOBODY) as running:
        running.wait_until_ready()
        yield running


def test_c009_c107_what_lies_in_opt_ml_model_is_served_on_port_8080(alone: Container) -> None:
    assert alone.request("GET", "/ping").status == 200
    assert alone.invoke(sums()).json["outputs"][0]["data"] == [5, 7, 9]


def test_c008_the_folder_of_the_model_is_read_only(alone: Container) -> None:
    (options,) = (line.split()[3] for line in alone.see("mounts").splitlines() if line.split()[1] == "/opt/ml/model")
    assert "ro" in options.split(",")
    assert alone.invoke(sums()).status == 200


def test_c010_there_is_no_network(alone: Container) -> None:
    assert [line.split(":")[0].strip() for line in alone.see("net/dev").splitlines()[2:]] == ["lo"]
    assert alone.invoke(sums()).status == 200


def test_c015_c016_by_default_port_8080_is_all_that_others_can_reach(alone: Container) -> None:
    everywhere, loopback = "00000000", "0100007F"  # the second is the end of its form in IPv6, too
    others = {(address, port) for address, port in alone.listening() if not address.endswith(loopback)}
    assert others == {(everywhere, 8080)}


def test_c015_c016_c088_two_containers_on_one_network(container: MakeContainer, models: Path) -> None:
    """Each on its own port and on as many others as it needs from its own range, and nowhere else."""

    def of_an_endpoint(port: int, first: int) -> dict[str, str]:
        return {"SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_SAFE_PORT_RANGE": f"{first}-{first + 9}"}

    open_ports = {"SAGEMAKER_TRITON_ALLOW_GRPC": "true", "SAGEMAKER_TRITON_ALLOW_METRICS": "true"}
    with (
        container(models / "sums", **of_an_endpoint(9001, 9010), **open_ports) as left,
        container(models / "double", beside=left, **of_an_endpoint(9002, 9020)) as right,
    ):
        for each in (left, right):
            each.wait_until_ready()
        target = {"X-Amzn-SageMaker-Target-Container-Hostname": "right"}
        number = one("NUMBER", "INT32", 1, 2, shape=[1, 2])
        assert left.invoke(sums()).json["outputs"][0]["data"] == [5, 7, 9]
        assert right.invoke(number, target).json["outputs"][0]["data"] == [2, 4]
        ports = {port for _, port in left.listening()}
        assert {9001, 9002} <= ports <= {9001, 9002, *range(9010, 9030)}
        assert left.stop() == 0
        assert right.invoke(number, target).status == 200


def test_c091_a_user_that_may_write_in_tmp_only(recommender: Container) -> None:
    assert recommender.see("status").split("Uid:")[1].split()[:4] == [str(NOBODY)] * 4
    assert "HOME=" not in recommender.see("environ")
    answer = recommender.invoke({"user_id": "user 0", "k": 2})
    assert (answer.status, answer.json["reason"]) == (200, "personal")
    assert "Traceback" not in recommender.log.read_text()


def test_c040_csv_json_lines_and_npy(recommender: Container) -> None:
    table = recommender.invoke(b"user 0,a b\nuser 1,7\n", {"Content-Type": "text/csv"})
    assert (table.headers["content-type"], len(table.body.splitlines())) == ("text/csv", 2)
    lines = recommender.invoke(b'{"user_id": "user 0"}\n{"item_id": "7"}\n', {"Content-Type": "application/jsonlines"})
    assert [json.loads(line)["reason"] for line in lines.body.splitlines()] == ["personal", "similar"]
    held = io.BytesIO()
    np.save(held, np.array([[0, 1], [1, 0], [2, 2]]))
    array = recommender.invoke(held.getvalue(), {"Content-Type": "application/x-npy"})
    assert np.load(io.BytesIO(array.body)).shape == (3,)


BEFORE = {
    "text/csv": b"user 0,a b\r\nuser 1,7\r\n",
    "text/csv; charset=utf-8": b'"user 0","a b"\n"user 1","7"\n',
    "TEXT/CSV;header=present": b"item_id,user_id\na b,user 0\n7,user 1\n",
    "application/json": b'{"pairs": {"user_id": ["user 0", "user 1"], "item_id": ["a b", 7]}}\n',
    "application/json; charset=utf-8": b'{"user_id": ["user 0", "user 1"], "item_id": ["a b", 7]}',
}


@pytest.mark.parametrize("kind", BEFORE)
def test_c089_answers_of_other_containers_are_asked(recommender: Container, kind: str) -> None:
    """The one before ours gives its type and nothing else; the one after it gets the same type, and scores."""
    answer = recommender.invoke(BEFORE[kind], {"Content-Type": kind})
    csv = "csv" in kind.lower()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/csv" if csv else "application/json")
    found = [float(line) for line in answer.body.splitlines()] if csv else answer.json["scores"]
    pairs = [{"user_id": "user 0", "item_id": "a b"}, {"user_id": "user 1", "item_id": "7"}]
    assert found == pytest.approx(recommender.invoke({"pairs": pairs}).json["scores"])


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/csv"])
def test_c108_a_call_of_the_local_mode(recommender: Container, accept: str | None) -> None:
    """All headers that its client may send; the type it gives its caller is the one that it asked for."""
    headers = {
        "Content-type": "application/json",
        **({"Accept": accept} if accept else {}),
        "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
        "X-Amzn-SageMaker-Target-Model": "another.tar.gz",
        "X-Amzn-SageMaker-Target-Variant": "AllTraffic",
        "X-Amzn-SageMaker-Inference-Id": "1",
    }
    answer = recommender.request("POST", "/invocations", b'{"user_id": "user 0", "k": 1}', headers)
    wanted = "text/csv" if accept == "text/csv" else "application/json"
    assert (answer.status, answer.headers["content-type"]) == (200, wanted)
