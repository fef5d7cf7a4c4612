"""`client.js` against a scripted WebSocket: what no well-behaved server lets one see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.demo.conftest import Demo

pytestmark = pytest.mark.browser

HARNESS = """
async () => {
  const { Client } = await import("/demo/client.js");
  const { WebSocket, setTimeout } = globalThis, { random } = Math;
  Math.random = () => 0; // every reconnect comes at once
  const sockets = [], tokens = [], states = [];
  class FakeSocket {
    sent = [];
    constructor(url) { this.url = url; sockets.push(this); setTimeout(() => this.onopen()); }
    send(frame) { this.sent.push(JSON.parse(frame)); }
    close() { this.closed = true; }
    receive(...replies) { this.onmessage({ data: replies.map((reply) => JSON.stringify(reply)).join("\\n") }); }
    drop(code, reason = "") { this.onclose({ code, reason }); }
  }
  const settled = async (condition) => {
    for (let turn = 0; turn < 500; turn++) {
      if (condition()) return;
      await new Promise((resolve) => setTimeout(resolve, 4));
    }
    throw new Error(`never happened: ${condition}`);
  };
  globalThis.WebSocket = FakeSocket;
  const client = new Client("ws://fake/", async () => { tokens.push(`t${tokens.length + 1}`); return tokens.at(-1); });
  client.addEventListener("state", ({ detail }) => states.push([detail.state, detail.code ?? null]));
  const opened = async (number, result = { client: "c1", ping: 25, pong: true }) => {
    await settled(() => sockets[number - 1]?.sent.length);
    const socket = sockets[number - 1];
    socket.receive({ id: socket.sent[0].id, connect: result });
    await settled(() => client.state === "connected");
    return socket;
  };
  try {
    /* the test */
  } finally {
    client.close();
    Object.assign(globalThis, { WebSocket, setTimeout });
    Math.random = random;
  }
}
"""


Run = Callable[[str], Any]


@pytest.fixture(scope="module")
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{demo.page}/client.js")  # any address of that server: the module has to be its own
        yield page


@pytest.fixture
def run(page: Page) -> Run:
    """Runs a script around a client; its result."""

    def run(script: str) -> Any:
        return page.evaluate(HARNESS.replace("/* the test */", script))

    return run


def test_connect_carries_the_token_and_subscriptions_follow(run: Run) -> None:
    sent = run("""
        client.subscribe("news", { onPublication() {} });
        client.connect();
        const socket = await opened(1);
        return socket.sent;
    """)
    assert sent == [
        {"id": 1, "connect": {"token": "t1", "name": "demo"}},
        {"id": 2, "subscribe": {"channel": "news"}},
    ]


def test_several_replies_and_pushes_in_one_frame_are_taken_in_order(run: Run) -> None:
    assert run("""
        const got = [];
        client.subscribe("news", { onPublication: (pub) => got.push(pub.data), onState: (state) => got.push(state) });
        client.connect();
        const socket = await opened(1);
        const push = (channel, data) => ({ push: { channel, pub: { data } } });
        socket.receive(push("news", 1), {}, push("other", 0), push("news", 2), { id: 2, subscribe: {} });
        await settled(() => got.length === 3);
        return [got, socket.sent.at(-1)];
    """) == [[1, 2, "subscribed"], {}]


def test_ping_is_answered_only_when_the_server_wants_pongs(run: Run) -> None:
    assert (
        run("""
        client.connect();
        const socket = await opened(1, { client: "c1", ping: 25 });
        socket.receive({});
        return socket.sent.length;
    """)
        == 1
    )


@pytest.mark.parametrize("code", [3500, 3999, 4500, 4999, 1009])
def test_final_close_codes_end_it(run: Run, code: int) -> None:
    assert run(f"""
        client.connect();
        (await opened(1)).drop({code}, "over");
        await new Promise((resolve) => setTimeout(resolve, 50));
        return [states.at(-1), sockets.length];
    """) == [["closed", code], 1]


@pytest.mark.parametrize("code", [1001, 1006, 1013, 3000, 3001, 3012, 3499, 4000, 4499])
def test_other_close_codes_come_back_with_the_same_token(run: Run, code: int) -> None:
    assert run(f"""
        client.subscribe("news", {{ onPublication() {{}} }});
        client.connect();
        (await opened(1)).drop({code});
        const second = await opened(2);
        return [states.map(([state]) => state), tokens, second.sent.map((command) => Object.keys(command)[1])];
    """) == [
        ["connecting", "connected", "reconnecting", "connecting", "connected"],
        ["t1"],
        ["connect", "subscribe"],
    ]


def test_expired_token_is_replaced_by_a_new_one(run: Run) -> None:
    assert run("""
        client.connect();
        await settled(() => sockets[0]?.sent.length);
        sockets[0].receive({ id: 1, error: { code: 109, message: "token expired" } });
        const second = await opened(2);
        return [tokens, second.sent[0].connect.token, sockets[0].closed];
    """) == [["t1", "t2"], "t2", True]


def test_permanent_error_to_connect_ends_it(run: Run) -> None:
    assert run("""
        client.connect();
        await settled(() => sockets[0]?.sent.length);
        sockets[0].receive({ id: 1, error: { code: 101, message: "unauthorized" } });
        await settled(() => client.state === "closed");
        return states.at(-1);
    """) == ["closed", 101]


def test_calls_under_way_fail_when_the_connection_breaks(run: Run) -> None:
    assert run("""
        client.connect();
        const socket = await opened(1);
        const call = client.publish("news", 1).then(() => "sent", (error) => error.message);
        socket.drop(1006);
        return [await call, await client.publish("news", 1).catch((error) => error.message)];
    """) == ["connection lost", "not connected"]


def test_error_reply_has_the_code(run: Run) -> None:
    assert run("""
        client.connect();
        const socket = await opened(1);
        const call = client.publish("news", 1).catch((error) => [error.code, error.message]);
        socket.receive({ id: 2, error: { code: 103, message: "permission denied" } });
        return await call;
    """) == [103, "permission denied"]


def test_refused_subscription_is_told_and_a_temporary_one_tried_again(run: Run) -> None:
    assert run("""
        const told = [];
        client.subscribe("private", { onPublication() {}, onState: (state, error) => told.push(state, error?.code) });
        client.connect();
        const socket = await opened(1);
        socket.receive({ id: 2, error: { code: 100, message: "internal", temporary: true } });
        await settled(() => socket.sent.length === 3);
        socket.receive({ id: 3, error: { code: 103, message: "permission denied" } });
        await settled(() => told.length);
        return told;
    """) == ["refused", 103]


@pytest.mark.parametrize(("code", "again"), [(2500, True), (2501, True), (2000, False)])
def test_unsubscribed_by_the_server(run: Run, code: int, again: bool) -> None:
    assert (
        run(f"""
        client.subscribe("news", {{ onPublication() {{}} }});
        client.connect();
        const socket = await opened(1);
        socket.receive({{ id: 2, subscribe: {{}} }});
        socket.receive({{ push: {{ channel: "news", unsubscribe: {{ code: {code}, reason: "x" }} }} }});
        return socket.sent.length === 3;
    """)
        == again
    )


def test_silent_server_is_left(run: Run) -> None:
    assert run("""
        globalThis.setTimeout = (call, ms) => setTimeout(call, ms > 30000 ? 0 : ms);
        client.connect();
        await settled(() => sockets[0]?.sent.length);
        sockets[0].receive({ id: 1, connect: { client: "c1", ping: 25, pong: true } });
        await settled(() => client.state === "connected");
        sockets[0].receive({});
        await settled(() => sockets.length === 2);
        return [sockets[0].closed, states[2][0]];
    """) == [True, "reconnecting"]


def test_token_is_refreshed_before_it_expires(run: Run) -> None:
    assert run("""
        globalThis.setTimeout = (call, ms) => setTimeout(call, ms === 3240000 ? 0 : ms);
        client.connect();
        const socket = await opened(1, { client: "c1", expires: true, ttl: 3600 });
        await settled(() => socket.sent.length === 2);
        return socket.sent[1];
    """) == {"id": 2, "refresh": {"token": "t2"}}


# Channels that are recovered.


def test_what_a_channel_begins_with_comes_before_pushes_in_the_same_frame(run: Run) -> None:
    assert run("""
        const got = [];
        const onPublication = (pub) => got.push(pub.data), onState = (state) => got.push(state);
        client.subscribe("stream:a", { recover: true, onPublication, onState });
        client.connect();
        const socket = await opened(1);
        const publications = [{ data: "so far", offset: 4 }];
        const push = { channel: "stream:a", pub: { data: "next", offset: 5 } };
        socket.receive({ id: 2, subscribe: { epoch: "e1", offset: 4, publications } }, { push });
        await settled(() => got.length === 3);
        return [got, socket.sent[1].subscribe];
    """) == [["so far", "subscribed", "next"], {"channel": "stream:a"}]


def test_a_channel_is_recovered_behind_the_last_publication(run: Run) -> None:
    assert run("""
        const got = [];
        client.subscribe("stream:a", { recover: true, onPublication: (pub) => got.push(pub.data) });
        client.subscribe("news", { onPublication() {} });
        client.connect();
        const first = await opened(1);
        first.receive({ id: 2, subscribe: { epoch: "e1", offset: 4 } });
        first.receive({ id: 3, subscribe: { epoch: "n", offset: 9 } });
        first.receive({ push: { channel: "stream:a", pub: { data: 5, offset: 5 } } });
        first.drop(1006);
        const second = await opened(2);
        await settled(() => second.sent.length === 3);
        const publications = [{ data: 7, offset: 7 }];
        second.receive({ id: second.sent[1].id, subscribe: { epoch: "e1", offset: 7, publications } });
        await settled(() => got.length === 2);
        return [got, second.sent.slice(1).map((command) => command.subscribe)];
    """) == [[5, 7], [{"channel": "stream:a", "recover": True, "epoch": "e1", "offset": 5}, {"channel": "news"}]]


def test_a_channel_with_a_token_of_its_own_is_joined_once_however_long_that_takes(run: Run) -> None:
    assert run("""
        let give;
        const asked = [];
        const getToken = () => new Promise((resolve) => { asked.push(1); give = resolve; });
        client.subscribe("stream:a", { onPublication() {}, getToken });
        client.connect();
        (await opened(1)).drop(1006); // before there is a token
        const late = give;
        const second = await opened(2);
        late("old");
        await settled(() => asked.length === 2);
        give("new");
        await settled(() => second.sent.length === 2);
        await new Promise((resolve) => setTimeout(resolve, 20));
        return [sockets[0].sent.length, second.sent.slice(1).map((command) => command.subscribe)];
    """) == [1, [{"channel": "stream:a", "token": "new"}]]


def test_a_token_that_cannot_be_had_is_asked_for_again(run: Run) -> None:
    assert run("""
        let attempts = 0;
        const getToken = async () => { if (++attempts < 3) throw new Error("no"); return "t"; };
        client.subscribe("stream:a", { onPublication() {}, getToken });
        client.connect();
        const socket = await opened(1);
        await settled(() => socket.sent.length === 2);
        return [attempts, socket.sent[1].subscribe.token];
    """) == [3, "t"]
