"""The head of a request: what is read, what is refused and with which status, and how much of it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.http11 import Request
from websockets.server import ServerProtocol

from gateway.edge.request import END, BadRequest, parse_head, take_head
from gateway.metrics import names
from tests.support.edge import EdgeWorld, Peer
from tests.support.wire import PATH, request

MOST = 32_768


def status_of(head: bytes) -> int:
    """The status that these bytes are refused with; 0 = they are a request, or may become one."""
    try:
        if take_head(head, 0, MOST):
            parse_head(head)
    except BadRequest as problem:
        return problem.status.value
    return 0


def answered(data: bytes, **sections: object) -> tuple[int, bytes, bytes]:
    """Status, header fields (lower case) and body of the public port's answer."""
    peer = EdgeWorld(**sections).peer()  # type: ignore[arg-type]
    peer.feed(data)
    head, _, body = peer.answer.partition(END)
    assert peer.transport.half_closed or b" 101 " in head
    return int(head.split(b" ", 2)[1]), head.lower(), body


# What checks of load balancers, and people, really send.

CHECKS = {
    "curl": b"GET /health/ready HTTP/1.1\r\nHost: gw:8000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
    "wget --spider": b"HEAD /health/ready HTTP/1.1\r\nUser-Agent: Wget/1.21.4\r\nAccept: */*\r\n"
    b"Accept-Encoding: identity\r\nHost: 127.0.0.1:8000\r\nConnection: Keep-Alive\r\n\r\n",
    "busybox wget": b"GET /health/ready HTTP/1.1\r\nHost: gw:8000\r\nUser-Agent: Wget\r\nConnection: close\r\n\r\n",
    "AWS ELB": b"GET /health/ready HTTP/1.1\r\nHost: 10.0.0.7:8000\r\nConnection: close\r\n"
    b"User-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n",
    "Google": b"GET /health/ready HTTP/1.1\r\nHost: 10.0.0.7\r\nUser-Agent: GoogleHC/1.0\r\n"
    b"Connection: Keep-alive\r\n\r\n",
    "kubelet": b"GET /health/ready HTTP/1.1\r\nHost: 10.0.0.7:8000\r\nUser-Agent: kube-probe/1.31\r\n"
    b"Accept: */*\r\nConnection: close\r\n\r\n",
    "HAProxy": b"OPTIONS /health/ready HTTP/1.0\r\n\r\n",
    "HAProxy httpchk GET": b"GET /health/ready HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with a body length": b"GET /health/ready HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
    "lower case": b"GET /health/ready HTTP/1.1\r\nhost:gw\r\nuser-agent:check\r\n\r\n",
    "with a query": b"GET /health/ready?from=lb&x HTTP/1.1\r\nHost: gw\r\n\r\n",
    "absolute target": b"GET http://gw:8000/health/ready HTTP/1.1\r\nHost: gw:8000\r\n\r\n",
    "IPv6": b"GET /health/ready HTTP/1.1\r\nHost: [2001:db8::1]:8000\r\n\r\n",
}


@pytest.mark.parametrize("check", CHECKS)
async def test_a_health_check_is_answered_as_load_balancers_send_it(check: str) -> None:
    status, head, body = answered(CHECKS[check])
    assert status == 200
    assert body == (b"" if CHECKS[check].startswith(b"HEAD") else b"ready\n")
    assert b"content-length: 6" in head
    assert b"connection: close" in head
    assert answered(CHECKS[check].replace(b"ready", b"live"))[0] == 200


async def test_several_checks_on_one_connection_get_one_answer_and_its_end() -> None:
    peer = EdgeWorld().peer()
    peer.feed(CHECKS["curl"] * 3)
    assert peer.answer.count(b"HTTP/1.1 200") == 1
    assert peer.transport.half_closed


# Handshakes.


@pytest.mark.parametrize("target", [f"http://gw.example.com{PATH}", f"wss://gw.example.com:443{PATH}?format=json"])
async def test_an_absolute_target_is_a_handshake_like_any_other(target: str) -> None:
    assert answered(request(target))[0] == 101


async def test_the_host_of_an_absolute_target_is_the_one_that_counts() -> None:
    page = "https://gw.example.com"
    ours, another = f"http://gw.example.com{PATH}", f"http://other.example{PATH}"
    assert answered(request(ours, Host="other.example", Origin=page))[0] == 101
    assert answered(request(another, Host="gw.example.com", Origin=page))[0] == 403


@pytest.mark.parametrize("version", ["8", "0", "14", "013", "13, 8", ""])
async def test_another_version_is_told_which_one_is_spoken(version: str) -> None:
    status, head, _ = answered(request(Sec_WebSocket_Version=version))
    assert status == 426
    assert b"\r\nsec-websocket-version: 13" in head
    assert b"\r\nupgrade: websocket" in head


@pytest.mark.parametrize("path", [PATH, "/health/live", "/elsewhere"])
@pytest.mark.parametrize(
    "hosts", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a\r\nhost: a\r\n", b"Host: a b\r\n", b"Host: a/b\r\n"]
)
async def test_a_request_without_one_proper_host_is_400(path: str, hosts: bytes) -> None:
    data = request(path, Host=None).replace(b"\r\n", b"\r\n" + hosts, 1)
    assert answered(data)[0] == 400


async def test_two_hosts_are_400_in_http_1_0_too() -> None:
    assert answered(b"GET /health/live HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n")[0] == 400


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("odd", [{}, {"X-Odd": "caf\u00e9"}])
async def test_a_cookie_of_16_kilobytes_passes_and_reaches_the_hooks(in_pieces: bool, odd: dict[str, str]) -> None:
    world = EdgeWorld()
    backend = world.config.backend.model_copy(update={"headers": ("cookie",)})
    world.shared.config = world.config.model_copy(update={"backend": backend})
    peer = world.peer()
    data = request(Cookie="a=" + "x" * 16_384, **odd)
    for start in range(0, len(data), 1400 if in_pieces else len(data)):
        peer.feed(data[start : start + 1400] if in_pieces else data)
    assert len(peer.connection.headers["cookie"]) == 16_386


# Bounds.


def held(peer: Peer) -> int:
    return len(peer.protocol._head)  # type: ignore[union-attr]


async def test_no_more_than_one_whole_request_is_ever_held() -> None:
    world = EdgeWorld(limits={"request_bytes": 8192})
    peer = world.peer()
    peer.feed(b"GET /health/live HTTP/1.1\r\n")
    for number in range(1000):
        peer.feed(b"X-%d: %s\r\n" % (number, b"y" * 80))
        assert held(peer) <= 8192
        if peer.answer:
            break
    assert peer.answer.startswith(b"HTTP/1.1 431 ")
    assert held(peer) == 0
    assert world.counters[names.REFUSED_REQUEST] == 1
    peer.feed(b"x" * 1_000_000)
    assert not peer.transport.aborted, "it can still read the answer"
    peer.feed(b"x" * 100_000)
    assert peer.transport.aborted
    assert peer.answer.count(b"HTTP/1.1") == 1


async def test_what_comes_behind_a_request_is_bounded_while_it_waits_for_its_turn() -> None:
    world = EdgeWorld(limits={"handshakes_per_s": 1})
    while world.pace.take():
        pass
    peer = world.peer()
    peer.feed(request() + b"x" * 40_000)
    assert peer.answer.startswith(b"HTTP/1.1 400 ")
    assert held(peer) == 0


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"\r\n", 400),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
        (b"GET / HTTP/2\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"G\xc3\x96T / HTTP/1.1\r\n", 400),
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
        (b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://user@host/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 128 + b"\r\n", 431),
        (b"GET /" + b"x" * 8192, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * MOST, 431),
        (b"GET / HTTP/1.1", 0),
        (b"G", 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 127 + b"\r\n", 0),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_what_is_wrong_is_said_as_soon_as_it_shows(head: bytes, status: int) -> None:
    assert status_of(head) == status


@given(st.binary(max_size=200) | st.lists(st.sampled_from([*b"GET /HTP1.:\r\n", *range(256)])).map(bytes))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    status_of(data)
    status_of(b"GET / HTTP/1.1\r\nHost: a\r\n" + data + END)


LINES = st.lists(
    st.sampled_from(
        [
            "Host: a",
            "X: y",
            "X:y",
            "x-y:  padded ",
            "Content-Length: 0",
            "Content-Length: 1",
            "Bad Name: x",
            "X: caf\xe9",
            *("", "novalue", ": x", "X: \x7f", "Transfer-Encoding: chunked", "X: \x00"),
        ]
    ),
    max_size=6,
)


@given(LINES, st.sampled_from(["GET", "POST"]), st.sampled_from(["/", "*", "/a?b", "/\xe9"]), st.sampled_from("019"))
@settings(max_examples=300, deadline=None)
def test_what_is_read_here_the_library_reads_in_the_same_way(
    lines: list[str], method: str, target: str, minor: str
) -> None:
    data = "\r\n".join([f"{method} {target} HTTP/1.{minor}", "Host: h", *lines, "", ""]).encode("latin-1")
    try:
        size = take_head(data, 0, MOST)
        ours = parse_head(data[:size])
    except BadRequest:
        return
    library = ServerProtocol()
    library.receive_data(data[:size])
    (theirs,) = library.events_received()
    assert isinstance(theirs, Request)
    assert (ours.method, ours.path, ours.protocol) == (theirs.method, theirs.path, theirs.protocol)
    assert list(ours.headers.raw_items()) == list(theirs.headers.raw_items())
