"""Python handlers: a class of the user's, one object of it in each worker.

Its methods are found by their names (`on_connect` … `on_disconnect`); those that are missing are never called. They run
on the event loop that serves the clients: what blocks there blocks every client of the worker, so database drivers must
be asynchronous ones.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, get_args

from gateway.backend.hooks import Context, Event
from gateway.errors import StartupError

C = TypeVar("C", bound=Context)
R = TypeVar("R")

EVENTS: Final[tuple[Event, ...]] = get_args(Event)


class Handlers:
    """The user's object, and which events it answers."""

    def __init__(self, target: object, name: str) -> None:
        """Raises StartupError when it has a method that cannot be one of ours."""
        self._target = target
        self.name = name
        self.events: dict[Event, Callable[[Any], Awaitable[Any]]] = {}
        known = {f"on_{event}" for event in EVENTS}
        for found in dir(target):
            if found.startswith("on_") and found not in known and callable(getattr(target, found)):
                raise StartupError(
                    f"[backend] handlers: {name}.{found} is no hook; there are {', '.join(sorted(known))}"
                )
        for event in EVENTS:
            method = getattr(target, f"on_{event}", None)
            if method is None:
                continue
            if not inspect.iscoroutinefunction(method):
                raise StartupError(f"[backend] handlers: {name}.on_{event} must be an `async def` method")
            self.events[event] = method

    async def start(self) -> None:
        """Call its own `start`, if it has one. Raises StartupError."""
        await self._optional("start")

    async def aclose(self) -> None:
        """Call its own `aclose`, if it has one. Raises StartupError."""
        await self._optional("aclose")

    async def _optional(self, method: str) -> None:
        function = getattr(self._target, method, None)
        if function is None:
            return
        try:
            await function()
        except Exception as error:
            raise StartupError(f"[backend] handlers: {self.name}.{method}() failed: {_described(error)}") from error


def load_handlers(path: str) -> Handlers:
    """Import `package.module:Class` and make its object. Raises StartupError, which says what to do."""
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "is it installed in the gateway's environment, or on PYTHONPATH?"
        raise StartupError(f"[backend] handlers: there is no module {error.name!r}; {hint}") from error
    except Exception as error:
        raise StartupError(f"[backend] handlers: importing {module_name} failed: {_described(error)}") from error
    found = getattr(module, class_name, None)
    if found is None:
        raise StartupError(f"[backend] handlers: {module_name} has no {class_name}")
    if not inspect.isclass(found):
        raise StartupError(f"[backend] handlers: {path} is no class")
    try:
        return Handlers(found(), path)
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(f"[backend] handlers: {class_name}() failed: {_described(error)}") from error


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
