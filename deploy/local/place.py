"""What all parts of one endpoint share on this machine, and what a container gets from it."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deploy.errors import UserError, WorldError
from deploy.file.base import Environment, Secret
from deploy.local.storage import Storage

SAFE_PORTS = 20  # that a container among several may open besides its own


class Start(NamedTuple):
    """How a container is started; `removal` ends what is left of it when its process was killed."""

    command: list[str]
    environment: dict[str, str]
    port: int = 0
    removal: Sequence[str] = ()


@dataclass(frozen=True)
class Place:
    """`images` has the commands that stand for images; every other image is the `serve` of this environment.

    With `docker` an image is run, and `images` has the names under which they are on this machine.
    """

    endpoint: str
    region: str
    work: Path
    storage: Storage
    say: Callable[[str], None]
    images: Mapping[str, list[str]]
    ports: Iterator[str]
    docker: bool = False

    def command(self, image: str | None) -> list[str] | None:
        """What the user gave for an image."""
        return next((c for i, c in self.images.items() if image and (image == i or image.endswith(f"/{i}"))), None)

    def container(self, image: str | None, verb: str, environment: dict[str, str], port: int, *options: str) -> Start:
        """`docker run` of an image that is on this machine. Raises DeployError."""
        (own, *_) = self.command(image) or [str(image)]
        try:
            subprocess.run(["docker", "image", "inspect", own], check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise UserError("there is no program docker; install Docker, or leave out --docker") from None
        except subprocess.CalledProcessError as error:
            if "No such image" not in error.stderr:
                raise WorldError(f"docker fails: {error.stderr.strip()}") from None
            raise UserError(
                f"the image {own} is not on this machine; docker pull {own}, or give the name of one that is: "
                f"--image {str(image).rpartition('/')[2]}=NAME"
            ) from None
        name = f"ncf-deploy-local-{os.getpid()}-{port}"
        variables = (f"--env={variable}" for variable in environment)  # their values are not for everybody's `ps`
        command = ["docker", "run", "--rm", f"--name={name}", *variables, *options, own, verb]
        return Start(command, environment, port, ["docker", "rm", "--force", name])


def own_program(name: str) -> list[str]:
    """A console script of this environment: `serve` or `train`. Raises UserError."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise UserError(f"the program {name} is not in this environment; pip install 'ncf-triton[deploy]'")
    return [found]


def variables(environment: Environment) -> dict[str, str]:
    """A container's variables; a secret's value is that of this shell's variable of the same name. Raises UserError."""
    found = {}
    for name, value in environment.items():
        if isinstance(value, Secret):
            if name not in os.environ:
                raise UserError(
                    f"{name} is in Secrets Manager, which is not asked here; export {name}=… before the start"
                )
            value = os.environ[name]
        found[name] = value
    return found


def free_port() -> int:
    """Not one of those that the kernel gives to clients, which could take it before the container does."""
    return next(port for port in random.sample(range(10_000, 20_000), 1000) if _is_free(port))


def safe_ports() -> Iterator[str]:
    """Ranges of free ports, each once, below those that the kernel gives to clients. Raises WorldError."""
    for first in random.sample(range(20_000, 32_000, SAFE_PORTS), 600):
        if all(_is_free(port) for port in range(first, first + SAFE_PORTS)):
            yield f"{first}-{first + SAFE_PORTS - 1}"
    raise WorldError(f"there are no {SAFE_PORTS} free ports in a row between 20000 and 32000; end some servers")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
