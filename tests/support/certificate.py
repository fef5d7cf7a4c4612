"""Certificates for 127.0.0.1 that sign themselves."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Certificate(NamedTuple):
    """A certificate and its key, in two files."""

    cert: Path
    key: Path
    serial: int

    @property
    def settings(self) -> dict[str, str]:
        """Keys of `[server]`."""
        return {"tls_cert": str(self.cert), "tls_key": str(self.key)}

    def trusted(self) -> ssl.SSLContext:
        """A client's context that accepts this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.cert))


def make_certificate(folder: Path, *, passphrase: bytes = b"") -> Certificate:
    """A new one; over the one that may be there."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    made = Certificate(folder / "cert.pem", folder / "key.pem", certificate.serial_number)
    made.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.touch(mode=0o600)
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return made


def serial_of(der: bytes | None) -> int:
    """Serial number of the certificate that a peer has shown."""
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
