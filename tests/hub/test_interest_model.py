"""Whatever comes, goes, is refused or breaks: in the end Redis is asked for exactly what somebody is here for."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.errors import BrokerRefused
from gateway.hub import Channel
from gateway.hub.channel import Held
from gateway.metrics import names
from tests.support.hub import FakeReceiver, HubWorld

channels = st.sampled_from(["a", "b", "c"])


class InterestMachine(RuleBasedStateMachine):
    """Sessions open, join, give up and leave; Redis answers, refuses, goes and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.world = HubWorld(linger_s=5)
        self.receiver_of: list[tuple[Channel, FakeReceiver]] = []
        self.opened: list[tuple[Channel, asyncio.Future[None] | None]] = []
        self.seen = 0
        self.redis_has: set[bytes] = set()
        self.unanswered: list[bytes] = []

    def call(self, function: Any, *arguments: Any) -> Any:
        async def run() -> Any:
            return function(*arguments)

        result = self.loop.run_until_complete(run())
        for verb, channel in self.world.redis.calls[self.seen :]:
            if verb == "unsubscribe":
                self.redis_has.discard(channel)
            else:
                self.redis_has.add(channel)
                if not self.world.redis.away:
                    self.unanswered.append(channel)
        self.seen = len(self.world.redis.calls)
        return result

    @rule(channel=channels)
    def open(self, channel: str) -> None:
        (opened,), ready = self.call(self.world.hub.open, [(channel, "")])
        self.opened.append((opened, ready))

    @precondition(lambda self: any(ready is None or ready.done() for _, ready in self.opened))
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """As `subscribe` does once it need not wait: join what is held, give up what was refused."""
        entry = data.draw(st.sampled_from([each for each in self.opened if each[1] is None or each[1].done()]))
        self.opened.remove(entry)
        if entry[0].held is Held.NO:
            self.call(self.world.hub.cancel, entry[0])
        else:
            receiver = FakeReceiver()
            self.call(self.world.hub.join, entry[0], receiver)
            self.receiver_of.append((entry[0], receiver))

    @precondition(lambda self: self.opened)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.opened))
        self.opened.remove(entry)
        self.call(self.world.hub.cancel, entry[0])

    @precondition(lambda self: self.receiver_of)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.receiver_of))
        self.receiver_of.remove(entry)
        self.call(self.world.hub.leave, *entry)

    @precondition(lambda self: self.unanswered)
    @rule(refuse=st.booleans())
    def redis_answers(self, refuse: bool) -> None:
        channel = self.unanswered.pop(0)
        if channel not in self.redis_has:
            return
        if refuse:
            self.redis_has.discard(channel)
        self.call(self.world.hub.subscription_confirmed, channel, BrokerRefused("no") if refuse else None)
        self._leave_what_was_lost()

    @rule()
    def redis_goes_or_comes(self) -> None:
        self.world.redis.away = not self.world.redis.away
        if self.world.redis.away:
            self.unanswered.clear()
            self.call(self.world.hub.subscriber_lost, "closed")
        else:
            self.call(self.world.hub.subscriber_connected)

    @rule(seconds=st.sampled_from([1, 5]))
    def time_passes(self, seconds: float) -> None:
        self.call(self.world.sweep, seconds)

    def _leave_what_was_lost(self) -> None:
        for entry in [each for each in self.receiver_of if each[1].lost]:
            self.receiver_of.remove(entry)
            self.call(self.world.hub.leave, *entry)

    @invariant()
    def what_somebody_is_here_for_is_asked_of_redis(self) -> None:
        assert {channel.redis_name for channel, _ in self.receiver_of} <= self.redis_has

    @invariant()
    def gauges_tell_the_truth(self) -> None:
        assert self.world.counters[names.SUBSCRIPTIONS] == len(self.receiver_of)
        assert self.world.counters[names.CHANNELS] == len({channel.name for channel, _ in self.receiver_of})

    def teardown(self) -> None:
        while self.unanswered:
            self.redis_answers(refuse=False)
        for channel, _ in self.opened:
            self.call(self.world.hub.cancel, channel)
        for _ in range(3):
            self.call(self.world.sweep, 6)
        here = {channel.redis_name for channel, _ in self.receiver_of}
        assert self.redis_has == here
        assert self.world.hub._channels.keys() == here
        self.loop.close()
        asyncio.set_event_loop(None)


InterestMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestInterest = InterestMachine.TestCase
