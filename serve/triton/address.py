"""Where Triton listens, and the key of its restricted interfaces; the supervisor writes it to a file for workers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

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
        """Replace the file in one step."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        new.replace(path)

    @classmethod
    def read(cls, path: Path) -> TritonAddress:
        """Raises OSError or ValueError."""
        return cls(**json.loads(path.read_text()))


def current(address: TritonAddress | Path) -> TritonAddress:
    """The address, or what is written in its file now. Raises OSError or ValueError."""
    return TritonAddress.read(address) if isinstance(address, Path) else address
