"""What everything on this machine shares: folders, objects, words for the user, programs, and the platform's limits."""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.errors import UserError
from deploy.file.base import Environment, Secret
from deploy.local.objects import Objects

ANSWER_SECONDS = 60.0
SAFE_PORTS = 20  # that a container among several may open besides its own


@dataclass(frozen=True)
class Place:
    """`images` has the commands that stand for images; every other image is the `serve` of this environment."""

    work: Path
    objects: Objects
    say: Callable[[str], None]
    images: Mapping[str, list[str]] = field(default_factory=dict)
    answer_seconds: float = ANSWER_SECONDS

    def command(self, image: str | None) -> list[str] | None:
        """The program that the user gave for an image."""
        return next((c for i, c in self.images.items() if image and (image == i or image.endswith(f"/{i}"))), None)


async def put(place: Place, uri: str, content: bytes, content_type: str) -> None:
    """Write an object. Raises DeployError."""
    with tempfile.NamedTemporaryFile(dir=place.work) as file:
        file.write(content)
        file.flush()
        await asyncio.to_thread(place.objects.upload, Path(file.name), uri, content_type)


def own_program(name: str) -> list[str]:
    """A console script of this environment: `serve` or `train`."""
    path = Path(sys.executable).parent / name
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        raise UserError(f"the program {name} is not in this environment; pip install 'ncf-triton[deploy]'")
    return [found]


def images(given: tuple[str, ...]) -> dict[str, list[str]]:
    """`IMAGE=COMMAND` of each `--image`. Raises UserError."""
    found = {}
    for one in given:
        image, _, command = one.partition("=")
        if not image or not command.strip():
            raise UserError(f"--image is {one}; it is IMAGE=COMMAND, such as my-preparation:v3='python prepare.py'")
        found[image] = shlex.split(command)
    return found


def variables(environment: Environment) -> dict[str, str]:
    """A container's variables; a secret's value is that of this shell's variable of the same name."""
    found = {}
    for name, value in environment.items():
        if isinstance(value, Secret):
            if name not in os.environ:
                raise UserError(
                    f"{name} is in Secrets Manager, which is not asked here; export {name}=… and start again"
                )
            value = os.environ[name]
        found[name] = value
    return found


def safe_ports() -> str:
    """A range of free ports below those that the kernel gives to clients."""
    for _ in range(100):
        first = random.randrange(20_000, 32_000, SAFE_PORTS)
        if all(_is_free(port) for port in range(first, first + SAFE_PORTS)):
            return f"{first}-{first + SAFE_PORTS - 1}"
    raise UserError(f"there are no {SAFE_PORTS} free ports in a row between 20000 and 32000; end some servers")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
