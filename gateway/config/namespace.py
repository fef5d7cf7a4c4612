"""The rules of a namespace: what its channels keep, and who may do what in them."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from gateway.config.base import Count, Seconds, Section

Who = Literal["nobody", "subscriber", "authenticated", "anyone"]
SubscribeBy = Literal["nobody", "token", "authenticated", "anyone", "backend"]
PublishBy = Literal["nobody", "subscriber", "authenticated", "anyone", "backend"]
SlowConsumer = Literal["catch_up", "conflate", "drop", "disconnect"]


class Namespace(Section):
    """Rules for the channels `<name>:…`; `default` is for channels without a namespace."""

    history_size: Count = 0
    """Publications kept per channel; 0 = none."""
    history_ttl_s: Seconds = 0.0
    """Time that publications are kept."""
    recover: bool = False
    """Clients that come back get what they missed. Needs history."""
    recover_mode: Literal["log", "cache"] = "log"
    """log = everything that was missed; cache = the newest publication whenever somebody subscribes."""
    presence: bool = False
    """Keep who is subscribed. A client sees itself at once; others, and the API, see it some milliseconds later."""
    join_leave: bool = False
    """Tell every subscriber who joins and leaves. Clients of a worker that died leave only where `presence` is on."""
    subscribe_by: SubscribeBy = "authenticated"
    """Who may subscribe. `backend` = whoever the hook `subscribe` lets in, into `$` channels, too."""
    publish_by: PublishBy = "nobody"
    """Which clients may publish; `backend` = those that the hook `publish` lets. Backends publish through Redis or
    the API in any case."""
    history_by: Who = "subscriber"
    """Which clients may read the history."""
    presence_by: Who = "subscriber"
    """Which clients may read the presence."""
    slow_consumer: SlowConsumer = "catch_up"
    """What happens to a subscriber whose send budget is used up. `catch_up` needs history; without it, `drop`."""
    delta: bool = False
    """Clients that ask for it get the difference to the publication before, where that is shorter (Fossil deltas)."""
    server_side: tuple[str, ...] = ()
    """Channels of this namespace, by full name, that every client is subscribed to when it connects."""

    @property
    def has_history(self) -> bool:
        """Whether publications are kept: both bounds are set."""
        return self.history_size > 0 and self.history_ttl_s > 0

    @model_validator(mode="after")
    def _history_is_whole(self) -> Namespace:
        if (self.history_size > 0) != (self.history_ttl_s > 0):
            raise ValueError("history needs both history_size and history_ttl_s")
        if self.recover and not self.history_size:
            raise ValueError("recover = true needs history_size and history_ttl_s")
        return self
