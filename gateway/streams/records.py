"""The records of a token stream: what clients get as the data of publications, and readers in a backend as `Record`.

    snapshot       the text so far (`from` = 0), or all behind record `from`; up to record `seq`
    delta          the text of one record
    finished, failed, cancelled, truncated    the end; nothing comes after it
    not_resumable  the text, or the generation that a reader was following, is gone

`seq` counts the records of one generation without holes; the first is the stream's registration, which nobody gets. On
the channel it is the offset of the publication, and the generation is the epoch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.broker.streams import NAMESPACE
from protocol.replies import Publication

TERMINAL: Final = frozenset(("finished", "failed", "cancelled", "truncated", "not_resumable"))
"""Types of records behind which nothing comes."""
GENERATION_LENGTH: Final = 24


class Record(msgspec.Struct, frozen=True, omit_defaults=True, rename={"since": "from"}):
    """One record. Which fields it has depends on its type."""

    type: str
    generation: str = ""
    seq: int = 0
    since: int = 0
    """`snapshot`: the text goes on behind this record (0 = it is the whole text). `from` in JSON."""
    text: str = ""
    status: str = ""
    """`snapshot`: `active`, or how the stream has ended."""
    length: int = 0
    """At the end: characters (code points) of the whole text."""
    usage: Any = None
    """`finished`: what the producer says was used."""
    result: Any = None
    """`finished`: what else the producer says."""
    code: str = ""
    """`failed`: for programs."""
    message: str = ""
    """`failed`: for people."""
    reason: str = ""
    """`cancelled`, `not_resumable`: why."""

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL


class _Snapshot(msgspec.Struct, frozen=True, rename={"since": "from"}):
    """As a `Record`, with every field written."""

    type: str
    generation: str
    status: str
    since: int
    seq: int
    text: str


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Record)


def decode_record(data: bytes) -> Record:
    """Raises msgspec.MsgspecError."""
    return _decoder.decode(data)


def record_of(publication: Publication) -> Record:
    """What a publication on a stream's channel says. Raises msgspec.MsgspecError."""
    return _decoder.decode(bytes(publication.data) if publication.data else b"")


def snapshot(generation: str, status: str, since: int, seq: int, text: str) -> Publication:
    """The text between two records, as a publication."""
    record = _Snapshot("snapshot", generation, status, since, seq, text)
    return Publication(data=Raw(_encoder.encode(record)), offset=seq)


def not_resumable(generation: str, reason: str, offset: int = 0) -> Publication:
    """`generation` cannot go on, as a publication."""
    record = Record("not_resumable", generation=generation, reason=reason)
    return Publication(data=Raw(_encoder.encode(record)), offset=offset)


def condense(channel: str, generation: str, page: list[Publication]) -> list[Publication]:
    """What is missed in a row becomes one snapshot. Pages of other channels, and single records, stay as they are."""
    if not channel.startswith(f"{NAMESPACE}:") or len(page) < 2:
        return page
    try:
        records = [record_of(each) for each in page]
    except msgspec.MsgspecError:
        return page  # somebody else has published here
    deltas = [record for record in records if record.type == "delta"]
    others = [each for each, record in zip(page, records, strict=True) if record.type != "delta"]
    if len(deltas) < 2 or any(each.offset < deltas[-1].seq for each in others):
        return page
    text = joined(record.text for record in deltas)
    return [snapshot(generation, "active", deltas[0].seq - 1, deltas[-1].seq, text), *others]


def joined(texts: Iterable[str]) -> str:
    return "".join(texts)


def new_generation(now_s: float) -> str:
    """An id that was never there before: the time in ms, and 48 random bits. 24 characters; later ones sort behind."""
    return f"{int(now_s * 1000):012x}{os.urandom(6).hex()}"


def is_generation(epoch: str) -> bool:
    """Whether an epoch was made by `new_generation`; epochs of other channels are shorter."""
    return len(epoch) == GENERATION_LENGTH
