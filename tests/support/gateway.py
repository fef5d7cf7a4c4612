"""A whole gateway, as `nexus-gateway serve` starts it: supervisor, edge workers, control process, Redis.

Seen from outside only: its ports, its log lines, its processes, its Redis. Whatever a test does to it, `close` leaves
no process behind, and fails the test when the gateway has logged an error that the test did not announce.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import jwt
import psutil
import redis
from prometheus_client.parser import text_string_to_metric_families

from gateway.auth import sign_token
from gateway.broker.scripts import source
from gateway.processes import child_environment
from gateway.storage.folder import embedded_folder
from loadtest.bench.processes import descendants
from protocol.position import Position
from tests.support.lines import Lines
from tests.support.processes import is_running, kill_all
from tests.support.waiting import DEADLINE_S

SECRET = "the secret of all test gateways, long enough for HS256, 384 and 512"
API_KEY = "test-key-0123456789"
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "server": {"host": "127.0.0.1", "port": 0, "workers": 1, "drain_window_s": 0.0},
    "control": {"port": 0, "api_keys": [API_KEY]},
    "auth": {"hmac_secret": SECRET},
    "limits": {"close_timeout_s": 2.0},
    "log": {"format": "json"},
}

Section = Mapping[str, Any]


class Gateway:
    """One gateway. `serving` starts and ends it."""

    def __init__(self, config: Mapping[str, Section], *, behind: Sequence[str] = ()) -> None:
        """`behind`: a command that starts it, as `nice` would."""
        self.allowed_errors: set[str] = set()
        """Events that may be in the log with level `error`."""
        self.token_options: dict[str, str] = {}
        """What `token` adds to each token: audience, issuer."""
        self._http = httpx.Client(trust_env=False, timeout=10)
        self.config_file = Path(tempfile.mkdtemp(prefix="gateway-")) / "gateway.toml"
        self.config_file.write_text(to_toml(config))
        self.process = subprocess.Popen(
            [*behind, sys.executable, "-m", "gateway", "serve", "--config", str(self.config_file)],
            env=child_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self.log = Lines(self.process.stderr)
        self.family: list[psutil.Process] = []
        """Every process that was ever seen of it, the supervisor first."""
        try:
            (line,) = self.log.wait_for(lambda: self.logged("serving"), "the gateway serves")
            self.look_around()
        except BaseException:
            self.kill()
            raise
        self.url = str(line["websocket"])
        self.control_url = str(line["control"])
        self.public_port = int(self.url.split(":")[2].split("/")[0])
        self.public_url = f"http://127.0.0.1:{self.public_port}"
        self.redis_url = config.get("redis", {}).get("url") or f"unix://{self.redis_folder}/redis.sock"

    # What it says.

    def logged(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Log lines of any of its processes with that event and these fields, oldest first."""
        lines = [json.loads(line) for line in self.log.seen if line.startswith("{")]
        return [
            line
            for line in lines
            if line["event"] == event and all(line.get(name) == value for name, value in fields.items())
        ]

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of `name` that have these labels, at this moment."""
        text = self._http.get(f"{self.control_url}/metrics").raise_for_status().text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def get(self, url: str) -> httpx.Response:
        """One GET on a connection of its own, which the kernel may hand to any worker."""
        return httpx.get(url, trust_env=False, timeout=10)

    def call_api(self, method: str, **request: Any) -> httpx.Response:
        """One call of the HTTP API on the control port."""
        return self._http.post(f"{self.control_url}/api/{method}", json=request, headers={"X-API-Key": API_KEY})

    def ready(self) -> tuple[int, str]:
        """What a worker answers to `/health/ready` on the public port."""
        answer = self.get(f"{self.public_url}/health/ready")
        return answer.status_code, answer.text

    def worker_of(self, client_id: str) -> str:
        """Name of the worker that has the client, from the line that it wrote when the client connected."""
        lines = self.log.wait_for(
            lambda: self.logged("connection opened", client=client_id), f"a log line for the client {client_id}"
        )
        return str(lines[0]["process"])

    # Its processes.

    def pid(self, worker: str) -> int:
        """Of the process that was started last as `edge-1` … or `control`."""
        return int(self.logged("worker started", worker=worker)[-1]["pid"])

    def look_around(self) -> list[psutil.Process]:
        """Find its processes; those that are running."""
        for process in (psutil.Process(self.process.pid), *descendants(self.process.pid)):
            if process not in self.family:
                self.family.append(process)
        return self.alive()

    def alive(self) -> list[psutil.Process]:
        """Processes of it that are running."""
        return [process for process in self.family if is_running(process)]

    @property
    def redis_folder(self) -> Path:
        """Folder of its embedded Redis, if it has one."""
        return embedded_folder(self.public_port)

    # Its Redis and its secret.

    @cached_property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url)

    def publish(self, channel: str, data: object) -> int:
        """Publish as a backend does, with plain PUBLISH; the number of workers that got it."""
        return self.publish_raw(channel, json.dumps(data).encode())

    def publish_logged(self, channel: str, data: object, *, size: int = 5000, ttl_s: int = 300) -> Position:
        """Publish with history, as a backend in any language does: by the script of the Redis contract."""
        keys = (f"gw:log:{channel}", f"gw:meta:{channel}")
        arguments = (f"gw:pub:{channel}", json.dumps(data), "-", size, ttl_s * 1000, 86_400_000, os.urandom(4).hex(), 0)
        offset, epoch, fresh = self.redis.eval(source("publish"), len(keys), *keys, *arguments, 0, "")
        assert fresh == 1
        return Position(offset=offset, epoch=epoch.decode())

    def publish_raw(self, channel: str, payload: bytes) -> int:
        """The same, with any bytes."""
        received: Any = self.redis.publish(f"gw:pub:{channel}", payload)
        return int(received)

    def token(self, user: str, *, ttl_s: float | None = 3600, **options: Any) -> str:
        """A token of this gateway's own making. Options as those of `gateway.auth.sign_token`."""
        return sign_token(SECRET, user=user, issued_at=time.time(), ttl_s=ttl_s, **(self.token_options | options))

    # Its end.

    def reload(self, config: Mapping[str, Section] | str) -> None:
        """Write a new configuration, over the defaults or as it is, and send SIGHUP."""
        self.config_file.write_text(config if isinstance(config, str) else to_toml(with_defaults(config)))
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> list[str]:
        """SIGTERM. Asserts that it ends with status 0 and takes everything with it; what it has logged."""
        self.look_around()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(DEADLINE_S)
        assert status == 0, f"ended with {status}\n" + "\n".join(self.log.seen[-40:])
        psutil.wait_procs(self.family, DEADLINE_S)
        assert not self.alive()
        self.log.join()
        return self.log.seen

    def kill(self) -> None:
        """End everything that is left of it. Each process by its own id."""
        kill_all(self.process, self.family)
        self.log.join()
        shutil.rmtree(self.config_file.parent, ignore_errors=True)
        self._http.close()
        if "redis" in self.__dict__:
            self.redis.close()

    def unexpected(self) -> list[str]:
        """Lines in the log that no healthy gateway writes: errors that were not announced, and what is no JSON."""
        found = []
        for line in self.log.seen:
            entry = json.loads(line) if line.startswith("{") else {"level": "error", "event": ""}
            if entry["level"] == "error" and entry["event"] not in self.allowed_errors:
                found.append(line)
        return found


@contextlib.contextmanager
def serving(config: Mapping[str, Section] | None = None, *, behind: Sequence[str] = ()) -> Iterator[Gateway]:
    """A gateway with `config` over the defaults. At the end it is stopped with SIGTERM, unless the test has done so."""
    gateway = Gateway(with_defaults(config or {}), behind=behind)
    try:
        yield gateway
        if gateway.process.poll() is None:
            gateway.stop()
        unexpected = gateway.unexpected()
        assert not unexpected, unexpected
    finally:
        gateway.kill()


def with_defaults(config: Mapping[str, Section]) -> dict[str, Section]:
    """`config` section by section over DEFAULTS."""
    return {name: {**DEFAULTS.get(name, {}), **config.get(name, {})} for name in {**DEFAULTS, **config}}


def to_toml(config: Mapping[str, Section]) -> str:
    """JSON values are TOML values, apart from objects, which become tables here."""
    lines: list[str] = []
    for name, section in config.items():
        tables = {key: value for key, value in section.items() if isinstance(value, Mapping)}
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in section.items() if key not in tables]
        for key, table in tables.items():
            lines.append(f"[{name}.{key}]")
            lines += [f"{inner} = {json.dumps(value)}" for inner, value in table.items()]
    return "\n".join(lines) + "\n"


def encode_token(claims: Mapping[str, Any], key: Any = SECRET, algorithm: str = "HS256", **header: str) -> str:
    """Any token, also one that a careful issuer would not make. Without `iat` and `exp` unless `claims` has them."""
    return jwt.encode(dict(claims), key, algorithm=algorithm, headers=header or None)
