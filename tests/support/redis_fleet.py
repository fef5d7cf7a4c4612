"""Several Redis servers that a test can take away one by one: those of `loadtest.fleet`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loadtest.fleet.cluster import ClusterFleet
from loadtest.fleet.sentinels import SentinelFleet

RedisFleet = SentinelFleet | ClusterFleet
FLEET_TIMEOUT_S: Final = 300
"""For tests with a fleet (`pytest.mark.timeout`): it may have to wait for others, see `loadtest.fleet.servers`."""
KINDS: Final[dict[str, type[RedisFleet]]] = {"sentinel": SentinelFleet, "cluster": ClusterFleet}


@contextlib.contextmanager
def redis_fleet(kind: str) -> Iterator[RedisFleet]:
    """A fleet that runs; gone at the end, in whatever state it is then."""
    with tempfile.TemporaryDirectory(prefix="gw-fleet-") as folder:
        fleet = KINDS[kind](Path(folder))
        try:
            fleet.start()
            yield fleet
        finally:
            fleet.close()


def bring_back(fleet: RedisFleet) -> None:
    """Have every server run, whatever was done to it, and wait until all is well. Raises BenchError."""
    for server in fleet.servers:
        server.bring_back()
    fleet.wait_well()
