"""Events that were committed are published, once and in order; what cannot be published holds up nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from gateway.errors import SqlRefused
from gateway.relay import outbox_event
from gateway.relay.administration import dead_rows, figures, replay
from gateway.relay.schema import create
from tests.relay.conftest import Backend
from tests.support.waiting import wait_until


def counted(relay: Any) -> Any:
    return relay.report.counted


async def test_committed_events_are_published_in_order_and_leave_the_table(backend: Backend) -> None:
    await backend.say("chat:lobby", *range(50))
    async with backend.relaying() as relay:
        await wait_until(lambda: counted(relay).published == 50, "all rows published")
        await backend.say("chat:lobby", *range(50, 60))
        await wait_until(lambda: counted(relay).published == 60, "all rows published")
    assert backend.logged("chat:lobby") == list(range(60))
    assert await backend.rows() == []


async def test_an_event_whose_transaction_is_rolled_back_is_never_published(backend: Backend) -> None:
    async with backend.relaying() as relay:
        with pytest.raises(RuntimeError, match="changed its mind"):
            async with backend.database.session() as session:
                await session.execute(outbox_event("chat:lobby", "never"))
                raise RuntimeError("changed its mind")
        await backend.say("chat:lobby", "after")
        await wait_until(lambda: counted(relay).published == 1, "the other row published")
    assert backend.logged("chat:lobby") == ["after"]


async def test_plain_sql_needs_channel_and_payload_only(backend: Backend) -> None:
    await backend.execute("INSERT INTO gateway_outbox (channel, payload) VALUES ('chat:a', '{\"n\": 1.0}')")
    async with backend.relaying() as relay:
        await wait_until(lambda: counted(relay).published == 1, "the row published")
    ((_, fields),) = backend.redis.xrange("gw:log:chat:a")
    assert fields[b"d"] == b'{"n": 1.0}'  # byte for byte


async def test_what_is_no_json_is_refused_by_the_database_to_who_inserts_it(backend: Backend) -> None:
    with pytest.raises(SqlRefused):
        await backend.execute("INSERT INTO gateway_outbox (channel, payload) VALUES ('chat:a', 'no json')")
    with pytest.raises(SqlRefused):
        await backend.execute("INSERT INTO gateway_outbox (channel, payload) VALUES ('', '1')")


async def test_a_second_row_with_an_event_id_is_refused_by_the_database(backend: Backend) -> None:
    await backend.insert(outbox_event("chat:a", 1, event_id="order-7"))
    with pytest.raises(SqlRefused, match=r"(?i)unique"):
        await backend.insert(outbox_event("chat:a", 2, event_id="order-7"))


async def test_an_event_that_is_inserted_again_after_it_left_is_not_doubled(backend: Backend) -> None:
    async with backend.relaying() as relay:
        for attempt in (1, 2):
            await backend.insert(outbox_event("chat:a", "paid", event_id="order-7"))
            await wait_until(lambda attempt=attempt: counted(relay).published == attempt, "the row gone")
    assert backend.logged("chat:a") == ["paid"]


async def test_the_event_id_is_remembered_for_long_until_the_row_is_gone_and_shortly_afterwards(
    backend: Backend,
) -> None:
    await backend.insert(outbox_event("chat:a", 1, event_id="order-7"))
    async with backend.relaying(remember_s=5000.0):
        done = "gw:done:chat:a:order-7"
        await wait_until(lambda: 0 < backend.redis.ttl(done) <= 300, "Redis forgets it soon")


async def test_channels_without_history_get_it_once_as_well(backend: Backend) -> None:
    with backend.redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("gw:pub:feed")
        heard.get_message(timeout=5)
        async with backend.relaying() as relay:
            for number in (1, 2):
                await backend.insert(outbox_event("feed", "hello", event_id="greeting"))
                await wait_until(lambda number=number: counted(relay).published == number, "the row gone")
            await backend.say("feed", "end")
            await wait_until(lambda: counted(relay).published == 3, "the last row gone")
        messages = [heard.get_message(timeout=5) for _ in range(2)]
    assert [message["data"] for message in messages if message] == [b'"hello"', b'"end"']


async def test_a_row_that_nobody_can_publish_is_dead_at_once_and_holds_up_nothing(backend: Backend) -> None:
    await backend.insert(
        outbox_event("nowhere:a", 1, key="k"),
        outbox_event("chat:a", "x" * 200_000, key="k"),
        outbox_event("chat:a", "fine", key="k"),
    )
    async with backend.relaying() as relay:
        await wait_until(lambda: counted(relay).published == 1, "the good row published")
    assert backend.logged("chat:a") == ["fine"]
    assert counted(relay).dead == 2
    large, unknown = await dead_rows(backend.database, 10)
    assert unknown.error == 'channel: no namespace "nowhere" is configured'
    assert "is larger than the 100000 bytes" in large.error


async def test_a_row_that_redis_refuses_is_tried_again_and_its_key_waits_while_others_go_on(backend: Backend) -> None:
    backend.redis.set("gw:meta:chat:broken", "not a hash")
    await backend.insert(
        outbox_event("chat:broken", 1, key="order"),
        *(outbox_event("chat:other", number) for number in range(600)),
    )
    async with backend.relaying(attempts=1000) as relay:
        await wait_until(lambda: counted(relay).retried >= 2, "tried again")
        await backend.insert(outbox_event("chat:order", "behind", key="order"), outbox_event("chat:free", "free"))
        await wait_until(lambda: counted(relay).published == 601, "everything else published")
        await wait_until(lambda: counted(relay).retried >= 4, "tried again")
        assert backend.logged("chat:free") == ["free"]
        assert backend.logged("chat:order") == []
        backend.redis.delete("gw:meta:chat:broken")
        await wait_until(lambda: counted(relay).published == 603, "the row and what waited behind it")
    assert backend.logged("chat:broken") == [1]
    assert backend.logged("chat:order") == ["behind"]
    assert backend.logged("chat:other") == list(range(600))


async def test_after_its_attempts_a_row_is_a_dead_letter_until_it_is_replayed(backend: Backend) -> None:
    backend.redis.set("gw:meta:chat:broken", "not a hash")
    await backend.insert(
        outbox_event("chat:broken", 1, key="k", event_id="first"), outbox_event("chat:next", 2, key="k")
    )
    async with backend.relaying(attempts=3) as relay:
        await wait_until(
            lambda: counted(relay).dead == 1 and counted(relay).published == 1, "given up, the next goes on"
        )
        assert counted(relay).retried == 2
        (dead,) = await dead_rows(backend.database, 10)
        assert (dead.event_id, dead.channel, dead.attempts) == ("first", "chat:broken", 3)
        assert "refused 3 times" in dead.error
        assert (await figures(backend.database)).dead == 1

        backend.redis.delete("gw:meta:chat:broken")
        assert await replay(backend.database, ["no-such"]) == 0
        assert await replay(backend.database, ["first"]) == 1
        await wait_until(lambda: counted(relay).published == 2, "published after all")
    assert backend.logged("chat:broken") == [1]
    assert (await figures(backend.database)).dead == 0


async def test_a_full_redis_costs_no_attempt(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    async with backend.relaying(attempts=1) as relay:
        await backend.say("chat:a", 0)
        await wait_until(lambda: counted(relay).published == 1, "the channel has a log")
        backend.redis.config_set("maxmemory", "1")
        await backend.say("chat:a", 1)
        # Whoever claims finds nothing while another has the only row: that does not end the trouble.
        await wait_until(lambda: counted(relay).interrupted >= 6, "tried several times")
        assert "maxmemory" in relay.report.trouble
        backend.redis.config_set("maxmemory", "0")
        await wait_until(lambda: counted(relay).published == 2, "published after all")
        await wait_until(lambda: relay.report.trouble == "", "no trouble any more")
    assert counted(relay).dead == 0
    log = capsys.readouterr().out
    assert (log.count("outbox not relayed"), log.count("outbox relayed again")) == (1, 1)


async def test_trouble_with_redis_is_over_when_another_has_relayed_what_there_was(backend: Backend) -> None:
    async with backend.relaying() as relay:
        await backend.say("chat:a", 0)
        await wait_until(lambda: counted(relay).published == 1, "the channel has a log")
        backend.redis.config_set("maxmemory", "1")
        await backend.say("chat:a", 1)
        await wait_until(lambda: "maxmemory" in relay.report.trouble, "trouble is told")
        await backend.execute("DELETE FROM gateway_outbox")
        await wait_until(lambda: relay.report.trouble == "", "nothing is left to relay")
    assert counted(relay).published == 1


async def test_an_event_for_later_leaves_when_it_is_due_and_holds_up_nobody(backend: Backend) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await backend.insert(outbox_event("chat:a", "later", available=later, event_id="later"), outbox_event("chat:a", 1))
    async with backend.relaying() as relay:
        await wait_until(lambda: counted(relay).published == 1, "the other published")
        assert backend.logged("chat:a") == [1]
        await backend.execute("UPDATE gateway_outbox SET available = created WHERE event_id = 'later'")
        await wait_until(lambda: counted(relay).published == 2, "published when due")
    assert backend.logged("chat:a") == [1, "later"]


async def test_without_a_table_the_relay_says_so_and_begins_when_it_is_there(backend: Backend) -> None:
    await backend.execute("DROP TABLE gateway_outbox")
    async with backend.relaying() as relay:
        await wait_until(lambda: "gateway_outbox" in relay.report.trouble, "trouble is told")
        assert relay.report.figures is None
        await create(backend.database)
        await backend.say("chat:a", 1)
        await wait_until(lambda: counted(relay).published == 1, "relayed")


async def test_making_the_table_again_keeps_what_is_in_it(backend: Backend) -> None:
    await backend.say("chat:a", 1)
    await create(backend.database)
    await create(backend.database, notify=False)
    assert len(await backend.rows()) == 1


async def test_keys_are_spread_over_the_partitions(backend: Backend) -> None:
    await backend.insert(*(outbox_event(f"chat:room-{number}", 1) for number in range(200)))
    assert len({row["partition"] for row in await backend.rows()}) > 40


async def test_figures_tell_how_much_waits_and_for_how_long(backend: Backend) -> None:
    assert await figures(backend.database) == (0, 0, 0.0)
    await backend.say("chat:a", 1, 2)
    sql = "created - 100" if backend.database.is_sqlite else "created - interval '100 seconds'"
    await backend.execute(f"UPDATE gateway_outbox SET created = {sql}")
    found = await figures(backend.database)
    assert (found.waiting, found.dead) == (2, 0)
    assert 100 <= found.oldest_s < 200


async def test_a_claim_is_bounded_by_rows_and_bytes(backend: Backend) -> None:
    await backend.say("chat:a", *("x" * 30_000 for _ in range(10)))
    parts = backend.relay(batch_bytes=65_536)
    try:
        async with parts.relay._store.claim() as claim:
            assert [row.attempts for row in claim.rows] == [0, 0, 0]  # the third begins within the budget
    finally:
        await parts.aclose()
        await backend._client.aclose()


async def test_two_claims_never_have_the_same_partition(backend: Backend) -> None:
    await backend.insert(*(outbox_event(f"chat:room-{number % 100}", number) for number in range(300)))
    parts = [backend.relay(), backend.relay()]
    try:
        async with parts[0].relay._store.claim() as one, parts[1].relay._store.claim() as other:
            assert one.rows
            assert other.rows
            assert not {row.key for row in one.rows} & {row.key for row in other.rows}
    finally:
        for each in parts:
            await each.aclose()


async def test_the_session_of_the_backend_sees_a_plain_table(backend: Backend) -> None:
    await backend.say("chat:a", {"a": 1}, key="k")
    async with backend.database.session() as session:
        row = (await session.execute(text("SELECT * FROM gateway_outbox"))).one()
    assert (row.channel, row.payload, row.key, row.attempts, row.dead) == ("chat:a", '{"a":1}', "k", 0, None)
