"""An isolated site: requests out in a file, answers back in it; what was altered, mixed up, repeated or is another site's."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleets import Site
from keyturn.core import containers, jws
from keyturn.core.containers import Item
from keyturn.core.errors import KeyturnError, Refused
from keyturn.fleet import carrying
from keyturn.testing import World

CANARIES = ("canary-pc", "canary.user", "10.77.66.55")


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def exported(site: Site, count: int = 3, **key: Any) -> tuple[dict[str, Any], list[Any], str]:
    """A file with the requests of so many computers, the computers, and the task."""
    computers = [site.join(f"canary-pc-{n}") for n in range(count)]
    task = site.order("activate", key=site.key(**{"limit": 5, **key}), way="file")
    for one in computers:
        one.check_in()
    product = site.database.read(lambda db: db.execute("SELECT name FROM product").fetchone()["name"])
    return carrying.export(site.fleet, product, "canary.user")[0], computers, task


def relayed(site: Site, value: dict[str, Any]) -> dict[str, Any]:
    """The same file as a connected computer brings it back."""
    items = []
    for item in containers.items_of(value):
        said = site.world.publisher.service.exchange(item.document, by_file=True)
        if isinstance(said, Refused):
            items.append(Item(item.document, refused=said.as_error().as_json()))
        else:
            items.append(Item(item.document, said))
    lists = site.world.publisher.service.revocations("sample")
    return {
        **value,
        "items": [item.as_json() for item in items],
        "revocations": lists["revocations"],
        "bundles": lists["bundles"],
    }


def test_a_lab_is_activated_by_a_file(site: Site) -> None:
    """Out, answered, back: each computer is licensed when it checks in; a second import changes nothing and says so."""
    value, computers, task = exported(site)
    back = relayed(site, value)
    taken = carrying.take(site.fleet, back, "tester")
    assert (taken.answered, taken.refused, taken.open, taken.late, taken.before) == (3, 0, 0, 0, False)
    for one in computers:
        one.check_in()
    assert set(site.outcomes(task).values()) == {("done", None)}
    again = carrying.take(site.fleet, back, "tester")
    assert again.before and again.late == 3
    assert [one.status()["state"] for one in computers] == ["licensed"] * 3


def test_nothing_of_the_site_is_in_the_file(site: Site) -> None:
    """Its members are the declared ones, and none of the canaries."""
    value, _, _ = exported(site)
    text = json.dumps(value) + "".join(
        jws.payload_of(part).decode() for part in (*(item["document"] for item in value["items"]), value["manifest"])
    )
    assert not [canary for canary in CANARIES if canary in text]
    assert set(value) == {"keyturn", "v", "bundles", "product", "items", "manifest"}
    assert {name for item in value["items"] for name in item} == {"document", "answer", "refused"}


def test_some_are_refused_and_the_rest_is_answered(site: Site) -> None:
    """A key with two seats left for three computers: two licensed, one with the limit's code."""
    value, computers, task = exported(site, limit=2)
    carrying.take(site.fleet, relayed(site, value), "tester")
    for one in computers:
        one.check_in()
    assert sorted(site.outcomes(task).values()) == [("done", None), ("done", None), ("failed", "limit_reached")]


def alterations(value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    def changed(change: Any) -> dict[str, Any]:
        other = copy.deepcopy(value)
        change(other)
        return other

    items = value["items"]
    yield "an entry is missing", changed(lambda v: v["items"].pop()), "file_malformed"
    yield "an entry is there twice", changed(lambda v: v["items"].append(v["items"][0])), "file_malformed"
    yield "two entries changed places", changed(lambda v: v["items"].reverse()), "file_malformed"
    yield (
        "two answers changed places",
        changed(
            lambda v: (v["items"][0].update(answer=items[1]["answer"]), v["items"][1].update(answer=items[0]["answer"]))
        ),
        "document_foreign",
    )
    yield (
        "an answer was altered",
        changed(
            lambda v: v["items"][0]["answer"].update(
                certificate=v["items"][0]["answer"]["certificate"][:-8] + "AAAAAAAA"
            )
        ),
        "signature_invalid",
    )
    yield "the manifest is gone", changed(lambda v: v.pop("manifest")), "document_foreign"
    yield (
        "the manifest was altered",
        changed(lambda v: v.update(manifest=v["manifest"][:-8] + "AAAAAAAA")),
        "signature_invalid",
    )


def test_altered_files_are_refused_whole(site: Site) -> None:
    """Whatever was changed: the reason, and not one item went on."""
    value, _, task = exported(site)
    back = relayed(site, value)
    before = site.outcomes(task)
    for what, other, code in alterations(back):
        with pytest.raises(KeyturnError) as caught:
            carrying.take(site.fleet, other, "tester")
        assert caught.value.code == code, what
        assert site.outcomes(task) == before, what
    carrying.take(site.fleet, back, "tester")
    assert site.outcomes(task) != before


def test_another_sites_file_is_refused(site: Site, world: World, tmp_path: Path) -> None:
    """Two sites of one organization do not take each other's answers."""
    with Site(world, tmp_path / "second").running() as second:
        value, _, _ = exported(second)
        with pytest.raises(KeyturnError, match="another site"):
            carrying.take(site.fleet, relayed(second, value), "tester")
