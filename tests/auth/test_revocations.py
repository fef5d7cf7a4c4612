"""Which tokens are revoked."""

from __future__ import annotations

from gateway.auth import Revocations, revocations
from gateway.clock import FakeClock
from protocol.control_messages import Revoked


def made(clock: FakeClock, *entries: Revoked) -> Revocations:
    found = Revocations(clock)
    for entry in entries:
        assert found.add(entry)
    return found


def test_a_token_is_revoked_by_its_id_whoever_has_it() -> None:
    clock = FakeClock()
    until = clock.time() + 60
    revoked = made(clock, Revoked(token_id="t", expire_at=until))
    assert revoked.concern("t", "ada", clock.time())
    assert not revoked.concern("u", "ada", clock.time())
    assert not revoked.concern("", "ada", None)


def test_a_user_s_tokens_are_revoked_by_when_they_were_issued() -> None:
    clock = FakeClock()
    now = clock.time()
    revoked = made(clock, Revoked(user="ada", issued_before=now, expire_at=now + 60))
    assert revoked.concern("", "ada", now - 1)
    assert revoked.concern("", "ada", None)
    assert not revoked.concern("", "ada", now)
    assert not revoked.concern("", "bob", now - 1)


def test_everybody_s_tokens_are_revoked_by_when_they_were_issued() -> None:
    clock = FakeClock()
    now = clock.time()
    revoked = made(clock, Revoked(issued_before=now, expire_at=now + 60))
    assert revoked.concern("", "ada", now - 1)
    assert revoked.concern("t", "", now - 1)
    assert not revoked.concern("", "ada", now + 1)


def test_an_earlier_moment_does_not_take_a_later_one_back() -> None:
    clock = FakeClock()
    now = clock.time()
    revoked = made(
        clock,
        Revoked(user="ada", issued_before=now, expire_at=now + 60),
        Revoked(user="ada", issued_before=now - 100, expire_at=now + 60),
    )
    assert revoked.concern("", "ada", now - 50)


def test_an_entry_is_over_when_its_time_has_come() -> None:
    clock = FakeClock()
    until = clock.time() + 60
    revoked = made(clock, Revoked(token_id="t", expire_at=until), Revoked(user="ada", issued_before=1, expire_at=until))
    clock.advance(60)
    assert not revoked.concern("t", "ada", None)
    assert not revoked.add(Revoked(token_id="t", expire_at=until))


def test_what_is_said_again_is_no_news_but_may_last_longer() -> None:
    clock = FakeClock()
    now = clock.time()
    revoked = made(clock, Revoked(token_id="t", expire_at=now + 60))
    assert not revoked.add(Revoked(token_id="t", expire_at=now + 90))
    clock.advance(70)
    assert revoked.concern("t", "", None)


def test_what_is_over_is_forgotten() -> None:
    clock = FakeClock()
    revoked = Revocations(clock)
    for number in range(revocations.SWEEP_AT - 1):
        revoked.add(Revoked(token_id=f"t{number}", user="", expire_at=clock.time() + 10))
    assert len(revoked) == revocations.SWEEP_AT - 1
    clock.advance(11)
    revoked.add(Revoked(user="ada", issued_before=1, expire_at=clock.time() + 10))
    assert len(revoked) == 1
