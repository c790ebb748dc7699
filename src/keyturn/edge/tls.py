"""A private TLS authority for first use, until the publisher brings a certificate of its own; and a
certificate that only itself vouches for.

The authority's certificate travels in the product file, so clients need nothing installed; a public certificate
can replace it later, because clients accept the system's store as well.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, sha256_b64u
from keyturn.edge import files

AUTHORITY_DAYS = 3650
_BRING = "Restore the TLS files, or run the service with --tls-cert and --tls-key."
SERVER_DAYS = 825  # The most that common TLS clients accept of a private authority.


def create_authority(folder: Path, *, publisher: str, url: str, now: int) -> None:
    """Write ``ca.pem``, ``ca.key``, ``cert.pem`` and ``key.pem`` (ECDSA P-256) for the service at ``url``."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{publisher[:40]} activation authority")])
    ca = (
        _builder(ca_name, ca_name, ca_key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Keyturn activation service")])
    certificate = (
        _builder(name, ca_name, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(url)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files.write(folder / "ca.key", _private(ca_key), files.PRIVATE)
    files.write(folder / "ca.pem", ca.public_bytes(pem))
    files.write(folder / "key.pem", _private(key), files.PRIVATE)
    files.write(folder / "cert.pem", certificate.public_bytes(pem) + ca.public_bytes(pem))


def create_own(folder: Path, *, name: str, now: int) -> None:
    """Write ``cert.pem`` and ``key.pem`` (ECDSA P-256): a certificate of its own, of a peer that is known otherwise."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files.write(folder / "key.pem", _private(key), files.PRIVATE)
    files.write(folder / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM))


def fingerprint(certificate: bytes) -> str:
    """The base64url SHA-256 of a certificate's DER form (PEM; the first of a chain). Raises: KeyturnError ``store_damaged``."""
    try:
        found = x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise KeyturnError("store_damaged", "the TLS certificate cannot be read", remedy=_BRING) from error
    return sha256_b64u(found.public_bytes(serialization.Encoding.DER))


def pair_until(certificate: bytes, key: bytes) -> int:
    """When a certificate (PEM; the first of a chain) ends, if ``key`` (PEM) is its private key.

    Raises: KeyturnError ``store_damaged``.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate)
        fits = serialization.load_pem_private_key(key, None).public_key() == found.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyturnError("store_damaged", "the TLS certificate or its key cannot be read", remedy=_BRING) from error
    if not fits:
        raise KeyturnError("store_damaged", "the TLS key is not that of the certificate", remedy=_BRING)
    return int(found.not_valid_after_utc.timestamp())


def until(certificate: bytes) -> int:
    """When a certificate (PEM; the first of a chain) ends. Raises: KeyturnError ``store_damaged``."""
    try:
        return int(x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp())
    except ValueError as error:
        raise KeyturnError("store_damaged", "the TLS certificate cannot be read", remedy=_BRING) from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: int, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - DAY, UTC))
        .not_valid_after(datetime.fromtimestamp(now + days * DAY, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _names(url: str) -> list[x509.GeneralName]:
    wanted = [urlsplit(url).hostname or "localhost", "localhost", "127.0.0.1", "::1"]
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(wanted):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
