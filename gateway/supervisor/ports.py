"""Reserving the ports before any worker starts, so that port 0 has one answer for all and a taken port one clear error.

A reservation is a socket that is bound and does not listen here. The kernel hands connections to listening sockets
only, so it receives nothing, while the number stays ours even when every worker is down. The rule that is easiest to
break: which of SO_REUSEADDR and SO_REUSEPORT a socket has decides who else may bind (Linux;
tests/supervisor/test_ports.py):

- public port: SO_REUSEPORT alone. Workers of the same user bind with SO_REUSEPORT (and SO_REUSEADDR, as asyncio does);
  the probe of a second gateway, which has SO_REUSEADDR alone, fails even before our first worker listens.
- control port: SO_REUSEADDR alone. The control process listens on this very socket, and so does its successor: no call
  is refused between the two, nor while a control process that died is started again.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from gateway.errors import StartupError

_Address = tuple[Any, ...]


class ReservedPort:
    """A port of `host` that is ours until `close`. `key` is what the configuration calls it (`server`, `control`)."""

    __slots__ = ("_sockets", "host", "port")

    def __init__(self, host: str, port: int, sockets: list[socket.socket]) -> None:
        self.host = host
        self.port = port
        """The real one, never 0."""
        self._sockets = sockets

    @classmethod
    def shared(cls, host: str, port: int, *, key: str = "server") -> ReservedPort:
        """For several processes that listen with SO_REUSEPORT. Raises StartupError."""
        return cls._reserve(host, port, key, shared=True)

    @classmethod
    def single(cls, host: str, port: int, *, key: str = "control") -> ReservedPort:
        """For one process that listens with SO_REUSEADDR. Raises StartupError."""
        return cls._reserve(host, port, key, shared=False)

    @property
    def fds(self) -> list[int]:
        """File descriptors of the sockets; they stay ours."""
        return [sock.fileno() for sock in self._sockets]

    def close(self) -> None:
        """Give the port back."""
        for sock in self._sockets:
            sock.close()

    @classmethod
    def _reserve(cls, host: str, port: int, key: str, *, shared: bool) -> ReservedPort:
        reserved = cls(host, port, [])
        try:
            for family, address in _addresses(host, key):
                reserved._sockets.append(_bound(family, (address[0], reserved.port, *address[2:]), shared=shared))
                reserved.port = reserved._sockets[0].getsockname()[1]
        except OSError as error:
            reserved.close()
            raise StartupError(_explain(error, host, reserved.port, key)) from error
        return reserved


def _addresses(host: str, key: str) -> list[tuple[int, _Address]]:
    """The addresses that asyncio would listen on for `host`; a name may have one per family."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartupError(f'{key}.host = "{host}" is no address and no known host name: {error.strerror}') from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(family: int, address: _Address, *, shared: bool) -> socket.socket:
    """A reservation. EADDRINUSE when somebody listens there, of whatever user and with whatever options."""
    probe = _bind(family, address, socket.SO_REUSEADDR)
    if not shared:
        return probe
    if address[1] == 0:
        address = (address[0], probe.getsockname()[1], *address[2:])
    probe.close()
    try:
        return _bind(family, address, socket.SO_REUSEPORT)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        # The probe passed, so these are closed connections (TIME_WAIT) of a program without SO_REUSEPORT.
        return _bind(family, address, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bind(family: int, address: _Address, *options: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio and uvloop do
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _explain(error: OSError, host: str, port: int, key: str) -> str:
    place = f"port {port} of {host or 'all addresses'} ({key}.port)"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"{place} is in use. See by whom with `ss -ltnp 'sport = :{port}'` and stop it, "
                f"or choose another one with {key}.port."
            )
        case errno.EACCES:
            return f"{place} may not be used by this user; ports below 1024 need CAP_NET_BIND_SERVICE. Choose another."
        case errno.EADDRNOTAVAIL:
            return f'{key}.host = "{host}" is not an address of this machine. See which ones it has with `ip address`.'
        case _:
            return f"cannot reserve {place}: {error.strerror}"
