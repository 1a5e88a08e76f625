"""What the texts of settings become: parsers of single values, and how a value is spelled again.

A parser raises `WrongError` for a text that it does not take; what is wanted instead stands in the settings table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from evalforge.core import callers, otlp, sites, webhooks
from evalforge.core.privacy import modes
from evalforge.core.signals import Limits

SECRET_REFERENCE = re.compile(r"projects/[A-Za-z0-9:.\-]{1,100}/secrets/[A-Za-z0-9_\-]{1,255}/versions/[A-Za-z0-9_\-]{1,63}")


class Secret:
    """A value that never shows itself: repr and str print stars. `reveal()` gives it, `is_reference` tells its kind."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value: a literal secret, or the name of one in Secret Manager."""
        return self._value

    @property
    def is_reference(self) -> bool:
        """Whether the value is a Secret Manager version name, such as projects/P/secrets/S/versions/latest."""
        return SECRET_REFERENCE.fullmatch(self._value) is not None

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class WrongError(ValueError):
    """What a value should have been; becomes part of one SettingsError."""


_DECIMAL = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)


def number(low: float, high: float) -> Callable[[str], float]:
    """A parser of numbers in these bounds, both included; neither infinite nor nothing."""

    def parse(text: str) -> float:
        if _DECIMAL.fullmatch(text) is None:
            raise WrongError
        number = float(text)
        if not math.isfinite(number) or not low <= number <= high:
            raise WrongError
        return number

    return parse


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers in these bounds, both included."""

    def parse(text: str) -> int:
        if _WHOLE.fullmatch(text) is None:
            raise WrongError
        number = int(text)
        if not low <= number <= high:
            raise WrongError
        return number

    return parse


def matching(pattern: str) -> Callable[[str], str]:
    """A parser that takes what the pattern matches whole."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise WrongError
        return text

    return parse


def one_of(*allowed: str) -> Callable[[str], str]:
    """A parser of one of these words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise WrongError
        return text.lower()

    return parse


def names(pattern: str) -> Callable[[str], tuple[str, ...]]:
    """A parser of a list separated by commas whose entries the pattern matches; each once, in order."""
    compiled = re.compile(pattern)

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if any(compiled.fullmatch(name) is None for name in names):
            raise WrongError
        return names

    return parse


def sources(text: str) -> tuple[str, ...]:
    """The sources of a list, each once, in order."""
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if not names or not set(names) <= {"llm_obs", "apm"}:
        raise WrongError
    return names


_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def switch(text: str) -> bool:
    """True or false, in the usual spellings."""
    if text.lower() not in _SWITCH:
        raise WrongError
    return _SWITCH[text.lower()]


def site(text: str) -> str:
    """A site of Datadog's."""
    site = text.lower()
    if site not in sites.SITES:
        raise WrongError
    return site


def text_paths(text: str) -> tuple[str, ...]:
    """The places whose texts are kept."""
    try:
        return modes.parse_paths(text)
    except ValueError as wrong:
        raise WrongError(str(wrong)) from wrong


def store(text: str) -> str:
    """Where captures are kept: firestore, or sqlite:/// and a file."""
    if text == "firestore" or (text.startswith("sqlite:///") and len(text) > len("sqlite:///") and "\0" not in text):
        return text
    raise WrongError


def loopback_address(text: str) -> str:
    """A host and a port on this machine."""
    host, colon, port = text.removeprefix("http://").rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or not sites.is_loopback(host.strip("[]").lower()):
        raise WrongError
    return f"{host}:{port}"


GOOGLE_CERTS_URL = "https://www.googleapis.com/oauth2/v1/certs"
"""Where Google publishes the keys that its ID tokens are signed with, as certificates by key id.

Source: https://developers.google.com/identity/gsi/web/guides/verify-google-id-token
"""


def certs_url(text: str) -> str:
    """Google's address of its certificates, or one on loopback."""
    try:
        is_local = sites.is_loopback(urlsplit(text).hostname or "")
        if text != GOOGLE_CERTS_URL and not is_local:
            raise WrongError
        return sites.validated_api_url(text) if is_local else text
    except ValueError as wrong:
        raise WrongError from wrong


def rows(parse: Callable[[str], tuple[Any, ...]]) -> Callable[[str], tuple[Any, ...]]:
    """A parser of a list of rows; what is wrong with one is said in `parse`'s words."""

    def parsed(text: str) -> tuple[Any, ...]:
        try:
            return parse(text)
        except ValueError as wrong:
            raise WrongError(str(wrong)) from wrong

    return parsed


def spelled_keys(rows: tuple[callers.KeyRow, ...]) -> str:
    """How many keys there are and whose; no digest."""
    return f"set, {len(rows)} key(s) of {', '.join(dict.fromkeys(row.caller.name for row in rows))}"


def spelled_accounts(accounts: tuple[callers.Caller, ...]) -> str:
    """The accounts with their roles, as the environment has them."""
    return ",".join(f"{caller.name}={'+'.join(sorted(caller.roles))}" for caller in accounts)


DESTINATIONS_WANTS = (
    "name=place pairs; a name has lower-case letters, digits and dashes; a place is a folder, gs://bucket/prefix, or the "
    "https URL of a webhook (http only on loopback)"
)
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._\-]{1,220}[a-z0-9](?:/[A-Za-z0-9._\-]{1,100}){0,10}/?")


def destinations(text: str) -> tuple[tuple[str, str], ...]:
    """Where exports go, by name."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, place = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        if not equals or not _is_place(place) or re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name) is None or name in found:
            raise WrongError
        found[name] = place
    return tuple(found.items())


def _is_place(place: str) -> bool:
    if place.startswith("gs:"):
        return _BUCKET.fullmatch(place) is not None and not {".", ".."} & set(place.removeprefix("gs://").split("/"))
    if place.startswith(("https:", "http:")):
        try:
            webhooks.validated_webhook_url(place)
        except ValueError:
            return False
        return True
    return bool(place) and "\0" not in place and "://" not in place


def spelled_destinations(destinations: tuple[tuple[str, str], ...]) -> str:
    """Where exports go as the environment has it; of a webhook only the host, since its address may be a secret."""
    return ",".join(f"{name}={_shown_place(place)}" for name, place in destinations)


def _shown_place(place: str) -> str:
    return (
        f"{place.partition('://')[0]}://{urlsplit(place).netloc}/…" if place.startswith("http") and "://" in place else place
    )


def own_limits(text: str) -> tuple[tuple[str, Limits], ...]:
    """Thresholds of single applications."""
    found: dict[str, tuple[str, Limits]] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, written = part.partition("=")
        name = name.strip()
        scores: dict[str, float] = {}
        for score in written.split("+"):
            which, _, score_text = (piece.strip() for piece in score.partition(":"))
            if which.lower() not in ("quality", "toxicity"):
                raise WrongError
            if which.lower() in scores:
                raise WrongError(f"{which.lower()} stands twice in one place")
            scores[which.lower()] = number(0, 1)(score_text)
        if re.fullmatch(EVALUATOR, name) is None:
            raise WrongError
        if name.casefold() in found:
            raise WrongError("an application stands twice; case makes no difference")
        found[name.casefold()] = (name, Limits(**scores))
    if not found:
        raise WrongError
    return tuple(found.values())


def spelled_limits(own: tuple[tuple[str, Limits], ...]) -> str:
    """Thresholds of single applications as the environment has them."""

    def scores(limits: Limits) -> str:
        both = (("quality", limits.quality), ("toxicity", limits.toxicity))
        return "+".join(f"{which}:{number:g}" for which, number in both if number is not None)

    return ",".join(f"{name}={scores(limits)}" for name, limits in own)


def secret(text: str) -> Secret:
    """A secret, or the name of one in Secret Manager."""
    if text.startswith("projects/") and SECRET_REFERENCE.fullmatch(text) is None:
        raise WrongError
    if any(ord(character) < 32 or ord(character) > 126 for character in text):
        raise WrongError
    return Secret(text)


MIN_KEY_BYTES = 32
_MIN_DISTINCT_CHARACTERS = 4
_MIN_OWN_CHARACTERS = 9
_WELL_KNOWN_PARTS = (
    "evalforge", "changeme", "change-me", "change_me", "password", "secret", "example", "default", "0123456789", "abcdef",
)  # fmt: skip


def salt_problem(text: str) -> str | None:
    """Why a PII_SALT value (one key, or several separated by spaces) is no ring of secrets; None when it is one.

    Each key has at least 32 bytes, is not made of well-known words or a few characters, and stands once.
    """
    keys = text.split()
    for number, key in enumerate(keys, 1):
        if len(key.encode()) < MIN_KEY_BYTES:
            return f"key {number} of {len(keys)} has {len(key.encode())} bytes"
        own = key.lower()
        for part in _WELL_KNOWN_PARTS:
            own = own.replace(part, "")
        if len(set(key)) < _MIN_DISTINCT_CHARACTERS or len(own) < _MIN_OWN_CHARACTERS:
            return f"key {number} of {len(keys)} can be guessed"
    if len(set(keys)) != len(keys) or not keys:
        return f"{len(keys)} keys, {len(set(keys))} of them different"
    return None


def salt(text: str) -> Secret:
    """The key ring's text, or the name of one in Secret Manager."""
    found = secret(text)
    problem = None if found.is_reference else salt_problem(text)
    if problem is not None:
        raise WrongError(problem)
    return found


def webhook_url(text: str) -> Secret:
    """Where events are posted, or the name of a secret that says it; hidden, since such URLs often hold a secret."""
    return _webhook(text, webhooks.validated_webhook_url)


def webhook_secret(text: str) -> Secret:
    """What events are signed with, or the name of one in Secret Manager."""
    return _webhook(text, webhooks.signing_keys)


def _webhook(text: str, check: Callable[[str], object]) -> Secret:
    found = secret(text)
    try:
        if not found.is_reference:
            check(text)
    except ValueError as wrong:
        raise WrongError(str(wrong)) from wrong
    return found


def otlp_endpoint(text: str) -> str:
    """Where telemetry is sent."""
    try:
        return otlp.validated_endpoint(text)
    except ValueError as wrong:
        raise WrongError from wrong


def otlp_headers(text: str) -> Secret:
    """What telemetry is sent with, or the name of a secret that says it; hidden, since it is how collectors take keys."""
    return _webhook(text, otlp.parse_headers)


def resource_attributes(text: str) -> tuple[tuple[str, str], ...]:
    """What the process says of where it runs."""
    try:
        return otlp.parse_resource(text)
    except ValueError as wrong:
        raise WrongError(str(wrong)) from wrong


def spelled_pairs(pairs: tuple[tuple[str, str], ...]) -> str:
    """Names and values as the environment has them."""
    return ",".join(f"{name}={quote(value)}" for name, value in pairs)


def base_url(text: str) -> str:
    """A web address to which paths are added, without the slash at its end."""
    try:
        parts = urlsplit(text)
        is_plain = parts.scheme in ("http", "https") and parts.port != 0 and webhooks.HOST.fullmatch(parts.netloc)
    except ValueError as wrong:
        raise WrongError from wrong
    if not is_plain or re.fullmatch(r"[!-~]{1,500}", text) is None or any(character in text for character in '?#\\"<>'):
        raise WrongError
    return text.rstrip("/")


EVALUATOR = r"[^,\s\x00-\x1f][^,\x00-\x1f]{0,199}"
HOST_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?(?::\d{1,5})?"
API_URL_WANTS = (
    "an https URL on a host of Datadog's, or http(s) on loopback; any other https host must be DATADOG_API_URL_TRUSTED"
)
