"""Secrets from files: `<key>_file` in the TOML file, `…_FILE` in the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.config import load_config, read_config
from gateway.config.show import as_toml, as_variables
from gateway.errors import ConfigError

SECRET = "a secret that is long enough for HS256"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def problems(path: Path | None, environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=environ, flags={})
    return caught.value.problems


def test_in_toml_and_in_the_environment_without_the_end_of_the_line(tmp_path: Path) -> None:
    secret = write(tmp_path / "hmac", f"{SECRET}\n")
    redis = write(tmp_path / "redis", "redis://:password@localhost:6379/0\r\n")
    keys = write(tmp_path / "keys", "first-key-of-the-backend\n\nsecond-key-of-the-backend\n")
    file = write(tmp_path / "gateway.toml", f'[auth]\nhmac_secret_file = "{secret}"\n[redis]\nurl_file = "{redis}"\n')
    config = load_config(file, environ={"GATEWAY_CONTROL__API_KEYS_FILE": str(keys)}, flags={})
    assert config.auth.hmac_secret == SECRET
    assert config.redis.url == "redis://:password@localhost:6379/0"
    assert config.control.api_keys == ("first-key-of-the-backend", "second-key-of-the-backend")


def test_a_later_source_is_over_an_earlier_one_whatever_form_it_has(tmp_path: Path) -> None:
    secret = write(tmp_path / "hmac", SECRET)
    file = write(tmp_path / "gateway.toml", f'[auth]\nhmac_secret_file = "{secret}"\n')
    assert load_config(file, environ={"GATEWAY_AUTH__HMAC_SECRET": "x" * 32}, flags={}).auth.hmac_secret == "x" * 32
    file = write(tmp_path / "gateway.toml", f'[auth]\nhmac_secret = "{"y" * 32}"\n')
    environ = {"GATEWAY_AUTH__HMAC_SECRET_FILE": str(secret)}
    assert load_config(file, environ=environ, flags={}).auth.hmac_secret == SECRET


def test_both_forms_in_one_place_are_a_problem(tmp_path: Path) -> None:
    secret = write(tmp_path / "hmac", SECRET)
    environ = {"GATEWAY_AUTH__HMAC_SECRET_FILE": str(secret), "GATEWAY_AUTH__HMAC_SECRET": SECRET}
    assert problems(None, environ) == (
        "GATEWAY_AUTH__HMAC_SECRET_FILE: GATEWAY_AUTH__HMAC_SECRET is set, too; one of them is enough",
    )
    file = write(tmp_path / "g.toml", f'[auth]\nhmac_secret_file = "{secret}"\nhmac_secret = "{SECRET}"\n')
    assert problems(file, {}) == (
        f"{file}:2: [auth] hmac_secret_file: hmac_secret is given, too; one of them is enough",
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "{file} is empty"),
        (b"\n \n", "{file} is empty"),
        (b"\xff\xfe" * 20, "{file} is not UTF-8"),
        (b"x" * 70_000, "{file} has more than 65536 bytes: is it the right file?"),
        (None, "{file}: No such file or directory"),
    ],
)
def test_a_problem_names_the_file(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "hmac"
    if content is not None:
        file.write_bytes(content)
    found = problems(None, {"GATEWAY_AUTH__HMAC_SECRET_FILE": str(file)})
    assert found == (f"GATEWAY_AUTH__HMAC_SECRET_FILE: {problem.format(file=file)}",)


def test_a_folder_is_no_file_and_a_number_is_no_path(tmp_path: Path) -> None:
    assert "is not a file" in problems(None, {"GATEWAY_AUTH__HMAC_SECRET_FILE": str(tmp_path)})[0]
    file = write(tmp_path / "g.toml", "[auth]\nhmac_secret_file = 7\n")
    assert problems(file, {}) == (f"{file}:2: [auth] hmac_secret_file: must be the path of a file",)


def test_no_problem_and_no_listing_shows_what_is_in_the_file(tmp_path: Path) -> None:
    short = write(tmp_path / "hmac", "swordfish")
    keys = write(tmp_path / "keys", "open-sesame\n")
    found = problems(None, {"GATEWAY_AUTH__HMAC_SECRET_FILE": str(short), "GATEWAY_CONTROL__API_KEYS_FILE": str(keys)})
    assert len(found) == 2
    assert all(str(file) in " ".join(found) for file in (short, keys))
    assert "swordfish" not in " ".join(found)
    assert "open-sesame" not in " ".join(found)
    secret = write(tmp_path / "hmac", SECRET)
    loaded = read_config(None, environ={"GATEWAY_AUTH__HMAC_SECRET_FILE": str(secret)}, flags={})
    shown = "\n".join(as_toml(loaded))
    assert SECRET not in shown
    assert f"GATEWAY_AUTH__HMAC_SECRET_FILE ({secret})" in shown


def test_only_secrets_have_the_form() -> None:
    assert "there is no such setting" in problems(None, {"GATEWAY_SERVER__HOST_FILE": "/dev/null"})[0]
    assert "there is no such setting" in problems(None, {"GATEWAY_CONTROL__KEYS_FILE": "/dev/null"})[0]
    listing = "\n".join(as_variables())
    assert "GATEWAY_REDIS__URL_FILE=" in listing
    assert "GATEWAY_SERVER__HOST_FILE" not in listing


def test_a_file_that_everybody_can_read_is_worth_a_warning(tmp_path: Path) -> None:
    secret = write(tmp_path / "hmac", SECRET, 0o644)
    loaded = read_config(None, environ={"GATEWAY_AUTH__HMAC_SECRET_FILE": str(secret)}, flags={})
    (warning,) = loaded.warnings
    assert str(secret) in warning
    assert SECRET not in warning
    os.chmod(secret, 0o640)
    assert read_config(None, environ={"GATEWAY_AUTH__HMAC_SECRET_FILE": str(secret)}, flags={}).warnings == ()
