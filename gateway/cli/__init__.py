"""The command line: `nexus-gateway serve | demo | token | publish | top | config check | config init |
config show | config env | outbox init | outbox status | outbox dead | outbox replay`.

Commands read arguments, call one room, and say in words what happened. Exit status: 0 done, 1 could not be done,
2 wrong arguments or configuration.
"""

from gateway.cli.commands import main

__all__ = ["main"]
