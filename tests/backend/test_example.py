"""The example does what it says, without any gateway: handlers are plain objects."""

from __future__ import annotations

import pytest
from msgspec import Raw

from gateway.backend import (
    ConnectContext,
    DisconnectContext,
    Disconnected,
    PublishContext,
    RefreshContext,
    Refused,
    RpcContext,
    SubscribeContext,
)
from gateway.backend.examples.chat import Chat


@pytest.fixture
async def chat() -> Chat:
    chat = Chat()
    await chat.start()
    return chat


def connecting(cookie: str) -> ConnectContext:
    return ConnectContext(client="c", headers={"cookie": cookie} if cookie else {})


async def test_the_cookie_says_who_it_is(chat: Chat) -> None:
    result = await chat.on_connect(connecting("theme=dark; session=s-ada"))
    assert (result.user, result.info) == ("ada", {"name": "Ada"})
    for cookie in ("", "session=unknown", "[]"):
        with pytest.raises(Refused):
            await chat.on_connect(connecting(cookie))
    with pytest.raises(Disconnected):
        await chat.on_connect(connecting("session=s-banned"))


async def test_sessions_go_on_while_they_exist(chat: Chat) -> None:
    assert not (await chat.on_refresh(RefreshContext(client="c", user="ada"))).expired
    chat.sessions.clear()
    assert (await chat.on_refresh(RefreshContext(client="c", user="ada"))).expired


async def test_members_join_and_write(chat: Chat) -> None:
    subscribing = SubscribeContext(client="c", user="bob", channel="room:tea")
    assert (await chat.on_subscribe(subscribing)).data == {"members": ["ada", "bob"]}
    with pytest.raises(Refused):
        await chat.on_subscribe(SubscribeContext(client="c", user="bob", channel="room:lab"))
    publishing = PublishContext(client="c", user="bob", channel="room:tea", data=Raw(b'{"text": " hi "}'))
    assert (await chat.on_publish(publishing)).data == {"text": "hi", "from": "bob"}
    with pytest.raises(Refused):
        await chat.on_publish(PublishContext(client="c", user="bob", channel="room:tea", data=Raw(b"[]")))
    assert (await chat.on_rpc(RpcContext(client="c", user="bob", method="rooms"))).data == ["room:tea"]
    with pytest.raises(Refused):
        await chat.on_rpc(RpcContext(client="c", user="bob", method="other"))
    await chat.on_disconnect(DisconnectContext(client="c", user="bob", code=3000, reason=""))
    assert list(chat.gone) == ["bob"]
