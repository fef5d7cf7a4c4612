"""The link between supervisor and worker, both ends in one process."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.processes import Drain, Failed, Ready, SupervisorEnd, WorkerEnd, WorkerSpec, wait_exit

SPEC = WorkerSpec(
    kind="edge",
    slot=1,
    node="here-1a2b3c",
    config={"auth": {"hmac_secret": "do not show"}},
    counters_fd=7,
    counters_rows=2,
)


class Link:
    def __init__(self, supervisor: SupervisorEnd, worker: WorkerEnd) -> None:
        self.supervisor = supervisor
        self.worker = worker


async def connect(spec: WorkerSpec) -> Link:
    ours, theirs = socket.socketpair()
    supervisor = await SupervisorEnd.open(ours)
    supervisor.send(spec)
    return Link(supervisor, await WorkerEnd.open(theirs.detach(), grace_s=3600))


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    link = await connect(SPEC)
    yield link
    await link.worker.aclose()
    await link.supervisor.aclose()


async def test_the_worker_gets_its_spec_unchanged(link: Link) -> None:
    assert link.worker.spec == SPEC
    assert link.worker.spec.name == "edge-2"
    assert "do not show" not in repr(link.worker.spec)


async def test_a_spec_of_a_megabyte_arrives() -> None:
    spec = msgspec.structs.replace(SPEC, config={"namespaces": "x" * 1_000_000})
    link = await connect(spec)
    assert link.worker.spec == spec
    await link.worker.aclose()
    await link.supervisor.aclose()


async def test_the_supervisor_hears_ready_then_the_reason_then_the_end(link: Link) -> None:
    link.worker.ready()
    link.worker.failed("no Redis")
    await link.worker.aclose()
    assert await link.supervisor.receive() == Ready()
    assert await link.supervisor.receive() == Failed("no Redis")
    assert await link.supervisor.receive() is None


async def test_drain_stops_the_worker_with_its_window_and_the_first_request_counts(link: Link) -> None:
    link.supervisor.send(Drain(2.5))
    await link.worker.stop.wait()
    link.worker.request_stop(Drain(9.0))
    assert link.worker.drain.window_s == 2.5
    assert not link.worker.lost.is_set()


async def test_a_lost_supervisor_stops_the_worker_at_once(link: Link) -> None:
    await link.supervisor.aclose()
    await link.worker.lost.wait()
    assert link.worker.stop.is_set()
    assert link.worker.drain.window_s == 0.0


async def test_a_supervisor_that_cannot_be_understood_is_as_good_as_lost(link: Link) -> None:
    link.supervisor._writer.write(b"not json\n")
    await link.worker.lost.wait()
    assert link.worker.stop.is_set()


async def test_a_worker_that_cannot_be_understood_is_an_error(link: Link) -> None:
    link.worker._writer.write(b'{"type":"unknown"}\n')
    with pytest.raises(msgspec.DecodeError):
        await link.supervisor.receive()


async def test_a_worker_without_spec_does_not_start() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with pytest.raises(ConnectionError):
        await WorkerEnd.open(theirs.detach())


async def test_messages_to_a_worker_that_is_gone_are_no_error(link: Link) -> None:
    await link.worker.aclose()
    assert await link.supervisor.receive() is None
    for _ in range(10):
        link.supervisor.send(Drain(0.0))


@pytest.mark.parametrize("pidfd", [True, False])
async def test_any_number_of_tasks_may_wait_for_an_exit(pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pidfd:
        monkeypatch.setattr(os, "pidfd_open", lambda _pid: os.open("/nonexistent", os.O_RDONLY))
    process = start("import sys; sys.stdin.read(); sys.exit(3)")
    waiting = [asyncio.ensure_future(wait_exit(process)) for _ in range(3)]
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.gather(*waiting) == [3, 3, 3]
    assert await wait_exit(process) == 3


def start(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
