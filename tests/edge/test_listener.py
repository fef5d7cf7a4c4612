"""The listening socket: a worker that is full leaves the group, and comes back when there is room."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.edge import Listener
from gateway.metrics import names, private_row
from loadtest.bench.processes import free_port
from tests.support.waiting import wait_until


class World:
    def __init__(self) -> None:
        self.counters = private_row()
        self.accepted: list[asyncio.Protocol] = []
        self.port = free_port()
        self.listener = self.make()

    def make(self) -> Listener:
        return Listener("127.0.0.1", self.port, self._accept, self.counters, max_connections=100)

    def _accept(self) -> asyncio.Protocol:
        self.accepted.append(asyncio.Protocol())
        return self.accepted[-1]

    def have(self, connections: int) -> None:
        self.counters[names.CONNECTIONS] = connections
        self.listener.connections_changed()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.listener.open()
    yield world
    await world.listener.aclose()


async def test_connections_are_accepted(world: World) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", world.port)
    await wait_until(lambda: world.accepted, "a connection is accepted")
    writer.close()
    await writer.wait_closed()
    assert world.counters[names.LISTENING] == 1


async def test_a_full_worker_leaves_the_group_and_comes_back_when_there_is_room(world: World) -> None:
    world.have(100)
    await wait_until(lambda: not world.listener.listening, "the listener is closed")
    assert world.counters[names.LISTENING] == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", world.port)
    world.have(99)
    world.have(98)
    await asyncio.sleep(0)
    assert not world.listener.listening  # not for one free place: it would come and go all the time
    world.have(97)
    world.have(96)
    await wait_until(lambda: world.listener.listening, "the listener is open again")
    assert world.counters[names.LISTENING] == 1


async def test_what_is_queued_when_a_worker_becomes_full_is_not_reset(world: World) -> None:
    queued = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(20)]  # the loop does not run meanwhile
    assert not world.accepted
    world.have(100)
    await wait_until(lambda: len(world.accepted) == len(queued), "all of them are accepted")
    for each in queued:
        each.close()


async def test_a_worker_that_drains_does_not_come_back(world: World) -> None:
    await world.listener.aclose()
    world.have(0)
    await asyncio.sleep(0)
    assert not world.listener.listening
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", world.port)


@pytest.mark.parametrize("handed_over", [False, True])
async def test_what_is_queued_when_a_worker_leaves_is_taken_by_it_or_by_who_has_its_sockets(
    world: World, *, handed_over: bool
) -> None:
    copies = [os.dup(each.fileno()) for each in world.listener.sockets]
    queued = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(20)]  # the loop does not run meanwhile
    await world.listener.aclose(handed_over=handed_over)
    if handed_over:
        assert not world.accepted
        successor = world.make()
        await successor.open(copies)
        await wait_until(lambda: len(world.accepted) == len(queued), "all of them are accepted")
        await successor.aclose()
    else:
        for copy in copies:
            os.close(copy)
        await wait_until(lambda: len(world.accepted) == len(queued), "all of them are accepted")
    for each in queued:
        each.close()


async def test_several_workers_share_the_port(world: World) -> None:
    other = world.make()
    await other.open()
    await other.aclose()
    assert world.listener.listening
