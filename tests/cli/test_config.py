"""`config init` and `config check --connect`, as a person types them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.config import load_config, warnings
from gateway.config.templates import PURPOSES, template
from loadtest.bench.processes import free_port
from tests.support.backend import backend_server
from tests.support.redis_server import RedisServer

SECRET = "a secret that is long enough for HS256"
ENVIRON = {"GATEWAY_AUTH__HMAC_SECRET": SECRET}


def run(*arguments: str, **variables: str) -> Any:
    return CliRunner().invoke(app, ["config", *arguments], env={**ENVIRON, **variables})


async def run_beside(*arguments: str, **variables: str) -> Any:
    """As `run`, while this loop serves what the command connects to."""
    return await asyncio.to_thread(run, *arguments, **variables)


# init


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_template_is_a_configuration_without_a_problem_or_a_warning(purpose: Any, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    result = run("init", "--for", purpose, str(file))
    assert result.exit_code == 0
    assert file.read_text() == template(purpose)
    assert warnings(load_config(file, environ=ENVIRON, flags={})) == []


@pytest.mark.parametrize("purpose", PURPOSES)
def test_what_a_template_leaves_commented_out_is_valid_as_well(purpose: Any, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    lines = (
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in template(purpose).splitlines()
    )
    file.write_text("\n".join(lines))
    assert load_config(file, environ=ENVIRON, flags={}).auth.audience == "realtime"


def test_a_template_goes_to_standard_output_and_has_no_secret() -> None:
    result = run("init", "--for", "llm")
    assert result.stdout == template("llm")
    assert 'hmac_secret = "' not in result.stdout


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("mine")
    result = run("init", str(file))
    assert (result.exit_code, file.read_text()) == (1, "mine")
    assert "File exists" in result.stderr


# check --connect


async def test_everything_that_can_be_reached_is_named(redis_server: RedisServer, tmp_path: Path) -> None:
    async with backend_server() as backend:
        (tmp_path / "keys.json").write_text(
            '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
        )
        database = tmp_path / "app.db"
        made = await asyncio.to_thread(
            CliRunner().invoke, app, ["outbox", "init"], env={"GATEWAY_OUTBOX__URL": f"sqlite:///{database}"}
        )
        assert made.exit_code == 0, made.stderr
        result = await run_beside(
            "check",
            "--connect",
            GATEWAY_REDIS__URL=redis_server.url,
            GATEWAY_OUTBOX__URL=f"sqlite:///{database}",
            GATEWAY_AUTH__JWKS_URL=str(tmp_path / "keys.json"),
            GATEWAY_AUTH__AUDIENCE="here",
            GATEWAY_BACKEND__HANDLERS="gateway.backend.examples.chat:Chat",
            GATEWAY_BACKEND__RPC_URL=backend.url("/rpc"),
        )
    assert result.exit_code == 0, result.stderr
    found = dict(line.split(": ", 1) for line in result.stdout.splitlines()[1:])
    assert found["[auth] jwks_url"] == "1 key"
    assert found["[redis] url"].endswith("takes writes")
    assert found["[outbox] url"].endswith("0 rows wait")
    assert "on_connect" in found["[backend] handlers"]
    assert found["[backend] rpc_url"].startswith("answers with status ")


def test_everything_that_cannot_be_reached_is_an_error_and_nothing_is_made(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    result = run(
        "check",
        "--connect",
        GATEWAY_REDIS__URL=f"redis://:swordfish@{nobody}",
        GATEWAY_OUTBOX__URL=f"sqlite:///{tmp_path / 'app.db'}",
        GATEWAY_AUTH__JWKS_URL=str(tmp_path / "keys.json"),
        GATEWAY_AUTH__AUDIENCE="here",
        GATEWAY_BACKEND__HANDLERS="nothing_of_this_name:Hooks",
        GATEWAY_BACKEND__RPC_URL=f"http://{nobody}/rpc",
    )
    assert result.exit_code == 1
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "[redis] url",
        "[auth] jwks_url",
        "[outbox] url",
        "[backend] handlers",
        "[backend] rpc_url",
    ]
    assert "swordfish" not in result.output + result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_problem_of_the_file_comes_before_anything_is_tried() -> None:
    result = run("check", "--connect", GATEWAY_SERVER__PORT="many")
    assert result.exit_code == 2
    assert "redis" not in result.output


def test_handlers_beside_the_caller_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hooks_of_mine.py").write_text("class Hooks:\n    async def on_rpc(self, context): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = run("check", "--connect", GATEWAY_BACKEND__HANDLERS="hooks_of_mine:Hooks")
    assert "[backend] handlers: on_rpc" in result.stdout.splitlines()
