"""Renders every example of examples/deploy and lints its template with cfn-lint, offline: what `make lint` runs."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from cfnlint.api import ManualArgs, lint

from deploy.checked import checked
from deploy.errors import UserError

EXAMPLES = Path(__file__).parents[1] / "examples" / "deploy"
JOBS = ("train-job.yaml", "transform.yaml")  # these go to SageMaker's API, not to CloudFormation


def render(example: Path, folder: Path) -> str:
    """The template of an example, as JSON; the archive that it names is made in `folder`."""
    shutil.copy(example, folder)
    with tarfile.open(folder / "food.tar.gz", "w:gz") as archive:
        for name in ("ncf_food_model/config.pbtxt", "ncf_food_model/1/model.pt"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    one = checked(folder / example.name)
    return json.dumps(one.template)


def problems(template: str) -> list[str]:
    """What cfn-lint says of a template, for the region that the examples name."""
    found = lint(template, config=ManualArgs(regions=["eu-central-1"], ignore_checks=["I"]))
    return [f"{one.rule.id} at {'.'.join(map(str, one.path or ()))}: {one.message}" for one in found]


def main() -> int:
    failed = 0
    for example in sorted(EXAMPLES.glob("*.yaml")):
        if example.name in JOBS:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = problems(render(example, Path(folder)))
            except UserError as error:
                found = [str(error)]
        for problem in found:
            print(f"{example.name}: {problem}")
        failed += bool(found)
    print(f"cfn-lint: {failed} of the examples have problems" if failed else "cfn-lint: all templates are well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
