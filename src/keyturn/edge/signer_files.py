"""Issuing keys in files: as they are (PKCS#8, mode 0600), or encrypted by a passphrase.

Keeps: both forms, and signing with them by libsodium. Leaves to others: where a passphrase comes from (``edge.secret``).

- Encrypted is PKCS#8 with PBES2 (RFC 8018): AES-256-CBC under a key by scrypt (RFC 7914), which ``openssl pkey`` reads too.
- The public key stands in front of the encrypted one, so that no passphrase is needed to say which keys are here.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.edge import files, keystore, sodium
from keyturn.edge.keystore import Signer
from keyturn.edge.signers import Document, Holder, Signed, demand

MAX_FILE = 16_384
# Of the parameters that OWASP's password storage sheet calls equal, the ones within the 32 MiB that OpenSSL allows scrypt
# (128 * N * r bytes). `BestAvailableEncryption` of `cryptography` takes 2,048 rounds of PBKDF2: a hundredth of the work.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 5

_LABEL = b"ENCRYPTED PRIVATE KEY"
_PUBLIC = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, section 4: SubjectPublicKeyInfo of Ed25519.
_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")  # And PrivateKeyInfo, section 7.
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES256_CBC = bytes.fromhex("060960864801650304012a")

Passphrase = Callable[[], str]


class FileKeys(Holder):
    """The keys in the files of a folder; encrypted ones are opened when the first signature is asked for."""

    def __init__(self, folder: Path, passphrase: Passphrase) -> None:
        super().__init__()
        self._passphrase = passphrase
        self._held: dict[str, bytes] = {}
        self._open: dict[str, Signer] = {}
        self._shut: dict[str, tuple[Path, bytes]] = {}
        for path in key_files(folder):
            data = read(path)
            public = public_of(data, str(path))
            kid = jws.thumbprint(public)
            self._held[kid] = public
            if is_encrypted(data):
                self._shut[kid] = (path, data)
            else:
                self._open[kid] = keystore.parse(data, str(path), sodium.signer)

    @property
    def sealed(self) -> bool:  # type: ignore[override]
        return bool(self._shut)

    @property
    def held(self) -> dict[str, bytes]:
        """Which keys are here, by ``kid``: known without opening them."""
        return dict(self._held)

    def keys(self) -> dict[str, bytes]:
        """Raises: KeyturnError ``signer_locked`` for a wrong passphrase, ``store_damaged`` for a file that is not its key."""
        for kid, (path, data) in list(self._shut.items()):
            signer = sodium.signer(decrypted(data, self._passphrase(), str(path)))
            if signer.kid != kid:
                raise KeyturnError("store_damaged", f"{path}: the public key in it is not that of the private one")
            self._open[kid] = signer
            self._shut.pop(kid, None)
        return dict(self._held)

    def sign(self, document: Document) -> Signed:
        began = time.perf_counter()
        message = demand(document, self._held)
        if document.kid in self._shut:
            self.keys()
        signed = Signed(message, self._open[document.kid].sign(message))
        self.told(time.perf_counter() - began)
        return signed

    def close(self) -> None:
        """Nothing is held open."""

    def submit(self, document: Document) -> Future[Signed]:
        future: Future[Signed] = Future()
        try:
            future.set_result(self.sign(document))
        except KeyturnError as error:
            future.set_exception(error)
        return future


def key_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.key")) if folder.is_dir() else []


def read(path: Path) -> bytes:
    """The bytes of a key's file. Raises: KeyturnError ``permission_denied`` (also if others may read it), ``store_damaged``."""
    data = files.read(path, MAX_FILE)
    if data is None:
        raise KeyturnError("store_damaged", f"{path} has gone")
    if files.open_to_others(path):
        raise KeyturnError("permission_denied", f"{path} can be read by others; `chmod 600` it, or remove it")
    return data


def is_encrypted(data: bytes) -> bool:
    return b"-----BEGIN " + _LABEL in data


def public_of(data: bytes, name: str) -> bytes:
    """The public key of a key's file, without a passphrase. Raises: KeyturnError ``store_damaged``."""
    if not is_encrypted(data):
        return keystore.parse(data, name).public
    der = _unarmoured(data, b"PUBLIC KEY", name)
    if len(der) != len(_PUBLIC) + 32 or not der.startswith(_PUBLIC):
        raise KeyturnError(
            "store_damaged", f"{name} says no public Ed25519 key in front of the encrypted one",
            remedy="Put `openssl pkey -in F -pubout` in front of it.",
        )  # fmt: skip
    return der[len(_PUBLIC) :]


def plain(seed: bytes) -> bytes:
    """A key's file as ``edge.keystore`` writes it. ``seed``: the 32 secret bytes (RFC 8032)."""
    return _armoured(b"PRIVATE KEY", _PRIVATE + seed)


def encrypted(seed: bytes, passphrase: str, *, salt: bytes | None = None, iv: bytes | None = None) -> bytes:
    """A key's file encrypted by ``passphrase``. ``salt`` and ``iv``: 16 bytes each, random unless given."""
    salt, iv = salt or secrets.token_bytes(16), iv or secrets.token_bytes(16)
    key = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase.encode())
    pad, cipher = padding.PKCS7(128).padder(), Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    content = cipher.update(pad.update(_PRIVATE + seed) + pad.finalize()) + cipher.finalize()
    costs = b"".join(_der(0x02, _integer(number)) for number in (SCRYPT_N, SCRYPT_R, SCRYPT_P))
    derivation = _der(0x30, _SCRYPT, _der(0x30, _der(0x04, salt), costs))
    scheme = _der(0x30, _AES256_CBC, _der(0x04, iv))
    der = _der(0x30, _der(0x30, _PBES2, _der(0x30, derivation, scheme)), _der(0x04, content))
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return _armoured(b"PUBLIC KEY", _PUBLIC + public) + b"\n" + _armoured(_LABEL, der)


def decrypted(data: bytes, passphrase: str, name: str) -> bytes:
    """The 32 secret bytes in an encrypted file. Raises: KeyturnError ``signer_locked``, ``store_damaged``."""
    try:
        key = serialization.load_pem_private_key(data[data.index(b"-----BEGIN " + _LABEL) :], passphrase.encode())
    except ValueError as error:
        raise KeyturnError("signer_locked", f"the passphrase does not open {name}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyturnError("store_damaged", f"{name} is not an Ed25519 key")
    return key.private_bytes_raw()


def seed_of(path: Path, passphrase: Passphrase) -> bytes:
    """The 32 secret bytes of a key's file, encrypted or not: for moving a key elsewhere, and for nothing else."""
    data = read(path)
    if is_encrypted(data):
        return decrypted(data, passphrase(), str(path))
    return _unarmoured(data, b"PRIVATE KEY", str(path))[len(_PRIVATE) :]


def _armoured(label: bytes, der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN " + label + b"-----", *lines, b"-----END " + label + b"-----", b""))


def _unarmoured(data: bytes, label: bytes, name: str) -> bytes:
    _, _, rest = data.partition(b"-----BEGIN " + label + b"-----")
    try:
        return base64.b64decode(rest.partition(b"-----END")[0], validate=False)
    except binascii.Error as error:
        raise KeyturnError("store_damaged", f"{name} is not a key") from error


def _der(tag: int, *parts: bytes) -> bytes:
    """One value of DER (X.690) of less than 256 bytes."""
    body = b"".join(parts)
    return bytes([tag]) + (b"" if len(body) < 128 else b"\x81") + bytes([len(body)]) + body


def _integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
