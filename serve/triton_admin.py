"""Triton's administration through tritonclient (gRPC), for the control plane and the supervisor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from serve.errors import Unavailable

SECONDS = 5.0
# A model of gigabytes on a busy machine; SageMaker itself gives a load 360 s.
LOAD_SECONDS = 300.0


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


class TritonAdmin:
    """A blocking client; safe to share between threads."""

    def __init__(self, host: str, port: int) -> None:
        # gRPC waits longer and longer between attempts to connect; here the server is on the same machine and starting.
        quick = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
        self._client = triton_grpc.InferenceServerClient(f"{host}:{port}", channel_args=quick)

    def is_live(self) -> bool:
        """Whether the server answers, which it does once its first round of loading is over."""
        try:
            return bool(self._client.is_server_live(client_timeout=SECONDS))
        except InferenceServerException:
            return False

    def index(self) -> list[ModelState]:
        """Every model Triton has loaded or tried to. Raises Unavailable if it does not answer."""
        try:
            models = self._client.get_model_repository_index(client_timeout=SECONDS).models
        except InferenceServerException as error:
            raise Unavailable("the inference server is not ready; try again shortly") from error
        return [ModelState(m.name, m.version, m.state, m.reason) for m in models if m.state]

    def load(self, name: str) -> None:
        """Load a model, or see to it that the versions in its folder are what is loaded.

        Raises LoadFailed, or Unavailable if Triton does not answer.
        """
        self._change(self._client.load_model, name)

    def unload(self, name: str) -> None:
        """Raises LoadFailed, or Unavailable if Triton does not answer."""
        self._change(self._client.unload_model, name)

    def _change(self, change: Callable[..., None], name: str) -> None:
        try:
            change(name, client_timeout=LOAD_SECONDS)
        except InferenceServerException as error:
            if error.status() in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"):
                raise Unavailable("the inference server is not ready; try again shortly") from error
            raise LoadFailed(error.message() or str(error)) from error
