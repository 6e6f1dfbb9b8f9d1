"""The one error a user of `ncf` can cause."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave is wrong; the message names the value and the remedy, and the command exits with 2."""
