"""Every command of ``keyturn`` with its arguments and options, as Click knows them: for the pages, the man pages, the tests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import click

from keyturn.verbs import root

_NO_DEFAULT: tuple[object, ...] = (None, False, "", (), [])
_ENVIRONMENT = re.compile(r" ?\((KEYTURN_[A-Z_]+(?:, KEYTURN_[A-Z_]+)*)\)")


class Option(NamedTuple):
    """One option. ``names`` are as typed (``-o``, ``--output``); ``value`` is the placeholder, empty for a switch."""

    names: tuple[str, ...]
    value: str
    help: str
    default: str | None
    required: bool
    repeatable: bool
    environment: tuple[str, ...]


class Command(NamedTuple):
    """One command or group. ``words`` are what is typed; ``options`` are its own, ``all_options`` the names of all it takes."""

    words: tuple[str, ...]
    usage: str
    help: tuple[str, ...]
    options: tuple[Option, ...]
    commands: tuple[str, ...]
    all_options: frozenset[str]

    @property
    def name(self) -> str:
        return " ".join(self.words)


@cache
def commands() -> tuple[Command, ...]:
    """Every command there is, each group before what is in it, in alphabetical order."""
    return tuple(_walk(root, ("keyturn",)))


def common() -> tuple[Option, ...]:
    """The options that stand before or after every verb."""
    return tuple(_option(p, click.Context(root)) for p in root.params if isinstance(p, click.Option) and _is_common(p))


def far() -> tuple[Option, ...]:
    """The options that every verb of ``keyturn service`` takes besides."""
    return next(command.options for command in commands() if command.words == ("keyturn", "service"))


def _is_common(parameter: click.Parameter) -> bool:
    return parameter.name in ("home", "json", "product", "yes") and not parameter.expose_value


def _walk(command: click.Command, words: tuple[str, ...]) -> Iterator[Command]:
    context = click.Context(command, info_name=" ".join(words))
    group = command if isinstance(command, click.Group) else None
    below = () if group is None else tuple(group.list_commands(context))
    yield _command(command, words, context, below)
    for name in below:
        assert group is not None
        found = group.get_command(context, name)
        assert found is not None, name
        yield from _walk(found, (*words, name))


def _command(command: click.Command, words: tuple[str, ...], context: click.Context, below: tuple[str, ...]) -> Command:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option)]
    inherited = len(words) > 2 and words[1] == "service"
    own = [o for o in options if not _is_common(o) and (o.expose_value or not inherited)]
    places = (
        ["[COMMAND]" if words == ("keyturn",) else "COMMAND"] if below else [a.make_metavar(context) for a in arguments]
    )
    return Command(
        words, " ".join([*words, *(["[OPTIONS]"] if options else []), *places]), _paragraphs(command.help, command.epilog),
        tuple(_option(o, context) for o in own), below,
        frozenset(name for o in options for name in (*o.opts, *o.secondary_opts)) | {"--help"},
    )  # fmt: skip


def _option(option: click.Option, context: click.Context) -> Option:
    help_text = option.help or ""
    environment = _ENVIRONMENT.search(help_text)
    return Option(
        (*option.opts, *option.secondary_opts),
        "" if option.is_flag else _value(option, context),
        _ENVIRONMENT.sub("", help_text),
        _default(option.default),
        option.required,
        option.multiple,
        tuple(environment[1].split(", ")) if environment else (),
    )


def _value(option: click.Option, context: click.Context) -> str:
    value = option.make_metavar(context)
    value = {"INTEGER": "N", "INTEGER RANGE": "N"}.get(value, value).strip("[]")
    return f"[{value}]" if option._flag_needs_value else value  # Brackets: the option may stand alone.


def _default(value: Any) -> str | None:
    # Click marks "no default" with a value of its own, which has no public name.
    return None if type(value).__name__ == "Sentinel" or value in _NO_DEFAULT else str(value)


def _paragraphs(*texts: str | None) -> tuple[str, ...]:
    """Help as paragraphs; Click's backspace sign begins one whose lines stay as they are."""
    found = []
    for text in texts:
        for paragraph in inspect.cleandoc(text or "").split("\n\n"):
            if paragraph.startswith("\b\n"):
                found.append(paragraph.removeprefix("\b\n"))
            elif paragraph:
                found.append(" ".join(paragraph.split("\n")))
    return tuple(found)
