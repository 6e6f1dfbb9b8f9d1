"""Where Triton listens, and the key of its restricted interfaces; the supervisor writes it to a file for workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from serve.files import replace

ADDRESS_FILE = "triton.json"
# The interfaces of Triton, over HTTP and gRPC, that want the key.
RESTRICTED = ("model-repository", "shared-memory", "logging", "trace", "statistics")
KEY_HEADER = "x-serve-key"


@dataclass(frozen=True)
class TritonAddress:
    """Ports on `host`; requests to restricted interfaces must have `key`."""

    host: str
    http_port: int
    grpc_port: int = 0
    metrics_port: int = 0
    key: str = ""
    grpc_host: str = ""  # where gRPC listens

    def write(self, path: Path) -> None:
        replace(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> TritonAddress:
        """Raises OSError or ValueError."""
        return cls(**json.loads(path.read_text()))


# Reads the present address, because it changes with every start of tritonserver. Raises OSError or ValueError.
AddressReader = Callable[[], TritonAddress]


def address_reader(scratch: Path) -> AddressReader:
    """Reads the address that the supervisor has written into its scratch folder."""
    return partial(TritonAddress.read, scratch / ADDRESS_FILE)
