"""What Locust loads: the users in the numbers of the plan, the generator's own health, and the verdict at the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
import orjson
from locust import events
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtest.load.api import ApiUser
from loadtest.load.health import Health, Watch
from loadtest.load.plan import Site
from loadtest.load.thresholds import THRESHOLDS, Figures, late, lost
from loadtest.load.users import Chatty, Idle, ManyChannels, Reconnecting, SlowReader, StreamWatcher

KINDS = (Idle, Chatty, SlowReader, Reconnecting, ManyChannels, StreamWatcher, ApiUser)
WANTED: Mapping[str, tuple[str, ...]] = {
    "Idle": ("connect", "subscribe", "connection", "delivery"),
    "Chatty": ("connect", "subscribe", "publish", "connection"),
    "SlowReader": ("slow reader catches up", "connection"),
    "Reconnecting": ("recovery", "connection"),
    "ManyChannels": ("subscribe to 100", "connection"),
    "StreamWatcher": ("first snapshot", "token stream", "connection"),
    "ApiUser": ("API",),
}
"""What each kind of user must have done."""


class Verdict:
    """Collects what the processes of Locust say of themselves, and judges at the end."""

    def __init__(self) -> None:
        self._watch = Watch(f"process {os.getpid()}", time.monotonic, time.process_time, gevent.sleep)
        self._healths: dict[str, Health] = {}

    def on_init(self, environment: Environment, **_: Any) -> None:
        """Every process: begin to watch it, unless it has no users."""
        if not isinstance(environment.runner, MasterRunner):
            self._watch = Watch(f"process {os.getpid()}", time.monotonic, time.process_time, gevent.sleep)
            self._healths = {"": self._watch.health}
            gevent.spawn(self._watch.run)

    def on_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:  # noqa: ARG002 - Locust's signature
        """A worker: tell the master."""
        health = self._watch.health
        data["health"] = {"process": health.process, "cpu": health.cpu, "lags_ms": health.lags_ms}

    def on_worker_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """The master: remember."""
        self._healths[client_id] = Health(**data["health"])

    def on_quitting(self, environment: Environment, **_: Any) -> None:
        """Master, or the only process: judge, write it down, set the exit code."""
        if isinstance(environment.runner, WorkerRunner):
            return
        if isinstance(environment.runner, LocalRunner):
            environment.runner.stop()  # users leave, and say how it was
        site = Site.from_environment()
        names = {name for kind, count in site.users.items() if count for name in WANTED[kind]}
        wanted = sorted(names - set(site.tolerated), key=list(THRESHOLDS).index)
        figures = {
            entry.name: Figures(
                entry.num_requests,
                entry.num_failures,
                entry.avg_response_time,
                entry.get_response_time_percentile(0.95) or 0.0,
            )
            for entry in environment.stats.entries.values()
        }
        excuses = [excuse for health in self._healths.values() if (excuse := health.excuse())]
        failures, delays = lost(figures, wanted), late(figures, wanted)
        if environment.runner is not None:
            failures += [f"{each['count']} × {each['msg']}" for each in environment.runner.exceptions.values()]
        healths = [{"process": h.process, "cpu": h.cpu, "lag_ms": h.lag_ms} for h in self._healths.values()]
        document = {"lost": failures, "late": delays, "excuse": "; ".join(excuses), "generators": healths}
        Path(site.verdict).write_bytes(orjson.dumps(document))
        environment.process_exit_code = 1 if failures or (delays and not excuses) else 3 if excuses else 0


def register() -> None:
    """Hand Locust its listeners, and tell each class how many of it there are."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell has started in the background
    verdict = Verdict()
    for event, listener in (
        (events.init, verdict.on_init),
        (events.report_to_master, verdict.on_report),
        (events.worker_report, verdict.on_worker_report),
        (events.quitting, verdict.on_quitting),
    ):
        event.add_listener(listener)  # type: ignore[no-untyped-call]
    site = Site.from_environment()
    ApiUser.host = f"http://{site.host}:{site.control_port}"
    for kind in KINDS:
        kind.fixed_count = site.users.get(kind.__name__, 0)


register()
