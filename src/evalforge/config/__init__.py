"""Settings: the only reader of the environment. `SETTINGS` is the one list; docs/configuration.md is generated from it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from evalforge.config import values
from evalforge.config.values import Secret
from evalforge.core import callers, otlp, sites, webhooks
from evalforge.core.ports import FilterMode
from evalforge.core.privacy import modes
from evalforge.core.signals import Limits, Thresholds
from evalforge.errors import SettingsError

EMULATOR_PROJECT = "evalforge-local"


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
SETTINGS: tuple[Setting, ...] = (
    Setting(
        "DATADOG_API_KEY",
        "",
        "Datadog API key: literal, or a Secret Manager version name",
        "a key, or projects/P/secrets/S/versions/V",
        values.secret,
        secret=True,
    ),
    Setting(
        "DATADOG_APP_KEY",
        "",
        "Datadog application key: literal, or a Secret Manager version name",
        "a key, or projects/P/secrets/S/versions/V",
        values.secret,
        secret=True,
    ),
    Setting("DATADOG_SITE", "datadoghq.com", "Datadog site", f"one of {', '.join(sites.SITES)}", values.site),
    Setting(
        "TRACE_LOOKBACK_HOURS",
        "24",
        "how far back a run looks, in hours",
        "a number from 1 to 360 (15 days)",
        values.number(1, 360),
    ),
    Setting(
        "SINCE_LAST",
        "false",
        "whether a run that names no window reads what is new since the last one, and again what may have arrived late",
        "true or false",
        values.switch,
    ),
    Setting(
        "QUALITY_THRESHOLD", "0.5", "a quality score below it is a failure", "a number from 0 to 1", values.number(0, 1)
    ),
    Setting(
        "FIRESTORE_COLLECTION_PREFIX",
        "evalforge_",
        "what the names of all collections begin with",
        "a letter, then at most 60 letters, digits, _ or -",
        values.matching(r"[A-Za-z][A-Za-z0-9_\-]{0,60}"),
    ),
    Setting(
        "PII_SALT",
        "",
        "the key that user ids are hashed with: literal, a ring of keys, or a Secret Manager version name; "
        "without it ids are dropped and user_hash stays empty",
        "at least 32 bytes of secret, or several such keys separated by spaces, newest first; make one with: "
        'python3 -c "import secrets; print(secrets.token_urlsafe(48))"',
        values.salt,
        secret=True,
    ),
    Setting(
        "DATADOG_API_URL",
        "",
        "base URL of Datadog's API, when it is not the site's own",
        values.API_URL_WANTS,
        values.matching(r"https?://[^\s]{1,500}"),
    ),
    Setting(
        "DATADOG_API_URL_TRUSTED",
        "",
        "the one foreign https host that may receive the keys",
        "a host name",
        values.matching(values.HOST_NAME),
    ),
    Setting(
        "DATADOG_SOURCES", "llm_obs,apm", "which searches are read", "llm_obs, apm, or both with a comma", values.sources
    ),
    Setting(
        "DATADOG_APM_SCOPE",
        "@llmobs_trace_id:*",
        "which APM spans count, as a Datadog query",
        "a query of 1 to 1000 characters",
        values.matching(r"[^\x00-\x1f]{1,1000}"),
    ),
    Setting(
        "DATADOG_RESOLVE_USERS",
        "false",
        "at the end of a run, look up the users of failing traces whose failing spans name none, on the traces' roots",
        "true or false",
        values.switch,
    ),
    Setting(
        "DATADOG_ENRICH_FROM_APM",
        "false",
        "at the end of a run, ask APM by span id what the errors of failing spans said that came without a message",
        "true or false",
        values.switch,
    ),
    Setting(
        "DATADOG_ML_APPS", "", "only these LLM applications", "names separated by commas", values.names(values.EVALUATOR)
    ),
    Setting("DATADOG_ENVS", "", "only these environments", "names separated by commas", values.names(values.EVALUATOR)),
    Setting(
        "DATADOG_FILTER",
        "auto",
        "query: ask only for failures; scan: read every span; auto: ask, and check by reading samples",
        "auto, query or scan",
        values.one_of("auto", "query", "scan"),
    ),
    Setting(
        "EVALUATIONS", "", "further evaluator names to ask for", "names separated by commas", values.names(values.EVALUATOR)
    ),
    Setting(
        "IGNORED_EVALUATIONS",
        "",
        "evaluator names that never make a failure",
        "names separated by commas",
        values.names(values.EVALUATOR),
    ),
    Setting(
        "TOXICITY_THRESHOLD",
        "0.7",
        "a toxicity score at or above it is a failure",
        "a number from 0 to 1",
        values.number(0, 1),
    ),
    Setting(
        "APPLICATION_THRESHOLDS",
        "",
        "scores of single LLM applications, instead of QUALITY_THRESHOLD and TOXICITY_THRESHOLD; the names' case makes no "
        "difference",
        "application=quality:0.7+toxicity:0.8, or either score alone; more applications after commas; numbers from 0 to 1",
        values.own_limits,
        spell=values.spelled_limits,
    ),
    Setting(
        "RETRY_BUDGET_S",
        "60",
        "how long one fault may be retried, in seconds",
        "a number from 0 to 3600",
        values.number(0, 3600),
    ),
    Setting(
        "RUN_BUDGET_S",
        "1500",
        "after how many seconds a run stops at the next page; the next run goes on",
        "a number from 1 to 86400",
        values.number(1, 86_400),
    ),
    Setting(
        "STOP_GRACE_S",
        "8",
        "how many seconds a service that is told to stop waits for a run to store its page; less than the platform waits",
        "a whole number from 1 to 3600",
        values.integer(1, 3600),
    ),
    Setting(
        "MAX_CAPTURES_PER_RUN",
        "100000",
        "after how many captures a run stops at the next page; the next run goes on",
        "a whole number from 1 to 10000000",
        values.integer(1, 10_000_000),
    ),
    Setting("CAPTURE_STORE", "firestore", "where captures are kept", "firestore, or sqlite:///path", values.store),
    Setting(
        "GOOGLE_CLOUD_PROJECT",
        "",
        f"project of Firestore; with the emulator and no project: {EMULATOR_PROJECT}",
        "a project id",
        values.matching(r"[A-Za-z0-9][A-Za-z0-9:.\-]{0,99}"),
    ),
    Setting(
        "FIRESTORE_DATABASE",
        "(default)",
        "Firestore database",
        "a database id, or (default)",
        values.matching(r"\(default\)|[a-z][a-z0-9\-]{2,61}[a-z0-9]"),
    ),
    Setting(
        "FIRESTORE_EMULATOR_HOST",
        "",
        "address of a local Firestore emulator",
        "host:port on loopback",
        values.loopback_address,
    ),
    Setting(
        "SECRET_MANAGER_ENDPOINT",
        "",
        "points Secret Manager's client at a local server",
        "host:port on loopback",
        values.loopback_address,
    ),
    Setting(
        "PII_TEXT_ALLOWLIST",
        "",
        "texts to keep, scrubbed; only of captures that name a user",
        modes.WANTS,
        values.text_paths,
    ),
    Setting(
        "PII_TEXT_OPEN",
        "",
        "texts to keep as they are, personal data and all; PII_TEXT_ALLOWLIST must name them too",
        modes.WANTS,
        values.text_paths,
    ),
    Setting(
        "PII_EXPLANATIONS",
        "scrubbed",
        "evaluators' reasoning, error messages and stacks, tools' error texts",
        "scrubbed or closed",
        values.one_of("scrubbed", "closed"),
    ),
    Setting("RETENTION_DAYS", "180", "how long captures are kept", "a whole number from 1 to 3650", values.integer(1, 3650)),
    Setting(
        "EXPORT_DESTINATIONS",
        "",
        "where exports may go: name=folder, name=gs://bucket/prefix or name=https://webhook, separated by commas",
        values.DESTINATIONS_WANTS,
        values.destinations,
        spell=values.spelled_destinations,
    ),
    Setting(
        "EXPORT_WEBHOOK_SECRET",
        "",
        "what exports to webhooks are signed with: literal, several of them, or a Secret Manager version name",
        webhooks.KEYS_WANTED,
        values.webhook_secret,
        secret=True,
    ),
    Setting(
        "CLOUD_STORAGE_ENDPOINT",
        "",
        "points Cloud Storage's client at a local server, without credentials",
        "host:port on loopback",
        values.loopback_address,
    ),
    Setting(
        "REVIEW_WEBHOOK_URL",
        "",
        "where runs tell of groups that are new or have regressed: literal, or a Secret Manager version name; goes with "
        "REVIEW_WEBHOOK_SECRET",
        webhooks.URL_WANTS,
        values.webhook_url,
        secret=True,
    ),
    Setting(
        "REVIEW_WEBHOOK_SECRET",
        "",
        "what the webhook's posts are signed with: literal, several of them, or a Secret Manager version name; goes with "
        "REVIEW_WEBHOOK_URL",
        webhooks.KEYS_WANTED,
        values.webhook_secret,
        secret=True,
    ),
    Setting(
        "REVIEW_BASE_URL",
        "",
        "where reviewers open this service, such as https://evalforge.example.com: the webhook's links begin with it",
        "an http(s) URL without user name, query and fragment",
        values.base_url,
    ),
    Setting(
        "HOST",
        "127.0.0.1",
        "address that the service listens on",
        "a loopback address; others need SERVICE_API_KEYS, SERVICE_OIDC_CALLERS or SERVICE_CALLERS_CHECKED_BY=platform",
        values.matching(r"[A-Za-z0-9.:\-\[\]]{1,253}"),
    ),
    Setting("PORT", "8000", "port that the service listens on", "a whole number from 0 to 65535", values.integer(0, 65_535)),
    Setting(
        "PUBLIC_HOSTS",
        "",
        "names besides loopback ones that requests may give as Host",
        "host names separated by commas",
        values.names(values.HOST_NAME),
    ),
    Setting(
        "SERVICE_API_KEYS",
        "",
        "who may call the service with a key: the digest of each key, with a name and roles; several may share a name",
        callers.KEY_ROWS_WANTS,
        values.rows(callers.parse_key_rows),
        secret=True,
        spell=values.spelled_keys,
    ),
    Setting(
        "SERVICE_OIDC_AUDIENCE",
        "",
        "the audience that Google's ID tokens must be made for, such as the service's URL; goes with SERVICE_OIDC_CALLERS",
        "1 to 500 printable characters without spaces",
        values.matching(r"[\x21-\x7e]{1,500}"),
    ),
    Setting(
        "SERVICE_OIDC_CALLERS",
        "",
        "which service accounts may call with a Google ID token, and their roles; goes with SERVICE_OIDC_AUDIENCE",
        callers.ACCOUNTS_WANTS,
        values.rows(callers.parse_accounts),
        spell=values.spelled_accounts,
    ),
    Setting(
        "SERVICE_OIDC_CERTS_URL",
        values.GOOGLE_CERTS_URL,
        "where the keys that ID tokens are signed with are fetched",
        "Google's own address, or an http(s) URL on loopback",
        values.certs_url,
    ),
    Setting(
        "SERVICE_CALLERS_CHECKED_BY",
        "service",
        "platform: whatever is in front lets only callers through that may do everything, so the service may listen on a "
        "public address without callers of its own",
        "service or platform",
        values.one_of("service", "platform"),
    ),
    Setting(
        "LOG_FORMAT",
        "json",
        "form of the log lines; on a terminal console is the default",
        "json or console",
        values.one_of("json", "console"),
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "where metrics and traces are sent over OTLP/HTTP, to /v1/metrics and /v1/traces below it; needs the extra otel",
        otlp.ENDPOINT_WANTS,
        values.otlp_endpoint,
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "",
        "headers that they are sent with, such as a collector's key: literal, or a Secret Manager version name",
        otlp.PAIRS_WANTS,
        values.otlp_headers,
        secret=True,
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "http/protobuf",
        "the protocol; there is no other here",
        "http/protobuf",
        values.one_of("http/protobuf"),
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "10000",
        "how long sending one batch may take with all its repetitions, in milliseconds",
        "a whole number from 1 to 60000",
        values.integer(1, 60_000),
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "cumulative",
        "whether counters are sent as totals or as growth since the last time; Datadog wants delta",
        "cumulative, delta or lowmemory",
        values.one_of("cumulative", "delta", "lowmemory"),
    ),
    Setting(
        "OTEL_METRIC_EXPORT_INTERVAL",
        "60000",
        "how often metrics are sent, in milliseconds; once more at the end",
        "a whole number from 100 to 3600000",
        values.integer(100, 3_600_000),
    ),
    Setting("OTEL_METRICS_EXPORTER", "otlp", "whether metrics are sent", "otlp or none", values.one_of("otlp", "none")),
    Setting("OTEL_TRACES_EXPORTER", "otlp", "whether traces are sent", "otlp or none", values.one_of("otlp", "none")),
    Setting(
        "OTEL_SERVICE_NAME",
        "evalforge-ingestion",
        "the service that telemetry is of",
        "a letter, then at most 99 letters, digits, dots, dashes or _",
        values.matching(r"[A-Za-z][A-Za-z0-9._\-]{0,99}"),
    ),
    Setting(
        "OTEL_RESOURCE_ATTRIBUTES",
        "",
        "what else telemetry says of this process, such as deployment.environment.name=prod",
        otlp.PAIRS_WANTS,
        values.resource_attributes,
        spell=values.spelled_pairs,
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
    export_webhook_secret: Secret | None = None
    cloud_storage_endpoint: str | None = None
    review_webhook_url: Secret | None = None
    review_webhook_secret: Secret | None = None
    review_base_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    public_hosts: tuple[str, ...] = ()
    service_api_keys: tuple[callers.KeyRow, ...] = ()
    service_oidc_audience: str | None = None
    service_oidc_callers: tuple[callers.Caller, ...] = ()
    service_oidc_certs_url: str = values.GOOGLE_CERTS_URL
    service_callers_checked_by: Literal["service", "platform"] = "service"
    log_format: Literal["json", "console"] = "json"
    otel_exporter_otlp_endpoint: str | None = None
    otel_exporter_otlp_headers: Secret | None = None
    otel_exporter_otlp_protocol: str = "http/protobuf"
    otel_exporter_otlp_timeout: int = 10_000
    otel_exporter_otlp_metrics_temporality_preference: Literal["cumulative", "delta", "lowmemory"] = "cumulative"
    otel_metric_export_interval: int = 60_000
    otel_metrics_exporter: Literal["otlp", "none"] = "otlp"
    otel_traces_exporter: Literal["otlp", "none"] = "otlp"
    otel_service_name: str = "evalforge-ingestion"
    otel_resource_attributes: tuple[tuple[str, str], ...] = ()
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """The names of the settings that the environment gave, to tell a default from a choice."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process, or of the mapping given instead.

        Raises:
            SettingsError: lists every setting that is wrong: its name, what it got (never a secret), what it wants.
        """
        environment = os.environ if environment is None else environment
        parsed: dict[str, Any] = {}
        problems: list[str] = []
        given: set[str] = set()
        for setting in SETTINGS:
            text = environment.get(setting.name, "").strip()
            if not text:
                continue  # an empty variable is how many platforms spell "unset"
            given.add(setting.name)
            try:
                parsed[setting.attribute] = setting.parse(text)
            except ValueError as wrong:
                problems.append(_problem(setting, text, str(wrong) if isinstance(wrong, values.WrongError) else ""))
        if "datadog_api_url" in parsed:
            try:
                parsed["datadog_api_url"] = sites.validated_api_url(
                    parsed["datadog_api_url"], parsed.get("datadog_api_url_trusted")
                )
            except ValueError:
                problems.append(_problem(_ROW["DATADOG_API_URL"], environment["DATADOG_API_URL"].strip(), ""))
        try:
            modes.TextPolicy.of(parsed.get("pii_text_allowlist", ()), parsed.get("pii_text_open", ()))
        except ValueError as wrong:
            if not any(problem.startswith(("PII_TEXT_ALLOWLIST", "PII_TEXT_OPEN")) for problem in problems):
                problems.append(_problem(_ROW["PII_TEXT_OPEN"], environment["PII_TEXT_OPEN"].strip(), str(wrong)))
        for name, other in _TOGETHER:
            if name in given and other not in given:
                problems.append(f"{other}: got nothing; wants {_ROW[other].wants}, since {name} is set")
        if problems:
            raise SettingsError(problems)
        return cls(**parsed, given=frozenset(given))

    @classmethod
    def of_callers(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Only the settings that say who may call the service; the rest are defaults, whatever the environment says.

        Raises:
            SettingsError: one of them is wrong. Who may come in is never guessed.
        """
        environment = os.environ if environment is None else environment
        return cls.from_environment({name: environment.get(name, "") for name in _ROW if name.startswith("SERVICE_")})

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
    def export_folders(self) -> dict[str, str]:
        """The folders among the destinations of exports, by name."""
        return {name: place for name, place in self.export_destinations if "://" not in place}

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


_TOGETHER = (
    ("SERVICE_OIDC_AUDIENCE", "SERVICE_OIDC_CALLERS"),
    ("SERVICE_OIDC_CALLERS", "SERVICE_OIDC_AUDIENCE"),
    ("REVIEW_WEBHOOK_URL", "REVIEW_WEBHOOK_SECRET"),
    ("REVIEW_WEBHOOK_SECRET", "REVIEW_WEBHOOK_URL"),
)
_USER_INFO = re.compile(r"//.*@", re.DOTALL)
_ROW = {setting.name: setting for setting in SETTINGS}


def one_setting(name: str, default: Any, environment: Mapping[str, str] | None = None) -> Any:
    """The value of one setting by itself; `default` when it is unset or wrong (then `Settings` says what is wrong)."""
    text = (os.environ if environment is None else environment).get(name, "").strip()
    try:
        return parsed_value(name, text) if text else default
    except SettingsError:
        return default


def setting_value(name: str, environment: Mapping[str, str] | None = None) -> Any:
    """The value of one setting by itself, its default where it is unset; None where it has none.

    Raises:
        SettingsError: names the setting, what it got and what it wants.
    """
    text = (os.environ if environment is None else environment).get(name, "").strip() or _ROW[name].default
    return parsed_value(name, text) if text else None


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
    if value is None or value == ():
        return "unset"
    if setting.spell is not None:
        return setting.spell(value)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
