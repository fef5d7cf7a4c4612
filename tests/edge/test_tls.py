"""Handshakes with both libraries that can do them, and renewing the certificate under way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from gateway.config import Server
from gateway.edge.listener import Listener
from gateway.edge.tls import Connect, Tls, connect_aiofastnet, connect_uvloop
from gateway.metrics import names, private_row
from loadtest.bench.processes import free_port
from tests.support.certificate import Certificate, make_certificate, serial_of
from tests.support.waiting import wait_until


class Echo(asyncio.Protocol):
    def __init__(self, made: list[Echo]) -> None:
        self.made = made
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.made.append(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


class World:
    def __init__(self, certificate: Certificate, connect: Connect) -> None:
        self.certificate = certificate
        self.counters = private_row()
        self.made: list[Echo] = []
        server = Server(**certificate.settings)  # type: ignore[arg-type]
        factory: Callable[[], Echo] = lambda: Echo(self.made)  # noqa: E731
        self.tls = Tls(server, factory, self.counters, handshake_s=0.5, shutdown_s=0.5, connect=connect)
        self.port = free_port()
        self.listener = Listener(
            "127.0.0.1", self.port, factory, self.counters, max_connections=100, secure=self.tls.accept
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.certificate.trusted())

    async def serial(self) -> int:
        anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=anything)
        shown = serial_of(writer.get_extra_info("ssl_object").getpeercert(True))
        writer.close()
        await writer.wait_closed()
        return shown


def with_both(check: Callable[[World], Coroutine[None, None, None]]) -> Callable[[str, Path], None]:
    """A test of `check` on the loop that workers run on, with each of the libraries."""

    async def run(world: World) -> None:
        await world.listener.open()
        try:
            await check(world)
        finally:
            await world.listener.aclose()
            await world.tls.aclose()

    @pytest.mark.parametrize("library", ["uvloop", "aiofastnet"])
    def test(library: str, tmp_path: Path) -> None:
        pytest.importorskip(library)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            connect = connect_uvloop if library == "uvloop" else connect_aiofastnet
            runner.run(run(World(make_certificate(tmp_path), connect)))

    return test


@with_both
async def test_bytes_go_both_ways_and_the_end_is_seen(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(b"x" * 100_000)
    assert await reader.readexactly(100_000) == b"x" * 100_000
    (echo,) = world.made
    assert echo.transport.get_extra_info("peername")[0] == "127.0.0.1"
    assert echo.transport.get_extra_info("socket").fileno() >= 0
    writer.close()
    await writer.wait_closed()
    await wait_until(lambda: echo.lost, "the server has seen it")
    assert world.tls.under_way == 0


@with_both
async def test_what_is_written_and_not_read_is_counted_against_the_budget(world: World) -> None:
    _, writer = await world.connect()
    await wait_until(lambda: world.made, "it is there")
    transport = world.made[0].transport
    writer.transport.pause_reading()
    transport.set_write_buffer_limits(high=65_536)  # type: ignore[attr-defined]
    paused: list[bool] = []
    world.made[0].pause_writing = lambda: paused.append(True)  # type: ignore[method-assign]
    for _ in range(1000):
        transport.write(b"x" * 100_000)  # type: ignore[attr-defined]
        if paused:
            break
        await asyncio.sleep(0)
    assert paused
    assert transport.get_write_buffer_size() > 65_536  # type: ignore[attr-defined]
    transport.abort()  # type: ignore[attr-defined]
    await wait_until(lambda: world.made[0].lost, "an abort does not wait for the peer")
    writer.transport.abort()


@with_both
async def test_a_handshake_that_fails_is_counted_and_nothing_more(world: World) -> None:
    for number, data in enumerate([b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 300, b"\x16\x03\x01"], start=1):
        await fails(world, data, number)


async def fails(world: World, data: bytes, number: int) -> None:
    with capture_logs() as logs:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(data)
        with contextlib.suppress(ConnectionResetError):
            await reader.read(-1)
        writer.close()
        await wait_until(lambda: world.counters[names.REFUSED_TLS] == number, "it is counted")
    assert {entry["log_level"] for entry in logs} == {"debug"}
    assert not world.made
    await wait_until(lambda: world.tls.under_way == 0, "nothing is left")


@with_both
async def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(world: World) -> None:
    before = await world.serial()
    world.tls.renew()
    reader, writer = await world.connect()
    new = make_certificate(world.certificate.cert.parent)
    with capture_logs() as logs:
        watching = asyncio.ensure_future(world.tls.watch(0.01))
        await wait_until(lambda: logs, "it is noticed")
        assert logs[-1]["event"] in ("certificate renewed", "certificate not renewed")
        await wait_until(lambda: logs[-1]["event"] == "certificate renewed", "both files are there")
        watching.cancel()
    assert await world.serial() == new.serial != before
    writer.write(b"still there")
    assert await reader.readexactly(11) == b"still there"
    writer.close()
    await writer.wait_closed()
    with capture_logs() as logs:
        new.key.write_text("broken")
        os.utime(new.key, ns=(1, 1))
        world.tls.renew()
        world.tls.renew()
        new.key.unlink()
        world.tls.renew()
    assert [entry["event"] for entry in logs] == ["certificate not renewed"] * 2
    assert await world.serial() == new.serial


@with_both
async def test_what_waits_in_the_queue_is_taken_when_the_worker_leaves(world: World) -> None:
    queued = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(20)]
    await world.listener.aclose()
    assert world.tls.under_way == 20
    for each in queued:
        each.close()
    await wait_until(lambda: world.tls.under_way == 0, "they have gone")
