"""Ids with letters that states, banks and registries give out: most are recognised by shape and check character."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evalforge.core.privacy.text.catalogues import CATALOGUES
from evalforge.core.privacy.text.checksums import dni, luhn, mod_97
from evalforge.core.privacy.text.detector import Check, Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.vocabulary import is_word

_SEPARATORS = re.compile(r"[ .\-/]")


def _joined(view: View, span: tuple[int, int]) -> str:
    return _SEPARATORS.sub("", view.plain[slice(*span)]).upper()


def _iban(view: View, match: Match) -> Iterable[Finding]:
    """Mod 97 decides where the number ends: what follows may look like one more group."""
    start, end = match.span()
    body = view.plain[start:end]
    ends = [n for n in range(len(body), 14, -1) if n == len(body) or body[n] in " -" or body[n - 1].isdigit()]
    for n in ends:
        iban = _SEPARATORS.sub("", body[:n]).upper()
        if 15 <= len(iban) <= 34 and body[n - 1].isalnum() and mod_97(iban):
            return (view.found(start, start + n, TextKind.IBAN, iban),)
    iban = _SEPARATORS.sub("", body).upper()
    digits = sum(map(str.isdigit, iban))
    if digits >= 10 and (body[:2].isupper() or "iban" in view.before(start, 20)):
        return (view.found(start, end, TextKind.IBAN, iban),)  # mistyped, and still somebody's
    return ()


def _checked(kind: TextKind, test: object = None) -> Check:
    def check(view: View, match: Match) -> Iterable[Finding]:
        start, end = match.span(1)
        value = _joined(view, (start, end))
        if callable(test) and not test(value):
            return ()
        return (view.found(start, end, kind, value),)

    return check


def _nordic(value: str) -> bool:
    """Sweden's and Denmark's personal numbers, with a separator: a date, then four digits."""
    digits = re.sub("[^0-9]", "", value)[-10:]
    month, day = int(digits[2:4]), int(digits[4:6])
    turned = int(digits[0:2]), int(digits[2:4])
    return luhn(digits) or (1 <= month <= 12 and 1 <= day <= 31) or (1 <= turned[0] <= 31 and 1 <= turned[1] <= 12)


def _plate_letters(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    letters = re.findall("[A-Za-z]{2,}", view.plain[start:end])
    if re.fullmatch("[A-Z]{2}[0-9]{2} [A-Z]{3}", view.plain[start:end]):
        return (view.found(start, end, TextKind.PLATE, _joined(view, (start, end))),)
    parted = " " in view.plain[start:end] or "-" in view.plain[start:end]
    if parted and any(
        is_word(word.lower()) or word in CATALOGUES
        for word in letters
        if len(word) > 1 and (len(word) > 2 or word in CATALOGUES)
    ):
        return ()  # "HTTP-1234" is an error code, "2048 LLM" a phrase
    return (view.found(start, end, TextKind.PLATE, _joined(view, (start, end))),)


_B, _E = r"(?:^|[^0-9A-Za-z_])", r"(?:$|[^0-9A-Za-z_])"

DETECTORS: tuple[Detector, ...] = (
    Detector(
        "iban",
        r"(?i)\b[a-z]{2}[0-9]{2}(?:[ \-]?[0-9a-z]{4}){2,7}(?:[ \-]?[0-9a-z]{1,3})?\b",
        _iban,
        gate=r"(?i)\b[a-z]{2}[0-9]{2}[ \-]?[0-9a-z]{4}[ \-]?[0-9a-z]{4}",
    ),
    Detector(
        "bic",
        r"(?i:bic|swift)(?i:[ /]{0,2}(?:bic|swift|code|number|is))*[ :=#]{1,3}([A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?)"
        + _E,
        _checked(TextKind.ID),
        gate=r"(?i)\b(?:bic|swift)[ :=/#]",
    ),
    Detector(
        "nino",
        rf"(?i){_B}([abceghj-prstw-z][abceghj-nprstw-z][ \-]?[0-9]{{2}}[ \-]?[0-9]{{2}}[ \-]?[0-9]{{2}}[ \-]?[abcd]){_E}",
        _checked(TextKind.ID),
    ),
    Detector("pan", rf"{_B}([A-Z]{{3}}[ABCFGHLJPT][A-Z][0-9]{{4}}[A-Z]){_E}", _checked(TextKind.ID)),
    Detector(
        "dni",
        rf"(?i){_B}([xyz0-9][ \-.]?[0-9]{{1,2}}[.]?[0-9]{{3}}[.]?[0-9]{{3}}[ \-.]?[a-z]){_E}",
        _checked(TextKind.ID, dni),
    ),
    Detector(
        "codice_fiscale",
        rf"(?i){_B}([a-z]{{3}} ?[a-z]{{3}} ?[0-9l-v]{{2}}[a-ehlmprst][0-9l-v]{{2}} ?[a-z][0-9l-v]{{3}}[a-z]){_E}",
        _checked(TextKind.ID),
    ),
    Detector("curp", rf"(?i){_B}([a-z]{{4}}[0-9]{{6}}[hmx][a-z]{{5}}[0-9a-z][0-9]){_E}", _checked(TextKind.ID)),
    Detector("rfc", rf"{_B}([A-Z&]{{4}}[0-9]{{6}}[A-Z0-9]{{3}}){_E}", _checked(TextKind.ID)),
    Detector("hetu", rf"(?i){_B}([0-9]{{6}}[\-+a-fu-y][0-9]{{3}}[0-9a-fhjk-npr-y]){_E}", _checked(TextKind.ID)),
    Detector("nordic", rf"{_B}((?:[0-9]{{2}})?[0-9]{{6}}[\-+][0-9]{{4}}){_E}", _checked(TextKind.ID, _nordic)),
    Detector("rut", rf"(?i){_B}([0-9]{{1,2}}\.[0-9]{{3}}\.[0-9]{{3}}-[0-9k]){_E}", _checked(TextKind.ID)),
    Detector("hong_kong_id", rf"{_B}([A-Z]{{1,2}}[0-9]{{6}}\([0-9A]\))", _checked(TextKind.ID)),
    Detector("nric", rf"{_B}([STFGM][0-9]{{7}}[A-Z]){_E}", _checked(TextKind.ID)),
    Detector("passport", rf"{_B}([A-Z]{{1,2}}[0-9]{{6,9}}){_E}", _checked(TextKind.ID)),
    Detector("uk_driver", rf"{_B}([A-Z9]{{5}}[0-9]{{6}}[A-Z9]{{2}}[A-Z0-9]{{3}}){_E}", _checked(TextKind.ID)),
    Detector(
        "plate",
        rf"{_B}([A-Z]{{2}}[0-9]{{2}} [A-Z]{{3}}|[A-Z]{{2}}-[0-9]{{3}}-[A-Z]{{2}}|[A-Z]{{1,3}}-[A-Z]{{1,2}} "
        rf"?[0-9]{{3,4}}[EH]?"
        r"|[0-9]{4}[ \-][A-Z]{3}|[A-Z]{2}[ \-]?[0-9]{1,2}[ \-][A-Z]{1,3}[ \-][0-9]{4}|[0-9][A-Z]{3}[0-9]{3}"
        rf"|[A-Z]{{3}}-[0-9]{{3,4}}|[A-Z]{{3}}[0-9][A-Z][0-9]{{2}}|[A-Z]{{2}} [0-9]{{3}} [A-Z]{{2}}){_E}",
        _plate_letters,
    ),
)
