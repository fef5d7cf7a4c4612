"""The ledger finds what a wrong gateway would do: what is lost, doubled, out of order, and what it must not excuse."""

from __future__ import annotations

import random

import pytest

from loadtest.faults.ledger import Ledger
from protocol.position import Position


def at(offset: int, epoch: str = "a") -> Position:
    return Position(offset=offset, epoch=epoch)


def ledger(start: int = 0, *offsets: int) -> Ledger:
    """Subscribed at `start` in epoch a, then these publications."""
    subscribed = Ledger()
    subscribed.subscribed(at(start), recovered=False)
    for offset in offsets:
        subscribed.take(offset)
    return subscribed


def accepted(**epochs: int) -> dict[str, dict[int, int]]:
    """Offsets from 1 to the given one in each epoch."""
    return {epoch: {offset: offset for offset in range(1, top + 1)} for epoch, top in epochs.items()}


def counts(kept: Ledger, told: dict[str, dict[int, int]]) -> dict[str, int]:
    """What is not 0."""
    found = {"lost": kept.lost(told), "doubled": kept.doubled, "out of order": kept.out_of_order, "told": kept.told}
    return {name: count for name, count in found.items() if count}


def test_one_after_the_other_is_all_right() -> None:
    kept = ledger(2, 3, 4, 5)
    assert counts(kept, accepted(a=5)) == {}
    assert (kept.delivered, kept.position, kept.reached(at(5)), kept.reached(at(6))) == (3, at(5), True, False)


def test_what_came_before_the_subscription_is_not_missed() -> None:
    assert counts(ledger(5), accepted(a=5)) == {}


@pytest.mark.parametrize(
    ("offsets", "wrong"),
    [
        ((1, 2, 5), {"lost": 2}),
        ((1, 2, 3), {"lost": 2}),
        ((), {"lost": 5}),
        ((1, 2, 2, 3, 4, 5), {"doubled": 1}),
        ((1, 2, 3, 4, 5, 1, 2), {"doubled": 2}),
        ((1, 3, 2, 4, 5), {"out of order": 1}),
        ((1, 4, 3, 2, 5), {"out of order": 2}),
        ((1, 4, 2, 2, 5), {"lost": 1, "doubled": 1, "out of order": 1}),
    ],
)
def test_a_gateway_that_loses_doubles_or_mixes_up_is_found_out(offsets: tuple[int, ...], wrong: dict[str, int]) -> None:
    assert counts(ledger(0, *offsets), accepted(a=5)) == wrong


def test_an_offset_that_was_skipped_is_lost_even_if_the_publisher_never_heard_of_it() -> None:
    assert counts(ledger(0, 1, 3), {"a": {1: 1, 3: 3}}) == {"lost": 1}


def test_recovery_goes_on_where_the_ledger_is() -> None:
    kept = ledger(0, 1, 2)
    kept.subscribed(at(2), recovered=True)
    for offset in (3, 4, 5):
        kept.take(offset)
    assert counts(kept, accepted(a=5)) == {}


def test_a_recovery_that_leaves_one_out_loses_it() -> None:
    kept = ledger(0, 1, 2)
    kept.subscribed(at(2), recovered=True)
    for offset in (4, 5):
        kept.take(offset)
    assert counts(kept, accepted(a=5)) == {"lost": 1}


def test_a_recovery_that_brings_one_again_doubles_it() -> None:
    kept = ledger(0, 1, 2)
    kept.subscribed(at(2), recovered=True)
    for offset in (2, 3, 4, 5):
        kept.take(offset)
    assert counts(kept, accepted(a=5)) == {"doubled": 1}


def test_not_recovered_in_the_same_epoch_is_no_excuse() -> None:
    kept = ledger(0, 1, 2)
    kept.subscribed(at(4), recovered=False)
    kept.take(5)
    assert counts(kept, accepted(a=5)) == {"lost": 2}


def test_a_new_epoch_is_told_and_begins_at_the_position_of_the_reply() -> None:
    kept = ledger(0, 1, 2)
    kept.subscribed(at(1, "b"), recovered=False)
    kept.take(2)
    kept.take(3)
    assert counts(kept, accepted(a=5, b=3)) == {"told": 1}
    assert kept.reached(at(3, "b"))
    assert not kept.reached(at(1, "a"))


def test_what_a_new_epoch_loses_after_its_start_is_lost() -> None:
    kept = ledger(0, 1, 2)
    kept.subscribed(at(1, "b"), recovered=False)
    kept.take(3)
    assert counts(kept, accepted(a=5, b=4)) == {"told": 1, "lost": 2}


def test_what_was_lost_before_a_new_epoch_stays_lost() -> None:
    kept = ledger(0, 1, 3)
    kept.subscribed(at(0, "b"), recovered=False)
    assert counts(kept, accepted(a=5)) == {"told": 1, "lost": 1}


def test_who_is_never_told_of_a_new_epoch_has_lost_it() -> None:
    assert counts(ledger(0, 1, 2), accepted(a=2, b=3)) == {"lost": 3}


def test_who_was_never_subscribed_has_lost_everything() -> None:
    assert counts(Ledger(), accepted(a=2, b=3)) == {"lost": 5}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_wrong_gateway_does_to_a_stream_the_counts_are_what_it_did(seed: int) -> None:
    """Model: the first time an offset comes, it is in order or not; every other time it is doubled."""
    rng = random.Random(seed)
    offsets = [offset for offset in range(1, 60) for _ in range(rng.choice((0, 1, 1, 1, 1, 2)))]
    for _ in range(rng.randrange(10)):
        one, other = rng.randrange(len(offsets)), rng.randrange(len(offsets))
        offsets[one], offsets[other] = offsets[other], offsets[one]
    highest, seen, doubled, late = 0, set(), 0, 0
    for offset in offsets:
        doubled += offset in seen
        late += offset < highest and offset not in seen
        seen.add(offset)
        highest = max(highest, offset)
    kept = ledger(0, *offsets)
    assert (kept.doubled, kept.out_of_order) == (doubled, late)
    assert kept.lost(accepted(a=60)) == 60 - len(seen)
