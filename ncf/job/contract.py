"""Read the JSON files of SageMaker's training contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ncf.errors import InputError


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, empty if the file is missing. Raises InputError for other content."""
    try:
        found = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f'{path} must hold an object, such as {{"name": "value"}}')
    return found
