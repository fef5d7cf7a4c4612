"""Messages to everybody while some clients do not read: what a server keeps for them, and what the others notice.

The newest connections are not read from the start on, so that the kernel has had no reason to give them large buffers.
The server's memory is looked at after every pass. In the end they read: what is still there for them comes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.bench.clients import Clients
from loadtest.bench.publishing import WIDE, Overdue, Publishing
from loadtest.bench.usage import rss_kib

BLOCKED_AFTER_S = 5.0
"""So long after a pass, clients that read must have it: else those that do not read keep it from them."""
QUIET_S = 2.0
"""When nothing has come for so long, nothing more will."""
AFTERMATH_S = 20.0


@dataclass(frozen=True, slots=True)
class Stalled:
    """How it went. `readers` read all the time, `stalled` did not while `published` messages went to all.

    `before_per_s` and `per_s` are the messages a second that the readers had before and meanwhile; `blocked` = they
    had to wait for more than `BLOCKED_AFTER_S`, and the flow ended there. `received` messages came to the `stalled`
    clients in the end, `still_open` of their connections were left; `reasons` says what ended the others.
    """

    readers: int
    stalled: int
    published: int
    message_bytes: int
    before_per_s: float
    per_s: float
    blocked: bool
    rss_before_kib: int
    rss_peak_kib: int
    received: int
    still_open: int
    reasons: dict[str, int]


class Stalling:
    """Measures it on one server, whose processes are `pids`. `sizes` are the numbers of connections by group."""

    def __init__(self, clients: Clients, publishing: Publishing, sizes: dict[int, int], pids: Sequence[int]) -> None:
        self._clients = clients
        self._publishing = publishing
        self._sizes = sizes
        self._pids = pids
        self._peak_kib = 0

    def measure(self, stalled: int, before_per_s: float, messages: int, a_pass: int, message_bytes: int) -> Stalled:
        """`messages` while the `stalled` newest connections do not read, `a_pass` at a time. `before_per_s` is handed
        through."""
        rss_before_kib, self._peak_kib = rss_kib(self._pids), 0
        paused = self._clients.pause(stalled)
        self._sizes[WIDE] -= stalled
        already = self._clients.received[WIDE]
        per_s, published, blocked = self.flow(messages, a_pass, message_bytes)
        self._clients.resume(paused)
        self._read_on((stalled + self._sizes[WIDE]) * published + already)
        self._peak_kib = max(self._peak_kib, rss_kib(self._pids))
        reasons = {reason: count for reason, count in self._clients.wrong.items() if not reason.startswith("messages")}
        return Stalled(
            readers=self._sizes[WIDE],
            stalled=stalled,
            published=published,
            message_bytes=message_bytes,
            before_per_s=before_per_s,
            per_s=per_s,
            blocked=blocked,
            rss_before_kib=rss_before_kib,
            rss_peak_kib=self._peak_kib,
            received=max(0, self._clients.received[WIDE] - already - self._sizes[WIDE] * published),
            still_open=self._clients.still_open(paused),
            reasons=reasons,
        )

    def flow(self, messages: int, a_pass: int, message_bytes: int) -> tuple[float, int, bool]:
        """Passes one after another. Returns messages a second, how many were published, and whether it got stuck."""
        begin, published = time.monotonic(), 0
        while published < messages:
            self._publishing.publish(WIDE, a_pass, message_bytes)
            published += a_pass
            try:
                self._publishing.wait_received(WIDE, deadline_s=BLOCKED_AFTER_S)
            except Overdue:
                return published / (time.monotonic() - begin), published, True
            self._peak_kib = max(self._peak_kib, rss_kib(self._pids))
        return published / (time.monotonic() - begin), published, False

    def _read_on(self, everything: int) -> None:
        """Until all has come that was published, or nothing comes any more."""
        received, until = self._clients.received, time.monotonic() + AFTERMATH_S
        seen, quiet_since = -1, time.monotonic()
        while received[WIDE] < everything and time.monotonic() < until:
            self._clients.step(0.1)
            if received[WIDE] != seen:
                seen, quiet_since = received[WIDE], time.monotonic()
            elif time.monotonic() - quiet_since > QUIET_S:
                return
