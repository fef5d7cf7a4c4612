"""`config check`, `config show`, `config env` and `config reference`."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it: `token` must not wait for what `serve` needs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import ConfigFile, load
from gateway.config import warnings

app = typer.Typer(help="Look at the configuration without serving.", no_args_is_help=True)


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="TOML file.", show_default=False)] = None,
) -> None:
    """Name every problem of a file and of the environment, each with its place. Exit status 2 if there is one."""
    loaded = load(file, {})
    typer.echo("The configuration is valid.")
    for warning in (*loaded.warnings, *warnings(loaded.config)):
        typer.echo(f"warning: {warning}", err=True)


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
