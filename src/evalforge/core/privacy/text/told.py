"""Passwords and other secrets that are told in words: `my password is hunter2`, `PIN 4471`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evalforge.core.privacy.text.assignments import STATES, phrase_end, trimmed
from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View, whole
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.vocabulary import is_known_words, is_word

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


_DAY = re.compile(r"(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}")


def _spoken(view: View, match: Match) -> Iterable[Finding]:
    """`my password is hunter2`, `PIN 4471`, `the code is 123456`."""
    link = view.plain[match.end(1) : match.start(2)].lower()
    start, end = match.span(2)
    value = view.plain[start:end]
    if value[:1] in "\"'`" and value[-1:] == value[:1]:
        start, end = start + 1, end - 1
    end = trimmed(view.plain, start, end)
    value = view.plain[start:end]
    low = value.lower()
    key = view.plain[slice(*match.span(1))].lower()
    if not value or low in STATES or value.startswith("[") or not any(map(str.isalnum, value)) or _DAY.match(value):
        return ()
    if value[-1] in "([":
        return ()  # code: a call, or what stands in a mapping
    if value.isalpha() and "pass" in key:
        end = phrase_end(view.plain, start, end)
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


# -- passwords near a word for them ---------------------------------------------------------------------------------------

_NEAR_WORDS = (
    r"(?:pass ?(?:words?|codes?|phrases?|wd)|passwd|pwd|credentials?|creds|log ?ins?|logged in|log in|sign in|wi-?fi|ssid|"
    r"secret (?:answer|question|word)|security answer|default (?:user|account)|contrase[nñ]as?|senhas?|passw[oö]rt(?:er)?|"
    r"kennwort|wachtwoord|mot de passe|mdp|parola|has[l\xaa]o|heslo|jelsz[o\xf3\xaa]|salasana|l[o\xf6]senord|adgangskode|"
    r"[s\xaa]ifre|lozinka|geslo|kata sandi|m[a\xaa]t kh[a\xaa]u)"
)
"""A word for a password in languages of the Latin script, as the shadow of a text shows it: `\\xaa` for rarer letters."""

_OTHER_SCRIPTS = re.compile("парол|κωδικ|パスワード|密码|密碼|비밀번호|รหัสผ่าน|पासवर्ड|كلمة|סיסמ", re.IGNORECASE)
_REACH = 70
"""Characters before and behind a word for a password in which one may stand."""
_CANDIDATE = re.compile(r"[^\s,;=\"'`<>()\[\]{}|]{5,64}")
_ENDS_OF_TOKENS = ".,:;!?/-"
_MADE_UP = re.compile(r"(?=.*[A-Za-z])(?:.*[0-9].*[0-9]|.*[0-9A-Za-z][!#$%^&*@~+?_]+[0-9A-Za-z].*|.*[0-9][!#$%^&*~]$)")
_IDENTIFIER = re.compile(r"[a-z]+(?:_[a-z]+)+|[A-Z]+(?:_[A-Z]+)+|[a-z]{1,4}[0-9]{1,3}|[A-Z]{1,8}-?[0-9]{1,4}|v[0-9][0-9.]*")


_PRODUCT = re.compile(r"[A-Za-z]{3,12}[ \-]?[0-9]{1,2}")


def is_made_up(token: str) -> bool:
    """Whether a token looks like a password that somebody made up: letters with digits or signs, and no identifier."""
    if _MADE_UP.match(token) is None or _IDENTIFIER.fullmatch(token) is not None or is_word(token.lower()):
        return False
    if "://" in token or token.count("/") > 1 or "@" in token[1:] or token[0] in "[<$%{":
        return False
    letters = re.sub("[^A-Za-z]+", " ", token).split()
    if _PRODUCT.fullmatch(token) is not None and is_word(letters[0].lower()):
        return False
    return not ("_" in token and all(is_word(part.lower()) for part in letters) and not re.search("[0-9]{2}", token))


def _near(view: View, match: Match) -> Iterable[Finding]:
    """Every made-up token near a word for a password, before or behind it: `log in with admin and sunflower7913 as ...`."""
    start, end = match.start(1), match.end(1)
    begin = max(view.read_to.get("told", 0), start - _REACH)
    stop = min(len(view.plain), end + _REACH)
    view.read_to["told"] = stop
    for token in _CANDIDATE.finditer(view.plain, begin, stop):
        last = token.end()
        while last > token.start() and view.plain[last - 1] in _ENDS_OF_TOKENS:
            last -= 1
        at = token.start()
        if last == stop < len(view.plain) or (at == begin > 0 and not view.plain[at - 1].isspace()):
            continue  # cut by the reach
        if is_made_up(view.plain[at:last]):
            yield view.found(at, last, TextKind.SECRET, view.text[at:last])


def _near_other(view: View, match: Match) -> Iterable[Finding]:
    """The same behind a word for a password in another script: `пароль: sunflower!2349`."""
    start, end = match.span(1)
    return _near(view, match) if _OTHER_SCRIPTS.search(view.text, start, end) is not None else ()


_ACCOUNTS = r"(?:admin|administrator|root|sysadmin|superuser|guest|postgres|oracle|ubuntu|ec2-user|sa)"


def _beside_account(view: View, match: Match) -> Iterable[Finding]:
    """`admin:admin123`, `root / qwerty#8147`."""
    start, end = match.span(1)
    end = trimmed(view.plain, start, end)
    value = view.plain[start:end]
    is_password = "/" not in value and (is_made_up(value) or _NAME_AND_DIGITS.fullmatch(value) is not None)
    return (view.found(start, end, TextKind.SECRET, view.text[start:end]),) if is_password else ()


_NAME_AND_DIGITS = re.compile(r"[A-Za-z]{3,20}[0-9]{2,8}")


def _bracketed(view: View, match: Match) -> Iterable[Finding]:
    """`password (hunter2)`; `leaks the password "sunshine"`, but not `the password "field"`."""
    start, end = match.span(1)
    value = view.plain[start:end]
    low = value.lower()
    if low in STATES or value.startswith("[") or not any(map(str.isalnum, value)) or "/" in value or "<" in value:
        return ()
    is_plain = value.isalpha() and is_word(low)
    if is_plain and _TELLING.search(view.before(match.start(), 60)) is None:
        return ()
    if is_known_words(value, 5) and not is_plain:
        return ()
    return (view.found(start, end, TextKind.SECRET, view.text[start:end]),)


_TELLING = re.compile(
    r"leak|reveal|expos|disclos|echo|print|said|says|told|tell|show|wrote|includ|contain|repeat|guess|typed|used|entered"
)


def _attached(view: View, match: Match) -> Iterable[Finding]:
    """`mysql -uroot -pDragon_4581`."""
    start, end = match.span(1)
    return (view.found(start, end, TextKind.SECRET, view.text[start:end]),)


def _answer(view: View, match: Match) -> Iterable[Finding]:
    """`security answer: Fluffy`, `the secret answer is blue`."""
    start, end = match.span(1)
    end = phrase_end(view.plain, start, trimmed(view.plain, start, end))
    value = view.plain[start:end]
    if not value or value.lower() in STATES or value.startswith("["):
        return ()
    return (view.found(start, end, TextKind.SECRET, view.text[start:end]),)


# -- phrases of many words ------------------------------------------------------------------------------------------------

_LEAST_WORDS = 12
"""Words of the shortest seed phrase. Source: https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki"""
_FUNCTION_WORDS = frozenset(
    "the and for you your are was were with that this from have has had not but can will would could should may might must "
    "its our their his her they them then than when where which who whom what why how into onto over under about after "
    "before because while does did doing done been being there here also only very more most less least some any all each "
    "both such own same too just".split()
)


def _seed_phrase(view: View, match: Match) -> Iterable[Finding]:
    """Twelve words in a row without a single one that holds a sentence together: the key of somebody's wallet."""
    start, end = match.span(1)
    words = view.plain[start:end].replace(",", " ").split()
    if _NO_SEED_WORDS.intersection(words) or len(set(words)) * 3 < len(words) * 2:
        return ()
    return (view.found(start, end, TextKind.SECRET),)


def _called_phrase(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    words = view.plain[start:end].replace(",", " ").split()
    return () if len(_FUNCTION_WORDS.intersection(words)) * 6 > len(words) else (view.found(start, end, TextKind.SECRET),)


_PHRASE_WORDS = r"(?:seed|recovery|mnemonic|backup|wallet)"
_SEED_WORD = r"[a-z]{3,8}[ ,\n]{1,2}"
_NUMBER_WORDS = "zero|oh|one|two|three|four|five|six|seven|eight|nine"
_NO_SEED_WORDS = _FUNCTION_WORDS | frozenset(_NUMBER_WORDS.split("|"))

DETECTORS: tuple[Detector, ...] = (
    Detector(
        "spoken",
        rf"(?i)(?:^|[^{LETTER}0-9_\-])({_CREDENTIAL_WORDS}){_LINK}[ "
        rf":=\-]{{1,3}}(\"[^\"\n]{{1,100}}\"|'[^'\n]{{1,100}}'|`[^`\n]{{1,100}}`|[^\s,;\"'<>()]{{1,100}})",
        _spoken,
        gate=rf"(?i)(?:^|[^{LETTER}0-9_\-]){_CREDENTIAL_WORDS}",
    ),
    Detector(
        "pin_in_words",
        rf"(?i)\b(?:pin|code|otp|passcode)(?: code| number)?(?: is| was|:)?[ ]{{1,2}}"
        rf"((?:(?:{_NUMBER_WORDS})[ \-]{{1,2}}){{3,7}}(?:{_NUMBER_WORDS}))\b",
        whole(TextKind.SECRET, 1),
        gate=rf"(?i)\b(?:pin|code|otp|passcode)[ :a-z]{{0,12}} (?:{_NUMBER_WORDS})[ \-]",
    ),
    Detector(
        "second_code",
        r"(?i)\b(?:pin|otp|cvv|passcode)\b[^\n]{0,40}\bcode[ :=]{1,3}([0-9]{4,8})(?:$|[^0-9])",
        whole(TextKind.SECRET, 1),
        gate=r"(?i)\bcode[ :=]{1,3}[0-9]{4}",
    ),
    Detector(
        "answer",
        r"(?i)\b(?:secret|security) (?:answer|word)(?: to [a-z' ]{1,40})?(?: is| was|:| =)[ ]{1,3}[\"']?"
        r"([^\s,;.!?\"']{2,60})",
        _answer,
        gate=r"(?i)(?:secret|security) (?:answer|word)",
    ),
    Detector(
        "near_password",
        rf"(?i)(?:^|[^{LETTER}0-9_])({_NEAR_WORDS})",
        _near,
    ),
    Detector(
        "near_password_other_scripts", r"(\xaa{2,20})[^\n]{1,80}[0-9A-Za-z]", _near_other, gate=r"\xaa{2}[\xaa ]*[ :=]"
    ),
    Detector(
        "bracketed",
        r"(?i)\b(?:pass ?(?:word|code|phrase)|passwd|pwd)s?[ ]{0,2}(?:\(|\"|'|`|\xab)([^\s\"'`()]{4,40})(?:\)|\"|'|`|\xbb)",
        _bracketed,
    ),
    Detector(
        "beside_account",
        rf"(?i)(?:^|[\s\"'(=]){_ACCOUNTS}[ ]{{0,2}}[:/][ ]{{0,2}}([^\s,;\"'<>()\[\]{{}}]{{4,64}})",
        _beside_account,
    ),
    Detector(
        "attached_password",
        r"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^\n]{0,80}? -p([^\s\"']{3,64})",
        _attached,
        gate=r"(?:mysql|mariadb)[^\n]* -p",
    ),
    Detector(
        "called_phrase",
        rf"(?i)\b{_PHRASE_WORDS}(?: (?:phrase|words?|code|key|is|was))*[ :=\-]{{1,3}}[\"']?"
        r"((?:[a-z]{3,8}[ ,]{1,2}){5,23}[a-z]{3,8})",
        _called_phrase,
        gate=rf"(?i)\b{_PHRASE_WORDS}\b",
    ),
    Detector(
        "seed_phrase",
        rf"(?:^|[^a-z'\-])((?:{_SEED_WORD}){{{_LEAST_WORDS - 1},23}}[a-z]{{3,8}})(?:$|[^a-z'\-])",
        _seed_phrase,
        gate=_SEED_WORD * (_LEAST_WORDS - 1) + "[a-z]{3,8}",
    ),
)
