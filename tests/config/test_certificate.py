"""The certificate of the public port: what is wrong with it is said before anything starts."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from gateway.config import Server, load_certificate, load_config, warnings
from gateway.errors import ConfigError
from tests.support.certificate import make_certificate

AUTH = {"GATEWAY_AUTH__HMAC_SECRET": "a secret that is long enough for HS256"}


def problem(**server: str) -> str:
    environ = AUTH | {f"GATEWAY_SERVER__{key.upper()}": value for key, value in server.items()}
    with pytest.raises(ConfigError) as caught:
        load_config(None, environ=environ, flags={})
    (only,) = caught.value.problems
    return only


def test_a_good_one_is_tls_1_2_at_least_and_http_1_1(tmp_path: Path) -> None:
    context = load_certificate(Server(**make_certificate(tmp_path).settings))  # type: ignore[arg-type]
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_both_files_or_none(tmp_path: Path) -> None:
    assert "tls_cert and tls_key are given both or none" in problem(tls_cert=str(tmp_path / "cert.pem"))


def test_every_problem_names_its_file(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    assert f"tls_key: {tmp_path}/none: No such file" in problem(tls_cert=str(made.cert), tls_key=f"{tmp_path}/none")
    assert "are not a certificate chain and its key" in problem(tls_cert=str(made.key), tls_key=str(made.key))
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other")
    assert "key values mismatch" in problem(tls_cert=str(made.cert), tls_key=str(other.key))
    locked = make_certificate(tmp_path, passphrase=b"swordfish")
    assert "is encrypted: give one without a passphrase" in problem(**locked.settings)


def test_a_key_that_everybody_can_read_is_worth_a_warning(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    environ = AUTH | {f"GATEWAY_SERVER__{key.upper()}": value for key, value in made.settings.items()}
    assert warnings(load_config(None, environ=environ, flags={})) == []
    made.key.chmod(0o644)
    (warning,) = warnings(load_config(None, environ=environ, flags={}))
    assert str(made.key) in warning
