"""The bodies to send, from a file of the user."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.errors import UserError, brief


def from_lines(path: Path) -> list[bytes]:
    """A body a line of JSON; a line that is a JSON string is sent as its text. Raises UserError with the line."""
    bodies = []
    for number, line in _lines(path, "--bodies"):
        try:
            document = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: {brief(line)} is no JSON: {error}; --bodies takes JSON Lines, a body each"
            ) from error
        bodies.append((document if isinstance(document, str) else line).encode())
    return bodies


def from_users(path: Path) -> list[bytes]:
    """A request for recommendations for each user; ids are text, as `serve` compares them. Raises UserError."""
    return [json.dumps({"user_id": line}).encode() for _, line in _lines(path, "--users")]


def _lines(path: Path, option: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {option} takes a file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason}; {option} takes a file of lines") from error
    # Not splitlines(), which also divides at signs that JSON may have inside of a string.
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path} is empty; {option} takes a file with a line for each request")
    return lines
