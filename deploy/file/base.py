"""What all parts of a declared file have in common: unknown keys are refused with the nearest known one."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """A mapping in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _has_known_keys(cls, data: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if not isinstance(data, dict):
            keys = ", ".join(known)
            raise PydanticCustomError(
                "not_a_mapping", "it must be a mapping with keys of these: {keys}", {"keys": keys}
            )
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(known)}"
                raise PydanticCustomError("unknown_key", "{key} is unknown; {hint}", {"key": str(key), "hint": hint})
        return data


class Secret(Part):
    """A value that CloudFormation reads from Secrets Manager when it deploys: in no file and in no template."""

    secret: str = Field(min_length=1)
    key: str | None = None


def as_text(value: Any) -> Any:
    """YAML makes numbers of `4` and booleans of `true`; a container's variables are text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Variable = Annotated[str, BeforeValidator(as_text)]
Environment = dict[str, Variable | Secret]
Tags = dict[str, Annotated[str, BeforeValidator(as_text)]]
Percent = Annotated[int, Field(ge=1, le=100)]
S3Uri = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/.*)?$")]


class Vpc(Part):
    subnets: list[str] = Field(min_length=1, max_length=16)
    security_groups: list[str] = Field(min_length=1, max_length=5)
