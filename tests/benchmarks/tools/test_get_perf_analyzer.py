"""The errors of `benchmarks/tools/get_perf_analyzer.sh` name commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks import ROOT


def test_without_an_environment_it_names_a_target_of_the_makefile(tmp_path: Path) -> None:
    tools = tmp_path / "benchmarks" / "tools"
    tools.mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks/tools/get_perf_analyzer.sh", tools)
    ended = subprocess.run([tools / "get_perf_analyzer.sh"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    (target,) = re.findall(r"run: make (\S+)", ended.stderr)
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
