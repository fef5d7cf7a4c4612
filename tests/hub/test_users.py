"""User → sessions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.hub import UserIndex


def test_every_tab_of_a_user_is_found() -> None:
    users: UserIndex[str] = UserIndex()
    for session in ("tab 1", "tab 2", "tab 3"):
        users.add("42", session)
    users.add("43", "other")
    assert set(users.sessions("42")) == {"tab 1", "tab 2", "tab 3"}
    assert users.sessions("43") == ("other",)
    assert users.sessions("44") == ()
    assert len(users) == 2


def test_anonymous_sessions_have_nothing_in_common() -> None:
    users: UserIndex[str] = UserIndex()
    users.add("", "a")
    users.add("", "b")
    users.remove("", "a")
    assert users.sessions("") == ()
    assert len(users) == 0


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.integers(0, 3)), max_size=40))
def test_the_index_is_a_set_for_each_user(operations: list[tuple[bool, str, int]]) -> None:
    users: UserIndex[int] = UserIndex()
    model: dict[str, set[int]] = {"a": set(), "b": set()}
    for comes, user, session in operations:
        if comes and session not in model[user]:  # a session is added once
            users.add(user, session)
            model[user].add(session)
        elif not comes:
            users.remove(user, session)
            model[user].discard(session)
        assert {each: set(users.sessions(each)) for each in model} == model
        assert len(users) == sum(bool(sessions) for sessions in model.values())
