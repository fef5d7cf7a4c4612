"""The state of one client: who it is, what it is subscribed to, how it is answered, how it ends.

States: new (`client` is empty) → connected → closed (`closed_with` is set). Nothing is sent once it is closed.
"""

from __future__ import annotations

from math import ceil

from msgspec import UNSET, Raw

from gateway.auth import ConnectionClaims
from gateway.config import Namespace
from gateway.hub import Channel, forms
from gateway.metrics import names
from gateway.session import events
from gateway.session.asking import Hooked
from gateway.session.commands import CommandQueue
from gateway.session.context import Outlet, SessionContext
from gateway.session.outcomes import Refusal
from gateway.session.permissions import find_channel
from gateway.session.refreshing import refresh_due, said_goodbye
from gateway.session.subscription import Subscription, Wanted
from protocol.channel import ChannelName
from protocol.codes import (
    CONNECTION_EXPIRED,
    INSUFFICIENT_STATE,
    UNSUBSCRIBED_EXPIRED,
    UNSUBSCRIBED_INSUFFICIENT,
    DisconnectCode,
    UnsubscribeCode,
)
from protocol.commands import Command
from protocol.replies import ClientInfo, Error, Push, Reply, Unsubscribe


class Session:
    """One client on one connection. Everything happens on the loop's thread."""

    __slots__ = (
        "_commands",
        "client",
        "closed_with",
        "context",
        "expires_at",
        "hooked",
        "info",
        "issued_at",
        "outlet",
        "publishes_full_at",
        "reads_numbers",
        "subscriptions",
        "token_id",
        "user",
    )

    def __init__(self, context: SessionContext, outlet: Outlet) -> None:
        self.context = context
        self.outlet = outlet
        self._commands = CommandQueue()
        self.client = ""
        """Id of the client; "" before it has connected."""
        self.user = ""
        """Id of the user; "" = anonymous."""
        self.info: Raw | None = None
        """Information about the connection, from its token."""
        self.expires_at: float | None = None
        """Seconds since 1970 UTC; None = never."""
        self.token_id = ""
        """`jti` of its connection token."""
        self.issued_at: float | None = None
        """`iat` of its connection token: seconds since 1970 UTC."""
        self.hooked: Hooked | None = None
        """What is remembered for the backend; None = nothing."""
        self.publishes_full_at = 0.0
        """When it may publish a whole burst again (`gateway.session.rate`)."""
        self.reads_numbers = True
        """Whether it understands the numbers of channels that it asks for. The JavaScript SDK in Protobuf (5.8) does
        not: it compares them by identity, and they are objects there."""
        self.subscriptions: dict[str, Subscription] = {}
        self.closed_with: DisconnectCode | str | None = None
        """Why it ended; None while it lives."""

    def receive(self, commands: list[Command]) -> None:
        """Carry out the commands of one WebSocket message, in order."""
        self._commands.receive(self, commands)

    def accept(self, claims: ConnectionClaims) -> None:
        """Be who a token says."""
        self.user = claims.user
        self.info = Raw(claims.info) if claims.info else None
        self.expires_at = claims.expires_at
        self.token_id = claims.token_id
        self.issued_at = claims.issued_at

    # Channels.

    def find(self, channel: str) -> tuple[ChannelName, Namespace]:
        """Parse a channel name and find its rules. Raises Refusal: 107 for a bad name, 102 for an unknown namespace."""
        return find_channel(channel, self.context.namespaces, self.context.config.limits.channel_length)

    def join(
        self,
        channel: Channel,
        wanted: Wanted,
        *,
        server_side: bool,
        after: int | None = None,
        shape: int = forms.DEFAULT,
    ) -> None:
        """Receive the publications of an opened channel, with history all after the offset `after`.

        Give the outlet the reply in the same step.
        """
        subscription = Subscription(channel, wanted, server_side=server_side)
        self.subscriptions[channel.name] = subscription
        self.context.hub.join(channel, self.outlet, after, shape=shape)
        events.subscribed(self, channel.name)
        self.context.presence.entered(channel, self.client, self.describe(subscription), subscription.observed)

    def leave(self, subscription: Subscription) -> None:
        """Receive nothing more from a channel."""
        del self.subscriptions[subscription.channel.name]
        self.context.hub.leave(subscription.channel, self.outlet)
        events.unsubscribed(self, subscription.channel.name)
        self._left(subscription)

    def _left(self, subscription: Subscription) -> None:
        info = self.describe(subscription)
        self.context.presence.left(subscription.channel, self.client, info, subscription.observed)

    def describe(self, subscription: Subscription | None) -> ClientInfo:
        """What others learn about the client, in a channel or outside of any."""
        chan_info = subscription.info if subscription is not None else None
        return ClientInfo(
            user=self.user, client=self.client, conn_info=self.info or UNSET, chan_info=chan_info or UNSET
        )

    def described_anew(self, *subscriptions: Subscription) -> None:
        """What others learn has changed, in these channels."""
        for each in subscriptions:
            self.context.presence.updated(each.channel, self.client, self.describe(each))

    def end_subscription(self, subscription: Subscription, code: UnsubscribeCode) -> None:
        """Take the client out of a channel and tell it."""
        self.leave(subscription)
        push = Push(channel=subscription.channel.name, unsubscribe=Unsubscribe(code=code.code, reason=code.reason))
        self.reply(Reply(push=push))

    def subscription_lost(self, channel: str) -> None:
        """A subscription cannot go on: the client has to come back, and to recover if it can."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.server_side:
            # The SDK cannot subscribe to it again by itself, only connect again.
            self.disconnect(INSUFFICIENT_STATE, f"{channel} cannot go on")
        elif subscription is not None:
            self.end_subscription(subscription, UNSUBSCRIBED_INSUFFICIENT)
            self.outlet.flush()

    # Answers.

    def reply(self, reply: Reply) -> None:
        """Queue a reply or push; `outlet.flush` sends it."""
        self.outlet.send(self.outlet.encoding.encode_reply(reply))

    def fail(self, command_id: int, refusal: Refusal) -> None:
        """Queue an error reply. A command without id (`send`) gets none."""
        self.context.counters[names.COMMAND_ERRORS] += 1
        if command_id:
            error = refusal.error
            body = Error(code=error.code, message=str(refusal), temporary=error.temporary)
            self.reply(Reply(id=command_id, error=body))

    def time_left(self, expires_at: float | None) -> tuple[bool, int]:
        """The fields `expires` and `ttl` (whole seconds, at least 1) of a result."""
        if expires_at is None:
            return False, 0
        return True, max(1, ceil(expires_at - self.context.clock.time()))

    # The end.

    def check_expiry(self) -> None:
        """Called with each ping: end what has expired and was not refreshed in time (3005, 2501)."""
        if self.hooked is not None:
            refresh_due(self, self.hooked)
        deadline = self.context.clock.time() - self.context.config.auth.expired_close_delay_s
        if self.expires_at is not None and self.expires_at < deadline:
            self.disconnect(CONNECTION_EXPIRED, "token expired and was not refreshed")
            return
        expired = [
            each for each in self.subscriptions.values() if each.expires_at is not None and each.expires_at < deadline
        ]
        for subscription in expired:
            self.end_subscription(subscription, UNSUBSCRIBED_EXPIRED)
        if expired:
            self.outlet.flush()

    def disconnect(self, disconnect: DisconnectCode, why: str = "") -> None:
        """Close the connection from our side, with a code that tells the SDK whether to come back."""
        if self.closed_with is None:
            self.outlet.close(disconnect)
            self.context.log.debug("client disconnected", client=self.client, code=disconnect.code, why=why)
            self.closed(disconnect)

    def closed(self, why: DisconnectCode | str) -> None:
        """The connection has ended or is about to: leave everything, at once."""
        if self.closed_with is not None:
            return
        self.closed_with = why
        self._commands.close()
        said_goodbye(self, why)
        events.disconnected(self, why)
        context = self.context
        if context.user_limit is not None:
            context.user_limit.leave(self)
        for subscription in self.subscriptions.values():
            context.hub.leave(subscription.channel, self.outlet)
            self._left(subscription)
        self.subscriptions.clear()
        if self.client:
            context.clients.pop(self.client, None)
            context.users.remove(self.user, self)
            context.counters[names.CLIENTS] -= 1
            context.counters[names.USERS] = len(context.users)
