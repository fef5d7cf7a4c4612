"""What keeps a worker alive when there is too much of everything: the memory governor.

`cgroup` and `probe` find out how much memory is used and allowed, `ladder` says how bad that is, `memory` acts on it.
This room knows no connection and no channel: what it does to them goes through `Actions`, which the worker wires.
"""

from gateway.overload.heap import Heap, find_malloc_trim
from gateway.overload.ladder import Ladder, Level
from gateway.overload.memory import Actions, Governor
from gateway.overload.peers import Peers
from gateway.overload.probe import MemoryProbe, Probe, Reading, own_memory

__all__ = [
    "Actions",
    "Governor",
    "Heap",
    "Ladder",
    "Level",
    "MemoryProbe",
    "Peers",
    "Probe",
    "Reading",
    "find_malloc_trim",
    "own_memory",
]
