"""The Makefile's parts that touch nothing outside: what `make help` lists, and what `make clean` deletes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def make(*words: str, folder: Path) -> str:
    shutil.copy(MAKEFILE, folder)
    environment = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    command = ["make", "--no-print-directory", *words]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout


def test_help_lists_every_target_that_has_a_description(tmp_path: Path) -> None:
    described = re.findall(r"^([a-z-]+):.*## (.+)$", MAKEFILE.read_text(), re.MULTILINE)
    lines = make("help", folder=tmp_path).splitlines()
    assert [(line.split()[1], line.split(maxsplit=2)[2]) for line in lines] == described
    assert {"demo", "serve", "test", "lint", "image", "help", "clean"} <= {target for target, _ in described}


def test_clean_deletes_no_model(tmp_path: Path) -> None:
    """Also not under the names that the demo uses: a user may have exported a model of their own under one of them."""
    models = [tmp_path / "model_repository" / name / "1" / "model.pt" for name in ("mine", "ncf_food_model")]
    made = [tmp_path / ".venv" / "ready", tmp_path / ".demo" / "food.csv", tmp_path / "build" / "sbom.json"]
    for path in [*models, *made]:
        path.parent.mkdir(parents=True)
        path.write_text("")
    assert "model_repository/ stays as it is" in make("clean", folder=tmp_path)
    assert all(path.exists() for path in models)
    assert not any(path.parent.exists() for path in made)
