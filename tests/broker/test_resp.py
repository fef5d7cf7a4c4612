"""The Redis commands that a subscriber sends, read back by hiredis."""

from __future__ import annotations

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker.resp import BATCH, PING, batches, command


def read(stream: bytes) -> list[object]:
    reader = hiredis.Reader()
    reader.feed(stream)
    found: list[object] = []
    while (reply := reader.gets()) is not False:
        found.append(reply)
    return found


@given(st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=5), max_size=5))
def test_commands_of_any_bytes_are_read_as_they_were_written(commands: list[list[bytes]]) -> None:
    assert read(b"".join(command(*parts) for parts in commands)) == commands


def test_ping_is_a_command() -> None:
    assert command(b"PING") == PING


@given(st.integers(0, 3 * BATCH + 1))
def test_batches_hold_everything_once_in_order_and_are_full_but_for_the_last(count: int) -> None:
    channels = [b"%d" % number for number in range(count)]
    made = [list(batch) for batch in batches(channels)]
    assert [channel for batch in made for channel in batch] == channels
    assert all(len(batch) == BATCH for batch in made[:-1])
    assert all(0 < len(batch) <= BATCH for batch in made)
