"""The client's documents: one folder per product, every change atomic and durable.

- ``product.json`` (bundles and product file), ``key.json``, ``installation.json``, ``license.json``, ``release.json``,
  ``record.jws``: readable by everybody, because every program must be able to check its license.
- ``key.secret`` (K) and ``installation.key``: mode 0600.
- ``pending.json``: the request that was made and not answered yet; ``telephone.json``: the same, by telephone;
  ``validation.json``: a question by telephone that waits for its verdict code.
- ``sent/``: what was sent and received.
- The record is mirrored under ``mirror/``. It can be deleted; that never gains anything.

Nothing here is believed: ``client.loading`` verifies everything it reads, every time.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.license import Held
from keyturn.core.model import ProductName
from keyturn.core.trust import Inclusion
from keyturn.edge import files

if TYPE_CHECKING:
    from keyturn.core.phone.confirmed import Kept

PROGRAM = "client"
MAX_DOCUMENT = 4 * 1024 * 1024
MAX_SENT = 50


class Pending(NamedTuple):
    """A request that was made: the exact bytes, and the hardware baseline it commits to."""

    request: str
    vector: dict[str, str]
    salt: bytes


class Calling(NamedTuple):
    """An installation ID that waits for its answer (digits), and the hardware baseline it commits to."""

    installation_id: str
    vector: dict[str, str]
    salt: bytes


class InstalledKey(NamedTuple):
    """A product key's public part, as installed."""

    product_id: str
    serial: int
    channel: str
    partial: str


def folder_name(name: ProductName) -> str:
    return f"{name.slug}{'+test' if name.test else ''}-{name.thumbprint[:12]}"


class Vault:
    """One home's products. ``scope`` is ``system`` or ``user``."""

    def __init__(self, home: str, scope: str, agent: str | None = None) -> None:
        """``agent`` is the socket of the agent that keeps this store, where one may be asked: never for a named home."""
        files.check_home(home, PROGRAM)
        self.home = home
        self.scope = scope
        self.agent = agent

    def __repr__(self) -> str:
        return f"Vault({self.home})"

    @property
    def writable(self) -> bool:
        return files.writable(self.home)

    def shelves(self) -> list[Shelf]:
        """Every product's folder, in order of name."""
        folder = os.path.join(self.home, "products")
        names = sorted(name for name in os.listdir(folder) if name[:1] != ".") if os.path.isdir(folder) else []
        return [Shelf(self, os.path.join(folder, name)) for name in names]

    def shelf(self, name: ProductName) -> Shelf:
        return Shelf(self, os.path.join(self.home, "products", folder_name(name)))


class Shelf:
    """One product's folder."""

    def __init__(self, vault: Vault, path: str) -> None:
        self.vault = vault
        self.path = path

    @property
    def name(self) -> str:
        """The folder's name: the slug and the beginning of the publisher's thumbprint."""
        return os.path.basename(self.path)

    def _place(self, name: str) -> str:
        return os.path.join(self.path, name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the product's lock while changing it; the home is marked as a client's first.

        Whatever root's umask is, everybody may look into the system's store.
        """
        files.claim_home(self.vault.home, PROGRAM)
        if self.vault.scope == "system":
            files.open_folders(self.vault.home, self.path)
        with files.lock(os.path.join(self.vault.home, "locks", self.name)):
            yield

    def stamp(self) -> tuple[bytes | None, ...]:
        """The very bytes that a verdict rests on: while they are the same, so is what they prove."""
        names = ("product.json", "key.json", "installation.json", "installation.key", "license.json", "release.json")
        found: list[bytes | None] = []
        for path in (*map(self._place, names), *self._record_paths(), *self._revocation_paths()):
            try:
                found.append(files.read(path, MAX_DOCUMENT))
            except KeyturnError as error:
                found.append(error.code.encode())  # Unreadable is a state too, and not that of an absent file.
        return tuple(found)

    def product(self) -> dict[str, Any] | None:
        return files.read_json(self._place("product.json"), MAX_DOCUMENT)

    def keep_product(self, container: dict[str, Any]) -> None:
        files.write_json(self._place("product.json"), container)

    def key(self) -> InstalledKey | None:
        value = files.read_json(self._place("key.json"), 4096)
        if value is None:
            return None
        try:
            return InstalledKey(str(value["product_id"]), int(value["serial"]), str(value["channel"]), str(value["partial"]))
        except (KeyError, TypeError, ValueError) as error:
            raise KeyturnError(
                "store_damaged", "the installed product key is damaged", remedy="Install the key again: `keyturn install-key`."
            ) from error

    def key_secret(self) -> bytes:
        """K of the installed key. Raises: KeyturnError ``permission_denied``, ``key_missing``."""
        data = files.read(self._place("key.secret"), 200)
        if data is None:
            raise KeyturnError("key_missing")
        return _decode(data.decode("ascii", "replace"))

    def keep_key(self, key: InstalledKey, secret: bytes) -> None:
        """The secret first: a public part without it would be a key that cannot be used."""
        files.write(self._place("key.secret"), base64.b64encode(secret), files.PRIVATE)
        files.write_json(self._place("key.json"), key._asdict())

    def remove_key(self) -> None:
        """The secret first: while the public part is there, somebody sees that a key is left to be removed."""
        files.remove(self._place("key.secret"))
        files.remove(self._place("key.json"))

    @property
    def installation_key(self) -> str:
        return self._place("installation.key")

    def installation(self) -> tuple[str, bytes] | None:
        """GUID and raw public key of the installation. Raises: KeyturnError ``store_damaged``."""
        value = files.read_json(self._place("installation.json"), 4096)
        if value is None:
            return None
        guid, public = str(value.get("guid")), _decode(str(value.get("public_key")))
        if len(public) != 32 or not _is_guid(guid):
            raise KeyturnError("store_damaged", "the installation's number or key is damaged")
        return guid, public

    def whole(self) -> bool:
        """Whether the installation is there and can be read."""
        try:
            return self.installation() is not None
        except KeyturnError:
            return False

    def keep_installation(self, guid: str, public: bytes) -> None:
        files.write_json(self._place("installation.json"), {"guid": guid, "public_key": base64.b64encode(public).decode()})

    def pending(self) -> Pending | None:
        """The request that waits; a damaged one is none, because another is as good."""
        try:
            value = files.read_json(self._place("pending.json"), MAX_DOCUMENT)
            return None if value is None else Pending(*_baseline(value))
        except KeyturnError as error:
            if error.code not in ("file_malformed", "input_too_large", "store_damaged"):
                raise
            return None

    def keep_pending(self, pending: Pending) -> None:
        files.write_json(self._place("pending.json"), _with_baseline(pending.request, pending.vector, pending.salt))

    def remove_pending(self) -> None:
        files.remove(self._place("pending.json"))

    def held(self) -> Held | None:
        """The certificate; ``None`` without a license, and for one that was confirmed by telephone (:meth:`confirmed`)."""
        value = files.read_json(self._place("license.json"), MAX_DOCUMENT)
        if value is None or "confirmation_id" in value:
            return None
        request, vector, salt = _baseline(value)
        proof = None if value.get("proof") is None else Inclusion.read(value["proof"])
        host = None if value.get("host") is None else str(value["host"])
        rebind = None if value.get("rebind") is None else str(value["rebind"])
        return Held(str(value.get("certificate")), request, vector, salt, proof, host, rebind)

    def calling(self) -> Calling | None:
        """The installation ID that waits; a damaged one is none, because another is as good."""
        try:
            value = files.read_json(self._place("telephone.json"), MAX_DOCUMENT)
            return None if value is None else Calling(str(value.get("installation_id")), *_baseline(value)[1:])
        except KeyturnError as error:
            if error.code not in ("file_malformed", "input_too_large", "store_damaged"):
                raise
            return None

    def keep_calling(self, calling: Calling) -> None:
        files.write_json(self._place("telephone.json"), _spoken(calling.installation_id, calling.vector, calling.salt))

    def remove_calling(self) -> None:
        files.remove(self._place("telephone.json"))

    def asking(self) -> str | None:
        """The validation ID that waits for its verdict code; a damaged one is none, because another is as good."""
        try:
            value = files.read_json(self._place("validation.json"), MAX_DOCUMENT)
        except KeyturnError as error:
            if error.code not in ("file_malformed", "input_too_large"):
                raise
            return None
        return None if value is None else str(value.get("validation_id"))

    def keep_asking(self, validation_id: str) -> None:
        files.write_json(self._place("validation.json"), {"v": 1, "validation_id": validation_id})

    def remove_asking(self) -> None:
        files.remove(self._place("validation.json"))

    def confirmed(self) -> Kept | None:
        """What was confirmed by telephone, if that is the license here. Raises: KeyturnError ``store_damaged``."""
        value = files.read_json(self._place("license.json"), MAX_DOCUMENT)
        if value is None or "confirmation_id" not in value:
            return None
        from keyturn.core.phone.confirmed import Kept  # With the curve: only for those who need it.

        _, vector, salt = _baseline(value)
        at = value.get("at")
        return Kept(
            str(value.get("installation_id")), str(value["confirmation_id"]), vector, salt, at if type(at) is int else 0
        )

    def keep_confirmed(self, kept: Kept) -> None:
        """In the certificate's place: there is one license, whichever way it came."""
        value = {"confirmation_id": kept.confirmation_id, "via": "telephone", "at": kept.at}
        files.write_json(
            self._place("license.json"), {**value, **_spoken(kept.installation_id, dict(kept.vector), kept.salt)}
        )

    def via(self) -> str | None:
        """How the stored license came: ``online``, ``host``, ``file``, ``fleet`` or ``telephone``."""
        value = files.read_json(self._place("license.json"), MAX_DOCUMENT)
        return None if value is None else str(value.get("via"))

    def renew_after(self) -> int | None:
        """The seconds after which the answer asked to renew; it travels unsigned beside the certificate."""
        value = files.read_json(self._place("license.json"), MAX_DOCUMENT) or {}
        return found if type(found := value.get("renew_after")) is int else None

    def keep_held(self, held: Held, via: str, renew_after: object = None) -> None:
        """Certificate, request and baseline in one file: they are only worth something together."""
        value = {"certificate": held.certificate, "via": via, **_with_baseline(held.request, dict(held.vector), held.salt)}
        if renew_after is not None:
            value["renew_after"] = renew_after
        if held.host is not None:
            value["host"] = held.host
        if held.rebind is not None:
            value["rebind"] = held.rebind
        if held.proof is not None:
            value["proof"] = held.proof.as_json()
        files.write_json(self._place("license.json"), value)

    def host(self) -> str | None:
        """The activation host that answered last, ``NAME:PORT``; a damaged note is none."""
        try:
            value = files.read_json(self._place("host.json"), 4096)
        except KeyturnError:
            return None
        return str(value["place"]) if value is not None and isinstance(value.get("place"), str) else None

    def keep_host(self, place: str) -> None:
        if self.host() != place:
            files.write_json(self._place("host.json"), {"place": place})

    def rebinder(self) -> str | None:
        """The fleet manager's key (thumbprint) that may rebind what is asked for here."""
        value = files.read_json(self._place("fleet.json"), 4096)
        return None if value is None else str(value["rebind"])

    def keep_rebinder(self, key: str | None) -> None:
        if key is None:
            files.remove(self._place("fleet.json"))
        elif self.rebinder() != key:
            files.write_json(self._place("fleet.json"), {"rebind": key})

    def remove_held(self) -> None:
        files.remove(self._place("license.json"))

    def release(self) -> str | None:
        value = files.read_json(self._place("release.json"), MAX_DOCUMENT)
        return None if value is None else str(value.get("release"))

    def keep_release(self, token: str) -> None:
        files.write_json(self._place("release.json"), {"release": token})

    def remove_release(self) -> None:
        files.remove(self._place("release.json"))

    def revocations(self) -> list[str]:
        """The revocation list and its mirror, as they are; either may be missing, unreadable or changed."""
        return self._copies(self._revocation_paths())

    def keep_revocations(self, token: str) -> None:
        for path in self._revocation_paths():
            files.write(path, token.encode())

    def records(self) -> list[str]:
        """The local record and its mirror, as they are; either may be missing, unreadable or changed."""
        return self._copies(self._record_paths())

    def keep_record(self, token: str) -> None:
        for path in self._record_paths():
            files.write(path, token.encode())

    @staticmethod
    def _copies(paths: tuple[str, str]) -> list[str]:
        found = []
        for path in paths:
            with suppress(KeyturnError):
                found.append(files.read(path, MAX_DOCUMENT))
        return [data.decode("utf-8", "replace") for data in found if data is not None]

    def _revocation_paths(self) -> tuple[str, str]:
        return self._place("revocations.jws"), os.path.join(self.vault.home, "mirror", f"{self.name}.revocations.jws")

    def _record_paths(self) -> tuple[str, str]:
        return self._place("record.jws"), os.path.join(self.vault.home, "mirror", f"{self.name}.jws")

    def consented(self) -> bool:
        return os.path.exists(self._place("consent.json"))

    def keep_consent(self, now: int, by: str) -> None:
        files.write_json(self._place("consent.json"), {"at": now, "by": by})

    def keep_sent(self, what: str, sent: bytes, received: bytes, now: int) -> None:
        """Append one exchange to the disclosure log; the oldest beyond fifty go."""
        folder = self._place("sent")
        texts = {"sent": sent.decode("utf-8", "replace"), "received": received.decode("utf-8", "replace")}
        value = {"at": now, "what": what, **texts}
        with self.locked():  # Two programs that talk at once must not write one number.
            names = self._sent_names()
            number = int(names[-1].partition(".")[0]) + 1 if names else 1
            files.write_json(os.path.join(folder, f"{number:06d}.json"), value, files.PRIVATE)
            for name in names[: max(0, len(names) + 1 - MAX_SENT)]:
                files.remove(os.path.join(folder, name))

    def sent(self) -> list[dict[str, Any]]:
        """What was sent and received, oldest first."""
        found = (files.read_json(os.path.join(self._place("sent"), name), MAX_DOCUMENT) for name in self._sent_names())
        return [value for value in found if value is not None]

    def _sent_names(self) -> list[str]:
        folder = self._place("sent")
        found = os.listdir(folder) if os.path.isdir(folder) else []
        return sorted(name for name in found if name[:-5].isdigit() and name.endswith(".json"))

    def remove(self) -> None:
        """Delete the whole product, secrets first; what is left then vanishes in one step, a crash or not."""
        import shutil

        for name in ("key.secret", "installation.key"):
            files.remove(self._place(name))
        files.remove(self._record_paths()[1])
        files.remove(self._revocation_paths()[1])
        gone = os.path.join(os.path.dirname(self.path), f".{self.name}.removed")
        try:
            shutil.rmtree(gone, ignore_errors=True)
            os.rename(self.path, gone)
            files.sync_directory(os.path.dirname(gone))
            shutil.rmtree(gone)
        except OSError as error:
            raise KeyturnError("storage_failed", f"{self.path} cannot be removed: {error.strerror}") from error


def _with_baseline(request: str, vector: dict[str, str], salt: bytes) -> dict[str, Any]:
    return {"request": request, "vector": vector, "salt": base64.b64encode(salt).decode()}


def _spoken(installation_id: str, vector: dict[str, str], salt: bytes) -> dict[str, Any]:
    return {"installation_id": installation_id, "vector": vector, "salt": base64.b64encode(salt).decode()}


def _baseline(value: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    vector, salt = value.get("vector"), _decode(str(value.get("salt")))
    if not isinstance(vector, dict) or not all(isinstance(item, str) for item in vector.values()) or len(salt) < 16:
        raise KeyturnError("store_damaged", "the stored hardware baseline is damaged")
    return str(value.get("request")), vector, salt


def _is_guid(text: str) -> bool:
    return len(text) == 36 and all(c in "0123456789abcdef-" for c in text)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeyturnError("store_damaged", "a stored value is damaged") from error
