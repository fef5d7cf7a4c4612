"""Reserved ports: known, ours, and in nobody's way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from gateway.errors import StartupError
from gateway.supervisor.ports import ReservedPort

LOOPBACK = "127.0.0.1"


@pytest.fixture
def shared() -> Iterator[ReservedPort]:
    port = ReservedPort.shared(LOOPBACK, 0)
    yield port
    port.close()


def worker_socket(host: str, port: int) -> socket.socket:
    """A listener as edge workers have it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, reuse_port=True)


def test_port_0_becomes_a_real_port(shared: ReservedPort) -> None:
    assert shared.port > 0


def test_all_connections_go_to_the_listening_workers_and_none_to_the_reservation(shared: ReservedPort) -> None:
    with worker_socket(LOOPBACK, shared.port) as one, worker_socket(LOOPBACK, shared.port) as two:
        for listener in (one, two):
            listener.setblocking(False)
        for _ in range(50):
            with socket.create_connection((LOOPBACK, shared.port), timeout=5):
                pass
        assert accepted(one) + accepted(two) == 50


def accepted(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_without_a_worker_connections_are_refused(shared: ReservedPort) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, shared.port), timeout=5)


def test_a_second_reservation_is_refused_before_any_worker_listens(shared: ReservedPort) -> None:
    with pytest.raises(StartupError, match=f"port {shared.port} .*in use.*ss -ltnp"):
        ReservedPort.shared(LOOPBACK, shared.port)


def test_a_port_is_free_again_after_close_although_connections_linger() -> None:
    first = ReservedPort.shared(LOOPBACK, 0)
    with worker_socket(LOOPBACK, first.port) as listener, socket.create_connection((LOOPBACK, first.port)) as client:
        listener.accept()[0].close()  # the side that closes first keeps the port in TIME_WAIT
        assert client.recv(1) == b""
    first.close()
    second = ReservedPort.shared(LOOPBACK, first.port)
    second.close()


def test_lingering_connections_of_another_program_are_no_obstacle() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)) as client:
            listener.accept()[0].close()
            assert client.recv(1) == b""
    ReservedPort.shared(LOOPBACK, port).close()


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_where_anybody_listens_is_refused(reuse_port: bool) -> None:
    with socket.create_server((LOOPBACK, 0), reuse_port=reuse_port) as other:
        port = other.getsockname()[1]
        for reserve, key in ((ReservedPort.shared, "server"), (ReservedPort.single, "control")):
            with pytest.raises(StartupError, match=rf"port {port} of 127.0.0.1 \({key}.port\) is in use"):
                reserve(LOOPBACK, port)


async def test_the_control_process_can_bind_its_reserved_port_plainly() -> None:
    port = ReservedPort.single(LOOPBACK, 0)
    for _ in range(2):  # a restarted one, too
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, LOOPBACK, port.port)
        with socket.create_connection((LOOPBACK, port.port), timeout=5):
            pass
        server.close()
        await server.wait_closed()
    port.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_and_names_with_several_addresses() -> None:
    try:
        six = ReservedPort.shared("::1", 0)
    except StartupError:
        pytest.skip("no IPv6 loopback here")
    with worker_socket("::1", six.port), socket.create_connection(("::1", six.port), timeout=5):
        pass
    six.close()
    everywhere = ReservedPort.shared("", 0)
    with worker_socket(LOOPBACK, everywhere.port), worker_socket("::1", everywhere.port):
        pass
    everywhere.close()


def test_an_address_that_is_not_here_and_an_unknown_name_are_clear_errors() -> None:
    with pytest.raises(StartupError, match=r'server.host = "192.0.2.1" is not an address of this machine'):
        ReservedPort.shared("192.0.2.1", 0)
    with pytest.raises(StartupError, match=r'control.host = "no such name" is no address'):
        ReservedPort.single("no such name", 0)
