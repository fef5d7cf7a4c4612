"""The commands, as a person types them."""

from __future__ import annotations

import inspect
import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import orjson
import psutil
import pytest
import redis
from rich.console import Console
from structlog.testing import capture_logs
from typer.testing import CliRunner

from gateway import __version__
from gateway.auth import ConnectionClaims, KeySet, TokenVerifier
from gateway.cli import banner
from gateway.cli.commands import app
from gateway.cli.top import frame
from gateway.clock import SystemClock
from gateway.errors import StartupError, TokenInvalid
from gateway.supervisor import Serving, Supervisor
from protocol.publish_rules import HistoryRule, PublishRules, encode_rules
from tests.support.gateway import Gateway, serving
from tests.support.processes import kill_all
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parent.parent
SECRET = "a secret that is long enough for HS256"
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("GATEWAY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def run() -> Run:
    def run(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> Any:
        return CliRunner().invoke(app, arguments, env=env or {}, **options)

    return run


def verify(token: str, *, secret: str = SECRET, **settings: Any) -> TokenVerifier:
    return TokenVerifier(KeySet(hmac_secret=secret, clock=SystemClock()), clock=SystemClock(), **settings)


def connection_claims(token: str, **settings: Any) -> ConnectionClaims:
    return verify(token, **settings).verify_connection(token)


AUTH = {"GATEWAY_AUTH__HMAC_SECRET": SECRET}


# token


def test_token_prints_a_token_and_nothing_else(run: Run) -> None:
    result = run("token", "42", env=AUTH)
    assert (result.exit_code, result.stderr) == (0, "")
    claims = connection_claims(result.stdout.removesuffix("\n"))
    assert claims.user == "42"
    assert (claims.expires_at or 0) - (claims.issued_at or 0) == 3600


@pytest.mark.parametrize(("ttl", "seconds"), [("300s", 300), ("15m", 900), ("2h", 7200), ("30d", 2_592_000)])
def test_token_takes_a_time_to_live(run: Run, ttl: str, seconds: int) -> None:
    claims = connection_claims(run("token", "42", "--ttl", ttl, env=AUTH).stdout.strip())
    assert (claims.expires_at or 0) - (claims.issued_at or 0) == seconds
    assert connection_claims(run("token", "42", "--ttl", "never", env=AUTH).stdout.strip()).expires_at is None


def test_token_takes_information_audience_and_issuer(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(f'[auth]\nhmac_secret = "{SECRET}"\naudience = "app"\nissuer = "me"\n')
    result = run("token", "42", "--info", '{"name": "Ada"}', "--config", str(tmp_path / "gateway.toml"))
    claims = connection_claims(result.stdout.strip(), audience="app", issuer="me")
    assert claims.info == b'{"name":"Ada"}'


def test_token_makes_subscription_tokens(run: Run) -> None:
    made = run("token", "42", "--channel", "$room", env=AUTH).stdout.strip()
    assert verify(made).verify_subscription(made).channel == "$room"
    with pytest.raises(TokenInvalid):
        connection_claims(made)


@pytest.mark.parametrize(
    ("arguments", "env", "status", "words"),
    [
        (["42"], {}, 1, "no secret to sign with: set GATEWAY_AUTH__HMAC_SECRET"),
        (
            ["42"],
            {"GATEWAY_AUTH__HMAC_SECRET": "short"},
            2,
            "GATEWAY_AUTH__HMAC_SECRET: needs at least 32 bytes, has 5",
        ),
        (["42", "--ttl", "soon"], AUTH, 2, '"soon" is not a time'),
        (["42", "--ttl", "0s"], AUTH, 2, "is not a time"),
        (["42", "--info", "{"], AUTH, 2, "not JSON"),
        (["42", "--channel", "a b"], AUTH, 2, "not allowed"),
        ([""], AUTH, 1, "anonymous"),
        (["42", "--config", "/missing.toml"], AUTH, 2, "/missing.toml: No such file"),
    ],
)
def test_token_says_what_is_wrong(run: Run, arguments: list[str], env: dict[str, str], status: int, words: str) -> None:
    result = run("token", *arguments, env=env)
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr


# config


def test_config_check_says_that_all_is_well_and_warns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[server]\nallowed_origins = ["*"]\n')
    result = run("config", "check", str(tmp_path / "gateway.toml"), env=AUTH)
    assert (result.exit_code, result.stdout) == (0, "The configuration is valid.\n")
    assert result.stderr.startswith("warning: [server] allowed_origins")


def test_config_check_names_every_problem(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[server]\nport = 70000\nhots = 1\n")
    result = run(
        "config", "check", str(path), env={"GATEWAY_LOG__LEVEL": "loud", "GATEWAY_AUTH__HMAC_SECRET": "hunter2"}
    )
    assert (result.exit_code, result.stdout) == (2, "")
    starts = [
        f"{path}:3: [server] hots: ",
        f"{path}:2: [server] port: ",
        "GATEWAY_AUTH__HMAC_SECRET: ",
        "GATEWAY_LOG__",
    ]
    assert len(result.stderr.splitlines()) == 4
    for line, start in zip(sorted(result.stderr.splitlines()), sorted(starts), strict=True):
        assert line.startswith(start)
    assert "hunter2" not in result.stderr


def test_config_show_masks_secrets(run: Run) -> None:
    result = run("config", "show", env=AUTH)
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout)["auth"]["hmac_secret"] == "********"
    assert SECRET not in result.stdout


def test_config_env_lists_variables(run: Run) -> None:
    assert "# GATEWAY_AUTH__HMAC_SECRET=\n" in run("config", "env").stdout


# serve and demo, without their processes


class FakeSupervisor:
    """Says at once that it serves, and ends with 0."""

    serving = Serving("0.0.0.0", 8000, "127.0.0.1", 9000, 2, "node", None)
    error: StartupError | None = None
    config: Any = None

    def __init__(self, config: Any, *, reread: Callable[[], Any] | None = None) -> None:
        type(self).config = config

    async def run(self, on_ready: Callable[[Serving], None]) -> int:
        if self.error:
            raise self.error
        on_ready(self.serving)
        return 0


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeSupervisor]]:
    monkeypatch.setattr("gateway.supervisor.Supervisor", FakeSupervisor)
    monkeypatch.setattr("gateway.log.configure_logging", lambda settings, process: None)
    yield FakeSupervisor
    FakeSupervisor.error = None


def test_serve_gives_the_supervisor_what_was_configured(run: Run, supervisor: type[FakeSupervisor]) -> None:
    flags = {
        "--host": "127.0.0.1",
        "--port": "81",
        "--workers": "3",
        "--control-host": "::1",
        "--control-port": "82",
        "--redis-url": "redis://r",
        "--log-level": "error",
        "--log-format": "json",
    }
    result = run("serve", *(part for flag in flags.items() for part in flag), env=AUTH)
    assert result.exit_code == 0
    config = supervisor.config
    assert (config.server.host, config.server.port, config.server.workers) == ("127.0.0.1", 81, 3)
    assert (config.control.host, config.control.port, config.redis.url) == ("::1", 82, "redis://r")
    assert (config.log.level, config.log.format, config.auth.hmac_secret) == ("error", "json", SECRET)
    assert not config.control.demo


def test_serve_refuses_a_wrong_configuration_with_every_problem(run: Run, supervisor: type[FakeSupervisor]) -> None:
    result = run("serve", "--port", "70000", "--log-level", "loud")
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["--port", "--log-level", "configuration"]


def test_what_keeps_it_from_starting_is_one_line_and_status_1(run: Run, supervisor: type[FakeSupervisor]) -> None:
    supervisor.error = StartupError("port 80 is in use. Choose another.")
    result = run("serve", env=AUTH)
    assert (result.exit_code, result.stderr) == (1, "error: port 80 is in use. Choose another.\n")


def test_dangerous_settings_are_logged_at_start(
    run: Run, supervisor: type[FakeSupervisor], log_lines: list[dict[str, Any]]
) -> None:
    run("serve", env={"GATEWAY_AUTH__INSECURE": "1"})
    assert [line["log_level"] for line in log_lines] == ["warning", "info"]
    assert "insecure = true" in log_lines[0]["warning"]
    assert log_lines[1]["websocket"] == "ws://127.0.0.1:8000/connection/websocket"


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def test_demo_needs_nothing_and_keeps_authentication_on(run: Run, supervisor: type[FakeSupervisor]) -> None:
    first = run("demo", "--port", "81", "--control-port", "82", "--workers", "1", "--host", "::")
    assert first.exit_code == 0
    config = supervisor.config
    assert (config.server.port, config.control.port, config.server.workers, config.server.host) == (81, 82, 1, "::")
    assert config.control.demo
    assert not config.auth.insecure
    assert not config.auth.anonymous
    assert len(config.auth.hmac_secret) >= 32
    assert config.namespaces["chat"].publish_by == "subscriber"
    assert config.namespaces["default"].publish_by == "nobody"
    token = next(line for line in first.stdout.splitlines() if line.startswith("eyJ"))
    claims = connection_claims(token, secret=config.auth.hmac_secret)
    assert (claims.user, (claims.expires_at or 0) - (claims.issued_at or 0)) == ("demo", 86_400)
    run("demo")
    assert supervisor.config.auth.hmac_secret != config.auth.hmac_secret
    assert supervisor.config.control.api_keys != config.control.api_keys


def test_demo_takes_secrets_from_the_environment(run: Run, supervisor: type[FakeSupervisor]) -> None:
    result = run("demo", env=AUTH | {"GATEWAY_CONTROL__API_KEYS": "0123456789abcdef"})
    assert supervisor.config.auth.hmac_secret == SECRET
    assert "X-API-Key: 0123456789abcdef" in result.stdout


def test_demo_prints_lines_that_work_as_they_stand(
    run: Run, supervisor: type[FakeSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/nexus-gateway", "demo"])
    text = run("demo").stdout
    assert "http://127.0.0.1:9000/demo" in text
    assert "ws://127.0.0.1:8000/connection/websocket" in text
    assert """  .venv/bin/nexus-gateway publish feed '{"text": "hello"}'\n""" in text
    monkeypatch.setattr(supervisor, "serving", Serving("::1", 81, "::1", 82, 1, "node", None))
    text = run("demo").stdout
    assert """  .venv/bin/nexus-gateway publish --port 81 feed '{"text": "hello"}'\n""" in text
    assert "ws://[::1]:81/connection/websocket" in text
    assert "http://[::1]:82/api/publish\n" in text


def test_the_program_is_named_as_it_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bin_folder = tmp_path / "my bin"
    bin_folder.mkdir()
    program = bin_folder / "nexus-gateway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", os.defpath)
    assert banner.program() == shlex.quote(str(program))
    monkeypatch.chdir(tmp_path)
    assert banner.program() == "'my bin/nexus-gateway'"
    monkeypatch.chdir(bin_folder)
    assert banner.program() == "./nexus-gateway"
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.defpath}")
    assert banner.program() == "nexus-gateway"
    monkeypatch.setattr(sys, "argv", ["/x/gateway/__main__.py"])
    assert banner.program() == f"{shlex.quote(sys.executable)} -m gateway"


# publish


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["a b", "{}"], 2, "not allowed"),
        (["", "{}"], 2, "empty"),
        (["{a}", "{}"], 2, "not allowed"),
        (["feed", "hello"], 2, """text needs quotes of its own: '"hello"'"""),
        (["feed", "NaN"], 2, "not JSON"),
        (["feed", ""], 2, "not JSON"),
        (["feed", "{}", "--port", "1"], 1, "no gateway of this user with an embedded Redis runs here on port 1"),
        (["feed", "{}", "--redis-url", "redis://me:hunter2@127.0.0.1:1"], 1, "Redis at redis://127.0.0.1:1: "),
        (["feed", "{}", "--redis-url", "http://me:hunter2@x"], 2, "--redis-url: must start with redis://"),
    ],
)
def test_publish_says_what_is_wrong(run: Run, arguments: list[str], status: int, words: str) -> None:
    result = run("publish", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr
    assert "hunter2" not in result.stderr


RULES = PublishRules(
    namespaces={"default": None, "chat": HistoryRule(10, 60.0)}, publication_bytes=1000, channel_length=20
)


@pytest.fixture
def ruled(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """The Redis of a gateway that has stored its rules with the prefix `app`."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.hset("app:rules", mapping={"rules": encode_rules(RULES), "version": 1})
        yield client


def published(
    server: RedisServer, *arguments: str, data: str = "-", **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "publish", *arguments, data],
        cwd=ROOT,
        env={**os.environ, "GATEWAY_REDIS__URL": server.url, "GATEWAY_REDIS__PREFIX": "app"},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_publish_tells_how_many_workers_got_it(ruled: redis.Redis, redis_server: RedisServer) -> None:
    assert published(redis_server, "news", input="1").stdout == "Published to news: nobody is subscribed.\n"
    with ruled.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("app:pub:news")
        pubsub.get_message(timeout=5)
        assert published(redis_server, "news", input='{"é": 1}\n').stdout == "Published to news: 1 worker got it.\n"
        message: Any = pubsub.get_message(timeout=5)
    assert orjson.loads(message["data"]) == {"é": 1}


def test_publish_into_a_channel_with_history_goes_to_its_log(ruled: redis.Redis, redis_server: RedisServer) -> None:
    for offset in (1, 2):
        found = published(redis_server, "chat:a", data='{"n": 1}')
        assert found.stdout == f"Published to chat:a: it is in the history, at offset {offset}.\n"
    assert ruled.xlen("app:log:chat:a") == 2


@pytest.mark.parametrize(
    ("channel", "data", "words"),
    [
        ("rooms:a", "1", 'no namespace "rooms" is configured'),
        ("a-channel-with-a-long-name", "1", "20"),
        ("news", '"' + "x" * 999 + '"', "makes 1001 bytes, the gateway takes 1000"),
    ],
)
def test_publish_keeps_to_the_rules_of_the_gateway(
    ruled: redis.Redis, redis_server: RedisServer, channel: str, data: str, words: str
) -> None:
    assert ruled.exists("app:rules")
    found = published(redis_server, channel, data=data)
    assert (found.returncode, found.stdout) == (2, "")
    assert words in found.stderr


def test_publish_without_a_gateway_says_so(redis_server: RedisServer) -> None:
    found = published(redis_server, "news", data="1")
    assert found.returncode == 1
    assert "no gateway has stored its rules in this Redis" in found.stderr


# Real processes


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_version_and_help() -> None:
    assert command("--version").stdout == f"nexus-gateway {__version__}\n"
    text = command("--help").stdout
    assert all(word in text for word in ("serve", "demo", "token", "publish", "config"))


def test_the_secret_can_come_from_the_environment_of_a_real_process() -> None:
    made = command("token", "42", GATEWAY_AUTH__HMAC_SECRET=SECRET)
    assert (made.returncode, made.stderr) == (0, "")
    assert connection_claims(made.stdout.strip()).user == "42"


def test_token_does_not_load_what_serving_needs() -> None:
    code = "import sys, gateway.cli, gateway.auth.issue; print([m for m in %r if m in sys.modules])"
    heavy = ["gateway.supervisor", "gateway.edge", "gateway.control", "redis", "fastapi", "httpx", "uvicorn"]
    found = subprocess.run([sys.executable, "-c", code % heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_taken_port_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command("serve", "--host", "127.0.0.1", "--port", str(port), GATEWAY_AUTH__HMAC_SECRET=SECRET)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert str(port) in line
    assert "Traceback" not in result.stderr


def test_the_demo_serves_and_its_lines_work(tmp_path: Path) -> None:
    """Everything that the demo prints is tried: page, token, publish line, curl line; then Ctrl-C."""
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen(
            [sys.executable, "-m", "gateway", "demo", "--port", "0", "--control-port", "0", "--workers", "1"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert demo.stdout is not None
        text = ""
        for line in demo.stdout:
            text += line
            if "curl" in line:
                break
        else:
            pytest.fail(f"the demo ended: {(tmp_path / 'log').read_text()}")
        page = re.search(r"http://\S+/demo", text)
        publish = re.search(r"^  (.* publish .*)$", text, re.MULTILINE)
        curl = re.search(r"curl -H '(X-API-Key: .*?)' -d ('.*?') (\S+)", text)
        assert page
        assert publish
        assert curl

        with urlopen(page[0]) as answer:
            assert b"<title>" in answer.read()
        published = subprocess.run(shlex.split(publish[1]), cwd=ROOT, capture_output=True, text=True, check=False)
        assert (published.returncode, published.stderr) == (0, "")
        assert published.stdout == "Published to feed: nobody is subscribed.\n"

        name, _, key = curl[1].partition(": ")
        request = Request(curl[3], data=shlex.split(curl[2])[0].encode(), headers={name: key})
        with urlopen(request) as answer:
            assert "result" in orjson.loads(answer.read())

        demo.send_signal(signal.SIGINT)
        assert demo.wait(20) == 0
    finally:
        kill_all(demo)
        if demo.stdout:
            demo.stdout.close()


# top


KEY = "key-of-tests-0123456789"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving({"control": {"port": 0, "api_keys": [KEY]}, "server": {"workers": 2}}) as gateway:
        yield gateway


def keys(*names: str) -> dict[str, str]:
    return {"GATEWAY_CONTROL__API_KEYS": orjson.dumps(names).decode(), "COLUMNS": "120"}


def test_top_prints_one_frame_for_scripts(run: Run, gateway: Gateway) -> None:
    result = run("top", "--once", "--url", gateway.control_url, env=keys(KEY))
    assert (result.exit_code, result.stderr) == (0, "")
    for shown in ("nexus-gateway", "ready", "connections", "edge-1", "edge-2", "redis", "connected", "redis_canary"):
        assert shown in result.stdout
    assert "\x1b" not in result.stdout
    assert KEY not in result.stdout


def test_top_finds_the_control_port_and_the_key_in_the_file(run: Run, gateway: Gateway, tmp_path: Path) -> None:
    port = gateway.control_url.rpartition(":")[2]
    (tmp_path / "gateway.toml").write_text(f'[control]\nport = {port}\napi_keys = ["{KEY}"]\n')
    assert "edge-1" in run("top", "--once", "--config", str(tmp_path / "gateway.toml")).stdout


def test_top_goes_on_until_ctrl_c_and_ends_clean(gateway: Gateway) -> None:
    command = [sys.executable, "-m", "gateway", "top", "--interval", "0.2", "--url", gateway.control_url]
    top = subprocess.Popen(
        command, env=os.environ | keys(KEY), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        # Where no terminal is, frames are printed at the end: that it asks is seen at its connection.
        asking = psutil.Process(top.pid)
        port = int(gateway.control_url.rpartition(":")[2])
        while port not in {each.raddr.port for each in asking.net_connections("tcp") if each.raddr}:
            assert top.poll() is None
        asked = gateway.metric("gateway_operation_seconds_count", operation="loop_lag")
        while gateway.metric("gateway_operation_seconds_count", operation="loop_lag") < asked + 20:
            assert top.poll() is None
        top.send_signal(signal.SIGINT)
        stdout, stderr = top.communicate(timeout=20)
        assert (top.returncode, stderr) == (0, "")
        assert "edge-1" in stdout
    finally:
        top.kill()
        top.communicate()


@pytest.mark.parametrize(
    ("arguments", "names", "words", "status"),
    [
        (("--url", "http://127.0.0.1:1"), (KEY,), "nothing listens at http://127.0.0.1:1", 1),
        (("--url", "{control}"), ("wrong-key-0123456789",), "does not accept the key", 1),
        (("--url", "{control}"), (), "a key is needed", 1),
        (("--url", "{public}"), (KEY,), "is no control port of this version", 1),
        (("--url", "localhost:9000"), (KEY,), "is no URL", 2),
    ],
)
def test_top_says_in_words_why_it_cannot(
    run: Run, gateway: Gateway, arguments: tuple[str, ...], names: tuple[str, ...], words: str, status: int
) -> None:
    filled = [each.format(control=gateway.control_url, public=gateway.public_url) for each in arguments]
    result = run("top", "--once", *filled, env=keys(*names))
    assert result.exit_code == status
    assert words in result.stderr
    assert result.stdout == ""
    assert "wrong-key" not in result.stderr


STATE: dict[str, Any] = {
    "time": 1_700_000_060.0,
    "version": "1.2.3",
    "status": "degraded",
    "problems": ["edge-2 has not moved for 7 s"],
    "connections": 12345,
    "users": 3,
    "channels": 4,
    "subscriptions": 5,
    "queued_bytes": 5000,
    "rates": {"publications": 1.0, "deliveries": 1234.5, "commands": 0.0, "bytes_out": 3_000_000.0},
    "latency": [],
    "slow_consumers": {"behind": 7},
    "tallies": [{"kind": "handshakes refused", "reason": "full", "total": 9}],
    "memory": {"used_bytes": 900, "limit_bytes": 1000, "level": 3, "level_in_words": "refusing new connections"},
    "workers": [],
    "redis": {"state": "away", "away_since": 1_700_000_000.0, "connected": 0, "workers": 2},
    "slow": [
        {
            "operation": "connect",
            "duration_ms": 300.0,
            "time": 1_700_000_000.0,
            "process": "edge-1",
            "channel": "[bold]x",
            "user": "\x1b[2Jada",
        }
    ],
}


def test_a_frame_says_what_is_wrong_and_takes_no_orders_from_names() -> None:
    console = Console(width=120, file=io.StringIO())
    console.print(frame(STATE))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for shown in (
        "degraded",
        "! edge-2 has not moved for 7 s",
        "! Redis is away since ",
        "12,345",
        "1,234.5/s",
        "2.9 MiB/s",
        "900 B of 1000 B (refusing new connections)",
        "handshakes refused full 9",
        "none in the last minute",
        "[bold]x",
        "?[2Jada",
        "1 min",
    ):
        assert shown in text
    assert "\x1b" not in text


def test_the_supervisor_is_called_as_it_is_written() -> None:
    """The fake above has the real one's shape."""
    assert list(inspect.signature(Supervisor.run).parameters) == ["self", "on_ready"]
