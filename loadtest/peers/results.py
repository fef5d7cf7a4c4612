"""Measurements → what the tables say. Pure.

Ratios compare with the gateway in the same run and, where there are rounds, in the same round: the median of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.bench.results import CLIENT_BOUND, Measured
from loadtest.bench.stalling import Stalled
from loadtest.bench.stats import median

GATEWAY: Final = "gateway"
FLOOR: Final = "floor"
"""No server to take instead: it compares, it does not compete."""
SAME: Final = 0.05
"""Ratios that are less than this from 1 say nothing."""
KIB_IN_MIB: Final = 1024
SLOWED: Final = 0.67
"""Readers who get less than this share of their messages a second because others do not read, are slowed down."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of one server, None when it was not measured.

    `ratio` is the gateway's over it (None for the gateway itself, or without a gateway); `bound` = the generator's core
    was busy, so the server may be better than this; `lost` = the gateway is clearly worse.
    """

    value: float | None
    ratio: float | None = None
    bound: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """What is compared: its heading, its unit, and whether more of it is better."""

    heading: str
    unit: str
    digits: int
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class PeerRow:
    """Everything of one server, by the headings of `columns`. `empty_mib` is its memory without connections."""

    server: str
    empty_mib: float
    figures: dict[str, Figure]


OPENING: Final = Column("clients/s", "", 0, more_is_better=True)
MEMORY: Final = Column("RSS per connection", " KiB", 1)
LATENCIES: Final = (Column("p50", " ms", 1), Column("p99", " ms", 1), Column("p99.9", " ms", 1))


def cost(messages: int) -> Column:
    """CPU per delivery, `messages` a pass."""
    return Column(f"CPU per delivery, {messages} a pass", " µs", 2)


def columns(passes: Sequence[int]) -> list[Column]:
    """All, in the order of the table."""
    return [OPENING, MEMORY, *map(cost, passes), *LATENCIES]


def rows_of(measured: Sequence[Measured], passes: Sequence[int]) -> list[PeerRow]:
    """One row for each server, in the order given."""
    gateway = next((one for one in measured if one.server == GATEWAY), None)
    ours = {} if gateway is None else _values(gateway, passes)
    rows = []
    for one in measured:
        theirs, bound = _values(one, passes), _bound(one)
        compared = {} if one is gateway else ours
        figures = {
            column.heading: _figure(
                column, theirs[column.heading], compared.get(column.heading, []), column.heading in bound,
                is_rival=not one.server.startswith((GATEWAY, FLOOR)),
            )
            for column in columns(passes)
        }  # fmt: skip
        if one.server == FLOOR:
            figures[MEMORY.heading] = Figure(None)
        rows.append(PeerRow(one.server, one.empty_kib / KIB_IN_MIB, figures))
    return rows


def _values(one: Measured, passes: Sequence[int]) -> dict[str, list[float]]:
    """What was measured, by heading, one value a round."""
    latencies = one.latencies.get(1, [])
    return {
        OPENING.heading: [one.handshakes_per_s, *one.reopened_per_s],
        MEMORY.heading: [one.rss_kib_per_connection],
        **{cost(messages).heading: [seen.cpu_us for seen in one.costs.get(messages, [])] for messages in passes},
        "p50": [seen.p50_ms for seen in latencies],
        "p99": [seen.p99_ms for seen in latencies],
        "p99.9": [seen.p999_ms for seen in latencies],
    }


def _bound(one: Measured) -> set[str]:
    """Headings of the figures that the generator may have limited."""
    shares = {
        cost(messages).heading: median(seen.client_share for seen in costs) for messages, costs in one.costs.items()
    } | {OPENING.heading: one.handshake_client_share}
    return {heading for heading, share in shares.items() if share is not None and share >= CLIENT_BOUND}


def _figure(column: Column, values: list[float], ours: list[float], bound: bool, *, is_rival: bool) -> Figure:
    """The median of `values`, and that of the ratios within the rounds."""
    ratio = median(mine / theirs for mine, theirs in zip(ours, values, strict=False) if theirs > 0)
    if ratio is None:
        return Figure(median(values), None, bound)
    lost = is_rival and (ratio < 1 - SAME if column.more_is_better else ratio > 1 + SAME)
    return Figure(median(values), ratio, bound, lost)


def losses(rows: Sequence[PeerRow]) -> list[str]:
    """Where the gateway is clearly worse: one line a server."""
    found = []
    for row in rows:
        lost = [f"{heading} {figure.ratio:.2f} ×" for heading, figure in row.figures.items() if figure.lost]
        if lost:
            found.append(f"{row.server}: {', '.join(lost)}")
    return found


def kept_kib(stalled: Stalled) -> float:
    """Memory that each client that does not read costs the server, in KiB."""
    return max(0.0, (stalled.rss_peak_kib - stalled.rss_before_kib) / stalled.stalled)


def slowdown(stalled: Stalled) -> float:
    """Messages a second of those who read, as a share of what they had while all did."""
    return stalled.per_s / stalled.before_per_s if stalled.before_per_s else 0.0


def outcome(stalled: Stalled) -> str:
    """What became of the clients that did not read, and of the others, in words."""
    closed = stalled.stalled - stalled.still_open
    due = stalled.still_open * stalled.published
    words = []
    if closed:
        words.append("disconnected" if closed == stalled.stalled else f"{closed} of {stalled.stalled} disconnected")
    if due and stalled.received >= due:
        words.append("everything queued, delivered later")
    elif due:
        words.append(f"{1 - stalled.received / due:.0%} of their messages skipped")
    if stalled.blocked:
        words.append("all others wait for them")
    elif slowdown(stalled) < SLOWED:
        words.append(f"the others get {slowdown(stalled):.0%} of their messages a second")
    return "; ".join(words)
