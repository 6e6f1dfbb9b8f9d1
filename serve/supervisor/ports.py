"""The ports beside the public port: open ports are chosen once, Triton's own ports for each of its starts."""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from serve.errors import StartError
from serve.settings import Settings

LOOPBACK = "127.0.0.1"
# A filter of the kernel (include/uapi/linux/filter.h) that drops every packet with TCP's flag SYN: code, jump if true,
# jump if false, operand. Byte 13 of TCP's header has the flags.
SO_ATTACH_FILTER = 26
NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
# Connections that were half open when the filter was set become whole within this time.
HANDSHAKE_SECONDS = 0.2


class PortError(StartError):
    """A port that the settings ask for cannot be used; the exit code is that of any wrong setting."""

    exit_code = 2


@dataclass(frozen=True)
class PublicPorts:
    """The ports of gRPC and of the metrics; None for one that is not open."""

    grpc: int | None
    metrics: int | None


def public_socket(settings: Settings) -> socket.socket:
    """A socket that listens on the public port. Raises PortError."""
    address, port = settings.bind_address, settings.port
    try:
        return _listening(address, port, 2048)
    except OSError as error:
        raise PortError(
            f"cannot listen on {address} port {port}: {error.strerror}; stop what uses it, or choose another with "
            "SAGEMAKER_BIND_TO_PORT and SERVE_BIND_ADDRESS"
        ) from error


def end_connecting(public: socket.socket) -> None:
    """Let no new connection begin at a socket that listens, for all processes that share it, and close it here.

    The kernel resets the connections in its queue when the last process closes the socket. Without this, one could come
    between a worker's last look at the queue and that moment, and its request would be lost. A client whose connection
    does not begin tries again by itself after a second, when the port is closed, and is then refused.
    """
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in NO_SYN)
    buffer = ctypes.create_string_buffer(program, len(program))
    with suppress(OSError):  # a kernel without such filters
        public.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(NO_SYN), ctypes.addressof(buffer)))
        time.sleep(HANDSHAKE_SECONDS)
    public.close()


def public_ports(settings: Settings) -> PublicPorts:
    """The open ports: as set, or the first free ports of the safe range. Raises PortError."""
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
    """Ports for Triton's HTTP, gRPC and metrics; only the gRPC port may be an open port. Raises PortError."""
    with ExitStack() as held:
        free = _free(settings, held, *(port for port in (public.grpc, public.metrics) if port))
        return next(free), public.grpc or next(free), next(free)


def is_free(port: int) -> bool:
    """Whether a process could listen on a port of the loopback interface now."""
    try:
        _listening(LOOPBACK, port).close()
    except OSError:
        return False
    return True


def _free(settings: Settings, held: ExitStack, *taken: int) -> Iterator[int]:
    """Free ports: those of the safe range in order, or any if there is none.

    `held` keeps each of them taken, so that no port comes twice.
    """
    safe = settings.safe_port_range
    if safe is None:
        while True:
            yield int(held.enter_context(_listening(LOOPBACK, 0)).getsockname()[1])
    for port in range(safe[0], safe[1] + 1):
        if port in (settings.port, *taken):
            continue
        try:
            _listening(settings.bind_address, port).close()  # left open, it would be in the way of the next line
            held.enter_context(_listening(LOOPBACK, port))
        except OSError:
            continue
        yield port
    raise PortError(f"SAGEMAKER_SAFE_PORT_RANGE {safe[0]}-{safe[1]} has too few free ports; widen it")


def _listening(address: str, port: int, backlog: int = 1) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listening.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # ports of connections that have just ended may be used
        listening.bind((address, port))
        listening.listen(backlog)
    except OSError:
        listening.close()
        raise
    return listening
