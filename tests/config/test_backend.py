"""The section `[backend]`: what it accepts, what it refuses, what it warns about, what it never shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Config, load_config, read_config, warnings
from gateway.config.show import as_toml, as_variables
from gateway.errors import ConfigError

SECRET = 'auth.hmac_secret = "0123456789012345678901234567890123456789"\n'


def load(tmp_path: Path, text: str, **environ: str) -> Config:
    file = tmp_path / "gateway.toml"
    file.write_text(SECRET + text)
    return load_config(file, environ=environ, flags={})


def problem(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text, **environ)
    (found,) = error.value.problems
    return found.removeprefix(str(tmp_path) + "/")


def test_everything_can_be_set(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [backend]
        handlers = "app.hooks:Hooks"
        rpc_url = "https://app.example.com/rpc"
        headers = ["Cookie", "X-Real-IP"]
        events_stream = "gw:events"
        [backend.static_headers]
        Authorization = "Bearer abc"
        [namespaces.room]
        subscribe_by = "backend"
        publish_by = "backend"
        """,
    )
    assert config.backend.headers == ("cookie", "x-real-ip")
    assert config.backend.static_headers == {"Authorization": "Bearer abc"}
    assert config.backend.urls == {"rpc": "https://app.example.com/rpc"}
    assert warnings(config) == []


def test_static_headers_come_from_the_environment_too(tmp_path: Path) -> None:
    variable = {"GATEWAY_BACKEND__STATIC_HEADERS": '{"Authorization": "Bearer abc"}'}
    assert load(tmp_path, "", **variable).backend.static_headers == {"Authorization": "Bearer abc"}
    variable["GATEWAY_BACKEND__STATIC_HEADERS"] = "Bearer abc"
    assert problem(tmp_path, "", **variable) == (
        'GATEWAY_BACKEND__STATIC_HEADERS: must be a JSON object such as {"name": "value"}'
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('rpc_url = "ftp://host/x"', "must be an https:// or http:// URL"),
        ('rpc_url = "/rpc"', "must be an https:// or http:// URL"),
        ('rpc_url = "https://me:secret@host/"', "must not contain a user name or password: use static_headers"),
        ('headers = ["Sec-WebSocket-Key"]', '"Sec-WebSocket-Key" belongs to one connection and cannot be passed on'),
        ('headers = ["Host"]', '"Host" belongs to one connection and cannot be passed on'),
        ('headers = ["a b"]', '"a b" is no name of a header'),
        ('static_headers = {"X" = "a\\nb"}', 'the value of "X" is not printable ASCII'),
        ("calls_at_once = 0", "must be greater than or equal to 1, is 0"),
        ('events_stream = "gw events"', "must match pattern"),
        ('handlers = "app.hooks"', "String should match pattern"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, line: str, says: str) -> None:
    found = problem(tmp_path, f"[backend]\n{line}\n")
    assert found.startswith("gateway.toml:3: [backend] ")
    assert says.removeprefix("String should ").removeprefix("must ") in found


def test_no_secret_is_in_a_problem(tmp_path: Path) -> None:
    text = '[backend.static_headers]\nAuthorization = "Bearer geh\\u00e9im"\n'
    assert "geh" not in problem(tmp_path, text)


@pytest.mark.parametrize("event", ["subscribe", "publish"])
def test_a_namespace_needs_somebody_to_ask(tmp_path: Path, event: str) -> None:
    namespace = f'[namespaces.room]\n{event}_by = "backend"\n'
    found = problem(tmp_path, namespace)
    assert found == (f'gateway.toml: [namespaces.room] {event}_by = "backend" needs [backend] handlers or {event}_url')
    load(tmp_path, f'{namespace}[backend]\n{event}_url = "http://localhost/x"\n')
    load(tmp_path, f'{namespace}[backend]\nhandlers = "a:B"\n')


def test_a_hook_for_connect_is_enough_to_let_clients_in(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    for line in ('connect_url = "https://app.example.com/connect"', 'handlers = "a:B"'):
        file.write_text(f"[backend]\n{line}\n")
        load_config(file, environ={}, flags={})
    file.write_text('[backend]\nrpc_url = "https://app.example.com/rpc"\n')
    with pytest.raises(ConfigError, match="nobody could connect"):
        load_config(file, environ={}, flags={})


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("https://app.example.com/rpc", False),
        ("http://127.0.0.1:8080/rpc", False),
        ("http://[::1]/rpc", False),
        ("http://10.1.2.3/rpc", False),
        ("http://localhost/rpc", False),
        ("http://backend/rpc", False),
        ("http://backend.default.svc.cluster.local/rpc", False),
        ("http://app.example.com/rpc", True),
        ("http://93.184.216.34/rpc", True),
    ],
)
def test_unencrypted_calls_to_other_networks_are_warned_about(tmp_path: Path, url: str, warned: bool) -> None:
    config = load(tmp_path, f'[backend]\nrpc_url = "{url}"\n')
    assert any("[backend] rpc_url" in warning for warning in warnings(config)) is warned


def test_values_of_static_headers_are_masked_and_what_is_shown_is_toml(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(SECRET + '[backend.static_headers]\nAuthorization = "Bearer abc"\n')
    shown = "\n".join(as_toml(read_config(file, environ={}, flags={})))
    assert 'static_headers = {"Authorization" = "********"}' in shown
    assert "abc" not in shown
    import tomllib

    assert tomllib.loads(shown)["backend"]["static_headers"] == {"Authorization": "********"}
    assert "# GATEWAY_BACKEND__STATIC_HEADERS={}" in list(as_variables())
