"""Python handlers: found, called, bounded in time, and what becomes of their mistakes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from msgspec import Raw

from gateway.backend import ConnectContext, DisconnectContext, Refused, RpcContext, SubscribeContext
from gateway.errors import BackendUnavailable, StartupError
from gateway.metrics import names
from tests.backend import targets
from tests.backend.conftest import World
from tests.support.waiting import wait_until

HERE = targets.__name__


def rpc(method: str, data: bytes | None = None) -> RpcContext:
    return RpcContext(client="c1", user="ada", method=method, data=Raw(data) if data is not None else None)


async def test_only_the_methods_that_exist_are_hooks(world: World) -> None:
    backend = (await world.hooks(handlers=f"{HERE}:Everything")).backend
    assert backend.on_connect is not None
    assert backend.on_rpc is not None
    assert (backend.on_refresh, backend.on_sub_refresh, backend.on_publish, backend.on_disconnect) == (None,) * 4


async def test_a_handler_is_called_with_its_context_and_its_result_comes_back_as_documents(world: World) -> None:
    backend = (await world.hooks(handlers=f"{HERE}:Everything")).backend
    assert backend.on_connect is not None
    assert backend.on_rpc is not None
    connected = await backend.on_connect(ConnectContext(client="c1", headers={"cookie": "x"}))
    assert (connected.user, bytes(connected.info)) == ("user-of-x", b'{"via":"handler"}')
    assert bytes((await backend.on_rpc(rpc("echo", b'{"a": [1]}'))).data) == b'{"a":[1]}'
    assert world.counters[names.BACKEND_ANSWERED] == 2


async def test_a_refusal_is_passed_on(world: World) -> None:
    backend = (await world.hooks(handlers=f"{HERE}:Everything")).backend
    assert backend.on_rpc is not None
    with pytest.raises(Refused) as refused:
        await backend.on_rpc(rpc("refuse"))
    assert (refused.value.code, refused.value.message, refused.value.temporary) == (404, "no such thing", True)
    assert world.counters[names.BACKEND_REFUSED] == 1
    assert world.capture.entries == []


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("unknown", "KeyError"),
        ("bad code", "an error code is 400 to 1999, or 100 to 112, not 5"),
        ("nothing", "must return RpcResult, not NoneType"),
        ("unwritable", "object cannot be written as JSON"),
    ],
)
async def test_a_mistake_is_unavailable_for_the_client_and_one_line_with_a_traceback(
    world: World, method: str, says: str
) -> None:
    backend = (await world.hooks(handlers=f"{HERE}:Everything")).backend
    assert backend.on_rpc is not None
    with pytest.raises(BackendUnavailable):
        await backend.on_rpc(rpc(method))
    (line,) = world.capture.entries
    assert (line["event"], line["hook"], line["log_level"]) == ("backend handler failed", "rpc", "error")
    assert line["exception"].startswith("Traceback")
    assert says in line["exception"]
    assert world.counters[names.BACKEND_FAILED] == 1


async def test_neither_the_token_nor_what_a_client_sent_is_logged(world: World) -> None:
    backend = (await world.hooks(handlers=f"{HERE}:Everything")).backend
    assert backend.on_subscribe is not None
    context = SubscribeContext(
        client="c1",
        channel="x",
        token="secret-token",
        data=Raw(b'"secret-data"'),
        meta=Raw(b'"secret-meta"'),
        headers={"cookie": "secret-cookie"},
    )
    with pytest.raises(BackendUnavailable):
        await backend.on_subscribe(context)
    (line,) = world.capture.entries
    assert "RuntimeError: saw ********" in line["exception"]
    assert "secret" not in str(line)
    assert "secret" not in repr(context)
    assert "secret" not in str(context.__rich_repr__())


async def test_a_late_answer_is_no_answer(world: World) -> None:
    backend = (await world.hooks(handlers=f"{HERE}:Everything", timeout_s=0.05)).backend
    assert backend.on_rpc is not None
    with pytest.raises(BackendUnavailable, match=r"no answer within 0\.05 s"):
        await backend.on_rpc(rpc("sleep"))
    assert world.counters[names.BACKEND_LATE] == 1
    (line,) = world.capture.entries
    assert line["why"] == "no answer within 0.05 s"


async def test_more_calls_than_allowed_are_refused_at_once_and_a_cancelled_one_makes_room(world: World) -> None:
    backend = (await world.hooks(handlers=f"{HERE}:Everything", calls_at_once=2, timeout_s=30)).backend
    assert backend.on_rpc is not None
    waiting = [asyncio.ensure_future(backend.on_rpc(rpc("sleep"))) for _ in range(2)]
    with pytest.raises(BackendUnavailable, match="2 calls are under way"):
        await asyncio.ensure_future(backend.on_rpc(rpc("echo")))  # a task, too: they begin in turn
    assert world.counters[names.BACKEND_BUSY] == 1
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert (await backend.on_rpc(rpc("echo", b"1"))).data == Raw(b"1")
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    assert world.counters[names.BACKEND_FAILED] == world.counters[names.BACKEND_LATE] == 0
    assert world.capture.entries == []


async def test_start_and_aclose_are_called_and_on_disconnect_is_told(world: World) -> None:
    hooks = await world.hooks(handlers=f"{HERE}:Started")
    target = hooks._handlers._target
    assert isinstance(target, targets.Started)
    assert hooks.backend.on_disconnect is not None
    running = asyncio.ensure_future(hooks.run())
    for user in ("ada", "bob"):
        hooks.backend.on_disconnect(DisconnectContext(client="c", user=user, code=3000, reason="gone"))
    await wait_until(lambda: len(target.life) == 3, "both are told")
    await hooks.flushed()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await hooks.aclose()
    assert target.life == ["started", "ada", "bob", "closed"]


async def test_a_failing_aclose_is_logged(world: World) -> None:
    await (await world.hooks(handlers=f"{HERE}:Unclosed")).aclose()
    (line,) = world.capture.entries
    assert "Unclosed.aclose() failed: OSError: stuck" in line["error"]


@pytest.mark.parametrize(
    ("handlers", "says"),
    [
        ("no_such_module:X", "there is no module 'no_such_module'; is it installed"),
        (f"{HERE}:Missing", f"{HERE} has no Missing"),
        (f"{HERE}:NOT_A_CLASS", "is no class"),
        (f"{HERE}:NeedsArguments", "NeedsArguments() failed: TypeError"),
        (f"{HERE}:Blocking", "on_rpc must be an `async def` method"),
        (f"{HERE}:Misspelt", "on_rcp is no hook; there are on_connect"),
        (f"{HERE}:Nothing", "has no on_… method"),
        (f"{HERE}:NotStarted", "start() failed: OSError: no database"),
    ],
)
async def test_what_cannot_work_is_said_at_the_start(world: World, handlers: str, says: str) -> None:
    with pytest.raises(StartupError) as error:
        await world.hooks(handlers=handlers)
    assert says in str(error.value)
    assert str(error.value).startswith("[backend] handlers: ")


async def test_an_error_inside_the_module_is_said_at_the_start(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_handlers.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(StartupError, match="importing broken_handlers failed: ZeroDivisionError"):
        await world.hooks(handlers="broken_handlers:X")
    assert "broken_handlers" not in sys.modules


async def test_an_event_has_one_owner(world: World) -> None:
    with pytest.raises(StartupError, match=r"rpc_url: .*Everything has on_rpc already"):
        await world.hooks(handlers=f"{HERE}:Everything", rpc_url="http://127.0.0.1:1/rpc")


async def test_nothing_configured_asks_nobody(world: World) -> None:
    from gateway.backend import NOBODY

    assert (await world.hooks()).backend is NOBODY
