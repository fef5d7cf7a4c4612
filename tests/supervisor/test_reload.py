"""SIGHUP: one worker after the other, and what stops that."""

from __future__ import annotations

import os
import signal

import pytest

from gateway.config import Config
from gateway.metrics import names
from gateway.supervisor.reload import unchangeable
from tests.supervisor.conftest import FakeGateway
from tests.support.processes import is_running
from tests.support.waiting import wait_until

NAMES = ("edge-1", "edge-2", "control")


def keepalive(ping_interval_s: float) -> dict[str, dict[str, float]]:
    return {"keepalive": {"ping_interval_s": ping_interval_s}}


def pings(gateway: FakeGateway) -> list[float]:
    """What the newest worker of each name was told."""
    return [gateway.note("started", name)["config"]["keepalive"]["ping_interval_s"] for name in NAMES]


async def test_every_worker_is_replaced_one_by_one_by_one_with_the_new_configuration(gateway: FakeGateway) -> None:
    await gateway.serve()
    old = [gateway.pid(name) for name in NAMES]
    gateway.reload(keepalive(12) | {"server": {"drain_window_s": 0.25}})
    await wait_until(lambda: gateway.logged("reload done"), "it is done")
    assert pings(gateway) == [12, 12, 12]
    assert not any(map(is_running, old))
    assert [line["worker"] for line in gateway.logged("worker replaced")] == list(NAMES)
    stopping = [gateway.note("stopping", name) for name in NAMES]
    assert [note["window_s"] for note in stopping] == [0.25, 0.25, 0]
    assert all(note["succeeded"] for note in stopping)
    # The first is gone before the second one's successor is started: never more than one process too many.
    events = [(line["event"], line.get("pid")) for line in map(dict, gateway.logged_in_order())]
    replaced = [index for index, (event, _) in enumerate(events) if event == "worker replaced"]
    started = [index for index, (event, _) in enumerate(events) if event == "worker started"][3:]
    assert started[0] < replaced[0] < started[1] < replaced[1] < started[2] < replaced[2]
    assert not gateway.logged("worker restarts")


async def test_only_who_handed_its_sockets_over_leaves_their_queues_to_its_successor(gateway: FakeGateway) -> None:
    await gateway.serve(behaviour="edge-1:listens")
    gateway.reload({})
    await wait_until(lambda: gateway.logged("reload done"), "it is done")
    assert [gateway.note("stopping", name)["handed_over"] for name in NAMES] == [True, False, False]


async def test_a_successor_counts_in_a_row_of_its_own(gateway: FakeGateway) -> None:
    await gateway.serve()
    for times in (1, 2):
        gateway.reload({})
        await wait_until(lambda times=times: len(gateway.logged("reload done")) == times, "it is done")
    first, second, third = (gateway.read(note) for note in gateway.notes("counters", "edge-1"))
    assert first[names.OPENED] == 7
    assert second[names.OPENED] == 7
    assert third[names.OPENED] == 14, "the row of the first, which has counted and is gone"
    assert third[names.CONNECTIONS] == 7


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("edge-2:flaky", "the fake worker refuses to start"), ("edge-2:stalls", "not ready within 10 s")],
)
async def test_a_successor_that_does_not_get_to_serve_stops_the_roll(
    gateway: FakeGateway, behaviour: str, reason: str
) -> None:
    await gateway.serve(behaviour=behaviour, timing={"ready_timeout_s": 10})
    old = [gateway.pid(name) for name in NAMES]
    gateway.reload(keepalive(12))
    (line,) = await wait_until(lambda: gateway.logged("reload stopped"), "it is stopped")
    assert (line["level"], line["worker"], line["reason"]) == ("error", "edge-2", reason)
    assert line["rolled"] == ["edge-1"]
    assert line["unchanged"] == ["edge-2", "control"]
    assert [is_running(pid) for pid in old] == [False, True, True]
    assert len(gateway.children()) == 3
    assert not gateway.logged("reload done")


async def test_a_second_sighup_during_a_roll_is_remembered(gateway: FakeGateway) -> None:
    await gateway.serve({"limits": {"connect_timeout_s": 2}}, behaviour="edge-2:stubborn")
    gateway.reload(keepalive(12))
    await wait_until(lambda: gateway.notes("stopping", "edge-2"), "the roll is at the second worker, which hesitates")
    gateway.reload(keepalive(13))
    gateway.reload(keepalive(14))
    await wait_until(lambda: len(gateway.logged("reload done")) == 2, "both are done", timeout_s=60)
    assert pings(gateway) == [14, 14, 14]


async def test_sigterm_during_a_roll_ends_everything(gateway: FakeGateway) -> None:
    await gateway.serve(behaviour="edge-1:stalls")
    gateway.reload({})
    await wait_until(lambda: len(gateway.notes("started", "edge-1")) == 2, "the successor is on its way")
    children = gateway.children()
    assert len(children) == 4
    gateway.process.terminate()
    assert await gateway.exit_code() == 0
    assert not any(map(is_running, children))
    assert "Traceback" not in gateway.log.read_text()


async def test_a_worker_that_is_replaced_while_it_cannot_answer_is_killed_in_the_end(gateway: FakeGateway) -> None:
    await gateway.serve({"limits": {"connect_timeout_s": 0.1}}, behaviour="edge-1:busy", timing={"hand_over_s": 0.1})
    old = gateway.pid("edge-1")
    gateway.reload(keepalive(12) | {"server": {"workers": 1}})
    await wait_until(lambda: gateway.logged("worker killed"), "it is killed")
    assert gateway.logged("worker keeps its listening sockets")
    await wait_until(lambda: not is_running(old), "it is gone")


async def test_a_rolled_worker_is_restarted_with_the_new_configuration(gateway: FakeGateway) -> None:
    await gateway.serve()
    gateway.reload(keepalive(12))
    await wait_until(lambda: gateway.logged("reload done"), "it is done")
    before = gateway.pid("edge-1")
    os.kill(before, signal.SIGKILL)
    await wait_until(lambda: gateway.pid("edge-1") != before, "it is started again")
    assert pings(gateway) == [12, 12, 12]


def test_what_needs_a_restart() -> None:
    old = Config.model_validate({"server": {"port": 8000}, "redis": {"url": "redis://a:1"}})
    same = Config.model_validate({"server": {"port": 8000, "workers": 4}, "redis": {"url": "redis://:new@a:1"}})
    assert unchangeable(old, same, 4) == []
    assert unchangeable(old, same, 3) == [
        "[server] workers needs a restart: there is room for 3, the new configuration says 4"
    ]
    other = Config.model_validate({"server": {"host": "127.0.0.1"}, "control": {"port": 9001}})
    assert [problem.split(" needs")[0] for problem in unchangeable(old, other, 4)] == [
        "[server] host",
        "[control] port",
        "[redis] url",
    ]
