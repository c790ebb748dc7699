"""The verb that runs the voice menu in a terminal: for trying it, and for whoever answers a telephone with a keyboard."""

from __future__ import annotations

import shutil
import subprocess
import sys

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge.terminal import Call, pass_call
from keyturn.service import voice as voices
from keyturn.service.context import ServiceVerb, opened


@click.command(cls=ServiceVerb)
@click.option("--terminal", is_flag=True, help="Show what is said, and type the keys.")
@click.option("--aloud", is_flag=True, help="Say it too, by espeak-ng.")
@pass_call
def voice(call: Call, terminal: bool, aloud: bool) -> None:
    """Run the voice menu here: what is said is printed, a line is what a caller presses.

    A telephony provider uses the same menu at the service's address /phone/voice.
    """
    if not terminal:
        raise KeyturnError(
            "usage",
            "the menu runs in a terminal: add --terminal",
            remedy="Providers use the address /phone/voice of the service.",
        )
    speaker = shutil.which("espeak-ng") if aloud else None
    if aloud and speaker is None:
        raise KeyturnError(
            "program_failed",
            "espeak-ng is not installed",
            remedy="Install it (Debian: espeak-ng), or leave --aloud out.",
        )
    with opened(call) as service:
        found = voices.turn(service, None, "")
        while True:
            for line in found.say:
                click.echo(line)
                if speaker is not None:
                    subprocess.run([speaker, "-v", found.call.language, line], check=False)
            if not found.keys:
                return
            pressed = sys.stdin.readline(100)
            if not pressed:
                return  # Hung up.
            found = voices.turn(service, found.call, pressed.strip())
