"""Clients that do not read, on real socket pairs: who waits, who is left, and what comes in the end."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from loadtest.bench.chunks import TEXT, unmasked
from loadtest.bench.clients import Clients
from loadtest.bench.publishing import Publishing
from loadtest.bench.stalling import Stalling

READERS, STALLED = 3, 2
MESSAGES, A_PASS, BYTES = 6, 2, 200


class Ends:
    """The server's ends of some connections, and what it does with them: a `Source` that writes to all."""

    def __init__(self, clients: Clients) -> None:
        self.servers: list[socket.socket] = []
        self.skipped: set[int] = set()
        self.closes_at = -1
        self._passes = 0
        for _ in range(READERS + STALLED):
            ours, server = socket.socketpair()
            ours.setblocking(False)
            clients.watch(ours.fileno(), lambda _events: None, select.EPOLLIN | select.EPOLLET)
            clients.adopt(ours, b"", 0)
            self.servers.append(server)

    def publish(self, messages: list[bytes], group: int) -> None:
        assert {len(message) for message in messages} == {BYTES}
        assert group == 0
        for number, server in enumerate(self.servers):
            if number not in self.skipped:
                server.sendall(b"".join(unmasked(TEXT, message) for message in messages))
        if self._passes == self.closes_at:
            for server in self.servers[READERS:]:
                server.close()
            self.skipped = set(range(READERS, READERS + STALLED))
        self._passes += 1

    def fileno(self) -> int:
        return -1

    def read_answers(self) -> None: ...

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


@pytest.fixture
def ends(clients: Clients) -> Iterator[Ends]:
    ends = Ends(clients)
    yield ends
    ends.close()


def stalling(clients: Clients, ends: Ends) -> Stalling:
    sizes = {0: READERS + STALLED, 1: 0}
    return Stalling(clients, Publishing(clients, ends, sizes), sizes, [os.getpid()])


def test_what_waits_for_clients_that_do_not_read_comes_when_they_do(clients: Clients, ends: Ends) -> None:
    found = stalling(clients, ends).measure(STALLED, 50.0, MESSAGES, A_PASS, BYTES)
    assert (found.readers, found.stalled, found.published, found.blocked) == (READERS, STALLED, MESSAGES, False)
    assert (found.received, found.still_open, found.reasons) == (STALLED * MESSAGES, STALLED, {})
    assert found.before_per_s == 50.0
    assert found.rss_peak_kib > 0


def test_clients_that_the_server_closes_are_not_open_afterwards_and_the_reason_is_told(
    clients: Clients, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.stalling.QUIET_S", 0.0)
    ends.closes_at = 1
    found = stalling(clients, ends).measure(STALLED, 50.0, MESSAGES, A_PASS, BYTES)
    assert (found.still_open, found.received) == (0, STALLED * 2 * A_PASS)
    assert sum(found.reasons.values()) == STALLED


def test_messages_that_were_skipped_do_not_come(clients: Clients, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.bench.stalling.QUIET_S", 0.0)
    ends.skipped = {READERS}
    found = stalling(clients, ends).measure(STALLED, 50.0, MESSAGES, A_PASS, BYTES)
    assert (found.still_open, found.received) == (STALLED, MESSAGES)


def test_readers_that_must_wait_for_those_who_do_not_read_are_noticed(
    clients: Clients, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.stalling.BLOCKED_AFTER_S", 0.001)
    monkeypatch.setattr("loadtest.bench.stalling.QUIET_S", 0.0)
    monkeypatch.setattr(clients, "step", lambda _timeout_s, step=clients.step: step(0.0))
    ends.skipped = {0}
    found = stalling(clients, ends).measure(STALLED, 50.0, MESSAGES, A_PASS, BYTES)
    assert (found.blocked, found.published) == (True, A_PASS)


def test_the_oldest_connections_are_kept(clients: Clients, ends: Ends) -> None:
    paused = clients.pause(STALLED)
    assert clients.close(keep=READERS + 1) == 1
    assert (len(clients), clients.still_open(paused)) == (READERS + 1, 1)
    assert ends.servers[-1].recv(1) == b""
