"""Whole gateways and clients of them. Each module starts its own, in a fixture `gateway`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.wire import Wire

OpenClient = Callable[..., Awaitable[Client]]
OpenWire = Callable[..., Awaitable[Wire]]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """One worker, defaults. Modules that need anything else have a fixture of this name themselves."""
    with serving() as gateway:
        yield gateway


@pytest.fixture
async def open_client(gateway: Gateway) -> AsyncIterator[OpenClient]:
    """`open_client("ada")` connects as Ada, `open_client(token=…)` with that token, `open_client(None)` not yet."""
    opened: list[Client] = []

    async def open_client(user: str | None = "ada", *, token: str = "", **options: object) -> Client:
        client = await Client.open(gateway.url, **options)
        opened.append(client)
        if user is not None:
            await client.connect(token or gateway.token(user))
        return client

    yield open_client
    for client in opened:
        await client.aclose()


@pytest.fixture
async def open_wire(gateway: Gateway) -> AsyncIterator[OpenWire]:
    """A bare socket to the public port, before its handshake or (`upgraded=True`) after it."""
    opened: list[Wire] = []

    async def open_wire(*, upgraded: bool = True, **options: object) -> Wire:
        make = Wire.upgraded if upgraded else Wire.open
        opened.append(await make(gateway.public_port, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_wire
    for wire in opened:
        await wire.aclose()


@pytest.fixture
async def bystander(gateway: Gateway, open_client: OpenClient) -> AsyncIterator[Client]:
    """Somebody else on the same (only) worker, who must not notice anything: is still there after the test, hears what
    is published then, and the worker has met no error that it did not expect."""
    client = await open_client("bystander")
    await client.subscribe("calm")
    pid, errors = gateway.pid("edge-1"), gateway.metric("gateway_internal_errors_total")
    yield client
    nonce = secrets.token_hex(4)
    assert gateway.publish("calm", nonce) == 1
    await client.wait(lambda: nonce in client.data("calm"), "the bystander hears a publication afterwards")
    assert gateway.pid("edge-1") == pid
    assert gateway.metric("gateway_internal_errors_total") == errors
