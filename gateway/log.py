"""Structured logs: JSON lines in production, colours on a terminal.

Levels: debug = protocol decisions, info = connections opened and closed and lifecycle, warning = a person should look,
error = something is broken. One line per connection opened and one closed, none per message. No secret is ever logged.
`configure_logging` is called once by each process's entry point; importing this module changes nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import select
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

    from gateway.config import Log


def configure_logging(settings: Log, *, process: str) -> None:
    """Send this process's log lines to standard error, with `process` (`supervisor`, `edge-1`, `control`) in each."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    level = getattr(logging, settings.level.upper())

    def name_process(_logger: object, _method: str, event: Any) -> Any:
        event["process"] = process
        return event

    def finish(_logger: object, method: str, event: Any) -> bytes:
        """All of a JSON line in one step: in a storm there are thousands a second."""
        if event.get("exc_info"):
            event = structlog.processors.format_exc_info(_logger, method, event)
        event["level"] = method
        event["timestamp"] = datetime.now(UTC)
        event["process"] = process
        return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)

    if console:
        stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        shared: list[Processor] = [structlog.processors.add_log_level, stamp, name_process]
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=34)],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[finish],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=_LineFactory(_Lines(sys.stderr.fileno())),
            cache_logger_on_first_use=True,
        )
    # Libraries log through the standard library: only what a person should look at, in our format.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_Forward()], force=True)


def get_logger(**context: object) -> FilteringBoundLogger:
    """A logger with `context` in each of its lines."""
    return cast("FilteringBoundLogger", structlog.get_logger(**context))


class _Lines:
    """Lines on their way to a file descriptor: those of one pass of the event loop leave together.

    Several processes share the descriptor, often a pipe. One write of up to PIPE_BUF bytes is not torn apart there by
    those of others, a longer one may be: so no write is longer, unless it is a single line. Without a running loop, a
    line leaves at once. What is left at the end of the process leaves then.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        atexit.register(self.flush)

    def msg(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            self.flush()

    debug = info = warning = error = critical = log = msg

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        data = b""
        for line in lines:
            if data and len(data) + len(line) + 1 > select.PIPE_BUF:
                self._write(data)
                data = b""
            data += line + b"\n"
        self._write(data)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]


class _LineFactory:
    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def __call__(self, *_arguments: object) -> _Lines:
        return self._lines


class _Forward(logging.Handler):
    """Hands records of standard-library loggers to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
        )
