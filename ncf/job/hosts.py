"""The hosts of a training job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ncf.errors import InputError
from ncf.job.contract import read_object


@dataclass(frozen=True)
class Hosts:
    """The hosts of a job in the order of their ranks; `current` is this host."""

    current: str
    names: tuple[str, ...]
    interface: str = ""

    @property
    def rank(self) -> int:
        return self.names.index(self.current)


def read_hosts(path: Path) -> Hosts:
    """Read resourceconfig.json; without the file there is a single host. Raises InputError."""
    found = read_object(path)
    names = found.get("hosts") or [found.get("current_host") or "localhost"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: hosts must be a list of names")
    current = found.get("current_host") or names[0]
    if current not in names:
        raise InputError(f"{path}: current_host '{current}' is not among the hosts {', '.join(names)}")
    return Hosts(current, tuple(sorted(names)), str(found.get("network_interface_name") or ""))
