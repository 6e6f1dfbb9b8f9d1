"""Triton's administration through tritonclient (gRPC), for the control plane and the supervisor."""

from __future__ import annotations

from dataclasses import dataclass

import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from serve.errors import Unavailable

SECONDS = 5.0


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
