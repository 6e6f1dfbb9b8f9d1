"""Where Triton listens, and the key of its restricted interfaces: one small file from supervisor to workers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from serve.files import replace

ADDRESS_FILE = "triton.json"
# What only the holder of the key may ask of Triton, over HTTP and over gRPC.
RESTRICTED = ("model-repository", "shared-memory", "logging", "trace", "statistics")
KEY_HEADER = "x-serve-key"


@dataclass(frozen=True)
class TritonAddress:
    """Ports on `host`; `key` goes with every request to what is restricted."""

    host: str
    http_port: int
    grpc_port: int = 0
    metrics_port: int = 0
    key: str = ""
    grpc_host: str = ""  # where it is another

    def write(self, path: Path) -> None:
        replace(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> TritonAddress:
        """Raises OSError or ValueError."""
        return cls(**json.loads(path.read_text()))


def current(address: TritonAddress | Path) -> TritonAddress:
    """The address, or what is written in its file now. Raises OSError or ValueError."""
    return TritonAddress.read(address) if isinstance(address, Path) else address
