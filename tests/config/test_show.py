"""What people see of a configuration."""

from __future__ import annotations

import tomllib

import pytest

from gateway.config import Config, load_config, read_config, warnings
from gateway.config.show import as_toml, as_variables

SECRET = "a secret that is long enough for HS256"


def shown(environ: dict[str, str], **flags: object) -> str:
    return "\n".join(as_toml(read_config(None, environ={"GATEWAY_AUTH__HMAC_SECRET": SECRET, **environ}, flags=flags)))


def test_what_is_shown_is_toml_and_complete() -> None:
    content = tomllib.loads(
        shown({"GATEWAY_AUTH__ISSUER": 'quo"te \\ é 😀 \x7f', "GATEWAY_NAMESPACES__CHAT__SERVER_SIDE": "chat:a,chat:b"})
    )
    expected = Config().model_dump(mode="json")
    expected["auth"] |= {"issuer": 'quo"te \\ é 😀 \x7f', "hmac_secret": "********"}
    expected["namespaces"]["chat"] = expected["namespaces"]["default"] | {"server_side": ["chat:a", "chat:b"]}
    assert content == expected


def test_every_value_says_where_it_comes_from(tmp_path: pytest.TempPathFactory) -> None:
    text = shown({"GATEWAY_SERVER__WORKERS": "3"}, port=81)
    comments = {line.split(" = ")[0]: line.rpartition(" # ")[2] for line in text.splitlines()[:8] if " = " in line}
    assert comments["port"] == "--port"
    assert comments["workers"] == "GATEWAY_SERVER__WORKERS"
    assert comments["allowed_origins"] == "default"


def test_the_line_in_a_file_is_named(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "gateway.toml"
    path.write_text("[server]\n\nport = 81\n")
    loaded = read_config(path, environ={"GATEWAY_AUTH__HMAC_SECRET": SECRET}, flags={})
    (line,) = [line for line in as_toml(loaded) if line.startswith("port = 81 ")]
    assert line.endswith(f"# {path}:3")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_AUTH__HMAC_SECRET", "hunter2hunter2hunter2://hunter2hunter2@hunter2"),
        ("GATEWAY_AUTH__HMAC_SECRET_PREVIOUS", "hunter2" * 6),
        ("GATEWAY_CONTROL__API_KEYS", "hunter2hunter2hunter2,hunter2hunter2hunter22"),
        ("GATEWAY_REDIS__URL", "redis://user:hunter2@host:1/0"),
        ("GATEWAY_REDIS__URL", "rediss://:hunter2@host?db=1"),
        ("GATEWAY_REDIS__URL", "unix:///tmp/s?db=1&password=hunter2&ssl_password=hunter2"),
        ("GATEWAY_REDIS__URL", "redis://user:hunt@er2hunter2@host"),
    ],
)
def test_secrets_are_masked(variable: str, value: str) -> None:
    text = shown({variable: value})
    assert "hunter2" not in text
    assert "********" in text
    assert variable in text


def test_a_url_keeps_everything_but_its_password() -> None:
    text = shown({"GATEWAY_REDIS__URL": "rediss://user:pw@host:1/2?x=1"})
    assert 'url = "rediss://user:********@host:1/2?x=1"' in text
    text = shown({"GATEWAY_REDIS__URL": "redis+sentinel://:pw@one,[::1]:2/name?x=1&sentinel_password=pw"})
    assert 'url = "redis+sentinel://:********@one,[::1]:2/name?x=1&sentinel_password=********"' in text


def test_every_variable_has_its_meaning_and_its_default() -> None:
    text = "\n".join(as_variables())
    assert "# Port to listen on; 0 = any free one, printed at start.\n# GATEWAY_SERVER__PORT=8000\n" in text
    assert "# GATEWAY_NAMESPACES__DEFAULT__SUBSCRIBE_BY=authenticated\n" in text
    meaning = "# "
    for line in text.splitlines():
        assert not line.startswith("# GATEWAY_") or meaning.startswith("# "), f"{line} has no description"
        meaning = line


def test_the_listed_defaults_are_the_defaults() -> None:
    listed = dict(
        line.removeprefix("# ").split("=", 1)
        for line in as_variables()
        if line.startswith("# GATEWAY_") and "__" in line
    )
    assert load_config(None, environ=listed, flags={}, to_serve=False) == Config()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"GATEWAY_AUTH__INSECURE": "true", "GATEWAY_AUTH__HMAC_SECRET": ""}, ["anybody may connect"]),
        ({"GATEWAY_AUTH__INSECURE": "true"}, ["anybody may connect", "not checked"]),
        ({"GATEWAY_AUTH__JWKS_URL": "https://issuer.example/jwks.json"}, ["audience is empty"]),
        ({"GATEWAY_AUTH__HMAC_SECRET_PREVIOUS": SECRET}, ["not rotated"]),
        ({"GATEWAY_SERVER__ALLOWED_ORIGINS": "*"}, ["any site"]),
        ({"GATEWAY_CONTROL__HOST": "0.0.0.0"}, ["firewall"]),
        ({"GATEWAY_CONTROL__HOST": "0.0.0.0", "GATEWAY_CONTROL__DEMO": "1"}, ["firewall", "gets a token"]),
        ({"GATEWAY_CONTROL__HOST": "::1", "GATEWAY_CONTROL__DEMO": "1"}, []),
        ({"GATEWAY_CONTROL__HOST": "localhost"}, []),
        ({}, []),
    ],
)
def test_what_is_dangerous_is_warned_about(environ: dict[str, str], words: list[str]) -> None:
    found = warnings(load_config(None, environ={"GATEWAY_AUTH__HMAC_SECRET": SECRET, **environ}, flags={}))
    assert len(found) == len(words)
    for warning, word in zip(found, words, strict=True):
        assert word in warning
    assert SECRET not in " ".join(found)
