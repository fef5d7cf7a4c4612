"""The certificate of the public port, read and checked.

TLS 1.2 and 1.3 with OpenSSL's own choice of ciphers as Python narrows it (no key exchange without forward secrecy, no
CBC, no SHA-1): what is old today is taken out there with the next update, and a list of ours would not be. ALPN offers
HTTP/1.1, the only version that the gateway speaks. Session tickets are OpenSSL's: they are good for the worker that
gave them, since every process has keys of its own.
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from gateway.config.model import Server


def load_certificate(server: Server) -> ssl.SSLContext:
    """A context for `tls_cert` and `tls_key`. Raises ValueError that names the file and what is wrong with it."""
    for key, file in (("tls_cert", server.tls_cert), ("tls_key", server.tls_key)):
        try:
            with open(file, "rb") as stream:
                stream.read(1)
        except OSError as error:
            raise ValueError(f"[server] {key}: {file}: {error.strerror or 'cannot be read'}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # OpenSSL would ask on the terminal for the passphrase of a key that has one.
        context.load_cert_chain(server.tls_cert, server.tls_key, password=_no_passphrase)
    except _Encrypted:
        raise ValueError(f"[server] tls_key: {server.tls_key} is encrypted: give one without a passphrase") from None
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").lower().replace("_", " ")
        files = f"tls_cert {server.tls_cert} and tls_key {server.tls_key}"
        raise ValueError(f"[server] {files} are not a certificate chain and its key in PEM form: {reason}") from None
    return context


def certificate_problem(server: Server) -> str:
    """What is wrong with the files, or ""."""
    if not server.tls_cert:
        return ""
    try:
        load_certificate(server)
    except ValueError as error:
        return str(error)
    return ""


def key_warning(server: Server) -> str:
    """What a person should know about the file of the key, or ""."""
    try:
        exposed = bool(server.tls_key and Path(server.tls_key).stat().st_mode & stat.S_IROTH)
    except OSError:
        return ""
    return f"[server] tls_key: {server.tls_key} can be read by every user of this machine" if exposed else ""


class _Encrypted(ValueError):
    """The key has a passphrase."""


def _no_passphrase() -> str:
    raise _Encrypted
