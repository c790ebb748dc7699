"""The product's numbers: what its publisher promises and demands (design: license states and numbers).

Terms are the publisher's, in the signed product file. They are not the organization's *policy* and not an
installation's *settings*. A term that is absent has the default below; a name that is not known is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keyturn.core.errors import KeyturnError

MODES = ("enforce", "warn", "advise")
WEAK = ("term", "refuse", "permanent")


class Terms(NamedTuple):
    """Days unless the name says otherwise."""

    grace_days: int = 30
    rearms: int = 3
    remind_days: int = 30  # Ahead of the end of a lease or term.
    moves_per_year: int = 3  # Same installation, new hardware.
    returns_per_year: int = 12  # Per key, for each seat of its limit.
    weak_evidence: str = "term"  # What a computer without hardware identity gets: term, refuse or permanent.
    weak_days: int = 190
    threshold: int = 5
    count_group: str = "all"
    lease_days: int = 190
    extended_days: int = 0  # After a grace, where the organization's policy asks for it.

    def claims(self) -> dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Terms:
        """Raises: KeyturnError ``document_malformed`` for a value of the wrong type or range."""
        known: dict[str, Any] = {}
        for name, default in cls()._asdict().items():
            value = values.get(name, default)
            if type(value) is not type(default) or (isinstance(value, int) and not 0 <= value <= 36_500):
                raise KeyturnError("document_malformed", f"term {name!r} of the product is not understood")
            known[name] = value
        if known["weak_evidence"] not in WEAK:
            raise KeyturnError("document_malformed", f"term 'weak_evidence' is one of {', '.join(WEAK)}")
        return cls(**known)
