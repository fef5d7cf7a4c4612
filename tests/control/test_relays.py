"""What the relays have done, on `/metrics` and for the dashboard."""

from __future__ import annotations

from gateway.control.relays import RelayCollector, relay_states
from gateway.relay.counters import Counted, IngestReport, OutboxReport, RelayReports
from gateway.relay.rows import Figures
from gateway.storage.sql import PoolStatus

POOL = PoolStatus(size=20, checked_in=3, checked_out=2, overflow=0, waiting=1)


def samples(reports: RelayReports) -> dict[tuple[str, str], float]:
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in RelayCollector(reports).collect()
        for sample in family.samples
    }


def test_the_outbox_shows_its_rows_its_age_and_its_pool() -> None:
    found = samples(RelayReports(OutboxReport(Counted(published=7, dead=1), Figures(5, 2, 1.5), "", POOL)))
    assert found["gateway_outbox_rows_total", "published"] == 7
    assert found["gateway_outbox_rows_total", "dead"] == 1
    assert found["gateway_outbox_waiting", ""] == 5
    assert found["gateway_outbox_dead", ""] == 2
    assert found["gateway_outbox_oldest_seconds", ""] == 1.5
    assert found["gateway_outbox_up", ""] == 1
    assert found["gateway_sql_pool_connections", "checked_out"] == 2
    assert found["gateway_sql_pool_connections", "waiting"] == 1


def test_a_database_that_is_away_has_no_figures_rather_than_wrong_ones() -> None:
    reports = RelayReports(OutboxReport(Counted(), None, "database: away", POOL))
    found = samples(reports)
    assert found["gateway_outbox_up", ""] == 0
    assert ("gateway_outbox_waiting", "") not in found
    (state,) = relay_states(reports)
    assert (state.state, state.trouble) == ("in trouble", "database: away")
    assert (state.waiting, state.oldest_s, state.dead_now) == (None, None, None)


def test_a_node_says_whether_it_relays_the_stream() -> None:
    for active, state in ((True, "relaying"), (False, "standing by")):
        reports = RelayReports(None, IngestReport(Counted(dropped=4), waiting=3, oldest_s=0.5, active=active))
        found = samples(reports)
        assert found["gateway_ingest_active", ""] == active
        assert found["gateway_ingest_entries_total", "dropped"] == 4
        assert [each.state for each in relay_states(reports)] == [state]


def test_without_relays_there_is_nothing() -> None:
    assert samples(RelayReports()) == {}
    assert relay_states(RelayReports()) == []
