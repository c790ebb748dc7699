"""The verb that answers requests which came as a file. It needs the signer, so it works in the service's home only."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.core import containers
from keyturn.core.errors import KeyturnError, Refused
from keyturn.edge import files
from keyturn.edge.terminal import Call, pass_call
from keyturn.service.context import ServiceVerb, home_path, opened


@click.command(cls=ServiceVerb)
@click.argument("file")
@pass_call
def answer(call: Call, file: str) -> None:
    """Answer the requests in a .ktx file, into the same file."""
    home_path(call)  # Is this the place, before the file is looked at?
    data = files.read(Path(file), containers.MAX_FILE)
    if data is None:
        raise KeyturnError("file_malformed", f"{file} does not exist")
    value = containers.expect(data, "exchange")
    opened_product = containers.open_product(value)
    items = containers.items_of(value)
    with opened(call) as s:
        for index, item in enumerate(items):
            if item.open:
                outcome = s.exchange(item.document, by_file=True)
                if isinstance(outcome, Refused):
                    items[index] = item._replace(refused=outcome.as_error().as_json())
                else:
                    items[index] = item._replace(answer=outcome)
                files.write_json(Path(file), containers.exchange(opened_product, items))
    found = {
        "file": file,
        "answered": sum(i.answer is not None for i in items),
        "refused": sum(i.refused is not None for i in items),
    }
    call.emit(found, f"{found['answered']} answered, {found['refused']} refused; {file} holds the answers.")
