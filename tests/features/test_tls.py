"""TLS on the public port. A gateway of real processes, a certificate of our own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidHandshake

from tests.support.certificate import Certificate, make_certificate, serial_of
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.waiting import DEADLINE_S, wait_until

BUDGET = 65_536
CLOSE_TIMEOUT_S = 1.0


def config(certificate: Certificate, **limits: float) -> dict[str, dict[str, Any]]:
    return {
        "server": {"workers": 1, "drain_window_s": 0.2, **certificate.settings},
        "limits": {"close_timeout_s": CLOSE_TIMEOUT_S, **limits},
        "delivery": {"send_budget_bytes": BUDGET},
    }


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


@pytest.fixture
def gateway(certificate: Certificate) -> Iterator[Gateway]:
    with serving(config(certificate)) as gateway:
        yield gateway


async def opened(gateway: Gateway, context: ssl.SSLContext, user: str = "ada") -> Client:
    client = await Client.open(gateway.url, ssl=context)
    await client.connect(gateway.token(user))
    return client


def shown(gateway: Gateway, **options: Any) -> tuple[int, str | None, str | None]:
    """One handshake: serial number of the certificate, protocol version, ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in options.items():
        setattr(context, name, value)
    sock = socket.create_connection(("127.0.0.1", gateway.public_port), DEADLINE_S)
    with sock, context.wrap_socket(sock) as wrapped:
        return serial_of(wrapped.getpeercert(True)), wrapped.version(), wrapped.selected_alpn_protocol()


async def test_clients_talk_over_tls_and_the_log_says_wss(gateway: Gateway, certificate: Certificate) -> None:
    assert gateway.url.startswith("wss://")
    ada, bob = [await opened(gateway, certificate.trusted(), user) for user in ("ada", "bob")]
    for client in (ada, bob):
        await client.subscribe("news")
    large = "x" * 20_000
    gateway.publish("news", large)
    for client in (ada, bob):
        assert await client.wait_data("news") == [large]
    await ada.aclose()
    assert (ada.close_code, bob.open_still) == (1000, True)
    await wait_until(lambda: gateway.metric("gateway_connections") == 1, "Ada is gone")
    (closed,) = gateway.logged("connection closed")
    assert (closed["code"], closed["closed_by"]) == (1000, "client")
    bob._socket.transport.abort()  # the network goes, without TLS saying goodbye
    await wait_until(lambda: gateway.metric("gateway_connections") == 0, "Bob is gone")


def test_tls_1_2_and_1_3_with_http_1_1_and_nothing_older(gateway: Gateway, certificate: Certificate) -> None:
    assert shown(gateway) == (certificate.serial, "TLSv1.3", "http/1.1")
    assert shown(gateway, maximum_version=ssl.TLSVersion.TLSv1_2)[1:] == ("TLSv1.2", "http/1.1")
    with pytest.raises((ssl.SSLError, OSError)), pytest.warns(DeprecationWarning, match="TLSv1"):
        shown(gateway, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


async def test_what_is_no_tls_is_closed_and_counted_and_says_nothing_in_the_log(
    gateway: Gateway, certificate: Certificate
) -> None:
    client = await opened(gateway, certificate.trusted())
    gateway.worker_of(client.id)  # its line is there
    lines = len(gateway.log.seen)
    attempts = [
        b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x00" * 500,
        b"\x16\x03\x01\xff\xff" + b"?" * 900,
    ]
    for data in attempts:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.public_port)
        writer.write(data)
        with contextlib.suppress(ConnectionResetError):
            assert b"101" not in await asyncio.wait_for(reader.read(-1), DEADLINE_S)
        writer.close()
    await wait_until(
        lambda: gateway.metric("gateway_handshakes_refused_total", reason="tls") == len(attempts), "all are counted"
    )
    assert gateway.log.seen[lines:] == []
    assert client.open_still
    await client.aclose()


async def test_a_handshake_that_does_not_go_on_ends_with_the_connect_timeout(certificate: Certificate) -> None:
    with serving(config(certificate, connect_timeout_s=1.0)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.public_port)
        writer.write(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(-1), DEADLINE_S) == b""
        writer.close()
        await wait_until(lambda: gateway.metric("gateway_handshakes_refused_total", reason="tls") == 1, "it is counted")


async def test_a_slow_reader_over_tls_keeps_to_its_budget_and_hurts_nobody(
    gateway: Gateway, certificate: Certificate
) -> None:
    slow, quick = [await opened(gateway, certificate.trusted(), user) for user in ("slow", "quick")]
    for client in (slow, quick):
        await client.subscribe("news")
    slow.fall_asleep()
    data, sent = "x" * 10_000, 0
    while not gateway.metric("gateway_dropped_total", reason="slow_consumer"):
        for _ in range(50):
            gateway.publish("news", data)
        sent += 50
        await quick.wait_data("news", sent)
        assert sent < 5_000, "far more than kernel buffers and budget hold"
    slow.wake_up()
    await wait_until(lambda: len(slow.data("news")) > 20, "it reads on")
    received = len(slow.data("news"))
    assert received < sent
    await wait_until(lambda: gateway.publish("news", "last") and "last" in slow.data("news"), "it hears again")
    for client in (slow, quick):
        await client.aclose()


async def test_sigterm_closes_with_3001_and_waits_for_nobody_who_sleeps(
    gateway: Gateway, certificate: Certificate
) -> None:
    client, sleeper = [await opened(gateway, certificate.trusted(), user) for user in ("ada", "sleeper")]
    sleeper.fall_asleep()
    await asyncio.to_thread(gateway.stop)
    assert await client.wait_closed() == (3001, "shutdown")
    sleeper.wake_up()
    await sleeper.wait_closed()


@pytest.mark.timeout(120)
async def test_sighup_takes_a_new_certificate_and_refuses_a_broken_one_and_nobody_is_refused(
    gateway: Gateway, certificate: Certificate, tmp_path: Path
) -> None:
    gateway.allowed_errors = {"reload refused"}
    new = make_certificate(tmp_path)
    assert new.serial != certificate.serial
    refused: list[str] = []
    done = asyncio.Event()

    async def connect_again_and_again() -> None:
        anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
        while not done.is_set():
            try:
                client = await Client.open(gateway.url, ssl=anything)
            except (OSError, InvalidHandshake) as error:
                refused.append(repr(error))
            else:
                await client.aclose()

    connecting = [asyncio.ensure_future(connect_again_and_again()) for _ in range(8)]
    gateway.reload(config(new))
    await wait_until(lambda: gateway.logged("reload done"), "it is done", timeout_s=3 * DEADLINE_S)
    done.set()
    await asyncio.gather(*connecting)
    assert refused == []
    gateway.look_around()
    assert shown(gateway)[0] == new.serial
    new.key.write_text("-----BEGIN PRIVATE KEY-----\nbroken\n")
    gateway.reload(config(new))
    (line,) = await wait_until(lambda: gateway.logged("reload refused"), "it says no")
    assert "tls_key" in json.dumps(line["problems"])
    assert shown(gateway)[0] == new.serial
