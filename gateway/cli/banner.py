"""What `demo` says once it serves: addresses, a token, and three lines to try, as this user can type them."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it: `token` must not wait for what `serve` needs

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.clock import SystemClock
from gateway.config import Config
from protocol import WEBSOCKET_PATH

if TYPE_CHECKING:
    from gateway.supervisor import Serving

DEMO_USER = "demo"
DEMO_TOKEN_TTL_S = 86_400.0


def print_demo(config: Config, serving: Serving) -> None:
    from rich.console import Console
    from rich.markup import escape

    from gateway.auth import sign_token

    control = f"http://{address(serving.control_host, serving.control_port)}"
    token = ""
    if config.auth.hmac_secret:
        token = sign_token(
            config.auth.hmac_secret,
            user=DEMO_USER,
            issued_at=SystemClock().time(),
            ttl_s=DEMO_TOKEN_TTL_S,
            audience=config.auth.audience,
            issuer=config.auth.issuer,
        )
    data = '{"text": "hello"}'
    port = "" if serving.public_port == Config().server.port else f" --port {serving.public_port}"
    key = config.control.api_keys[0] if config.control.api_keys else ""
    body = f'{{"channel": "feed", "data": {data}}}'
    lines = [
        "",
        f"[bold]nexus-gateway {__version__}[/bold] serves a demo with {serving.workers} worker(s). Ctrl-C ends it.",
        "",
        f"  Demo page   [bold cyan]{control}/demo[/bold cyan]",
        f"  Ask page    [bold cyan]{control}/demo/ask[/bold cyan]",
        f"  WebSocket   {websocket_url(config, serving)}",
        f"  HTTP API    {control}/api/publish",
        f'  Token       for user "{DEMO_USER}", 24 hours:',
        token,
        "",
        "[bold]Three lines to try[/bold], the last two in another terminal:",
        "",
        f"  open {control}/demo in two browser tabs",
        f"  {escape(program())} publish{port} feed {shlex.quote(data)}",
        f"  curl -H 'X-API-Key: {key}' -d {shlex.quote(body)} {control}/api/publish",
        "",
    ]
    console = Console(highlight=False, soft_wrap=True)
    console.print("\n".join(lines))
    sys.stdout.flush()


def websocket_url(config: Config, serving: Serving) -> str:
    """Where clients connect."""
    scheme = "wss" if config.server.tls_cert else "ws"
    return f"{scheme}://{address(serving.public_host, serving.public_port)}{WEBSOCKET_PATH}"


def address(host: str, port: int) -> str:
    """How to reach on this machine what listens on `host`."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1" if host != "::" else "::1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def program() -> str:
    """How the user can type this program's name, from how it was started."""
    started = sys.argv[0]
    if os.path.basename(started) == "__main__.py":
        return f"{_typed_path(sys.executable)} -m gateway"
    on_path = shutil.which(os.path.basename(started))
    if on_path and os.path.realpath(on_path) == os.path.realpath(started):
        return os.path.basename(started)
    return _typed_path(started)


def _typed_path(path: str) -> str:
    relative = os.path.relpath(path)
    return shlex.quote(
        path if relative.startswith("..") else os.path.join("." if os.sep not in relative else "", relative)
    )
