"""Settings of admission: networks, bounds, and what is worth a warning."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import Config, warnings


def config(**sections: Any) -> Config:
    return Config.model_validate({"auth": {"anonymous": True}, **sections})


def test_networks_and_single_addresses_are_trusted() -> None:
    server = config(server={"trusted_proxies": ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]}).server
    assert server.trusted_proxies == ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32")


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example.com", "", "10.0.0.0/33", "*"])
def test_what_is_no_network_is_said(network: str) -> None:
    with pytest.raises(ValidationError, match=r"is no network: write 10\.0\.0\.0/8"):
        config(server={"trusted_proxies": [network]})


@pytest.mark.parametrize(
    "limits",
    [
        {"connections_per_user": 1001},
        {"connections_per_ip": -1},
        {"user_limit_policy": "both"},
        {"handshakes_per_s": -1},
        {"auth_delay_s": 9},
        {"publishes_burst": 0},
    ],
)
def test_limits_have_bounds(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(limits=limits)


def test_nobody_waits_for_a_turn_longer_than_half_of_the_connect_timeout() -> None:
    limits = config(limits={"handshakes_per_s": 10, "handshakes_waiting": 1000, "connect_timeout_s": 10}).limits
    assert limits.handshake_places == 50
    assert config(limits={"handshakes_per_s": 4000, "handshakes_waiting": 7}).limits.handshake_places == 7


def test_a_proxy_protocol_that_anybody_may_speak_is_warned_about() -> None:
    assert any("proxy_protocol" in each for each in warnings(config(server={"proxy_protocol": True})))
    trusted = {"proxy_protocol": True, "trusted_proxies": ["10.0.0.0/8"]}
    assert not any("proxy_protocol" in each for each in warnings(config(server=trusted)))
