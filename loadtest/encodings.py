"""How long messages take to be read and written in each encoding, and how large they are. Six seconds.

Decoding is what each command of a client costs; encoding a push is paid once per publication and encoding in use on a
worker, not per client. Ratios within one run are what to compare.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgspec import Raw
from rich.console import Console
from rich.table import Table

from protocol.commands import Command, ConnectRequest, PublishRequest, RpcRequest, SubscribeRequest
from protocol.encodings import ENCODINGS
from protocol.replies import ClientInfo, Publication, Push, Reply

DATA: Final = Raw(b'{"id":123456,"text":"a hundred bytes or so of a chat message, as people write them","n":[1,2.5]}')
COMMANDS: Final = {
    "connect": Command(id=1, connect=ConnectRequest(token="x" * 250, name="js", version="5.4.0")),
    "subscribe": Command(id=2, subscribe=SubscribeRequest(channel="news", recover=True, epoch="abcd", offset=12345)),
    "publish": Command(id=3, publish=PublishRequest(channel="chat:lobby", data=DATA)),
    "rpc": Command(id=4, rpc=RpcRequest(method="vote", data=Raw(b'{"for":3}'))),
}
PUSH: Final = Reply(
    push=Push(
        channel="chat:lobby", pub=Publication(data=DATA, info=ClientInfo(user="42", client="c" * 36), offset=12345)
    )
)
TARGET_US: Final = 5.0
"""For the decoding of a small command."""
WRITE: Final = "write a publication"
CALLS: Final = 200
"""In a round, of each; about a millisecond."""
ROUNDS: Final = 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 with `--strict` when reading a command takes longer than the target."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.encodings", description=__doc__)
    parser.add_argument("--strict", action="store_true", help="fail when a target is missed")
    strict = parser.parse_args(arguments).strict
    frames = {name: [encoding.encode_command(command) for encoding in ENCODINGS] for name, command in COMMANDS.items()}
    calls: dict[str, list[Callable[[], object]]] = {
        f"read {name}": [
            partial(encoding.decode_commands, frame) for encoding, frame in zip(ENCODINGS, each, strict=True)
        ]
        for name, each in frames.items()
    }
    slowest = 0.0
    calls[WRITE] = [partial(encoding.encode_reply, PUSH) for encoding in ENCODINGS]
    sizes = {f"read {name}": [len(frame) for frame in each] for name, each in frames.items()}
    sizes[WRITE] = [len(encoding.encode_reply(PUSH)) for encoding in ENCODINGS]
    table = Table("message", *(f"{each.name} µs" for each in ENCODINGS), *(f"{each.name} bytes" for each in ENCODINGS))
    for name, times in _microseconds(calls).items():
        slowest = slowest if name == WRITE else max(slowest, *times)
        table.add_row(name, *(f"{each:.2f}" for each in times), *map(str, sizes[name]))
    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    verdict = "within" if slowest <= TARGET_US else "above"
    console.print(
        f"The slowest read takes {slowest:.2f} µs, {verdict} the target of {TARGET_US:g} µs.", highlight=False
    )
    return int(strict and slowest > TARGET_US)


def _microseconds(calls: dict[str, list[Callable[[], object]]]) -> dict[str, list[float]]:
    """CPU time, the best of many short rounds in turns: a core that a neighbour slows down is not so all the time."""
    best = {name: [math.inf] * len(each) for name, each in calls.items()}
    for _ in range(ROUNDS):
        for name, each in calls.items():
            for place, call in enumerate(each):
                took_s = timeit.timeit(call, timer=time.thread_time, number=CALLS)
                best[name][place] = min(best[name][place], took_s / CALLS * 1e6)
    return best


if __name__ == "__main__":
    sys.exit(main())
