"""One publication followed from its client to the sockets.

Publications carry no time, and clocks of several machines would not do. So a worker follows one publication of its own
clients at a time: it knows when it sent it to Redis, and it knows it when it comes back by channel and client. That
is a sample; the rule that is easiest to break is that it costs nothing while nobody publishes.
"""

from __future__ import annotations

from typing import Final

from protocol.replies import Publication

GIVEN_UP_S: Final = 5.0
"""Time after which a publication that has not come back is left alone: nobody on this worker is subscribed."""


class PublishSample:
    """The publication that is being followed; `channel` is "" when there is none."""

    __slots__ = ("_client", "begun_s", "channel")

    def __init__(self) -> None:
        self.channel = ""
        self.begun_s = 0.0
        """When it was published, on `time.perf_counter`."""
        self._client = ""

    def begin(self, channel: str, client: str, now_s: float) -> None:
        """Follow what `client` publishes to `channel` now, unless another publication is on its way."""
        if not self.channel or now_s - self.begun_s > GIVEN_UP_S:
            self.channel, self._client, self.begun_s = channel, client, now_s

    def ends_with(self, channel: str, publication: Publication) -> bool:
        """Whether this is it. Then another one may begin."""
        if channel != self.channel or publication.info is None or publication.info.client != self._client:
            return False
        self.channel = ""
        return True
