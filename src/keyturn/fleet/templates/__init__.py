"""The pages of the console and the report, made with Jinja2: everything that is put into a page is escaped."""

from __future__ import annotations

import functools
from typing import Any

import jinja2


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("keyturn.fleet", "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )  # fmt: skip


def page(name: str, /, **values: Any) -> str:
    """The page of this name with these values."""
    return _environment().get_template(name).render(**values)
