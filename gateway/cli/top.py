"""`top`: what the dashboard shows, in a terminal. Asks the control port of a gateway once a second.

The numbers are made by the gateway (`GET /dashboard/state`); here they are only laid out. The key travels in a header,
never in the URL.
"""
# ruff: noqa: PLC0415 - what a command needs is imported inside it: `token` must not wait for what `serve` needs

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.banner import address
from gateway.cli.options import ConfigFile, fail, load

if TYPE_CHECKING:
    import httpx
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

TIMEOUT_S: Final = 5.0
SLOW_SHOWN: Final = 6
GOOD_STATES: Final = ("ready", "connected")
PLAIN_LEVEL: Final = 0
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")

State = Mapping[str, Any]


def top(
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Control port, http://host:9000.", show_default=False)
    ] = None,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two frames.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    config: ConfigFile = None,
) -> None:
    """Show what a gateway does: connections, rates, latencies, memory, workers, Redis.

    The key comes from \\[control] api_keys of --config, or from GATEWAY_CONTROL__API_KEYS.
    """
    import httpx
    from rich.console import Console
    from rich.live import Live

    control = load(config, {}, to_serve=False).config.control
    base = (url or f"http://{address(control.host, control.port)}").rstrip("/")
    if not base.startswith(("http://", "https://")):
        fail(f'--url: "{base}" is no URL: write http://host:9000', 2)
    headers = {"X-API-Key": control.api_keys[0]} if control.api_keys else {}
    console = Console(highlight=False)
    with httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
        state = _ask(client, base)
        if once:
            console.print(frame(state))
            return
        try:
            with Live(frame(state), console=console, screen=console.is_terminal, auto_refresh=False) as live:
                while True:
                    time.sleep(interval)
                    live.update(_next_frame(client, base, state), refresh=True)
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


def _ask(client: httpx.Client, base: str) -> State:
    """The state. Ends the command, in words, when there is none."""
    import httpx

    try:
        answer = client.get("/dashboard/state")
    except httpx.ConnectError:
        fail(f"nothing listens at {base}: name the gateway's control port with --url or --config")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"{base} does not answer: {str(error) or type(error).__name__}")
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        if "x-api-key" not in client.headers:
            fail("a key is needed: set GATEWAY_CONTROL__API_KEYS, or api_keys under [control] in the file of --config")
        fail(f"{base} does not accept the key: it needs one of control.api_keys, as it is configured there")
    try:
        answer.raise_for_status()
        state = answer.json()
        frame(state)
    except (httpx.HTTPStatusError, ValueError, LookupError, TypeError):
        fail(f"{base} is no control port of this version of nexus-gateway (status {answer.status_code})")
    found: State = state
    return found


def _next_frame(client: httpx.Client, base: str, before: State) -> Group:
    """A new frame; while the gateway does not answer, the last one, with that said above it."""
    import httpx
    from rich.console import Group
    from rich.text import Text

    try:
        answer = client.get("/dashboard/state")
    except httpx.HTTPError:
        gone = f"{base} does not answer; this is from {_clock(before['time'])}"
        return Group(Text(gone, style="bold red"), frame(before))
    if not answer.is_success:
        return Group(Text(f"{base} answers with status {answer.status_code}", style="bold red"), frame(before))
    return frame(answer.json())


def frame(state: State) -> Group:
    """One document, laid out."""
    from rich.console import Group
    from rich.text import Text

    redis = state["redis"]
    lines: list[Text | Table] = [_heading(state)]
    problems = list(state["problems"])
    if redis["state"] == "away":
        since = f"Redis is away since {_clock(redis['away_since'])}"
        problems.insert(0, f"{since}: clients stay connected and hear nothing new")
    lines += [Text(f"! {problem}", style="bold red") for problem in problems]
    lines += [_now(state), Text(), _workers(state["workers"]), Text(), _latency(state["latency"])]
    if state["tallies"]:
        tallies = (f"{each['kind']} {each['reason']} {each['total']:,}" for each in state["tallies"])
        lines += [Text(), Text("   ".join(tallies), style="yellow")]
    if state["slow"]:
        lines += [Text(), _slow(state["slow"][:SLOW_SHOWN], state["time"])]
    return Group(*lines)


def _heading(state: State) -> Text:
    from rich.text import Text

    status = state["status"]
    colour = {"ready": "green", "degraded": "yellow"}.get(status, "red")
    return Text.assemble(
        ("nexus-gateway ", "bold"), f"{state['version']}  {_clock(state['time'])}  ", (status, f"bold {colour}")
    )


def _now(state: State) -> Table:
    from rich.table import Table

    rates = state["rates"] or {}
    memory, redis, slow = state["memory"], state["redis"], state["slow_consumers"]

    def rate(name: str) -> str:
        return f"{rates[name]:,.1f}/s" if name in rates else "-"

    def flow(name: str) -> str:
        return f"{size(rates[name])}/s" if name in rates else "-"

    used = "not measured"
    if memory:
        limit = memory["limit_bytes"]
        used = f"{size(memory['used_bytes'])} of {size(limit)}" if limit else size(memory["used_bytes"])
        if memory["level"] > PLAIN_LEVEL:
            used += f" ({memory['level_in_words']})"
    table = Table.grid(padding=(0, 2))
    rows = (
        ("connections", f"{state['connections']:,}", "messages in", rate("publications"), "memory", used),
        ("users", f"{state['users']:,}", "deliveries", rate("deliveries"), "redis", _redis(redis)),
        ("channels", f"{state['channels']:,}", "commands", rate("commands"), "queued", size(state["queued_bytes"])),
        (
            "subscriptions",
            f"{state['subscriptions']:,}",
            "bytes out",
            flow("bytes_out"),
            "behind",
            f"{slow['behind']:,}",
        ),
    )
    for row in rows:
        table.add_row(*(f"[dim]{cell}[/dim]" if index % 2 == 0 else cell for index, cell in enumerate(row)))
    return table


def _redis(redis: State) -> str:
    if redis["state"] == "partly":
        return f"{redis['connected']} of {redis['workers']} workers connected"
    return str(redis["state"])


def _workers(workers: list[State]) -> Table:
    table = _table("worker", "state", "connections", "channels", "memory", "age", "restarts", "heartbeat")
    for each in workers:
        state = each["state"].replace("_", " ")
        table.add_row(
            each["name"],
            f"[{'green' if each['state'] in GOOD_STATES else 'red'}]{state}[/]",
            f"{each['connections']:,}",
            f"{each['channels']:,}",
            size(each["memory_bytes"]),
            span(each["age_s"]),
            f"{each['restarts']:,}",
            f"{each['heartbeat_age_ms'] / 1000:.1f} s",
        )
    return table


def _latency(operations: list[State]) -> Table:
    table = _table("operation, ms", "count", "avg", "p50", "p90", "p95", "p99", "max")
    for each in operations:
        cells = (f"{each[f'{name}_ms']:.2f}" for name in ("avg", "p50", "p90", "p95", "p99", "max"))
        table.add_row(each["operation"], f"{each['count']:,}", *cells)
    if not operations:
        table.add_row("none in the last minute")
    return table


def _slow(entries: list[State], now: float) -> Table:
    table = _table("slow operation", "ms", "ago", "process", left=("channel", "user"))
    for each in entries:
        numbers = (f"{each['duration_ms']:.0f}", span(now - each["time"]), each["process"])
        table.add_row(each["operation"], *numbers, _plain(each["channel"]), _plain(each["user"]))
    return table


def _table(first: str, *others: str, left: tuple[str, ...] = ()) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    for name in left:
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    return table


def _plain(text: str) -> str:
    """What others have chosen, without what a terminal or `rich` would take for more than text."""
    from rich.markup import escape

    return escape("".join(character if character.isprintable() else "?" for character in text))


def size(count: float) -> str:
    """Bytes, for people."""
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.1f} {UNITS[unit]}" if unit and count < 10 else f"{count:.0f} {UNITS[unit]}"


def span(seconds: float) -> str:
    """A time that has passed, for people."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole < 172_800 else f"{whole // 86_400} days"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
