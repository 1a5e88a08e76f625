"""What stands under a sensitive key: its kind, and the canonical form by which equal things are told."""

from __future__ import annotations

import re
from functools import lru_cache

from evalforge.core.privacy.keys import KeyClass, KeyVerdict
from evalforge.core.privacy.text.findings import TextKind

_T = TextKind

# One row per kind: words of a key, in the form of `keys.normal_key`. The last word of a key that stands in a row decides.
KINDS_BY_WORD: tuple[tuple[TextKind, str], ...] = (
    (_T.EMAIL, "email emails mail mails useremail"),
    (_T.PHONE, "phone phones mobile tel telephone msisdn fax cell whatsapp"),
    (
        _T.ADDRESS,
        "address addresses addr street city town zip zipcode postal postcode birthplace hometown suburb neighborhood "
        "apartment",
    ),
    (_T.GEO, "geo geoip gps lat lon lng latitude longitude coordinates coords geolocation"),
    (_T.IP, "ip ips ipv ipaddr ipaddress iplist forwarded xff remoteaddr"),
    (_T.MAC, "mac"),
    (_T.URL, "url urls uri uris href referer referrer host hostname fqdn peer querystring"),
    (_T.CARD, "pan cvv cvc cvv2 card cards creditcard"),
    (_T.IBAN, "iban bic"),
    (_T.WALLET, "wallet"),
    (_T.PLATE, "plate vin"),
    (_T.DATE, "dob birth birthday birthdate"),
    (
        _T.PERSON,
        "name names firstname lastname fullname displayname givenname familyname middlename surname nickname forename "
        "maiden "
        "customername contactname holder cardholder by",
    ),
    (_T.USER, "id ids uuid uid userid usrid username login handle"),
    (_T.SESSION, "session sessions sess sid sessionid conversationid threadid"),
)
ROLES_OF_PEOPLE = frozenset(
    "customer customers client clients member members subscriber subscribers contact contacts author guest guests attendee "
    "attendees participant participants passenger passengers payee beneficiary signatory claimant policyholder borrower "
    "donor "
    "resident physician doctor nurse person persons people patient patients guardian spouse student caller callee sender "
    "recipient recipients assignee reviewer approver submitter requester requestor reporter employee employees candidate "
    "applicant "
    "visitor visitors".split()
)
"""Words of a key that say who somebody is: as its last word, a name stands there, or what the sender takes for one."""

_USERS = frozenset({"user", "usr", "users", "enduser", "account", "accounts", "acct", "subject", "actor"})

_KIND_OF_WORD = {word: kind for kind, words in reversed(KINDS_BY_WORD) for word in words.split()}
_KIND_OF_CLASS = {
    KeyClass.USER_ID: _T.USER,
    KeyClass.SESSION: _T.SESSION,
    KeyClass.CREDENTIAL: _T.SECRET,
    KeyClass.CONTACT: _T.ADDRESS,
    KeyClass.NETWORK: _T.URL,
    KeyClass.IDENTIFIER: _T.ID,
    KeyClass.USER_ATTRIBUTE: _T.WORD,
    KeyClass.PII: _T.WORD,
}
_BEFORE_NAME = (
    ROLES_OF_PEOPLE
    | _USERS
    | frozenset(
        "first last full given family middle display nick sur legal real maiden screen holder cardholder employee team "
        "owner".split()
    )
)


@lru_cache(maxsize=8192)
def names_somebody(normal: str) -> bool:
    """Whether a key holds a person's name for sure: `first_name`, `customer_name`; `name` alone may be a tool's."""
    *before, last = normal.split("_")
    return last not in ROLES_OF_PEOPLE and (last not in ("name", "names") or bool(_BEFORE_NAME.intersection(before)))


_VAGUE = frozenset({_T.CODE, _T.ENCODED, _T.WORD, _T.NUMBER, _T.PATH})
"""Kinds that say less than a key does."""
_PLAIN_KINDS = frozenset({_T.PERSON, _T.ADDRESS, _T.SECRET, _T.SESSION, _T.USER})
"""Kinds whose key says it all, unless the value holds an address or a long number."""
_DIGITS_OF_IDS = 6
_NUMBERED = frozenset({_T.PHONE, _T.CARD, _T.IBAN, _T.ID, _T.DATE, _T.PLATE, _T.USER})
"""Kinds that are numbers and look alike: there the key knows better."""
SHAPED_KINDS = frozenset({_T.EMAIL, _T.PHONE, _T.CARD, _T.IBAN, _T.ID, _T.IP, _T.MAC, _T.DATE, _T.PLATE, _T.GEO, _T.WALLET})
"""Kinds whose values have a digit or an at sign: `Email: drafted correctly` tells no address."""
_BY_CLASS_ONLY = frozenset({KeyClass.USER_ID, KeyClass.SESSION, KeyClass.CREDENTIAL})
_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=8192)
def kind_under(verdict: KeyVerdict) -> TextKind:
    """The kind of what stands under a sensitive key, as the key tells it."""
    if verdict.key_class in _BY_CLASS_ONLY:
        return _KIND_OF_CLASS[verdict.key_class]
    words = verdict.normal.split("_")
    if words[-1] in ROLES_OF_PEOPLE:
        return _T.PERSON
    if words[-1] in _USERS:
        return _T.USER
    for word in reversed(words):
        kind = _KIND_OF_WORD.get(word) or _KIND_OF_WORD.get(word.rstrip("0123456789"))
        if kind is not None:
            if kind is _T.USER and verdict.key_class is KeyClass.IDENTIFIER:
                return _T.ID
            return kind
    return _KIND_OF_CLASS.get(verdict.key_class, _T.WORD)


def identified(text: str, verdict: KeyVerdict) -> tuple[TextKind, str]:
    """The kind and identity of a value under a sensitive key.

    A value that is an e-mail address, a phone number and so on has that kind and identity whatever its key says, so that it
    agrees with the same thing found in a text. A value that breaks the detectors is what its key says.
    """
    kind = kind_under(verdict)
    try:
        return _detected(text, kind)
    except Exception:  # noqa: BLE001 - the value must be found again all the same
        return kind, identity_of(text, kind)


def _detected(text: str, kind: TextKind) -> tuple[TextKind, str]:
    # Imported here: the scrubber's package needs the echoes, which need this.
    from evalforge.core.privacy.text.decoding import plain_form
    from evalforge.core.privacy.text.identifiers import find_identifiers

    plain = plain_form(text[:MAX_IDENTIFIED]) if text else text
    if plain is None:
        return kind, text
    stripped = plain.strip()
    if kind not in _PLAIN_KINDS or "@" in stripped or sum(map(str.isdigit, stripped)) > _DIGITS_OF_IDS:
        for finding in find_identifiers(stripped):
            if finding.start == 0 and finding.end == len(stripped) and finding.kind not in _VAGUE:
                both_numbers = kind in _NUMBERED and finding.kind in _NUMBERED
                return (kind if both_numbers else finding.kind), finding.identity
    return kind, identity_of(stripped, kind)


MAX_IDENTIFIED = 2_000
"""Characters of a value that are looked at to tell what it is."""


def identity_of(plain: str, kind: TextKind) -> str:
    """The canonical form of a value in plain form: its words in lower case; a person's `Lopez, Maria` as `maria lopez`."""
    if kind is _T.PERSON and plain.count(",") == 1:
        last, _, first = plain.partition(",")
        plain = f"{first} {last}"
    return " ".join(_WORD.findall(plain)).lower() or plain
