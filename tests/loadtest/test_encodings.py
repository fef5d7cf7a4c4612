"""The programs that measure and torment the encodings."""

from __future__ import annotations

import pytest

from loadtest import encodings, fuzz
from protocol.encodings import JSON
from protocol.errors import DecodeError


def test_it_measures_every_encoding(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "ROUNDS", 1)
    assert encodings.main([]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("protobuf", "msgpack", "read subscribe", "write a publication"))


def test_a_missed_target_fails_when_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "ROUNDS", 1)
    monkeypatch.setattr(encodings, "TARGET_US", 0.0)
    assert encodings.main(["--strict"]) == 1


def test_fuzzing_finds_nothing_for_a_moment(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--seconds", "0.2", "--seed", "1"]) == 0
    assert "PASS" in capsys.readouterr().out


def test_fuzzing_tells_what_must_not_come_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        name = "broken"

        def decode_commands(self, payload: bytes) -> object:
            raise DecodeError

        def decode_replies(self, payload: bytes) -> object:
            raise IndexError("of mine")

        encode_command, encode_reply, join = JSON.encode_command, JSON.encode_reply, JSON.join

    monkeypatch.setattr(fuzz, "ENCODINGS", (Broken(),))
    assert fuzz.main(["--seconds", "5"]) == 1
    assert "IndexError('of mine')" in capsys.readouterr().out
