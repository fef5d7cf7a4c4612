"""What is asked, and its key: SHA-256 over one canonical form.

Two requests have the same key exactly when they mean the same: the order of keys makes no difference, nor `1` for
`1.0`, nor a parameter that is spelled out with the provider's default or as None. Everything else does, the tenant
above all. What has no such form (NaN, bytes, a key that is no text) is refused with its place: a key from a value that
is written in two ways, or that equals nothing, would be worse than an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from gateway.errors import CacheInvalid

VERSION: Final = 1
"""Part of every key: another form gets other keys."""
DEPTH: Final = 64
"""Levels of a request, at most."""
INTEGER_BITS: Final = 4096
"""Size of a whole number, at most; the largest float has 1,024."""

IGNORED: Final = frozenset(("stream", "stream_options"))
"""Parameters that say how an answer travels, not what it is."""

Defaults = Mapping[str, Mapping[str, Any]]
"""Provider → its parameters' values when a request does not give them."""

DEFAULTS: Final[Defaults] = MappingProxyType(
    {
        "openai": MappingProxyType(
            {"temperature": 1, "top_p": 1, "n": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False}
        ),
        "anthropic": MappingProxyType({"temperature": 1}),
    }
)
"""Documented defaults of well-known providers. A provider that is not here has none."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked. Values are those of JSON: None, bool, int, float, str, lists or tuples, mappings."""

    kind: str
    """Which rules apply: a name of `Options.kinds`."""
    tenant: str
    """Who may share the answer: an organisation, or one user. Never empty."""
    provider: str
    model: str
    parameters: Mapping[str, Any] = {}
    messages: Sequence[Any] = ()
    tools: Sequence[Any] = ()


def digest_of(request: Request, defaults: Defaults = DEFAULTS) -> str:
    """The key: 64 hexadecimal digits. Raises CacheInvalid."""
    return hashlib.sha256(canonical(request, defaults)).hexdigest()


def canonical(request: Request, defaults: Defaults = DEFAULTS) -> bytes:
    """The canonical form: JSON, in UTF-8. Raises CacheInvalid."""
    for name in ("kind", "tenant", "provider", "model"):
        value = getattr(request, name)
        if not isinstance(value, str) or not value:
            raise CacheInvalid(name, "must be text, and not empty")
    form = {
        "version": VERSION,
        "kind": request.kind,
        "tenant": request.tenant,
        "provider": request.provider,
        "model": request.model,
        "parameters": _parameters(request, defaults),
        "messages": _sequence(request.messages, "messages"),
        "tools": _sequence(request.tools, "tools"),
    }
    try:
        return json.dumps(form, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise CacheInvalid(_place_of_surrogate(form), "has half a character (a lone surrogate)") from error


def temperature_of(request: Request, defaults: Defaults = DEFAULTS) -> float:
    """The temperature that the model will use; 0 when nobody says. Raises CacheInvalid."""
    value = request.parameters.get("temperature")
    if value is None:
        value = defaults.get(request.provider, {}).get("temperature", 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value < 0:  # noqa: PLR0124
        raise CacheInvalid("parameters.temperature", "must be a number from 0")
    return float(value)


def _parameters(request: Request, defaults: Defaults) -> dict[str, Any]:
    if not isinstance(request.parameters, Mapping):
        raise CacheInvalid("parameters", f"must be a mapping, is a {type(request.parameters).__name__}")
    usual = {
        name: _canonical(value, f"defaults.{request.provider}.{name}", 1)
        for name, value in defaults.get(request.provider, {}).items()
    }
    found = {}
    for name, value in _canonical(request.parameters, "parameters", 0).items():
        if value is None or name in IGNORED or (name in usual and _same(usual[name], value)):
            continue
        found[name] = value
    return found


def _same(one: Any, other: Any) -> bool:
    """As JSON: False is not 0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _sequence(value: Any, place: str) -> list[Any]:
    found = _canonical(value, place, 0)
    if not isinstance(found, list):
        raise CacheInvalid(place, f"must be a sequence, is a {type(value).__name__}")
    return found


def _canonical(value: Any, place: str, depth: int) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if value.bit_length() > INTEGER_BITS:
            raise CacheInvalid(place, f"is a number of more than {INTEGER_BITS} bits")
        return int(value)
    if isinstance(value, float):
        if value - value != 0:
            raise CacheInvalid(place, f"is {value}, which is no number that could be asked for again")
        return int(value) if value.is_integer() else float(value)
    if depth >= DEPTH:
        raise CacheInvalid(place, f"is more than {DEPTH} levels deep, or contains itself")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise CacheInvalid(place, f"has a key that is no text: {key!r:.40}")
        return {str(key): _canonical(each, f"{place}.{key}", depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each, f"{place}[{index}]", depth + 1) for index, each in enumerate(value)]
    raise CacheInvalid(place, f"is a {type(value).__name__}; only values of JSON can be part of a key")


def _place_of_surrogate(value: Any, place: str = "") -> str:
    """Where in a canonical form the text is that cannot be encoded."""
    if isinstance(value, dict):
        for key, each in value.items():
            inside = f"{place}.{key!a}" if _is_broken(key) else f"{place}.{key}"
            if _is_broken(key) or (found := _place_of_surrogate(each, inside)):
                return (inside if _is_broken(key) else found).removeprefix(".")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            if found := _place_of_surrogate(each, f"{place}[{index}]"):
                return found
    elif isinstance(value, str) and _is_broken(value):
        return place
    return ""


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
