"""Numbers: telephones, cards, national ids, dates of birth, coordinates, and what is left of long runs of digits.

One detector finds every cluster of seven digits or more and sorts it: dates, versions, decimals and measures stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from evalforge.core.privacy.text.catalogues import CATALOGUES
from evalforge.core.privacy.text.checksums import is_national_id, luhn
from evalforge.core.privacy.text.detector import Detector, Match, View, whole
from evalforge.core.privacy.text.findings import Finding, TextKind

_UNIT = re.compile(
    r"[ \-]?(?:%|°|px\b|[kmgtp]?i?b(?:/s)?\b|[kmg]?bytes?\b|bits?\b|[nmuμ]?s\b|[mg]?hz\b|usd\b|eur\b|gbp\b|"
    r"(?:(?:input|output|prompt|completion|total|cached|reasoning|context|max|new|more|of|the|milli|micro|nano|"
    r"unique|training) ?){0,2}"
    r"(?:tokens?|tpm|rpm|chars?|characters?|words?|rows?|records?|requests?|items?|lines?|steps?|times?|params?|parameters?|"
    r"seconds?|secs?|minutes?|mins?|hours?|days?|weeks?|months?|years?|vectors?|embeddings?|documents?|docs?|chunks?|samples?|events?|"
    r"messages?|calls?|iterations?|epochs?|entries|elements|objects|dimensions|dollars|euros|pounds|people|users|views|degrees)\b|(?:max(?:imum)?|limit|allowed|available|remaining|left|total|used|requested)\b)"
)
_MEASURE = re.compile(
    r"(?:\b(?:limit(?:ed)?|max(?:imum)?|min(?:imum)?|used|usage|requested|length|size|count|total|tokens?|tpm|rpm|offset|line|port|"
    r"position|pos|char|column|col|index|seed|duration|latency|took|budget|sum|exceed(?:s|ed)?|at most|at "
    r"least|more than|less than|"
    r"capacity|quota|remaining|dimensions?|rows?|context(?: ?(?:window|length|size|limit))?|"
    r"window|inhabitants|people|volume|bytes|allocate(?:d)?|memory|elapsed|allowed|permitted|cost|price|score|loss|amount|revenue|"
    r"population)\b(?:[ _]?(?:of|is|was|to|from|the|are|tokens|length|size|in))?|[$€£¥])[\"'(: =]{0,4}$"
)
_EPOCH = re.compile(
    r"(?:time(?:stamp)?|epoch|ts|since|until|expire[sd]?|reset|created|updated|started|ended|exp|iat|nbf|_at|"
    r"unix|at)[\"'(: =]{0,4}$"
)
_PHONE = re.compile(
    r"(?:phone|tel(?:ephone)?|mobile|cell|fax|call|dial|text|sms|whatsapp|number|reach|contact|ring|hotline|handy|m[oó]vil|tél|ph)\b[^0-9\n]{0,24}$"
)
_PATTERN = r"[+(]{0,2}[0-9](?:[ ().\-/_+\xb7*~]{0,3}[0-9])*(?: {0,2}(?:[xX]|[eE]xt\.?|[eE]xtension|#) ?[0-9]{1,6})?"
_GATE = r"[0-9](?:[ ().\-/_+\xb7*~]{0,3}[0-9]){5}"
_EXTENSION = re.compile(r"(?i) {0,2}(?:x|ext\.?|extension|#) ?[0-9]{1,6}$")
_TOKEN = re.compile(r"[^ ]+")
_ISO = re.compile(r"([12][0-9]{3})([\-/._])(0?[1-9]|1[0-2])\2(0?[1-9]|[12][0-9]|3[01])")
_DAY_FIRST = re.compile(r"(0?[1-9]|[12][0-9]|3[01])([\-/._])(0?[1-9]|[12][0-9]|3[01])\2([12][0-9]{3})")
_COMPACT = re.compile(
    r"((?:19|20)[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])(?:[_\-]?([01][0-9]|2[0-3])[0-5][0-9](?:[0-5][0-9])?)?"
)
_DECIMAL = re.compile(r"[+\-]?[0-9]{1,2}\.[0-9]+|[0-9]{1,3}\.[0-9]{1,3}|[0-9]{1,6}\.[0-9]{1,2}")
_VERSION = re.compile(r"(?:[1-9]?[0-9]|20[0-9]{2})(?:\.(?:0|[1-9][0-9]{0,3})){2,3}")
_MODEL_DATE = re.compile(r"(?:[0-9]{1,2}[\-._]){1,3}(20[0-9]{2})(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:-[0-9]{1,2})?")
_RANGE = re.compile(r"([0-9]{1,5}) ?- ?([0-9]{1,5})")
_PAPER = re.compile(r"arxiv(?:[:./ ]|\.org|abs|pdf|id){0,6}$")
_SENTENCE_END = re.compile(r"[0-9]{3,}\.")
_CATALOGUE = re.compile(r"\b([A-Z]{2,8})[\- #]$")
_YEARS = range(1900, 2016)
_NOW = range(2016, 2100)


def _cluster(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span()
    extension = _EXTENSION.search(view.plain, start, end)
    digits_end = extension.start() if extension else end
    runs = list(_runs(view, start, digits_end))
    for run_start, run_end, finding in runs:
        if finding is not None:
            yield finding
            continue
        stop = end if run_end == digits_end else run_end
        found = _number(view, run_start, run_end, stop)
        if found is not None:
            yield found


def _runs(view: View, start: int, end: int) -> Iterator[tuple[int, int, Finding | None]]:
    """The cluster in runs between what is a date, a decimal or a version by itself."""
    begun, stop = -1, start
    for token in _TOKEN.finditer(view.plain, start, end):
        stands_apart, finding = _apart(view, token.start(), token.end())
        ends_here = begun >= 0 and view.plain[begun] not in "0+(" and _SENTENCE_END.fullmatch(view.plain, stop - 4, stop)
        if ends_here and not stands_apart:
            yield begun, stop - 1, None
            begun = -1
        if stands_apart:
            if begun >= 0:
                yield begun, stop, None
            begun = -1
            if finding is not None:
                yield token.start(), token.end(), finding
        elif begun < 0:
            begun = token.start()
        stop = token.end()
    if begun >= 0:
        yield begun, stop, None


def _apart(view: View, start: int, end: int) -> tuple[bool, Finding | None]:
    token = view.plain[start:end].strip("()")
    date = _ISO.fullmatch(token) or _DAY_FIRST.fullmatch(token)
    if date is not None:
        year = int(date[1] if date.re is _ISO else date[4])
        is_stamp = re.match(r"[Tt ][0-2][0-9]:[0-5][0-9]", view.plain[end : end + 6]) is not None and year >= 2000
        if year in _YEARS and not is_stamp:
            return True, view.found(start, end, TextKind.DATE, _iso_date(date))
        return year in _NOW or year in _YEARS, None
    if view.plain[end : end + 1] == ":" and "-" in token and (stamp := _ISO.match(token)) and stamp.end() < len(token):
        return True, None
    if (model := _MODEL_DATE.fullmatch(token)) and int(model[1]) in _NOW:
        return True, None
    version = _VERSION.fullmatch(token) is not None
    return version or _DECIMAL.fullmatch(token) is not None, None


def _iso_date(date: re.Match[str]) -> str:
    year, month, day = (date[1], date[3], date[4]) if date.re is _ISO else (date[4], date[3], date[1])
    return f"{year}-{int(month):02}-{int(day):02}"


def _number(view: View, start: int, end: int, stop: int) -> Finding | None:
    if view.plain[start] == "(" and ")" not in view.plain[start:end]:
        start += 1
    body = view.plain[start:end]
    digits = re.sub("[^0-9]", "", body)
    before, after = view.before(start), view.after(stop)
    if _PAPER.search(before) and re.fullmatch(r"[0-9]{4}\.[0-9]{4,5}", body):
        return None
    count = len(digits)
    is_bare = body == digits
    if count < 6 or (count == 6 and not is_bare):
        return None
    if start and (view.plain[start - 1].isalnum() or view.plain[start - 1] in "_-.#") and count < 7:
        return None
    if not body.startswith("+") and (_UNIT.match(after) or (is_bare and _MEASURE.search(before))):
        return None
    if (named := _CATALOGUE.search(view.plain, max(0, start - 10), start)) and named[1] in CATALOGUES and count < 10:
        return None
    if count == 6:
        next_char = after[:1]
        return None if next_char.isalpha() or next_char in "_-:" else view.found(start, stop, TextKind.NUMBER, digits)
    compact = _COMPACT.fullmatch(body)
    if compact is not None and (is_bare or count > 8):
        year = int(compact[1])
        if year in _NOW or (compact[4] and year >= 2000):
            return None
        return view.found(start, end, TextKind.DATE, f"{compact[1]}-{compact[2]}-{compact[3]}")
    if is_bare and count in (10, 13, 16, 19) and body[0] == "1" and body[1] in "45678" and _EPOCH.search(before):
        return None
    if (span := _RANGE.fullmatch(body)) and int(span[1]) < int(span[2]) and _are_years(span):
        return None
    if _is_counting(body):
        return None
    return view.found(start, stop, _kind(body, digits, before), digits)


def _are_years(span: re.Match[str]) -> bool:
    return all(1800 <= int(span[n]) < 2100 for n in (1, 2))


def _is_counting(body: str) -> bool:
    """Whether these are small numbers in a row, such as `1 2 3 4 5 6 7 8`."""
    parts = body.split(" ")
    if len(parts) < 4 or not all(part.isdigit() and len(part) <= 4 for part in parts):
        return False
    steps = {int(b) - int(a) for a, b in pairwise(parts)}
    return len(steps) == 1 and steps != {0}


def _kind(body: str, digits: str, before: str) -> TextKind:
    count = len(digits)
    if body.startswith(("+", "(+", "00")) and 7 <= count <= 17:
        return TextKind.PHONE
    if 13 <= count <= 19 and digits[0] in "23456" and luhn(digits):
        return TextKind.CARD
    if _PHONE.search(before) and count <= 15:
        return TextKind.PHONE
    if re.fullmatch(r"[0-9]{3}[ \-.][0-9]{2}[ \-.][0-9]{4}", body) or re.fullmatch(
        r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{2}\.[0-9]{3}\.[0-9]{3}/[0-9]{4}-[0-9]{2}", body
    ):
        return TextKind.ID
    if re.search(
        r"\b(?:ssn|itin|nhs|sin|cpf|cnpj|aadhaar|tax|nir|bsn|pesel|tfn|social|passport|national|insurance|id)\b", before
    ):
        return TextKind.ID
    grouped = body != digits
    if count in (9, 11, 12, 14, 15) and is_national_id(digits) and not body.startswith(("(", "0")):
        return TextKind.ID
    if count <= 15 and (grouped or digits[0] in "01" or count in (10, 11)):
        return TextKind.PHONE
    return TextKind.NUMBER


# -- written otherwise ----------------------------------------------------------------------------------------------------

_DIGIT_WORDS = {
    **{word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine".split())},
    **dict.fromkeys(("oh", "o", "nought", "naught", "null", "nil"), "0"),
    **{word: str(n) for n, word in enumerate("ten eleven twelve thirteen fourteen fifteen sixteen".split(), 10)},
    **{word: str(n) for n, word in enumerate("seventeen eighteen nineteen".split(), 17)},
    **{word: str(n * 10) for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)},
    "niner": "9", "hundred": "00", "plus": "", "dash": "", "double": "", "triple": "",
}  # fmt: skip
_WORD_CHOICE = "|".join(sorted(_DIGIT_WORDS, key=len, reverse=True))


def _spelled(view: View, match: Match) -> Iterable[Finding]:
    """`four one one one ...`, `oh seven double nine ...`."""
    start, end = match.span(1)
    digits, times = "", 1
    words = re.findall("[a-z]+|[0-9]+", view.plain[start:end].lower())
    for word in words:
        if word in ("double", "triple"):
            times = 2 if word == "double" else 3
            continue
        digits += (word if word.isdigit() else _DIGIT_WORDS.get(word, "")) * times
        times = 1
    if len(digits) < 7 or all(word.isdigit() for word in words) or _counts_up(words):
        return ()
    kind = (
        TextKind.CARD
        if 13 <= len(digits) <= 19 and luhn(digits)
        else TextKind.PHONE
        if len(digits) <= 15
        else TextKind.NUMBER
    )
    return (view.found(start, end, kind, digits),)


def _counts_up(words: list[str]) -> bool:
    """`one two three four five six seven` is a lesson in counting, no telephone."""
    values = [int(_DIGIT_WORDS.get(word, word) or 0) for word in words if word.isdigit() or _DIGIT_WORDS.get(word)]
    return len(values) > 3 and all(b - a == 1 for a, b in pairwise(values))


_LETTER_PHONE = (
    r"(?:^|[^0-9A-Za-z])((?:\+?1[ \-.])?\(?8[0-9]{2}\)?[ "
    r"\-.](?:[A-Z]{4,8}|[A-Z]{3}-[A-Z]{4}|[A-Z]{3}-[0-9]{4}|[0-9]-[A-Z]{3}-[A-Z]{3}))(?:$|[^0-9A-Za-z])"
)


def _letters(view: View, match: Match) -> Iterable[Finding]:
    """`1-800-FLOWERS`."""
    start, end = match.span(1)
    return (view.found(start, end, TextKind.PHONE, re.sub("[^0-9a-z]", "", view.plain[start:end].lower())),)


def _commas(view: View, match: Match) -> Iterable[Finding]:
    """`4111,1111,1111,1111`: groups that no thousands separator makes."""
    start, end = match.span(1)
    body = view.plain[start:end]
    digits = body.replace(",", "")
    if re.fullmatch(r"[0-9]{1,3}(?:,[0-9]{3})+", body) or len(digits) < 9:
        return ()
    kind = TextKind.CARD if 13 <= len(digits) <= 19 and luhn(digits) else TextKind.NUMBER
    return (view.found(start, end, kind, digits),)


# -- dates and places -----------------------------------------------------------------------------------------------------

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
_WRITTEN_DAY = r"[0-3]?[0-9](?:st|nd|rd|th)?"
_BIRTH = (
    r"(?:d\.?o\.?b\.?|date of birth|birth ?dates?|birthdays?|born|b-?day|geboren|nacid[oa]|née?|fecha de "
    r"nacimiento|date de naissance)"
)


def _written_date(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    years = re.findall("[12][0-9]{3}", view.plain[start:end])
    if not years or int(years[-1]) not in _YEARS:
        return ()
    return (view.found(start, end, TextKind.DATE),)


def _birth_date(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    return (view.found(start, end, TextKind.DATE),)


def _coordinates(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    body = view.plain[start:end].rstrip()
    end = start + len(body)
    values = [abs(float(value)) for value in re.findall(r"[0-9]{1,3}\.[0-9]+", body)]
    places = [len(value.split(".")[1]) for value in re.findall(r"[0-9]{1,3}\.[0-9]+", body)]
    if len(values) != 2 or min(values) > 90 or max(values) > 180:
        return ()
    is_marked = re.search(r"(?i)[nsew°]", body) is not None or re.search(
        r"(?i)(?:lat|lon|lng|gps|coord|location|geo|point|map|position|at)[a-z]*[^0-9]{0,20}$", view.before(start, 30)
    )
    if not is_marked and (max(values) <= 1 or max(places) < 4 or min(places) < 3):
        return ()
    return (view.found(start, end, TextKind.GEO, ",".join(re.findall(r"-?[0-9]{1,3}\.[0-9]+", body))),)


_DEGREES = r"[+\-]?[0-9]{1,3}\.[0-9]{2,}"

DETECTORS: tuple[Detector, ...] = (
    Detector(
        "coordinates",
        rf"(?:^|[^0-9.])({_DEGREES} ?\xb0? ?[NSns]?(?: ?[,;/] ?| {{1,2}}){_DEGREES} ?\xb0?(?: ?[EWew]\b)?)",
        _coordinates,
    ),
    Detector(
        "coordinates_named",
        r"(?i)\b(?:lat(?:itude)?|lon(?:gitude)?|lng)[\"']?[ :=]{1,3}([+\-]?[0-9]{1,3}\.[0-9]+)(?:$|[^0-9])",
        whole(TextKind.GEO, 1),
    ),
    Detector(
        "coordinates_dms",
        r"([0-9]{1,3} ?(?:\xb0|deg) ?[0-9]{1,2}(?:\.[0-9]+)? ?['\xb7\xb4]? ?(?:[0-9]{1,2}(?:\.[0-9]+)? "
        r"?[\"\xb7']{0,2})? ?[NSEWnsew]\b)",
        whole(TextKind.GEO, 1),
    ),
    Detector(
        "plus_code",
        r"(?:^|[^0-9A-Za-z])([23456789CFGHJMPQRVWX]{4,8}\+[23456789CFGHJMPQRVWX]{2,3})(?:$|[^0-9A-Za-z])",
        whole(TextKind.GEO, 1),
    ),
    Detector(
        "birth_date",
        rf"(?i)\b{_BIRTH}\b[^0-9\n]{{0,30}}?((?:{_WRITTEN_DAY}(?: of)? ?{_MONTH}|{_MONTH} ?{_WRITTEN_DAY})(?:,? "
        rf"?[0-9]{{2,4}})?"
        r"|[0-9]{1,4}[\-/. ][0-9]{1,2}[\-/. ][0-9]{1,4}|[0-3]?[0-9][/.][0-3]?[0-9]|(?:19|20)[0-9]{2})\b",
        _birth_date,
        gate=rf"(?i)\b{_BIRTH}\b",
    ),
    Detector(
        "date",
        rf"(?i)\b({_WRITTEN_DAY}(?: of)?[ \-/.]{_MONTH}[ \-/.,]{{1,2}}[12][0-9]{{3}}|{_MONTH}[ "
        rf"\-]{_WRITTEN_DAY},?[ \-]{{1,2}}[12][0-9]{{3}}|[12][0-9]{{3}}[ \-/]{_MONTH}[ \-/][0-3]?[0-9])\b",
        _written_date,
        gate=rf"(?i){_MONTH}[ \-/.,]{{1,2}}(?:[0-3]?[0-9]|[12][0-9]{{3}})",
    ),
    Detector("number", _PATTERN, _cluster, gate=_GATE),
    Detector("number_commas", r"(?:^|[^0-9,.])([0-9]{2,4}(?:,[0-9]{2,4}){2,6})(?:$|[^0-9,])", _commas),
    Detector("phone_letters", _LETTER_PHONE, _letters),
    Detector(
        "number_words",
        rf"(?i)\b((?:(?:{_WORD_CHOICE}|[0-9]{{1,2}})(?: ?[,\-.] ?| {{1,3}})){{5,40}}(?:{_WORD_CHOICE}|[0-9]{{1,2}}))\b",
        _spelled,
        gate=r"(?i)\b(?:"
        + _WORD_CHOICE
        + r")[ ,\-.]{1,3}(?:"
        + _WORD_CHOICE
        + r"|[0-9]{1,2})[ ,\-.]{1,3}(?:"
        + _WORD_CHOICE
        + r"|[0-9]{1,2})[ ,\-.]",
    ),
)
