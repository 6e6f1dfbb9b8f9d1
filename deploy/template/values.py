"""Small parts that several resources share."""

from __future__ import annotations

import re
from typing import Any

from deploy.file.base import Environment, Secret
from deploy.file.endpoint import EndpointFile


def tags(file: EndpointFile) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in file.tags.items()]


def given(**properties: Any) -> dict[str, Any]:
    """The properties that have a value."""
    return {name: value for name, value in properties.items() if value not in (None, [], {})}


def variables(environment: Environment) -> dict[str, str]:
    """A container's variables; a secret is a reference that CloudFormation resolves when it deploys."""
    return {name: _reference(value) if isinstance(value, Secret) else value for name, value in environment.items()}


def _reference(value: Secret) -> str:
    return f"{{{{resolve:secretsmanager:{value.secret}:SecretString{f':{value.key}' if value.key else ''}}}}}"


def identifier(name: str) -> str:
    """A name as part of a logical id, which has letters and digits alone."""
    return "".join(part[:1].upper() + part[1:] for part in re.split("[^A-Za-z0-9]+", name))
