"""Whose connection it is: the client's address behind proxies that are trusted.

Every trusted proxy vouches for one step: for the address from which it was connected to. So the chain is walked from
our socket outwards, over what the proxies have appended to one header, and ends at the first address that is not
trusted, or that cannot be read: what stands left of it was written by nobody whom we know.

The rule that is easiest to break: only one of the two headers is looked at. A proxy appends to the one that it knows,
and hands the other on as the client has written it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.session.network import parse_address

MAX_HOPS: Final = 32
"""Addresses of one header that are looked at, from the right."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FOR: Final = re.compile(r'(?:^|;)\s*for=(?:"([^"]*)"|([^;"\s]*))', re.IGNORECASE)


class ClientAddress:
    """Finds clients' addresses, by the rules of `[server]`."""

    __slots__ = ("_name", "_networks")

    def __init__(self, trusted_proxies: Sequence[str], forwarded_header: str) -> None:
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(network) for network in trusted_proxies)
        self._name = forwarded_header

    def trusts(self, host: str) -> bool:
        """Whether `host` is a trusted proxy: then the header that it wrote is worth looking at."""
        if not self._networks:
            return False
        address = parse_address(host)
        return address is not None and any(address in network for network in self._networks)

    def may_introduce(self, host: str) -> bool:
        """Whether a PROXY protocol header from `host` is believed."""
        return not self._networks or self.trusts(host)

    def behind(self, host: str, fields: Iterable[tuple[str, str]]) -> str:
        """The client's address when a request with these header fields comes from `host`."""
        if not self.trusts(host):
            return host
        values = [value for name, value in fields if name.lower() == self._name]
        hops = _forwarded(values) if self._name == "forwarded" else ",".join(values).split(",")
        for hop in reversed(hops[-MAX_HOPS:]):
            address = parse_address(_without_port(hop.strip()))
            if address is None:
                break
            host = str(address)
            if not self.trusts(host):
                break
        return host


def _without_port(hop: str) -> str:
    """`192.0.2.1:80` and `[2001:db8::1]:80` with and without port, and addresses as they are."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _forwarded(values: Sequence[str]) -> list[str]:
    """The `for` parameters of `Forwarded` fields (RFC 7239 §4), one for each hop; "" where there is none."""
    hops: list[str] = []
    for element in _split(", ".join(values)):
        found = _FOR.search(element.strip())
        hops.append((found[1] or found[2] or "") if found is not None else "")
    return hops


def _split(text: str) -> list[str]:
    """The elements of a list whose commas do not count inside quotes.

    Taken apart from the right, where the trusted proxies wrote: a quote that a client has left open is to its left.
    """
    elements: list[str] = []
    end, quoted = len(text), False
    for position in range(len(text) - 1, -1, -1):
        if text[position] == '"':
            quoted = not quoted
        elif text[position] == "," and not quoted:
            elements.append(text[position + 1 : end])
            end = position
    elements.append(text[:end])
    return elements[::-1]
