from __future__ import annotations

import subprocess
import sys

CODE = """
import logging
from serve.telemetry.logs import configure_logging
configure_logging()
logging.getLogger("serve").debug("not shown")
logging.getLogger("serve").info("shown: %d", 7)
"""


def test_the_log_is_lines_on_stderr() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=30, check=True)
    assert (ended.stdout, ended.stderr) == ("", "serve: shown: 7\n")
