"""Keyturn: product activation that a publisher runs for itself, and that its customers can live with.

    from keyturn import Client

    license = Client.from_file("paintbox.ktproduct")
    license.require("layers")

Importing this reads no file and opens no connection; everything heavier is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Client", "KeyturnError", "NotLicensed", "Status", "__version__"]

if TYPE_CHECKING:
    from keyturn.client.sdk import Client, NotLicensed, Status
    from keyturn.core.errors import KeyturnError


def __getattr__(name: str) -> Any:
    """Load the SDK on first use (PEP 562)."""
    if name in ("Client", "NotLicensed", "Status"):
        from keyturn.client import sdk

        return getattr(sdk, name)
    if name == "KeyturnError":
        from keyturn.core.errors import KeyturnError

        return KeyturnError
    raise AttributeError(f"module 'keyturn' has no attribute {name!r}")
