"""Keys of every kind, made once, and a web server that serves a key set."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.clock import FakeClock
from loadtest.bench.processes import free_port

TO_JWK: dict[str, Callable[..., dict[str, Any]]] = {
    "RS256": RSAAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "EdDSA": OKPAlgorithm.to_jwk,
}

MAKE: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class Signer:
    """A private key of an issuer: makes tokens, and its entry in a key set."""

    def __init__(self, algorithm: str, kid: str, key: Any = None) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key: Any = MAKE[algorithm]() if key is None else key

    def sign(self, claims: dict[str, Any], *, kid: str | None = None) -> str:
        kid = self.kid if kid is None else kid
        return jwt.encode(claims, self.key, self.algorithm, headers={"kid": kid} if kid else None)

    def jwk(self, **members: object) -> dict[str, Any]:
        entry = TO_JWK[self.algorithm](self.key.public_key(), as_dict=True)
        entry.pop("key_ops", None)
        return {**entry, "kid": self.kid, "use": "sig", "alg": self.algorithm, **members}

    def private_jwk(self) -> dict[str, Any]:
        return {**TO_JWK[self.algorithm](self.key, as_dict=True), "kid": self.kid}


@pytest.fixture(scope="session")
def signers() -> dict[str, Signer]:
    return {name: Signer(name, f"key-{name}") for name in ("RS256", "ES256", "EdDSA")}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_000_000.0)


class KeyServer:
    """Answers every request with `status` and `body`."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.requests = 0
        self.asked = asyncio.Event()
        self.url = ""

    def serve(self, *entries: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": entries}).encode()

    async def wait_asked(self) -> None:
        """Wait for the next request."""
        self.asked.clear()
        await self.asked.wait()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        head = f"HTTP/1.1 {self.status} Status\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + self.body)
        try:
            await writer.drain()
        except ConnectionError:
            writer.transport.abort()  # the client had enough
        writer.close()
        self.asked.set()


@pytest.fixture
async def key_server() -> AsyncIterator[KeyServer]:
    served = KeyServer()
    server = await asyncio.start_server(served.answer, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
    async with server:
        yield served


@pytest.fixture
def make_signer() -> Callable[[str, str], Signer]:
    return Signer


@pytest.fixture
def unused_port() -> int:
    """A port on loopback where nobody listens."""
    return free_port()
