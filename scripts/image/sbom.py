"""Writes what is in an image as CycloneDX 1.6: Python and Debian packages, and the libraries that wheels bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

LIST_PARTS = Path(__file__).with_name("list_parts.py")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("image")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
def sbom(image: str, output: Path) -> None:
    """Write the SBOM of IMAGE, a local image.

    \b
    Example:
      scripts/image/sbom.py ncf-triton:cpu -o build/sbom-cpu.cdx.json
    """
    described = json.loads(docker("image", "inspect", image))[0]
    entry = ("run", "--rm", "--network=none", "--entrypoint=/opt/venv/bin/python3")
    parts = json.loads(docker(*entry, image, "-c", LIST_PARTS.read_text()))
    bom = document(image, described, parts)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if (wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise click.ClickException(f"the document breaks CycloneDX's schema: {wrong}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n")
    click.echo(f"{output}: {len(bom.components)} components of {image}")


def docker(*arguments: str) -> str:
    try:
        ended = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise click.ClickException("there is no `docker` on PATH") from error
    if ended.returncode != 0:
        raise click.ClickException(f"docker {arguments[0]}: {ended.stderr.strip()}")
    return ended.stdout


def document(image: str, described: dict[str, Any], parts: dict[str, Any]) -> Bom:
    """The image as the subject, everything in it as components."""
    subject = Component(
        type=ComponentType.CONTAINER,
        name=image.split(":")[0],
        bom_ref="image",
        version=(described["Config"]["Labels"] or {}).get("org.opencontainers.image.version"),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=described["Id"].removeprefix("sha256:"))],
    )
    components = [
        Component(
            name=part["name"],
            version=part["version"],
            bom_ref=f"pypi/{part['name']}",
            purl=PackageURL("pypi", None, part["name"].lower().replace("_", "-"), part["version"]),
            licenses=[LicenseExpression(part["license"])] if part["license"] else None,
        )
        for part in parts["python"]
    ]
    components += [
        Component(
            name=part["Package"],
            version=part["Version"],
            bom_ref=f"deb/{part['Package']}/{part['Architecture']}",
            purl=PackageURL(
                "deb",
                parts["distribution"],
                part["Package"],
                part["Version"],
                {"arch": part["Architecture"], "distro": parts["release"]},
            ),
        )
        for part in parts["debian"]
    ]
    components += [
        Component(
            name=part["name"],
            version=part["version"] or None,
            bom_ref=f"bundled/{part['wheel']}/{part['name']}",
            description=f"bundled in the wheel's {part['wheel']}",
        )
        for part in parts["bundled"]
    ]
    bom = Bom(components=components, metadata=BomMetaData(component=subject))
    bom.register_dependency(subject, components)
    return bom


if __name__ == "__main__":
    sys.exit(sbom())
