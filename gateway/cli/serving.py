"""`serve` and `demo`."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it: `token` must not wait for what `serve` needs

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import typer

from gateway.cli.banner import address, print_demo, websocket_url
from gateway.cli.options import (
    ConfigFile,
    ControlHost,
    ControlPort,
    Host,
    LogFormat,
    LogLevel,
    Port,
    RedisUrl,
    Workers,
    fail,
    load,
)
from gateway.config import Config, LoadedConfig, read_config, warnings
from gateway.errors import StartupError

if TYPE_CHECKING:
    from gateway.supervisor import Serving


def serve(
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    control_host: ControlHost = None,
    control_port: ControlPort = None,
    redis_url: RedisUrl = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C. SIGHUP reads the configuration again and rolls the workers, one by one."""
    flags = {
        "host": host,
        "port": port,
        "workers": workers,
        "control_host": control_host,
        "control_port": control_port,
        "redis_url": redis_url,
        "log_level": log_level,
        "log_format": log_format,
    }
    run(load(config, flags), lambda: read_config(config, environ=os.environ, flags=flags))


def demo(
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    control_host: ControlHost = None,
    control_port: ControlPort = None,
    log_level: LogLevel = None,
) -> None:
    """Serve with a demo page and everything made up for it: no configuration needed.

    Authentication is on, with a secret and an API key that are new with each start unless the environment has some.
    """
    flags = {
        "host": host,
        "port": port,
        "workers": workers,
        "control_host": control_host,
        "control_port": control_port,
        "log_level": log_level,
    }
    presets = {
        "auth": {"hmac_secret": secrets.token_urlsafe(32)},
        "control": {"demo": True, "api_keys": [secrets.token_urlsafe(18)]},
        "streams": {"enabled": True},
        "namespaces": {"chat": {"subscribe_by": "authenticated", "publish_by": "subscriber"}},
    }
    run(load(None, flags, presets=presets), demo=True)


def run(loaded: LoadedConfig, read_again: Callable[[], LoadedConfig] | None = None, *, demo: bool = False) -> NoReturn:
    from gateway.log import configure_logging, get_logger
    from gateway.supervisor import Supervisor

    config = loaded.config
    configure_logging(config.log, process="supervisor")
    log = get_logger()

    def warn(loaded: LoadedConfig) -> Config:
        for warning in (*loaded.warnings, *warnings(loaded.config)):
            log.warning("dangerous configuration", warning=warning)
        return loaded.config

    def reread() -> Config:
        return warn(read_again()) if read_again is not None else config

    warn(loaded)

    def say_ready(serving: Serving) -> None:
        if demo:
            print_demo(config, serving)
        else:
            log.info(
                "serving",
                websocket=websocket_url(config, serving),
                control=f"http://{address(serving.control_host, serving.control_port)}",
                workers=serving.workers,
                redis=f"embedded {serving.embedded}" if serving.embedded else "as configured",
            )

    supervisor = Supervisor(config, reread=reread if read_again is not None else None)
    try:
        code = asyncio.run(supervisor.run(say_ready))
    except StartupError as error:
        fail(str(error))
    raise typer.Exit(code)
