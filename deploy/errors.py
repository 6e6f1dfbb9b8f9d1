"""The two errors of `ncf-deploy`, and values of the user in messages."""

from __future__ import annotations

SHOWN = 60


class DeployError(Exception):
    """A failure with one sentence for the user, the remedy in it; `exit_code` is that of the command."""

    exit_code = 1


class UserError(DeployError):
    """The user can mend it: the declared file, a model archive, an option, credentials, a missing right."""

    exit_code = 2


class WorldError(DeployError):
    """It failed outside: AWS, the network, a container that never gets healthy."""


def brief(value: object) -> str:
    """A value of the user in a message: of bounded length, and with `\\x1b` in place of a control character."""
    text = str(value)
    text = text[:SHOWN] + "…" if len(text) > SHOWN else text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
