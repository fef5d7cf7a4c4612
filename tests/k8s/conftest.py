"""Every installation, built once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.control.relays import RelayCollector
from gateway.relay.counters import Counted, IngestReport, OutboxReport, RelayReports
from gateway.relay.rows import Figures
from tests.control.conftest import Control
from tests.support.kubernetes import EVERYTHING, INSTALLATIONS, Installation, build


@pytest.fixture(scope="session", params=INSTALLATIONS)
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """One after the other: the overlays, and production with every component."""
    return build(request.param, tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return build("production", tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="session")
def development(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return build("development", tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return build(EVERYTHING, tmp_path_factory.mktemp("k8s"))


@pytest.fixture
async def exposition() -> AsyncIterator[str]:
    """What `/metrics` says of a gateway with one worker and both relays."""
    control = Control()
    control.start_worker(0)
    async with control.client() as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    relays = CollectorRegistry(auto_describe=False)
    outbox = OutboxReport(Counted(), figures=Figures(waiting=0, dead=0, oldest_s=0.0))
    relays.register(RelayCollector(RelayReports(outbox, IngestReport(Counted()))))
    yield answer.text + generate_latest(relays).decode()
    os.close(control.table.fd)
