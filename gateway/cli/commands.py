"""Every command, registered under its name."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway import __version__
from gateway.cli import configuration, outbox, serving, tools, top

app = typer.Typer(
    name="nexus-gateway",
    help="A WebSocket gateway: Redis channels to browsers and phones, speaking the Centrifuge protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, secrets among them
)
app.command()(serving.serve)
app.command()(serving.demo)
app.command()(tools.token)
app.command()(tools.publish)
app.command()(top.top)
app.add_typer(configuration.app, name="config")
app.add_typer(outbox.app, name="outbox")


def main() -> None:
    """Entry point of the command."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nexus-gateway {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Options in front of the command."""
