"""A whole gateway of real processes: start, restart, drain, and no orphans, whatever happens."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
from pathlib import Path

import psutil

from gateway.metrics import names
from gateway.storage.folder import embedded_folder
from gateway.supervisor.limits import usable_cores
from gateway.supervisor.supervisor import STARTS_PER_CORE
from tests.supervisor.conftest import FakeGateway
from tests.support.processes import is_redis, is_running, those, wait_gone
from tests.support.waiting import wait_until

exists = os.path.exists
SECRET = "a secret of more than thirty-two bytes"


async def test_it_starts_every_worker_and_the_control_process_and_says_where(gateway: FakeGateway) -> None:
    await gateway.serve({"server": {"workers": 3}})
    assert len(gateway.notes("started", "edge-*")) == 3
    assert len(gateway.notes("started", "control")) == 1
    assert gateway.serving["workers"] == 3
    assert gateway.serving["embedded"] is None
    config = gateway.note("started", "edge-2")["config"]
    assert config["server"]["port"] == gateway.serving["public_port"] != 0
    assert config["control"]["port"] == gateway.serving["control_port"] != 0
    assert config["server"]["workers"] == 3


async def test_with_many_workers_only_a_few_start_at_a_time(gateway: FakeGateway) -> None:
    places = STARTS_PER_CORE * usable_cores()
    workers = places + 2
    await gateway.serve({"server": {"workers": workers}})
    events = [
        line["event"] for line in gateway.logged_in_order() if line["event"] in ("worker started", "worker ready")
    ]
    assert events.count("worker ready") == workers + 1
    starting = list(itertools.accumulate(1 if event == "worker started" else -1 for event in events))
    assert max(starting) <= places


async def test_secrets_are_neither_in_arguments_nor_in_the_environment(gateway: FakeGateway) -> None:
    os.environ["GATEWAY_AUTH__HMAC_SECRET"] = SECRET
    try:
        await gateway.serve({"auth": {"hmac_secret": SECRET}})
    finally:
        del os.environ["GATEWAY_AUTH__HMAC_SECRET"]
    started = gateway.note("started", "edge-1")
    assert started["config"]["auth"]["hmac_secret"] == SECRET
    assert SECRET not in json.dumps([started["argv"], started["environment"]])
    assert SECRET not in " ".join(psutil.Process(gateway.pid("edge-1")).cmdline())


async def test_max_connections_is_lowered_to_the_file_limit_with_a_warning(gateway: FakeGateway) -> None:
    await gateway.serve({"limits": {"max_connections": 1_000_000}})
    (line,) = gateway.logged("max connections lowered")
    assert line["used"] == line["file_limit"] - 256
    assert gateway.note("started", "edge-1")["config"]["limits"]["max_connections"] == line["used"]


async def test_a_killed_worker_is_started_again_with_its_counters_and_without_its_gauges(gateway: FakeGateway) -> None:
    await gateway.serve()
    before = gateway.pid("edge-1")
    os.kill(before, signal.SIGKILL)
    await wait_until(lambda: len(gateway.logged("worker ready")) == 4, "the worker is there again")
    assert gateway.pid("edge-1") != before
    counters = gateway.note("counters", "edge-1")
    assert counters[names.CONNECTIONS] == 7
    assert counters[names.OPENED] == 14
    (ended,) = gateway.logged("worker ended")
    assert ended["worker"] == "edge-1"
    assert ended["exit"] == "signal 9 (Killed)"


async def test_a_worker_that_dies_again_and_again_is_restarted_ever_more_slowly(gateway: FakeGateway) -> None:
    await gateway.serve(behaviour="edge-2:flaky", timing={"restart_base_s": 0.02})
    os.kill(gateway.pid("edge-2"), signal.SIGKILL)
    await wait_until(lambda: len(gateway.logged("worker restarts")) >= 4, "several restarts")
    delays = [line["in_s"] for line in gateway.logged("worker restarts")]
    assert delays == sorted(delays)
    assert delays[3] >= 0.08
    assert gateway.logged("worker ended")[1]["reason"] == "the fake worker refuses to start"
    assert is_running(gateway.pid("edge-1"))


async def test_sigterm_drains_edge_workers_then_control_and_exits_with_0(gateway: FakeGateway) -> None:
    await gateway.serve({"server": {"drain_window_s": 0.25}})
    children = gateway.children()
    gateway.process.terminate()
    assert await gateway.exit_code() == 0
    assert not any(map(is_running, children))
    assert gateway.note("stopping", "edge-1")["window_s"] == 0.25
    assert gateway.note("stopping", "edge-2")["at"] < gateway.note("stopping", "control")["at"]
    assert {line["exit"] for line in gateway.logged("worker ended")} == {"status 0"}
    assert not gateway.logged("worker restarts")


async def test_ctrl_c_stops_like_sigterm_and_children_are_not_in_its_process_group(gateway: FakeGateway) -> None:
    await gateway.serve()
    assert all(os.getpgid(child.pid) != os.getpgid(gateway.process.pid) for child in gateway.children())
    os.killpg(gateway.process.pid, signal.SIGINT)
    assert await gateway.exit_code() == 0
    assert len(gateway.notes("stopping")) == 3


async def test_a_worker_that_does_not_end_is_killed_after_its_time(gateway: FakeGateway) -> None:
    await gateway.serve({"limits": {"connect_timeout_s": 2}}, behaviour="edge-1:stubborn")
    gateway.process.terminate()
    assert await gateway.exit_code() == 0
    (killed,) = gateway.logged("worker killed")
    assert killed["worker"] == "edge-1"
    assert not is_running(gateway.pid("edge-1"))


async def test_a_second_signal_stops_at_once(gateway: FakeGateway) -> None:
    await gateway.serve(behaviour="edge-1:stubborn", timing={"drain_margin_s": 60})
    children = gateway.children()
    gateway.process.send_signal(signal.SIGINT)
    await wait_until(lambda: gateway.notes("stopping", "edge-1"), "the first signal has arrived")
    gateway.process.send_signal(signal.SIGINT)
    assert await gateway.exit_code() == 130
    assert not any(map(is_running, children))


async def test_a_supervisor_killed_by_sigkill_leaves_no_orphans(gateway: FakeGateway) -> None:
    await gateway.serve({"redis": {"url": ""}}, behaviour="edge-1:stubborn edge-2:busy")
    children = gateway.children()
    assert len(children) == 5  # two edge workers, control, guard, redis-server
    folder = embedded_folder(gateway.serving["public_port"])
    assert exists(folder)
    gateway.process.kill()
    await wait_gone(children, timeout_s=5)
    assert not exists(folder)


async def test_an_embedded_redis_that_dies_is_started_again_under_the_same_url(gateway: FakeGateway) -> None:
    await gateway.serve({"redis": {"url": ""}})
    assert gateway.serving["embedded"] is not None
    (redis,) = those(gateway.children(), is_redis)
    path = Path(gateway.note("started", "edge-1")["config"]["redis"]["url"].removeprefix("unix://"))
    redis.kill()
    await wait_until(lambda: len(gateway.logged("embedded redis started")) == 2, "Redis is there again")
    assert "signal 9" in gateway.logged("embedded redis ended")[0]["reason"]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        assert client.recv(64) == b"+PONG\r\n"

    gateway.process.terminate()
    assert await gateway.exit_code() == 0
    assert not path.parent.exists()


async def test_a_port_in_use_is_a_clear_error(gateway: FakeGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        gateway.start({"server": {"port": port}})
        assert await gateway.exit_code() == 1
    assert f"port {port} of 127.0.0.1 (server.port) is in use" in gateway.log.read_text()
    assert not gateway.notes("started")


async def test_a_second_gateway_on_the_same_port_is_refused(gateway: FakeGateway, tmp_path: Path) -> None:
    await gateway.serve()
    folder = tmp_path / "second"
    folder.mkdir()
    second = FakeGateway(folder)
    second.start({"server": {"port": gateway.serving["public_port"]}})
    try:
        assert await second.exit_code() == 1
    finally:
        second.kill_all()
    assert "is in use" in second.log.read_text()


async def test_a_worker_that_cannot_start_at_first_ends_the_start_with_its_reason(gateway: FakeGateway) -> None:
    gateway.start({"redis": {"url": ""}}, behaviour="edge-2:refuse")
    assert await gateway.exit_code() == 1
    assert "worker edge-2 could not start (status 1): the fake worker refuses to start" in gateway.log.read_text()
    for note in gateway.notes("started"):
        assert not is_running(int(note.name.rpartition("-")[2]))
    assert not gateway.logged("worker restarts")


async def test_a_worker_that_is_never_ready_ends_the_start(gateway: FakeGateway) -> None:
    gateway.start(behaviour="edge-1:unready", timing={"ready_timeout_s": 10})
    assert await gateway.exit_code() == 1
    assert "worker edge-1 could not start (signal 9 (Killed)): not ready within 10 s" in gateway.log.read_text()


async def test_a_worker_that_closes_its_link_and_goes_on_is_replaced(gateway: FakeGateway) -> None:
    await gateway.serve(behaviour="edge-1:silent")
    before = gateway.pid("edge-1")
    await wait_until(lambda: not is_running(before), "it is killed")
    await wait_until(lambda: gateway.pid("edge-1") != before, "another one is started")


async def test_a_signal_during_the_start_stops_it(gateway: FakeGateway) -> None:
    gateway.start(behaviour="edge-1:unready")
    await wait_until(lambda: len(gateway.notes("started")) == 3, "the workers are there")
    children = gateway.children()
    gateway.process.terminate()
    assert await gateway.exit_code() == 0
    assert not any(map(is_running, children))
    assert not gateway.serving
