"""User → sessions on this worker. Most users have one session, so one costs no container."""

from __future__ import annotations

from typing import Generic, TypeVar

S = TypeVar("S")


class UserIndex(Generic[S]):
    """Every session of every user. The user "" (anonymous) is not indexed: those sessions have nothing in common."""

    __slots__ = ("_sessions",)

    def __init__(self) -> None:
        self._sessions: dict[str, S | set[S]] = {}

    def __len__(self) -> int:
        """Number of users."""
        return len(self._sessions)

    def add(self, user: str, session: S) -> None:
        if not user:
            return
        known = self._sessions.get(user)
        if known is None:
            self._sessions[user] = session
        elif isinstance(known, set):
            known.add(session)
        else:
            self._sessions[user] = {known, session}

    def remove(self, user: str, session: S) -> None:
        known = self._sessions.get(user)
        if known is session:
            del self._sessions[user]
        elif isinstance(known, set):
            known.discard(session)
            if not known:
                del self._sessions[user]

    def sessions(self, user: str) -> tuple[S, ...]:
        """All sessions of `user` here."""
        known = self._sessions.get(user)
        if known is None:
            return ()
        return tuple(known) if isinstance(known, set) else (known,)
