"""Every exception of the gateway, in one tree. A leaf: imports nothing of the gateway.

    GatewayError
    ├── ConfigError           the configuration cannot be used; carries every problem found
    ├── StartupError          a process cannot start (port taken, no Redis to embed, file limit too low)
    ├── TokenError
    │   ├── TokenInvalid      forged, malformed, wrong audience or issuer, unknown key
    │   └── TokenExpired      was valid once
    ├── PublishInvalid        what a backend gave cannot be published; carries the field; nothing was sent
    ├── BackendUnavailable    a hook into the backend gave no answer, or could not be asked; temporary
    └── BrokerError
        ├── BrokerUnavailable Redis cannot be reached; temporary
        │   └── PublishFailed a backend's publication, after all its attempts; carries their number
        ├── BrokerBusy        too many operations wait for Redis; temporary
        ├── BrokerRefused     Redis answered with an error (permissions, out of memory)
        └── PublisherClosed   the publisher was not entered, or is closed

`protocol.errors.ProtocolError` is not here: the protocol package stands on its own.
"""

from __future__ import annotations

from collections.abc import Sequence


class GatewayError(Exception):
    """Base of all errors that the gateway raises on purpose."""


class ConfigError(GatewayError):
    """The configuration cannot be used. `problems` holds one line for each thing that is wrong, with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class StartupError(GatewayError):
    """A process cannot start. The message says what happened and what to do."""


class TokenError(GatewayError):
    """A token was not accepted. The message is for the log, never for the client."""


class TokenInvalid(TokenError):
    """Not a token of ours: forged, malformed, for another audience, or signed with an unknown key."""


class TokenExpired(TokenError):
    """Signed by us, but its time is over: the client should fetch a new one."""


class BackendUnavailable(GatewayError):
    """The backend was asked in vain, or could not be asked: temporary for the client."""


class BrokerError(GatewayError):
    """An operation on Redis failed."""


class BrokerUnavailable(BrokerError):
    """Redis cannot be reached at the moment."""


class BrokerBusy(BrokerError):
    """Too many operations wait for Redis already."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(f"{waiting} operations wait for Redis already")


class BrokerRefused(BrokerError):
    """Redis answered with an error."""


class PublishInvalid(GatewayError, ValueError):
    """What was given cannot be published. `field` names what is wrong with it; nothing was sent."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class PublishFailed(BrokerUnavailable):
    """Redis did not confirm a publication; it may have been delivered when `attempts` > 0."""

    def __init__(self, channel: str, attempts: int, waited_s: float, reason: str) -> None:
        self.channel = channel
        self.attempts = attempts
        self.waited_s = waited_s
        super().__init__(f'"{channel}" not confirmed after {attempts} attempts in {waited_s:.1f} s: {reason}')


class PublisherClosed(BrokerError):
    """The publisher was not entered, or is closed."""
