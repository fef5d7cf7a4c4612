"""Hooks with everything around them: a real HTTP backend, counters, a log that is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.backend import Hooks
from gateway.clock import FakeClock
from gateway.config import Backend as Settings
from gateway.metrics.table import private_row
from tests.support.backend import BackendServer, backend_server


@pytest.fixture
async def server() -> AsyncIterator[BackendServer]:
    async with backend_server() as server:
        yield server


class World:
    """Makes hooks from settings, and closes them."""

    def __init__(self) -> None:
        self.counters = private_row()
        self.clock = FakeClock()
        self.capture = LogCapture()
        self.log: Any = structlog.wrap_logger(None, processors=[self.capture])
        self._made: list[Hooks] = []

    async def hooks(self, **settings: Any) -> Hooks:
        hooks = Hooks(Settings.model_validate({"timeout_s": 20} | settings), self.counters, self.log, self.clock)
        self._made.append(hooks)
        await hooks.start()
        return hooks

    async def aclose(self) -> None:
        for hooks in self._made:
            await hooks.aclose()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.aclose()
