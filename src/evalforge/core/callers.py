"""Who may call the service: roles, callers, and the rows of settings that declare them. Rows hold digests, never keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do; one caller may have several roles."""

    RUN = "run"
    READ = "read"
    REVIEW = "review"
    ERASE = "erase"
    METRICS = "metrics"


ROLE_MEANINGS = {
    Role.RUN: "start runs",
    Role.READ: "look at runs and captures",
    Role.REVIEW: "review captures and take them out in exports",
    Role.ERASE: "erase a person or a trace for good",
    Role.METRICS: "read the service's metrics, and nothing else",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may come in: the name that settings give them (for a token, the service account), and their roles."""

    name: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One API key as settings hold it: whose it is, and the SHA-256 digest of the key. Printing it shows no digest."""

    caller: Caller
    digest: bytes = field(repr=False)


KEY_PREFIX = "evf_"
KEY_RANDOM_BYTES = 32
KEY = re.compile(KEY_PREFIX + r"[A-Za-z0-9_\-]{43}")
"""What an API key looks like: the prefix, then 256 random bits in URL-safe base64."""

KEY_ROWS_WANTS = "rows name=role+role:DIGEST separated by commas, as `evalforge keys new` prints them"
ACCOUNTS_WANTS = "rows service-account-email=role+role separated by commas"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._\-]{0,99}@(?:[a-z0-9\-]{1,63}\.){1,5}gserviceaccount\.com")
_MAX_ROWS = 100


def key_digest(key: str) -> bytes:
    """The digest by which settings know a key. Not stretched: a key of 256 random bits cannot be guessed."""
    return hashlib.sha256(key.encode()).digest()


def key_row_text(name: str, roles: Iterable[Role], key: str) -> str:
    """The row of SERVICE_API_KEYS that lets `key` in as `name` with `roles`."""
    return f"{name}={'+'.join(roles)}:{key_digest(key).hex()}"


def caller_name(text: str) -> str:
    """`text`, if it may name a caller.

    Raises:
        ValueError: it is no lower-case name of at most 31 letters, digits and dashes.
    """
    if _NAME.fullmatch(text) is None:
        raise ValueError("a name has 1 to 31 lower-case letters, digits and dashes, and begins with a letter")
    return text


def roles_of(text: str, separator: str = "+") -> frozenset[Role]:
    """The roles that `text` names.

    Raises:
        ValueError: it names none, or something that is no role.
    """
    try:
        return frozenset(Role(part.strip().lower()) for part in text.split(separator))
    except ValueError:
        raise ValueError(f"roles are {', '.join(Role)}") from None


def parse_key_rows(text: str) -> tuple[KeyRow, ...]:
    """The rows of SERVICE_API_KEYS. Several rows may share a name and its roles: that is how a key is rotated.

    Raises:
        ValueError: says which row is wrong and why, and repeats nothing of it.
    """
    rows: list[KeyRow] = []
    for number, row in _rows(text):
        if KEY.search(row):
            raise ValueError(f"row {number} holds a key, not its digest: make a new one, this one has been written down")
        name, roles, digest = _named(number, row)
        if _DIGEST.fullmatch(digest) is None:
            raise ValueError(f"row {number} has no digest of 64 hexadecimal digits after its colon")
        if any(other.digest.hex() == digest.lower() for other in rows):
            raise ValueError(f"row {number} has the same key as an earlier row")
        if any(other.caller.name == name and other.caller.roles != roles for other in rows):
            raise ValueError(f"row {number} gives a name other roles than an earlier row")
        rows.append(KeyRow(Caller(name, roles), bytes.fromhex(digest)))
    return tuple(rows)


def parse_accounts(text: str) -> tuple[Caller, ...]:
    """The rows of SERVICE_OIDC_CALLERS: service accounts of Google's by e-mail address, with their roles.

    Raises:
        ValueError: says which row is wrong and why.
    """
    accounts: dict[str, Caller] = {}
    for number, row in _rows(text):
        email, equals, roles = (part.strip() for part in row.partition("="))
        if not equals or _ACCOUNT.fullmatch(email) is None:
            raise ValueError(f"row {number} names no service account: lower case, ending in gserviceaccount.com")
        if email in accounts:
            raise ValueError(f"row {number} names an account that an earlier row names")
        try:
            accounts[email] = Caller(email, roles_of(roles))
        except ValueError as wrong:
            raise ValueError(f"row {number}: {wrong}") from None
    return tuple(accounts.values())


def _rows(text: str) -> Iterator[tuple[int, str]]:
    rows = [row.strip() for row in text.split(",") if row.strip()]
    if len(rows) > _MAX_ROWS:
        raise ValueError(f"more than {_MAX_ROWS} rows")
    return enumerate(rows, 1)


def _named(number: int, row: str) -> tuple[str, frozenset[Role], str]:
    name, equals, rest = (part.strip() for part in row.partition("="))
    roles, colon, digest = (part.strip() for part in rest.partition(":"))
    if not equals or not colon:
        raise ValueError(f"row {number} lacks its = or its :")
    try:
        return caller_name(name), roles_of(roles), digest
    except ValueError as wrong:
        raise ValueError(f"row {number}: {wrong}") from None
