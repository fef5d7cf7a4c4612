"""Who counts as healed after a fault, and what is said of those who are not."""

from __future__ import annotations

import pytest

from loadtest.faults.healing import Healing
from loadtest.faults.record import Record
from loadtest.faults.subscriber import Subscriber, Surroundings
from protocol.position import Position


def at(offset: int, epoch: str = "a") -> Position:
    return Position(offset=offset, epoch=epoch)


@pytest.fixture
async def subscribers() -> list[Subscriber]:
    """Two clients that have everything up to a 5."""
    around = Surroundings("", 0, "", lambda user: user, Record())
    found = [Subscriber(user, ["news"], around) for user in ("ada", "ben")]
    for each in found:
        has(each, at(5))
    return found


def has(subscriber: Subscriber, position: Position) -> None:
    """It was told that the log is there."""
    subscription = subscriber.subscriptions["news"]
    subscription.subscribed = True
    subscription.ledger.subscribed(position, recovered=False)


async def test_who_has_the_first_publication_after_the_fault_has_healed(subscribers: list[Subscriber]) -> None:
    record = Record()
    record.accept("news", at(5), 0)
    healing = Healing("a fault", subscribers, record)
    healing.look()
    assert healing.left == 2  # nothing was published since
    record.accept("news", at(6), 1)
    subscribers[0].subscriptions["news"].ledger.take(6)
    healing.look()
    assert (healing.left, healing.healed.unhealed, len(healing.healed.times_ms)) == (1, 1, 1)
    healing.give_up()
    assert healing.healed.states == ["ben has a 5–5 of news, not a 6"]
    subscribers[1].subscriptions["news"].subscribed = False
    healing.give_up()
    assert healing.healed.states[1:] == ["ben has a 5–5 of news, not subscribed, not a 6"]


async def test_a_new_epoch_meanwhile_says_that_what_was_before_is_gone(subscribers: list[Subscriber]) -> None:
    """Ada got a 6 before it was discarded with the master that had it, Ben learns of the new epoch first."""
    record = Record()
    healing = Healing("a fault", subscribers, record)
    record.accept("news", at(6), 1)
    subscribers[0].subscriptions["news"].ledger.take(6)
    healing.look()
    record.accept("news", at(7, "b"), 2)
    healing.look()
    assert healing.left == 1
    has(subscribers[1], at(7, "b"))
    healing.look()
    assert (healing.left, healing.healed.unhealed) == (0, 0)
