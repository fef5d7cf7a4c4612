"""`redis.url`: one server, a master behind Sentinels, a cluster."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config import Redis
from gateway.config.redis_url import parse_redis_url
from protocol.redis_contract import ClusterPrefix, publish_channel


def test_one_server_is_left_to_redis_py() -> None:
    for url in ("redis://u:p@h:1/2", "rediss://h?ssl_ca_certs=/ca", "unix:///run/redis.sock?db=3"):
        assert parse_redis_url(url)[:3] == ("single", url, ())


def test_sentinels_have_ports_a_service_and_passwords_of_their_own() -> None:
    found = parse_redis_url(
        "rediss+sentinel://u:p%40ss@one,two:1,[::1]:2/my%20service/3?sentinel_password=s%26t&ssl_ca_certs=/ca"
    )
    assert found.topology == "sentinel"
    assert found.hosts == (("one", 26379), ("two", 1), ("::1", 2))
    assert (found.service, found.sentinel_username, found.sentinel_password) == ("my service", "", "s&t")
    assert found.server == "rediss://u:p%40ss@one:26379/3?ssl_ca_certs=%2Fca"


def test_a_cluster_is_found_through_some_of_its_servers() -> None:
    found = parse_redis_url("redis+cluster://:secret@one,two:7000")
    assert (found.topology, found.hosts) == ("cluster", (("one", 6379), ("two", 7000)))
    assert found.server == "redis://:secret@one:6379/"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://hunter2@x", "must start with redis://"),
        ("redis+other://hunter2@x", "must start with redis://"),
        ("hunter2", "must start with redis://"),
        ("redis+sentinel://u:hunter2@host", "needs the name of the master"),
        ("redis+sentinel://u:hunter2@host/service/x", "the database must be a number"),
        ("redis+sentinel://u:hunter2@host/a/1/b", "needs the name of the master"),
        ("redis+sentinel://u:hunter2@host:x/service", "host:port"),
        ("redis+sentinel://u:hunter2@/service", "host:port"),
        ("redis+cluster://u:hunter2@a,,b", "host:port"),
        ("redis+cluster://u:hunter2@a:0", "host:port"),
        ("redis+cluster://u:hunter2@a/1", "database 0 only"),
        ("redis+cluster://u:hunter2@a?db=2", "database 0 only"),
        ("redis+cluster://a?sentinel_password=hunter2", "are for redis\\+sentinel"),
    ],
)
def test_what_cannot_be_is_said_without_the_password(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse_redis_url(url)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValidationError):
        Redis(url=url)


def test_in_a_cluster_and_only_there_names_carry_the_channel_in_braces() -> None:
    for url, name in (
        ("redis://h", b"gw:pub:news"),
        ("redis+sentinel://h/s", b"gw:pub:news"),
        ("redis+cluster://h", b"gw:pub:{news}"),
    ):
        settings = Redis(url=url)
        assert publish_channel(settings.prefix, "news") == name
        again = Redis.model_validate(settings.model_dump())
        assert isinstance(again.prefix, ClusterPrefix) == (settings.topology == "cluster")
