"""Addresses, and who is behind them as far as limits go."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(host: str) -> Address | None:
    """An IP address; IPv4 also where it is written as IPv6 (`::ffff:192.0.2.1`); None if it is none."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else address


def network_of(host: str) -> str:
    """What counts as one place: an IPv4 address, an IPv6 /64 (a household has one and more); else `host` itself."""
    if ":" not in host:
        return host
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return f"{address.packed[:8].hex(':', 2)}::/64"
    return str(address) if address is not None else host
