"""Token streams: whether there are any, and how long they live."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from gateway.config.base import Section
from gateway.config.namespace import Namespace

STREAM_NAMESPACE: Final = "stream"
"""The namespace whose channels are token streams."""
STREAM_RULES: Final = Namespace(
    history_size=512,
    history_ttl_s=3600.0,
    recover=True,
    subscribe_by="token",
    history_by="nobody",
    presence_by="nobody",
)
"""Its rules, unless the configuration has some. The log is the script's: the first two say only that there is one."""


class Streams(Section):
    """Token streams in the namespace `stream`. All but the first key are for backends that read this configuration."""

    enabled: bool = False
    """Channels `stream:…` are token streams; their owners may subscribe to them, and others with a token."""
    lease_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    """A producer that is silent for so long is dead: its stream ends as failed, `producer_lost`."""
    text_ttl_s: Annotated[float, Field(ge=1, le=31_536_000)] = 3600.0
    """Time for which the text is kept after the end, or after the last sign of life."""
    remember_s: Annotated[float, Field(ge=1, le=63_072_000)] = 604_800.0
    """Time for which is known that there was a stream: who comes back is told `not_resumable`."""
    max_bytes: Annotated[int, Field(ge=1, le=8_388_608)] = 1_048_576
    """Bytes of text at which a stream is truncated."""


def broken_rules(rules: Namespace) -> list[str]:
    """What rules of the namespace keep token streams from working."""
    wanted = (
        (rules.has_history and rules.recover, "history_size, history_ttl_s and recover = true"),
        (rules.recover_mode == "log", 'recover_mode = "log"'),
        (rules.slow_consumer == "catch_up", 'slow_consumer = "catch_up"'),
        (rules.publish_by == "nobody", 'publish_by = "nobody"'),
        (not rules.delta, "delta = false"),
    )
    return [f"[namespaces.{STREAM_NAMESPACE}]: token streams need {what}" for kept, what in wanted if not kept]
