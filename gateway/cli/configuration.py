"""`config check`, `config init`, `config show`, `config env` and `config reference`."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it: `token` must not wait for what `serve` needs

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import ConfigFile, fail, load
from gateway.config import Config, warnings
from gateway.config.templates import Purpose

app = typer.Typer(help="Look at the configuration without serving.", no_args_is_help=True)


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="TOML file.", show_default=False)] = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also try Redis, the database, the key set and the hooks from here.")
    ] = False,
) -> None:
    """Name every problem of a file and of the environment, each with its place.

    Exit status 2 if there is a problem, 1 if --connect cannot reach something.
    """
    loaded = load(file, {})
    typer.echo("The configuration is valid.")
    for warning in (*loaded.warnings, *warnings(loaded.config)):
        typer.echo(f"warning: {warning}", err=True)
    if connect and not asyncio.run(_probe(loaded.config)):
        raise typer.Exit(1)


async def _probe(config: Config) -> bool:
    """Whether everything can be reached; says what was found."""
    from gateway.cli.connectivity import probe

    sys.path.insert(0, "")  # handlers are imported from where `serve` would be started
    reached = True
    async for what, problem, detail in probe(config):
        typer.echo(f"error: {what}: {problem}" if problem else f"{what}: {detail}", err=bool(problem))
        reached = reached and not problem
    return reached


@app.command("init")
def init(
    purpose: Annotated[Purpose, typer.Option("--for", help="What the gateway is for.")] = "chat",
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="File to write; must not exist.", show_default=False)
    ] = None,
) -> None:
    """Write a commented configuration to start from, to a new file or to standard output."""
    from gateway.config.templates import template

    text = template(purpose)
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as new:
            new.write(text)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    typer.echo(f"{file} is written. Set the secrets that it names, then: nexus-gateway config check --connect {file}")


@app.command("show")
def show(config: ConfigFile = None) -> None:
    """Print the configuration in effect as TOML, each value with where it comes from. Secrets are masked."""
    from gateway.config.show import as_toml

    typer.echo("\n".join(as_toml(load(config, {}, to_serve=False))))


@app.command("env")
def env() -> None:
    """Print every environment variable with its default and its meaning."""
    from gateway.config.show import as_variables

    typer.echo("\n".join(as_variables()))


@app.command("reference")
def reference() -> None:
    """Print every section and key with its values, default and meaning, as Markdown."""
    from gateway.config.reference import as_markdown

    typer.echo("\n".join(as_markdown()).strip())
