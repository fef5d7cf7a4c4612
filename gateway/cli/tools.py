"""`token` and `publish`."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it: `token` must not wait for what `serve` needs

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import ConfigFile, RedisUrl, fail, load
from gateway.clock import SystemClock
from gateway.config import Config

if TYPE_CHECKING:
    from protocol.position import Position


def token(
    user: Annotated[str, typer.Argument(help="User id.")],
    ttl: Annotated[str, typer.Option(metavar="TIME", help="300s, 15m, 1h, 30d or never.")] = "1h",
    channel: Annotated[str, typer.Option(help="Make a subscription token for this channel.", show_default=False)] = "",
    info: Annotated[str, typer.Option(metavar="JSON", help="What others see of the user.", show_default=False)] = "",
    config: ConfigFile = None,
) -> None:
    """Print a token, signed with \\[auth] hmac_secret."""
    from gateway.auth.issue import sign_token

    auth = load(config, {}, to_serve=False).config.auth
    if not auth.hmac_secret:
        fail(
            "there is no secret to sign with: set GATEWAY_AUTH__HMAC_SECRET, or hmac_secret under [auth] in the file "
            "that --config names"
        )
    if not user and not auth.anonymous:
        fail("a token for no user is refused by the gateway unless [auth] anonymous = true")
    if channel:
        check_channel(channel)
    typer.echo(
        sign_token(
            auth.hmac_secret,
            user=user,
            issued_at=SystemClock().time(),
            ttl_s=seconds(ttl),
            channel=channel,
            info=json(info) if info else None,
            audience=auth.audience,
            issuer=auth.issuer,
        )
    )


def publish(
    channel: Annotated[str, typer.Argument(help="Channel, such as feed or chat:lobby.")],
    data: Annotated[str, typer.Argument(metavar="JSON", help="A JSON document; - reads it from standard input.")],
    config: ConfigFile = None,
    redis_url: RedisUrl = None,
    port: Annotated[
        int | None, typer.Option(help="Public port of the gateway whose embedded Redis to use.", show_default=False)
    ] = None,
) -> None:
    """Publish to everyone who is subscribed to a channel.

    Through the Redis of the configuration, else through the embedded one of a gateway on this machine. The rules that
    the gateway keeps there say whether the channel exists, and whether it has a history.
    """
    settings = load(config, {"redis_url": redis_url, "port": port}, to_serve=False).config
    document = sys.stdin.buffer.read() if data == "-" else data.encode(errors="surrogateescape")
    check_channel(channel, settings.limits.channel_length)
    json(document)
    answer = _publish(settings, channel, document)
    if isinstance(answer, int):
        reached = "nobody is subscribed" if not answer else f"{answer} worker{'s' if answer > 1 else ''} got it"
    else:
        reached = f"it is in the history, at offset {answer.offset}"
    typer.echo(f"Published to {channel}: {reached}.")


def _publish(settings: Config, channel: str, document: bytes) -> int | Position:
    """Its position; without history, the number of workers that got it."""
    from gateway.broker.connection import Connection
    from gateway.broker.rules import RulesStore
    from gateway.errors import BrokerError, PublishInvalid
    from gateway.publisher.messages import Message, RawJSON
    from gateway.publisher.rules import NO_RULES, rules_of
    from gateway.publisher.sending import Sender
    from gateway.storage.folder import embedded_socket
    from gateway.storage.redis import endpoint
    from protocol.errors import EnvelopeError
    from protocol.redis_contract import publish_channel

    redis = settings.redis
    if not redis.url:
        socket = embedded_socket(settings.server.port)
        if not socket.exists():
            fail(
                f"no gateway of this user with an embedded Redis runs here on port {settings.server.port}: start one, "
                "name its port with --port, or its Redis with --redis-url or --config"
            )
        redis = redis.model_copy(update={"url": f"unix://{socket}"})

    async def run() -> int | Position:
        connection = Connection(redis)
        queue = connection.queue()
        sending = asyncio.create_task(queue.run())
        try:
            stored = await RulesStore(queue, prefix=redis.prefix).read()
            if stored is None:
                fail(f"not published through Redis at {endpoint(redis)}: {NO_RULES}")
            prepared = rules_of(stored.rules).prepare(Message(channel=channel, data=RawJSON(document)))
            if prepared.history is None:
                return await queue.publish(publish_channel(redis.prefix, channel), prepared.payload)
            position = await Sender(queue, redis.prefix).send(prepared)
            if position is None:
                raise RuntimeError("a publication with history has no position")
            return position
        finally:
            sending.cancel()
            await asyncio.wait((sending,))
            await connection.aclose()

    try:
        return asyncio.run(run())
    except PublishInvalid as error:
        fail(str(error), 2)
    except (BrokerError, EnvelopeError) as error:
        fail(f"not published through Redis at {endpoint(redis)}: {error}")


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float | None:
    """`300s`, `15m`, `1h`, `30d` in seconds; None for `never`."""
    if text == "never":
        return None
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None or not int(match[1]):
        fail(f'--ttl: "{text}" is not a time: write 300s, 15m, 1h, 30d or never', 2)
    return int(match[1]) * _UNITS[match[2]]


def check_channel(channel: str, max_length: int = 255) -> None:
    from protocol.channel import parse_channel
    from protocol.errors import ChannelError

    try:
        parse_channel(channel, max_length)
    except ChannelError as error:
        fail(str(error), 2)


def json(document: str | bytes) -> object:
    import orjson

    try:
        value: object = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        fail(f"""not JSON: {error}; text needs quotes of its own: '"hello"'""", 2)
    return value
