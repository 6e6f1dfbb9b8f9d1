"""A file with all rules applied: what every command begins with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import UserError, brief
from deploy.file import archive
from deploy.file.endpoint import EndpointFile
from deploy.file.load import SECRET_PLACES, Loaded, load_endpoint
from deploy.file.source import Source, dotted
from deploy.rules import containers, endpoint, operation
from deploy.rules.finding import Finding
from deploy.rules.service_model import Mismatch, mismatches
from deploy.template.build import template

RULES = (
    endpoint.names,
    endpoint.variants,
    endpoint.shadow,
    endpoint.serverless,
    endpoint.secrets,
    containers.several,
    containers.images,
    containers.environment,
    containers.multi_model,
    containers.instances,
    operation.update,
    operation.asynchronous,
    operation.scaling,
    operation.function,
)


@dataclass(frozen=True)
class Checked:
    """A file that AWS has no known reason to refuse, and its template."""

    loaded: Loaded[EndpointFile]
    template: dict[str, Any]
    uploads: dict[str, str]  # local archives, as the file names them, and where they go

    @property
    def file(self) -> EndpointFile:
        return self.loaded.content


def checked(path: Path) -> Checked:
    """Read, check and render a file. Raises UserError with a line for each mistake."""
    loaded = load_endpoint(path)
    file = loaded.content
    found = [in_words(one, loaded.source) for one in findings(file)]
    if found:
        raise UserError("\n".join(dict.fromkeys(found)))
    for hosted in file.everything_hosted:
        for container in hosted.all_containers:
            if container.local_model:
                # A container of another kind in a pipeline has archives of its own kind.
                archive.check(loaded.folder / container.local_model, is_of_triton=hosted.container is not None)
    uploads = archive.uploads_of(file.local_models(), loaded.folder, file.uploads)
    made = template(file, uploads)
    refused = [mismatch_in_words(one, loaded.source) for one in mismatches(made)]
    if refused:
        raise UserError("\n".join(dict.fromkeys(refused)))
    return Checked(loaded, made, uploads)


def findings(file: EndpointFile) -> Iterator[Finding]:
    for rule in RULES:
        yield from rule(file)


def in_words(found: Finding, source: Source) -> str:
    place = f"{dotted(found.keys)}: " if len(found.keys) > 1 else ""
    return f"{source.where(found.keys)}: {place}{found.message}\n    {found.page.title}: {found.page.address}"


def mismatch_in_words(found: Mismatch, source: Source) -> str:
    keys = source.find(found.value)
    name = dotted(keys) or found.where
    shown = "" if set(SECRET_PLACES) & {str(key) for key in keys} else f" is {brief(found.value)}"
    return f"{source.where(keys)}: {name}{shown}; {found.message} ({found.where}, by botocore's model of the service)"
