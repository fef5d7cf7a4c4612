"""Who may become a connection: what is asked between a complete request and its answer, the cheapest first.

    per address    more connections than `limits.connections_per_ip` → 429: it is the client's fault, and a load
                   balancer must not take this worker for broken because of one client
    pace           more handshakes than `limits.handshakes_per_s` → it waits; the queue is full → 503

Both answers say when to come back (`Retry-After`), each time something else, so that those who are refused together do
not come back together. A worker that is full, or short of memory, lets the handshake pass and closes with 1013: SDKs
see that code, and no status. It leaves the listening group, so few get there.

The rule that is easiest to break: a place that was entered is left exactly once. It belongs to the `Opening` until that
hands its socket over, and to the `Connection` from then on.
"""

from __future__ import annotations

import http
from collections.abc import Callable
from typing import Final

from gateway.config import Config
from gateway.edge.addresses import AddressCounts
from gateway.edge.client_address import ClientAddress
from gateway.edge.handshake import Answer
from gateway.edge.pace import HandshakePace, Waiting
from gateway.metrics import names
from gateway.session.network import network_of

ADDRESS_RETRY_S: Final = 10
"""A client whose address has too many connections is told to come back in this time or up to twice of it."""


class Admission:
    """What all handshakes of a worker are asked."""

    __slots__ = ("_counters", "_limit", "_random", "address", "addresses", "pace", "proxy_protocol")

    def __init__(
        self,
        config: Config,
        pace: HandshakePace,
        addresses: AddressCounts | None,
        counters: memoryview[int],
        random: Callable[[], float],
    ) -> None:
        """`addresses`: None = nobody counts them."""
        self.address = ClientAddress(config.server.trusted_proxies, config.server.forwarded_header)
        self.proxy_protocol = config.server.proxy_protocol
        self.pace = pace
        self.addresses = addresses if config.limits.connections_per_ip else None
        self._limit = config.limits.connections_per_ip
        self._counters = counters
        self._random = random

    def enter(self, host: str) -> Answer | None:
        """Take a place for a client with this address, which `leave` gives back; or the refusal."""
        if self.addresses is None or not host:
            return None
        network = network_of(host)
        if self.addresses.enter(network) <= self._limit:
            return None
        self.addresses.leave(network)
        self._counters[names.REFUSED_ADDRESS] += 1
        return Answer(
            http.HTTPStatus.TOO_MANY_REQUESTS,
            f"There are {self._limit} connections from this address already.\n",
            "address",
            self._retry_after(ADDRESS_RETRY_S),
        )

    def leave(self, host: str) -> None:
        """Give the place back."""
        if self.addresses is not None and host:
            self.addresses.leave(network_of(host))

    def queue(self, waiting: Waiting) -> Answer | None:
        """Wait for a turn; or the refusal."""
        if self.pace.queue(waiting):
            return None
        self._counters[names.REFUSED_PACE] += 1
        return Answer(
            http.HTTPStatus.SERVICE_UNAVAILABLE,
            "Too many clients connect at this moment.\n",
            "pace",
            self._retry_after(self.pace.wait_s()),
        )

    def _retry_after(self, seconds: int) -> tuple[tuple[str, str], ...]:
        """Between once and twice so long."""
        return (("Retry-After", str(seconds + round(seconds * self._random()))),)
