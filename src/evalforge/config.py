"""Settings: the only reader of the environment. `SETTINGS` is the one list; docs/configuration.md is generated from it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from evalforge.core import sites
from evalforge.core.ports import FilterMode
from evalforge.core.privacy import modes
from evalforge.core.signals import Limits, Thresholds
from evalforge.errors import SettingsError

SECRET_REFERENCE = re.compile(r"projects/[A-Za-z0-9:.\-]{1,100}/secrets/[A-Za-z0-9_\-]{1,255}/versions/[A-Za-z0-9_\-]{1,63}")
EMULATOR_PROJECT = "evalforge-local"


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


class _WrongError(ValueError):
    """What a value should have been; becomes part of one SettingsError."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the settings table. `default` is as it would be written in the environment; "" means unset.

    `spell` writes a value that is set as the environment would have it, where that is not obvious.
    """

    name: str
    default: str
    meaning: str
    wants: str
    parse: Callable[[str], Any]
    secret: bool = False
    spell: Callable[[Any], str] | None = None

    @property
    def attribute(self) -> str:
        """The field of `Settings` that holds the parsed value."""
        return self.name.lower()


# Stricter than float() and int(), which also take underscores, other scripts' digits, and infinity.
_DECIMAL = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if _DECIMAL.fullmatch(text) is None:
            raise _WrongError
        number = float(text)
        if not math.isfinite(number) or not low <= number <= high:
            raise _WrongError
        return number

    return parse


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if _WHOLE.fullmatch(text) is None:
            raise _WrongError
        number = int(text)
        if not low <= number <= high:
            raise _WrongError
        return number

    return parse


def _matching(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise _WrongError
        return text

    return parse


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise _WrongError
        return text.lower()

    return parse


def _names(pattern: str) -> Callable[[str], tuple[str, ...]]:
    compiled = re.compile(pattern)

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if any(compiled.fullmatch(name) is None for name in names):
            raise _WrongError
        return names

    return parse


def _sources(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if not names or not set(names) <= {"llm_obs", "apm"}:
        raise _WrongError
    return names


_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise _WrongError
    return _SWITCH[text.lower()]


def _site(text: str) -> str:
    site = text.lower()
    if site not in sites.SITES:
        raise _WrongError
    return site


def _text_paths(text: str) -> tuple[str, ...]:
    try:
        return modes.parse_paths(text)
    except ValueError as wrong:
        raise _WrongError(str(wrong)) from wrong


def _store(text: str) -> str:
    if text == "firestore" or (text.startswith("sqlite:///") and len(text) > len("sqlite:///") and "\0" not in text):
        return text
    raise _WrongError


def _loopback_address(text: str) -> str:
    host, colon, port = text.removeprefix("http://").rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or not sites.is_loopback(host.strip("[]").lower()):
        raise _WrongError
    return f"{host}:{port}"


def _destinations(text: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, folder = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        if (
            not equals
            or not folder
            or "\0" in folder
            or re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name) is None
            or name in found
        ):
            raise _WrongError
        found[name] = folder
    return tuple(found.items())


def _spelled_destinations(destinations: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f"{name}={folder}" for name, folder in destinations)


def _own_limits(text: str) -> tuple[tuple[str, Limits], ...]:
    found: dict[str, tuple[str, Limits]] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, written = part.partition("=")
        name = name.strip()
        scores: dict[str, float] = {}
        for score in written.split("+"):
            which, _, number = (piece.strip() for piece in score.partition(":"))
            if which.lower() not in ("quality", "toxicity"):
                raise _WrongError
            if which.lower() in scores:
                raise _WrongError(f"{which.lower()} stands twice in one place")
            scores[which.lower()] = _number(0, 1)(number)
        if re.fullmatch(_EVALUATOR, name) is None:
            raise _WrongError
        if name.casefold() in found:
            raise _WrongError("an application stands twice; case makes no difference")
        found[name.casefold()] = (name, Limits(**scores))
    if not found:
        raise _WrongError
    return tuple(found.values())


def _spelled_limits(own: tuple[tuple[str, Limits], ...]) -> str:
    def scores(limits: Limits) -> str:
        both = (("quality", limits.quality), ("toxicity", limits.toxicity))
        return "+".join(f"{which}:{number:g}" for which, number in both if number is not None)

    return ",".join(f"{name}={scores(limits)}" for name, limits in own)


def _secret(text: str) -> Secret:
    if text.startswith("projects/") and SECRET_REFERENCE.fullmatch(text) is None:
        raise _WrongError
    if any(ord(character) < 32 or ord(character) > 126 for character in text):
        raise _WrongError
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


def _salt(text: str) -> Secret:
    secret = _secret(text)
    problem = None if secret.is_reference else salt_problem(text)
    if problem is not None:
        raise _WrongError(problem)
    return secret


_EVALUATOR = r"[^,\s\x00-\x1f][^,\x00-\x1f]{0,199}"
_HOST_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?(?::\d{1,5})?"
_API_URL_WANTS = (
    "an https URL on a host of Datadog's, or http(s) on loopback; any other https host must be DATADOG_API_URL_TRUSTED"
)

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "DATADOG_API_KEY",
        "",
        "Datadog API key: literal, or a Secret Manager version name",
        "a key, or projects/P/secrets/S/versions/V",
        _secret,
        secret=True,
    ),
    Setting(
        "DATADOG_APP_KEY",
        "",
        "Datadog application key: literal, or a Secret Manager version name",
        "a key, or projects/P/secrets/S/versions/V",
        _secret,
        secret=True,
    ),
    Setting("DATADOG_SITE", "datadoghq.com", "Datadog site", f"one of {', '.join(sites.SITES)}", _site),
    Setting(
        "TRACE_LOOKBACK_HOURS",
        "24",
        "how far back a run looks, in hours",
        "a number from 1 to 360 (15 days)",
        _number(1, 360),
    ),
    Setting(
        "SINCE_LAST",
        "false",
        "whether a run that names no window reads what is new since the last one, and again what may have arrived late",
        "true or false",
        _switch,
    ),
    Setting("QUALITY_THRESHOLD", "0.5", "a quality score below it is a failure", "a number from 0 to 1", _number(0, 1)),
    Setting(
        "FIRESTORE_COLLECTION_PREFIX",
        "evalforge_",
        "what the names of all collections begin with",
        "a letter, then at most 60 letters, digits, _ or -",
        _matching(r"[A-Za-z][A-Za-z0-9_\-]{0,60}"),
    ),
    Setting(
        "PII_SALT",
        "",
        "the key that user ids are hashed with: literal, a ring of keys, or a Secret Manager version name; "
        "without it ids are dropped and user_hash stays empty",
        "at least 32 bytes of secret, or several such keys separated by spaces, newest first; make one with: "
        'python3 -c "import secrets; print(secrets.token_urlsafe(48))"',
        _salt,
        secret=True,
    ),
    Setting(
        "DATADOG_API_URL",
        "",
        "base URL of Datadog's API, when it is not the site's own",
        _API_URL_WANTS,
        _matching(r"https?://[^\s]{1,500}"),
    ),
    Setting(
        "DATADOG_API_URL_TRUSTED",
        "",
        "the one foreign https host that may receive the keys",
        "a host name",
        _matching(_HOST_NAME),
    ),
    Setting("DATADOG_SOURCES", "llm_obs,apm", "which searches are read", "llm_obs, apm, or both with a comma", _sources),
    Setting(
        "DATADOG_APM_SCOPE",
        "@llmobs_trace_id:*",
        "which APM spans count, as a Datadog query",
        "a query of 1 to 1000 characters",
        _matching(r"[^\x00-\x1f]{1,1000}"),
    ),
    Setting(
        "DATADOG_RESOLVE_USERS",
        "false",
        "at the end of a run, look up the users of failing traces whose failing spans name none, on the traces' roots",
        "true or false",
        _switch,
    ),
    Setting(
        "DATADOG_ENRICH_FROM_APM",
        "false",
        "at the end of a run, ask APM by span id what the errors of failing spans said that came without a message",
        "true or false",
        _switch,
    ),
    Setting("DATADOG_ML_APPS", "", "only these LLM applications", "names separated by commas", _names(_EVALUATOR)),
    Setting("DATADOG_ENVS", "", "only these environments", "names separated by commas", _names(_EVALUATOR)),
    Setting(
        "DATADOG_FILTER",
        "auto",
        "query: ask only for failures; scan: read every span; auto: ask, and check by reading samples",
        "auto, query or scan",
        _one_of("auto", "query", "scan"),
    ),
    Setting("EVALUATIONS", "", "further evaluator names to ask for", "names separated by commas", _names(_EVALUATOR)),
    Setting(
        "IGNORED_EVALUATIONS",
        "",
        "evaluator names that never make a failure",
        "names separated by commas",
        _names(_EVALUATOR),
    ),
    Setting(
        "TOXICITY_THRESHOLD", "0.7", "a toxicity score at or above it is a failure", "a number from 0 to 1", _number(0, 1)
    ),
    Setting(
        "APPLICATION_THRESHOLDS",
        "",
        "scores of single LLM applications, instead of QUALITY_THRESHOLD and TOXICITY_THRESHOLD; the names' case makes no "
        "difference",
        "application=quality:0.7+toxicity:0.8, or either score alone; more applications after commas; numbers from 0 to 1",
        _own_limits,
        spell=_spelled_limits,
    ),
    Setting(
        "RETRY_BUDGET_S", "60", "how long one fault may be retried, in seconds", "a number from 0 to 3600", _number(0, 3600)
    ),
    Setting(
        "RUN_BUDGET_S",
        "1500",
        "after how many seconds a run stops at the next page; the next run goes on",
        "a number from 1 to 86400",
        _number(1, 86_400),
    ),
    Setting(
        "STOP_GRACE_S",
        "8",
        "how many seconds a service that is told to stop waits for a run to store its page; less than the platform waits",
        "a whole number from 1 to 3600",
        _integer(1, 3600),
    ),
    Setting(
        "MAX_CAPTURES_PER_RUN",
        "100000",
        "after how many captures a run stops at the next page; the next run goes on",
        "a whole number from 1 to 10000000",
        _integer(1, 10_000_000),
    ),
    Setting("CAPTURE_STORE", "firestore", "where captures are kept", "firestore, or sqlite:///path", _store),
    Setting(
        "GOOGLE_CLOUD_PROJECT",
        "",
        f"project of Firestore; with the emulator and no project: {EMULATOR_PROJECT}",
        "a project id",
        _matching(r"[A-Za-z0-9][A-Za-z0-9:.\-]{0,99}"),
    ),
    Setting(
        "FIRESTORE_DATABASE",
        "(default)",
        "Firestore database",
        "a database id, or (default)",
        _matching(r"\(default\)|[a-z][a-z0-9\-]{2,61}[a-z0-9]"),
    ),
    Setting(
        "FIRESTORE_EMULATOR_HOST", "", "address of a local Firestore emulator", "host:port on loopback", _loopback_address
    ),
    Setting(
        "SECRET_MANAGER_ENDPOINT",
        "",
        "points Secret Manager's client at a local server",
        "host:port on loopback",
        _loopback_address,
    ),
    Setting(
        "PII_TEXT_ALLOWLIST",
        "",
        "texts to keep, scrubbed; only of captures that name a user",
        modes.WANTS,
        _text_paths,
    ),
    Setting(
        "PII_TEXT_OPEN",
        "",
        "texts to keep as they are, personal data and all; PII_TEXT_ALLOWLIST must name them too",
        modes.WANTS,
        _text_paths,
    ),
    Setting(
        "PII_EXPLANATIONS",
        "scrubbed",
        "evaluators' reasoning, error messages and stacks, tools' error texts",
        "scrubbed or closed",
        _one_of("scrubbed", "closed"),
    ),
    Setting("RETENTION_DAYS", "180", "how long captures are kept", "a whole number from 1 to 3650", _integer(1, 3650)),
    Setting(
        "EXPORT_DESTINATIONS",
        "",
        "where the service may write exports: name=folder, separated by commas",
        "name=folder pairs; a name has lower-case letters, digits and dashes",
        _destinations,
        spell=_spelled_destinations,
    ),
    Setting(
        "HOST",
        "127.0.0.1",
        "address that the service listens on",
        "a loopback address or name",
        _matching(r"[A-Za-z0-9.:\-\[\]]{1,253}"),
    ),
    Setting("PORT", "8000", "port that the service listens on", "a whole number from 0 to 65535", _integer(0, 65_535)),
    Setting(
        "PUBLIC_HOSTS",
        "",
        "names besides loopback ones that requests may give as Host",
        "host names separated by commas",
        _names(_HOST_NAME),
    ),
    Setting(
        "LOG_FORMAT",
        "json",
        "form of the log lines; on a terminal console is the default",
        "json or console",
        _one_of("json", "console"),
    ),
)
"""Every setting of the project, in the order in which they are documented."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The parsed settings, one field per row of `SETTINGS`. Secrets hide themselves; unset ones are None or empty.

    `from_environment` is how one is made; the defaults here are for code that builds one by hand and equal the table's.
    """

    datadog_api_key: Secret | None = None
    datadog_app_key: Secret | None = None
    datadog_site: str = "datadoghq.com"
    trace_lookback_hours: float = 24.0
    since_last: bool = False
    quality_threshold: float = 0.5
    firestore_collection_prefix: str = "evalforge_"
    pii_salt: Secret | None = None
    datadog_api_url: str | None = None
    datadog_api_url_trusted: str | None = None
    datadog_sources: tuple[str, ...] = ("llm_obs", "apm")
    datadog_apm_scope: str = "@llmobs_trace_id:*"
    datadog_resolve_users: bool = False
    datadog_enrich_from_apm: bool = False
    datadog_ml_apps: tuple[str, ...] = ()
    datadog_envs: tuple[str, ...] = ()
    datadog_filter: FilterMode = "auto"
    evaluations: tuple[str, ...] = ()
    ignored_evaluations: tuple[str, ...] = ()
    toxicity_threshold: float = 0.7
    application_thresholds: tuple[tuple[str, Limits], ...] = ()
    retry_budget_s: float = 60.0
    run_budget_s: float = 1500.0
    stop_grace_s: int = 8
    max_captures_per_run: int = 100_000
    capture_store: str = "firestore"
    google_cloud_project: str | None = None
    firestore_database: str = "(default)"
    firestore_emulator_host: str | None = None
    secret_manager_endpoint: str | None = None
    pii_text_allowlist: tuple[str, ...] = ()
    pii_text_open: tuple[str, ...] = ()
    pii_explanations: Literal["scrubbed", "closed"] = "scrubbed"
    retention_days: int = 180
    export_destinations: tuple[tuple[str, str], ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    public_hosts: tuple[str, ...] = ()
    log_format: Literal["json", "console"] = "json"
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """The names of the settings that the environment gave, to tell a default from a choice."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process, or of the mapping given instead.

        Raises:
            SettingsError: lists every setting that is wrong: its name, what it got (never a secret), what it wants.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        problems: list[str] = []
        given: set[str] = set()
        for setting in SETTINGS:
            text = environment.get(setting.name, "").strip()
            if not text:
                continue  # an empty variable is how many platforms spell "unset"
            given.add(setting.name)
            try:
                values[setting.attribute] = setting.parse(text)
            except ValueError as wrong:
                problems.append(_problem(setting, text, str(wrong) if isinstance(wrong, _WrongError) else ""))
        if "datadog_api_url" in values:
            try:
                values["datadog_api_url"] = sites.validated_api_url(
                    values["datadog_api_url"], values.get("datadog_api_url_trusted")
                )
            except ValueError:
                problems.append(_problem(_ROW["DATADOG_API_URL"], environment["DATADOG_API_URL"].strip(), ""))
        try:
            modes.TextPolicy.of(values.get("pii_text_allowlist", ()), values.get("pii_text_open", ()))
        except ValueError as wrong:
            if not any(problem.startswith(("PII_TEXT_ALLOWLIST", "PII_TEXT_OPEN")) for problem in problems):
                problems.append(_problem(_ROW["PII_TEXT_OPEN"], environment["PII_TEXT_OPEN"].strip(), str(wrong)))
        if problems:
            raise SettingsError(problems)
        return cls(**values, given=frozenset(given))

    @property
    def thresholds(self) -> Thresholds:
        """What the signal rules read."""
        return Thresholds(
            self.quality_threshold,
            self.toxicity_threshold,
            frozenset(self.ignored_evaluations),
            {name.casefold(): limits for name, limits in self.application_thresholds},
        )

    @property
    def text_policy(self) -> modes.TextPolicy:
        """Which texts the sanitizer keeps, and how.

        Raises:
            ValueError: `pii_text_open` names what `pii_text_allowlist` does not; `from_environment` refuses that.
        """
        return modes.TextPolicy.of(self.pii_text_allowlist, self.pii_text_open, self.pii_explanations)

    @property
    def api_url(self) -> str:
        """Base URL of Datadog's API, without a slash at the end."""
        return self.datadog_api_url or sites.api_url(self.datadog_site)

    @property
    def sqlite_path(self) -> str | None:
        """The file of the SQLite store, or None when captures are kept in Firestore."""
        return self.capture_store.removeprefix("sqlite:///") if self.capture_store.startswith("sqlite:///") else None

    def shown(self) -> dict[str, str]:
        """Every setting by name as one may show it: secrets as "set" or "unset", a reference by its name."""
        return {setting.name: _shown(setting, getattr(self, setting.attribute)) for setting in SETTINGS}


_USER_INFO = re.compile(r"//.*@", re.DOTALL)
_ROW = {setting.name: setting for setting in SETTINGS}


def one_setting(name: str, default: Any, environment: Mapping[str, str] | None = None) -> Any:
    """The value of one setting by itself; `default` when it is unset or wrong (then `Settings` says what is wrong)."""
    text = (os.environ if environment is None else environment).get(name, "").strip()
    try:
        return parsed_value(name, text) if text else default
    except SettingsError:
        return default


def parsed_value(name: str, text: str) -> Any:
    """The value of one setting as its row parses it, for requests that override a setting.

    Raises:
        SettingsError: names the setting, what it got and what it wants.
    """
    setting = _ROW[name]
    try:
        return setting.parse(text.strip())
    except ValueError as wrong:
        raise SettingsError(_problem(setting, text, "")) from wrong


def _problem(setting: Setting, text: str, why: str) -> str:
    got = f"{len(text)} characters that do not fit" if setting.secret else repr(_USER_INFO.sub("//***@", text)[:80])
    return f"{setting.name}: got {got}; wants {setting.wants}" + (f" ({why})" if why else "")


def _shown(setting: Setting, value: Any) -> str:
    if isinstance(value, Secret):
        return f"set, {value.reveal()}" if value.is_reference else "set"
    if setting.secret or value is None or value == ():
        return "unset"
    if setting.spell is not None:
        return setting.spell(value)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
