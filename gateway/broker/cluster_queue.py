"""Commands for a Redis Cluster: as `CommandQueue`, with a lane for each master.

Theory of operation. A command goes to the lane of the master that has the slot of its first key. Each lane has one
round trip in flight, so commands on one slot are carried out in the order in which they were given, and a server that
is silent or dead holds up no other. MOVED means that nothing was done: the command, and what waits behind it for the
same slot, goes to the front of the right lane. ASK (the slot is about to move) is followed at once, before the lane
goes on. Everything else is as without a cluster: what was sent and not answered is never sent again.

The map may be unknown at first, or wrong: such commands wait in a lane without a server, which reads the map.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, Final, cast

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError

from gateway.broker.commands import BATCH, Argument, CommandQueue, Fixed, Growing, meaning, settle
from gateway.config.redis_url import Address
from gateway.errors import BrokerUnavailable
from gateway.storage.cluster import Cluster
from gateway.storage.lost import lost_is_said
from gateway.tasks import raise_if_cancelled
from protocol.redis_contract import is_sharded

REDIRECTS: Final = 5
"""Times that a command is sent elsewhere before it fails: the servers disagree."""


class _Waiting:
    """A command that waits, or is under way."""

    __slots__ = ("command", "counted", "done", "redirects", "slot")

    def __init__(self, command: Growing, slot: int | None) -> None:
        self.command = command
        self.slot = slot
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.redirects = 0
        self.counted = True
        """Whether it counts among those that wait."""


class ClusterQueue(CommandQueue):
    """Carries out commands on the servers that have their slots."""

    def __init__(
        self, cluster: Cluster, *, batch: int = BATCH, round_trip: Callable[[float], None] | None = None
    ) -> None:
        """As `CommandQueue`."""
        super().__init__(None, batch=batch, round_trip=round_trip)
        self._cluster = cluster
        self._lost = _Lane()
        self._lanes: dict[Address, _Lane] = {}
        self._group: asyncio.TaskGroup | None = None
        self._newest: tuple[_Lane, _Waiting] | None = None

    def publish(self, channel: bytes, payload: bytes) -> asyncio.Future[int]:
        """With SPUBLISH where the channel is a sharded one."""
        return self.submit("PUBLISH", channel, payload, size=len(payload))

    def submit(self, *arguments: Argument, size: int = 0) -> asyncio.Future[Any]:
        """As `CommandQueue.submit`. Functions are those of every master; then the least of the answers counts."""
        if arguments[0] == "FUNCTION":
            return asyncio.ensure_future(self._everywhere(arguments))
        if arguments[0] == "PUBLISH" and is_sharded(cast("bytes", arguments[1])):
            arguments = ("SPUBLISH", *arguments[1:])
        return self.submit_growing(Fixed(arguments, size))

    def submit_growing(self, command: Growing) -> asyncio.Future[Any]:
        self._take(command.size)
        key = command.key
        slot = None if key is None else key_slot(key if isinstance(key, bytes) else str(key).encode())
        waiting = _Waiting(command, slot)
        lane = self._lane_of(slot)
        lane.waiting.append(waiting)
        lane.wake.set()
        self._newest = lane, waiting
        return waiting.done

    @property
    def newest(self) -> Growing | None:
        if self._newest is None:
            return None
        lane, waiting = self._newest
        return waiting.command if lane.waiting and lane.waiting[-1] is waiting else None

    async def run(self) -> None:
        """Send what is queued until cancelled; what is queued then fails with BrokerUnavailable."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for address, lane in self._lanes.items():
                    group.create_task(self._run_lane(address, lane))
                await self._find_servers()
        finally:
            self._group = None
            for lane in (self._lost, *self._lanes.values()):
                for waiting in (*lane.under_way, *lane.waiting):
                    settle(waiting.done, BrokerUnavailable("the gateway is stopping"))
                lane.waiting.clear()
            self._waiting_bytes = self._operations = 0

    # Finding the right lane.

    def _lane_of(self, slot: int | None) -> _Lane:
        masters = self._cluster.masters
        if not masters:
            return self._lost
        address = masters[0] if slot is None else self._cluster.slot_owner(slot)
        return self._lost if address is None else self._lane(address)

    def _lane(self, address: Address) -> _Lane:
        lane = self._lanes.get(address)
        if lane is None:
            lane = self._lanes[address] = _Lane()
            if self._group is not None:
                self._group.create_task(self._run_lane(address, lane))
        return lane

    def _send_on(self, batch: Iterable[_Waiting], *, front: bool) -> None:
        """Put commands, in their order, where they belong by now."""
        by_lane: dict[_Lane, list[_Waiting]] = {}
        for waiting in batch:
            by_lane.setdefault(self._lane_of(waiting.slot), []).append(waiting)
        for lane, some in by_lane.items():
            if front:
                lane.waiting.extendleft(reversed(some))
            else:
                lane.waiting.extend(some)
            lane.wake.set()

    async def _find_servers(self) -> None:
        """Commands for slots that nobody is known to have: read the map, and give up those that still have none."""
        lane = self._lost
        while True:
            await lane.wake.wait()
            lane.wake.clear()
            if not lane.waiting:
                continue
            try:
                await self._cluster.refresh()
                reason = "no master has the slot"
            except BrokerUnavailable as error:
                reason = str(error)
            lost = list(lane.waiting)
            lane.waiting.clear()
            found = [each for each in lost if self._lane_of(each.slot) is not lane]
            self._send_on(found, front=True)
            self._fail((each for each in lost if each not in found), reason)

    async def _everywhere(self, arguments: tuple[Argument, ...]) -> Any:
        if not self._cluster.masters:
            await self._cluster.refresh()
        asked = []
        for address in self._cluster.masters:
            waiting = _Waiting(Fixed(arguments, 0), None)
            self._take(0)
            lane = self._lane(address)
            lane.waiting.append(waiting)
            lane.wake.set()
            asked.append(waiting.done)
        answers = await asyncio.gather(*asked)
        return next((each for each in answers if not each), answers[0])

    # One lane.

    async def _run_lane(self, address: Address, lane: _Lane) -> None:
        while True:
            await lane.wake.wait()
            lane.wake.clear()
            while lane.waiting:
                lane.under_way = [lane.waiting.popleft() for _ in range(min(self._batch, len(lane.waiting)))]
                for waiting in lane.under_way:
                    self._count_out(waiting)
                begun = perf_counter()
                healthy = await self._round_trip_to(address, lane)
                if self._round_trip is not None:
                    self._round_trip(perf_counter() - begun)
                lane.under_way = []
                raise_if_cancelled()
                if not healthy:
                    await self._look_again(lane)

    async def _round_trip_to(self, address: Address, lane: _Lane) -> bool:
        """Send what is under way. False = the map should be read again."""
        batch = lane.under_way
        try:
            answers = await self._pipeline(address, batch)
        except (RedisError, OSError, TimeoutError) as error:
            self._fail(batch, str(error) or type(error).__name__)
            return False
        healthy = True
        moved: list[_Waiting] = []
        asks: dict[Address, list[_Waiting]] = {}
        for waiting, answer in zip(batch, answers, strict=True):
            if isinstance(answer, MovedError):
                self._cluster.moved(answer.slot_id, (answer.host or address[0], answer.port))
                moved.append(waiting)
            elif isinstance(answer, AskError):
                asks.setdefault((answer.host or address[0], answer.port), []).append(waiting)
            else:
                healthy = healthy and not isinstance(answer, ClusterDownError)
                settle(waiting.done, meaning(answer))
        for there, some in asks.items():
            try:
                found = await self._pipeline(there, some, asking=True)
            except (RedisError, OSError, TimeoutError) as error:
                self._fail(some, str(error) or type(error).__name__)
                continue
            for waiting, answer in zip(some, found, strict=True):
                settle(waiting.done, meaning(answer))
        if moved:
            self._move(lane, moved)
        return healthy and not moved

    def _move(self, lane: _Lane, moved: list[_Waiting]) -> None:
        """Take commands elsewhere, and with them what waits behind them for the same slots."""
        for waiting in moved:
            waiting.redirects += 1
        self._fail((each for each in moved if each.redirects > REDIRECTS), "servers disagree about a slot")
        slots = {each.slot for each in moved}
        behind = [each for each in lane.waiting if each.slot in slots]
        if behind:
            lane.waiting = deque(each for each in lane.waiting if each.slot not in slots)
        self._send_on([*(each for each in moved if each.redirects <= REDIRECTS), *behind], front=True)

    async def _pipeline(self, address: Address, batch: list[_Waiting], *, asking: bool = False) -> list[Any]:
        async with self._cluster.client(address).pipeline(transaction=False) as pipeline:
            for waiting in batch:
                if asking:
                    pipeline.execute_command("ASKING")
                pipeline.execute_command(*waiting.command.arguments())
            with lost_is_said():
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers[1::2] if asking else answers

    async def _look_again(self, lane: _Lane) -> None:
        """Something is different from what the map says: read it, and take what waits to where it belongs."""
        try:
            await self._cluster.refresh()
        except BrokerUnavailable:
            return  # what waits is tried here, and fails by itself
        waiting = list(lane.waiting)
        lane.waiting.clear()
        self._send_on(waiting, front=True)

    def _fail(self, batch: Iterable[_Waiting], reason: str) -> None:
        for waiting in batch:
            self._count_out(waiting)
            settle(waiting.done, BrokerUnavailable(reason))

    def _count_out(self, waiting: _Waiting) -> None:
        """It does not wait any more."""
        if waiting.counted:
            waiting.counted = False
            self._operations -= waiting.command.operations
            self._waiting_bytes -= waiting.command.size


class _Lane:
    """What waits for one server."""

    __slots__ = ("under_way", "waiting", "wake")

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.under_way: list[_Waiting] = []
        self.wake = asyncio.Event()
