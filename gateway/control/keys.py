"""Who calls the API: the key in `X-API-Key`, and what it may do.

The rule that is easiest to break: a method that names no channel concerns all of them, so a key that is limited to
namespaces may not call it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final, NamedTuple

from starlette.requests import Request

from gateway.config import Control
from gateway.control.answers import ApiError, RequestError
from gateway.control.guard import HostRules, check_same_origin
from protocol.channel import parse_channel
from protocol.codes import PERMISSION_DENIED, UNAUTHORIZED
from protocol.errors import ChannelError

KEY_HEADER: Final = "X-API-Key"


class Scope(NamedTuple):
    """What one key may do. Empty = everything."""

    name: str = ""
    """Of the key, for error messages; never the key itself."""
    methods: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def check_method(self, method: str, *, names_channels: bool) -> None:
        """Raises ApiError (103)."""
        if self.methods and method not in self.methods:
            raise ApiError(PERMISSION_DENIED, f'the API key "{self.name}" has not the method {method}')
        if self.namespaces and not names_channels:
            raise ApiError(
                PERMISSION_DENIED,
                f'{method} concerns all namespaces, the API key "{self.name}" has only {_listed(self.namespaces)}',
            )

    def check_channels(self, channels: Iterable[str], max_length: int) -> None:
        """Raises ApiError (103). What is no name of a channel is left to the method to refuse."""
        if not self.namespaces:
            return
        for channel in channels:
            try:
                namespace = parse_channel(channel, max_length).namespace or "default"
            except ChannelError:
                continue
            if namespace not in self.namespaces:
                raise ApiError(PERMISSION_DENIED, f'the API key "{self.name}" has not the namespace {namespace}')


class KeyRing:
    """Every key, with what it may do."""

    def __init__(self, control: Control, *, insecure: bool, hosts: HostRules) -> None:
        """`insecure`: without any key configured, everyone but foreign web pages may call."""
        full = ((key, Scope()) for key in control.api_keys)
        limited = (
            (key.key, Scope(name, frozenset(key.methods), frozenset(key.namespaces)))
            for name, key in control.keys.items()
        )
        self._keys = tuple((key.encode(), scope) for key, scope in (*full, *limited))
        self._insecure = insecure
        self._hosts = hosts

    def scope_of(self, request: Request) -> Scope:
        """What the caller may do. Raises RequestError."""
        given = request.headers.get(KEY_HEADER)
        if not self._keys:
            if self._insecure:
                check_same_origin(request, self._hosts)
                return Scope()
            raise _no_entry("no API key is configured, so the API refuses every call: set control.api_keys")
        if given is None:
            raise _no_entry(f"the header {KEY_HEADER} is missing")
        # Every key is compared, each in constant time: how long it takes says nothing about them.
        matches = [(hmac.compare_digest(given.encode("latin-1"), key), scope) for key, scope in self._keys]
        for is_it, scope in matches:
            if is_it:
                return scope
        raise _no_entry(f"the key in the header {KEY_HEADER} is none of control.api_keys and control.keys")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _no_entry(message: str) -> RequestError:
    return RequestError(401, UNAUTHORIZED, message, {"www-authenticate": f'ApiKey header="{KEY_HEADER}"'})
