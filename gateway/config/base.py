"""What all sections of the configuration are made of: types with bounds, checks, their base class."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Secret = Annotated[str, Field(repr=False)]
"""A value that no message, log line or listing may show. `repr=False` is what marks a field as secret."""


def is_loopback(host: str) -> bool:
    """True for `localhost` and for addresses that only this machine reaches."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_network(network: str) -> str:
    """A network in CIDR notation, or one address. Raises ValueError."""
    try:
        return str(ipaddress.ip_network(network))
    except ValueError as error:
        raise ValueError(f'"{network}" is no network: write 10.0.0.0/8 or 2001:db8::/32 ({error})') from None


def check_jwks_url(url: str) -> None:
    """Raise ValueError unless nobody on the way can change what `url` answers, and it may be written to the log."""
    parts = urlsplit(url)
    if parts.port == 0 or "@" in parts.netloc:
        raise ValueError("must not contain a user name or password, nor port 0")
    secure = parts.scheme == "https" and parts.hostname
    if not secure and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError("must be https:// (http:// only on loopback): whoever controls the key set is every user")


def long_enough(key: str) -> str:
    """An API key that nobody guesses. Raises ValueError."""
    if len(key) < 16:
        raise ValueError("an API key needs at least 16 characters")
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError("an API key has printable ASCII characters only: it is sent as a header")
    return key


class Section(BaseModel):
    """Base of all sections: closed, immutable, with field docstrings as descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
