"""Files of `ncf-deploy` for tests, and archives that they name."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from botocore.stub import Stubber

from deploy.aws.session import Aws
from deploy.checked import Checked, checked

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ncf-triton:v1"
SINGLE = f"""\
name: food
region: eu-central-1
container:
  image: {IMAGE}
  model: s3://my-bucket/models/food.tar.gz
instances: {{type: ml.c6i.xlarge, count: 2}}
"""
HOSTED = SINGLE.partition("container:")[1] + SINGLE.partition("container:")[2]


def written(folder: Path, text: str, name: str = "endpoint.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def check(folder: Path, text: str) -> Checked:
    return checked(written(folder, text))


def resources(folder: Path, text: str) -> dict[str, Any]:
    """The properties of each resource of the template, by logical id."""
    made = check(folder, text).template["Resources"]
    return {name: resource["Properties"] for name, resource in made.items()}


def model_archive(path: Path, *names: str, links: dict[str, str] | None = None) -> Path:
    """An archive with empty files of these names, and symbolic links."""
    with tarfile.open(path, "w:gz") as archive:
        for name in names or ("ncf_food_model/config.pbtxt", "ncf_food_model/1/model.pt"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return path


def indented(text: str, by: int = 2) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


def stubbed(aws: Aws, service: str) -> Stubber:
    """The next answers of a service; its client is made anew, and `aws` uses it."""
    client = aws.client(service)
    aws.__dict__[service] = client
    stub = Stubber(client)
    stub.activate()
    return stub
