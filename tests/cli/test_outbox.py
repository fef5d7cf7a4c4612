"""`nexus-gateway outbox …`, as a person types it, on PostgreSQL and on SQLite."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.relay.schema import LEASES
from tests.support.postgresql import PostgresServer

PASSWORD = "hunter2"
Run = Callable[..., Any]


class Sql(NamedTuple):
    """A database, and its own client."""

    url: str
    ask: Callable[[str], str]
    """Runs a statement; what it prints: a line a row, `|` between columns."""

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @property
    def moment(self) -> str:
        """2026-01-02 03:04:05 UTC, as a column `dead` has it."""
        return "1767323045" if self.is_sqlite else "to_timestamp(1767323045)"

    def add(self, event_id: str, *, dead: str = "") -> None:
        """A row that waits, or one that was given up because of `dead`."""
        self.ask(
            "INSERT INTO gateway_outbox (event_id, channel, payload, attempts, dead, error) VALUES "
            f"('{event_id}', 'chat:a', '1', {3 if dead else 0}, {self.moment if dead else 'NULL'}, '{dead}')"
        )


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("GATEWAY_"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["postgresql", "sqlite"])
def sql(request: pytest.FixtureRequest, tmp_path: Path) -> Sql:
    """Without the table."""
    if request.param == "sqlite":
        file = tmp_path / "app.db"
        return Sql(f"sqlite:///{file}", lambda statement: of_sqlite(file, statement))
    server: PostgresServer = request.getfixturevalue("postgres")
    server.sql(f"DROP TABLE IF EXISTS gateway_outbox, {LEASES}")
    return Sql(with_password(server.url), server.sql)


@pytest.fixture
def run(sql: Sql) -> Run:
    def run(*arguments: str) -> Any:
        return outbox(sql.url, *arguments)

    return run


@pytest.fixture
def ready(run: Run) -> None:
    """The table is there."""
    assert run("init").exit_code == 0


def outbox(url: str, *arguments: str) -> Any:
    """Run a command. Whatever it says, the password is not in it."""
    result = CliRunner().invoke(app, ["outbox", *arguments], env={"GATEWAY_OUTBOX__URL": url} if url else {})
    assert PASSWORD not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def with_password(url: str) -> str:
    return url.replace("postgres@", f"postgres:{PASSWORD}@")


def of_sqlite(file: Path, statement: str) -> str:
    connection = sqlite3.connect(file)
    try:
        with connection:
            return "".join("|".join(map(str, row)) + "\n" for row in connection.execute(statement))
    finally:
        connection.close()


# init


def test_init_makes_the_table_and_says_where(run: Run, sql: Sql) -> None:
    result = run("init")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"The outbox is ready in {'sqlite' if sql.is_sqlite else 'postgresql'}")
    sql.ask("INSERT INTO gateway_outbox (channel, payload) VALUES ('chat:a', '1')")
    assert sql.ask("SELECT count(*) FROM gateway_outbox") == "1\n"


def test_init_again_changes_nothing(run: Run, ready: None, sql: Sql) -> None:
    sql.add("order-1")
    before = objects(sql)
    assert run("init").exit_code == 0
    assert objects(sql) == before
    assert sql.ask("SELECT event_id FROM gateway_outbox") == "order-1\n"


def objects(sql: Sql) -> str:
    """Everything that belongs to the outbox."""
    if sql.is_sqlite:
        return sql.ask("SELECT type, name, sql FROM sqlite_master ORDER BY name")
    return sql.ask(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'gateway_outbox' UNION ALL "
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'gateway_outbox'::regclass ORDER BY 1"
    )


def test_init_prints_the_statements_and_changes_nothing(run: Run, sql: Sql) -> None:
    shown = run("init", "--print")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert ("AUTOINCREMENT" in shown.stdout) == sql.is_sqlite
    with pytest.raises((sqlite3.OperationalError, subprocess.CalledProcessError)):
        sql.ask("SELECT count(*) FROM gateway_outbox")


def test_what_is_printed_makes_what_init_makes(run: Run, sql: Sql, tmp_path: Path) -> None:
    script = run("init", "--print").stdout
    run("init")
    made = objects(sql)
    if sql.is_sqlite:
        connection = sqlite3.connect(tmp_path / "other.db")
        connection.executescript(script)
        connection.close()
        other = sql._replace(ask=lambda statement: of_sqlite(tmp_path / "other.db", statement))
    else:
        sql.ask("DROP TABLE gateway_outbox")
        sql.ask(script)
        other = sql
    assert made
    assert objects(other) == made


def test_a_dialect_needs_no_database_and_is_over_that_of_the_url(sql: Sql) -> None:
    for url in ("", sql.url):
        assert "AUTOINCREMENT" in outbox(url, "init", "--print", "--dialect", "sqlite").stdout
        assert "pg_notify" in outbox(url, "init", "--print", "--dialect", "postgresql").stdout
        quiet = outbox(url, "init", "--print", "--dialect", "postgresql", "--no-notify").stdout
        assert "CREATE TABLE" in quiet
        assert "pg_notify" not in quiet


def test_init_without_notify_takes_the_trigger_away(postgres: PostgresServer) -> None:
    postgres.sql("DROP TABLE IF EXISTS gateway_outbox")
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgname = 'gateway_outbox_notify'"
    for arguments, count in (([], "1\n"), (["--no-notify"], "0\n"), ([], "1\n")):
        assert outbox(with_password(postgres.url), "init", *arguments).exit_code == 0
        assert postgres.sql(triggers) == count


# status and dead


def test_status_of_an_empty_outbox_is_0(run: Run, ready: None) -> None:
    result = run("status")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "waiting 0\ndead 0\noldest 0.0 s\n", "")
    assert (run("dead").exit_code, run("dead").stdout) == (0, "")


def test_status_counts_and_fails_when_there_are_dead_letters(run: Run, ready: None, sql: Sql) -> None:
    sql.add("order-1")
    sql.ask(f"UPDATE gateway_outbox SET created = {sql.moment}")
    sql.add("order-2")
    waiting = run("status")
    assert (waiting.exit_code, waiting.stdout.splitlines()[:2]) == (0, ["waiting 2", "dead 0"])
    assert float(waiting.stdout.splitlines()[2].split()[1]) > 1e6
    sql.add("order-3", dead="too large")
    found = run("status")
    assert (found.exit_code, found.stdout.splitlines()[:2]) == (1, ["waiting 2", "dead 1"])


def test_dead_lists_the_newest_with_the_reason(run: Run, ready: None, sql: Sql) -> None:
    sql.add("order-1", dead="refused 3 times, at last with: ERR")
    sql.add("order-2")
    sql.add("order-3", dead="too large")
    lines = [
        "order-3  chat:a  3  2026-01-02T03:04:05+00:00  too large",
        "order-1  chat:a  3  2026-01-02T03:04:05+00:00  refused 3 times, at last with: ERR",
    ]
    result = run("dead")
    assert (result.exit_code, result.stdout.splitlines()) == (0, lines)
    assert run("dead", "--limit", "1").stdout.splitlines() == lines[:1]


# replay


def test_replay_makes_the_named_dead_letters_rows_again(run: Run, ready: None, sql: Sql) -> None:
    for number in (1, 2, 3):
        sql.add(f"order-{number}", dead="too large")
    result = run("replay", "order-1", "order-3")
    assert (result.exit_code, result.stdout) == (0, "2 dead letters will be published again.\n")
    rows = "SELECT event_id, attempts, error FROM gateway_outbox WHERE dead IS NULL ORDER BY id"
    assert sql.ask(rows) == "order-1|0|\norder-3|0|\n"
    assert run("status").stdout.splitlines()[:2] == ["waiting 2", "dead 1"]


def test_replay_of_all_leaves_none(run: Run, ready: None, sql: Sql) -> None:
    sql.add("order-1", dead="too large")
    sql.add("order-2")
    assert run("replay", "--all").stdout == "1 dead letter will be published again.\n"
    assert run("status").exit_code == 0
    assert run("replay", "--all").stdout == "0 dead letters will be published again.\n"


def test_replay_says_when_an_id_is_no_dead_letter(run: Run, ready: None, sql: Sql) -> None:
    sql.add("order-1", dead="too large")
    sql.add("order-2")
    result = run("replay", "order-1", "order-2", "order-9")
    assert (result.exit_code, result.stdout) == (1, "1 dead letter will be published again.\n")
    assert result.stderr == "error: 2 of the event ids are no dead letters\n"


@pytest.mark.parametrize("arguments", [[], ["--all", "order-1"]])
def test_replay_wants_either_ids_or_all(run: Run, ready: None, sql: Sql, arguments: list[str]) -> None:
    sql.add("order-1", dead="too large")
    result = run("replay", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "say --all" in result.stderr
    assert run("status").exit_code == 1


# What a person is told when it cannot be done

COMMANDS = (["init"], ["status"], ["dead"], ["replay", "--all"])


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_url_each_command_says_what_to_set(command: list[str]) -> None:
    result = outbox("", *command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no database is configured: set [outbox] url, or GATEWAY_OUTBOX__URL\n"


def test_print_without_url_and_dialect_asks_for_one() -> None:
    result = outbox("", "init", "--print")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--dialect postgresql or --dialect sqlite" in result.stderr


@pytest.mark.parametrize("url", [f"mysql://app:{PASSWORD}@db/app", f"postgresql://app:{PASSWORD}@db:x/app"])
def test_a_wrong_url_is_named_by_its_variable(url: str) -> None:
    result = outbox(url, "status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("GATEWAY_OUTBOX__URL: ")


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_without_the_table_each_command_says_how_to_make_it(run: Run, command: list[str]) -> None:
    result = run(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "gateway_outbox" in result.stderr
    assert result.stderr.endswith("; `nexus-gateway outbox init` makes the table\n")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_that_cannot_be_reached_is_named(tmp_path: Path, command: list[str]) -> None:
    url = f"postgresql://app:{PASSWORD}@/app?host={tmp_path}"
    result = outbox(url, *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: postgresql+asyncpg:///app: ")
    assert "outbox init" not in result.stderr


def test_a_missing_folder_is_said_and_is_no_missing_table(tmp_path: Path) -> None:
    result = outbox(f"sqlite:///{tmp_path}/nowhere/app.db", "status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "unable to open database file" in result.stderr
    assert "outbox init" not in result.stderr


def test_a_database_that_there_is_not_is_no_missing_table(postgres: PostgresServer) -> None:
    result = outbox(with_password(postgres.url).replace("/postgres?", "/nowhere?"), "status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'database "nowhere" does not exist' in result.stderr
    assert "outbox init" not in result.stderr
