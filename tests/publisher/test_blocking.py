"""`Publisher`: many threads, a fork, an end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from gateway.errors import ConfigError
from gateway.processes import child_environment
from gateway.publisher import History, Message, Publisher, PublisherClosed, PublishFailed, PublishInvalid
from tests.support.redis_server import RedisServer

Logged = Callable[[str], list[Any]]


def test_eight_threads_publish_everything_once_and_each_in_its_order(blocking: Publisher, logged: Logged) -> None:
    def work(thread: int) -> None:
        for number in range(1250):
            blocking.publish("chat:lobby", [thread, number])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    data = logged("chat:lobby")
    assert len(data) == 10_000
    for thread in range(8):
        assert [number for who, number in data if who == thread] == list(range(1250))


def test_it_answers_as_the_asynchronous_one(blocking: Publisher, logged: Logged) -> None:
    first = blocking.publish("chat:lobby", 1, key="k", tags={"a": "b"})
    assert first is not None
    assert first.offset == 1
    assert blocking.publish("chat:lobby", 2, key="k") == first
    assert blocking.publish("news", 1) is None
    positions = blocking.publish_many(Message(channel="chat:lobby", data=number) for number in range(3000))
    assert [position.offset for position in positions if position] == list(range(2, 3002))
    assert logged("chat:lobby") == [1, *range(3000)]
    with pytest.raises(PublishInvalid, match=r"^data: "):
        blocking.publish("chat:lobby", object())


def test_errors_of_redis_reach_the_caller(redis_server: RedisServer) -> None:
    with Publisher(redis_server.url, namespaces={"chat": History(10, 60)}, retry_for_s=0.1) as publisher:
        publisher.publish("chat:lobby", 1)
        redis_server.kill()
        with pytest.raises(PublishFailed):
            publisher.publish("chat:lobby", 2)
        redis_server.start()
        publisher.publish("chat:lobby", 3)


def test_it_starts_with_the_first_call_and_ends_with_close(redis_server: RedisServer) -> None:
    def threads() -> int:
        return sum(thread.name == "gateway-publisher" for thread in threading.enumerate())

    publisher = Publisher(redis_server.url, namespaces={"default": None})
    assert threads() == 0
    publisher.publish("news", 1)
    publisher.publish("news", 2)
    assert threads() == 1
    publisher.close()
    publisher.close()
    assert threads() == 0
    with pytest.raises(PublisherClosed):
        publisher.publish("news", 3)


def test_closing_waits_for_other_threads(redis_server: RedisServer, logged: Logged) -> None:
    publisher = Publisher(redis_server.url, namespaces={"chat": History(10_000, 60)})
    publisher.publish("chat:lobby", 0)
    begun = threading.Event()

    def messages() -> Any:
        for number in range(1, 5000):
            yield Message(channel="chat:lobby", data=number)
        begun.set()

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(lambda: publisher.publish_many(messages()))
        begun.wait(10)
        publisher.close()
        try:
            assert len(work.result()) == 4999
        except PublisherClosed:  # it was closed just before the call began
            assert logged("chat:lobby") == [0]
        else:
            assert logged("chat:lobby") == list(range(5000))


def test_a_wrong_url_is_found_when_it_is_made() -> None:
    with pytest.raises(ConfigError, match=r"^url: "):
        Publisher("localhost:6379")


FORKING = """
import os, sys
from gateway.publisher import History, Publisher

publisher = Publisher(sys.argv[1], namespaces={"chat": History(1000, 60)})
publisher.publish("chat:lobby", "parent before")
for child in range(3):
    if not os.fork():
        for number in range(50):
            publisher.publish("chat:lobby", [child, number])
        sys.exit()
for _ in range(3):
    assert os.wait()[1] == 0
publisher.publish("chat:lobby", "parent after")
"""


def test_it_works_after_a_fork_in_children_and_parent_and_ends_quietly_without_close(
    redis_server: RedisServer, logged: Logged
) -> None:
    done = subprocess.run(
        # Python 3.12 and newer warn of every fork beside a thread; the publisher is made for it.
        [
            sys.executable,
            "-W",
            "default",
            "-W",
            "ignore:This process:DeprecationWarning",
            "-c",
            FORKING,
            redis_server.url,
        ],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    data = logged("chat:lobby")
    assert (data[0], data[-1], len(data)) == ("parent before", "parent after", 152)
    for child in range(3):
        assert [number for who, number in data[1:-1] if who == child] == list(range(50))


def test_an_interrupt_gets_through(redis_server: RedisServer, redis: Redis) -> None:
    script = (
        "import os, signal, sys, threading\n"
        "from gateway.publisher import History, Publisher\n"
        "publisher = Publisher(sys.argv[1], namespaces={'chat': History(10, 60)}, retry_for_s=3600)\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    with publisher:\n"
        "        publisher.publish('chat:lobby', 1)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    redis_server.kill()
    done = subprocess.run(
        [sys.executable, "-c", script, redis_server.url], env=child_environment(), timeout=50, check=False
    )
    assert done.returncode == 7
