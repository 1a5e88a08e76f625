"""Values that stand behind their name: key=value, JSON, headers, tags, tables, SQL, and passwords that are told in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from evalforge.core.privacy.keys import (
    _ROOTS,
    MAX_KEY_LENGTH,
    RECORD_NUMBER,
    SENSITIVE_RUNS,
    SENSITIVE_WORDS,
    KeyClass,
    KeyVerdict,
    is_plain_chunk,
    verdict_on,
)
from evalforge.core.privacy.sensitive import identity_of, kind_under
from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.text.network import is_plain_path, is_public_host, is_public_url
from evalforge.core.privacy.vocabulary import is_known_words, is_word, listed

_SENSITIVE = frozenset(KeyClass) - {KeyClass.TEXT, KeyClass.HARMLESS}
_MAX_VALUE = 2_000
_MAX_LINE = 500
_MAX_TREE = 8_000

_SPEAKERS = listed(
    "user users customer client caller patient member person employee student agent sender recipient contact visitor "
    "candidate applicant subscriber guest author reviewer participant doctor nurse resident login"
)
"""Before a colon these say who speaks or who is meant; what follows may be a whole sentence."""
_PROSE_KEYS = listed(
    "pass ip ips host url urls address race sex card cards cell mobile pin session sessions account street city location"
)
_EMPTY = re.compile(
    r"(?i)(?:none|null|nil|true|false|undefined|nan|n/a|\*+|x{3,}|<[a-z_ "
    r"\-]{1,40}>|\.{3}|-+|\{+[a-z_.]{0,40}\}+|\$\{[a-z_]+\})"
)
_OTHER_WORDS = listed(
    "contraseña clave senha passwort kennwort geheim benutzer benutzername nombre apellido apellidos correo "
    "teléfono telefono dirección direccion vorname nachname adresse telefon geburtsdatum prénom prenom nom "
    "téléphone courriel naissance cognome indirizzo telefono nome sobrenome endereço telefone naam achternaam "
    "wachtwoord mrn employer"
)
_OTHER = {
    **dict.fromkeys("contraseña clave senha passwort kennwort wachtwoord".split(), KeyClass.CREDENTIAL),
    **dict.fromkeys("mrn".split(), KeyClass.IDENTIFIER),
}

# -- where a value ends ---------------------------------------------------------------------------------------------------

_QUOTED = re.compile(r"""[bruf]?"((?:[^"\\\n]|\\.){0,2000})"|[bruf]?'((?:[^'\\\n]|\\.){0,2000})'|`([^`\n]{0,2000})`""")
_BARE = re.compile(r"[^\s,;&\"'<>()\[\]{}|]{1,2000}")
_BARE_LONG = re.compile(r"[^\s;&\"'<>()\[\]{}|,]{1,2000}")
_SPACES = re.compile(r"[ \t]{0,8}")
_LINE = re.compile(r"[^\n\r]{0,500}")
_PHRASE = re.compile(r"[^\n\r;|\"<>{}\[\]]{0,300}")
_NEXT_KEY = re.compile(rf"[,.\s&|]+[{LETTER}_][{LETTER}0-9_.\-]{{0,40}}(?: [{LETTER}0-9]{{1,20}})?[\"']?[ ]?[:=]")
_SENTENCE_END = re.compile(
    r"[.!?](?=\s+[A-Z\"'(]|\s*$)| (?:-|and|but|which|who|when|because|is|was|has|had) |,(?! ?(?:Jr|Sr|[A-Z0-9]))"
)
_CAPITAL_WORDS = re.compile(
    rf"(?: "
    rf"(?:[A-Z\xc0-\xde\xaa][{LETTER}'.\-]{{0,30}}|[0-9]{{1,6}}[A-Za-z]?|de|van|von|der|bin|al|la|del|di|"
    rf"da)(?![{LETTER}0-9=:])){{1,5}}"
)
_TREE_LEAF = re.compile(
    r"""[bruf]?"((?:[^"\\]|\\.){0,2000})"|[bruf]?'((?:[^'\\]|\\.){0,2000})'|-?[0-9]+(?:\.[0-9]+)?|[\[\]{}()]"""
)
_COLON_NEXT = re.compile(r"\s{0,8}[:=]")


def _value(
    view: View, at: int, key: str, verdict: KeyVerdict, separator: str, *, is_line: bool
) -> Iterator[tuple[int, int]]:
    """The places of the value that begins at `at`: of its text, or of the leaves of a list or object."""
    plain = view.plain
    at = _SPACES.match(plain, at).end()  # type: ignore[union-attr]  # it matches everywhere
    quoted = _QUOTED.match(plain, at)
    if quoted is not None:
        yield quoted.span(quoted.lastindex or 0)
        return
    opening = plain[at : at + 1]
    if opening in ("[", "{", "(") and opening:
        yield from _leaves(view, at)
        return
    if opening in ('"', "'", "`"):
        line = _LINE.match(plain, at + 1)
        yield at + 1, line.end() if line else at + 1  # the closing quote is cut off
        return
    if separator == "=":
        bare = _BARE.match(plain, at)
        if bare is None:
            return
        end = bare.end()
        if verdict.key_class in (KeyClass.USER_ATTRIBUTE, KeyClass.CONTACT, KeyClass.PII):
            more = _CAPITAL_WORDS.match(plain, end)
            end = more.end() if more else end
        yield at, _trimmed(plain, at, end)
        return
    yield at, _phrase_end(plain, at, key, verdict, is_line=is_line)


def _phrase_end(plain: str, at: int, key: str, verdict: KeyVerdict, *, is_line: bool) -> int:
    """Where a value without quotes ends behind a colon: at the end of a header's line, else as soon as it may."""
    kind = kind_under(verdict)
    if verdict.key_class in (KeyClass.CREDENTIAL, KeyClass.NETWORK) or kind in (TextKind.SESSION, TextKind.USER):
        if is_line and kind is TextKind.SECRET and _is_header(key):
            line = _LINE.match(plain, at)
            end = line.end() if line else at
            quote = plain[at - len(key) - 8 : at].rfind("'"), plain[at - len(key) - 8 : at].rfind('"')
            mark = "'" if quote[0] > quote[1] else '"'
            closing = plain.find(mark, at, end) if max(quote) >= 0 else -1
            return closing if closing >= 0 else end
        bare = _BARE.match(plain, at)
        return _trimmed(plain, at, bare.end()) if bare else at
    phrase = _PHRASE.match(plain, at)
    end = phrase.end() if phrase else at
    following = _NEXT_KEY.search(plain, at, end + 2)
    if following is not None and following.start() > at:
        end = following.start()
    if not is_line or kind not in (TextKind.ADDRESS, TextKind.PERSON):
        pattern = _SENTENCE_END if kind is not TextKind.ADDRESS else re.compile(r"[.!?](?=\s+[A-Z][a-z]+ [a-z])")
        stop = pattern.search(plain, at, end)
        if stop is not None and stop.start() > at:
            end = stop.start()
    return _trimmed(plain, at, end)


def _is_header(key: str) -> bool:
    return verdict_on(key).normal.split("_")[-1] in (
        "authorization",
        "cookie",
        "cookies",
        "setcookie",
        "bearer",
        "auth",
        "token",
        "key",
    )


def _trimmed(plain: str, start: int, end: int) -> int:
    while end > start and plain[end - 1] in " \t\r\n.,;:!?'\"":
        end -= 1
    return end


def _leaves(view: View, at: int) -> Iterator[tuple[int, int]]:
    """The texts and numbers of a list or object, to its closing bracket; keys are none."""
    plain, depth = view.plain, 0
    if at < view.read_to.get("tree", 0):
        return  # inside one whose leaves are all found
    for leaf in _TREE_LEAF.finditer(plain, at, at + _MAX_TREE):
        mark = leaf[0]
        view.read_to["tree"] = leaf.end()
        if mark in "[{(":
            depth += 1
        elif mark in "]})":
            depth -= 1
            if depth <= 0:
                return
        elif leaf.lastindex is None:
            yield leaf.span()
        elif not _COLON_NEXT.match(plain, leaf.end()):
            yield leaf.span(leaf.lastindex)


# -- what goes ------------------------------------------------------------------------------------------------------------


def _judged(view: View, key: str, verdict: KeyVerdict, span: tuple[int, int], separator: str) -> Finding | None:
    start, end = span
    value = view.plain[start:end].strip()
    start += len(view.plain[start:end]) - len(view.plain[start:end].lstrip())
    end = start + len(value)
    if not value or _EMPTY.fullmatch(value) or not any(map(str.isalnum, value)) or value.startswith("["):
        return None
    if _is_harmless(key, verdict, value, separator):
        return None
    kind = kind_under(verdict)
    text = view.text[start:end]
    exact = kind in (TextKind.SECRET, TextKind.SESSION)
    return view.found(start, end, kind, text if exact else identity_of(text, kind))


def _is_harmless(key: str, verdict: KeyVerdict, value: str, separator: str) -> bool:
    words = value.split()
    if (verdict.is_measure or verdict.is_kind) and re.fullmatch(r"[0-9.]{1,9}%?|[a-z_\-]{1,20}", value.lower()):
        return True
    if verdict.key_class is KeyClass.NETWORK and (
        is_public_host(value) or is_public_url(value) or (value.startswith("/") and is_plain_path(value))
    ):
        return True
    if (
        kind_under(verdict) is TextKind.PERSON
        and re.search("[_.]|[a-z][A-Z]", value)
        and " " not in value
        and is_known_words(value, 5)
    ):
        return True  # a tool or a function
    if kind_under(verdict) is TextKind.PERSON and " " not in value and verdict_on(value).key_class in _SENSITIVE:
        return True  # the name of a field
    if separator == "=":
        return False
    last = verdict.normal.split("_")[-1]
    if last in _SPEAKERS and separator == ":":
        return len(words) != 1 or (value.isalpha() and is_word(value.lower()))
    if separator == ":" and len(words) > 3 and last in _PROSE_KEYS and value[:1].islower():
        return sum(is_word(word.strip(".,;'\"").lower()) for word in words) == len(words)
    return separator == ":" and verdict.key_class is KeyClass.CREDENTIAL and value.lower() in _STATES


_STATES = listed(
    "required incorrect invalid wrong missing not too expired weak correct empty null set being stored hashed "
    "encrypted a an the in on "
    "never always only failed rejected denied unauthorized protected reset changed updated optional needed "
    "supported disabled enabled "
    "absent present leaked exposed redacted masked hidden removed provided given shown shared sent "
    "case-sensitive valid unknown one "
    "still also already no longer mandatory very about to of for and or that this which but if used using user "
    "your my his her their "
    "our its it authentication authorization based field fields error errors limit limits management manager "
    "policy policies protection "
    "reset resets rotation rules strength hash hashing verification recovery change generation generator handling storage"
)


def _verdict(key: str) -> tuple[str, KeyVerdict] | None:
    """The sensitive key at the end of up to four words, and the verdict on it."""
    if len(key) > MAX_KEY_LENGTH:
        return None
    words = key.split(" ")
    last = words[-1]
    if len(words) == 1:
        verdict = verdict_on(last)
        if verdict.key_class in _SENSITIVE:
            return last, verdict
        return _foreign(last)
    for count in (3, 2):
        if len(words) >= count and is_run(run := " ".join(words[-count:])):
            return run, verdict_on(run)
    verdict = verdict_on(last)
    if verdict.key_class not in _SENSITIVE:
        return _foreign(last)
    pair = verdict_on(" ".join(words[-2:]))
    return (last, pair) if pair.key_class in _SENSITIVE else None


def _foreign(word: str) -> tuple[str, KeyVerdict] | None:
    low = word.lower()
    if low in _OTHER:
        return word, KeyVerdict(low, _OTHER[low])
    if low in _OTHER_WORDS:
        return word, verdict_on("name" if low in _OTHER_NAMES else "contact")
    return None


_OTHER_NAMES = listed(
    "nombre apellido apellidos vorname nachname prénom prenom nom cognome nome sobrenome naam achternaam "
    "benutzername benutzer"
)
_RUN_TAILS = listed(
    "number no no. num id ids # code name names address key token phrase birth security plate licence license card record"
)


def is_run(words: str) -> bool:
    """Whether words parted by spaces are one key: `card number`, `date of birth`, `first name`; not `the user asked`."""
    last = words.rsplit(" ", 1)[-1].lower()
    if last not in _RUN_TAILS:
        return False
    verdict = verdict_on(words)
    return verdict.key_class in _SENSITIVE


_CLASS_NAME = re.compile(
    r"(?:Error|Exception|Warning|Fault|Failure|Response|Timeout|Expired|Refused|Denied|Invalid|NotFound|Exceeded)$"
)
"""Behind these stands what went wrong: `AuthenticationError: ...`."""


def _pairs(view: View, match: Match) -> Iterable[Finding]:
    key = view.plain[slice(*match.span(1))]
    known = None if _CLASS_NAME.search(key) else _verdict(key)
    if known is None:
        return
    end = match.end()
    separator = view.plain[match.end(1) : end].strip("\"'`)] \t")
    separator = ":" if separator.startswith(":") and separator != ":=" else "="
    key_start = match.start(1)
    if separator == ":" and _says_something(view, known[1], end):
        return
    is_quoted = key_start > 0 and view.plain[key_start - 1] in "\"'"
    line_start = view.plain.rfind("\n", max(0, key_start - 80), key_start) + 1
    lead = view.plain[line_start:key_start].strip(" \t-*>#\"'+|") if line_start or key_start < 80 else "x"
    is_line = not lead and not is_quoted
    yield from _all_judged(view, *known, end, separator, is_line=is_line)


_FUNCTION_WORDS = listed(
    "is was are were be been must should shall can cannot could would has have had does did do not no the a an "
    "this that these those it "
    "in of to for and or but if when where why how what which who there missing required invalid i you we they "
    "he she my your our please"
)


def _says_something(view: View, verdict: KeyVerdict, at: int) -> bool:
    """Whether a sentence follows a colon, not a value: `user: I would like a refund`, `address: the field is missing`."""
    line = _LINE.match(view.plain, at)
    words = [word.strip(".,;:!?'()") for word in (line[0] if line else "").split(" ") if word][:12]
    if len(words) < 3 or words[0][:1] in "\"'`[{<":
        return False
    if verdict.key_class is KeyClass.CREDENTIAL and words[0].lower() not in _FUNCTION_WORDS:
        return False
    known = sum(word.lower() in _FUNCTION_WORDS or (word.islower() and is_word(word)) for word in words)
    if verdict.normal.split("_")[-1] in _SPEAKERS:
        return bool(_FUNCTION_WORDS.intersection(word.lower() for word in words)) or known * 2 > len(words)
    return known == len(words) and bool(_FUNCTION_WORDS.intersection(word.lower() for word in words))


def _all_judged(view: View, key: str, verdict: KeyVerdict, at: int, separator: str, *, is_line: bool) -> Iterator[Finding]:
    for span in _value(view, at, key, verdict, separator, is_line=is_line):
        finding = _judged(view, key, verdict, span, separator)
        if finding is not None:
            yield finding


def _named_pair(view: View, match: Match) -> Iterable[Finding]:
    """`{"name": "email", "value": "..."}`, `["email", "..."]`, `('Authorization', '...')`."""
    key = view.plain[slice(*match.span(1))]
    known = _verdict(key)
    return _all_judged(view, *known, match.end(), "=", is_line=False) if known else ()


def _tag(view: View, match: Match) -> Iterable[Finding]:
    """`<email>...</email>`."""
    key = view.plain[slice(*match.span(1))]
    known = _verdict(key.rsplit(":", 1)[-1])
    if known is None:
        return ()
    finding = _judged(view, *known, match.span(2), "=")
    return (finding,) if finding else ()


_DELIMITERS = (",", "\t", "|", ";")
_HALVES_OF_NAMES = frozenset({"first", "last", "middle", "given", "family", "surname", "forename", "firstname", "lastname"})
"""Columns that hold people's names where there are two of them."""
_COLUMN_LABEL = re.compile(r"""(?=.{0,40}$)[^(){}\[\]=<>@;"]*(?:\([^(){}\[\]=<>@;"]*\))?[^(){}\[\]=<>@;"]*""")
"""What a column may be called. Neither `send(scope, sender)` nor `File "client.py", line 3, in handle` is a header."""


def _table(view: View, match: Match) -> Iterable[Finding]:
    """Rows below a header line: CSV, TSV, Markdown."""
    if match.start(1) < view.read_to.get("table", 0):
        return
    header = view.plain[slice(*match.span(1))]
    delimiter = max(_DELIMITERS, key=header.count)
    columns = [cell.strip(" \"'*`|") for cell in header.split(delimiter)]
    known = [_verdict(cell) if 0 < len(cell) <= 40 and len(cell.split(" ")) <= 3 else None for cell in columns]
    halves = [n for n, cell in enumerate(columns) if cell.lower() in _HALVES_OF_NAMES]
    if len(halves) > 1:
        for n in halves:
            known[n] = known[n] or _verdict("first name")
    if not any(known) or len(columns) < 2 or not all(map(_COLUMN_LABEL.fullmatch, columns)):
        return
    at = match.end(1) + 1
    for _ in range(500):
        stop = view.plain.find("\n", at)
        stop = len(view.plain) if stop < 0 else stop
        view.read_to["table"] = stop
        row = view.plain[at:stop]
        if row.count(delimiter) < 1 or not row.strip():
            return
        for n, (start, end) in enumerate(_cells(row, delimiter)):
            column = known[n] if n < len(known) else None
            if column is not None and (finding := _judged(view, *column, (at + start, at + end), "=")) is not None:
                yield finding
        at = stop + 1
        if at >= len(view.plain):
            return


def _cells(row: str, delimiter: str) -> Iterator[tuple[int, int]]:
    for cell in re.finditer(rf'(?:^|{re.escape(delimiter)})([ ]*"(?:[^"]|""){{0,500}}"|[^{re.escape(delimiter)}]*)', row):
        start, end = cell.span(1)
        inner = row[start:end]
        start += len(inner) - len(inner.lstrip(' "'))
        yield start, max(start, start + len(inner.strip(' "')))


_SQL_LITERAL = re.compile(r"'((?:[^'\\]|''|\\.){0,1000})'|\b[0-9]{3,}\b")


def _insert(view: View, match: Match) -> Iterable[Finding]:
    """`INSERT INTO users (name, email) VALUES ('...', '...')`: the literals of sensitive columns."""
    columns = [_verdict(column.strip(' `"[]')) for column in view.plain[slice(*match.span(1))].split(",")]
    tuples = re.compile(r"\s*,?\s*\(((?:'(?:[^'\\]|''|\\.){0,1000}'|[^()']){0,200})\)")
    at = match.end()
    while (row := tuples.match(view.plain, at)) is not None:
        start = row.start(1)
        for n, cell in enumerate(re.finditer(r"((?:'(?:[^'\\]|''|\\.)*'|[^,'])+)(?:,|$)", row[1])):
            column = columns[n] if n < len(columns) else None
            if column is not None:
                inner = cell[1].strip().strip("'")
                offset = start + cell.start(1) + cell[1].find(inner)
                finding = _judged(view, *column, (offset, offset + len(inner)), "=")
                if finding is not None:
                    yield finding
        at = row.end()


def _database_words(view: View, match: Match) -> Iterable[Finding]:
    """What databases and validators say of a row: `Key (email)=(...)`, `Duplicate entry '...'`, `input_value='...'`."""
    for group in range(1, 9):
        start, end = match.span(group)
        if start >= 0 and end > start and not view.plain[start:end].startswith("["):
            yield view.found(start, end, TextKind.WORD)
            return


# -- told in words --------------------------------------------------------------------------------------------------------

_CREDENTIAL_WORDS = (
    r"(?:pass ?(?:word|code|phrase|wd)|passwd|pwd|pin(?: code| number)?|otp|one[- ]time (?:code|password|pin|passcode)|"
    r"(?:security|verification|access|auth(?:entication)?|confirmation|activation|2fa|mfa|sms|login|door|gate|"
    r"entry|backup|recovery) (?:code|pin)|"
    r"cvv2?|cvc|api[ _-]?key|secret(?: key)?|access (?:key|token)|auth token|bearer "
    r"token|token|credentials?|private key|seed phrase|"
    r"recovery phrase|contrase[nñ]a|senha|passwort|kennwort|wachtwoord|mot de passe|the code|my code|code is)"
)
_LINK = (
    r"(?: (?:is|was|are|were|be|to|will be|would be|should be|set to|changed to|reset "
    r"to|equals|es|ist|est|é|now|currently|still|just|of|for|with|number|value|as|him|her|them|it|following|using|"
    r"used|their|my|your|on|account|the)){0,4}"
)


def _spoken(view: View, match: Match) -> Iterable[Finding]:
    """`my password is hunter2`, `PIN 4471`, `the code is 123456`."""
    link = view.plain[match.end(1) : match.start(2)].lower()
    start, end = match.span(2)
    value = view.plain[start:end]
    if value[:1] in "\"'`" and value[-1:] == value[:1]:
        start, end = start + 1, end - 1
    end = _trimmed(view.plain, start, end)
    value = view.plain[start:end]
    low = value.lower()
    key = view.plain[slice(*match.span(1))].lower()
    if not value or low in _STATES or value.startswith("[") or not any(map(str.isalnum, value)):
        return ()
    has_digit = any(map(str.isdigit, value))
    is_plain = (value.isalpha() and is_word(low)) or is_known_words(value, 5)
    says = re.search(r"\b(?:is|was|to|are|=|:|es|ist|est|be)\b|[:=]", link) is not None
    if "code" in key or key in ("pin", "otp", "cvv", "cvv2", "cvc"):
        if not re.search("[0-9]", value) or (len(value) < 3 and value.isdigit()) or not (says or key != "code is"):
            return ()
    elif (
        (not says and not (has_digit and not is_plain and len(value) >= 4))
        or (says and is_plain and not re.search(r"pass|pwd|senha|contrase|wort|mot de", key))
        or (says and is_plain and low.endswith(("ed", "ing", "ly", "ble", "able")))
    ):
        return ()
    if "token" in key and value.replace(",", "").isdigit():
        return ()
    return (view.found(start, end, TextKind.SECRET, view.text[start:end]),)


_NOUNS = (
    r"(?:user(?:name)?|usr|login|account|acct|customer|cust|client|member|handle|nick(?:name)?|profile|player|patient|employee|emp|"
    r"subscriber|student|tenant|contact|lead|person|guest|driver|passenger|order|ticket|case|invoice|inv|booking|reservation|policy|"
    r"claim|contract|session|sess|conversation|thread|record|mrn|chart|loyalty|membership|insurance|subscription|shipment|tracking|confirmation)"
)


def _record(view: View, match: Match) -> Iterable[Finding]:
    """`user bob_77`, `customer #10442`, `order 8842`, `cust_19283`: the number of one record of many."""
    start, end = match.span(2)
    end = _trimmed(view.plain, start, end)
    value = view.plain[start:end]
    noun = view.plain[slice(*match.span(1))].lower()
    joint = view.plain[match.end(1) : start]
    if not re.search("[0-9]", value):
        if (
            "_" not in value
            or is_known_words(value, 6)
            or not noun.startswith(("user", "login", "account", "handle", "nick", "profile"))
        ):
            return ()
    elif value.isdigit():
        if len(value) < 3 or re.match(
            r"[ \-]?(?:%|ms|s\b|tokens?|chars|times|rows|records|requests|users|items|days|hours|minutes)", view.after(end)
        ):
            return ()
        if re.match(r"[.,:][0-9]", view.after(end)):
            return ()
    elif is_plain_chunk(value) and len(re.sub("[^0-9]", "", value)) < 3 and not joint.strip(" "):
        return ()
    if re.fullmatch(r"(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}", value):
        return ()
    kind = TextKind.SESSION if noun.startswith(("sess", "conv", "thread")) else TextKind.USER
    begin = start if joint.strip() != "" or " " in joint else match.start(1)
    return (view.found(begin, end, kind, value.casefold()),)


def _short_record(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    value = view.plain[start:end]
    if RECORD_NUMBER.search(value) is None or is_word(value.lower()):
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
_PAPER_VALUE = re.compile(r"[0-9A-Za-z](?:[ \-./]?[0-9A-Za-z]){2,22}")


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
    end = _trimmed(view.plain, begin, end)
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


def _flag(view: View, match: Match) -> Iterable[Finding]:
    """`--password hunter2`, `-u bob`."""
    key = view.plain[slice(*match.span(1))].lstrip("-")
    verdict = verdict_on({"u": "user", "p": "password"}.get(key, key))
    start, end = match.span(2)
    if verdict.key_class not in _SENSITIVE or verdict.is_measure or view.plain[start] in "[-":
        return ()
    if (
        key in ("u", "p")
        and re.search(
            r"\b(?:mysql|psql|curl|ssh|mongo|redis-cli|sqlcmd|docker login|mysqldump|sshpass|ftp)\b",
            view.before(match.start(), 80),
        )
        is None
    ):
        return ()
    finding = _judged(view, key, verdict, (start, end), "=")
    return (finding,) if finding else ()


_SENSITIVE_ROOTS = "|".join(
    sorted(
        {word for _, words in SENSITIVE_WORDS for word in words.split() if len(word) > 2}
        | {root for _, roots in _ROOTS for root in roots.split("|")}
        | {run.split()[0] for _, runs in SENSITIVE_RUNS for run in runs.split("|")}
        | {word for word in (*_OTHER_WORDS, *_OTHER) if len(word) > 2}
        | {"name"}
    )
)
_KEY = rf"[{LETTER}_$][{LETTER}0-9_.\-$]*"
_SEPARATOR = r"[\"'`)\]]{0,3}[ \t]{0,4}(?::=|=>|==?|:)"
_ANY_SENSITIVE = (
    rf"(?i)(?:{_SENSITIVE_ROOTS}|\b(?:ip|ua|tel|pin|mac|sid|lat|lon|lng|zip|geo|dob|pii)\b|_(?:ip|id)\b|[iI][pP]\b|\bnom\b)"
)

DETECTORS: tuple[Detector, ...] = (
    Detector(
        "flag",
        r"(?:^|[\s\"'])(--?[A-Za-z][A-Za-z\-_]{0,40})[ \t]{1,3}[\"']?([^\s\"']{1,200})",
        _flag,
        gate=r"(?:^|[\s\"'])--?(?i:[a-z\-]*(?:pass|token|secret|key|user|auth|login|email|name|pwd)|u|p)[a-z\-]*[ \t]",
    ),
    Detector(
        "named_pair",
        r"(?i)[\"']?(?:name|key|field|header|attribute|property|label|column|param)[\"']?\s{0,3}[:=]\s{0,3}[\"']([^\"'\n]{1,60})[\"']\s{0,3},\s{0,3}[\"']?(?:value|val|values|data|text)[\"']?\s{0,3}[:=]",
        _named_pair,
    ),
    Detector("listed_pair", r"[\[(]\s{0,3}b?[\"']([A-Za-z][A-Za-z0-9_.\- ]{0,60})[\"']\s{0,3},", _named_pair),
    Detector(
        "tag",
        rf"<([{LETTER}][{LETTER}0-9_.:\-]{{0,40}})(?:\s[^<>]{{0,200}})?>([^<]{{1,500}})</",
        _tag,
        gate=r">[^<]{1,500}</",
    ),
    Detector(
        "table",
        r"(?:^|\n)([^\n]{2,600})\n[^\n]*[,\t|;][^\n]*",
        _table,
        gate=rf"(?:^|\n)[^\n]{{0,400}}{_ANY_SENSITIVE}[^\n]{{0,400}}\n",
    ),
    Detector("insert", r"(?i)\binsert\s+(?:into|or)\s+[^()]{1,120}\(([^()]{1,600})\)\s{0,8}values", _insert),
    Detector(
        "database_words",
        r"(?i)\bkey \([^()\n]{1,200}\)=\(([^\n]{1,500}?)\)(?: |$|\n)|failing row contains "
        r"\(([^\n]{1,1000})\)|duplicate entry '([^\n]{1,300}?)' for key"
        r"|\[parameters: ([^\n]{1,1000})\]|input_value=('(?:[^'\\\n]|\\.){0,500}'|\"[^\"\n]{0,500}\"|[^\s,\]]{1,200})"
        r"|invalid input syntax for [^\n:]{1,60}: \"([^\"\n]{1,300})\"|incorrect [a-z]{1,20} value: '([^'\n]{1,300})'",
        _database_words,
        gate=r"(?i)\)=\(|failing row|duplicate entry|\[parameters:|input_value=|invalid input syntax|incorrect [a-z]+ value",
    ),
    Detector(
        "pair",
        rf"(?:^|[^{LETTER}0-9_])({_KEY}(?: [{LETTER}0-9_.\-#']+){{0,3}}){_SEPARATOR}",
        _pairs,
        gate=rf"{_ANY_SENSITIVE}[{LETTER}0-9_.\-]*(?: [{LETTER}0-9_.#]+)?{_SEPARATOR}",
    ),
    Detector(
        "spoken",
        rf"(?i)(?:^|[^{LETTER}0-9_\-])({_CREDENTIAL_WORDS}){_LINK}[ "
        rf":=\-]{{1,3}}(\"[^\"\n]{{1,100}}\"|'[^'\n]{{1,100}}'|`[^`\n]{{1,100}}`|[^\s,;\"'<>()]{{1,100}})",
        _spoken,
        gate=rf"(?i)(?:^|[^{LETTER}0-9_\-]){_CREDENTIAL_WORDS}",
    ),
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
    ),
    Detector("short_record", r"(?:^|[^0-9A-Za-z_.\-/])([A-Za-z]{1,2}[\-_#][0-9]{3,12})(?:$|[^0-9A-Za-z_])", _short_record),
)
