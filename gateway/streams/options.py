"""What can be chosen for the streams of a producer, checked once."""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.broker.streams import Life, stream_channel
from gateway.errors import StreamInvalid
from protocol.channel import parse_channel
from protocol.errors import ChannelError

LEASE_S: Final = 10.0
TEXT_TTL_S: Final = 3600.0
REMEMBER_S: Final = 7 * 86_400.0
MAX_BYTES: Final = 1_048_576
RETRY_FOR_S: Final = 30.0


class Options(NamedTuple):
    """Choices, with their defaults."""

    lease_s: float = LEASE_S
    """A producer that is silent for so long is dead; writers say three times as often that they live. 0.1 to 3600."""
    text_ttl_s: float = TEXT_TTL_S
    """Life of the text after the end, or after the last sign of life. 1 s to a year."""
    remember_s: float = REMEMBER_S
    """Time for which is known that there was a stream: who comes back is told `not_resumable`."""
    max_bytes: int = MAX_BYTES
    """Bytes of text (UTF-8) at which a stream is truncated; 8 MiB at most."""
    coalesce_s: float = 0.04
    """Time for which text waits for more before it is sent, unless a sentence or line ends or there is enough of it."""
    coalesce_bytes: int = 1024
    """Bytes of text that do not wait for more."""
    retry_for_s: float = RETRY_FOR_S
    """Time for which Redis may be away before a producer gets StreamUnavailable."""

    def life(self) -> Life:
        """As the script takes it. Raises StreamInvalid."""
        for name, value, least, most in (
            ("lease_s", self.lease_s, 0.1, 3600),
            ("text_ttl_s", self.text_ttl_s, 1, 31_536_000),
            ("remember_s", self.remember_s, 1, 63_072_000),
            ("max_bytes", self.max_bytes, 1, 8_388_608),
            ("coalesce_s", self.coalesce_s, 0, 10),
            ("coalesce_bytes", self.coalesce_bytes, 1, 65_536),
            ("retry_for_s", self.retry_for_s, 0, 86_400),
        ):
            if not least <= value <= most:
                raise StreamInvalid(f"{name} must be from {least} to {most}")
        lease_ms, text_ms = int(self.lease_s * 1000), int(self.text_ttl_s * 1000)
        return Life(lease_ms, text_ms, max(int(self.remember_s * 1000), text_ms + lease_ms), self.max_bytes)


def check_key(key: str) -> str:
    """The channel of the stream `key`. Raises StreamInvalid."""
    try:
        return parse_channel(stream_channel(key)).full
    except ChannelError as error:
        raise StreamInvalid(f"key: {error}") from error
