"""What the same publications cost in each form: encodings, compression, deltas, numbers instead of names.

    python -m loadtest.forms [--connections N] [--messages N]

One gateway with one worker. Each form has its own channel and its own clients, all connected at once; in alternating
rounds a document is published to one channel after the other, the next when all its clients have the one before: one
message a write. Measured are the bytes on the wire, the worker's CPU time per delivery, and what a connection adds to
its memory. The document is a table of which a few cells change each time. Loopback only, a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import jwt
import redis.asyncio
from rich.console import Console
from rich.table import Table

from loadtest.bench.ending import INTERRUPTED, run_until_interrupted
from loadtest.bench.errors import BenchError
from loadtest.bench.generator import raise_file_limit
from loadtest.bench.opening import upgrade_request
from loadtest.bench.processes import running_on, split_cores
from loadtest.bench.redis_server import start_redis
from loadtest.bench.servers import gateway
from loadtest.bench.servers.server import Server, Surroundings
from loadtest.bench.usage import cpu_time, rss_kib
from protocol.commands import FLAG_CHANNEL_COMPACTION, FOSSIL, Command, ConnectRequest, SubscribeRequest
from protocol.encodings import JSON, MSGPACK, PROTOBUF, Encoding

CONFIG: Final = "delta = true\n[keepalive]\nping_interval_s = 300\n"
AT_ONCE: Final = 64
ROUNDS: Final = 5
DEADLINE_S: Final = 30.0
CELLS: Final = 60
"""About 2 KiB."""
CHANGED: Final = 3


@dataclass(frozen=True, slots=True)
class Form:
    """How clients of one lane ask for publications."""

    name: str
    encodings: tuple[Encoding, ...] = (JSON,)
    deflate: bool = False
    delta: bool = False
    numbered: bool = False


FORMS: Final = (
    Form("json"),
    Form("json, numbers", numbered=True),
    Form("json, deflate", deflate=True),
    Form("json, delta", delta=True),
    Form("json, delta, deflate", deflate=True, delta=True),
    Form("protobuf", (PROTOBUF,)),
    Form("protobuf, delta", (PROTOBUF,), delta=True),
    Form("msgpack", (MSGPACK,)),
    Form("all three", (JSON, PROTOBUF, MSGPACK)),
)


@dataclass(slots=True)
class Lane:
    """One form, its clients, and what was measured."""

    form: Form
    channel: str
    clients: list[Client] = field(default_factory=list)
    kib: float = 0.0
    wire_bytes: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    frames: int = 0
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    expected: int = 0


class Client(asyncio.Protocol):
    """Asks for one channel, and counts bytes and frames from then on."""

    def __init__(self, lane: Lane, encoding: Encoding, request: bytes, commands: bytes) -> None:
        self._lane = lane
        self._encoding = encoding
        self._request = request
        self._commands = commands
        self._buffer = bytearray()
        self._shook_hands = False
        self._skip = 0
        self.answers = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        if not self._shook_hands:
            head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:20] or (self._lane.form.deflate and b"permessage-deflate" not in head):
                self.ready.set_exception(BenchError(f"the handshake was answered with {head[:200]!r}"))
                return
            self._shook_hands = True
            self._buffer = bytearray(rest)
            self._transport.write(_masked(self._encoding.opcode, self._commands))
        while (size := _frame_size(self._buffer)) and len(self._buffer) >= size:
            frame = bytes(self._buffer[:size])
            del self._buffer[:size]
            if self.ready.done():
                self._lane.frames += 1
                if self._lane.frames >= self._lane.expected:
                    self._lane.waiting.set()
            else:
                self._answered(frame)

    def _answered(self, frame: bytes) -> None:
        """The replies to connect and subscribe; short, so never compressed."""
        payload = frame[4 if frame[1] == 126 else 2 :]
        for reply in self._encoding.decode_replies(payload):
            if reply.error is not None:
                self.ready.set_exception(BenchError(f"refused: {reply.error.message}"))
                return
            self.answers += reply.id > 0
            if reply.subscribe is not None and reply.subscribe.delta != self._lane.form.delta:
                self.ready.set_exception(BenchError("deltas were not agreed on as asked"))
                return
        if self.answers == 2:
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(BenchError(f"the connection was lost: {exc}"))

    def close(self) -> None:
        self._transport.abort()


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 2 when it could not run, or 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    try:
        lanes = run_until_interrupted(_run(options, console))
    except BenchError as error:
        console.print(f"[red]The benchmark cannot be run:[/] {error}", highlight=False)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    show(lanes, console)
    return 0


async def _run(options: argparse.Namespace, console: Console) -> list[Lane]:
    raise_file_limit()
    cores = split_cores()
    with ExitStack() as stack:
        stack.enter_context(running_on(cores.client))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-forms-")))
        server_redis, path = start_redis(cores.client, folder)
        stack.callback(server_redis.stop)
        around = Surroundings(cores, folder, path)
        console.print("  starting the gateway", highlight=False)
        server = await asyncio.to_thread(gateway.start, around, options.gateway_command, config=CONFIG)
        stack.callback(server.stop)
        publisher = redis.asyncio.Redis(unix_socket_path=path)
        lanes = [Lane(form, f"lane-{number}") for number, form in enumerate(FORMS)]
        try:
            # Once for what is loaded at the first use of anything.
            for form in FORMS:
                warm = Lane(form, "warm")
                await _open(warm, server, 4)
                await _measure(warm, server, publisher, 5)
                _close(warm)
            for lane in lanes:
                console.print(f"  {options.connections:,} clients: {lane.form.name}", highlight=False)
                before = rss_kib(server.pids)
                await _open(lane, server, options.connections)
                await asyncio.sleep(0.5)
                lane.kib = (rss_kib(server.pids) - before) / options.connections
            for number in range(ROUNDS):
                console.print(f"  round {number + 1} of {ROUNDS}", highlight=False)
                for lane in lanes:
                    await _measure(lane, server, publisher, options.messages)
        finally:
            for lane in lanes:
                _close(lane)
            await publisher.aclose()
        gateway_error = server.child.process.poll()
        if gateway_error is not None:
            raise BenchError(f"the gateway has ended with {gateway_error}{server.child.last_words()}")
    return lanes


def _close(lane: Lane) -> None:
    for client in lane.clients:
        client.close()


async def _open(lane: Lane, server: Server, count: int) -> None:
    limit = asyncio.Semaphore(AT_ONCE)
    target = server.target
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        form = lane.form
        encoding = form.encodings[number % len(form.encodings)]
        token = jwt.encode({"sub": f"{lane.channel}-{number}"}, target["secret"], algorithm="HS256")
        subscribe = SubscribeRequest(
            channel=lane.channel,
            delta=FOSSIL if form.delta else "",
            flag=FLAG_CHANNEL_COMPACTION if form.numbered else 0,
        )
        commands = [Command(id=1, connect=ConnectRequest(token=token)), Command(id=2, subscribe=subscribe)]
        request = upgrade_request(target["host"], target["port"], target["path"])
        extra = f"Sec-WebSocket-Protocol: {encoding.subprotocol}\r\n"
        if form.deflate:
            extra += "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        request = request[:-2] + extra.encode() + b"\r\n"
        async with limit:
            _, client = await loop.create_connection(
                lambda: Client(lane, encoding, request, encoding.join(map(encoding.encode_command, commands))),
                target["host"],
                target["port"],
            )
            lane.clients.append(client)
            await client.ready

    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(one(number) for number in range(count)))


async def _measure(lane: Lane, server: Server, publisher: redis.asyncio.Redis, messages: int) -> None:
    """One round: the next message when everybody has the one before. The first one is not counted."""
    document = _Document()
    channel = f"gateway:pub:{lane.channel}"
    cpu, received = cpu_time(server.pids), 0
    for number in range(messages + 1):
        if number == 1:
            cpu, received = cpu_time(server.pids), sum(client.received for client in lane.clients)
        lane.expected = lane.frames + len(lane.clients)
        lane.waiting.clear()
        if not await publisher.publish(channel, document.next()):
            raise BenchError("nobody heard the publication")
        async with asyncio.timeout(DEADLINE_S):
            await lane.waiting.wait()
    deliveries = messages * len(lane.clients)
    lane.cpu_us.append(cpu_time(server.pids).since(cpu).total_s * 1e6 / deliveries)
    lane.wire_bytes.append((sum(client.received for client in lane.clients) - received) / deliveries)


class _Document:
    """A table of which a few cells change. The same sequence in every round and lane."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._cells: dict[str, Any] = {f"symbol-{number:03}": self._price() for number in range(CELLS)}

    def next(self) -> bytes:
        for _ in range(CHANGED):
            self._cells[f"symbol-{self._random.randrange(CELLS):03}"] = self._price()
        return json.dumps({"at": time.monotonic_ns(), "prices": self._cells}, separators=(",", ":")).encode()

    def _price(self) -> dict[str, float]:
        return {"bid": round(self._random.random() * 1000, 2), "ask": round(self._random.random() * 1000, 2)}


def _frame_size(data: bytearray) -> int:
    """Bytes of the first frame; 0 = its head is not complete."""
    if len(data) < 2:
        return 0
    if data[1] < 126:
        return 2 + data[1]
    size = 2 if data[1] == 126 else 8
    return 2 + size + int.from_bytes(data[2 : 2 + size]) if len(data) >= 2 + size else 0


def _masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame; a mask of zeros changes nothing."""
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2)
    return head + bytes(4) + payload


def show(lanes: Sequence[Lane], console: Console) -> None:
    """Print it, with ratios to the first row."""
    first = lanes[0]
    table = Table("form", "bytes a message", "×", "CPU µs a delivery", "×", "KiB a connection")
    for lane in lanes:
        size, cpu = statistics.median(lane.wire_bytes), statistics.median(lane.cpu_us)
        ratios = [each / other for each, other in zip(lane.cpu_us, first.cpu_us, strict=True)]
        table.add_row(
            lane.form.name,
            f"{size:,.0f}",
            f"{size / statistics.median(first.wire_bytes):.2f}",
            f"{cpu:.2f}",
            f"{statistics.median(ratios):.2f}",
            f"{lane.kib:.1f}",
        )
    console.print(table)
    console.print(f"{len(first.clients):,} clients each, medians of {len(first.cpu_us)} rounds.", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.forms", description="What each form of delivery costs.")
    parser.add_argument("--connections", type=int, default=500, choices=range(1, 1501), metavar="1-1500")
    parser.add_argument("--messages", type=int, default=60, choices=range(1, 10_001), metavar="1-10000", help="a round")
    parser.add_argument(
        "--gateway-command", default=gateway.DEFAULT_COMMAND, metavar="COMMAND", help="another build of the gateway"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
