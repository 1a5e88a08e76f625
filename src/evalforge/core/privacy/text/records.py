"""Numbers of people's records and papers: `customer #10442`, `passport C01X00T47`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from string import digits

from evalforge.core.privacy.keys import RECORD_NUMBER, is_plain_chunk
from evalforge.core.privacy.text.assignments import trimmed
from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.vocabulary import is_known_words, is_word

_NOUNS = (
    r"(?:user(?:name)?|usr|login|account|acct|customer|cust|client|member|handle|nick(?:name)?|profile|player|patient|employee|emp|"
    r"subscriber|student|tenant|contact|lead|person|guest|driver|passenger|order|ticket|case|invoice|inv|booking|reservation|policy|"
    r"claim|contract|session|sess|conversation|thread|record|mrn|chart|loyalty|membership|insurance|subscription|shipment|tracking|confirmation)"
)


def _record(view: View, match: Match) -> Iterable[Finding]:
    """`user bob_77`, `customer #10442`, `order 8842`, `cust_19283`: the number of one record of many."""
    start, end = match.span(2)
    end = trimmed(view.plain, start, end)
    value = view.plain[start:end]
    noun_start, noun_end = match.span(1)
    noun = view.plain[noun_start:noun_end].lower()
    joint = view.plain[noun_end:start]
    if _DIGIT.search(value) is None:
        if (
            "_" not in value
            or is_known_words(value, 6)
            or not noun.startswith(("user", "login", "account", "handle", "nick", "profile"))
        ):
            return ()
    elif value.isdigit():
        if len(value) < 3 or _COUNTS_OR_GOES_ON.match(view.after(end)) is not None:
            return ()
    elif _DATE.fullmatch(value) or (not joint.strip(" ") and sum(map(str.isdigit, value)) < 3 and is_plain_chunk(value)):
        return ()
    kind = TextKind.SESSION if noun.startswith(("sess", "conv", "thread")) else TextKind.USER
    begin = start if joint.strip() != "" or " " in joint else noun_start
    return (view.found(begin, end, kind, value.casefold()),)


_DIGIT = re.compile("[0-9]")
_COUNTS_OR_GOES_ON = re.compile(
    r"[ \-]?(?:%|ms|s\b|tokens?|chars|times|rows|records|requests|users|items|days|hours|minutes)|[.,:][0-9]"
)
_DATE = re.compile(r"(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}")


def _short_record(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    value = view.plain[start:end]
    if RECORD_NUMBER.search(value) is None or is_word(value.lower()) or value.lower().startswith("pr#"):
        return ()
    return (view.found(start, end, TextKind.USER, value.casefold()),)


_PAPERS = (
    r"(?:passports?|passeport|reisepass|driv(?:er'?s?|ing) (?:licen[cs]e|permit)|licen[cs]e "
    r"(?:no\.?|number|plate)|(?:number|licen[cs]e|registration|vehicle) plates?|"
    r"plates?|registration|reg\.? no|vrm|vin|mrn|medical record|health (?:card|insurance|id)|insurance "
    r"(?:no\.?|number|id|policy)|policy (?:no\.?|number)|medicare|medicaid|"
    r"member(?:ship)? (?:no\.?|number|id)|national id(?:entity)?|identity card|id card|id (?:no\.?|number)|tax "
    r"(?:id|file|payer)|ssn|itin|social security|nif|nie|dni|cpf|cnpj|rg|"
    r"aadhaar|pan|nino|national insurance|nhs|sin|tfn|abn|bsn|pesel|curp|rfc|rut|codice "
    r"fiscale|steuer(?:nummer|-?id)|account (?:no\.?|number)|routing (?:no\.?|number)|sort code|"
    r"bank account|iban|imei|serial (?:no\.?|number)|device id|card (?:no\.?|number)|visa|voter id|green "
    r"card|employee (?:no\.?|number|id)|student (?:no\.?|number|id)|badge (?:no\.?|number|id))"
)


def _paper(view: View, match: Match) -> Iterable[Finding]:
    """A document's number behind the document's name: `passport C01X00T47`, `plate ABC 1234`."""
    start, limit = match.end(), min(len(view.plain), match.end() + 60)
    stop = re.compile(r"[\n;]").search(view.plain, start, limit)
    limit = stop.start() if stop else limit
    chunk = re.compile(r"[0-9A-Za-z\-./]*[0-9][0-9A-Za-z\-./]*").search(view.plain, start, limit)
    if chunk is None or len(re.findall(r"[A-Za-z']+", view.plain[start : chunk.start()])) > 5:
        return ()
    begin, end = chunk.start(), chunk.end()
    lead = re.compile(r"(?:[A-Z]{1,5}[ \-]){1,2}$").search(view.plain, max(start, begin - 10), begin)
    if lead is not None and lead[0].strip(" -").isupper() and lead[0].strip(" -").lower() not in ("is", "no", "id", "the"):
        begin = lead.start()
    while (
        more := re.compile(r" (?:[0-9]{1,6}[A-Z]?|[A-Z]{1,4}[0-9]*)(?![0-9A-Za-z])").match(view.plain, end)
    ) is not None and end - begin < 24:
        end = more.end()
    end = trimmed(view.plain, begin, end)
    value = view.plain[begin:end].strip("-./")
    digits = len(re.sub("[^0-9]", "", value))
    if (
        digits < 2
        or len(re.sub("[^0-9A-Za-z]", "", value)) < 4
        or (value.isdigit() and len(value) < 5)
        or (re.fullmatch(r"(?:19|20)[0-9]{2}.*", value) and digits <= 8 and "-" in value)
    ):
        return ()
    word = match.group(0).decode("latin-1").lower()
    kind = TextKind.PLATE if "plate" in word or "reg" in word or "vrm" in word else TextKind.ID
    return (view.found(begin, begin + len(value), kind, re.sub("[^0-9a-z]", "", value.lower())),)


DETECTORS: tuple[Detector, ...] = (
    Detector(
        "paper",
        rf"(?i)(?:^|[^{LETTER}0-9_]){_PAPERS}(?:$|[^{LETTER}0-9_])",
        _paper,
        gate=rf"(?i)(?:^|[^{LETTER}0-9_]){_PAPERS}[^\n;]{{1,60}}[0-9]",
    ),
    Detector(
        "record",
        rf"(?i)(?:^|[^{LETTER}0-9_.]){_NOUNS.replace('(?:', '(', 1)}(?:(?: "
        rf"(?:named|called|id|number|no\.?|num|with id|reference|ref|handle|account|code)){{0,2}}[ "
        rf"\t:#\-_/'\"]{{1,4}}|[_\-#:/])([0-9A-Za-z][0-9A-Za-z_\-]{{1,40}})",
        _record,
        gate=(
            rf"(?i)(?:^|[^{LETTER}0-9_.]){_NOUNS}(?:[ "
            rf"_#:/'\"\-]|id|number|no\.?|named|called|with|reference|ref|handle|account|"
            rf"code){{1,16}}[0-9A-Za-z_\-]*[0-9_]"
        ),
        needs=f"{digits}_",
    ),
    Detector(
        "short_record",
        r"(?:^|[^0-9A-Za-z_.\-/])([A-Za-z]{1,2}[\-_#][0-9]{3,12})(?:$|[^0-9A-Za-z_])",
        _short_record,
        needs=digits,
    ),
)
