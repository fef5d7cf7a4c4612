"""Background tasks that cannot fail silently, and coroutines without a task."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from gateway.tasks import Steps, TaskScope, fail
from tests.support.hub import turn


async def test_an_error_of_a_task_is_reported_once() -> None:
    errors: list[BaseException] = []
    scope = TaskScope(errors.append)

    async def fails() -> None:
        raise ValueError("bug")

    scope.spawn(fails())
    await turn(3)
    assert [str(error) for error in errors] == ["bug"]
    assert len(scope) == 0


async def test_closing_a_scope_cancels_what_runs_and_waits_for_its_end() -> None:
    errors: list[BaseException] = []
    ended = []
    scope = TaskScope(errors.append)

    async def runs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    scope.spawn(runs())
    scope.spawn(runs())
    await turn()
    assert len(scope) == 2
    await scope.aclose()
    assert ended == [True, True]
    assert errors == []


class Watched:
    """Steps whose coroutine waits for each of `futures` in turn."""

    def __init__(self, *futures: asyncio.Future[int]) -> None:
        self.results: list[int] = []
        self.ended: list[BaseException | None] = []
        self.tidied = False
        self.steps = Steps(self._run(futures), self.ended.append)

    async def _run(self, futures: tuple[asyncio.Future[int], ...]) -> None:
        try:
            for future in futures:
                self.results.append(await future)
        finally:
            self.tidied = True


def future(value: int | None = None) -> asyncio.Future[int]:
    made: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    if value is not None:
        made.set_result(value)
    return made


async def test_what_need_not_wait_is_done_at_once() -> None:
    watched = Watched(future(1), future(2))
    assert watched.steps.start()
    assert (watched.results, watched.ended) == ([1, 2], [None])


async def test_what_waits_goes_on_when_what_it_waits_for_is_done() -> None:
    first, second = future(), future()
    watched = Watched(first, second)
    assert not watched.steps.start()
    first.set_result(1)
    await turn()
    assert (watched.results, watched.ended) == ([1], [])
    second.set_result(2)
    await turn()
    assert (watched.results, watched.ended) == ([1, 2], [None])


async def test_an_error_in_what_it_waits_for_is_raised_where_it_waits() -> None:
    first = future()
    watched = Watched(first)
    watched.steps.start()
    first.set_exception(ValueError("bug"))
    await turn()
    assert [str(error) for error in watched.ended] == ["bug"]


async def test_a_task_can_be_waited_for() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    watched = Watched(asyncio.ensure_future(work()))
    assert not watched.steps.start()
    await turn(4)
    assert watched.results == [7]


async def test_closing_stops_it_where_it_waits_and_ends_nothing_twice() -> None:
    first = future()
    watched = Watched(first)
    watched.steps.start()
    watched.steps.close()
    watched.steps.close()
    assert watched.tidied
    first.set_result(1)
    await turn()
    assert (watched.results, watched.ended) == ([], [])


async def test_closing_before_the_start_runs_nothing() -> None:
    watched = Watched(future(1))
    watched.steps.close()
    assert watched.steps.start()
    assert (watched.results, watched.ended, watched.tidied) == ([], [], False)


@pytest.mark.parametrize("count", [1, 1000])
async def test_waiting_often_needs_no_deeper_stack(count: int) -> None:
    futures = [future() for _ in range(count)]
    watched = Watched(*futures)
    watched.steps.start()
    for each in futures:
        each.set_result(1)
        await turn()
    assert watched.ended == [None]


async def test_a_failure_reaches_who_waits_and_nobody_complains_when_nobody_does() -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    fail(loop.create_future(), ValueError("nobody waits"))
    gc.collect()
    assert complaints == []
    waited: asyncio.Future[None] = loop.create_future()
    fail(waited, ValueError("first"))
    fail(waited, ValueError("second"))
    with pytest.raises(ValueError, match="first"):
        await waited
