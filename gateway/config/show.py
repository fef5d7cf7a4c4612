"""Configuration as text for people: the effective values with their origins, and every variable that can be set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from gateway.config.load import LoadedConfig
from gateway.config.model import Config
from gateway.config.schema import NAMESPACES, SettingPath, all_settings, env_name, is_secret, toml_name
from gateway.config.secrets import SUFFIX, secret_at

MASK: Final = "********"


def as_toml(loaded: LoadedConfig) -> Iterator[str]:
    """Lines of a TOML document with every value and, as a comment, where it came from. Secrets are masked."""
    section: SettingPath = ()
    for path, _ in all_settings(loaded.config.namespaces):
        if path[:-1] != section:
            if section:
                yield ""
            section = path[:-1]
            yield f"[{'.'.join(_bare_or_quoted(name) for name in section)}]"
        value = _value(loaded.config, path)
        yield f"{f'{path[-1]} = {toml_value(_shown(path, value))}':<40} # {_origin(loaded, path)}"


def as_variables() -> Iterator[str]:
    """Every environment variable with its default and its meaning, as lines of a commented-out env file."""
    defaults = Config()
    for path, field in all_settings(defaults.namespaces):
        for line in (field.description or "").splitlines():
            yield f"# {line}"
        value = _value(defaults, path)
        text = ",".join(value) if isinstance(value, tuple) else value if isinstance(value, str) else json.dumps(value)
        yield f"# {env_name(path)}={text}"
        if secret_at((*path[:-1], path[-1] + SUFFIX)) is not None:
            yield f"# or, from a file: {env_name(path)}{SUFFIX.upper()}=/run/secrets/{path[-1]}"
        yield ""
    yield "# Rules of another namespace: its name in the place of DEFAULT, as in GATEWAY_NAMESPACES__CHAT__PUBLISH_BY."
    yield "# Lists: separated by commas, or as JSON."


def toml_value(value: object) -> str:
    """`value` in TOML. Strings are basic strings, whose escapes are those of JSON apart from DEL."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml_value(key)} = {toml_value(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(path: SettingPath, value: object) -> object:
    """`value` without what is secret in it: a URL keeps everything but its password."""
    if isinstance(value, str) and path[-1].endswith("url"):
        # SQLAlchemy takes a password with / and ? in it, which is none by the rules of URLs.
        return _without_password(re.sub("(://[^:/?@]*:).*@", rf"\1{MASK}@", value) if is_secret(path) else value)
    if not is_secret(path) or not value:
        return value
    if isinstance(value, dict):
        return dict.fromkeys(value, MASK)
    return tuple(MASK for _ in value) if isinstance(value, tuple) else MASK


def _without_password(url: str) -> str:
    # Not by `urlsplit`, which refuses several hosts of which one is in brackets.
    head, question, query = url.partition("?")
    scheme, slashes, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    login, at, host = authority.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{user}:{MASK}" if colon else user
    # redis-py takes a password from the query, too.
    query = re.sub(r"((?:^|&)[^=&]*password[^=&]*=)[^&]*", rf"\1{MASK}", query, flags=re.IGNORECASE)
    return f"{scheme}{slashes}{shown}{at}{host}{slash}{path}{question}{query}"


def _value(config: Config, path: SettingPath) -> Any:
    if path[0] == NAMESPACES:
        return getattr(config.namespaces[path[1]], path[2])
    return getattr(getattr(config, path[0]), path[1])


def _origin(loaded: LoadedConfig, path: SettingPath) -> str:
    setting = loaded.settings.get(path)
    if setting is None:
        return "default"
    return setting.place.removesuffix(f": {toml_name(path)}")


def _bare_or_quoted(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)
