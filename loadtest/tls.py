"""What TLS costs a server on one event loop: handshakes, memory, deliveries; uvloop's own TLS beside aiofastnet's.

    python -m loadtest.tls [--connections N] [--rounds N]

Each server runs in a process of its own on core 0 (when there are two), its clients here. Handshakes a second are those
that the server could do if it did nothing else: connections by its own CPU time, because the client of a handshake
costs about as much as the server and would be what is measured otherwise. Loopback only, well under a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import importlib.util
import os
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple, cast

import psutil
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LANES: Final = ("plain", "uvloop", *(("aiofastnet",) if importlib.util.find_spec("aiofastnet") else ()))
MESSAGE: Final = b"\x81\x64" + b"x" * 100
"""A frame of 100 bytes, as a server sends it."""
AT_ONCE: Final = 32
"""Handshakes under way at any moment."""
TIMEOUT_S: Final = 120.0


class Result(NamedTuple):
    """One lane."""

    handshakes_per_s: float
    kib_per_connection: float
    us_per_delivery: float


class Receiver(asyncio.Protocol):
    """Server side: sends one byte when it is connected, and is written to afterwards."""

    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(cast("asyncio.Transport", transport))
        self._transports[-1].write(b"!")


async def serve(lane: str, certificate: Path) -> None:
    """Serve until standard input ends. Each line in it is a number of rounds; the answer is the CPU time they took."""
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []
    context = None
    if lane != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    if lane == "aiofastnet":
        import aiofastnet  # noqa: PLC0415 - optional

        server = await aiofastnet.create_server(
            loop, lambda: Receiver(transports), "127.0.0.1", 0, ssl=context, backlog=1024
        )
    else:
        server = await loop.create_server(lambda: Receiver(transports), "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        started = time.process_time()
        for _ in range(int(line)):
            for transport in transports:
                transport.write(MESSAGE)
            await asyncio.sleep(0)
        print(time.process_time() - started, flush=True)
    server.close()


class Drain(asyncio.Protocol):
    """Client side: reads and forgets, and says when the first byte is there."""

    def __init__(self) -> None:
        self.first = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self.first.set_result(data)


async def measure(lane: str, certificate: Path, connections: int, rounds: int) -> Result:
    """One lane from the start of its server to its end."""
    process = subprocess.Popen(  # noqa: ASYNC220 - one millisecond, before anything is measured
        [sys.executable, "-m", "loadtest.tls", "--serve", lane, "--certificate", str(certificate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    try:
        port = int(await asyncio.to_thread(process.stdout.readline))
        watched = psutil.Process(process.pid)
        context = ssl.create_default_context(cafile=str(certificate)) if lane != "plain" else None
        await asyncio.gather(*(connect(port, context) for _ in range(8)))  # what is loaded once is not counted
        memory, cpu = watched.memory_info().rss, sum(watched.cpu_times()[:2])
        limit = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with limit:
                await connect(port, context)

        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*(one() for _ in range(connections)))
        used = sum(watched.cpu_times()[:2]) - cpu
        grown = watched.memory_info().rss - memory
        process.stdin.write(f"{rounds}\n")
        process.stdin.flush()
        delivering = float(await asyncio.to_thread(process.stdout.readline))
        return Result(
            connections / max(used, 0.01), grown / 1024 / connections, delivering * 1e6 / rounds / (connections + 8)
        )
    finally:
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        process.stdout.close()


async def connect(port: int, context: ssl.SSLContext | None) -> None:
    """One client, there to stay."""
    loop = asyncio.get_running_loop()
    name = "localhost" if context is not None else None
    _, protocol = await loop.create_connection(Drain, "127.0.0.1", port, ssl=context, server_hostname=name)
    await protocol.first


def make_certificate(folder: Path) -> Path:
    """A certificate for `localhost` that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What TLS costs: uvloop's own beside aiofastnet's.")
    parser.add_argument("--connections", type=int, default=1000, choices=range(1, 5001), metavar="1-5000")
    parser.add_argument("--rounds", type=int, default=50, choices=range(1, 1001), metavar="1-1000")
    parser.add_argument("--serve", choices=LANES, help=argparse.SUPPRESS)
    parser.add_argument("--certificate", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if options.serve:
        os.sched_setaffinity(0, cores[:1])
        uvloop.run(serve(options.serve, options.certificate))
        return
    print(f"{options.connections} connections, {options.rounds} messages of 100 bytes to each, {ssl.OPENSSL_VERSION}")
    print(f"{'':12} {'handshakes per CPU second':>26} {'KiB per connection':>20} {'us CPU per delivery':>20}")
    with tempfile.TemporaryDirectory(prefix="nexus-gateway-tls-") as folder:
        certificate = make_certificate(Path(folder))
        for lane in LANES:
            result = uvloop.run(measure(lane, certificate, options.connections, options.rounds))
            print(
                f"{lane:12} {result.handshakes_per_s:26.0f} {result.kib_per_connection:20.1f} "
                f"{result.us_per_delivery:20.2f}"
            )


if __name__ == "__main__":
    main()
