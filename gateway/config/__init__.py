"""Configuration: `model` says what there is, `load` reads it. A leaf room: nothing here reads a file at import.

`sources` takes a TOML file, the environment and flags apart, `checks` holds the rules that span several settings,
`show` writes a configuration down for people.
"""

from gateway.config.checks import warnings
from gateway.config.control import ApiKey, Control
from gateway.config.load import LoadedConfig, load_config, read_config
from gateway.config.model import (
    Auth,
    Config,
    Delivery,
    Keepalive,
    Limits,
    Log,
    Namespace,
    Redis,
    Server,
)

__all__ = [
    "ApiKey",
    "Auth",
    "Config",
    "Control",
    "Delivery",
    "Keepalive",
    "Limits",
    "LoadedConfig",
    "Log",
    "Namespace",
    "Redis",
    "Server",
    "load_config",
    "read_config",
    "warnings",
]
