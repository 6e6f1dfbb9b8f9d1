"""Administration of Triton through tritonclient (gRPC), for the control plane and the supervisor."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from serve.errors import Unavailable
from serve.triton.address import KEY_HEADER, AddressReader, TritonAddress

SECONDS = 5.0
# Loading a model of gigabytes on a busy machine takes minutes; SageMaker waits 360 s for a load.
LOAD_SECONDS = 350.0
# Triton's gRPC expects the header of HTTP with this prefix.
GRPC_KEY_HEADER = f"triton-grpc-protocol-{KEY_HEADER}"
CHANNEL = [
    ("grpc.enable_http_proxy", 0),  # Triton is on this machine, so http_proxy does not apply
    # By default gRPC waits longer after every attempt to connect, but here the server is only about to start.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    # The reason of a failure comes as metadata, and Python's traceback can be longer than the default of 8 kB.
    ("grpc.max_metadata_size", 2**20),
    ("grpc.absolute_max_metadata_size", 2**20),
]
# Failures of a load for which Triton is the reason and not the model.
GONE = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")


class LoadFailed(Exception):
    """Triton could not load or unload a model; the message is its reason."""


@dataclass(frozen=True)
class ModelState:
    """One version of a model in Triton's repository index; `reason` says why it is not READY."""

    name: str
    version: str
    state: str
    reason: str

    @property
    def ready(self) -> bool:
        return self.state == "READY"

    @property
    def gone(self) -> bool:
        """Whether it is unloaded and takes no memory; while it is being loaded or unloaded, it takes memory."""
        return self.state in ("UNAVAILABLE", "UNKNOWN")


class TritonAdmin:
    """A blocking client, safe to share between threads."""

    def __init__(self, address: AddressReader) -> None:
        self._address = address
        self._connection: tuple[TritonAddress, Any] | None = None

    def is_live(self, seconds: float = SECONDS) -> bool:
        """Whether the server answers within `seconds`; while it loads its first models, it does not answer.

        It opens its HTTP port, which the workers use, up to 20 ms after the gRPC port, so both are tried.
        """
        try:
            address, client = self._connect()
            live = bool(client.is_server_live(client_timeout=seconds))  # for which Triton wants no key
            socket.create_connection((address.host, address.http_port), seconds).close()
            return live
        except (InferenceServerException, Unavailable, OSError):
            return False

    def index(self) -> list[ModelState]:
        """Every model that Triton has loaded or tried to load. Raises Unavailable if it does not answer."""
        try:
            models = self._call("get_model_repository_index", client_timeout=SECONDS).models
        except InferenceServerException as error:
            raise Unavailable("the inference server is not ready; try again shortly") from error
        return [ModelState(m.name, m.version, m.state, m.reason) for m in models if m.state]

    def load(self, name: str) -> None:
        """Load a model; if it is loaded, load and unload versions until they are those in its folder.

        Raises LoadFailed, or Unavailable if Triton does not answer.
        """
        self._change("load_model", name)

    def unload(self, name: str) -> None:
        """Begin to unload a model; Triton finishes the model's requests first.

        Raises LoadFailed, or Unavailable if Triton does not answer.
        """
        self._change("unload_model", name)

    def _change(self, method: str, name: str) -> None:
        try:
            self._call(method, name, client_timeout=LOAD_SECONDS)
        except InferenceServerException as error:
            if error.status() in GONE:
                raise Unavailable("the inference server is not ready; try again shortly") from error
            raise LoadFailed(error.message() or str(error)) from error

    def _call(self, method: str, *arguments: object, **named: object) -> Any:
        address, client = self._connect()
        return getattr(client, method)(*arguments, headers={GRPC_KEY_HEADER: address.key}, **named)

    def _connect(self) -> tuple[TritonAddress, Any]:
        try:
            address = self._address()
        except (OSError, ValueError) as error:
            raise Unavailable("the inference server is not started yet; try again shortly") from error
        connection = self._connection
        if connection is None or connection[0] != address:
            everywhere = address.grpc_host in ("", "0.0.0.0", "[::]")  # noqa: S104
            server = f"{address.host if everywhere else address.grpc_host}:{address.grpc_port}"
            connection = address, triton_grpc.InferenceServerClient(server, channel_args=CHANNEL)
            self._connection = connection
        return connection
