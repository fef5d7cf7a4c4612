"""Every call to a hook goes through here: how many at once, for how long, and what becomes of a failure.

A failure of any kind is `BackendUnavailable` for the session, counted, and logged without what clients sent: tracebacks
are written here, because those of a terminal show local variables. The rule that is easiest to break: a client that
goes meanwhile cancels the call, which is no failure.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.backend.hooks import Context, Disconnected, Event, Refused
from gateway.breaker import Breaker
from gateway.clock import Clock
from gateway.errors import BackendUnavailable
from gateway.metrics import names

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

C = TypeVar("C", bound=Context)
R = TypeVar("R")

REPORT_S: Final = 10.0
"""Time between two lines about failures over HTTP of one event."""
MASK: Final = "********"


class CallFailed(Exception):
    """No usable answer. The message is for the log. `down` = the backend seems to be away, not this call wrong."""

    def __init__(self, why: str, *, down: bool) -> None:
        self.down = down
        super().__init__(why)


class Calls:
    """The calls of one worker."""

    def __init__(
        self, counters: memoryview[int], log: FilteringBoundLogger, clock: Clock, *, at_once: int, timeout_s: float
    ) -> None:
        self._counters = counters
        self._log = log
        self._clock = clock
        self._at_once = at_once
        self._timeout_s = timeout_s
        self._under_way = 0
        self._reported: dict[Event, tuple[float, int]] = {}

    async def call(
        self, event: Event, context: C, answer: Callable[[C], Awaitable[R]], breaker: Breaker | None = None
    ) -> R:
        """What `answer` gives. Raises Refused, Disconnected, BackendUnavailable. Needs a task."""
        counters = self._counters
        if self._under_way >= self._at_once:
            counters[names.BACKEND_BUSY] += 1
            raise BackendUnavailable(f"{self._at_once} calls are under way")
        if breaker is not None and not breaker.admit():
            counters[names.BACKEND_OPEN] += 1
            raise BackendUnavailable("the circuit is open")
        self._under_way += 1
        down: bool | None = None
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                result = await answer(context)
            down = False
        except (Refused, Disconnected):
            down = False
            counters[names.BACKEND_REFUSED] += 1
            raise
        except CallFailed as error:
            down = error.down
            counters[names.BACKEND_FAILED] += 1
            self._report(event, str(error))
            raise BackendUnavailable(str(error)) from error
        except Exception as error:  # noqa: BLE001 - whatever a handler does: logged or told, and handed on
            if isinstance(error, TimeoutError) and limit.expired():
                counters[names.BACKEND_LATE] += 1
                why = f"no answer within {self._timeout_s:g} s"
            else:
                counters[names.BACKEND_FAILED] += 1
                why = type(error).__name__
            if breaker is None:
                self._log.error(
                    "backend handler failed",
                    hook=event,
                    client=context.client,
                    why=why,
                    exception=_traceback(error, context),
                )
            else:
                self._report(event, why)
            down = True
            raise BackendUnavailable(why) from None
        finally:
            self._under_way -= 1
            if breaker is not None:
                _settle(breaker, down)
        counters[names.BACKEND_ANSWERED] += 1
        return result

    def circuit_changed(self, event: Event, *, is_open: bool) -> None:
        """Tell, once per change."""
        if is_open:
            self._counters[names.BACKEND_CIRCUITS] += 1
            self._log.warning("backend is left alone for a while", hook=event)
        else:
            self._log.warning("backend answers again", hook=event)

    def _report(self, event: Event, why: str) -> None:
        """A line about a failure, and about how many there were since the last."""
        now = self._clock.monotonic()
        last, silent = self._reported.get(event, (-REPORT_S, 0))
        if now - last < REPORT_S:
            self._reported[event] = (last, silent + 1)
            return
        self._reported[event] = (now, 0)
        self._log.warning("backend call failed", hook=event, why=why, not_logged=silent)


def _settle(breaker: Breaker, down: bool | None) -> None:
    if down is None:
        breaker.abandoned()
    elif down:
        breaker.failed()
    else:
        breaker.succeeded()


def _traceback(error: BaseException, context: Context) -> str:
    """The traceback, without local variables, and without the client's secrets should a message contain them."""
    text = "".join(traceback.format_exception(error))
    for secret in (getattr(context, "token", ""), *context.headers.values()):
        if secret:
            text = text.replace(secret, MASK)
    return text
