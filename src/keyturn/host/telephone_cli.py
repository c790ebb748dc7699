"""The verbs by which a host gets its certificate by telephone: ``installation-id`` and ``confirm``."""

from __future__ import annotations

import click

from keyturn.core.phone.spelling import HOST_CONFIRMATION
from keyturn.edge import spoken
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.host import telephone
from keyturn.host.activating import done, key_file_option, with_key
from keyturn.host.context import changed_home, machine_of, opened_home


@click.command("installation-id", cls=Verb)
@click.argument("key", required=False)
@key_file_option
@click.option("--words", is_flag=True, help="In 16 words instead of 54 digits.")
@click.option("--qr", "draw", is_flag=True, help="As a QR code that opens the publisher's page on a telephone.")
@pass_call
def installation_id(call: Call, key: str | None, key_file: str | None, words: bool, draw: bool) -> None:
    """Show what this host says by telephone, to get or renew its certificate without sending anything.

    KEY is - to read the host key from stdin; once given it need not be given again. The answer: `keyturn host confirm`.
    """
    with changed_home(call):
        home = opened_home(call)
        permit = with_key(call, home, key, key_file)
        made = telephone.make_id(home, permit, machine_of(call.environ, home.permits))
    product = permit.opened.product
    spoken.show(call, made, product.title, f"{product.service_url}/phone", "keyturn host confirm", words=words, draw=draw)


@click.command(cls=Verb)
@click.argument("code", nargs=-1, metavar="[CODE|-]")
@click.option("--dry-run", is_flag=True, help="Verify the code; change nothing.")
@pass_call
def confirm(call: Call, code: tuple[str, ...], dry_run: bool) -> None:
    """Take the confirmation ID that answers this host's installation ID. It lasts a year.

    CODE is digits or words, in any grouping; four letters of a word are enough. - reads it from stdin; without CODE it is asked
    for, group by group, and a wrong one is named at once.
    """
    with changed_home(call):
        home = opened_home(call)
        permit, machine = home.permit(call.product), machine_of(call.environ, home.permits)
        permit = telephone.confirm(home, permit, machine, spoken.given(call, code, HOST_CONFIRMATION), dry=dry_run)
    if dry_run:
        call.emit({"holds": True}, "The confirmation ID holds for this host. Nothing was changed.")
        return
    done(call, permit)
