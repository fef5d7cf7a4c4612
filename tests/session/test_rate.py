"""The rate limit: its arithmetic, and what a client sees of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.session import RateLimit
from tests.support.session import SessionWorld

rates = st.floats(0.1, 10_000)
bursts = st.integers(1, 1000)
arrivals = st.lists(st.tuples(st.floats(0, 100), st.integers(1, 2000)), min_size=1, max_size=30)


@given(rates, bursts, arrivals)
def test_no_stretch_of_time_lets_more_pass_than_the_burst_and_what_the_rate_gives(
    per_s: float, burst: int, arrivals: list[tuple[float, int]]
) -> None:
    limit, number, now = RateLimit(per_s, burst), 0.0, 1000.0
    passed: list[tuple[float, int]] = []
    for pause, commands in arrivals:
        now += pause
        admitted, number = limit.admit(number, commands, now)
        assert 0 <= admitted <= commands
        passed.append((now, admitted))
    for first, (begin, _) in enumerate(passed):
        for end, _ in passed[first:]:
            inside = sum(admitted for at, admitted in passed if begin <= at <= end)
            assert inside <= burst + (end - begin) * per_s + 1e-3 * (1 + burst)


@given(rates, bursts, st.integers(1, 2000))
def test_a_client_that_was_quiet_may_send_a_burst_and_not_one_more(per_s: float, burst: int, commands: int) -> None:
    assert RateLimit(per_s, burst).admit(0.0, commands, 1000.0)[0] == min(commands, burst)


@given(rates, bursts, st.integers(1, 500))
def test_a_client_at_the_rate_is_never_held_up(per_s: float, burst: int, commands: int) -> None:
    limit, number = RateLimit(per_s, burst), 0.0
    for step in range(commands):
        admitted, number = limit.admit(number, 1, 1000.0 + step / per_s)
        assert admitted == 1


@given(rates, bursts)
def test_after_a_full_burst_the_allowance_comes_back_at_the_rate(per_s: float, burst: int) -> None:
    limit = RateLimit(per_s, burst)
    _, number = limit.admit(0.0, burst, 1000.0)
    assert limit.admit(number, 1, 1000.0 + 0.9 / per_s)[0] == 0
    assert limit.admit(number, burst, 1000.0 + burst / per_s + 0.01 / per_s)[0] == burst


def limited(**limits: float) -> SessionWorld:
    return SessionWorld(limits=limits)


async def test_commands_above_the_limit_are_answered_with_111_which_is_temporary() -> None:
    client = await limited(commands_per_s=1, commands_burst=3).connected()
    answers = await client.frame(*({"id": number, "ping": {}} for number in range(2, 6)))
    assert answers[:2] == [{"id": 2, "ping": {}}, {"id": 3, "ping": {}}]
    for number, answer in zip((4, 5), answers[2:], strict=True):
        assert answer == {"id": number, "error": {"code": 111, "message": "too many requests", "temporary": True}}
    assert client.closed is None


async def test_a_client_that_does_not_listen_is_closed_with_3013() -> None:
    client = await limited(commands_per_s=1, commands_burst=3).connected()
    answers = await client.frame(*({"id": number, "ping": {}} for number in range(2, 10_000)))
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, None, 111, 111, 111]
    assert client.closed == 3013


async def test_a_client_that_slows_down_is_forgiven() -> None:
    client = await limited(commands_per_s=10, commands_burst=3).connected()
    for _ in range(20):
        await client.frame(*({"id": number, "ping": {}} for number in range(2, 6)))
        client.world.clock.advance(1)
        await client.frame({"id": 9, "ping": {}})
        await client.frame({"id": 9, "ping": {}})
        client.world.clock.advance(1)
    assert client.closed is None


async def test_ten_thousand_commands_in_one_frame_disturb_nobody_else() -> None:
    world = SessionWorld()
    client, other = await world.connected(), await world.connected()
    answers = await client.frame(*({"id": number, "ping": {}} for number in range(2, 10_002)))
    assert len(answers) == 499 + 500
    assert client.closed == 3013
    assert "ping" in await other.ask(ping={})
