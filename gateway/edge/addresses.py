"""How many connections each address has to all workers of this machine, without a lock and without a message.

Theory of operation. SO_REUSEPORT spreads one address over all workers, so no worker alone can hold a limit. Each has a
row of counters in shared memory that it alone writes. An address stands in one cell of each of the four parts of a row,
by a keyed hash. A worker counts its own connections exactly, in a dict; for each of the others it takes the smallest
of the address' four cells. Addresses that share a cell can only make it larger: this count is sometimes too high,
never too low. With 30,000 addresses on a machine about 2 in 100 are counted one too high, with 10,000 about 4 in
10,000 (measured in tests/edge/test_addresses.py); the table takes 1 MiB a worker, once it is used.

The rule that is easiest to break: enter first, count then. Whoever counts first lets one too many in when two workers
do so at the same moment. The row of a worker that has died does not count (its PID is 0), its successor clears it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from gateway.metrics.table import ADDRESS_CELLS

PARTS: Final = 4
"""Cells of an address in each row."""
PART_CELLS: Final = ADDRESS_CELLS // PARTS
"""65,536: two bytes of the hash choose one."""


class AddressCounts:
    """The connections of each network (`gateway.session.network`), as one worker enters and sees them."""

    __slots__ = ("_alive", "_here", "_others", "_own", "_seed")

    def __init__(self, rows: Sequence[memoryview[int]], own: int, alive: Callable[[int], bool], seed: bytes) -> None:
        """`rows` of PARTS × PART_CELLS cells, of which `own` is this worker's; `alive` says whose count."""
        self._own = rows[own]
        self._others = [(index, row) for index, row in enumerate(rows) if index != own]
        self._alive = alive
        self._seed = seed
        self._here: dict[str, int] = {}

    def clear(self) -> None:
        """Forget what a predecessor has left in this worker's row."""
        self._own[:] = memoryview(bytes(ADDRESS_CELLS * 4)).cast("I")

    def enter(self, network: str) -> int:
        """Count one more; how many there are now."""
        here = self._here[network] = self._here.get(network, 0) + 1
        cells = self._cells(network)
        for cell in cells:
            self._own[cell] += 1
        return here + sum(min(row[cell] for cell in cells) for index, row in self._others if self._alive(index))

    def leave(self, network: str) -> None:
        """Count one less. Nothing happens for a network that is not here."""
        here = self._here.pop(network, 0)
        if not here:
            return
        if here > 1:
            self._here[network] = here - 1
        for cell in self._cells(network):
            self._own[cell] -= 1

    def _cells(self, network: str) -> tuple[int, ...]:
        digest = blake2b(network.encode(), digest_size=2 * PARTS, key=self._seed).digest()
        return tuple(
            part * PART_CELLS + int.from_bytes(digest[2 * part : 2 * part + 2], "little") for part in range(PARTS)
        )
