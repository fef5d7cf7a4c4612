"""Who may do what on which channel. Pure functions over a channel name and the rules of its namespace.

Every gate of a channel applies: its namespace's rule, its user list (`#`), its mark of privacy (`$`). A subscription
token opens `$` and `subscribe_by = "token"`, never a user list and never `subscribe_by = "nobody"`. `backend` passes
here: the backend is asked when every other gate is open.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config import Namespace
from gateway.session.outcomes import Refusal
from protocol.channel import ChannelName, parse_channel
from protocol.codes import BAD_REQUEST, PERMISSION_DENIED, UNKNOWN_CHANNEL
from protocol.errors import ChannelError


def find_channel(channel: str, namespaces: Mapping[str, Namespace], max_length: int) -> tuple[ChannelName, Namespace]:
    """Parse `channel` and find its rules. Raises Refusal: 107 for a bad name, 102 for an unknown namespace."""
    try:
        name = parse_channel(channel, max_length)
    except ChannelError as error:
        raise Refusal(BAD_REQUEST, str(error)) from error
    namespace = namespaces.get(name.namespace or "default")
    if namespace is None:
        raise Refusal(UNKNOWN_CHANNEL)
    return name, namespace


def check_subscribe(name: ChannelName, rules: Namespace, user: str, *, with_token: bool) -> None:
    """Raises Refusal(103) unless `user` may subscribe. `with_token`: a valid subscription token came along."""
    if name.reserved or not _listed(name, user):
        raise Refusal(PERMISSION_DENIED)
    by = rules.subscribe_by
    allowed = by != "nobody" and (
        with_token or (not name.private and (by == "anyone" or (by == "authenticated" and user != "")))
    )
    if not allowed:
        raise Refusal(PERMISSION_DENIED)


def check_publish(name: ChannelName, rules: Namespace, user: str, *, subscribed: bool) -> None:
    """Raises Refusal(103) unless `user` may publish."""
    _check(name, rules.publish_by, user, subscribed=subscribed)


def check_history(name: ChannelName, rules: Namespace, user: str, *, subscribed: bool) -> None:
    """Raises Refusal(103) unless `user` may read the history."""
    _check(name, rules.history_by, user, subscribed=subscribed)


def check_presence(name: ChannelName, rules: Namespace, user: str, *, subscribed: bool) -> None:
    """Raises Refusal(103) unless `user` may see who is there."""
    _check(name, rules.presence_by, user, subscribed=subscribed)


def _check(name: ChannelName, by: str, user: str, *, subscribed: bool) -> None:
    if name.reserved or not _listed(name, user) or (name.private and not subscribed):
        raise Refusal(PERMISSION_DENIED)
    open_to_all = by in ("anyone", "backend")
    if not (open_to_all or (by == "authenticated" and user != "") or (by == "subscriber" and subscribed)):
        raise Refusal(PERMISSION_DENIED)


def _listed(name: ChannelName, user: str) -> bool:
    return name.users is None or user in name.users
