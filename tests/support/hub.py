"""The hub's surroundings, faked: receivers, Redis, an encoding that counts."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from typing import Any

from msgspec import Raw

from gateway.broker import Page, Published
from gateway.clock import FakeClock
from gateway.config import Namespace
from gateway.errors import BrokerError
from gateway.hub import CatchUp, Channel, Fanout, Hub
from gateway.metrics import LatencyRecorder, LatencyRow, names, private_row
from protocol.encodings import ENCODINGS, JSON, Encoding
from protocol.encodings.json import JsonEncoding
from protocol.frames import PLAIN, Framing
from protocol.position import Position
from protocol.redis_contract import Metadata, PresenceChange, encode_envelope, publish_channel
from protocol.replies import Publication, Reply


class CountingEncoding(JsonEncoding):
    """JSON under a name of its own, that counts what it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: Counter[bytes] = Counter()

    def encode_reply(self, reply: Reply) -> bytes:
        message = super().encode_reply(reply)
        self.encoded[message] += 1
        return message


@functools.cache
def framing_of(encoding: Encoding) -> Framing:
    """One for each encoding, as in a worker."""
    return PLAIN[encoding.name] if encoding in ENCODINGS else Framing(encoding)


class FakeReceiver:
    """A connection that keeps what it gets."""

    def __init__(self, encoding: Encoding = JSON, *, slow: bool = False) -> None:
        self.encoding = encoding
        self.framing = framing_of(encoding)
        self.slow = slow
        self.frames: list[bytes] = []
        self.closed_as_slow = 0
        self.lost: list[str] = []

    def deliver(self, frames: bytes) -> bool:
        if not self.slow:
            self.frames.append(frames)
        return self.slow

    def too_slow(self) -> None:
        self.closed_as_slow += 1

    def subscription_lost(self, channel: str) -> None:
        self.lost.append(channel)

    @property
    def received(self) -> list[bytes]:
        """Data of every publication, in order. Short ones only: frames with a length of one or two more bytes."""
        return [data for frames in self.frames for data in data_of(frames)]


def data_of(frames: bytes) -> list[bytes]:
    """Data of the publications in server frames."""
    found = []
    while frames:
        size, header = frames[1], 2
        if size == 126:
            size, header = int.from_bytes(frames[2:4]), 4
        payload, frames = frames[header : header + size], frames[header + size :]
        for reply in JSON.decode_replies(payload):
            assert reply.push is not None
            assert reply.push.pub is not None
            found.append(bytes(reply.push.pub.data))  # type: ignore[arg-type]
    return found


class FakeRedis:
    """Notes what the hub subscribes to (`gateway.hub.interest.SubscribesInRedis`). Answers when the test says so."""

    def __init__(self) -> None:
        self.away = False
        self.calls: list[tuple[str, bytes]] = []

    def subscribe(self, channel: bytes) -> bool:
        self.calls.append(("subscribe", channel))
        return not self.away

    def unsubscribe(self, channel: bytes) -> None:
        self.calls.append(("unsubscribe", channel))

    def asked(self, verb: str) -> list[str]:
        return [channel.decode().removeprefix("gw:pub:") for each, channel in self.calls if each == verb]


class FakeLog:
    """Logs of channels in memory (`gateway.broker.ChannelLog`). Answers at once, unless `late` or `error`."""

    def __init__(self) -> None:
        self.epochs: dict[str, str] = {}
        self.tops: dict[str, int] = {}
        self.entries: dict[str, list[Publication]] = {}
        self.reads: list[tuple[str, int, int]] = []
        self.error: BrokerError | None = None
        self.late = False
        self._waiting: list[tuple[asyncio.Future[Page], str, int, int]] = []

    def put(self, channel: str, data: bytes) -> bytes:
        """Log a publication; the payload that Redis publishes."""
        top = self.tops[channel] = self.tops.get(channel, 0) + 1
        self.entries.setdefault(channel, []).append(Publication(data=Raw(data), offset=top))
        return encode_envelope(data, Metadata(), Position(offset=top, epoch=self.epoch(channel)))

    def epoch(self, channel: str) -> str:
        return self.epochs.setdefault(channel, f"epoch-{len(self.epochs)}")

    def trim(self, channel: str, keep: int) -> None:
        entries = self.entries.get(channel, [])
        self.entries[channel] = entries[len(entries) - keep :] if keep else []

    def lose(self, channel: str) -> None:
        """As a Redis that restarts without its data."""
        self.entries.pop(channel, None)
        self.tops.pop(channel, None)
        self.epochs[channel] = self.epoch(channel) + "'"

    def read(self, channel: str, *, after: int, limit: int) -> asyncio.Future[Page]:
        self.reads.append((channel, after, limit))
        answer: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        self._waiting.append((answer, channel, after, limit))
        if not self.late:
            self.answer()
        return answer

    def forked(self, channel: str, epoch: str) -> asyncio.Future[int]:
        if self.epoch(channel) == epoch:
            self.epochs[channel] += "'"
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(1)
        return done

    def fail_over(self, channel: str, lacks: int) -> None:
        """As a replica that becomes the master without the last `lacks` writes."""
        self.tops[channel] -= lacks
        del self.entries[channel][-lacks:]

    def answer(self) -> None:
        """Answer every read that waits, with what the logs hold now."""
        waiting, self._waiting = self._waiting, []
        for answer, channel, after, limit in waiting:
            if answer.done():
                continue
            if self.error is not None:
                answer.set_exception(self.error)
                answer.exception()
                continue
            found = [each for each in self.entries.get(channel, []) if each.offset > after][:limit]
            answer.set_result(Page(found, Position(offset=self.tops.get(channel, 0), epoch=self.epoch(channel))))

    def append(self, channel: str, data: bytes, metadata: Metadata, **_: Any) -> asyncio.Future[Published]:
        self.put(channel, data)
        done: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        done.set_result(Published(Position(offset=self.tops[channel], epoch=self.epoch(channel)), fresh=True))
        return done


class HubWorld:
    """A hub with a fake Redis and a clock that stands."""

    def __init__(
        self,
        *,
        slice_deliveries: int = 256,
        queue_messages: int = 1000,
        queue_bytes: int = 16_777_216,
        publication_bytes: int = 1_048_576,
        linger_s: float = 5.0,
        namespaces: dict[str, Namespace] | None = None,
    ) -> None:
        self.counters = private_row()
        self.clock = FakeClock()
        self.latencies = LatencyRow.private()
        self.latency = LatencyRecorder(self.latencies, self.clock.monotonic(), self.clock.time(), slow_s=0.2)
        self.redis = FakeRedis()
        self.redis_states: list[bool] = []
        self.channels: dict[str, Channel] = {}
        self.log = FakeLog()
        self.changes: list[tuple[str, PresenceChange]] = []
        catch_up = CatchUp(self.counters)
        self.namespaces = {"default": Namespace()} | (namespaces or {})
        self.hub = Hub(
            self.redis,
            Fanout(
                self.counters,
                catch_up.stalled,
                slice_deliveries=slice_deliveries,
                queue_messages=queue_messages,
                queue_bytes=queue_bytes,
                latency=self.latency,
            ),
            catch_up,
            self.log,
            lambda channel, change: self.changes.append((channel.name, change)),
            self.counters,
            self.clock,
            prefix="gw",
            namespaces=self.namespaces,
            linger_s=linger_s,
            publication_bytes=publication_bytes,
            redis_state_changed=self.redis_states.append,
        )

    def confirm(self, *channels: str) -> None:
        """Redis answers."""
        for channel in channels:
            self.hub.subscription_confirmed(publish_channel("gw", channel), None)

    def publish(self, channel: str, data: bytes) -> None:
        self.hub.message_received(publish_channel("gw", channel), data)

    def join(self, channel: str, *receivers: FakeReceiver, namespace: str = "") -> list[FakeReceiver]:
        """Let `receivers` join, with Redis' consent."""
        for receiver in receivers:
            (opened,), ready = self.hub.open([(channel, namespace)])
            if ready is not None:
                self.confirm(channel)
            self.hub.join(opened, receiver)
            self.channels[channel] = opened
        return list(receivers)

    def leave(self, channel: str, *receivers: FakeReceiver) -> None:
        for receiver in receivers:
            self.hub.leave(self.channels[channel], receiver)

    def sweep(self, after_s: float) -> None:
        """Let time pass, then what `Hub.run` does once in a while."""
        self.clock.advance(after_s)
        self.hub._interest.sweep()


async def turn(times: int = 1) -> None:
    """Turns of the event loop. In each runs one slice, if a pass was due at its beginning."""
    for _ in range(times):
        await asyncio.sleep(0)


async def delivered(world: HubWorld, deliveries: int) -> None:
    """Turn the loop until so many deliveries are made."""
    for _ in range(1000):
        if world.counters[names.DELIVERIES] >= deliveries:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{world.counters[names.DELIVERIES]} deliveries of {deliveries} after 1,000 turns of the loop")
