"""QR codes by the library segno.

Keeps: how they are drawn. The library is imported when one is drawn: a client without the extra ``phone`` never comes here.
"""

from __future__ import annotations

import io
from typing import Any

from keyturn.core.errors import KeyturnError


def drawn(text: str) -> str:
    """A code for a terminal, two modules a character. Raises: KeyturnError ``extra_missing``."""
    out = io.StringIO()
    _made(text).terminal(out, compact=True, border=2)
    return out.getvalue()


def picture(text: str) -> str:
    """A code for a page: the address of an image (``data:``), black on white. Raises: KeyturnError ``extra_missing``."""
    return str(_made(text).svg_data_uri(scale=4, border=4, light="#fff"))


def _made(text: str) -> Any:
    try:
        import segno
    except ImportError as error:
        raise KeyturnError("extra_missing", "a QR code needs a part: pip install 'keyturn[phone]'") from error
    return segno.make_qr(text, error="m")
