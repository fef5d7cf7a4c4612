"""The grammar of channel names.

    channel   = [ namespace ":" ] name
    namespace = 1*64( ALPHA / DIGIT / "_" / "." / "-" )
    name      = [ "$" ] body [ "#" user *( "," user ) ]

* `$` (at the start, or right after the namespace) marks a private channel: it needs a subscription token.
* `#` starts a list of user ids that alone may subscribe: `dialog#42,43`. `#42` alone is user 42's personal channel.
* `@` starts the names that only the server subscribes clients to: `@all` is every connection.
* Printable ASCII without spaces, at most 255 characters; `{` and `}` are refused: Redis Cluster would read a hash tag.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from protocol.errors import ChannelError

MAX_LENGTH: Final = 255
EVERYONE: Final = "@all"
"""Channel of every connection."""
NAMESPACE_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_PLAIN: Final = str.maketrans("", "", "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "{}"))


class ChannelName(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed channel name."""

    full: str
    """The name as clients and backends write it."""
    namespace: str = ""
    """Text before the first `:`; "" = the default namespace."""
    private: bool = False
    """Needs a subscription token."""
    users: frozenset[str] | None = None
    """The only users who may subscribe; None = not limited."""
    personal: bool = False
    """`#<user>`: the personal channel of one user, subscribed by the server."""
    reserved: bool = False
    """Starts with `@`: subscribed by the server only."""


@lru_cache(maxsize=4096)
def parse_channel(channel: str, max_length: int = MAX_LENGTH) -> ChannelName:
    """Take a channel name apart. Remembers the latest names: in a storm everyone asks for the same few.

    Raises ChannelError for a name that is empty, longer than `max_length` characters, or has a character that is
    refused; its message says which.
    """
    if not channel:
        raise ChannelError("channel name is empty")
    if len(channel) > max_length:
        raise ChannelError(f"channel name has {len(channel)} characters, {max_length} are allowed")
    if refused := channel.translate(_PLAIN):
        raise ChannelError(f"channel name has a character that is not allowed: {refused[0]!a}")
    head, colon, rest = channel.partition(":")
    if colon and "#" not in head:
        # A colon behind "#" belongs to a user id, as in "#team:42".
        private = head.startswith("$") or rest.startswith("$")
        namespace = head.removeprefix("$")
        if not namespace or not NAMESPACE_CHARACTERS.issuperset(namespace):
            raise ChannelError(f'"{namespace}" is not a namespace')
        if len(rest.removeprefix("$")) == 0:
            raise ChannelError("channel name has nothing behind its namespace")
    else:
        namespace, rest = "", channel
        private = channel.startswith("$")
    reserved = not namespace and rest.startswith("@")
    body, hash_sign, users = rest.partition("#")
    if not hash_sign:
        return ChannelName(full=channel, namespace=namespace, private=private, reserved=reserved)
    if not users or users.startswith(",") or users.endswith(",") or ",," in users:
        raise ChannelError('"#" must be followed by user ids, separated by commas')
    personal = not namespace and not body
    return ChannelName(
        full=channel,
        namespace=namespace,
        private=private,
        users=frozenset((users,) if personal else users.split(",")),
        personal=personal,
        reserved=reserved,
    )


def personal_channel(user: str) -> ChannelName | None:
    """The personal channel of `user`, or None when the id cannot stand in a channel name."""
    if not user or len(user) >= MAX_LENGTH or user.translate(_PLAIN) or "," in user:
        return None
    return ChannelName(full=f"#{user}", users=frozenset((user,)), personal=True)
