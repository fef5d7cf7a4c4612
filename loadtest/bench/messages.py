"""The messages that the benchmark publishes: JSON, most of them of 100 bytes, that says when, which one and for whom.

A message carries its own evidence: `"nxb":"<nanoseconds>.<sequence>.<group>"`. The time is `time.monotonic_ns()`
just before it was published; sequence numbers count from 0 within a group, so that a receiver sees what is
missing, doubled or out of order. A group is the set of connections that listen to one channel.
"""

from __future__ import annotations

import re

MESSAGE_BYTES = 100
"""Bytes of one message as it is published, before any server wraps it."""

_EVIDENCE = re.compile(rb'"nxb":"(\d+)\.(\d+)\.(\d+)"')


def message(time_ns: int, sequence: int, group: int, size: int = MESSAGE_BYTES) -> bytes:
    """One message of exactly `size` bytes, at least 80. ASCII without line breaks, valid JSON."""
    head = b'{"nxb":"%d.%d.%d","pad":"' % (time_ns, sequence, group)
    return head + b"x" * (size - len(head) - 2) + b'"}'


def evidence(payload: bytes) -> list[tuple[int, int, int]]:
    """(time in ns, sequence, group) of every message in `payload`, however the server has wrapped or joined them."""
    return [(int(time_ns), int(sequence), int(group)) for time_ns, sequence, group in _EVIDENCE.findall(payload)]
