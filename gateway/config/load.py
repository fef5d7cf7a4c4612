"""Filling the models from a TOML file, the environment and flags, in this order, each over the one before.

Every problem is reported at once, each with its place, and no secret is in any of them. (Not pydantic-settings: it
knows no lines, variables or flags to name as the place, and overlooks variables with a slip in their name.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.checks import unreachable
from gateway.config.model import Config
from gateway.config.schema import NAMESPACES, SettingPath, is_secret
from gateway.config.sources import Origin, Places, Setting, from_environment, from_file, from_flags, from_table
from gateway.errors import ConfigError


class LoadedConfig(NamedTuple):
    """A configuration, and where each value that is no default came from."""

    config: Config
    settings: Mapping[SettingPath, Setting]

    def origin(self, path: SettingPath) -> Origin | None:
        """Where the value at `path` came from; None = it is the default."""
        setting = self.settings.get(path)
        return setting.origin if setting else None


def load_config(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    presets: Mapping[str, Any] | None = None,
    to_serve: bool = True,
) -> Config:
    """The configuration from the file at `path` (None = no file), `environ` and `flags` (names of `sources.FLAGS`).

    `presets`: values under all of these, over the defaults, as nested tables. `to_serve`: it is a problem when nobody
    could connect. Raises ConfigError with every problem.
    """
    return read_config(path, environ=environ, flags=flags, presets=presets, to_serve=to_serve).config


def read_config(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    presets: Mapping[str, Any] | None = None,
    to_serve: bool = True,
) -> LoadedConfig:
    """As `load_config`, with the origin of every value."""
    preset = from_table(presets or {}, "preset", Places("preset"))
    file = from_file(path) if path is not None else from_table({}, "file", Places(""))
    named = [
        setting.path[1]
        for setting in (*preset.settings, *file.settings)
        if setting.path[0] == NAMESPACES and setting.path[1:]
    ]
    sources = (preset, file, from_environment(environ, named), from_flags(flags))

    settings: dict[SettingPath, Setting] = {}
    for source in sources:
        settings.update((setting.path, setting) for setting in source.settings)
    problems = [problem for source in sources for problem in source.problems]
    # After a slip in a name or a value of [auth] it is not known whether somebody could connect.
    doubtful = bool(problems)

    while True:
        try:
            config = _validate(settings.values())
            break
        except ValidationError as error:
            # Report, leave out what is wrong, and look at the rest: it may have problems of another kind.
            wrong = set()
            for detail in error.errors(include_url=False):
                setting = _responsible(detail, settings)
                problems.append(_problem(detail, setting))
                doubtful = doubtful or setting.path[0] == "auth"
                wrong.add(setting.path)
            settings = {at: kept for at, kept in settings.items() if not _is_inside(at, wrong)}

    if to_serve and not doubtful and (message := unreachable(config)):
        problems.append(f"{path or 'configuration'}: {message}")
    if problems:
        raise ConfigError(problems)
    return LoadedConfig(config, settings)


def _is_inside(path: SettingPath, others: set[SettingPath]) -> bool:
    """True when `path` or something that encloses it is among the others."""
    return any(path[:length] in others for length in range(1, len(path) + 1))


def _validate(settings: Iterable[Setting]) -> Config:
    """Strictly, as JSON: a list may stand for a tuple, but text never for a number."""
    tables: dict[str, Any] = {}
    for setting in sorted(settings, key=lambda setting: len(setting.path)):
        table = tables
        for name in setting.path[:-1]:
            table = table.setdefault(name, {})
        value = setting.value
        table[setting.path[-1]] = dict(value) if isinstance(value, dict) else value
    return Config.model_validate_json(json.dumps(tables, default=str), strict=True)


def _responsible(detail: ErrorDetails, settings: Mapping[SettingPath, Setting]) -> Setting:
    """The setting that an error is about. For one about a whole section: a setting that the message names."""
    path = tuple(str(part) for part in detail["loc"])
    for length in range(len(path), 0, -1):
        if path[:length] in settings:
            return settings[path[:length]]
    inside = [setting for setting in settings.values() if setting.path[: len(path)] == path]
    named = [setting for setting in inside if setting.path[-1] in detail["msg"]]
    return (named or inside)[-1]


def _problem(detail: ErrorDetails, setting: Setting) -> str:
    message = detail["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if detail["loc"][-1] == "[key]":
        message = 'the name of a namespace is 1 to 64 letters, digits, "_", "." or "-"'
    elif message.startswith("must") and not isinstance(setting.value, (dict, list)) and not is_secret(setting.path):
        message += f", is {json.dumps(setting.value, default=str, ensure_ascii=False)}"
    index = next((f" item {part + 1}" for part in detail["loc"] if isinstance(part, int)), "")
    return f"{setting.place}{index}: {message}"
