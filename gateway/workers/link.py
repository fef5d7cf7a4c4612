"""The entry point that both kinds of worker share: link, configuration, logging, signals, exit status.

    if __name__ == "__main__":
        run_worker(main)

`main` builds and wires the worker. It calls `link.ready()` once it serves, waits for `link.stop`, drains over
`link.drain.window_s` and returns. The rule that is easiest to break: it must not return, nor let a part of it end,
before `link.stop` is set; the supervisor takes that as a crash and says so.

SIGINT is ignored: Ctrl-C is the supervisor's to decide. (Workers run in a session of their own and do not get the
terminal's signals anyway.) SIGTERM drains, for those who send it to every process at once, as systemd does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import uvloop

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.log import configure_logging, get_logger
from gateway.processes import Drain, WorkerEnd

Main = Callable[[WorkerEnd, Config], Coroutine[Any, Any, None]]

EXIT_STOPPED = 0
EXIT_FAILED = 1


def run_worker(main: Main) -> NoReturn:
    """Run `main` with the link that `--link-fd` names, on uvloop, until it returns. Ends the process.

    Status 0 when the worker was asked to stop, else 1, with the reason logged and sent to the supervisor. The
    interpreter is not taken apart module by module: all that the worker had is closed by then, and on a busy machine
    that took longer than the supervisor waits for a worker that has hung up.
    """
    parser = argparse.ArgumentParser(description="A worker of nexus-gateway. Started by `nexus-gateway serve` only.")
    parser.add_argument("--link-fd", type=int, required=True, help="socket to the supervisor")
    fd = parser.parse_args().link_fd
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_run(fd, main))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


async def _run(fd: int, main: Main) -> int:
    try:
        link = await WorkerEnd.open(fd)
    except ConnectionError:
        return EXIT_FAILED  # the supervisor is gone: nobody to tell, and no logging yet
    try:
        return await _run_linked(link, main)
    finally:
        await link.aclose()


async def _run_linked(link: WorkerEnd, main: Main) -> int:
    config = Config.model_validate(link.spec.config)
    configure_logging(config.log, process=link.spec.name)
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM,
        link.request_stop,
        Drain(config.server.drain_window_s if link.spec.kind == "edge" else 0.0),
    )
    try:
        await main(link, config)
    except Exception as error:  # noqa: BLE001 - the process ends with it; reported in full
        _report(link, error)
        return EXIT_FAILED
    if not link.stop.is_set():
        _report(link, GatewayError("ended without having been asked to"))
        return EXIT_FAILED
    return EXIT_STOPPED


def _report(link: WorkerEnd, error: Exception) -> None:
    """Log why the worker ends and tell the supervisor. Our own errors explain themselves, others need a traceback."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    ours = isinstance(error, GatewayError)
    reason = str(error) if ours else f"{type(error).__name__}: {error}"
    get_logger().error("worker failed", reason=reason, exc_info=None if ours else error)
    link.failed(reason)
