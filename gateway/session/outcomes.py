"""How a command can end other than with a result. Raised inside the session, never out of it."""

from __future__ import annotations

from protocol.codes import DisconnectCode, ErrorCode


class Refusal(Exception):
    """The command is answered with an error. `detail` is appended to the message, for people."""

    def __init__(self, error: ErrorCode, detail: str = "") -> None:
        self.error = error
        self.detail = detail
        super().__init__(f"{error.message}: {detail}" if detail else error.message)


class Disconnect(Exception):
    """The connection is closed. `why` is for the log."""

    def __init__(self, disconnect: DisconnectCode, why: str = "") -> None:
        self.disconnect = disconnect
        self.why = why
        super().__init__(why or disconnect.reason)
