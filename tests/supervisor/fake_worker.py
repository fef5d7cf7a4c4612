"""A worker without a gateway in it. Leaves a file for each thing that happens to it in the folder `FAKE_WORKERS`.

How it behaves is in `FAKE_BEHAVIOUR`: words like `edge-1:unready`, separated by blanks.

    refuse    ends at once with a StartupError        unready   never says that it is ready
    stubborn  does not end when it is asked to        busy      blocks its event loop once it is ready
    flaky     ends at once from its second start on   silent  closes its link and goes on
    stalls    is not ready from its second start on        listens  has a listening socket to hand over
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path

from gateway.config import Config
from gateway.errors import StartupError
from gateway.metrics import CounterTable, names
from gateway.processes import WorkerEnd
from gateway.workers.link import run_worker


async def main(link: WorkerEnd, config: Config) -> None:
    spec = link.spec
    folder = Path(os.environ["FAKE_WORKERS"])
    behaviour = os.environ.get("FAKE_BEHAVIOUR", "").split()

    def note(what: str, content: object = "") -> None:
        part = folder / f".{what}-{os.getpid()}"
        part.write_text(json.dumps(content))
        part.rename(folder / f"{what}-{spec.name}-{os.getpid()}")

    def was_started_before() -> bool:
        return any(folder.glob(f"started-{spec.name}-*"))

    def behaves(how: str) -> bool:
        return f"{spec.name}:{how}" in behaviour

    stalls = behaves("stalls") and was_started_before()
    if behaves("refuse") or (behaves("flaky") and was_started_before()):
        note("refused", time.monotonic())
        raise StartupError("the fake worker refuses to start")
    note("started", {"config": config.model_dump(mode="json"), "environment": dict(os.environ), "argv": sys.argv})
    if spec.kind == "edge":
        row = CounterTable(spec.counters_fd, spec.counters_rows).row(spec.slot)
        row[names.PID] = os.getpid()
        row[names.CONNECTIONS] = 7
        row[names.OPENED] += 7
        note("counters", list(row))
    if behaves("unready") or stalls:
        await link.stop.wait()
        return
    if behaves("listens"):
        listening = [socket.create_server(("127.0.0.1", 0))] if not spec.listening else []
        link.listening = lambda: listening
    link.ready()
    if behaves("busy"):
        time.sleep(60)  # noqa: ASYNC251 - that is the point
    if behaves("silent"):
        await link.aclose()
        await asyncio.Event().wait()
    await link.stop.wait()
    note(
        "stopping",
        {
            "window_s": link.drain.window_s,
            "succeeded": link.drain.succeeded,
            "handed_over": link.drain.handed_over,
            "at": time.monotonic(),
        },
    )
    if behaves("stubborn"):
        await asyncio.Event().wait()


if __name__ == "__main__":
    run_worker(main)
