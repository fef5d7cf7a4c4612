"""Options that several commands have, and how a command fails."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gateway.config import LoadedConfig, read_config
from gateway.errors import ConfigError

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="TOML file.", show_default=False)
]
Host = Annotated[str | None, typer.Option(help="Address of the public port.", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Public port; 0 = any free one.", show_default=False)]
Workers = Annotated[int | None, typer.Option(help="Edge worker processes; 0 = one per core.", show_default=False)]
ControlHost = Annotated[str | None, typer.Option(help="Address of the control port.", show_default=False)]
ControlPort = Annotated[int | None, typer.Option(help="Control port; 0 = any free one.", show_default=False)]
RedisUrl = Annotated[str | None, typer.Option(metavar="URL", help="Redis; empty = embedded.", show_default=False)]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default=False)]
LogFormat = Annotated[str | None, typer.Option(help="auto, json or console.", show_default=False)]


def load(
    path: Path | None, flags: Mapping[str, object], *, presets: Mapping[str, Any] | None = None, to_serve: bool = True
) -> LoadedConfig:
    """The configuration; with problems, all of them on standard error and exit status 2."""
    try:
        return read_config(path, environ=os.environ, flags=flags, presets=presets, to_serve=to_serve)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(2) from None


def fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)
