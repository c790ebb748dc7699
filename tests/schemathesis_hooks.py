"""What schemathesis must be told (``SCHEMATHESIS_HOOKS``): a signed document travels as the text it is."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/jose")
def jose(context: Any, value: Any) -> bytes:
    """The text itself; what is no text, as schemathesis likes to try, as JSON would show it."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
