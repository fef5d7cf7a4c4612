"""What tests of several rooms need."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.postgresql import PostgresServer, postgres_server
from tests.support.redis_server import RedisServer
from tests.support.redis_server import redis_server as running_redis_server

# A slow or busy machine is no failure: pytest's own time-out finds what hangs.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

if threading.current_thread() is threading.main_thread():
    # What a shell starts in the background ignores SIGINT, and with it every program that it starts itself.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this test's own: it may be killed, frozen and filled."""
    with running_redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests that do not take it away; each makes and drops its own tables."""
    with postgres_server() as server:
        yield server
