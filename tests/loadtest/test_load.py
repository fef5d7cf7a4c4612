"""Locust's side: thresholds, the generator's own health, what users check, and a small run with real users."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from loadtest.load.__main__ import main
from loadtest.load.health import INTERVAL_S, Health, Watch
from loadtest.load.locust import Outcome, read_errors, read_rows
from loadtest.load.orders import OrderError, Orders, StreamText, text_of, wrong_text
from loadtest.load.plan import Plan
from loadtest.load.report import verdict_of
from loadtest.load.thresholds import THRESHOLDS, Figures, late, lost
from loadtest.load.wire import Wire, WireError
from loadtest.scale.results import Verdict

RUN_DEADLINE_S = 290


@pytest.mark.parametrize(
    ("failures", "fails"),
    [(0, False), (49, False), (50, True), (1000, True)],
)
def test_of_the_api_more_than_95_per_cent_must_succeed(failures: int, fails: bool) -> None:
    assert bool(lost({"API": Figures(1000, failures, 10.0, 20.0)}, ["API"])) is fails


def test_of_recoveries_none_may_fail() -> None:
    assert lost({"recovery": Figures(100, 1, 1.0, 1.0)}, ["recovery"]) == [
        "recovery: 1 of 100 failed, success must be 100 %"
    ]


def test_what_was_never_done_has_failed() -> None:
    assert [line.split(":")[0] for line in lost({}, THRESHOLDS)] == list(THRESHOLDS)


@pytest.mark.parametrize(
    ("average_ms", "p95_ms", "lines"), [(99.9, 199.9, 0), (100.0, 199.9, 1), (99.9, 200.0, 1), (300.0, 900.0, 2)]
)
def test_of_the_api_average_and_p95_are_bounded(average_ms: float, p95_ms: float, lines: int) -> None:
    assert len(late({"API": Figures(1000, 0, average_ms, p95_ms)}, ["API"])) == lines


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome(0), Verdict.PASSED),
        (Outcome(1, late=["API: p95"]), Verdict.FAILED),
        (Outcome(3, late=["API: p95"], excuse="the generator was busy"), Verdict.NOT_JUDGED),
        (Outcome(3, excuse="the generator was busy"), Verdict.PASSED),
        (Outcome(1, lost=["API: 1 failed"], excuse="the generator was busy"), Verdict.FAILED),
    ],
)
def test_a_busy_generator_is_an_excuse_for_times_alone(outcome: Outcome, verdict: Verdict) -> None:
    assert verdict_of(outcome) is verdict


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (Health("a", 0.9, [50] * 100), ""),
        (Health("a", 0.91, [0]), "a: the generator used 0.91 of a core"),
        (Health("a", 0.1, [0] * 94 + [51] * 6), "a: the generator's own loop was late by 51 ms"),
        (Health("a", 0.1, [0] * 95 + [900] * 5), ""),
    ],
)
def test_the_generator_says_when_it_was_the_bottleneck(health: Health, words: str) -> None:
    assert health.excuse().startswith(words)
    assert bool(health.excuse()) is bool(words)


def test_the_generator_measures_its_cpu_and_its_lag() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        if now[0] > 1.0:
            raise StopIteration
        now[0] += seconds + 0.03

    watch = Watch("a", lambda: now[0], lambda: now[0] / 2, sleep)
    with pytest.raises(StopIteration):
        watch.run()
    assert len(watch.health.lags_ms) > 1 / (INTERVAL_S + 0.03)
    assert set(watch.health.lags_ms) == {30}
    assert watch.health.cpu == pytest.approx(0.5)


def test_offsets_without_holes_are_in_order() -> None:
    orders = Orders()
    assert orders.position() == {}
    orders.subscribed({"epoch": "e", "offset": 7})
    orders.published({"offset": 8})
    assert orders.position() == {"recover": True, "epoch": "e", "offset": 8}
    orders.subscribed({"epoch": "e", "offset": 8, "recovered": True, "publications": [{"offset": 9}]})
    orders.check()


@pytest.mark.parametrize("offsets", [(9,), (7,), (8, 8), (8, 10)])
def test_a_hole_or_a_double_is_found_and_told_once(offsets: tuple[int, ...]) -> None:
    orders = Orders()
    orders.subscribed({"epoch": "e", "offset": 7})
    for offset in offsets:
        orders.published({"offset": offset})
    with pytest.raises(OrderError, match="after"):
        orders.check()
    orders.check()


def test_a_client_that_was_not_recovered_is_an_error() -> None:
    orders = Orders()
    orders.subscribed({"epoch": "e", "offset": 7})
    orders.subscribed({"epoch": "e", "offset": 9})
    with pytest.raises(OrderError, match="not recovered from offset 7"):
        orders.check()


def watch(*records: dict[str, object]) -> StreamText:
    text = StreamText()
    for record in records:
        text.take(record)
    text.wait_for(lambda: text.ended, 0.0, lambda _s: None)
    return text


def test_a_token_stream_is_one_text_from_wherever_it_was_found() -> None:
    snapshot = {"type": "snapshot", "text": "0 1 "}
    assert watch(snapshot, {"type": "delta", "text": "2 "}, {"type": "finished"}).begun
    watch(snapshot, {"type": "snapshot", "from": 3, "text": "2 3 "}, {"type": "finished"})


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (({"type": "delta", "text": "1 "}, {"type": "finished"}), "token 0 is '1'"),
        (({"type": "finished"},), "the text is empty"),
        (({"type": "failed"},), "ended as failed"),
        (({"type": "snapshot", "text": "0 "},), "not within"),
    ],
)
def test_a_token_stream_with_a_hole_or_a_bad_end_is_an_error(
    records: tuple[dict[str, object], ...], words: str
) -> None:
    with pytest.raises(OrderError, match=words):
        watch(*records)


def test_what_the_producer_says_is_what_watchers_demand() -> None:
    assert wrong_text("".join(text_of(20))) == ""
    assert wrong_text("".join(text_of(20)[1:])) != ""


def test_locusts_files_are_read() -> None:
    heading = "Type,Name,Request Count,Failure Count,Average Response Time,50%,95%,99%\n"
    (row,) = read_rows(heading + "WS,connect,10,1,5.5,5,9,N/A\n,Aggregated,10,1,5.5,5,9,9\n")
    assert (row.name, row.requests, row.failures, row.p95_ms, row.p99_ms) == ("connect", 10, 1, 9.0, 0.0)
    errors = "Method,Name,Error,Occurrences\nWS,a,rare,1\nWS,b,frequent,1200\n"
    assert read_errors(errors) == ["1,200 × b: frequent", "1 × a: rare"]


def test_a_scaled_plan_keeps_the_users_of_the_api() -> None:
    scaled = Plan().scaled(0.01)
    assert scaled.users["ApiUser"] == Plan().users["ApiUser"]
    assert scaled.users["Chatty"] == 1


def test_numbers_of_users_can_be_given() -> None:
    users = Plan().with_users(["Idle=7", "ApiUser=0"]).users
    assert (users["Idle"], users["ApiUser"], users["Chatty"]) == (7, 0, Plan().users["Chatty"])


@pytest.mark.parametrize("wrong", ["Idle", "Idle=x", "Idle=-1", "Robot=1"])
def test_a_number_of_what_is_no_user_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is none of Idle=N"):
        Plan().with_users([wrong])


@pytest.fixture
def port() -> Iterator[int]:
    """A server that greets with a ping and a document, echoes, and closes with 3001 when it is told to."""

    def handle(connection: ServerConnection) -> None:
        connection.send('{}\n{"hello":1}')
        for message in connection:
            if message == "end":
                connection.send("{}")
                connection.close(3001)
                return
            connection.send(message)

    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def test_the_wire_answers_pings_and_gives_documents_and_the_close_code(port: int) -> None:
    wire = Wire("127.0.0.1", port, "/")
    wire.open()
    assert wire.receive() == [b'{"hello":1}']
    wire.send(b"end of the pings")
    assert wire.receive() == [b"end of the pings"]  # the echo of the pong was taken for a ping
    wire.send(b"end")
    with pytest.raises(WireError) as closed:
        wire.receive()
    assert closed.value.code == 3001
    wire.close()


def test_a_wire_to_nobody_is_a_clear_error() -> None:
    with pytest.raises(WireError, match="cannot connect"):
        Wire("127.0.0.1", 1, "/").open()


@pytest.mark.timeout(RUN_DEADLINE_S)
def test_a_small_run_loses_nothing_and_writes_its_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = tmp_path / "artifacts" / "load"
    status = main(["--scale", "0.05", "--seconds", "20", "--reports", str(reports)])
    said = capsys.readouterr().out
    assert status in (Verdict.PASSED, Verdict.FAILED, Verdict.NOT_JUDGED), said
    assert "success must be" not in said, said
    assert "generator, process" in said
    for kind in ("API", "connect", "recovery", "token stream", "slow reader catches up", "subscribe to 100"):
        assert f"\n {kind} " in said, said
    assert (tmp_path / "artifacts" / "load.html").stat().st_size > 10_000
    assert "Aggregated" in (tmp_path / "artifacts" / "load_stats.csv").read_text()
