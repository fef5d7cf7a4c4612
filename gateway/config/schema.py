"""Which settings there are, read off the models, so that a key is declared in one place only.

A setting is named by its path: `("server", "port")`, `("namespaces", "chat", "publish_by")`,
`("control", "keys", "billing", "methods")`. The last two stand in tables whose names are the user's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, get_origin

from pydantic.fields import FieldInfo

from gateway.config.base import Section
from gateway.config.control import ApiKey
from gateway.config.model import Config, Namespace

SettingPath = tuple[str, ...]

ENV_PREFIX: Final = "GATEWAY_"
NAMESPACES: Final = "namespaces"
TABLES: Final[Mapping[SettingPath, type[Section]]] = {(NAMESPACES,): Namespace, ("control", "keys"): ApiKey}
"""Where tables with names of the user's own stand → what is in each."""


def sections() -> Mapping[str, type[Section]]:
    """Name → model of every section, without the namespaces."""
    found = {}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found[name] = field.annotation
    return found


def keys_of(section: str) -> Mapping[str, FieldInfo]:
    """The keys of a section, without its tables."""
    fields = sections()[section].model_fields
    return {key: field for key, field in fields.items() if (section, key) not in TABLES}


def table_of(path: SettingPath) -> SettingPath:
    """The table, with its name, that `path` names or stands in; () = in none."""
    return next((path[: len(home) + 1] for home in TABLES if path[: len(home)] == home and len(path) > len(home)), ())


def field_at(path: SettingPath) -> FieldInfo | None:
    """The field that `path` names, or None when there is none."""
    if table := table_of(path):
        return TABLES[table[:-1]].model_fields.get(path[-1]) if len(path) == len(table) + 1 else None
    if len(path) == 2 and path[0] in sections():
        return keys_of(path[0]).get(path[1])
    return None


def is_secret(path: SettingPath) -> bool:
    """True when the value at `path` must not be shown."""
    field = field_at(path)
    return field is not None and not field.repr


def is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def all_settings(tables: Iterable[SettingPath]) -> Iterator[tuple[SettingPath, FieldInfo]]:
    """Every setting, in the order of the models, with those of the given tables behind their sections."""
    found = list(tables)
    for section in (*sections(), NAMESPACES):
        if section != NAMESPACES:
            yield from (((section, key), field) for key, field in keys_of(section).items())
        for table in found:
            if table[0] == section:
                yield from (((*table, key), field) for key, field in TABLES[table[:-1]].model_fields.items())


def tables_in(config: Config) -> list[SettingPath]:
    """Every table that a configuration has."""
    return [(*home, name) for home in TABLES for name in value_at(config, home)]


def value_at(config: Config, path: SettingPath) -> Any:
    """The value of a setting, or of all tables of a kind."""
    value: Any = config
    for name in path:
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    return value


def env_name(path: SettingPath) -> str:
    """The environment variable that sets `path`. Characters that shells do not take in a name stand as `_`."""
    return ENV_PREFIX + "__".join(path).upper().replace("-", "_").replace(".", "_")


def toml_name(path: SettingPath) -> str:
    """How a person finds `path` in a TOML file: `[server] port`."""
    depth = len(table_of(path)) or 1
    header = f"[{'.'.join(path[:depth])}]"
    return " ".join((header, *path[depth:]))


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, or ""."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")


def did_you_mean(word: str) -> str:
    """The end of a problem's line; nothing for ""."""
    return f'; did you mean "{word}"?' if word else ""
