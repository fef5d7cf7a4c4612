"""The forms in which subscribers of one channel want the same publications, and the bytes of each.

A *shape* belongs to a subscription: whether pushes name the channel or its number, and whether data comes as deltas. A
form is a shape and a framing (encoding, compression). Publications are encoded at most once per encoding and shape,
framed once per form, and deltas are made once per publication, and only for an audience that wants them.

The rule that is easiest to break: a delta is of the publication before it *in the passes*. Who has not had that one
(new here, has missed a pass, was brought up to date elsewhere) is *fresh*, and gets the next publication in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from protocol.encodings import Encoding
from protocol.fossil import create_delta
from protocol.frames import Framing
from protocol.replies import Publication, Push, Reply

if TYPE_CHECKING:
    from gateway.hub.channel import Channel

DEFAULT: Final = 0
"""The shape of a subscription: any of these."""
NUMBERED: Final = 1
"""Pushes have the number of the channel instead of its name."""
DELTA: Final = 2
"""Data comes as deltas."""
FRESH: Final = 4
"""… and the next publication in full."""

DELTA_BYTES: Final = 131_072
"""Data above which no delta is looked for: it would take too long."""


class Rendering:
    """The frames of some consecutive publications of a channel, for any form."""

    __slots__ = ("_base", "_channel", "_deltas", "_messages", "_publications")

    def __init__(self, channel: Channel, publications: Sequence[Publication], base: Publication | None = None) -> None:
        """`base`: what everybody who is not fresh has had last; None = nobody is."""
        self._channel = channel
        self._publications = publications
        self._base = base
        self._messages: dict[tuple[Encoding, int], list[bytes]] = {}
        self._deltas: dict[tuple[int, bytes], bytes | None] = {}

    def frames(self, framing: Framing, shape: int) -> bytes:
        """What a subscriber gets."""
        key = (framing.encoding, shape)
        messages = self._messages.get(key)
        if messages is None:
            messages = self._messages[key] = self._encoded(framing.encoding, shape)
        return framing.frames(messages)

    def _encoded(self, encoding: Encoding, shape: int) -> list[bytes]:
        channel, number = ("", self._channel.number) if shape & NUMBERED else (self._channel.name, 0)
        encode = encoding.encode_reply
        if not shape & DELTA:
            return [encode(Reply(push=Push(id=number, channel=channel, pub=each))) for each in self._publications]
        base = None if shape & FRESH else self._base
        if shape & FRESH:
            # All but the first are the same for those who are not fresh.
            others = self._messages.get((encoding, shape & ~FRESH))
            if others is not None:
                first = self._changed(encoding, self._publications[0], None)
                return [encode(Reply(push=Push(id=number, channel=channel, pub=first))), *others[1:]]
        found = []
        for index, publication in enumerate(self._publications):
            before = self._publications[index - 1] if index else base
            changed = self._changed(encoding, publication, before)
            found.append(encode(Reply(push=Push(id=number, channel=channel, pub=changed))))
        return found

    def _changed(self, encoding: Encoding, publication: Publication, before: Publication | None) -> Publication:
        """`publication` as the change from `before`, where that is shorter."""
        if before is None or not isinstance(publication.data, Raw) or not isinstance(before.data, Raw):
            return in_full(encoding, publication)
        source, target = encoding.shown(before.data), encoding.shown(publication.data)
        key = (id(publication), target)
        if key not in self._deltas:
            self._deltas[key] = shorter_delta(source, target)
        delta = self._deltas[key]
        if delta is None:
            return in_full(encoding, publication)
        return msgspec.structs.replace(publication, data=encoding.as_data(delta), delta=True)


def in_full(encoding: Encoding, publication: Publication) -> Publication:
    """`publication` with all its data, for a subscriber with deltas."""
    if not isinstance(publication.data, Raw):
        return publication
    return msgspec.structs.replace(publication, data=encoding.as_data(encoding.shown(publication.data)))


def shorter_delta(source: bytes, target: bytes) -> bytes | None:
    """None = the target itself is as short, or too long to look for a delta."""
    if len(target) > DELTA_BYTES or len(source) > DELTA_BYTES:
        return None
    delta = create_delta(source, target)
    return delta if len(delta) < len(target) else None
