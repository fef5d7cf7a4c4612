"""A small Centrifuge client: JSON by hand, so that what tests expect does not come from our own codecs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.waiting import DEADLINE_S, wait_until

Json = dict[str, Any]


class Client:
    """One client. Collects every push, and answers pings as SDKs do unless `answers_pings` is turned off."""

    def __init__(self, socket: ClientConnection) -> None:
        self.id = ""
        """Client id from the reply to `connect`."""
        self.connected: Json = {}
        """That reply."""
        self.pushes: list[Json] = []
        self.pings = 0
        self.answers_pings = True
        self._socket = socket
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def open(cls, url: str, **options: Any) -> Client:
        """Connect the socket and do the handshake. Options as those of `websockets.asyncio.client.connect`."""
        defaults: Json = {"compression": None, "proxy": None, "ping_interval": None, "max_size": None}
        return cls(await connect(url, open_timeout=DEADLINE_S, **(defaults | options)))

    async def aclose(self) -> None:
        await self._socket.close()
        await self._reading

    # Commands.

    async def post(self, *commands: Json) -> list[asyncio.Future[Json]]:
        """Send commands, which get their ids here, in one frame; futures of the whole replies."""
        futures = []
        for command in commands:
            self._last_id += 1
            command["id"] = self._last_id
            futures.append(asyncio.get_running_loop().create_future())
            self._waiting[self._last_id] = futures[-1]
        text = "\n".join(json.dumps(command, separators=(",", ":")) for command in commands)
        await self._socket.send(text)
        return futures

    async def send_text(self, text: str) -> None:
        """Send one frame as it is."""
        await self._socket.send(text)

    async def command(self, **request: Json) -> Json:
        """Send one command and wait for its reply, whatever it is. Raises ConnectionError when none comes."""
        (reply,) = await self.post(dict(request))
        return await asyncio.wait_for(reply, DEADLINE_S)

    async def call(self, **request: Json) -> Json:
        """The result of a command that must succeed."""
        reply = await self.command(**request)
        assert "error" not in reply, reply
        (kind,) = request
        result: Json = reply[kind]
        return result

    async def error(self, **request: Json) -> Json:
        """The error of a command that must fail."""
        reply = await self.command(**request)
        assert "error" in reply, reply
        error: Json = reply["error"]
        return error

    async def connect(self, token: str = "", **fields: Any) -> Json:
        """`connect`, which must succeed."""
        request: Json = {"token": token} if token else {}
        self.connected = await self.call(connect=request | fields)
        self.id = self.connected["client"]
        return self.connected

    async def subscribe(self, channel: str, **fields: Any) -> Json:
        """`subscribe`, which must succeed."""
        return await self.call(subscribe={"channel": channel} | fields)

    # What comes in.

    def publications(self, channel: str) -> list[Json]:
        """What has arrived on `channel`, in order."""
        return [push["pub"] for push in self.pushes if push["channel"] == channel and "pub" in push]

    def data(self, channel: str) -> list[Any]:
        """The data of these publications."""
        return [publication["data"] for publication in self.publications(channel)]

    async def wait_data(self, channel: str, count: int = 1) -> list[Any]:
        """Wait until `count` publications have arrived on `channel`; the data of all that have."""
        await self.wait(lambda: len(self.publications(channel)) >= count, f"{count} publications on {channel}")
        return self.data(channel)

    async def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for anything. Fails at once when the connection has ended without it."""
        value = await wait_until(lambda: condition() or (self._reading.done() and "ended"), what)
        assert condition(), f"closed with {self.close_code} {self.close_reason!r} before: {what}"
        return value

    def fall_asleep(self) -> None:
        """Take nothing from the socket any more, as a process that is stopped."""
        self._socket.transport.pause_reading()

    def wake_up(self) -> None:
        self._socket.transport.resume_reading()

    # The end.

    @property
    def open_still(self) -> bool:
        return not self._reading.done()

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code

    @property
    def close_reason(self) -> str | None:
        return self._socket.close_reason

    async def wait_closed(self) -> tuple[int | None, str | None]:
        """Wait until the connection has ended; code and reason, 1006 without a close frame."""
        await asyncio.wait_for(asyncio.shield(self._reading), DEADLINE_S)
        return self.close_code, self.close_reason

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                assert isinstance(message, str)
                for line in message.split("\n"):
                    await self._received(json.loads(line))
        except ConnectionClosed:
            pass  # `close_code` tells
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError(f"closed with {self.close_code} {self.close_reason!r}"))
                    future.exception()
            self._waiting.clear()

    async def _received(self, reply: Mapping[str, Any]) -> None:
        if not reply:
            self.pings += 1
            if self.answers_pings:
                await self._socket.send("{}")
        elif "id" in reply:
            self._waiting.pop(reply["id"]).set_result(dict(reply))
        else:
            self.pushes.append(reply["push"])
