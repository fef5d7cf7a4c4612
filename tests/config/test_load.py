"""Layers, places, suggestions: what a configuration becomes, and what a person is told when it is wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Config, load_config, read_config
from gateway.config.sources import Places
from gateway.errors import ConfigError

SECRET = "a secret that is long enough for HS256"
AUTH = {"GATEWAY_AUTH__HMAC_SECRET": SECRET}
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return path

    return write


def load(path: Path | None = None, environ: dict[str, str] | None = None, **flags: object) -> Config:
    return load_config(path, environ=AUTH | (environ or {}), flags=flags)


def problems(path: Path | None = None, environ: dict[str, str] | None = None, **flags: object) -> list[str]:
    """Every problem, with the folder of the file left out."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=AUTH if environ is None else environ, flags=flags)
    return [problem.replace(f"{path.parent}/" if path else "\0", "") for problem in caught.value.problems]


# Layers


def test_without_anything_the_defaults_are_in_effect() -> None:
    assert load() == Config.model_validate({"auth": {"hmac_secret": SECRET}})


def test_environment_is_over_the_file_and_flags_are_over_both(write: Write) -> None:
    path = write("[server]\nport = 1\nworkers = 1\nhost = '::'\n[limits]\nmessage_bytes = 2048\n")
    environ = {"GATEWAY_SERVER__PORT": "2", "GATEWAY_SERVER__WORKERS": "2"}
    config = load(path, environ, port=3, host=None)
    assert (config.server.port, config.server.workers, config.server.host) == (3, 2, "::")
    assert config.limits.message_bytes == 2048


def test_presets_are_under_everything(write: Write) -> None:
    presets = {"server": {"port": 1, "workers": 1}, "namespaces": {"chat": {"publish_by": "anyone"}}}
    path = write("[server]\nport = 2\n[namespaces.chat]\nsubscribe_by = 'anyone'\n")
    config = load_config(path, environ=AUTH, flags={}, presets=presets)
    assert (config.server.port, config.server.workers) == (2, 1)
    assert (config.namespaces["chat"].publish_by, config.namespaces["chat"].subscribe_by) == ("anyone", "anyone")


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("GATEWAY_SERVER__PORT", "8123", 8123),
        ("gateway_server__port", " 8123 ", 8123),
        (
            "GATEWAY_SERVER__ALLOWED_ORIGINS",
            "https://a.example, https://b.example,",
            ("https://a.example", "https://b.example"),
        ),
        ("GATEWAY_SERVER__ALLOWED_ORIGINS", '["https://a.example"]', ("https://a.example",)),
        ("GATEWAY_SERVER__ALLOWED_ORIGINS", "", ()),
        ("GATEWAY_SERVER__DRAIN_WINDOW_S", "2.5", 2.5),
        ("GATEWAY_SERVER__DRAIN_WINDOW_S", "2", 2.0),
        ("GATEWAY_AUTH__INSECURE", "True", True),
        ("GATEWAY_AUTH__INSECURE", "off", False),
        ("GATEWAY_LOG__LEVEL", "debug", "debug"),
        ("GATEWAY_REDIS__URL", "", ""),
    ],
)
def test_text_of_a_variable_becomes_the_type_of_its_setting(variable: str, text: str, value: object) -> None:
    _, section, key = variable.lower().replace("gateway_", "gateway__", 1).split("__")
    assert getattr(getattr(load(environ={variable: text}), section), key) == value


def test_namespaces_are_set_from_the_environment() -> None:
    config = load(environ={"GATEWAY_NAMESPACES__CHAT__PUBLISH_BY": "subscriber"})
    assert config.namespaces["chat"].publish_by == "subscriber"
    assert config.namespaces["default"].publish_by == "nobody"


def test_a_variable_reaches_a_namespace_whose_name_no_variable_can_have(write: Write) -> None:
    path = write("[namespaces.Team-Chat]\n[namespaces.a__b]\n")
    config = load(
        path,
        {"GATEWAY_NAMESPACES__TEAM_CHAT__PUBLISH_BY": "anyone", "GATEWAY_NAMESPACES__A__B__PUBLISH_BY": "subscriber"},
    )
    assert config.namespaces["Team-Chat"].publish_by == "anyone"
    assert config.namespaces["a__b"].publish_by == "subscriber"
    assert sorted(config.namespaces) == ["Team-Chat", "a__b", "default"]


def test_an_empty_namespace_is_a_namespace(write: Write) -> None:
    assert "news" in load(write("[namespaces.news]\n")).namespaces


def test_variables_of_others_are_left_alone() -> None:
    """Kubernetes sets the first three for a service that is called `gateway`."""
    others = {"GATEWAY_PORT": "tcp://10.0.0.1:8000", "GATEWAY_SERVICE_HOST": "x", "GATEWAY_PORT_8000_TCP_PORT": "1"}
    assert load(environ={**others, "GATEWAYS__X__Y": "1", "MY_GATEWAY_SERVER__PORT": "1"}) == load()
    assert (
        load(environ={"GATEWAY_IMAGE__TAG": "1", "GATEWAY_X__Y": "1", "GATEWAY___": "1", "GATEWAY_HOME": "/"}) == load()
    )


def test_what_kubernetes_sets_for_a_service_is_no_slip() -> None:
    """A service called `gateway-control` makes a variable that has one underscore less than a setting of ours."""
    link = {"GATEWAY_CONTROL_PORT": "tcp://10.0.0.1:9000", "GATEWAY_SERVER_PORT": "tcp://10.0.0.1:8000"}
    assert load(environ=link) == load()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("GATEWAY_AUTH_HMAC_SECRET", "GATEWAY_AUTH__HMAC_SECRET"),
        ("GATEWAY_AUTH_HMAC_SECRET_FILE", "GATEWAY_AUTH__HMAC_SECRET_FILE"),
        ("GATEWAY_SERVER_PORT", "GATEWAY_SERVER__PORT"),
        ("gateway_redis_url", "GATEWAY_REDIS__URL"),
        ("GATEWAY___SERVER_PORT", "GATEWAY_SERVER__PORT"),
        ("GATEWAY_LIMITS_CHANNELS__PER_CLIENT", "GATEWAY_LIMITS__CHANNELS_PER_CLIENT"),
        ("GATEWAY_NAMESPACES_CHAT_PUBLISH_BY", "GATEWAY_NAMESPACES__CHAT__PUBLISH_BY"),
    ],
)
def test_too_few_underscores_are_answered_with_the_right_name(variable: str, meant: str) -> None:
    (problem,) = problems(environ=AUTH | {variable: "1"})
    assert problem == f'{variable}: sections and keys are joined by two underscores: "{meant}"'


# Problems and their places


def test_every_problem_is_reported_at_once_with_its_place(write: Write) -> None:
    path = write(
        """\
port = 3
[server]
port = 70000
hots = "x"
"drain_window_s" = "soon"

[control]
api_keys = [
    "long enough, this one",
    "short",
]
[auth]
hmac_secret = "too short"
[keepalive]
pong_timeout_s = 30

[namespaces."a b"]
[namespaces.chat]
publish_by = "anybody"
[lmits]
message_bytes = 2048
"""
    )
    environ = {
        "GATEWAY_SERVER__PROT": "1",
        "GATEWAY_SERVER__WORKERS": "many",
        "GATEWAY_NAMESPACES__CHAT__PUBLISH": "x",
        "GATEWAY_AUTH__INSECURE": "maybe",
        "GATEWAY_CONTROL__ALLOWED": "[",
        "GATEWAY_SERVER__ALLOWED_ORIGINS": "[1",
        "GATEWAY_LOG__LEVEL": "loud",
    }
    assert sorted(problems(path, environ, workers=5000)) == sorted(
        [
            "gateway.toml:1: port: stands in no section; it belongs under [server] or [control]",
            "gateway.toml:3: [server] port: must be less than or equal to 65535, is 70000",
            'gateway.toml:4: [server] hots: there is no such key; did you mean "host"?',
            'gateway.toml:5: [server] drain_window_s: must be a valid number, is "soon"',
            "gateway.toml:8: [control] api_keys: an API key needs at least 16 characters",
            "gateway.toml:13: [auth] hmac_secret: needs at least 32 bytes, has 9",
            "gateway.toml:15: [keepalive] pong_timeout_s: pong_timeout_s must be shorter than ping_interval_s",
            'gateway.toml:17: [namespaces.a b]: the name of a namespace is 1 to 64 letters, digits, "_", "." or "-"',
            "gateway.toml:19: [namespaces.chat] publish_by: "
            "must be 'nobody', 'subscriber', 'authenticated', 'anyone' or 'backend', is \"anybody\"",
            'gateway.toml:20: [lmits]: there is no such section; did you mean "limits"?',
            'GATEWAY_SERVER__PROT: there is no such setting; did you mean "GATEWAY_SERVER__PORT"?',
            "GATEWAY_SERVER__WORKERS: must be a whole number",
            'GATEWAY_SERVER__ALLOWED_ORIGINS: must be a JSON list such as ["a", "b"], or a, b',
            "GATEWAY_NAMESPACES__CHAT__PUBLISH: there is no such setting; did you mean "
            '"GATEWAY_NAMESPACES__CHAT__PUBLISH_BY"?',
            "GATEWAY_AUTH__INSECURE: must be true or false",
            "GATEWAY_CONTROL__ALLOWED: there is no such setting",
            "GATEWAY_LOG__LEVEL: must be 'debug', 'info', 'warning' or 'error', is \"loud\"",
            "--workers: must be less than or equal to 1024, is 5000",
        ]
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[server]\nport = -1", 2),
        ("\n\n  [ server ]\n# port = 1\n  port   =   -1", 5),
        ("server.port = -1", 1),
        ("server = { host = 'x', port = -1 }", 1),
        ("[log]\nlevel = 'info'\n[server]\nhost = '''\n[auth]\nport = 3\n'''\nport = -1", 8),
        ('["server"]\n"port" = -1', 2),
        ("[server] # port = 3\nport = -1 # port", 2),
    ],
)
def test_the_line_of_a_key_is_found_however_it_is_written(write: Write, text: str, line: int) -> None:
    path = write(text)
    assert problems(path) == [f"gateway.toml:{line}: [server] port: must be greater than or equal to 0, is -1"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[server\nport = 1", "gateway.toml:1: not TOML: "),
        ("[server]\nport = 1\nport = 2", "gateway.toml:3: not TOML: "),
        ("[server]\nport =", "gateway.toml:2: not TOML: "),
        ("a = [" * 5000, "gateway.toml"),
        ("server = 3", "gateway.toml:1: [server]: must be a section"),
        ("namespaces = 3", "gateway.toml:1: [namespaces]: must be a section"),
        ("namespaces.chat = 3", "gateway.toml:1: [namespaces.chat]: must be a section"),
        ("[server.port]\nx = 1", "gateway.toml:1: [server] port: must be a valid integer"),
        ("[[server]]\nport = 1", "gateway.toml:1: [server]: must be a section"),
        ("[server]\nport = 1e999", "gateway.toml:2: [server] port: must be"),
        ("[server]\nport = true", "gateway.toml:2: [server] port: must be a valid integer, is true"),
        ('[server]\nport = "8000"', 'gateway.toml:2: [server] port: must be a valid integer, is "8000"'),
        ("[server]\nport = 2024-01-01", "gateway.toml:2: [server] port: must be a valid integer"),
        ("[server]\ndrain_window_s = nan", "gateway.toml:2: [server] drain_window_s: must be a finite number"),
        ("[server]\nport = 1%s" % ("0" * 400), "gateway.toml:2: [server] port: must be less than"),
        ("[server]\nallowed_origins = [1]", "gateway.toml:2: [server] allowed_origins item 1: must be a valid string"),
        ("[server]\nallowed_origins = 'x'", "gateway.toml:2: [server] allowed_origins: must be a valid"),
        (
            "[server]\nallowed_origins = ['https://a/b']",
            'gateway.toml:2: [server] allowed_origins: "https://a/b" is not',
        ),
        ("[auth]\njwks_url = 'http://x'", "gateway.toml:2: [auth] jwks_url: must be https://"),
        ("[auth]\njwks_url = 'http://127.0.0.1.x/'", "gateway.toml:2: [auth] jwks_url: must be https://"),
        ("[auth]\naudience = 3", "gateway.toml:2: [auth] audience: must be a valid string, is 3"),
        ("[keepalive]\nping_interval_s = 8", "gateway.toml:2: [keepalive] ping_interval_s: pong_timeout_s must be"),
    ],
)
def test_a_wrong_file_gives_one_problem_with_its_line(write: Write, text: str, start: str) -> None:
    found = problems(write(text))
    assert len(found) == 1
    assert found[0].startswith(start)


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    assert problems(tmp_path / "missing.toml") == ["missing.toml: No such file or directory"]
    (tmp_path / "folder").mkdir()
    assert problems(tmp_path / "folder") == ["folder: Is a directory"]
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    assert problems(tmp_path / "latin.toml") == ["latin.toml: not UTF-8 at byte 2"]


def test_what_is_not_utf8_in_environment_and_flags_is_a_problem() -> None:
    assert problems(environ=AUTH | {"GATEWAY_AUTH__AUDIENCE": "\udcff"}, host="\udcff") == [
        "GATEWAY_AUTH__AUDIENCE: the value is not UTF-8",
        "--host: the value is not UTF-8",
    ]


def test_no_problem_repeats_a_secret(write: Write) -> None:
    path = write(
        """\
[auth]
hmac_secret = "hunter2"
hmac_secret_previous = 771
[control]
api_keys = ["hunter2", 771]
[redis]
url = "http://user:hunter2@host"
"""
    )
    environ = {
        "GATEWAY_AUTH__HMAC_SECRET_PREVIOUS": "hunter2",
        "GATEWAY_CONTROL__API_KEYS": "hunter2,",
        "GATEWAY_AUTH__HMAC_SECRT": "hunter2",
    }
    for found in (problems(path, environ), problems(path, {}, redis_url="hunter2")):
        assert len(found) >= 4
        assert not any("hunter2" in problem or "771" in problem for problem in found)


def test_the_configuration_itself_does_not_print_secrets() -> None:
    config = load(environ={"GATEWAY_CONTROL__API_KEYS": "k" * 16, "GATEWAY_REDIS__URL": "redis://:password@host"})
    assert not any(secret in repr(config) for secret in (SECRET, "kkkk", "password"))


def test_several_problems_of_one_value_are_all_reported(write: Write) -> None:
    found = problems(write("[server]\nallowed_origins = [1, 'https://a.example', 2]\n"))
    assert found == [
        "gateway.toml:2: [server] allowed_origins item 1: must be a valid string",
        "gateway.toml:2: [server] allowed_origins item 3: must be a valid string",
    ]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("GATEWAY_SERVER__PROT", "GATEWAY_SERVER__PORT"),
        ("GATEWAY_SREVER__PORT", "GATEWAY_SERVER__PORT"),
        ("GATEWAY_AUTH__API_KEYS", "GATEWAY_CONTROL__API_KEYS"),
        ("GATEWAY_NAMESPACES__A__PUBLISHBY", "GATEWAY_NAMESPACES__A__PUBLISH_BY"),
        ("GATEWAY_NAMESPACES__PUBLISH_BY", "GATEWAY_NAMESPACES__DEFAULT__PUBLISH_BY"),
        ("GATEWAY_CONTROL__ALLOWED", ""),
        ("GATEWAY_SERVER__HTTP__PORT", "GATEWAY_SERVER__PORT"),
    ],
)
def test_a_slip_in_a_variable_is_answered_with_the_one_that_was_meant(variable: str, meant: str) -> None:
    hint = f'; did you mean "{meant}"?' if meant else ""
    assert problems(environ=AUTH | {variable: "1"}) == [f"{variable}: there is no such setting{hint}"]


# Checks that span several settings


def test_a_gateway_that_nobody_could_connect_to_is_a_problem(write: Write) -> None:
    for path in (None, write("[server]\nport = 1\n")):
        (problem,) = problems(path, {})
        assert problem.startswith("configuration: [auth]:" if path is None else "gateway.toml: [auth]:")
        assert all(word in problem for word in ("hmac_secret", "jwks_url", "anonymous", "demo"))
    for way in ({"anonymous": True}, {"insecure": True}, {"jwks_url": "keys.json"}, {"hmac_secret": SECRET}):
        assert load_config(None, environ={}, flags={}, presets={"auth": way})
    assert load_config(None, environ={}, flags={}, to_serve=False)


def test_it_is_not_added_when_the_reason_is_known_already(write: Write) -> None:
    assert len(problems(write("[auth]\nhmac_secret = 'short'\n"), {})) == 1
    assert len(problems(write("[auth]\nhmac_secrte = 'short'\n"), {})) == 1
    assert len(problems(write("[server]\nport = -1\n"), {})) == 2


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("history_size = 10", "history needs both history_size and history_ttl_s"),
        ("history_ttl_s = 60", "history needs both history_size and history_ttl_s"),
        ("recover = true", "recover = true needs history_size and history_ttl_s"),
    ],
)
def test_half_a_history_is_a_problem(write: Write, rules: str, problem: str) -> None:
    (found,) = problems(write(f"[namespaces.chat]\n{rules}\n"))
    assert found.startswith("gateway.toml:1: [namespaces.chat]")
    assert problem in found


def test_it_may_be_switched_off_explicitly(write: Write) -> None:
    assert load(write("[namespaces.chat]\nhistory_size = 0\npresence = false\n"))


# Origins


def test_the_origin_of_every_value_is_known(write: Write) -> None:
    loaded = read_config(
        write("[server]\nhost = '::'\n"), environ=AUTH, flags={"port": 3}, presets={"server": {"workers": 1}}
    )
    origins = [loaded.origin(("server", key)) for key in ("host", "port", "workers", "drain_window_s")]
    assert origins == ["file", "flag", "preset", None]
    assert loaded.origin(("auth", "hmac_secret")) == "env"


# Invariants

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    st.sampled_from(["server", "auth", "control", "namespaces", "chat", "port", "host", "hmac_secret", "api_keys"])
    | st.text()
)


@settings(deadline=None)  # the machine may be busy
@given(
    st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES))),
    st.dictionaries(
        st.sampled_from(["GATEWAY_SERVER__PORT", "GATEWAY_NAMESPACES__A__B", "GATEWAY_CONTROL__API_KEYS", "GATEWAY___"])
        | st.text().map(lambda text: f"GATEWAY_{text}__{text}"),
        st.text(),
    ),
)
def test_nothing_but_config_errors_come_out(presets: dict[str, Any], environ: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(load_config(None, environ=environ, flags={}, presets=presets), Config)


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.sampled_from("[]=.\"'# \nab{}")))
def test_no_text_stops_the_search_for_lines(text: str) -> None:
    assert Places("file", text).line(("a", "b")).startswith("file")


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.sampled_from(["host", "audience", "issuer"]), st.text()))
def test_strings_survive_the_environment(values: dict[str, str]) -> None:
    sections = {"host": "server", "audience": "auth", "issuer": "auth"}
    environ = {f"GATEWAY_{sections[key].upper()}__{key.upper()}": value for key, value in values.items()}
    config = load(environ=environ)
    for key, value in values.items():
        assert getattr(getattr(config, sections[key]), key) == value
    assert json.loads(config.model_dump_json())["server"]["host"] == values.get("host", "0.0.0.0")
