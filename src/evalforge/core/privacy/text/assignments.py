"""Values that stand behind their name: key=value, JSON, headers, tags, tables, SQL, and passwords that are told in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from evalforge.core.privacy.keys import (
    _ROOTS,
    MAX_KEY_LENGTH,
    SENSITIVE_RUNS,
    SENSITIVE_WORDS,
    KeyClass,
    KeyVerdict,
    verdict_on,
)
from evalforge.core.privacy.sensitive import SHAPED_KINDS, identity_of, kind_under
from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind, is_text_mark
from evalforge.core.privacy.text.network import is_plain_path, is_public_host, is_public_url
from evalforge.core.privacy.vocabulary import is_known_words, is_word, listed

SENSITIVE = frozenset(KeyClass) - {KeyClass.TEXT, KeyClass.HARMLESS}
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
        yield at, trimmed(plain, at, end)
        return
    yield at, _value_end(plain, at, key, verdict, is_line=is_line)


def _value_end(plain: str, at: int, key: str, verdict: KeyVerdict, *, is_line: bool) -> int:
    """Where a value without quotes ends behind a colon: at the end of a header's line, else as soon as it may."""
    kind = kind_under(verdict)
    if verdict.key_class in (KeyClass.CREDENTIAL, KeyClass.NETWORK) or kind in (TextKind.SESSION, TextKind.USER):
        if kind is TextKind.SECRET and is_line and _is_header(key):
            header = _HEADER_VALUE.match(plain, at)
            if header is not None:
                return trimmed(plain, at, header.end())
        bare = _BARE.match(plain, at)
        end = trimmed(plain, at, bare.end()) if bare else at
        return phrase_end(plain, at, end) if verdict.key_class is KeyClass.CREDENTIAL else end
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
    return trimmed(plain, at, end)


_HEADER_VALUE = re.compile(
    r"[^\s=;,\"']{1,200}=[^\n;,\"']{0,2000}(?:;[ ]{0,2}[^\s=;,\"']{1,200}(?:=[^\n;,\"']{0,2000})?){0,50}"  # cookies
    r"|(?i:bearer|basic|digest|negotiate|token|apikey|hmac|aws4-hmac-sha256)[ ]{1,3}[^\s,;\"'<>]{1,2000}"
    r"(?:[,;] ?[A-Za-z]{1,40}=[^\s,;]{0,2000}){0,20}"
)
"""What stands behind the name of a header: cookies, or a scheme and its credentials."""

_PASS_PHRASE = re.compile(r"[a-z]{2,20}(?: [a-z]{2,20}){2,7}(?=[ \t]{0,3}(?:[.,;:!?\n\r)\"']|$))")


def phrase_end(plain: str, at: int, end: int) -> int:
    """The end of a passphrase of plain words that begins at `at`: `correct horse battery staple`."""
    phrase = _PASS_PHRASE.match(plain, at) if plain[at:end].islower() and plain[at:end].isalpha() else None
    words = phrase[0].split() if phrase is not None else []
    has_verb = any(word.endswith(("ed", "ing", "ly")) for word in words)
    is_sentence = has_verb or len(STATES.intersection(words)) * 3 > len(words)
    if phrase is None or is_sentence or not _FUNCTION_WORDS.isdisjoint(words):
        return end
    return phrase.end()


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


def trimmed(plain: str, start: int, end: int) -> int:
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


def judged(view: View, key: str, verdict: KeyVerdict, span: tuple[int, int], separator: str) -> Finding | None:
    start, end = span
    value = view.plain[start:end].strip()
    start += len(view.plain[start:end]) - len(view.plain[start:end].lstrip())
    end = start + len(value)
    if not value or _EMPTY.fullmatch(value) or not any(map(str.isalnum, value)) or value.startswith("["):
        return None
    if _is_harmless(key, verdict, value, separator) or _is_code(value, view.plain[end : end + 1]):
        return None
    kind = kind_under(verdict)
    text = view.text[start:end]
    exact = kind in (TextKind.SECRET, TextKind.SESSION)
    return view.found(start, end, kind, text if exact else identity_of(text, kind))


_CODE_WORDS = listed(
    "await async new null none nil true false undefined void function func def lambda yield return typeof instanceof self "
    "this int str bool float double dict list set tuple bytes any object string number boolean optional union literal "
    "array record promise uuid datetime date decimal"
)
_REFERENCE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def _is_code(value: str, next_char: str) -> bool:
    """Whether a value is a keyword, a type, a call or an index: `user = await ...`, `user_id: int`, `token = issue(...)`."""
    if value.lower() in _CODE_WORDS:
        return True
    return next_char in ("(", "[") and _REFERENCE.fullmatch(value) is not None and not re.search("[0-9]{2}", value)


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
    if kind_under(verdict) is TextKind.PERSON and " " not in value and verdict_on(value).key_class in SENSITIVE:
        return True  # the name of a field
    if separator == "=":
        return False
    first = words[0].strip(".,;:!?").lower()
    if kind_under(verdict) in SHAPED_KINDS and not any(map(str.isdigit, value)) and "@" not in value:
        known = sum(is_word(word.strip(".,;:!?'\"()").lower()) for word in words)
        return known == len(words) or (known > 1 and known * 3 >= len(words) * 2)
    if len(words) == 1 and (first in _FUNCTION_WORDS or (verdict.key_class is KeyClass.NETWORK and is_word(first))):
        return True
    last = verdict.normal.split("_")[-1]
    if last in _SPEAKERS and separator == ":":
        return len(words) != 1 or (value.isalpha() and is_word(value.lower()))
    if separator == ":" and len(words) > 3 and last in _PROSE_KEYS and value[:1].islower():
        return sum(is_word(word.strip(".,;'\"").lower()) for word in words) == len(words)
    return separator == ":" and verdict.key_class is KeyClass.CREDENTIAL and value.lower() in STATES


STATES = listed(
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


def named_key(key: str) -> tuple[str, KeyVerdict] | None:
    """The sensitive key at the end of up to four words, and the verdict on it."""
    if len(key) > MAX_KEY_LENGTH:
        return None
    words = key.split(" ")
    last = words[-1]
    if last.isdigit():
        return None  # `session 50`
    if len(words) == 1:
        verdict = verdict_on(last)
        if verdict.key_class in SENSITIVE:
            return last, verdict
        return _foreign(last)
    for count in (3, 2):
        if len(words) >= count and is_run(run := " ".join(words[-count:])):
            return run, verdict_on(run)
    verdict = verdict_on(last)
    if verdict.key_class not in SENSITIVE:
        return _foreign(last)
    pair = verdict_on(" ".join(words[-2:]))
    return (last, pair) if pair.key_class in SENSITIVE else None


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
    return verdict.key_class in SENSITIVE


_CLASS_NAME = re.compile(
    r"(?:Error|Exception|Warning|Fault|Failure|Response|Timeout|Expired|Refused|Denied|Invalid|NotFound|Exceeded)$"
)
"""Behind these stands what went wrong: `AuthenticationError: ...`."""


def _pairs(view: View, match: Match) -> Iterable[Finding]:
    key = view.plain[slice(*match.span(1))]
    known = None if _CLASS_NAME.search(key) else named_key(key)
    if known is None or is_text_mark(f"[{key.rsplit(' ', 1)[-1]}]"):
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
        finding = judged(view, key, verdict, span, separator)
        if finding is not None:
            yield finding


def _named_pair(view: View, match: Match) -> Iterable[Finding]:
    """`{"name": "email", "value": "..."}`, `["email", "..."]`, `('Authorization', '...')`."""
    key = view.plain[slice(*match.span(1))]
    known = named_key(key)
    return _all_judged(view, *known, match.end(), "=", is_line=False) if known else ()


def _tag(view: View, match: Match) -> Iterable[Finding]:
    """`<email>...</email>`."""
    key = view.plain[slice(*match.span(1))]
    known = named_key(key.rsplit(":", 1)[-1])
    if known is None:
        return ()
    finding = judged(view, *known, match.span(2), "=")
    return (finding,) if finding else ()


def _flag(view: View, match: Match) -> Iterable[Finding]:
    """`--password hunter2`, `-u bob`."""
    key = view.plain[slice(*match.span(1))].lstrip("-")
    verdict = verdict_on({"u": "user", "p": "password"}.get(key, key))
    start, end = match.span(2)
    if verdict.key_class not in SENSITIVE or verdict.is_measure or view.plain[start] in "[-":
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
    finding = judged(view, key, verdict, (start, end), "=")
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
ANY_SENSITIVE = (
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
        "pair",
        rf"(?:^|[^{LETTER}0-9_])({_KEY}(?: [{LETTER}0-9_.\-#']+){{0,3}}){_SEPARATOR}",
        _pairs,
        needs=":=",
        gate=rf"{ANY_SENSITIVE}[{LETTER}0-9_.\-]*(?: [{LETTER}0-9_.#]+)?{_SEPARATOR}",
    ),
)
