"""A master, its replicas and three Sentinels that watch them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import redis

from loadtest.fleet.servers import HOST, Server, server_at, wait_until

SERVICE: Final = "gw-master"
SENTINELS: Final = 3
DOWN_AFTER_MS: Final = 1000
"""Silence of a master after which a Sentinel thinks that it is down. In production several seconds."""
PATIENT_MS: Final = 5000
"""The same for one that was in TILT: it promotes no replica that was without its master for ten times this when it
learns that the master is down, and TILT lasts 30 s."""
CONFIG: Final = f"""\
bind {HOST}
port {{port}}
dir {{folder}}
sentinel monitor {SERVICE} {HOST} {{master}} 2
sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}
sentinel failover-timeout {SERVICE} 3000
sentinel parallel-syncs {SERVICE} 1
"""


class SentinelFleet:
    """`servers[0]` begins as the master."""

    def __init__(self, folder: Path, *, replicas: int = 1) -> None:
        """`folder` exists."""
        self.servers = [
            Server(f"redis-{number + 1}", folder, "--repl-ping-replica-period", "1") for number in range(1 + replicas)
        ]
        text = CONFIG.replace("{master}", str(self.servers[0].port))
        self._sentinels = [Server(f"sentinel-{number + 1}", folder, config=text) for number in range(SENTINELS)]
        hosts = ",".join(f"{HOST}:{each.port}" for each in self._sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}/0"

    def start(self) -> None:
        """Start everything, and wait until all know of all. Raises BenchError."""
        master, *replicas = self.servers
        master.start()
        for replica in replicas:
            replica.start()
            self.follow(replica, master)
        for sentinel in self._sentinels:
            sentinel.start()
        self._wait(lambda: all(self._knows(each) for each in self._sentinels), "the Sentinels know each other")

    def follow(self, replica: Server, master: Server) -> None:
        """Have `replica` copy `master`, and wait until it does."""
        replica.client.replicaof(HOST, str(master.port))
        wait_until(lambda: replica.info("replication").get("master_link_status") == "up", "the replica has everything")

    def master_of(self, channel: str, *, besides: int = 0) -> Server:  # noqa: ARG002 - there is one for all
        """Whom the first Sentinel names, which is never the server at port `besides`."""
        address: Any = self._sentinels[0].client.sentinel_get_master_addr_by_name(SERVICE)
        return server_at(self.servers, int(address[1]))

    def wait_failed_over(self, channel: str, old: Server) -> Server:
        """Wait until the Sentinels name another master than `old`, and that is one."""

        def done() -> bool:
            for sentinel in self._tilted():
                sentinel.client.sentinel_set(SERVICE, "down-after-milliseconds", PATIENT_MS)
            master = self.master_of(channel)
            return master is not old and bool(master.info("replication")["role"] == "master")

        self._wait(done, "the Sentinels have made the replica the master")
        return self.master_of(channel)

    def wait_well(self) -> None:
        """Wait until every server runs, and all but one copy that."""

        def well() -> bool:
            linked = [each.info("replication").get("master_link_status") == "up" for each in self.servers]
            return linked.count(True) == len(linked) - 1 and not self._tilted()

        self._wait(well, "every server but one is a replica")

    def replica_of(self, master: Server) -> Server:
        """The other one."""
        return next(each for each in self.servers if each is not master)

    def close(self) -> None:
        """End everything."""
        for server in (*self._sentinels, *self.servers):
            server.close()

    def _tilted(self) -> list[Server]:
        """Sentinels that do nothing at present."""
        return [each for each in self._sentinels if each.info("sentinel")["sentinel_tilt"]]

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, state=self._state)

    def _state(self) -> str:
        """What everybody says, for an error."""
        told = ("sentinel_tilt", "master0", "role", "connected_slaves", "master_link_status")
        said = []
        for each in (*self._sentinels, *self.servers):
            try:
                found = each.info("sentinel" if each in self._sentinels else "replication")
                said.append(f"{each.name}: " + ", ".join(f"{name} {found[name]}" for name in told if name in found))
            except redis.RedisError as error:
                said.append(f"{each.name}: {error}")
        return "; ".join(said)

    def _knows(self, sentinel: Server) -> bool:
        state: Any = sentinel.client.sentinel_master(SERVICE)
        return (
            state["num-other-sentinels"] == SENTINELS - 1
            and state["num-slaves"] == len(self.servers) - 1
            and not state["is_sdown"]
        )
