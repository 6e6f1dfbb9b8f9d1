"""Ports: the free ones of the safe range, and those that are taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from serve.supervisor.ports import LOOPBACK, PortError, PublicPorts, end_connecting, is_free, public_ports, triton_ports
from tests.serve.test_settings import OPEN, read
from tests.support.serving import free_port

pytestmark = pytest.mark.core


@pytest.fixture
def free_range() -> Iterator[list[int]]:
    """Eight ports in a row that nobody listens on."""
    for _ in range(100):
        first = free_port()
        if first + 7 > 65535:
            continue
        probes = [socket.socket() for _ in range(8)]
        try:
            for port, probe in enumerate(probes, first):
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        yield list(range(first, first + 8))
        return
    pytest.fail("no eight free ports in a row")


def test_c016_ports_are_the_first_free_ones_of_the_safe_range(free_range: list[int]) -> None:
    a, b, c, d, e, f, *_, last = free_range
    environment = {
        "SERVE_BIND_ADDRESS": "127.0.0.1",
        "SAGEMAKER_SAFE_PORT_RANGE": f"{a}-{last}",
        "SAGEMAKER_BIND_TO_PORT": str(a),
    }
    closed = read(**environment)
    assert public_ports(closed) == PublicPorts(None, None)
    assert triton_ports(closed, PublicPorts(None, None)) == (b, c, d)
    opened = read(**environment, **OPEN)
    with socket.create_server(("127.0.0.1", c)):
        assert public_ports(opened) == PublicPorts(b, d)
        assert triton_ports(opened, PublicPorts(b, d)) == (e, b, f)
    small = read(**{**environment, "SAGEMAKER_SAFE_PORT_RANGE": f"{a}-{c}"})
    with pytest.raises(PortError, match="has too few free ports; widen it"):
        triton_ports(small, PublicPorts(None, None))


def test_an_open_port_that_is_taken_is_named(free_range: list[int]) -> None:
    port = free_range[0]
    settings = read(**OPEN, SERVE_BIND_ADDRESS="127.0.0.1", SAGEMAKER_TRITON_GRPC_PORT=str(port))
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(PortError, match=f"127.0.0.1 port {port}: Address already in use; .*SAGEMAKER_TRITON_GRPC_PORT"),
    ):
        public_ports(settings)


def test_a_connection_that_waits_is_still_accepted_and_no_other_can_begin() -> None:
    with socket.socket() as public:
        public.bind((LOOPBACK, 0))
        public.listen()
        of_a_worker = public.dup()
        address = public.getsockname()
        with socket.create_connection(address) as waiting:
            end_connecting(public)
            assert public.fileno() == -1
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.3)
            accepted, _ = of_a_worker.accept()
            of_a_worker.close()
            with accepted:
                waiting.sendall(b"question")
                assert accepted.recv(8) == b"question"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=60)


def test_a_port_is_free_unless_another_process_listens_or_is_connected_there() -> None:
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert not is_free(port)
        with socket.create_connection((LOOPBACK, port)) as connected:
            assert not is_free(connected.getsockname()[1])
    assert is_free(port)
