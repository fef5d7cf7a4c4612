"""Publishing through Centrifugo's HTTP API, against a socket that answers what a test wants."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import orjson
import pytest

from loadtest.bench.messages import message
from loadtest.bench.sources import HttpSource, SourceError


class Api:
    """The source, the server's end of its connection, and where it finds another."""

    def __init__(self, listener: socket.socket, source: HttpSource, server: socket.socket) -> None:
        self.listener = listener
        self.source = source
        self.server = server

    def answer(self, body: bytes, status: str = "200 OK", head: str = "Content-Length: {}") -> None:
        self.server.sendall(f"HTTP/1.1 {status}\r\n{head.format(len(body))}\r\n\r\n".encode() + body)


@pytest.fixture
def api() -> Iterator[Api]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = HttpSource(listener.getsockname(), "/api/batch", ["bench", "quiet"], "a key")
        server, _ = listener.accept()
        with server:
            yield Api(listener, source, server)
        source.close()


def test_all_messages_of_a_pass_are_one_request_with_the_key(api: Api) -> None:
    sent = [message(1, sequence, 1) for sequence in range(3)]
    api.source.publish(sent, 1)
    head, _, body = api.server.recv(65_536).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/batch HTTP/1.1\r\n")
    assert b"\r\nX-API-Key: a key\r\n" in head
    assert f"Content-Length: {len(body)}".encode() in head
    published = [command["publish"] for command in orjson.loads(body)["commands"]]
    assert [one["channel"] for one in published] == ["quiet"] * 3
    assert [orjson.dumps(one["data"]) for one in published] == sent


def test_answers_are_taken_however_they_are_cut(api: Api) -> None:
    api.answer(b'{"replies":[{"publish":{}}]}')
    api.answer(b'{"replies":[')
    api.source.read_answers()
    api.answer(b'{"error":{"code":107}}')
    with pytest.raises(SourceError, match="107"):
        api.source.read_answers()


@pytest.mark.parametrize(
    ("status", "head", "body", "said"),
    [
        ("401 Unauthorized", "Content-Length: {}", b"", "401"),
        ("200 OK", "Content-Length: {}", b'{"replies":[{"error":{"code":102}}]}', "102"),
        ("200 OK", "Transfer-Encoding: chunked", b"", "Content-Length"),
    ],
)
def test_an_answer_that_is_no_success_is_an_error(api: Api, status: str, head: str, body: bytes, said: str) -> None:
    api.answer(body, status, head)
    with pytest.raises(SourceError, match=said):
        api.source.read_answers()


def test_a_connection_that_is_closed_before_the_answer_is_an_error(api: Api) -> None:
    api.source.publish([message(1, 0, 0)], 0)
    api.server.recv(65_536)
    api.server.close()
    with pytest.raises(SourceError, match="closed"):
        api.source.read_answers()


def test_an_idle_connection_that_is_closed_is_replaced(api: Api) -> None:
    api.source.publish([message(1, 0, 0)], 0)
    api.answer(b'{"replies":[]}')
    api.source.read_answers()
    assert not api.source.ended
    api.server.shutdown(socket.SHUT_WR)
    api.source.read_answers()
    assert api.source.ended
    api.source.reconnect()
    assert not api.source.ended
    with api.listener.accept()[0] as again:
        api.source.publish([message(1, 1, 0)], 0)
        assert b"publish" in again.recv(65_536)


def test_nobody_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(SourceError, match="cannot connect"):
        HttpSource(address, "/api/batch", [], "")
