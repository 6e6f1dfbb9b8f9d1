"""Runs inside an image: prints as JSON its Python packages, its Debian packages, and the libraries wheels bundle."""

import json
import re
from importlib import metadata
from pathlib import Path


def debian(status: Path) -> list[dict[str, str]]:
    stanzas = status.read_text(errors="replace").split("\n\n") if status.exists() else []
    fields = [dict(re.findall(r"^(Package|Version|Architecture|Status): (.+)$", stanza, re.M)) for stanza in stanzas]
    return [found for found in fields if found.get("Status", "").endswith(" installed")]


def bundled(packages: Path) -> list[dict[str, str]]:
    """`libxml2-4b4b5b24.so.2.9.13` in `nvidia_pytriton.libs` is libxml2 2.9.13, and part of that wheel."""
    pattern = re.compile(r"(lib.+?)-[0-9a-f]{6,}(?:\.\d+)*\.so(?:\.([\d.]+))?$")
    found = [(path.parent.name, pattern.match(path.name)) for path in sorted(packages.glob("*.libs/*.so*"))]
    return [{"wheel": wheel, "name": match[1], "version": match[2] or ""} for wheel, match in found if match]


distribution = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.M))
site = Path(metadata.distribution("click").locate_file("")).resolve()
parts = {
    "distribution": distribution["ID"],
    "release": distribution.get("VERSION_CODENAME", ""),
    "debian": debian(Path("/var/lib/dpkg/status")),
    "bundled": bundled(site),
    "python": [
        {
            "name": found.metadata["Name"],
            "version": found.version,
            "license": found.metadata["License-Expression"] or "",
        }
        for found in metadata.distributions()
    ],
}
print(json.dumps(parts))
