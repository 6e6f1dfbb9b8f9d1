"""The one error a user of `ncf` can cause, and what to say where torch is missing."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave is wrong; the message names the value and the remedy, and the command exits with 2."""


NO_TORCH = (
    "torch is not installed here, and `ncf` trains and exports with it: pip install -r requirements.txt, or take an "
    "image that was built with --build-arg WITH_TORCH=1"
)


class LostProcessError(RuntimeError):
    """Another process of a distributed training ended, so that this one cannot go on."""
