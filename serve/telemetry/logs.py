"""Where the log goes: stderr, in the supervisor and in every worker, as lines that begin with "serve: "."""

from __future__ import annotations

import logging

FORMAT = "serve: %(message)s"


def configure_logging(level: int = logging.INFO) -> None:
    """Write log records of at least `level` to stderr; each process calls this once, before it does anything else."""
    logging.basicConfig(format=FORMAT, level=level)
