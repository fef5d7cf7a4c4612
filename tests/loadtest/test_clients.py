"""The generator's connections, on real socket pairs: what is read, counted, answered and found missing."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from loadtest.bench.chunks import PING, PONG, TEXT, masked, unmasked
from loadtest.bench.clients import ANY, READ_BYTES, Clients
from loadtest.bench.messages import message
from loadtest.bench.publishing import Publishing, PublishingError
from loadtest.bench.usage import CpuTime


class Pair:
    """A connection of `Clients` and the server's end of it."""

    def __init__(self, clients: Clients, next_sequence: int = 0) -> None:
        ours, self.server = socket.socketpair()
        ours.setblocking(False)
        clients.watch(ours.fileno(), lambda _events: None, select.EPOLLIN | select.EPOLLET)
        clients.adopt(ours, b"", next_sequence)

    def send(self, *sequences: int, group: int = 0) -> None:
        self.server.sendall(b"".join(unmasked(TEXT, message(1, sequence, group)) for sequence in sequences))


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


@pytest.fixture
def pair(clients: Clients) -> Iterator[Pair]:
    pair = Pair(clients)
    yield pair
    pair.server.close()


def test_messages_are_counted_in_order(clients: Clients, pair: Pair) -> None:
    pair.send(0)
    clients.step(1)
    pair.send(1, 2)
    clients.step(1)
    assert (clients.received, dict(clients.wrong)) == ([3, 0], {})


def test_a_message_cut_in_two_is_counted_once_it_is_whole(clients: Clients, pair: Pair) -> None:
    frame = unmasked(TEXT, message(1, 0, 0))
    pair.server.sendall(frame[:50])
    clients.step(1)
    assert clients.received == [0, 0]
    pair.server.sendall(frame[50:])
    clients.step(1)
    assert (clients.received, dict(clients.wrong)) == ([1, 0], {})


def test_more_than_one_read_at_once_is_read_to_its_end(clients: Clients, pair: Pair) -> None:
    count = 3 * READ_BYTES // 100
    pair.send(*range(count))
    clients.step(1)
    assert (clients.received, dict(clients.wrong)) == ([count, 0], {})


def test_the_same_bytes_on_many_connections_count_for_each(clients: Clients) -> None:
    pairs = [Pair(clients) for _ in range(5)]
    for pair in pairs:
        pair.send(0)
    while clients.received[0] < 5:
        clients.step(1)
    for pair in pairs:
        pair.server.close()
    assert not clients.wrong


def test_a_connection_that_ends_before_anything_came_twice_is_lost(clients: Clients) -> None:
    pair = Pair(clients, ANY)
    pair.server.close()
    clients.step(1)
    assert clients.wrong == {"connection closed without a close frame": 1}
    assert len(clients) == 0


def test_the_same_bytes_again_are_doubled_however_many_others_they_came_to(clients: Clients) -> None:
    clients.record(0)
    pairs = [Pair(clients) for _ in range(5)]
    for pair in pairs:
        pair.send(0)
    while clients.received[0] < 5:
        clients.step(1)
    pairs[2].send(0)
    late = Pair(clients)
    late.send(0)
    while clients.received[0] < 7:
        clients.step(1)
    assert clients.wrong == {"messages received twice or out of order": 1}
    assert len(clients.sorted_latencies_ns()) == 7
    for pair in (*pairs, late):
        pair.server.close()


def test_a_lost_message_is_noticed(clients: Clients, pair: Pair) -> None:
    pair.send(0)
    pair.send(3)
    clients.step(1)
    assert sum(clients.wrong.values()) > 0


def test_the_same_message_twice_is_noticed(clients: Clients, pair: Pair) -> None:
    pair.send(0)
    clients.step(1)
    pair.send(0)
    clients.step(1)
    assert dict(clients.wrong) == {"messages received twice or out of order": 1}


def test_a_ping_is_answered(clients: Clients, pair: Pair) -> None:
    pair.server.sendall(unmasked(PING, b"?") + unmasked(TEXT, b"{}"))
    clients.step(1)
    assert pair.server.recv(100) == masked(PONG, b"?") + masked(TEXT, b"{}")


def test_the_same_ping_again_is_answered_and_another_one_with_its_own_answer(clients: Clients, pair: Pair) -> None:
    for ping, pong in [(b"a", b"a"), (b"a", b"a"), (b"b", b"b"), (b"a", b"a")]:
        pair.server.sendall(unmasked(PING, ping))
        clients.step(1)
        assert pair.server.recv(100) == masked(PONG, pong)
    pair.server.sendall(unmasked(PING, b"a") + unmasked(TEXT, message(1, 0, 0)))
    clients.step(1)
    assert pair.server.recv(100) == masked(PONG, b"a")
    assert (clients.received, dict(clients.wrong)) == ([1, 0], {})


def test_half_a_ping_is_answered_when_it_is_whole(clients: Clients, pair: Pair) -> None:
    ping = unmasked(PING, b"abc")
    for _ in range(2):
        pair.server.sendall(ping[:3])
        clients.step(1)
        pair.server.sendall(ping[3:])
        clients.step(1)
        assert pair.server.recv(100) == masked(PONG, b"abc")
    assert not clients.wrong


def test_a_connection_that_the_server_ends_is_noticed(clients: Clients, pair: Pair) -> None:
    pair.server.close()
    clients.step(1)
    assert dict(clients.wrong) == {"connection closed without a close frame": 1}
    assert len(clients) == 0


def test_latency_is_recorded_for_the_group_that_is_asked_for(clients: Clients, pair: Pair) -> None:
    clients.record(1)
    pair.send(0)
    clients.step(1)
    pair.send(1, group=1)
    clients.step(1)
    assert len(clients.sorted_latencies_ns()) == 1


def test_who_comes_while_messages_are_published_begins_with_any_of_them(clients: Clients, pair: Pair) -> None:
    late = Pair(clients, ANY)
    late.send(41)
    late.send(42)
    clients.step(1)
    clients.step(0)
    assert (clients.received, dict(clients.wrong)) == ([2, 0], {})
    late.send(44)
    clients.step(1)
    assert dict(clients.wrong) == {"messages missing": 1}
    late.server.close()


def test_the_oldest_connections_go_first(clients: Clients) -> None:
    pairs = [Pair(clients) for _ in range(3)]
    assert clients.close_oldest(2) == 2
    pairs[2].send(0)
    clients.step(1)
    assert (len(clients), clients.received[0], dict(clients.wrong)) == (1, 1, {})
    assert clients.close_oldest(5) == 1
    for pair in pairs:
        pair.server.close()


class EchoSource:
    """Delivers what is published to the server's ends of some connections, except the last `missing` ones."""

    def __init__(self, pairs: list[Pair], missing: int = 0) -> None:
        self._pairs = pairs[: len(pairs) - missing]

    def publish(self, messages: list[bytes], group: int) -> None:
        for pair in self._pairs:
            pair.server.sendall(b"".join(unmasked(TEXT, one) for one in messages))

    def fileno(self) -> int:
        return -1

    def read_answers(self) -> None: ...

    def close(self) -> None: ...


def test_a_cost_counts_every_delivery_of_its_passes(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [Pair(clients) for _ in range(3)]
    readings = iter(CpuTime(second, 0.0, second) for second in range(10))
    monkeypatch.setattr("loadtest.bench.publishing.cpu_time", lambda _pids: next(readings))
    publishing = Publishing(clients, EchoSource(pairs), {0: 3, 1: 0})
    cost = publishing.measure_cost(messages=10, min_cpu_s=2.0, max_wall_s=60.0, pids=[])
    assert (cost.deliveries, cost.user_s) == (2 * 10 * 3, 2.0)
    for pair in pairs:
        pair.server.close()


def test_a_delivery_that_never_comes_is_an_error_with_its_number(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.publishing.PASS_DEADLINE_S", 0.0)
    pairs = [Pair(clients) for _ in range(3)]
    publishing = Publishing(clients, EchoSource(pairs, missing=1), {0: 3, 1: 0})
    monkeypatch.setattr(clients, "step", lambda _timeout_s, step=clients.step: step(0.0))
    with pytest.raises(PublishingError, match="1 of 3 deliveries are missing"):
        publishing.measure_cost(messages=1, min_cpu_s=1.0, max_wall_s=1.0, pids=[])
    for pair in pairs:
        pair.server.close()
