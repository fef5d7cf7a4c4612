"""Every installation, built once."""

from __future__ import annotations

import pytest

from tests.docs import generated
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
async def exposition() -> str:
    """All metrics that there are."""
    return await generated.exposition()
