"""A real `serve` process for tests, and a client that keeps status, headers and body."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.eventually import eventually

SERVE = Path(sys.executable).parent / "serve"
# The name of an image: then `serve` runs in a container of it, hardened, behind a published port.
IMAGE = os.environ.get("NCF_IMAGE")
HARDENED = (
    "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
    "--memory=3g", "--memory-swap=3g", "--pids-limit=512",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """Context manager: starts `serve` on a free port of the loopback interface, and at the end stops it by SIGTERM.

    It stops while the next test runs, because most of that time is waiting. A test of the stop itself calls `stop`.
    """

    def __init__(self, repository: Path, **environment: str) -> None:
        self.port = free_port()
        self.log = Path(tempfile.mkstemp(prefix="serve-log-")[1])
        if IMAGE is not None:
            self.command, self.environment = in_container(IMAGE, self.port, repository, environment), dict(os.environ)
            return
        self.command = [str(SERVE)]
        self.environment = {
            **os.environ,
            "SERVE_MODEL_REPOSITORY": str(repository),
            "SERVE_BIND_ADDRESS": "127.0.0.1",
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            **environment,
        }

    def __enter__(self) -> Server:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)  # nothing happens if it has ended
        # Python waits for this thread at its own end, and pytest reports an exception in it.
        threading.Thread(target=self._end).start()

    def _end(self) -> None:
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self.log.unlink()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def wait_until_ready(self, seconds: float = 300) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.ping() == 200

        eventually(ready, seconds, self.log.read_text)

    def ping(self) -> int:
        """The status of /ping, 0 if nobody answers."""
        try:
            return self.request("GET", "/ping").status
        except OSError:
            return 0

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = 60,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def invoke(self, document: Any, headers: dict[str, str] | None = None) -> Answer:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request("POST", "/invocations", body, {"Content-Type": "application/json", **(headers or {})})


def in_container(
    image: str, port: int, repository: Path, environment: dict[str, str], *options: str, user: str = "1000:1000"
) -> list[str]:
    """The command that runs `serve` in a container, `repository` at /opt/ml/model; folders that `environment` names
    are mounted where they are."""
    folders = [Path(value) for value in environment.values() if value.startswith("/") and Path(value).is_dir()]
    mounts = [f"--volume={repository}:/opt/ml/model:ro", *(f"--volume={folder}:{folder}" for folder in folders)]
    for folder in (repository, *folders):
        folder.chmod(0o755)  # pytest makes them for one user, and the container has another
    variables = [f"--env={name}={value}" for name, value in environment.items()]
    # Models in Python get tensors through shared memory, and some bodies are larger than the 64 MB that Docker gives.
    outside = (f"--user={user}", "--shm-size=1g", f"--publish=127.0.0.1:{port}:8080")
    return ["docker", "run", "--rm", *HARDENED, *outside, *mounts, *variables, *options, image, "serve"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> dict[str, int]:
    """Direct children of a process, by the name of their program or Python module."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (folder / "cmdline").read_text().split("\0")
        except (OSError, IndexError):
            continue
        if parent == pid:
            name = words[2] if len(words) > 2 and words[1] == "-m" else Path(words[0]).name
            found[name] = int(folder.name)
    return found


def run_serve(repository: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`serve` expected to end by itself."""
    mine = {
        "SERVE_MODEL_REPOSITORY": str(repository),
        "SERVE_BIND_ADDRESS": "127.0.0.1",
        "SAGEMAKER_BIND_TO_PORT": str(free_port()),
    }
    return subprocess.run(
        [SERVE], env={**os.environ, **mine, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


def scratch(server: Server) -> list[Path]:
    """What this `serve` keeps outside its repository: a folder, and shared memory if a model runs in Python."""
    triton = children_of(server.process.pid)["tritonserver"]
    words = Path(f"/proc/{triton}/cmdline").read_text()
    view = re.search(r"--model-repository=([^\0]+)/models\0", words)
    prefix = re.search(r"shm-region-prefix-name=([^\0]+)\0", words)
    assert view is not None
    assert prefix is not None
    return [Path(view[1]), *Path("/dev/shm").glob(f"{prefix[1]}*")]
