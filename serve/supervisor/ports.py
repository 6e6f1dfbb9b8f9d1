"""The ports beside the main one: those that are open to others once, Triton's own anew whenever it starts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from serve.errors import StartError
from serve.settings import Settings

LOOPBACK = "127.0.0.1"


class PortError(StartError):
    """A port that was asked for cannot be had: a mistake in the settings, as any other."""

    exit_code = 2


@dataclass(frozen=True)
class PublicPorts:
    """The ports of gRPC and of the metrics, None where they are not open to others."""

    grpc: int | None
    metrics: int | None


def public_ports(settings: Settings) -> PublicPorts:
    """The ports that are open to others: as set, or the first free ones of the safe range. Raises PortError."""
    with ExitStack() as held:
        chosen: list[int | None] = []
        free = _free(settings, held)
        for name, allowed, port in (
            ("SAGEMAKER_TRITON_GRPC_PORT", settings.allow_grpc, settings.grpc_port),
            ("SAGEMAKER_TRITON_METRICS_PORT", settings.allow_metrics, settings.metrics_port),
        ):
            if allowed and port is not None:
                try:
                    held.enter_context(_listening(settings.bind_address, port))
                except OSError as error:
                    raise PortError(
                        f"cannot listen on {settings.bind_address} port {port}: {error.strerror}; stop what uses it, "
                        f"or choose another with {name}"
                    ) from error
            chosen.append((port or next(free)) if allowed else None)
        return PublicPorts(*chosen)


def triton_ports(settings: Settings, public: PublicPorts) -> tuple[int, int, int]:
    """Ports for Triton's HTTP, gRPC and metrics, of which only the second may be open to others. Raises PortError."""
    with ExitStack() as held:
        free = _free(settings, held, *(port for port in (public.grpc, public.metrics) if port))
        return next(free), public.grpc or next(free), next(free)


def _free(settings: Settings, held: ExitStack, *taken: int) -> Iterator[int]:
    """Free ports, each held until the last is chosen; where there is a safe range, in its order."""
    safe = settings.safe_port_range
    if safe is None:
        while True:
            yield int(held.enter_context(_listening(LOOPBACK, 0)).getsockname()[1])
    for port in range(safe[0], safe[1] + 1):
        if port in (settings.port, *taken):
            continue
        try:
            _listening(settings.bind_address, port).close()  # held, it would be in the other one's way
            held.enter_context(_listening(LOOPBACK, port))
        except OSError:
            continue
        yield port
    raise PortError(f"SAGEMAKER_SAFE_PORT_RANGE {safe[0]}-{safe[1]} has too few free ports; widen it")


def _listening(address: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError if that cannot be."""
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended are no obstacle
        listening.bind((address, port))
        listening.listen(1)
    except OSError:
        listening.close()
        raise
    return listening
