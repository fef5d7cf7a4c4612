"""Which settings there are, read off the models, so that a key is declared in one place only.

A setting is named by its path: `("server", "port")`, `("namespaces", "chat", "publish_by")`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, get_origin

from pydantic.fields import FieldInfo

from gateway.config.base import Section
from gateway.config.model import Config
from gateway.config.namespace import Namespace

SettingPath = tuple[str, ...]

ENV_PREFIX: Final = "GATEWAY_"
NAMESPACES: Final = "namespaces"


def sections() -> Mapping[str, type[Section]]:
    """Name → model of every section, without the namespaces."""
    found = {}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found[name] = field.annotation
    return found


def field_at(path: SettingPath) -> FieldInfo | None:
    """The field that `path` names, or None when there is none."""
    match path:
        case (str(section), str(key)) if section in sections():
            return sections()[section].model_fields.get(key)
        case (section, _, str(key)) if section == NAMESPACES:
            return Namespace.model_fields.get(key)
    return None


def is_secret(path: SettingPath) -> bool:
    """True when the value at `path` must not be shown."""
    field = field_at(path)
    return field is not None and not field.repr


def is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def all_settings(namespaces: Iterable[str]) -> Iterator[tuple[SettingPath, FieldInfo]]:
    """Every setting, in the order of the models, with those of the given namespaces."""
    for section, model in sections().items():
        for key, field in model.model_fields.items():
            yield (section, key), field
    for namespace in namespaces:
        for key, field in Namespace.model_fields.items():
            yield (NAMESPACES, namespace, key), field


def env_name(path: SettingPath) -> str:
    """The environment variable that sets `path`. Characters that shells do not take in a name stand as `_`."""
    return ENV_PREFIX + "__".join(path).upper().replace("-", "_").replace(".", "_")


def toml_name(path: SettingPath) -> str:
    """How a person finds `path` in a TOML file: `[server] port`."""
    depth = 2 if path[0] == NAMESPACES else 1
    header = f"[{'.'.join(path[:depth])}]"
    return " ".join((header, *path[depth:]))


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, or ""."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")


def did_you_mean(word: str) -> str:
    """The end of a problem's line; nothing for ""."""
    return f'; did you mean "{word}"?' if word else ""
