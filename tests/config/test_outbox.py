"""The section `[outbox]`: where the database may be, what is refused with its place, what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Config, Outbox, load_config, read_config
from gateway.config.show import as_toml, as_variables
from gateway.errors import ConfigError
from gateway.storage.sql import Database

SECRET = 'auth.hmac_secret = "0123456789012345678901234567890123456789"\n'
PASSWORD = "hunter2"
URL = f"postgresql://app:{PASSWORD}@db.example:5432/app"


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(f"{SECRET}[outbox]\n{text}")
    return file


def load(tmp_path: Path, text: str = "", **environ: str) -> Config:
    return load_config(write(tmp_path, text), environ=environ, flags={})


def problems(tmp_path: Path, text: str = "", **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environ)
    return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_without_a_url_nothing_is_relayed(tmp_path: Path) -> None:
    outbox = load(tmp_path).outbox
    assert (outbox.url, outbox.ingest, outbox.is_sqlite) == ("", False, False)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "postgresql+asyncpg://db.example:5432/app"),
        ("postgres://db.example/app", "postgresql+asyncpg://db.example/app"),
        ("postgresql+asyncpg://app@db.example/app", "postgresql+asyncpg://db.example/app"),
        ("postgresql://app@/app?host=/run/postgresql", "postgresql+asyncpg:///app"),
        ("postgresql://db.example/app?sslmode=require", "postgresql+asyncpg://db.example/app"),
        ("postgresql://app:p/w?:#@[::1]:5433/app", "postgresql+asyncpg://[::1]:5433/app"),
        ("sqlite:///app.db", "sqlite+aiosqlite:///app.db"),
        ("sqlite:////var/lib/app.db", "sqlite+aiosqlite:////var/lib/app.db"),
        ("sqlite+aiosqlite:///app.db", "sqlite+aiosqlite:///app.db"),
    ],
)
def test_a_url_as_applications_have_it_is_a_database(tmp_path: Path, url: str, name: str) -> None:
    outbox = load(tmp_path, GATEWAY_OUTBOX__URL=url).outbox
    assert (outbox.url, outbox.is_sqlite) == (url, name.startswith("sqlite"))
    assert Database(outbox).name == name


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("db.example/app", "must start with postgresql:// or sqlite:/// and a path"),
        (f"mysql://app:{PASSWORD}@db.example/app", "must start with postgresql:// or sqlite:/// and a path"),
        (f"postgresql+psycopg://app:{PASSWORD}@db.example/app", "must start with postgresql://"),
        ("sqlite://app.db", "must start with postgresql:// or sqlite:/// and a path"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite+aiosqlite:///:memory:?cache=shared", "must name a file"),
        (f"postgresql://app:{PASSWORD}@db.example:port/app", "the port must be a whole number"),
        (f"postgresql://app:{PASSWORD}@{PASSWORD}:{PASSWORD}@db.example/app", "the port must be"),
        (f"postgresql://app:{PASSWORD}@db.example:70000/app", "from 1 to 65535"),
    ],
)
def test_another_url_is_refused_with_its_place_and_is_not_repeated(tmp_path: Path, url: str, words: str) -> None:
    for found, place in (
        (problems(tmp_path, f'url = "{url}"\n'), "gateway.toml:3: [outbox] url: "),
        (problems(tmp_path, GATEWAY_OUTBOX__URL=url), "GATEWAY_OUTBOX__URL: "),
    ):
        (problem,) = found
        assert problem.startswith(place)
        assert words in problem
        assert PASSWORD not in problem


def test_the_url_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(f"{URL}\n")
    secret.chmod(0o600)
    assert load(tmp_path, f'url_file = "{secret}"\n').outbox.url == URL
    assert load(tmp_path, GATEWAY_OUTBOX__URL_FILE=str(secret)).outbox.url == URL
    secret.write_text(f"mysql://app:{PASSWORD}@db.example/app\n")
    (problem,) = problems(tmp_path, f'url_file = "{secret}"\n')
    assert problem.startswith(f"gateway.toml:3: [outbox] url_file ({secret}): must start with ")
    assert PASSWORD not in problem


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("poll_interval_s = 0", "greater than or equal to 0.01, is 0"),
        ("batch_rows = 0", "or equal to 1"),
        ("batch_bytes = 1", "or equal to 65536"),
        ("attempts = 0", "or equal to 1"),
        ("lease_s = 0.5", "or equal to 1"),
        ("remember_s = 10", "or equal to 60"),
        ("pool_size = 0", "or equal to 1"),
        ("pool_overflow = -1", "or equal to 0"),
        ("pool_timeout_s = 0", "greater than 0"),
        ('pool_recycle_s = "never"', "number"),
        ("pool_sise = 3", "pool_size"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_place(tmp_path: Path, line: str, words: str) -> None:
    (problem,) = problems(tmp_path, f"\n{line}\n")
    assert problem.startswith(f"gateway.toml:4: [outbox] {line.split(maxsplit=1)[0]}: ")
    assert words in problem.partition(": [outbox]")[2]


def test_a_backoff_whose_bound_is_below_its_beginning_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "backoff_s = 5\nbackoff_max_s = 2\n")
    assert "backoff_max_s must not be shorter than backoff_s" in problem
    assert load(tmp_path, "backoff_s = 5\nbackoff_max_s = 5\n").outbox.backoff_max_s == 5


def test_sqlite_gets_fewer_connections(tmp_path: Path) -> None:
    server, file = Database(Outbox(url=URL)), Database(Outbox(url=f"sqlite:///{tmp_path}/app.db"))
    assert (server.pool_status().size, file.pool_status().size) == (20, 4)


def test_no_listing_shows_the_password(tmp_path: Path) -> None:
    for url in (
        URL,
        URL.replace(PASSWORD, f"{PASSWORD}/{PASSWORD}?{PASSWORD}#{PASSWORD}"),
        f"postgresql://db.example/app?user=app&password={PASSWORD}",
    ):
        loaded = read_config(write(tmp_path, f'url = "{url}"\n'), environ={}, flags={})
        (line,) = [line for line in as_toml(loaded) if "db.example" in line]
        assert "********" in line
        assert PASSWORD not in "\n".join(as_toml(loaded)) + repr(loaded.config)
    assert 'url = "postgresql://app:********@db.example:5432/app" ' in "\n".join(
        as_toml(read_config(write(tmp_path, f'url = "{URL}"\n'), environ={}, flags={}))
    )
    listing = "\n".join(as_variables())
    assert "# GATEWAY_OUTBOX__URL=\n# or, from a file: GATEWAY_OUTBOX__URL_FILE=/run/secrets/url\n" in listing
