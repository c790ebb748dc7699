"""Reports: owned against installed, what ends, CSV that no spreadsheet computes, a page that escapes what it is given."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleets import Site
from keyturn.fleet import reporting, templates
from keyturn.fleet.reporting import COLUMNS
from keyturn.testing import World

FORMULA = "=HYPERLINK(0)"
MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def reported(site: Site) -> dict[str, object]:
    computers = [site.join(name) for name in ("a", "b", "c", FORMULA, MARKUP)]
    key = site.key(limit=3)
    site.order("activate", key=key)
    site.work(computers)
    return site.database.read(lambda db: reporting.report(db, site.world.clock()))


def test_three_owned_and_five_installed_are_two_over(site: Site) -> None:
    """Without a word of the administrator, owned is what the publisher says the keys have."""
    found = reported(site)
    assert [(one["owned"], one["installed"], one["over"]) for one in found["true_up"]] == [(3, 5, 2)]  # type: ignore[attr-defined]
    site.database.write_now(lambda db: db.execute("UPDATE key SET owned = 5").rowcount)
    again = site.database.read(lambda db: reporting.report(db, site.world.clock()))
    assert [(one["owned"], one["over"]) for one in again["true_up"]] == [(5, 0)]


def test_what_ends_is_listed(site: Site) -> None:
    """The two computers without a seat have thirty days of grace."""
    found = reported(site)
    assert [one["state"] for one in found["ending"]] == ["initial_grace"] * 2  # type: ignore[attr-defined]


def test_no_cell_is_a_formula(site: Site) -> None:
    """A computer's name that begins like one is a text; reading the CSV gives every row back."""
    found = reported(site)
    rows = list(csv.DictReader(io.StringIO(reporting.as_csv(found["computers"], COLUMNS))))  # type: ignore[arg-type]
    assert len(rows) == 5
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    assert f"'{FORMULA}" in {row["computer"] for row in rows}


def test_the_page_escapes_names(site: Site) -> None:
    """What a computer calls itself is text on the page."""
    text = templates.page("report.html", **reported(site))
    assert MARKUP not in text and "&lt;script&gt;" in text and "2 over" in text
