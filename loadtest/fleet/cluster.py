"""A Redis Cluster of three masters, each with replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from redis.crc import key_slot

from loadtest.bench.processes import free_port
from loadtest.fleet.servers import HOST, Server, server_at, wait_until

MASTERS: Final = 3
SLOTS: Final = 16_384
OPTIONS: Final = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-ping-replica-period", "1")


class ClusterFleet:
    """`servers[0]` to `servers[2]` begin as masters, the others as their replicas, in turns."""

    def __init__(self, folder: Path, *, replicas: int = 1) -> None:
        """`folder` exists. `replicas`: of each master."""
        self.servers: list[Server] = []
        self._buses = [free_port() for _ in range(MASTERS * (1 + replicas))]
        for number, bus in enumerate(self._buses):
            self.servers.append(Server(f"redis-{number + 1}", folder, *OPTIONS, "--cluster-port", str(bus)))
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{each.port}" for each in self.servers[:MASTERS])

    def start(self) -> None:
        """Start everything, and wait until all know of all. Raises BenchError."""
        for server in self.servers:
            server.start()
        first, *others = self.servers
        first.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 1)
        for number, server in enumerate(others, 2):
            server.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
            server.client.execute_command("CLUSTER", "MEET", HOST, first.port, self._buses[0])
        for number, server in enumerate(self.servers[:MASTERS]):
            low, high = SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1
            server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
        wait_until(
            lambda: all(len(nodes(each)) == len(self.servers) for each in self.servers), "all servers know each other"
        )
        for number, replica in enumerate(self.servers[MASTERS:]):
            master = self.servers[number % MASTERS]
            replica.client.execute_command("CLUSTER", "REPLICATE", self.id_of(master))
        wait_until(lambda: all(self._well(each) for each in self.servers), "the cluster is well")

    def id_of(self, server: Server) -> str:
        """What the cluster calls it."""
        return text(server.client.execute_command("CLUSTER", "MYID"))

    def master_of(self, channel: str, *, besides: int = 0) -> Server:
        """Who has the slot of `channel`, as the first server says that runs and is not at port `besides`.

        Raises LookupError.
        """
        slot = slot_of(channel)
        for server in self.servers:
            if not server.running or server.port == besides:
                continue
            for line in nodes(server):
                words = line.split()
                ranges = (word.partition("-") for word in words[8:] if not word.startswith("["))
                if "master" in words[2] and any(int(low) <= slot <= int(high or low) for low, _, high in ranges):
                    return server_at(self.servers, int(words[1].partition("@")[0].rpartition(":")[2]))
        raise LookupError(f"nobody has the slot of {channel}")

    def replica_of(self, master: Server) -> Server:
        """One that runs and copies it."""
        name = self.id_of(master)
        return next(
            each
            for each in self.servers
            if each.running and any("myself,slave" in line and name in line for line in nodes(each))
        )

    def wait_failed_over(self, channel: str, old: Server) -> Server:
        """Wait until another than `old` has the slot of `channel`, and all that run say that the cluster is well."""

        def done() -> bool:
            master = self.master_of(channel)
            return master is not old and master.info("replication")["role"] == "master" and self.well()

        wait_until(done, f"another has taken the place of {old.name}")
        return self.master_of(channel)

    def wait_well(self) -> None:
        """Wait until everything that runs is well, and every replica is linked to its master."""
        wait_until(self.well, "the cluster is well")

    def well(self) -> bool:
        """Whether everything that runs is well."""
        return all(self._well(each) for each in self.servers if each.running)

    def move_slot(self, channel: str) -> None:
        """Move the slot of `channel`, with all keys in it, to another master, as `redis-cli --cluster reshard` does."""
        slot, source = slot_of(channel), self.master_of(channel)
        masters = (each for each in self.servers if each.running and each.info("replication")["role"] == "master")
        target = next(each for each in masters if each is not source)
        there, here = self.id_of(target), self.id_of(source)
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
        while found := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.client.execute_command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *found)
        for server in (target, source, *self.servers):
            if server.running and server.info("replication")["role"] == "master":
                server.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)

    def close(self) -> None:
        """End everything."""
        for server in self.servers:
            server.close()

    @staticmethod
    def _well(server: Server) -> bool:
        state = text(server.client.execute_command("CLUSTER", "INFO"))
        replication = server.info("replication")
        linked = replication["role"] == "master" or replication["master_link_status"] == "up"
        return linked and "cluster_state:ok" in state and f"cluster_slots_ok:{SLOTS}" in state


def slot_of(channel: str) -> int:
    """The slot of a channel's keys."""
    return key_slot(channel.encode())


def nodes(server: Server) -> list[str]:
    """What a server knows of all, one line for each."""
    return text(server.client.execute_command("CLUSTER", "NODES")).splitlines()


def text(answer: Any) -> str:
    """redis-py gives bytes for some answers and has read others already."""
    return answer.decode() if isinstance(answer, bytes) else str(answer)
