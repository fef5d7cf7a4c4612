"""Clients that stop reading, on a fresh server each: see `loadtest.bench.stalling`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from loadtest.bench.lanes import check_served
from loadtest.bench.link import Link
from loadtest.bench.servers.registry import Starter
from loadtest.bench.servers.server import Surroundings
from loadtest.bench.stalling import Stalled
from loadtest.bench.usage import steady_rss_kib
from loadtest.peers.plan import StallPlan


def measure_stalled(name: str, start: Starter, around: Surroundings, plan: StallPlan) -> Stalled:
    """Start a server, connect, measure, stop it. Raises `BenchError`."""
    with ExitStack() as stack:
        server = start(around)
        stack.callback(server.stop)
        link = Link.start(f"{name}-stalled", around.cores.client, around.folder)
        stack.callback(link.stop)
        link.ask("setup", **server.target)
        check_served(link.ask("open", count=plan.readers, in_flight=plan.readers))
        flow: dict[str, Any] = {"a_pass": plan.a_pass, "message_bytes": plan.message_bytes}
        before = link.ask("flow", messages=plan.before, **flow)
        check_served(link.ask("open", count=plan.stalled, in_flight=plan.stalled, receive_bytes=plan.receive_bytes))
        steady_rss_kib(server.tree())
        answer = link.ask(
            "stalled",
            pids=server.tree(),
            before_per_s=before["per_s"],
            stalled=plan.stalled,
            messages=plan.messages,
            **flow,
        )
        return Stalled(**answer)
