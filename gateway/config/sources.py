"""The places that settings come from: a TOML file, the environment, flags. Each becomes a list of `Setting`s.

Values are taken apart here and judged by the models later. Names that do not exist are problems found here, because
only here the place is known.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic.fields import FieldInfo

from gateway.config.namespace import Namespace
from gateway.config.schema import (
    ENV_PREFIX,
    NAMESPACES,
    SettingPath,
    all_settings,
    closest,
    did_you_mean,
    env_name,
    field_at,
    is_list,
    is_secret,
    is_table,
    sections,
    toml_name,
)
from gateway.config.secrets import SUFFIX, read_secret, secret_at

Origin = Literal["preset", "file", "env", "flag"]

FLAGS: Final[Mapping[str, SettingPath]] = {
    "host": ("server", "host"),
    "port": ("server", "port"),
    "workers": ("server", "workers"),
    "control_host": ("control", "host"),
    "control_port": ("control", "port"),
    "redis_url": ("redis", "url"),
    "log_level": ("log", "level"),
    "log_format": ("log", "format"),
}
"""Flag, as a Python name → the setting that it overrides."""


class Setting(NamedTuple):
    """One value that somebody set. `place` begins a problem's line; it names the setting in the words of its source."""

    path: SettingPath
    value: Any
    origin: Origin
    place: str


class Source(NamedTuple):
    """What one place says, what is wrong with it, and what is worth a warning."""

    settings: list[Setting]
    problems: list[str]
    warnings: list[str]


def from_table(table: Mapping[str, Any], origin: Origin, places: Places) -> Source:
    """Settings of a nested table, as TOML gives it."""
    source = Source([], [], [])
    for section, content in table.items():
        if section == NAMESPACES:
            for namespace, rules in _table(source, (section,), content, places).items():
                path: SettingPath = (section, namespace)
                # A namespace counts even when it has no rules of its own.
                source.settings.append(Setting(path, {}, origin, places.name(path)))
                _take(source, path, _table(source, path, rules, places), Namespace.model_fields, origin, places)
        elif section in sections():
            rules = _table(source, (section,), content, places)
            _take(source, (section,), rules, sections()[section].model_fields, origin, places)
        elif isinstance(content, dict):
            hint = did_you_mean(closest(section, [*sections(), NAMESPACES]))
            source.problems.append(f"{places.name((section,))}: there is no such section{hint}")
        else:
            source.problems.append(f"{places.line((section,))}: {section}: stands in no section{_homes(section)}")
    return source


def _table(source: Source, path: SettingPath, content: object, places: Places) -> dict[str, Any]:
    if isinstance(content, dict):
        return content
    source.problems.append(f"{places.name(path)}: must be a section")
    return {}


def _take(
    source: Source,
    path: SettingPath,
    content: Mapping[str, Any],
    fields: Mapping[str, FieldInfo],
    origin: Origin,
    places: Places,
) -> None:
    for key, value in content.items():
        full = (*path, key)
        if key in fields:
            source.settings.append(Setting(full, value, origin, places.name(full)))
        elif (secret := secret_at(full)) is not None:
            if secret[-1] in content:
                source.problems.append(f"{places.name(full)}: {secret[-1]} is given, too; one of them is enough")
            _take_secret(source, secret, value, origin, places.name(full))
        else:
            hint = did_you_mean(closest(key, fields)) or _homes(key)
            source.problems.append(f"{places.name(full)}: there is no such key{hint}")


def _take_secret(source: Source, path: SettingPath, file: object, origin: Origin, place: str) -> None:
    """The secret at `path` from `file`."""
    field = field_at(path)
    if field is None:
        return
    try:
        secret = read_secret(file, field)
    except ValueError as error:
        source.problems.append(f"{place}: {error}")
        return
    source.settings.append(Setting(path, secret.value, origin, f"{place} ({file})"))
    if secret.warning:
        source.warnings.append(f"{place}: {secret.warning}")


def _homes(key: str) -> str:
    """The sections that have `key`, as a hint."""
    homes = [f"[{name}]" for name, model in sections().items() if key in model.model_fields]
    return f"; it belongs under {' or '.join(homes)}" if homes else ""


class Places:
    """Where in a TOML file a setting stands: `gateway.toml:12: [server] port`.

    The parser keeps no lines, so the text is scanned once more. A setting that the scan does not see (inside an inline
    table) gets the line of what encloses it.
    """

    __slots__ = ("_file", "_lines")

    def __init__(self, file: str, text: str = "") -> None:
        self._file = file
        self._lines = dict(_scan(text))

    def name(self, path: SettingPath) -> str:
        """File, line and name of the setting at `path`."""
        return f"{self.line(path)}: {toml_name(path)}"

    def line(self, path: SettingPath) -> str:
        """File and line of the setting at `path`."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return f"{self._file}:{line}"
        return self._file


_KEY: Final = r"""(?:[A-Za-z0-9_\-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEYS: Final = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER: Final = re.compile(rf"\s*\[{{1,2}}\s*({_KEYS})\s*\]")
_ASSIGNMENT: Final = re.compile(rf"\s*({_KEYS})\s*=")


def _scan(text: str) -> Iterator[tuple[SettingPath, int]]:
    header: SettingPath = ()
    quotes = ""  # of the multi-line string that the line is in
    for number, line in enumerate(text.splitlines(), start=1):
        inside = bool(quotes)
        for found in re.findall(r'"""|\'\'\'', line):
            if quotes in ("", found):
                quotes = "" if quotes else found
        if inside:
            continue
        if match := _HEADER.match(line):
            header = _parts(match[1])
            yield header, number
        elif match := _ASSIGNMENT.match(line):
            path = (*header, *_parts(match[1]))
            for length in range(len(header) + 1, len(path) + 1):
                yield path[:length], number


def _parts(keys: str) -> SettingPath:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, keys))


def from_file(path: Path) -> Source:
    """Settings of a TOML file."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        return Source([], [f"{path}: {error.strerror or error}"], [])
    except UnicodeDecodeError as error:
        return Source([], [f"{path}: not UTF-8 at byte {error.start}"], [])
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        where = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
        line = (where[1] if where else None) or str(text.count("\n") + 1)
        return Source([], [f"{path}:{line}: not TOML: {message}"], [])
    except RecursionError:
        return Source([], [f"{path}: not TOML: nested too deeply"], [])
    return from_table(table, "file", Places(str(path), text))


def from_environment(environ: Mapping[str, str], namespaces: Iterable[str]) -> Source:
    """Settings of variables `GATEWAY_<SECTION>__<KEY>`.

    Other programs may have variables with the same prefix, and Kubernetes sets GATEWAY_PORT for a service called
    `gateway`. A variable is a problem only if its section is ours or nearly so, or if it is a setting's name but for
    the number of underscores.

    `namespaces`: those that have a name already, for the ones with characters that no variable's name can have.
    """
    named = {env_name((name,)): name for name in namespaces}
    source = Source([], [], [])
    for variable, text in sorted(environ.items()):
        if not variable.upper().startswith(ENV_PREFIX):
            continue
        words = variable.upper().removeprefix(ENV_PREFIX).lower().split("__")
        if len(words) < 2 or not closest(words[0], (*sections(), NAMESPACES)):
            if (meant := _near_miss(variable)) and not _SERVICE_LINK.match(text):
                source.problems.append(f'{variable}: sections and keys are joined by two underscores: "{meant}"')
            continue
        path: SettingPath = tuple(words)
        if words[0] == NAMESPACES and len(words) > 2:
            name = "__".join(words[1:-1])
            path = (NAMESPACES, named.get(env_name((name,)), name), words[-1])
        field = field_at(path)
        if field is None and (secret := secret_at(path)) is not None:
            if variable.upper().removesuffix(SUFFIX.upper()) in {name.upper() for name in environ}:
                source.problems.append(f"{variable}: {env_name(secret)} is set, too; one of them is enough")
            _take_secret(source, secret, text, "env", variable)
            continue
        if field is None:
            source.problems.append(f"{variable}: there is no such setting{_closest_variable(path)}")
            continue
        if not _is_utf8(text):
            source.problems.append(f"{variable}: the value is not UTF-8")
            continue
        try:
            source.settings.append(Setting(path, _typed(text, field), "env", variable))
        except ValueError as error:
            source.problems.append(f"{variable}: {error}")
    return source


_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
"""How the value begins that Kubernetes gives to `<SERVICE>_PORT`."""


def _near_miss(variable: str) -> str:
    """The variable that `variable` would be with the right number of underscores, or ""."""
    squeezed = _squeezed(variable.upper())
    for path, _ in all_settings(()):
        for name in (env_name(path), env_name(path) + SUFFIX.upper()):
            if _squeezed(name) == squeezed and (name == env_name(path) or is_secret(path)):
                return name
    of_namespaces = _squeezed(env_name((NAMESPACES, "")))
    for key in Namespace.model_fields:
        end = f"_{key.upper()}"
        if squeezed.startswith(of_namespaces) and squeezed.endswith(end) and len(squeezed) > len(of_namespaces + end):
            return env_name((NAMESPACES, squeezed[len(of_namespaces) : -len(end)], key))
    return ""


def _squeezed(name: str) -> str:
    return re.sub("_+", "_", name)


def _closest_variable(path: SettingPath) -> str:
    """The variable that was probably meant, as a hint."""
    if path[0] == NAMESPACES:
        home: SettingPath = path[:-1] if len(path) > 2 else (NAMESPACES, "default")
        known: Iterable[str] = Namespace.model_fields
    else:
        home = (path[0] if path[0] in sections() else closest(path[0], sections()),)
        known = sections()[home[0]].model_fields if home[0] else ()
    key = closest(path[-1], known)
    if not key:
        home = next(((name,) for name, model in sections().items() if path[-1] in model.model_fields), ())
        key = path[-1] if home else ""
    return did_you_mean(env_name((*home, key)) if key else "")


_BOOLEANS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def _typed(text: str, field: FieldInfo) -> object:
    """The value that a variable's text stands for. Raises ValueError."""
    if is_list(field):
        return _list(text)
    if is_table(field):
        return _table_of(text)
    kind = field.annotation
    if kind is bool:
        if text.strip().lower() not in _BOOLEANS:
            raise ValueError("must be true or false")
        return _BOOLEANS[text.strip().lower()]
    for number, name in ((int, "a whole number"), (float, "a number")):
        if kind is number:
            try:
                return number(text)
            except ValueError:
                raise ValueError(f"must be {name}") from None
    return text


def _list(text: str) -> list[object]:
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        value = json.loads(text)
    except ValueError:
        raise ValueError('must be a JSON list such as ["a", "b"], or a, b') from None
    return list(value)


def _table_of(text: str) -> dict[str, object]:
    try:
        return dict(json.loads(text).items())
    except (ValueError, AttributeError):
        raise ValueError('must be a JSON object such as {"name": "value"}') from None


def from_flags(flags: Mapping[str, object]) -> Source:
    """Settings of command line flags, by the names in `FLAGS`. None = not given."""
    source = Source([], [], [])
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if isinstance(value, str) and not _is_utf8(value):
            source.problems.append(f"{flag}: the value is not UTF-8")
        else:
            source.settings.append(Setting(FLAGS[name], value, "flag", flag))
    return source


def _is_utf8(text: str) -> bool:
    """False for text with bytes that Python could not decode when it read the environment or the arguments."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
