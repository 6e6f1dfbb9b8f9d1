"""Who trains: the hosts of a job, and how many processes each has."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from ncf.errors import InputError
from ncf.job.settings import JobSettings, read_object
from ncf.training.config import TrainConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hosts:
    """The hosts of a job in the order of their ranks, and this one among them."""

    current: str
    names: tuple[str, ...]
    interface: str = ""

    @property
    def rank(self) -> int:
        return self.names.index(self.current)


def read_hosts(path: Path) -> Hosts:
    """Read resourceconfig.json; without one there is one host. Raises InputError."""
    found = read_object(path)
    names = found.get("hosts") or [found.get("current_host") or "localhost"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: hosts must be a list of names")
    current = found.get("current_host") or names[0]
    if current not in names:
        raise InputError(f"{path}: current_host '{current}' is not among the hosts {', '.join(names)}")
    return Hosts(current, tuple(sorted(names)), str(found.get("network_interface_name") or ""))


def processes_here(settings: JobSettings, hosts: Hosts, data: Path) -> int:
    """As many as were asked for, else one for each GPU of this host, else one; one for exact training.

    Raises InputError where GPUs lack.
    """
    import torch

    gpus = torch.cuda.device_count() if settings.device != "cpu" else 0
    if settings.processes:
        if 0 < gpus < settings.processes:
            raise InputError(
                f"hyperparameter 'processes' is {settings.processes}, each takes a GPU, and this host has {gpus}; "
                "leave it out, or give device cpu"
            )
        return settings.processes
    if gpus > 1 and len(hosts.names) == 1 and is_for_one(settings.config, data):
        log.info("one of %d GPUs is used: exact training and folded models are made by one process", gpus)
        return 1
    return max(1, gpus)


def is_for_one(config: TrainConfig, data: Path) -> bool:
    """Whether one process would train in a way that only one can; what is left open is counted on the data."""
    from ncf.training.cost import choose_negatives
    from ncf.training.run import split_of

    if config.is_folded:
        return True
    if config.negatives != "auto":
        return config.negatives == "exact"
    train = split_of(data, config).train
    return choose_negatives(config, train.num_users, train.num_items, len(train))[0] == "exact"
