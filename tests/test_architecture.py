"""The import rule, and a few habits that a reader of the code relies on. Checked on the syntax trees."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.support.source import Module, modules

T = TypeVar("T", bound=ast.stmt | ast.expr | ast.excepthandler)

ROWS = {
    8: ("cli", "__main__"),
    7: ("supervisor", "workers"),
    6: ("edge", "control"),
    5: ("session",),
    4: ("hub", "relay", "cache"),
    3: ("publisher", "streams"),
    2: ("broker", "auth", "backend", "overload"),
    1: ("storage",),
    0: ("config", "metrics", "errors", "log", "clock", "tasks", "breaker", "processes"),
}
"""A room imports only from lower rows. `processes` is the link of supervisor and workers."""
ROW = {room: row for row, rooms in ROWS.items() for room in rooms}
WITHIN_A_ROW = {("__main__", "cli"), ("config", "errors")}
"""Imports within a row: `python -m gateway` runs the commands, and the configuration has its error in the one tree."""
MAX_LINES = 500

GATEWAY = modules("gateway")
OURS = GATEWAY + modules("protocol")
KNOWN = {module.name for module in OURS}

TOO_LONG = {}
"""Known debts. Each must go on being one (strict): who pays it takes its line out."""


def room_of(module: str) -> str:
    """`gateway.hub.hub` → `hub`; "" for the package `gateway` itself and for modules of `protocol`."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "gateway" else ""


def imports_against_the_rows(*, typing: bool, exceptions: set[tuple[str, str]]) -> list[str]:
    found = []
    for module in GATEWAY:
        for name, line in module.imports_of(KNOWN, typing=typing):
            here, there = room_of(module.name), room_of(name)
            if not there or here == there or (here, there) in exceptions:
                continue
            if not here or ROW[there] >= ROW[here]:
                found.append(f"{module.place}:{line} imports {name}")
    return found


def test_every_room_of_the_gateway_has_a_row_and_every_debt_a_file() -> None:
    assert TOO_LONG.keys() <= {module.place for module in OURS}
    assert {room_of(module.name) for module in GATEWAY} - {""} <= ROW.keys()


def test_a_room_imports_only_rooms_in_lower_rows() -> None:
    assert imports_against_the_rows(typing=False, exceptions=WITHIN_A_ROW) == []


def test_imports_for_types_alone_follow_the_rule_too_except_that_the_log_knows_its_settings() -> None:
    assert imports_against_the_rows(typing=True, exceptions=WITHIN_A_ROW | {("log", "config")}) == []


@pytest.mark.parametrize(
    ("package", "foreign"), [("protocol", "gateway loadtest tests"), ("loadtest", "gateway tests")]
)
def test_protocol_and_the_load_generators_stand_on_their_own(package: str, foreign: str) -> None:
    found = [
        f"{module.place}:{line} imports {name}"
        for module in modules(package)
        for name, _, line in module.imports(typing=True)
        if name.split(".")[0] in foreign.split()
    ]
    assert found == []


def test_no_imports_go_in_circles() -> None:
    graph = {module.name: {name for name, _ in module.imports_of(KNOWN, typing=False)} for module in OURS}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


# No singletons: everything that changes is made in a composition root and handed on.

MUTABLE_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_CONSTRUCTORS = {
    *("list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter", "WeakSet", "memoryview"),
    *("WeakKeyDictionary", "WeakValueDictionary", "Event", "Lock", "RLock", "Condition", "Semaphore", "Queue", "mmap"),
}
FROZEN_BASES = {"NamedTuple", "Enum", "IntEnum", "StrEnum", "Exception", "Protocol", "Section"}
CONSTRUCTORS_AT_WORK = {
    "gateway/processes.py": "the orphan watch starts its thread: from then on no process outlives its supervisor",
}
STATELESS = dict.fromkeys(
    ("JsonEncoding", "ProtobufEncoding", "MsgpackEncoding"),
    "holds its decoders and encoder, which keep nothing between two calls",
)


def frozen_classes() -> set[str]:
    """Names of our classes whose instances cannot change, by their declaration."""
    frozen = set(STATELESS)
    for module in OURS:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ClassDef):
                continue
            options = node.keywords + [
                keyword for each in node.decorator_list if isinstance(each, ast.Call) for keyword in each.keywords
            ]
            is_frozen = any(each.arg == "frozen" and ast.unparse(each.value) == "True" for each in options)
            if is_frozen or {ast.unparse(base).split(".")[-1] for base in node.bases} & FROZEN_BASES:
                frozen.add(node.name)
    return frozen


def globals_of(module: Module) -> dict[str, ast.Assign | ast.AnnAssign]:
    """Module-level names that are still there when the module is imported, with what they are made of."""
    names: dict[str, ast.Assign | ast.AnnAssign] = {}
    for node in module.tree.body:
        if isinstance(node, ast.Assign):
            names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            names[node.target.id] = node
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                names.pop(ast.unparse(target), None)
    names.pop("__all__", None)
    return names


def is_container(value: ast.expr | None) -> bool:
    return isinstance(value, MUTABLE_DISPLAYS) or called(value) in MUTABLE_CONSTRUCTORS


def called(value: ast.AST | None) -> str:
    """Last part of the name of what is called: `asyncio.Event()` → `Event`."""
    return ast.unparse(value.func).split(".")[-1] if isinstance(value, ast.Call) else ""


def is_constant(name: str, node: ast.Assign | ast.AnnAssign) -> bool:
    return name.isupper() or (isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith("Final"))


def mutations(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names whose object the functions of a module change: `x.append(…)`, `x[…] = …`, `del x[…]`, `global x`."""
    changing = {"append", "appendleft", "add", "update", "extend", "pop", "popitem", "remove", "discard", "clear"}
    changing |= {"setdefault", "insert"}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                yield from ((name, node.lineno) for name in node.names)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in changing:
                yield ast.unparse(node.func.value), node.lineno
            elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                yield ast.unparse(node.value), node.lineno


def locals_of(tree: ast.AST) -> set[str]:
    """Every name that some function of the module binds itself."""
    bound: set[str] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            bound |= {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
            bound |= {
                node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
    return bound


def test_a_container_at_module_level_is_a_constant() -> None:
    found = [
        f"{module.place}:{node.lineno}: {name}"
        for module in OURS
        for name, node in globals_of(module).items()
        if is_container(node.value) and not is_constant(name, node)
    ]
    assert found == []


def test_no_function_changes_what_stands_at_module_level() -> None:
    found = [
        f"{module.place}:{line}: {name}"
        for module in OURS
        for name, line in mutations(module.tree)
        if name in globals_of(module).keys() - locals_of(module.tree)
    ]
    assert found == []


def test_what_is_remembered_between_calls_is_bounded() -> None:
    found = [
        f"{module.place}:{function.lineno}: {function.name}"
        for module in OURS
        for function in ast.walk(module.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in map(ast.unparse, function.decorator_list)
        if decorator.split(".")[-1] in ("cache", "lru_cache") or "maxsize=None" in decorator
    ]
    assert found == []


def test_no_object_of_ours_that_can_change_is_made_at_import() -> None:
    own = {node.name for module in OURS for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)}
    changeable = own - frozen_classes()
    found = [
        f"{module.place}:{node.lineno}: {name} = {called(node.value)}(…)"
        for module in OURS
        for name, node in globals_of(module).items()
        if called(node.value) in changeable
    ]
    assert found == []


# Habits that syntax shows.


BROAD = {"Exception", "BaseException", "GatewayError", "ProtocolError"}


def is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(each is None or ast.unparse(each) in BROAD for each in caught)


def nodes(kind: type[T]) -> Iterator[tuple[str, T]]:
    """All nodes of a kind, with their places."""
    for module in OURS:
        for node in ast.walk(module.tree):
            if isinstance(node, kind):
                yield f"{module.place}:{node.lineno}", node


def test_who_catches_everything_raises_it_on_or_hands_it_to_somebody() -> None:
    found = [
        place
        for place, handler in nodes(ast.ExceptHandler)
        if is_broad(handler)
        and not any(
            isinstance(node, ast.Raise) or (isinstance(node, ast.Name) and node.id == handler.name)
            for statement in handler.body
            for node in ast.walk(statement)
        )
    ]
    assert found == []


def test_what_is_suppressed_is_named() -> None:
    found = [
        place
        for place, call in nodes(ast.Call)
        if called(call) == "suppress" and {ast.unparse(argument) for argument in call.args} & BROAD
    ]
    assert found == []


def test_constructors_start_nothing_open_nothing_and_read_no_environment() -> None:
    work = {"create_task", "ensure_future", "call_soon", "call_later", "spawn", "run", "start", "getenv", "open"}
    work |= {"create_connection", "create_server", "create_subprocess_exec", "Popen"}
    found = [
        place
        for place, function in nodes(ast.FunctionDef)
        if function.name in ("__init__", "__post_init__")
        and place.rpartition(":")[0] not in CONSTRUCTORS_AT_WORK
        and ("environ" in ast.unparse(function) or any(called(node) in work for node in ast.walk(function)))
    ]
    assert found == []


@pytest.mark.parametrize("module", [pytest.param(module, id=module.place) for module in OURS])
def test_a_file_is_one_idea(module: Module, request: pytest.FixtureRequest) -> None:
    if module.place in TOO_LONG:
        request.applymarker(pytest.mark.xfail(reason=TOO_LONG[module.place], strict=True))
    assert len(module.text.splitlines()) <= MAX_LINES
