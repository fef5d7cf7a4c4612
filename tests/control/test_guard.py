"""Foreign pages: DNS rebinding, requests across sites, headers for browsers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.config import Config
from gateway.control.guard import HostRules
from tests.control.conftest import Control


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:9000", "LOCALHOST", "app.localhost:9000", "[::1]:9000"])
async def test_loopback_names_and_addresses_are_ours(control: Control, host: str) -> None:
    async with control.client() as client:
        assert (await client.get("/health/live", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:9000", "127.0.0.1.evil.example", "localhost.evil.example"])
async def test_on_loopback_any_other_name_is_refused_everywhere(control: Control, host: str) -> None:
    async with control.client() as client:
        for path in ("/health/live", "/metrics", "/openapi.json"):
            answer = await client.get(path, headers={"Host": host})
            assert answer.status_code == 421
            assert "does not answer to the name" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["", "a b", 'x"; script-src *', "host:port", "user@host", "a/b"])
async def test_header_that_is_no_host_is_refused(control: Control, host: str) -> None:
    async with control.client() as client:
        assert (await client.get("/health/live", headers={"Host": host})).status_code == 400


async def test_exposed_port_answers_to_any_name_but_gives_it_no_tokens(make_control: Callable[..., Control]) -> None:
    control = make_control(control={"host": "0.0.0.0", "demo": True})
    async with control.client("gateway.internal:9000") as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.post("/demo/token", json={"user": "ada"})).status_code == 421
    async with control.client("192.168.1.20:9000") as client:
        assert (await client.post("/demo/token", json={"user": "ada"})).status_code == 200
    assert len(control.signed) == 1


def test_names_from_the_configuration_are_trusted() -> None:
    config = Config.model_validate(
        {"server": {"allowed_origins": ["https://App.example.com:8443", "*"]}, "control": {"host": "gw.example.com"}}
    )
    rules = HostRules.of(config)
    assert rules.trusts("app.example.com:9000")
    assert rules.trusts("gw.example.com.:9000")
    assert not rules.trusts("example.com")
    assert not rules.trusts("*")
    assert rules.any_name


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_takes_no_other_names(host: str) -> None:
    assert not HostRules.of(Config.model_validate({"control": {"host": host}})).any_name


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/nothing", "/openapi.json", "/api/publish"])
async def test_every_answer_has_the_headers_that_make_browsers_careful(control: Control, path: str) -> None:
    async with control.client() as client:
        headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
