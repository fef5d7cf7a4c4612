"""The configuration reference: every setting with its type, bounds, default and meaning, as Markdown.

Read off the models, so that nothing has to be said twice. `nexus-gateway config reference` prints it, and `make docs`
writes it into `gateway/config/README.md`.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any, Final, Literal

import annotated_types
from pydantic.fields import FieldInfo

from gateway.config.base import Section
from gateway.config.model import Config
from gateway.config.schema import env_name, sections
from gateway.config.secrets import SUFFIX, secret_at
from gateway.config.show import toml_value

_HEADER: Final = ("| key | values | default | meaning |", "|---|---|---|---|")
_WORDS: Final = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}


def as_markdown() -> Iterator[str]:
    """The lines: a chapter for each section, then one for namespaces."""
    for name, model in sections().items():
        yield from _chapter(f"[{name}]", model, (name,))
        for key, field in model.model_fields.items():
            for inner in _sections_in(field.annotation):
                yield from _chapter(f"[[{name}.{key}]]", inner, ())
    for name, field in Config.model_fields.items():
        if name not in sections():
            for inner in _sections_in(field.annotation):
                yield from _chapter(f"[{name}.<name>]", inner, (name, "<name>"))


def _chapter(title: str, model: type[Section], path: tuple[str, ...]) -> Iterator[str]:
    yield from ("", f"### {title.replace('<', '&lt;').replace('>', '&gt;')}", "")
    yield from (inspect.cleandoc(model.__doc__ or ""), "", *_HEADER)
    for key, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split())
        if path and secret_at((*path, key + SUFFIX)) is not None:
            meaning += f" From a file: `{key}{SUFFIX}`."
        row = (f"`{key}`", values_of(field), _default(field), meaning)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    if path:
        yield from ("", f"Environment: `{env_name((*path, 'key')).replace('<NAME>', '…').replace('KEY', '…')}`.")


def values_of(field: FieldInfo) -> str:
    """What a value may be, in words: `whole number, 0 to 65535`."""
    return _type(field.annotation) + _bounds(field.metadata)


def _type(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _type(arguments[0]) + _bounds(arguments[1:])
    if origin is Literal:
        return " · ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(each) for each in arguments if each is not type(None))
    if origin in (tuple, list, frozenset, set):
        return "list of tables" if _sections_in(hint) else f"list of {_plural(_type(arguments[0]))}"
    if origin is dict:
        return "tables by name" if _sections_in(hint) else "table of texts"
    if isinstance(hint, type) and issubclass(hint, Section):
        return "table"
    return _WORDS.get(hint, str(hint))


def _plural(kind: str) -> str:
    return kind if kind.startswith("`") else f"{kind}s"


def _bounds(metadata: typing.Iterable[Any]) -> str:
    low = high = ""
    for each in metadata:
        match each:
            case annotated_types.Ge(ge):
                low = f"from {_number(ge)}"
            case annotated_types.Gt(gt):
                low = f"above {_number(gt)}"
            case annotated_types.Le(le):
                high = f"to {_number(le)}"
            case annotated_types.Lt(lt):
                high = f"below {_number(lt)}"
    return "".join((", ", " ".join(filter(None, (low, high))))) if low or high else ""


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}" if isinstance(value, float) else str(value)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "–"
    return f"`{toml_value(field.get_default(call_default_factory=True))}`"


def _sections_in(hint: Any) -> list[type[Section]]:
    """Sections inside a list or a table by name."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return []
    return [each for each in typing.get_args(hint) if isinstance(each, type) and issubclass(each, Section)]
