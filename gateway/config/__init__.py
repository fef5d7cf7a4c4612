"""Configuration: `model` says what there is, with a module for each larger section, `load` reads it. A leaf room:
nothing here reads a file at import.

`sources` takes a TOML file, the environment and flags apart, `checks` holds the rules that span several settings,
`show` writes a configuration down for people.
"""

from gateway.config.backend import Backend
from gateway.config.cache import Cache
from gateway.config.certificate import load_certificate
from gateway.config.checks import warnings
from gateway.config.keys import ApiKey
from gateway.config.limits import Limits
from gateway.config.load import LoadedConfig, load_config, read_config
from gateway.config.memory import Memory
from gateway.config.model import (
    Auth,
    Config,
    Control,
    Delivery,
    Keepalive,
    Log,
    Redis,
    Server,
)
from gateway.config.namespace import Namespace
from gateway.config.outbox import Outbox
from gateway.config.streams import STREAM_NAMESPACE, Streams

__all__ = [
    "STREAM_NAMESPACE",
    "ApiKey",
    "Auth",
    "Backend",
    "Cache",
    "Config",
    "Control",
    "Delivery",
    "Keepalive",
    "Limits",
    "LoadedConfig",
    "Log",
    "Memory",
    "Namespace",
    "Outbox",
    "Redis",
    "Server",
    "Streams",
    "load_certificate",
    "load_config",
    "read_config",
    "warnings",
]
