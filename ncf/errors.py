"""The errors of `ncf`, and the message for an installation without torch."""

from __future__ import annotations

from typing import Any

SHOWN = 60


class InputError(Exception):
    """An input of the user is wrong; the message names the value and the remedy, and the command exits with 2.

    `field` is the setting that is wrong, by its name in Python; the command shows its option. `remedy` are fields of
    `Columns` and `Reading` with which the data can perhaps be read; `ncf inspect` tries them.
    """

    def __init__(self, message: str, *, field: str = "", **remedy: Any) -> None:
        super().__init__(message)
        self.field = field
        self.remedy = remedy


def brief(value: object) -> str:
    """A value of the user in a message: of bounded length, and with `\\x1b` in place of a control character."""
    text = str(value)
    text = text[:SHOWN] + "…" if len(text) > SHOWN else text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


NO_TORCH = (
    "torch is not installed here, and `ncf` trains and exports with it: pip install -r requirements.txt, or use an "
    "image that was built with --build-arg WITH_TORCH=1"
)


class LostProcessError(RuntimeError):
    """Another process of a distributed training ended, so this process cannot go on."""
