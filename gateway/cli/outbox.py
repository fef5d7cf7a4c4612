"""`outbox init`, `outbox status`, `outbox dead` and `outbox replay`."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it: `token` must not wait for what these need

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from gateway.cli.options import ConfigFile, fail, load
from gateway.config import Outbox
from gateway.errors import SqlError

if TYPE_CHECKING:
    from gateway.storage.sql import Database

T = TypeVar("T")

app = typer.Typer(help="The outbox in your database: [outbox] url says where.", no_args_is_help=True)


@app.command("init")
def init(
    config: ConfigFile = None,
    show: Annotated[bool, typer.Option("--print", help="Print the statements, change nothing.")] = False,
    dialect: Annotated[
        Literal["postgresql", "sqlite"] | None,
        typer.Option(help="With --print: for which database, if none is configured.", show_default=False),
    ] = None,
    notify: Annotated[
        bool, typer.Option(help="PostgreSQL: a trigger that wakes relays at each commit; else they look.")
    ] = True,
) -> None:
    """Make the table, its indexes and its trigger. Harmless where they are there."""
    from gateway.relay.schema import create, script

    if show:
        settings = load(config, {}, to_serve=False).config.outbox
        if not settings.url and dialect is None:
            fail("for which database? Say --dialect postgresql or --dialect sqlite, or set [outbox] url", 2)
        typer.echo(
            script(sqlite=settings.is_sqlite if dialect is None else dialect == "sqlite", notify=notify), nl=False
        )
        return
    name = _with_database(config, lambda database: _made(create(database, notify=notify), database.name))
    typer.echo(f"The outbox is ready in {name}.")


@app.command("status")
def status(config: ConfigFile = None) -> None:
    """Print how many rows wait, how old the oldest is, and how many are dead. Exit status 1 if some are."""
    from gateway.relay.administration import figures
    from gateway.relay.postgresql import COUNT_LIMIT

    found = _with_database(config, figures)
    for name, count in (("waiting", found.waiting), ("dead", found.dead)):
        typer.echo(f"{name} {count}{' or more' if count == COUNT_LIMIT else ''}")
    typer.echo(f"oldest {found.oldest_s:.1f} s")
    raise typer.Exit(1 if found.dead else 0)


@app.command("dead")
def dead(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many, the newest.")] = 50,
    config: ConfigFile = None,
) -> None:
    """List dead letters: event id, channel, attempts, when, and why."""
    from gateway.relay.administration import dead_rows

    for row in _with_database(config, lambda database: dead_rows(database, limit)):
        typer.echo(
            f"{row.event_id}  {row.channel}  {row.attempts}  {row.dead.isoformat(timespec='seconds')}  {row.error}"
        )


@app.command("replay")
def replay(
    event_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[EVENT_ID]…", help="Dead letters.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    config: ConfigFile = None,
) -> None:
    """Let dead letters be published after all, once what was wrong is mended."""
    from gateway.relay.administration import replay

    if bool(event_ids) == everything:
        fail("name the event ids, as `outbox dead` lists them, or say --all", 2)
    count = _with_database(config, lambda database: replay(database, None if everything else event_ids))
    typer.echo(f"{count} dead letter{'' if count == 1 else 's'} will be published again.")
    if event_ids and count < len(set(event_ids)):
        fail(f"{len(set(event_ids)) - count} of the event ids are no dead letters")


async def _made(making: Awaitable[None], name: str) -> str:
    await making
    return name


def _with_database(config: ConfigFile, use: Callable[[Database], Awaitable[T]]) -> T:
    settings = load(config, {}, to_serve=False).config.outbox
    if not settings.url:
        fail("no database is configured: set [outbox] url, or GATEWAY_OUTBOX__URL", 2)
    return asyncio.run(_use(settings, use))


async def _use(settings: Outbox, use: Callable[[Database], Awaitable[T]]) -> T:
    from gateway.relay.schema import is_missing
    from gateway.storage.sql import Database

    database = Database(settings)
    try:
        return await use(database)
    except SqlError as error:
        hint = "; `nexus-gateway outbox init` makes the table" if is_missing(error) else ""
        fail(f"{database.name}: {error}{hint}")
    finally:
        await database.aclose()
