"""Hypothesis strategies: JSON documents, and any struct of the protocol from its type hints."""

from __future__ import annotations

import types
import typing
from typing import Any

import msgspec
import orjson
from hypothesis import strategies as st
from msgspec import UNSET, Raw, UnsetType

from protocol.commands import REQUESTS, Command
from protocol.replies import Push, Reply

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
documents = json_values.map(orjson.dumps)
"""JSON documents on one line."""

_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    bool: st.booleans(),
    int: st.integers(0, 2**31 - 1),  # what every field of every encoding can hold
    Raw: documents.map(Raw),
    UnsetType: st.just(UNSET),
    type(None): st.none(),
}
_JSON_ONLY = {"tf"}
"""Fields that Protobuf does not have."""


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type that a protocol struct uses for a field."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(of_type, arguments))
    if origin is list:
        return st.lists(of_type(arguments[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(of_type(arguments[0]), of_type(arguments[1]), max_size=2)
    assert issubclass(hint, msgspec.Struct), hint
    fields = {name: of_type(each) for name, each in typing.get_type_hints(hint).items() if name not in _JSON_ONLY}
    return st.builds(hint, **fields)


def one_of_the_fields(struct: type[msgspec.Struct], kinds: tuple[str, ...], **common: Any) -> st.SearchStrategy[Any]:
    """A struct with exactly one of `kinds` set, beside the `common` fields."""
    hints = typing.get_type_hints(struct)
    return st.one_of(
        *(
            st.builds(struct, **common, **{kind: of_type(typing.get_args(hints[kind])[0])})  # `X | None` → X
            for kind in kinds
        )
    )


ids = st.integers(1, 2**32 - 1)
commands: st.SearchStrategy[Command] = one_of_the_fields(Command, REQUESTS, id=ids)
pushes: st.SearchStrategy[Push] = one_of_the_fields(
    Push, tuple(sorted(set(Push.__struct_fields__) - {"id", "channel"})), channel=st.text(max_size=20)
)
replies: st.SearchStrategy[Reply] = one_of_the_fields(
    Reply, tuple(sorted(set(Reply.__struct_fields__) - {"id", "push"})), id=ids
) | st.builds(Reply, push=pushes)
