"""This computer and its clock, as the client sees them; for test products, another computer and another clock.

``KEYTURN_SYSROOT`` (a recorded computer) and ``KEYTURN_NOW`` (a time, or ``±SECONDS``) are obeyed by test products
alone, and looked at only after the product file is verified. Every other product refuses to run with them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from keyturn.core import ids
from keyturn.core.documents import ProductFile
from keyturn.core.errors import KeyturnError
from keyturn.core.model import parse_rfc3339
from keyturn.edge import clock, files, probes
from keyturn.edge.probes import Computer

SYSROOT = "KEYTURN_SYSROOT"
NOW = "KEYTURN_NOW"
SYSTEM_HOME = "/var/lib/keyturn"


class Machine:
    """Where clock, chance, environment and hardware come from. Tests and ``keyturn.testing`` pass their own."""

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        now: Callable[[], int] = clock.now,
        chance: Callable[[int], bytes] = os.urandom,
        read: Callable[..., Computer] = probes.read,
        rules: str | None = None,
    ) -> None:
        """``rules`` is the folder of the organization's policy and provisioning files, if not the system's."""
        self.environ = os.environ if environ is None else environ
        self.rules = rules_folder(sys.platform, self.environ) if rules is None else rules
        self.chance = chance
        self._now = now
        self._read = read
        self._seen: dict[tuple[str | None, bool], Computer] = {}

    def clock(self) -> int:
        """The clock as it is, for what is about no product."""
        return self._now()

    def now(self, product: ProductFile) -> int:
        """The clock. Raises: KeyturnError ``test_only``."""
        self._test_variable(SYSROOT, product)  # Refused at once, also where no hardware is read.
        wanted = self._test_variable(NOW, product)
        if wanted is None:
            return self._now()
        if wanted[:1] in "+-" and wanted[1:].isdigit():
            return self._now() + int(wanted)
        return parse_rfc3339(wanted)

    def computer(self, product: ProductFile, *, facts: bool = False) -> Computer:
        """The hardware, read once per process. Raises: KeyturnError ``test_only``, ``platform_unsupported``."""
        sysroot = self._test_variable(SYSROOT, product)
        if sysroot is not None and not os.path.isdir(sysroot):
            raise KeyturnError("usage", f"{SYSROOT} is not a directory")
        if (sysroot, True) not in self._seen and (sysroot, facts) not in self._seen:
            self._seen[sysroot, facts] = self.read(sysroot, facts=facts)
        return self._seen.get((sysroot, True)) or self._seen[sysroot, facts]

    def read(self, sysroot: str | None = None, *, facts: bool = False) -> Computer:
        """The hardware, read anew. Raises: KeyturnError ``platform_unsupported``."""
        if sysroot is None and self._may_ask_the_cloud():
            return self._read(sysroot, facts=facts, ask=_ask_the_cloud)
        return self._read(sysroot, facts=facts)

    def _may_ask_the_cloud(self) -> bool:
        """Whether the organization's policy lets every read of the hardware ask the cloud's own metadata service.

        Every one or none: an instance would be another one for whoever does not ask.
        """
        if not os.path.isdir(self.rules):
            return False
        from keyturn.client.policies import policy_of

        try:
            return policy_of("", self).cloud_metadata  # A home's lines only restrict, and the hardware is the computer's.
        except KeyturnError:
            return False

    def guid(self) -> str:
        """A random UUID (RFC 9562, version 4)."""
        return ids.uuid4(self.chance(16))

    def _test_variable(self, name: str, product: ProductFile) -> str | None:
        value = self.environ.get(name)
        if value is None:
            return None
        if not product.name.test:
            raise KeyturnError("test_only", f"{name} is set, and {product.title} is not a test product")
        return value


def _ask_the_cloud(kind: str) -> str | None:
    from keyturn.edge.probes import cloud  # With the network's modules: only where it is asked.

    return cloud.instance(kind)


def rules_folder(platform: str, environ: Mapping[str, str]) -> str:
    """Where an organization's policy and provisioning files are, by system."""
    if platform == "win32":
        import ntpath

        return ntpath.join(environ.get("PROGRAMDATA") or "C:\\ProgramData", "Keyturn", "etc")
    return "/Library/Application Support/Keyturn/etc" if platform == "darwin" else "/etc/keyturn"


def store_lasts(path: str) -> bool:
    """Whether what is written below ``path`` is there after the next start, as far as its file system tells."""
    return files.filesystem(path) not in ("tmpfs", "ramfs", "overlay", "aufs")
