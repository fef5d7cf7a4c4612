"""Many clients whose workers have died come back at once, and each has missed the same publications.

Counted: what each client gets, in which order, and how often the gateway has read the logs in Redis (its XRANGE
commands). A log that is read for each client would be read thousands of times.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import orjson
from redis.asyncio import Redis

from loadtest.bench.chunks import PROTOCOL_PING
from loadtest.bench.errors import BenchError
from loadtest.bench.stages import Stages
from loadtest.faults import wire
from loadtest.faults.gateway import HOST, NAMESPACE, PATH, WORKERS, Gateway
from loadtest.faults.publisher import PublishScript
from protocol.position import Position

DEADLINE_S: Final = 120.0
IN_FLIGHT: Final = 256
"""Clients that are opening at a time."""
ATTEMPT_S: Final = 0.05
"""Time between two attempts to connect."""
PAYLOAD: Final = b'"' + b"x" * 98 + b'"'


@dataclass(slots=True)
class Recovery:
    """What has happened."""

    clients: int
    channels: int
    missed: int
    elapsed_s: float = 0.0
    log_reads: int = 0
    whole: int = 0
    """Clients that were told `recovered: true` and got everything, once, in order."""
    wrong: Counter[str] = field(default_factory=Counter)
    """What happened to the others."""

    @property
    def most_reads(self) -> int:
        """One for each worker and channel."""
        return WORKERS * self.channels


class Client:
    """One connection: connects, subscribes, and checks the offsets of what comes."""

    def __init__(self, channel: str, token: str, since: Position | None) -> None:
        self._channel = channel
        self._token = token
        self.since = since
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.offsets: list[int] = []
        self.recovered = False
        self._expected = 0
        self.wire: wire.Wire | None = None

    def expect(self, publications: int) -> None:
        """Be done when so many have come."""
        self._expected = publications

    def opened(self, opened: wire.Wire) -> None:
        subscribe: dict[str, object] = {"channel": self._channel}
        if self.since is not None:
            subscribe |= {"recover": True, "epoch": self.since.epoch, "offset": self.since.offset}
        commands = ({"id": 1, "connect": {"token": self._token}}, {"id": 2, "subscribe": subscribe})
        opened.send(b"\n".join(map(orjson.dumps, commands)))

    def received(self, payload: bytes) -> None:
        for line in payload.split(b"\n"):
            if line == PROTOCOL_PING:
                if self.wire is not None:
                    self.wire.send(PROTOCOL_PING)
                continue
            reply = orjson.loads(line)
            if "error" in reply:
                self.fail(f"error {reply['error']['code']}")
            elif "subscribe" in reply:
                result = reply["subscribe"]
                self.recovered = result.get("recovered", False)
                self.offsets += [each["offset"] for each in result.get("publications", ())]
                if self.since is None:
                    self.since = Position(offset=result.get("offset", 0), epoch=result["epoch"])
                self._look()
            elif "pub" in reply.get("push", ()):
                self.offsets.append(reply["push"]["pub"]["offset"])
                self._look()

    def closed(self, code: int, reason: str) -> None:
        self.wire = None
        self.fail(f"closed with {code} {reason}")

    def fail(self, why: str) -> None:
        """It will not be done."""
        if not self.done.done():
            self.done.set_exception(BenchError(why))
            self.done.exception()

    def _look(self) -> None:
        if len(self.offsets) >= self._expected and not self.done.done():
            self.done.set_result(None)


async def measure(gateway: Gateway, redis: Redis, clients: int, channels: int, missed: int, stages: Stages) -> Recovery:
    """Connect, kill the workers, publish, connect again. Raises BenchError when it cannot be measured."""
    names = [f"{NAMESPACE}:{number}" for number in range(channels)]
    result = Recovery(clients, channels, missed)
    token = gateway.token("recovering")
    with stages.stage(f"recovery: {clients:,} clients connect"):
        first = [Client(names[number % channels], token, None) for number in range(clients)]
        await _open(gateway, first)
        await _settled(first)
        failed = next((each.done.exception() for each in first if each.done.exception() is not None), None)
        if failed is not None:
            raise BenchError(f"a client could not subscribe: {failed}")
    with stages.stage("recovery: the workers are killed, and publications missed"):
        before = gateway.pids()
        for worker in before:
            gateway.kill(worker)
        for each in first:
            if each.wire is not None:
                each.wire.drop()
        script = PublishScript.read()
        for number in range(missed):
            for name in names:
                await script.run(redis, name, PAYLOAD, f"{name}-{number}")
        await _restarted(gateway, before)
    with stages.stage(f"recovery: {clients:,} clients come back"):
        await redis.config_resetstat()
        again = [Client(names[number % channels], token, first[number].since) for number in range(clients)]
        for each in again:
            each.expect(missed)
        began = time.monotonic()
        await _open(gateway, again)
        await _settled(again)
        result.elapsed_s = time.monotonic() - began
        statistics = await redis.info("commandstats")
        result.log_reads = int(statistics.get("cmdstat_xrange", {}).get("calls", 0))
    for each in again:
        problem = judge(each, missed)
        if problem:
            result.wrong[problem] += 1
        else:
            result.whole += 1
        if each.wire is not None:
            each.wire.drop()
    return result


def judge(client: Client, missed: int) -> str:
    """What is wrong with what a client got; "" = nothing."""
    since = client.since.offset if client.since is not None else 0
    if not client.done.done():
        return "incomplete"
    if (error := client.done.exception()) is not None:
        return str(error)
    if not client.recovered:
        return "told that it could not recover"
    if client.offsets != list(range(since + 1, since + missed + 1)):
        return "publications lost, doubled or out of order"
    return ""


async def _open(gateway: Gateway, clients: list[Client]) -> None:
    """Connect all, some at a time."""
    waiting = iter(clients)

    async def lane() -> None:
        for client in waiting:
            try:
                client.wire = await wire.connect(client, HOST, gateway.port, PATH)
            except OSError as error:
                client.fail(f"not connected: {error.strerror}")
                continue
            await asyncio.wait([client.done], timeout=DEADLINE_S)

    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))


async def _settled(clients: list[Client]) -> None:
    left = [client.done for client in clients if not client.done.done()]
    if left:
        await asyncio.wait(left, timeout=DEADLINE_S)


async def _restarted(gateway: Gateway, before: dict[str, int]) -> None:
    """Wait until every worker that was killed has a successor that serves."""
    until = time.monotonic() + DEADLINE_S
    while True:
        gateway.check_alive()
        ready = {line["worker"] for line in gateway.logged("worker ready") if line["pid"] not in before.values()}
        if ready >= before.keys():
            return
        if time.monotonic() > until:
            raise BenchError("the workers did not come back")
        await asyncio.sleep(ATTEMPT_S)
