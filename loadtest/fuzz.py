"""Feeds every decoder with damaged and invented frames. Only DecodeError may come out; anything else ends the run.

`tests/protocol` does the same with Hypothesis for a moment; this goes on as long as one likes: `make fuzz SECONDS=600`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console

from loadtest.encodings import COMMANDS, PUSH
from protocol.encodings import ENCODINGS, Encoding
from protocol.errors import DecodeError

CHUNK: Final = 2000
LONGEST: Final = 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when nothing but DecodeError came out, 1 with the frame that made something else."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.randrange(2**32)
    console = Console()
    console.print(f"seed {seed}", highlight=False)
    source = random.Random(seed)
    targets = [(each, decode) for each in ENCODINGS for decode in (each.decode_commands, each.decode_replies)]
    seeds = {each.name: [*map(each.encode_command, COMMANDS.values()), each.encode_reply(PUSH)] for each in ENCODINGS}
    until = time.monotonic() + options.seconds
    shown_at = time.monotonic()
    tried = refused = 0
    while time.monotonic() < until:
        for encoding, decode in targets:
            for _ in range(CHUNK):
                frame = mutated(source, encoding, seeds[encoding.name])
                tried += 1
                if (found := refusal(decode, frame)) is True:
                    refused += 1
                elif found is not None:
                    console.print(f"[red]FAIL[/] {encoding.name}: {found!r} for {frame!r}", highlight=False)
                    return 1
        if time.monotonic() > shown_at + 5:
            shown_at = time.monotonic()
            console.print(f"  {tried:,} frames, {refused:,} refused", highlight=False)
    console.print(f"[green]PASS[/] {tried:,} frames, {refused:,} refused, nothing else came out", highlight=False)
    return 0


def refusal(decode: Callable[[bytes], object], frame: bytes) -> bool | Exception | None:
    """True = DecodeError, None = it could be read, else what must not come out."""
    try:
        decode(frame)
    except DecodeError:
        return True
    except Exception as error:  # noqa: BLE001 - handed on: it is the finding
        return error
    return None


def mutated(source: random.Random, encoding: Encoding, seeds: Sequence[bytes]) -> bytes:
    """A frame with some damage: bits, cuts, doubles, pieces of others, or nothing but noise."""
    frame = bytearray(source.choice(seeds) if source.random() < 0.9 else source.randbytes(source.randrange(LONGEST)))
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(frame) + 1)
        match source.randrange(6):
            case 0 if frame:
                frame[at % len(frame)] ^= 1 << source.randrange(8)
            case 1:
                del frame[at : at + source.randrange(8)]
            case 2:
                frame[at:at] = source.randbytes(source.randrange(4))
            case 3:
                frame[at:at] = frame[at : at + source.randrange(30)]
            case 4:
                other = source.choice(seeds)
                frame[at:] = encoding.join([other]) if source.random() < 0.5 else other[source.randrange(len(other)) :]
            case _:
                frame[at : at + 1] = source.choice((b"\x00", b"\xff", b"\x80", b"\x7f", b"{", b'"', b"\n", b"\xc1"))
    return bytes(frame)


if __name__ == "__main__":
    sys.exit(main())
