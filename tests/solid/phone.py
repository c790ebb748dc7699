"""Slips of people and guesses of others against telephone codes, by the ten thousand; each must be caught.

Where every pairing would take half a second, one property of the signatures stands in for it: for one key and message there is
one signature that holds (a BLS signature is a point, not a choice). So what differs from it is refused; a share of everything is
judged by the pairing all the same, and one that it took would be a problem.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, ProductName, b64u
from keyturn.core.phone import confirmation, digits, spelling
from keyturn.core.phone.confirmation import ConfirmationID
from keyturn.core.phone.installation import InstallationID
from keyturn.core.phone.spelling import CONFIRMATION, INSTALLATION, Form
from keyturn.core.trust import ROLE_PHONE, ConfirmationKey
from keyturn.edge import bls
from keyturn.edge.keystore import Signer
from keyturn.edge.words import english

FORMS = (INSTALLATION, CONFIRMATION)


class Desk(NamedTuple):
    """A publisher's product and its confirmation key."""

    product: ProductName
    signer: Signer
    key: ConfirmationKey

    @classmethod
    def make(cls, chance: random.Random) -> Desk:
        signer = bls.signer(bls.secret_of(chance.randbytes(bls.CHANCE)))
        return cls(
            ProductName(b64u(chance.randbytes(32)), "writer"),
            signer,
            ConfirmationKey(signer.public, 0, ROLE_PHONE, 0, 1),
        )

    def answer(self, to: InstallationID, edition: int = 0, term: int = 0) -> ConfirmationID:
        return confirmation.issue(self.product, to, edition, term, 0, self.signer.sign)

    def takes(self, code: ConfirmationID, to: InstallationID) -> bool:
        try:
            confirmation.confirmed(code, self.product, to, [self.key], bls.holds)
        except KeyturnError:
            return False
        return True


def installed(chance: random.Random) -> InstallationID:
    """Any installation ID: its fields are as good as chance to whoever does not know what they are made of."""
    channel, serial = chance.choice(list(Channel)), chance.getrandbits(28)
    seat, commitment, proof = f"{chance.getrandbits(44):011x}", chance.getrandbits(40), chance.getrandbits(30)
    return InstallationID(chance.random() < 0.1, channel, serial, seat, commitment, proof)


# --- slips ---


def slips(seed: str, count: int) -> tuple[Counter[str], list[str]]:
    """For ``count`` random IDs of each form: every wrong digit and every swap of neighbours in digits, in each place a wrong word
    and every swap of neighbours in words.

    A wrong digit and a swap must be named by their groups, and by no other; a wrong word by its place, with the right one
    offered; a swap of words must be named among the places.
    """
    chance = random.Random(seed)
    caught: Counter[str] = Counter()
    problems: list[str] = []
    for form in FORMS:
        for _ in range(count):
            number = installed(chance).number if form is INSTALLATION else chance.getrandbits(form.bits)
            for what, problem in (*_in_digits(number, form, chance), *_in_words(number, form, chance)):
                caught[f"{form.name}: {what}"] += 1
                if problem:
                    problems.append(f"{form.name} {number:x}: {what}: {problem}")
    return caught, problems


def _in_digits(number: int, form: Form, chance: random.Random) -> Iterator[tuple[str, str | None]]:
    text = spelling.spell(number, form, "")
    groups = digits.spell(number, form.groups)
    for place, group in enumerate(groups, 1):
        for at, right in enumerate(group):
            for wrong in "0123456789":
                if wrong != right:
                    changed = group[:at] + wrong + group[at + 1 :]
                    yield "wrong digits", f"{group} became {changed}" if digits.holds(place, changed) else None
    for at in range(len(text) - 1):
        if text[at] == text[at + 1]:
            continue
        swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        named = {at // 6 + 1, (at + 1) // 6 + 1}
        held = {place for place in named if digits.holds(place, swapped[6 * place - 6 : 6 * place])}
        yield "swapped digits", f"at {at}, groups {held} hold" if held else None
    # The same through the door that people use, for some of each.
    for _ in range(4):
        at = chance.randrange(len(text))
        wrong = text[:at] + str((int(text[at]) + chance.randint(1, 9)) % 10) + text[at + 1 :]
        found = spelling.typed(wrong, form)
        yield (
            "typed with a wrong digit",
            None if found.wrong == (at // 6 + 1,) and found.number is None else f"{found.wrong}",
        )


def _in_words(number: int, form: Form, chance: random.Random) -> Iterator[tuple[str, str | None]]:
    book = english()
    right = list(spelling.spell_words(number, form, book))
    for at in range(form.words):
        other = book.words[(book.words.index(right[at]) + chance.randint(1, 2047)) % 2048]
        found = spelling.typed(" ".join([*right[:at], other, *right[at + 1 :]]), form, book)
        holds = found.number is None and found.wrong == (at + 1,) and found.parts[at].offers == (right[at],)
        yield "wrong words", None if holds else f"word {at + 1}: {found.wrong}"
    for at in range(form.words - 1):
        if right[at] != right[at + 1]:
            swapped = [*right[:at], right[at + 1], right[at], *right[at + 2 :]]
            found = spelling.typed(" ".join(swapped), form, book)
            holds = found.number is None and {at + 1, at + 2} <= set(found.wrong)
            yield "swapped words", None if holds else f"words {at + 1}, {at + 2}: {found.wrong}"


# --- codes for others ---


def foreign(seed: str, count: int, judged: int) -> tuple[Counter[str], list[str]]:
    """Answers to ``count`` random IDs: no two are alike, so none answers another's; ``judged`` pairs of them by the pairing."""
    chance = random.Random(seed)
    desk = Desk.make(chance)
    ids = [installed(chance) for _ in range(count)]
    codes = [desk.answer(to) for to in ids]
    counted = Counter({"answers": count})
    problems = []
    if len({code.signature for code in codes}) != len({to.number for to in ids}):
        problems.append("two installation IDs have one answer")
    for _ in range(judged):
        one, two = chance.sample(range(count), 2)
        counted["judged by the pairing"] += 1
        if desk.takes(codes[one], ids[two]):
            problems.append(f"the answer to {ids[one].text} was taken for {ids[two].text}")
    if not desk.takes(codes[0], ids[0]):
        problems.append("no honest answer is taken, so nothing was shown")
    return counted, problems


# --- guesses ---


def guesses(seed: str, count: int, judged: int) -> tuple[Counter[str], list[str]]:
    """``count`` random codes against one installation ID: digits, words, and digits whose checks are right, in turn.

    Counts where each ended: at a check, at the curve, or at the signature; of the last, the first ``judged`` by the pairing.
    """
    chance = random.Random(seed)
    desk, to = Desk.make(chance), installed(chance)
    right = {
        (edition, term): desk.answer(to, edition, term).signature
        for edition in range(confirmation.EDITIONS)
        for term in range(confirmation.MAX_TERM + 1)
    }
    refused: Counter[str] = Counter()
    problems = []
    for number in range(count):
        text = _guess(chance, number % 3)
        try:
            code = confirmation.read(text, english())
        except KeyturnError as error:
            refused["at the curve" if error.code == "code_malformed" else "at a check"] += 1
            continue
        refused["at the signature"] += 1
        if code.key_index == 0 and right[code.edition, code.term] == code.signature:
            problems.append(f"guessed: {text}")
        if refused["judged by the pairing"] < judged:
            refused["judged by the pairing"] += 1
            if desk.takes(code._replace(key_index=0), to):
                problems.append(f"taken: {text}")
    if not desk.takes(desk.answer(to), to):
        problems.append("no honest answer is taken, so nothing was shown")
    return refused, problems


def _guess(chance: random.Random, kind: int) -> str:
    if kind == 0:
        return "".join(chance.choices("0123456789", k=6 * CONFIRMATION.groups))
    if kind == 1:
        return " ".join(chance.choices(english().words, k=CONFIRMATION.words))
    return spelling.spell(chance.getrandbits(CONFIRMATION.bits), CONFIRMATION)
