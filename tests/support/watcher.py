"""A client of a whole gateway that follows one token stream, and comes back as SDKs do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.client import Client
from tests.support.following import Following
from tests.support.gateway import Gateway
from tests.support.waiting import wait_until


class Watcher:
    """A client that follows one stream, and comes back with its position as SDKs do."""

    def __init__(self, gateway: Gateway, key: str, user: str) -> None:
        self.following = Following()
        self.channel = f"stream:{key}"
        self.epoch = ""
        self.offset = 0
        self.replies: list[dict[str, Any]] = []
        self._gateway = gateway
        self._user = user
        self.client: Client | None = None
        self._seen = 0

    async def come(self, **options: Any) -> dict[str, Any]:
        """Connect and subscribe; behind the own position, if there is one."""
        if self.client is not None:
            await self.client.aclose()
        self.client = await Client.open(self._gateway.url, **options)
        self._seen = 0
        await self.client.connect(self._gateway.token(self._user))
        return await self.subscribe()

    async def subscribe(self) -> dict[str, Any]:
        assert self.client is not None
        request: dict[str, Any] = {"channel": self.channel}
        if self.epoch:
            request |= {"recover": True, "epoch": self.epoch, "offset": self.offset}
        reply = await self.client.call(subscribe=request)
        self.replies.append(reply)
        self.epoch, self.offset = reply["epoch"], reply.get("offset", 0)
        for publication in reply.get("publications", ()):
            self._take(publication)
        return reply

    async def go(self) -> None:
        """Leave without a word, with what has arrived."""
        assert self.client is not None
        self.look()
        await self.client.aclose()
        self.look()

    def _take(self, publication: dict[str, Any]) -> None:
        self.following.take(publication["data"])
        self.offset = publication.get("offset", 0) or self.offset

    @property
    def told(self) -> bool:
        """Whether the gateway has ended the subscription, so that the client comes back."""
        assert self.client is not None
        return any("unsubscribe" in push for push in self.client.pushes)

    def look(self) -> Following:
        """Take what has arrived."""
        assert self.client is not None
        pushes = self.client.pushes
        while self._seen < len(pushes):
            push = pushes[self._seen]
            self._seen += 1
            if push.get("channel") == self.channel and "pub" in push:
                self._take(push["pub"])
        return self.following

    async def until(self, condition: Callable[[Following], object], what: str) -> None:
        await wait_until(lambda: condition(self.look()), what)

    async def end(self) -> Following:
        await self.until(lambda following: following.terminal, "the end of the stream")
        return self.following
