"""The examples do what they say: clients of a real gateway get what they publish."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.processes import child_environment
from gateway.publisher.examples.fastapi_app import app
from tests.support.client import Client
from tests.support.gateway import Gateway, serving, to_toml, with_defaults
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def config(server: RedisServer) -> dict[str, dict[str, object]]:
    log = {"history_size": 1000, "history_ttl_s": 60.0}
    return {"redis": {"url": server.url}, "namespaces": {"jobs": log, "orders": log}}


@pytest.fixture(scope="module")
def gateway(config: dict[str, dict[str, object]]) -> Iterator[Gateway]:
    with serving(config) as gateway:
        yield gateway


@pytest.fixture
def file(config: dict[str, dict[str, object]], tmp_path: Path) -> Path:
    """The configuration that the gateway has."""
    path = tmp_path / "gateway.toml"
    path.write_text(to_toml(with_defaults(config)))
    return path


def run_script(file: Path, channel: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "gateway.publisher.examples.script", str(file), channel],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(("channel", "says"), [("jobs:import-7", ", the last as number 104\n"), ("news", "\n")])
async def test_the_script_publishes_to_channels_with_and_without_history(
    gateway: Gateway, file: Path, channel: str, says: str
) -> None:
    client = await Client.open(gateway.url)
    await client.connect(gateway.token("ada"))
    await client.subscribe(channel)
    done = run_script(file, channel)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"published to {channel}{says}", "")
    data = await client.wait_data(channel, 104)
    assert data == [*({"step": n, "of": 3} for n in (1, 2, 3)), *({"row": n} for n in range(100)), {"done": True}]
    assert client.publications(channel)[-1]["tags"] == {"kind": "end"}
    await client.aclose()


def test_the_script_says_what_is_wrong(file: Path) -> None:
    done = run_script(file, "unknown:x")
    assert (done.returncode, done.stderr) == (2, 'channel: no namespace "unknown" is configured\n')


async def test_the_application_publishes_a_payment_once_however_often_it_is_reported(
    gateway: Gateway, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_CONFIG", str(file))
    client = await Client.open(gateway.url)
    await client.connect(gateway.token("ada"))
    await client.subscribe("orders:mine#ada")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http,
    ):
        for payment, offset in (("p1", 1), ("p1", 1), ("p2", 2)):
            request = {"payment_id": payment, "user": "ada", "amount_cents": 1250}
            answer = await http.post("/orders/7/paid", json=request)
            assert (answer.status_code, answer.json()) == (200, {"offset": offset})
    assert await client.wait_data("orders:mine#ada", 2) == [{"order": 7, "paid": 1250}] * 2
    await client.aclose()
