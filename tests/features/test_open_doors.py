"""Gateways that let people in without a proof: only when they are configured to, and only as far."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.features.conftest import OpenClient
from tests.support.gateway import Gateway, encode_token, serving

ANONYMOUS = {
    "auth": {"anonymous": True},
    "namespaces": {"default": {}, "open": {"subscribe_by": "anyone", "publish_by": "anyone"}},
}
INSECURE = {"auth": {"insecure": True}}
ANOTHER_SECRET = "some other secret, also of more than 32 bytes"


@pytest.fixture
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    with serving(request.param) as gateway:
        yield gateway


@pytest.mark.parametrize("gateway", [ANONYMOUS], indirect=True, ids=["anonymous"])
async def test_anonymous_clients_may_do_what_is_open_to_anyone_and_nothing_else(
    gateway: Gateway, open_client: OpenClient
) -> None:
    nobody, somebody = await open_client(None), await open_client("ada")
    subs = (await nobody.connect())["subs"]
    assert not [channel for channel in subs if channel.startswith("#")]
    await nobody.subscribe("open:hall")
    await somebody.subscribe("news")
    assert (await nobody.error(subscribe={"channel": "news"}))["code"] == 103
    assert await nobody.call(publish={"channel": "open:hall", "data": "hello?"}) == {}
    await nobody.wait_data("open:hall")
    assert nobody.publications("open:hall")[0]["info"] == {"user": "", "client": nobody.id}
    gateway.publish("@all", 1)
    assert await nobody.wait_data("@all") == [1]

    forger = await open_client(None)
    with pytest.raises(ConnectionError):
        await forger.connect(encode_token({"sub": ""}, ANOTHER_SECRET))
    assert await forger.wait_closed() == (3500, "invalid token")


@pytest.mark.parametrize("gateway", [INSECURE], indirect=True, ids=["insecure"])
async def test_insecure_lets_everyone_do_everything_as_any_user_and_the_log_warns(
    gateway: Gateway, open_client: OpenClient
) -> None:
    assert any("insecure" in line["warning"] for line in gateway.logged("dangerous configuration"))
    client = await open_client(token=encode_token({"sub": "admin"}, ANOTHER_SECRET))
    await client.subscribe("$private")
    assert await client.call(publish={"channel": "$private", "data": 1}) == {}
    await client.wait_data("$private")
    assert client.publications("$private")[0]["info"]["user"] == "admin"
    unnamed = await open_client(None)
    assert await unnamed.connect()
