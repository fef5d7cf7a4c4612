"""The pages of the contracts leave nothing out: commands and their fields, pushes, Redis keys, codes, commands."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import typer.main

from gateway.cli.commands import app
from protocol import redis_contract
from protocol.commands import REQUESTS, Command
from protocol.replies import Push, Reply
from tests.docs.markdown import Page, pages
from tests.support.source import ROOT

PROTOCOL = Page(ROOT / "protocol/README.md")
UNUSED = {"tf", "session", "time", "channel", "key", "removed"}
"""Fields of the schema that this version neither reads nor writes, or that only some encodings have."""


def rows(page: Page) -> dict[str, tuple[str, ...]]:
    """First name in a row of any table → its cells."""
    found: dict[str, tuple[str, ...]] = {}
    for line in page.path.read_text().splitlines():
        cells = tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        for name in re.findall(r"`([^`]+)`", cells[0]) if cells else ():
            found.setdefault(name, cells)
    return found


def names_in(cell: str) -> set[str]:
    return {name for word in re.findall(r"`([^`]+)`", cell) for name in re.findall(r"[a-z_0-9]+", word)}


def struct_of(container: type, field: str) -> Any:
    hint = inspect.get_annotations(container, eval_str=True)[field]
    return next(each for each in getattr(hint, "__args__", (hint,)) if each is not type(None))


@pytest.mark.parametrize("command", REQUESTS)
def test_commands_have_their_fields(command: str) -> None:
    _, request, *result = rows(PROTOCOL)[command]
    assert set(struct_of(Command, command).__struct_fields__) - UNUSED <= names_in(request) | {"channel"}
    if command != "send":
        assert set(struct_of(Reply, command).__struct_fields__) - UNUSED <= names_in(result[0])


@pytest.mark.parametrize("command", REQUESTS)
def test_commands_have_no_other_fields(command: str) -> None:
    _, request, *result = rows(PROTOCOL)[command]
    known = set(struct_of(Command, command).__struct_fields__)
    if command != "send":
        known |= set(struct_of(Reply, command).__struct_fields__)
    nested = {"epoch", "offset", "limits", "history_page", "presence_clients"}
    assert names_in(request) | names_in(result[0]) <= known | nested | set(map(str, range(1000)))


def test_pushes_are_described() -> None:
    # `connect` and `disconnect` are of other transports; `message` is not sent.
    kinds = set(Push.__struct_fields__) - {"id", "channel", "connect", "disconnect", "message"}
    assert kinds <= rows(PROTOCOL).keys()


def redis_names() -> dict[str, str]:
    """Function of the contract → the name that it gives, up to its first argument."""
    found = {}
    for name, function in inspect.getmembers(redis_contract, inspect.isfunction):
        parameters = list(inspect.signature(function).parameters)
        if name.endswith(("_key", "_channel")) and parameters[:1] == ["prefix"]:
            arguments = [f"<{parameter}>" for parameter in parameters[1:]]
            found[name] = function("gw", *arguments).decode().partition("<")[0].rstrip("{")
    return found


@pytest.mark.parametrize("function", redis_names())
def test_every_redis_name_stands_in_a_page(function: str) -> None:
    name = redis_names()[function]
    words = [word.text for page in pages() for word in page.words]
    assert any(word.startswith(name) and word[len(name) : len(name) + 1] in ("", "<", "{", " ") for word in words), name


def test_every_command_of_the_shell_stands_in_the_operations_page() -> None:
    named = {word.text for word in Page(ROOT / "gateway/OPERATIONS.md").words}
    group: Any = typer.main.get_command(app)
    wanted = set()
    for name, command in group.commands.items():
        below = getattr(command, "commands", None)
        wanted |= {f"nexus-gateway {name} {inner}" for inner in below} if below else {f"nexus-gateway {name}"}
    assert {each for each in wanted if not any(word.startswith(each) for word in named)} == set()
