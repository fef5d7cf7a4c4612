"""Every exception of the gateway, in one tree. A leaf: imports nothing of the gateway.

    GatewayError
    ├── ConfigError           the configuration cannot be used; carries every problem found
    ├── StartupError          a process cannot start (port taken, no Redis to embed, file limit too low)
    ├── TokenError
    │   ├── TokenInvalid      forged, malformed, wrong audience or issuer, unknown key
    │   └── TokenExpired      was valid once
    ├── PublishInvalid        what a backend gave cannot be published; carries the field; nothing was sent
    ├── BackendUnavailable    a hook into the backend gave no answer, or could not be asked; temporary
    ├── StreamError           a token stream
    │   ├── StreamInvalid     a key, text or option that cannot be; nothing was sent
    │   ├── StreamActive      another generation of the stream lives; carries it
    │   ├── StreamDenied      only its owner may cancel a stream
    │   ├── StreamUnavailable Redis was away for too long
    │   ├── StreamClosed      it is over for this writer, or was not entered
    │   └── StreamEnded       somebody else has ended the stream; carries how
    │       ├── StreamCancelled   a client, a backend, or because nobody watched
    │       ├── StreamSuperseded  a newer generation took its place
    │       └── StreamTruncated   its text has reached its size
    ├── CacheError            the response cache
    │   ├── CacheInvalid      a request or an option that cannot be; carries the place
    │   ├── CacheClosed       it was not entered, or is closed
    │   ├── AnswerRestarted   a new producer says something else than what was handed on already
    │   └── AnswerFailed      nobody has the answer: its producer failed; carries code and message
    │       └── AnswerRefused     it fails so every time: kept for a short time
    ├── SqlError              the database of the outbox
    │   ├── SqlUnavailable    it cannot be reached, or no connection became free; temporary
    │   └── SqlRefused        it answered with an error (no such table, permissions)
    └── BrokerError
        ├── BrokerUnavailable Redis cannot be reached; temporary
        │   └── PublishFailed a backend's publication, after all its attempts; carries their number
        ├── BrokerBusy        too many operations wait for Redis; temporary
        ├── BrokerRefused     Redis answered with an error (permissions, a key of another type)
        │   └── BrokerFull    Redis takes nothing from anybody at the moment (out of memory, cannot write to its disk)
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


class SqlError(GatewayError):
    """An operation on the database failed."""


class SqlUnavailable(SqlError):
    """The database cannot be reached at the moment, or is too busy."""


class SqlRefused(SqlError):
    """The database answered with an error."""


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


class BrokerFull(BrokerRefused):
    """Redis takes nothing from anybody at the moment."""


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


class StreamError(GatewayError):
    """Something about a token stream."""


class StreamInvalid(StreamError, ValueError):
    """A key, a text or an option that cannot be. Nothing was sent."""


class StreamActive(StreamError):
    """The stream has a generation whose producer lives. `generation` is that one."""

    def __init__(self, key: str, generation: str) -> None:
        self.key = key
        self.generation = generation
        super().__init__(f'"{key}" is being produced already')


class StreamDenied(StreamError):
    """Only its owner may cancel a stream."""


class StreamUnavailable(StreamError):
    """Redis did not answer for too long: what was given last may or may not be in the stream."""


class StreamClosed(StreamError):
    """The writer was not entered, or is over."""


class StreamEnded(StreamError):
    """The stream is over although its producer has not ended it. `status` says how, `terminal` is the JSON record."""

    def __init__(self, key: str, status: str, terminal: bytes = b"") -> None:
        self.key = key
        self.status = status
        self.terminal = terminal
        super().__init__(f'"{key}" is {status}')


class StreamCancelled(StreamEnded):
    """A client or a backend has cancelled the stream, or nobody watched it."""


class StreamSuperseded(StreamEnded):
    """A newer generation has taken the place of this one."""


class StreamTruncated(StreamEnded):
    """The text has reached its size: what was in it until then is there, and the stream has ended."""


class CacheError(GatewayError):
    """Something about the response cache."""


class CacheInvalid(CacheError, ValueError):
    """A request that cannot be a key, or an option that cannot be. `place` names it: `messages[2].content`."""

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(f"{place}: {problem}")


class CacheClosed(CacheError):
    """The cache was not entered, or is closed."""


class AnswerRestarted(CacheError):
    """The producer died, and the text of the next one does not begin with the `handed_on` characters."""

    def __init__(self, handed_on: int) -> None:
        self.handed_on = handed_on
        super().__init__(f"a new producer says something else than the first {handed_on} characters")


class AnswerFailed(CacheError):
    """The producer failed. Who follows the stream sees `code` (for programs) and `message` (for people) as well."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


class AnswerRefused(AnswerFailed):
    """The same request will fail so every time (too long, not allowed): it is not asked again for a short time."""
