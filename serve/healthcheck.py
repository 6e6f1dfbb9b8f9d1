"""The image's health check: exit code 0 if `serve` in this container answers /ping, or if this container trains."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

SECONDS = 4


def is_healthy(command: bytes, host: str, port: int) -> bool:
    """Whether a container is well whose first process was started by `command` (as in /proc/1/cmdline)."""
    if any(Path(word.decode(errors="replace")).name == "train" for word in command.split(b"\0")):
        return True
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT") or 8080)
    address = os.environ.get("SERVE_BIND_ADDRESS", "")
    host = "127.0.0.1" if address in ("", "0.0.0.0", "::") else address  # noqa: S104
    sys.exit(0 if is_healthy(Path("/proc/1/cmdline").read_bytes(), host, port) else 1)
