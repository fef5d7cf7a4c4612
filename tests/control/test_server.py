"""The app behind a real uvicorn on a real socket."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.control import ControlServer
from gateway.control.server import open_listeners
from gateway.errors import StartupError
from tests.control.conftest import KEY, Control


@pytest.fixture
async def address(control: Control) -> AsyncIterator[str]:
    serving = asyncio.Event()
    listeners = open_listeners("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    server = ControlServer(control.app, listeners, serving.set)
    running = asyncio.create_task(server.run_until_stopped())
    await serving.wait()
    yield f"127.0.0.1:{port}"
    server.stop()
    await running


async def test_calls_over_a_socket(control: Control, address: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{address}", headers={"X-API-Key": KEY}) as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        body = b'{"channel":"news","data":' + b"[1.0," * 200 + b"1" + b"]" * 200 + b"}"
        assert (await client.post("/api/publish", content=body)).json() == {"result": {}}
        answer = await client.get("/metrics")
        assert "server" not in answer.headers
    assert control.redis.published[0][1] == b"[1.0," * 200 + b"1" + b"]" * 200


async def test_oversized_upload_gets_its_answer_before_it_is_sent(control: Control, address: str) -> None:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /api/publish HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {KEY}\r\nContent-Length: 99999999\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
    rest = await reader.read()  # the server closes: it will not read the rest of the body
    assert b"larger than" in rest
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)
async def test_garbage_is_answered_with_400_and_disturbs_nobody(address: str, request_bytes: bytes) -> None:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_bytes)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://{address}/health/live")).status_code == 200


async def test_signal_handlers_are_left_alone(address: str) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert "uvicorn" not in repr(signal.getsignal(signal.SIGINT))


async def test_taken_port_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"127\.0\.0\.1:{port} \(control\.host, control\.port\)"):
            open_listeners("127.0.0.1", port)


async def test_unknown_host_is_an_error() -> None:
    with pytest.raises(StartupError, match=r"no-such-host\.invalid"):
        open_listeners("no-such-host.invalid", 0)
