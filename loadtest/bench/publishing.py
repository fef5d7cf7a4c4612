"""The generator's publishing: passes as fast as they are received, a gentle fixed rate, and both at once.

A pass is m messages handed over in one write; it ends when every connection has every message. Everything runs on the
generator's one thread, so a publish never waits for a lock, and the receive loop runs whenever nothing is published.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.bench.clients import GROUPS, Clients
from loadtest.bench.messages import MESSAGE_BYTES, message
from loadtest.bench.sources import Source
from loadtest.bench.stats import percentile
from loadtest.bench.usage import cpu_time

PASS_DEADLINE_S = 30.0
LONG_PASS, LONG_PASS_DEADLINE_S = 100, 120.0
"""Passes of so many messages may take longer."""
WARM_UP_PASSES = 1
NAP_S = 0.0005
"""Pause between two batches of reads while CPU is measured: the client then reads hundreds of connections at a time,
instead of being woken for each one, and its CPU time says how far it is from its limit."""
WIDE, QUIET = 0, 1
"""Groups: the channel that everybody listens to, and one with few subscribers."""


class PublishingError(Exception):
    """Deliveries did not arrive, or not as they should."""


class Overdue(PublishingError):
    """Deliveries did not arrive in time."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What deliveries cost the server. CPU times in seconds; `client_share` is the generator's CPU time per second."""

    deliveries: int
    user_s: float
    system_s: float
    total_s: float
    wall_s: float
    client_share: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Publish → receive in milliseconds, over `samples` deliveries of `published` messages."""

    published: int
    samples: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    client_share: float
    wide_passes: int = 0


class Publishing:
    """Publishes to one server's groups of connections. `sizes` are the numbers of connections by group."""

    def __init__(self, clients: Clients, source: Source, sizes: dict[int, int]) -> None:
        self._clients = clients
        self._source = source
        self._sizes = sizes
        self._sequences = dict.fromkeys(sizes, 0)
        self._expected = [clients.received[group] for group in range(GROUPS)]

    def next_sequence(self, group: int) -> int:
        """What the next message of `group` will carry."""
        return self._sequences[group]

    def measure_cost(
        self, messages: int, min_cpu_s: float, max_wall_s: float, pids: Sequence[int], warm_up: int = WARM_UP_PASSES
    ) -> Cost:
        """Passes of `messages` one after another, until the processes `pids` have used `min_cpu_s` of CPU time."""
        for _ in range(warm_up):
            self._pass(messages)
        received, before = self._clients.received[WIDE], cpu_time(pids)
        own, begin = time.process_time(), time.monotonic()
        while True:
            self._pass(messages)
            used, wall_s = cpu_time(pids).since(before), time.monotonic() - begin
            if used.total_s >= min_cpu_s or wall_s >= max_wall_s:
                break
        share = (time.process_time() - own) / wall_s
        return Cost(self._clients.received[WIDE] - received, used.user_s, used.system_s, used.total_s, wall_s, share)

    def measure_latency(self, messages: int, times: int, per_s: float) -> Latency:
        """`messages` at once to everybody, `times` times, at `per_s` per second whether or not the last ones have
        arrived; with `per_s` 0, each time after the last ones have arrived."""
        self._clients.record(WIDE)
        own, begin = time.process_time(), time.monotonic()
        for index in range(times):
            if per_s:
                self._step_until(begin + index / per_s)
            else:
                self.wait_received(WIDE)
            self.publish(WIDE, messages)
        self.wait_received(WIDE)
        share = (time.process_time() - own) / (time.monotonic() - begin)
        return self._latency(times * messages, share)

    def measure_interference(self, quiet_interval_s: float, duration_s: float) -> Latency:
        """Latency on the quiet channel, one message every `quiet_interval_s`, while the wide one is kept busy:
        its next message is published as soon as everybody has the last one."""
        self._clients.record(QUIET)
        own, begin = time.process_time(), time.monotonic()
        published = wide_passes = 0
        while (now := time.monotonic()) < begin + duration_s:
            if self.missing(WIDE) <= 0:
                self.publish(WIDE, 1)
                wide_passes += 1
            quiet_due = begin + published * quiet_interval_s
            if now >= quiet_due:
                self.publish(QUIET, 1)
                published += 1
            self._step(min(max(0.0, quiet_due - now), 0.05))
        share = (time.process_time() - own) / (time.monotonic() - begin)
        self.wait_received(WIDE)
        self.wait_received(QUIET)
        return self._latency(published, share, wide_passes)

    def _pass(self, messages: int) -> None:
        self.publish(WIDE, messages)
        self.wait_received(WIDE, NAP_S, LONG_PASS_DEADLINE_S if messages >= LONG_PASS else 0.0)

    def publish(self, group: int, count: int, size: int = MESSAGE_BYTES) -> None:
        """`count` messages of `size` bytes at once, to everybody in `group`."""
        sequence = self._sequences[group]
        now_ns = time.monotonic_ns()
        self._source.publish([message(now_ns, sequence + index, group, size) for index in range(count)], group)
        self._sequences[group] = sequence + count
        self._expected[group] += count * self._sizes[group]

    def missing(self, group: int) -> int:
        """Deliveries in `group` that are still to come."""
        return self._expected[group] - self._clients.received[group]

    def wait_received(self, group: int, nap_s: float = 0.0, deadline_s: float = 0.0) -> None:
        """Until everybody in `group` has everything. Raises `PublishingError` after `deadline_s` (0 = as usual)."""
        deadline_s = deadline_s or PASS_DEADLINE_S
        deadline = time.monotonic() + deadline_s
        while self.missing(group) > 0:
            self._step(1.0)
            time.sleep(nap_s)
            if time.monotonic() > deadline:
                missing = f"{self.missing(group):,} of {self._expected[group]:,} deliveries"
                raise Overdue(f"{missing} are missing after {deadline_s:.0f} s")

    def _step_until(self, when: float) -> None:
        while (left_s := when - time.monotonic()) > 0:
            self._step(left_s)

    def _step(self, timeout_s: float) -> None:
        self._clients.step(timeout_s)
        if self._clients.wrong:
            raise PublishingError(what_went_wrong(self._clients))

    def _latency(self, published: int, client_share: float, wide_passes: int = 0) -> Latency:
        samples = self._clients.sorted_latencies_ns()
        self._clients.record(-1)
        p50, p99, p999 = (percentile(samples, percent) / 1e6 for percent in (50, 99, 99.9))
        return Latency(published, len(samples), p50, p99, p999, samples[-1] / 1e6, client_share, wide_passes)


def what_went_wrong(clients: Clients) -> str:
    """One line about everything that was not a delivery in order."""
    return "; ".join(f"{reason} ({count}×)" for reason, count in clients.wrong.most_common(3))
