"""What a key says about its value: the one table of keys whose values are hashed, dropped or closed.

A key is split into words at dots, dashes, underscores and capitals, and whole words are compared: `access_token` is a
credential, `max_tokens` and `tokenizer` are not. Lower-cased compounds such as `useremail` are found by their roots.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from evalforge.core.privacy.vocabulary import is_name, is_word, keys_of_languages, listed, pieces

MAX_KEY_LENGTH = 200


class KeyClass(StrEnum):
    """What becomes of the value. All but the last two are dropped with their key, and counted under this name."""

    USER_ID = "user_id"
    USER_ATTRIBUTE = "user_attribute"
    SESSION = "session"
    CREDENTIAL = "credential"
    CONTACT = "contact"
    NETWORK = "network"
    IDENTIFIER = "identifier"
    PII = "pii"
    TEXT = "text"
    """The key stays; the value is closed: a placeholder of its kind and length."""
    HARMLESS = "harmless"
    """The key says nothing personal: the value's own rule decides."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyVerdict:
    """The class of a key, its normal form, and whether its last word names a measure or a kind.

    Under a measure (`session_count`, `email_sent`) numbers and booleans are no personal data whatever the other words say;
    under a kind (`auth_method`, `ip_version`) words of the vocabulary are not. `is_text`: what somebody wrote stands there,
    not what they are called (`user_message`, `email_body`); closed all the same, but it may be allow-listed.
    `is_count`: the last word is a plural (`password_resets`), so a number there is how many. `names_one`: the last word is
    that of one thing's number, age or rank (`user.age`, `session_id`), so a number there is no score. `is_numbered`: one
    record of many, which is no known machine's (`lead_id`, `order_number`): no number and no word says only what it is.
    """

    normal: str
    key_class: KeyClass
    is_measure: bool = False
    is_kind: bool = False
    is_text: bool = False
    is_count: bool = False
    names_one: bool = False
    is_numbered: bool = False


_C = KeyClass

# One row per class: single words, then runs of words. Order matters where two rows claim a key: the first wins.
SENSITIVE_WORDS: tuple[tuple[KeyClass, str], ...] = (
    (
        _C.PII,
        "pii phi spi gdpr ethnicity religion religious denomination political politics diagnosis diagnoses disability "
        "pregnancy marital",
    ),
    (
        _C.CREDENTIAL,
        "password passwords passwd pwd pass passphrase passcode pin otp totp secret secrets token credential "
        "credentials cred creds auth authorization authenticate authentication bearer jwt cookie cookies setcookie "
        "csrf xsrf csrftoken xsrftoken apikey apikeys appkey privatekey accesskey secretkey signingkey accesstoken "
        "refreshtoken authtoken idtoken dsn keystore mnemonic signature sas saml assertion pincode mfa",
    ),
    (_C.SESSION, "session sessions sess sid xsession jsessionid phpsessid sessionid conversationid threadid"),
    (
        _C.CONTACT,
        "email emails mail mails phone phones mobile tel telephone msisdn fax cell address addresses addr street "
        "city cities town location locations geolocation residence municipality suburb village hometown plz zip zipcode "
        "postal postcode geo geoip gps lat lon lng latitude longitude coordinates coords "
        "whatsapp skype telegram wechat",
    ),
    (
        _C.NETWORK,
        "ip ips ipv ipaddr ipaddress iplist mac host hostname fqdn useragent ua url urls uri uris href referer referrer "
        "forwarded xff remoteaddr peer querystring",
    ),
    (
        _C.IDENTIFIER,
        "ssn sin nin nino nhs cnp cpf cnpj curp aadhaar passport iban bic pan cvv cvc cvv2 card cards creditcard "
        "imei imsi iccid idfa idfv gaid aaid vin wallet account accounts acct udid dni nie rut bsn pesel tin mrn muid cc "
        "ccnumber medicare medicaid principal serialnumber",
    ),
    (
        _C.USER_ATTRIBUTE,
        "user users usr usrs enduser endusers username userid usrid login handle firstname lastname fullname "
        "displayname givenname familyname middlename surname nickname forename maiden dob birth birthday birthdate "
        "birthplace birthyear gender sex race salary person persons people patient "
        "patients customer customers client clients member members subscriber subscribers employee employees "
        "candidate applicant student caller callee sender recipient recipients contact contacts cardholder guardian "
        "spouse visitor visitors actor customername contactname submitter requester requestor reporter assignee "
        "reviewer approver author guest guests attendee attendees participant participants passenger passengers payee "
        "beneficiary signatory claimant policyholder borrower donor resident physician doctor nurse born bday nationality",
    ),
)
SENSITIVE_RUNS: tuple[tuple[KeyClass, str], ...] = (
    (_C.NETWORK, "user agent|query string|url details|remote addr|remote address|client address|peer address|x real"),
    (_C.PII, "blood type|blood group|sexual orientation|union membership"),
    (_C.USER_ID, "user id|usr id|enduser id|end user id|user uuid|user uid"),
    (
        _C.CREDENTIAL,
        "verification code|verify code|one time code|recovery code|recovery codes|backup code|backup codes|oauth code|"
        "code verifier|seed phrase|gh pat|access code|login code|reset code|invite code|auth code|database url|db url|"
        "api key|api keys|app key|application key|private key|access key|secret key|signing key|encryption key|"
        "security answer|secret answer|maiden name|pet name|client secret|connection string|conn str|connection "
        "uri|shared key|service key|license key|master key|"
        "ssh key",
    ),
    (_C.SESSION, "conversation id|ai conversation|thread id|chat id|dialog id|dialogue id|conversation uuid|thread ts"),
    (
        _C.IDENTIFIER,
        "national id|tax id|license number|licence number|license plate|licence plate|driver license|driving licence|"
        "driver licence|device id|device uuid|advertising id|ad id|anonymous id|profile id|subject id|actor id|member id|"
        "device serial|hardware id|vat id|vat number|health id|policy holder|id card|cc number|card number|installation id|"
        "fingerprint id|distinct id|principal id|lead id|android id|client reference|"
        "routing number|sort code|social security|date of birth|insurance number|medical record|number plate|bank account",
    ),
    (
        _C.USER_ATTRIBUTE,
        "end user|first name|last name|full name|display name|given name|family name|middle name|holder name|nick name|"
        "sur name|legal name|screen name|account name|created by|updated by|modified by|submitted by|requested by|"
        "assigned to|reported by|reviewed by|approved by|owner id",
    ),
)
_ROOTS: tuple[tuple[KeyClass, str], ...] = (
    (
        _C.CREDENTIAL,
        "password|passwd|passphrase|credential|apikey|privatekey|secretkey|accesskey|accesstoken|authtoken|bearer|cookie|clientsecret",
    ),
    (_C.SESSION, "sessionid|conversationid"),
    (
        _C.CONTACT,
        "email|phonenumber|telephone|mobilenumber|zipcode|postalcode|postcode|streetaddress|homeaddress|postaladdress|latitude|longitude",
    ),
    (_C.NETWORK, "ipaddress|useragent|hostname"),
    (_C.IDENTIFIER, "creditcard|cardnumber|passport|accountnumber|socialsecurity|nationalid|taxid|deviceid|anonymousid"),
    (_C.USER_ATTRIBUTE, "username|firstname|lastname|fullname|surname|userid|customerid|dateofbirth|birthdate|birthday"),
)
"""Looked for inside one long word, where a writer or Datadog's lower-casing has removed the borders."""

_TEXT_WORDS = listed(
    "input inputs output outputs prompt prompts response responses completion completions content contents message messages "
    "query question questions answer answers text texts body reasoning explanation rationale description comment comments "
    "feedback note notes summary title subject transcript transcripts utterance utterances instruction instructions snippet "
    "chunk chunks document documents doc docs context contexts history conversation conversations dialog dialogue arguments "
    "args kwargs stack stacktrace traceback variables excerpt quote quotes review reviews reply replies html markdown raw "
    "payload statement sentence sentences paragraph passage citation citations blob attachment attachments"
)
_TEXT_HEADS = listed(
    "input inputs output outputs prompt prompts response responses message messages completion completions content"
)
_MAY_HOLD_TEXT = frozenset({KeyClass.USER_ATTRIBUTE, KeyClass.CONTACT, KeyClass.SESSION})
_MEASURE_HEADS = listed("num n total count avg mean max min is has use uses")
_MEASURE_WORDS = listed(
    "count counts tokens total totals ms ns us s sec secs seconds minutes hours days bytes size length len rate ratio "
    "pct percent score scores limit limits threshold latency duration enabled disabled sent verified valid present "
    "detected redacted required supported allowed flag position rank index num cost usd budget depth attempts "
    "retries percentile port"
)
_KIND_WORDS = listed(
    "method type types kind arch format mode status version provider scheme tier plan category level language segment region"
)
_TIMING_WORDS = frozenset({"per", "first", "next", "time", "last"})
_NAMED_THINGS = listed(
    "tool model function service span index metric dataset prompt template app application project region cluster "
    "pod container node env class method event operation resource step task workflow chain retriever collection "
    "experiment feature flag version package module library provider engine queue topic table schema agent "
    "deployment namespace evaluator evaluation judge rule policy guardrail check test variant ab parser tokenizer "
    "encoding field key column database db bucket job pipeline stage component plugin skill intent action route "
    "endpoint handler exception thread destination consumer producer group exchange subscription broker repository branch "
    "exception error command script image runtime source channel kb ml short product graph state bot sdk scope protocol "
    "telemetry otel framework "
    "network zone file folder artifact alert monitor dashboard"
)
_THINGS = frozenset(thing.rstrip("s") for thing in _NAMED_THINGS | {"call", "result"})
_COLUMN = re.compile(r"_?[A-Za-z][A-Za-z0-9_.\-]{0,40}")
_KEY_MARK = re.compile(r"\[key [0-9]{1,4}\]")
_INVISIBLE = {"Cf", "Cc", "Mn"}

_SHORTEST_JOINED = 8
_FOREIGN = tuple((KeyClass(cls), entry) for cls, entries in keys_of_languages() for entry in entries)
_CLASS_OF_WORD = {entry.rstrip("*"): cls for cls, entry in reversed(_FOREIGN) if "_" not in entry}
_CLASS_OF_WORD |= {
    entry.rstrip("*").replace("_", ""): cls for cls, entry in reversed(_FOREIGN) if len(entry) > _SHORTEST_JOINED
}
_CLASS_OF_WORD |= {word: cls for cls, words in reversed(SENSITIVE_WORDS) for word in words.split()}
_ROW_OF = {cls: n for n, (cls, _) in enumerate(SENSITIVE_WORDS)} | {KeyClass.USER_ID: len(SENSITIVE_WORDS)}
_RUNS = (
    *((tuple(run.split()), cls) for cls, runs in SENSITIVE_RUNS for run in runs.split("|")),
    *((tuple(entry.split("_")), cls) for cls, entry in _FOREIGN if "_" in entry),
)
_ROOT_OF = (
    *((root, cls) for cls, roots in _ROOTS for root in roots.split("|")),
    *((entry[:-1], cls) for cls, entry in _FOREIGN if entry[-1] == "*"),
)
_ROOT_EXCEPTIONS = frozenset({"microphone", "emailed", "emailing", "cookiecutter"})
_USERS = frozenset({"user", "users", "usr", "usrs", "enduser", "endusers"})
_NEVER_COUNTED = frozenset("pii phi pin otp cvv cvc gps lat lon lng latitude longitude".split())
_BEFORE_VALUES = _KIND_WORDS | {"id", "name", "names"}
_COUNTING = frozenset({"count", "counts", "tokens", "ms", "ns"})
_SAY_NOTHING = frozenset({"field", "value", "val"})
"""Last words of a key that say nothing of the value: `apple_id_field`."""
_NUMBERED = listed("id ids uid code number nummer numero numer nr serial key")
_MACHINES = _THINGS | listed(
    "trace span request run job batch generation message execution correlation invocation status exit http grpc return "
    "country language lang locale currency line page turn iteration build release commit port process worker shard "
    "partition replica instance vm cache sort primary foreign idempotency object vector embedding dataset config "
    "cohort checkpoint sequence seq attempt retry row offset char product sku item article category intent flag tenant "
    "org organization organisation workspace project company department team reason iso block chunk document doc data meta "
    "entry config params details extra attributes inner context state settings metadata rank color layer epoch version"
)
"""What comes before `id`, `code` or `key` where it is a machine's or an organisation's: `run_id`, `status_code`."""
_ONE = _NUMBERED | listed("age ages year years phone ip session name zip x y")
_LETTERS = str.maketrans(
    {"\u00df": "ss", "\u00f8": "o", "\u00d8": "O", "\u0142": "l", "\u0141": "L", "\u0131": "i", "\u00e6": "ae"}
)
"""Letters that are no letter with an accent."""


def normal_key(key: str) -> str:
    """The words of a key joined by `_`, in lower case: `user.id`, `userId` and `USER-ID` all give `user_id`."""
    return verdict_on(key).normal if len(key) <= MAX_KEY_LENGTH else ""


@lru_cache(maxsize=8192)
def verdict_on(key: str) -> KeyVerdict:
    """What a key says about its value. Answers are cached: callers ask for at most `MAX_KEY_LENGTH` characters."""
    plain = key
    if not key.isascii():
        decomposed = unicodedata.normalize("NFKD", key.translate(_LETTERS))
        plain = "".join(c for c in decomposed if unicodedata.category(c) not in _INVISIBLE)
    spelled = pieces(plain)
    normal = "_".join(spelled)
    if not spelled:
        return KeyVerdict(normal, KeyClass.HARMLESS)
    words = [part for word in spelled for part in _parts_of(word)]
    while len(words) > 1 and (words[-1] in _SAY_NOTHING or words[-1].isdigit()):
        words.pop()
    last = words[-1]
    key_class = _class_of(words, last)
    is_kind = last in _KIND_WORDS and key_class is not KeyClass.PII and not (_USERS | _NEVER_COUNTED).intersection(words)
    return KeyVerdict(
        normal,
        key_class,
        is_measure=(last in _MEASURE_WORDS or (len(words) > 1 and words[0] in _MEASURE_HEADS))
        and (key_class in (KeyClass.HARMLESS, KeyClass.TEXT) or _may_be_measured(words, last)),
        is_kind=is_kind,
        is_text=key_class is KeyClass.TEXT or (key_class in _MAY_HOLD_TEXT and last in _TEXT_WORDS),
        is_count=_is_plural(last),
        names_one=last in _ONE or last in _KIND_WORDS or _class_of_word(last, words, last) is not None,
        is_numbered=last in _NUMBERED and _is_one_of_many(words),
    )


@lru_cache(maxsize=8192)
def verdict_below(parent: str, key: str) -> KeyVerdict:
    """What a key says under another one, "" for none: `key` under `api` is a credential, `num_docs` a measure anywhere."""
    if not parent:
        return verdict_on(key)
    verdict = verdict_on(f"{parent}.{key}")
    if verdict.is_measure or not verdict_on(key).is_measure:
        return verdict
    words = [part for word in verdict.normal.split("_") for part in _parts_of(word)]
    return replace(verdict, is_measure=_may_be_measured(words, words[-1]))


def _may_be_measured(words: list[str], last: str) -> bool:
    """Whether a number under these words can be no attribute of a person: of users only counts and times are kept.

    Not where a kind, a digit or another personal word stands before the count: in `user.plan.gold.count` it is the plan.
    """
    if _NEVER_COUNTED.intersection(words) or _BEFORE_VALUES.intersection(words[:-2]) or any(map(str.isdigit, words)):
        return False
    if _USERS.isdisjoint(words):
        return True
    if last in _COUNTING:
        return all(word in _USERS or _class_of_word(word, words, last) is None for word in words[:-1])
    return last in ("users", "usrs") and words[0] in _MEASURE_HEADS


def _is_one_of_many(words: list[str]) -> bool:
    """Whether the number at the end of a key is that of one record, and no machine's or organisation's."""
    return words == ["uid"] or (len(words) > 1 and _MACHINES.isdisjoint((words[-2], words[-2].rstrip("s"))))


def _is_plural(word: str) -> bool:
    if len(word) < 4 or word[-1] != "s" or word[-2] in "suiy":
        return False
    one = word[:-1]
    return (
        is_word(one)
        and one not in _CLASS_OF_WORD
        and one not in _ONE
        and one not in _KIND_WORDS
        and word not in _CLASS_OF_WORD
    )


@lru_cache(maxsize=8192)
def _parts_of(word: str) -> tuple[str, ...]:
    """The two or three known words that a word is run together from, where one of them is sensitive; else the word."""
    if len(word) < 6 or not word.isalpha() or word in _CLASS_OF_WORD or word in _ROOT_EXCEPTIONS or is_word(word):
        return (word,)
    for n in range(len(word) - 2, 1, -1):
        if _is_part(word[:n], is_last=False) and _is_part(word[n:], is_last=True) and _is_personal_run(word[:n], word[n:]):
            return word[:n], word[n:]
    for n in range(len(word) - 4, 1, -1):
        if _is_part(word[:n], is_last=False):
            for m in range(len(word) - 2, n + 1, -1):
                parts = (word[:n], word[n:m], word[m:])
                if (
                    _is_part(parts[1], is_last=False)
                    and _is_part(parts[2], is_last=True)
                    and (_is_personal_run(*parts[:2]) or _is_personal_run(*parts[1:]))
                ):
                    return parts
    return (word,)


_SHORT_HEADS = frozenset({"ip", "cc", "db"})
_SHORT_TAILS = frozenset({"id", "ip", "no", "nr"})


def _is_part(part: str, *, is_last: bool) -> bool:
    if len(part) < 3:
        return part in (_SHORT_TAILS if is_last else _SHORT_HEADS)
    return part in _CLASS_OF_WORD or is_word(part)


def _is_personal_run(first: str, second: str) -> bool:
    return (
        (second == "id" and len(first) > 3)
        or first in _CLASS_OF_WORD
        or second in _CLASS_OF_WORD
        or any(run[:2] == (first, second) for run, _ in _RUNS)
    )


def _class_of(words: list[str], last: str) -> KeyClass:
    if (
        "user" in words
        and "agent" not in words
        and any(words[n : n + 2] in (["user", "id"], ["usr", "id"]) for n in range(len(words) - 1))
    ):
        return KeyClass.USER_ID
    for run, cls in _RUNS:
        if run[0] in words and any(tuple(words[n : n + len(run)]) == run for n in range(len(words) - len(run) + 1)):
            return cls
    found = [named for word in words if (named := _class_of_word(word, words, last)) is not None]
    if found:
        return min(found, key=_ROW_OF.__getitem__)
    if last in _TEXT_WORDS or (words[0] in _TEXT_HEADS and last not in _MEASURE_WORDS and last not in _KIND_WORDS):
        return KeyClass.TEXT
    if last in ("name", "names") and not (len(words) > 1 and words[-2].rstrip("s") in _THINGS):
        return KeyClass.USER_ATTRIBUTE
    return KeyClass.HARMLESS


def _class_of_word(word: str, words: list[str], last: str) -> KeyClass | None:
    if word == "token" and (last != "token" or _TIMING_WORDS.intersection(words)):
        return None  # a count, a limit or a time of tokens
    if word in _CLASS_OF_WORD:
        return _CLASS_OF_WORD[word]
    if len(word) > 3 and word[-1] == "s" and word[:-1] in _CLASS_OF_WORD and word != "tokens":
        return _CLASS_OF_WORD[word[:-1]]
    if len(word) < 5 or word in _ROOT_EXCEPTIONS or is_word(word):
        return None
    return next((cls for root, cls in _ROOT_OF if root in word), None)


def is_column(key: str) -> bool:
    """Whether a key is plain: a letter, after `_` or not (`_dd.measured`), then up to 40 letters, digits, `_ . -`."""
    return _COLUMN.fullmatch(key) is not None


@lru_cache(maxsize=8192)
def is_storable_key(key: str) -> bool:
    """Whether an unknown key may itself be stored: up to 41 plain characters, of words that are no names and no codes."""
    if _KEY_MARK.fullmatch(key):
        return True
    if _COLUMN.fullmatch(key) is None or RECORD_NUMBER.search(key):
        return False
    chunks = re.split(r"[_.\-]+", key.lstrip("_"))
    if sum(map(str.isdigit, chunks)) >= _NUMBERS_OF_ADDRESS:
        return False
    return all(map(is_plain_chunk, chunks)) and sum(map(_is_codelike, chunks)) < 2


@lru_cache(maxsize=4096)
def is_metric_name(key: str) -> bool:
    """Whether a metric's name may be stored though it is no plain key: vocabulary words, parted by a space, `@` or `/`."""
    if len(key) > 60 or _METRIC.fullmatch(key) is None or RECORD_NUMBER.search(key):
        return False
    parts = pieces(key)
    return all(is_word(part) or (part.isdigit() and len(part) < 4) or len(part) == 1 for part in parts) and len(parts) <= 6


_METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*(?: ?[ @/%] ?[A-Za-z0-9_.\-]+){1,4}")


def is_closed_whole(verdict: KeyVerdict) -> bool:
    """Whether nothing below the key of a text stays: messages, documents, arguments, variables, whatever they hold."""
    return not _CLOSED_WHOLE.isdisjoint(verdict.normal.split("_"))


_CLOSED_WHOLE = _TEXT_HEADS | listed("arguments args kwargs variables documents document docs doc chunks chunk")


def is_sensitive_column(key: str) -> bool:
    """Whether a key is plain and made of words of the tables here and of the vocabulary only: `lat`, `iban_2`."""
    return is_column(key) and all(
        piece in _CLASS_OF_WORD or is_word(piece) or (piece.isdigit() and len(piece) < 3) for piece in pieces(key)
    )


RECORD_NUMBER = re.compile(
    r"(?i)(?<![a-z])(?!(?<=[-_.])[a-z]{2}[-_]20[1-4][0-9](?![0-9]))"
    r"(?:[a-z]{1,2}|user|usr|customer|client|member|patient|account|acct|person|ticket|order|case|session|sess|cust)"
    r"[-_ #:/]{0,2}[0-9]{3,}(?![0-9]*[a-z])|(?:^|[-_ .:/])[us][-_][0-9]+$"
    r"|(?<![a-z])(?:sess|session|sid|user|usr|uid|u|cust|cus|customer|client|member|patient|account|acct|person)"
    r"[-_:/#]{1,2}[a-z]{1,16}[0-9]{4,}"
)
"""The number of one record of many: `u-8841`, `user 17`, `A-1009`, `sess_ab1234`. Whose it is, nobody here knows."""


_LETTERS_IN_DIGITS = re.compile("[a-z]{1,2}[0-9]{1,4}[a-z]?")


def _is_codelike(chunk: str) -> bool:
    """Whether a chunk mixes letters and digits, and is none of the usual ones (`v2`, `p95`, `gpt4o`); two make a code."""
    low = chunk.lower()
    if low.isalpha() or low.isdigit() or not low or is_word(low) or _LETTERS_IN_DIGITS.fullmatch(low):
        return False
    return not is_word(low.rstrip("0123456789"))


_NUMBERS_OF_ADDRESS = 4
_VOWELS = frozenset("aeiouy")
_LONG_CONSONANTS = re.compile(r"[^aeiouy]{5}|(.)\1\1")
_DATE = re.compile(r"20[0-9]{2}(?:[01][0-9](?:[0-3][0-9])?)?")


@lru_cache(maxsize=16384)
def is_plain_chunk(chunk: str) -> bool:
    """Whether a run of ASCII letters and digits reads like an identifier that a developer wrote.

    Words of the vocabulary do. Other words, at most two of them: no names, no two names run together, pronounceable, at most
    14 letters. Numbers of at most 5 digits, or a date. Random tokens, hexadecimal ids and long numbers do not.
    """
    low = chunk.lower()
    if not chunk or is_word(low):
        return True
    parts = pieces(chunk)
    if len(chunk) >= 8 and sum(part.isdigit() for part in parts) > 1:
        return False
    if len(chunk) >= 16 and any(part.isdigit() for part in parts[:-1]) and len(parts) > 1:
        return False
    if len(chunk) > 40 or len(parts) > 8 or (len(parts) > 4 and any(part.isdigit() for part in parts)):
        return False
    unknown = 0
    for part in parts:
        if part.isdigit():
            if len(part) > 5 and not _DATE.fullmatch(part):
                return False
        elif not is_word(part):
            unknown += 1
            if not _is_plain_unknown(part):
                return False
    return unknown < 2 or (unknown == 2 and not is_name(re.sub("[0-9]", "", low)))


def _is_plain_unknown(part: str) -> bool:
    if len(part) <= 2:
        return True
    if is_name(part):
        return False
    if len(part) == 3:
        return True
    if _is_compound(part):
        return True
    if len(part) >= 5 and (is_name(part[1:]) or is_name(part[:-1])):
        return False  # a surname and an initial
    if len(part) > 14 or _LONG_CONSONANTS.search(part) or not _VOWELS.intersection(part):
        return False
    return not any(is_name(part[:n]) and is_name(part[n:]) for n in range(4, len(part) - 3))


def _is_compound(word: str) -> bool:
    """Whether a word is two or three words of the vocabulary run together, each of at least 3 letters."""
    for n in range(3, len(word) - 2):
        if is_word(word[:n]):
            rest = word[n:]
            if is_word(rest) or any(is_word(rest[:m]) and is_word(rest[m:]) for m in range(3, len(rest) - 2)):
                return True
    return False
