"""The errors of `ncf`, and the message for an installation without torch."""

from __future__ import annotations


class InputError(Exception):
    """An input of the user is wrong; the message names the value and the remedy, and the command exits with 2."""


NO_TORCH = (
    "torch is not installed here, and `ncf` trains and exports with it: pip install -r requirements.txt, or use an "
    "image that was built with --build-arg WITH_TORCH=1"
)


class LostProcessError(RuntimeError):
    """Another process of a distributed training ended, so this process cannot go on."""
