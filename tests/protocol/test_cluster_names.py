"""Names in a Redis Cluster: whatever one script touches is in one slot."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from protocol import redis_contract as names
from protocol.redis_contract import STREAM_PARTS, ClusterPrefix, hash_tag, is_sharded

CLUSTER = ClusterPrefix("gw")
channels = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="{}"), min_size=1, max_size=40)


def slots(keys: Iterable[bytes]) -> set[int]:
    return {key_slot(key) for key in keys}


@given(channels)
def test_all_of_a_channel_is_in_one_slot(channel: str) -> None:
    keys = [
        make(CLUSTER, channel)
        for make in (
            names.publish_channel,
            names.log_key,
            names.meta_key,
            names.presence_key,
            names.presence_at_key,
            names.presence_users_key,
        )
    ]
    assert len(slots([*keys, names.done_key(CLUSTER, "a {key}", channel)])) == 1


@given(channels)
def test_all_of_a_token_stream_is_in_one_slot_and_in_one_of_the_sets_to_look_after(key: str) -> None:
    channel = f"stream:{key}"
    keys = [
        names.stream_key(CLUSTER, key),
        names.stream_parts_key(CLUSTER, key),
        names.stream_text_key(CLUSTER, key),
        names.log_key(CLUSTER, channel),
        names.meta_key(CLUSTER, channel),
        names.publish_channel(CLUSTER, channel),
        names.streams_key(CLUSTER, key),
    ]
    assert len(slots(keys)) == 1
    assert names.streams_key(CLUSTER, key) in names.streams_keys(CLUSTER)
    assert len(set(names.streams_keys(CLUSTER))) == STREAM_PARTS


def test_what_else_a_script_touches_together_is_in_one_slot() -> None:
    assert len(slots([names.revoked_key(CLUSTER), names.revoked_until_key(CLUSTER)])) == 1
    for stream in ("events", "my:{events}"):
        keys = [names.workers_key(CLUSTER, stream), names.clients_key(CLUSTER, stream, "node/edge-1")]
        assert len(slots([stream.encode(), *keys])) == 1


def test_a_hash_tag_is_what_redis_takes_for_one() -> None:
    for name in ("a", "{a}", "a{b}c", "a{}b", "a{b", "}a{", "{a}{b}", "a{{b}}"):
        assert key_slot(name.encode()) == key_slot(hash_tag(name).encode())


def test_publications_and_canaries_are_sharded_and_control_is_not() -> None:
    assert is_sharded(names.publish_channel(CLUSTER, "news"))
    assert is_sharded(names.canary_channel(CLUSTER, "worker"))
    assert not is_sharded(names.control_channel(CLUSTER))


def test_without_a_cluster_names_have_no_braces() -> None:
    assert names.publish_channel("gw", "stream:a") == b"gw:pub:stream:a"
    assert names.done_key("gw", "key", "news") == b"gw:done:news:key"
    assert names.streams_key("gw", "a") == b"gw:streams"
    assert names.streams_keys("gw") == [b"gw:streams"]
    assert names.stream_key("gw", "a") == b"gw:stream:a"
    assert names.revoked_key("gw") == b"gw:revoked"
    assert names.revoked_until_key("gw") == b"gw:revoked-until"
    assert names.clients_key("gw", "events", "w") == b"gw:clients:w"
    assert names.workers_key("gw", "events") == b"gw:workers"
    assert names.canary_channel("gw", "w") == b"gw:canary:w"
