"""From a path to a checked file, or to one sentence for each mistake in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from deploy.errors import UserError, brief
from deploy.file.base import Part
from deploy.file.endpoint import EndpointFile
from deploy.file.source import Keys, Source, dotted, read

AnyFile = TypeVar("AnyFile", bound=Part)
SECRET_PLACES = ("environment", "hyperparameters")  # values there are never printed


@dataclass(frozen=True)
class Loaded(Generic[AnyFile]):
    """A file's content, and where in it everything is."""

    content: AnyFile
    source: Source

    @property
    def folder(self) -> Path:
        return self.source.path.parent


def load(path: Path, kind: type[AnyFile]) -> Loaded[AnyFile]:
    """Read a file of a kind. Raises UserError with a line for each mistake."""
    source = read(path)
    try:
        return Loaded(kind.model_validate(source.document), source)
    except ValidationError as error:
        raise UserError("\n".join(dict.fromkeys(_in_words(one, source) for one in error.errors()))) from None


def load_endpoint(path: Path) -> Loaded[EndpointFile]:
    return load(path, EndpointFile)


def _in_words(error: ErrorDetails, source: Source) -> str:
    keys = _keys_in_file(error["loc"], source)
    if error["type"] == "unknown_key":
        return f"{source.where((*keys, error['ctx']['key']))}: {_after(keys)}{error['msg']}"
    if error["type"] == "missing":
        return f"{source.where(keys)}: {dotted(keys)} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("value_error", "not_a_mapping"):
        return f"{source.where(keys)}: {_after(keys)}{message}"
    shown = "" if set(SECRET_PLACES) & set(keys) else f" is {brief(error['input'])}"
    return f"{source.where(keys)}: {dotted(keys)}{shown}: {message[:1].lower()}{message[1:]}"


def _after(keys: Keys) -> str:
    return f"{dotted(keys)}: " if keys else ""


def _keys_in_file(places: Keys, source: Source) -> Keys:
    """Pydantic's path without the names of the types it tried."""
    keys: Keys = ()
    for number, place in enumerate(places):
        is_last_of_missing = number == len(places) - 1 and not str(place).startswith(("function-", "Secret"))
        if (*keys, place) in source.lines or is_last_of_missing:
            keys = (*keys, place)
    return keys
