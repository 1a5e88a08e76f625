"""Every setting: its default, what it accepts, and an error that names the setting, what it got and what it wants."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from evalforge.config import SETTINGS, Settings, one_setting, parsed_value
from evalforge.config.values import GOOGLE_CERTS_URL, Secret
from evalforge.core.callers import Caller, KeyRow, Role
from evalforge.core.signals import Limits
from evalforge.errors import SettingsError

SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5yT1cF0dS"
ACCOUNT = "scheduler@my-project.iam.gserviceaccount.com"
HOOK = "https://hooks.example.com/T0/hunter2?token=hunter2"
HOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
REFERENCE = "projects/my-project/secrets/datadog-api-key/versions/latest"

# name -> (accepted text, what it becomes) rows, then refused texts
TABLE: dict[str, tuple[list[tuple[str, Any]], list[str]]] = {
    "DATADOG_API_KEY": (
        [("abc", Secret("abc")), (REFERENCE, Secret(REFERENCE))],
        [
            "projects/p/secrets",
            "projects/p/secrets/s/versions/",
            "a\nb",
            "clé",
            "a\x00b",
            "projects/p/secrets/../versions/1",
        ],
    ),
    "DATADOG_APP_KEY": ([("abc", Secret("abc"))], ["a\x7fb", "projects/hunter2"]),
    "DATADOG_SITE": (
        [("us5.datadoghq.com", "us5.datadoghq.com"), ("DATADOGHQ.EU", "datadoghq.eu")],
        [
            "evil.com",
            "datadoghq.com.evil.com",
            "https://datadoghq.com",
            "api.datadoghq.com",
            "datadoghq.com/",
            "datadoghq.com@evil",
        ],
    ),
    "TRACE_LOOKBACK_HOURS": (
        [("1", 1.0), ("360", 360.0), ("1.5", 1.5), (" 24 ", 24.0)],
        ["0", "0.99", "361", "-5", "nan", "inf", "a day", "1e9", "24h", "1_0", "٣"],
    ),
    "SINCE_LAST": ([("true", True), ("no", False)], ["always", "true,false"]),
    "QUALITY_THRESHOLD": ([("0", 0.0), ("1", 1.0), (".5", 0.5)], ["1.01", "-0.1", "NaN", "half", "0,5"]),
    "FIRESTORE_COLLECTION_PREFIX": (
        [("evalforge_", "evalforge_"), ("Team-a_", "Team-a_")],
        ["__x", "a/b", "a.b", "1a", "a" * 62, "é_", "a b", "..", "a\x00"],
    ),
    "PII_SALT": (
        [(SALT, Secret(SALT)), (REFERENCE, Secret(REFERENCE))],
        ["projects/p", "ä" * 40, "a\tb", "short", "x" * 40],
    ),
    "DATADOG_API_URL": (
        [
            ("http://127.0.0.1:8126/", "http://127.0.0.1:8126"),
            ("https://api.us5.datadoghq.com", "https://api.us5.datadoghq.com"),
            ("http://localhost:1", "http://localhost:1"),
            ("http://[::1]:1", "http://[::1]:1"),
        ],
        [
            "http://api.datadoghq.com",
            "https://evil.com",
            "https://api.datadoghq.com.evil.com",
            "https://datadoghq.com@evil.com",
            "ftp://127.0.0.1",
            "127.0.0.1:8126",
            "http://10.0.0.1",
            "http://127.0.0.1.evil.com",
            "https://api.datadoghq.com?x=1",
            "https://[",
        ],
    ),
    "DATADOG_API_URL_TRUSTED": ([("proxy.example.com", "proxy.example.com")], ["https://proxy.example.com/x", "a b", "-x"]),
    "DATADOG_SOURCES": (
        [("apm", ("apm",)), ("apm, llm_obs,apm", ("apm", "llm_obs")), ("LLM_OBS", ("llm_obs",))],
        ["logs", "llm_obs,logs", ",", "llm_obs apm"],
    ),
    "DATADOG_APM_SCOPE": ([("service:shop", "service:shop")], ["x" * 1001, "a\nb"]),
    "DATADOG_RESOLVE_USERS": (
        [("true", True), ("FALSE", False), ("1", True), ("0", False), ("yes", True), ("off", False)],
        ["maybe", "2", "tru", "true,false"],
    ),
    "DATADOG_ENRICH_FROM_APM": ([("true", True), ("off", False)], ["sometimes", "3"]),
    "DATADOG_ML_APPS": ([("a, b,a", ("a", "b"))], ["a\x01b", "x" * 201]),
    "DATADOG_ENVS": ([("prod,staging", ("prod", "staging"))], ["pr\x02od"]),
    "DATADOG_FILTER": ([("SCAN", "scan"), ("query", "query")], ["all", "auto,scan"]),
    "EVALUATIONS": ([("my judge,b", ("my judge", "b"))], ["a\x00b", "x" * 201]),
    "IGNORED_EVALUATIONS": ([("csat", ("csat",))], ["a\x1bb"]),
    "TOXICITY_THRESHOLD": ([("0.9", 0.9)], ["2", "x"]),
    "APPLICATION_THRESHOLDS": (
        [
            (
                "shop=quality:0.7+toxicity:0.8, Chat = Quality:.3 ,",
                (("shop", Limits(0.7, 0.8)), ("Chat", Limits(0.3, None))),
            ),
            ("a b:c+d=toxicity:1", (("a b:c+d", Limits(None, 1.0)),)),
        ],
        [
            "shop",
            "shop=",
            "=quality:0.5",
            "shop=quality",
            "shop=quality:2",
            "shop=quality:nan",
            "shop=speed:0.5",
            "shop=quality:0.5+quality:0.6",
            "shop=quality:0.5,SHOP=toxicity:0.6",
            "shop=quality:0.5;chat=quality:0.5",
            "shop=quality:0,5",
            "sh\x00op=quality:0.5",
            ",",
        ],
    ),
    "RETRY_BUDGET_S": ([("0", 0.0), ("3600", 3600.0)], ["-1", "3601", "inf"]),
    "RUN_BUDGET_S": ([("1", 1.0)], ["0", "86401"]),
    "STOP_GRACE_S": ([("1", 1), ("3600", 3600)], ["0", "3601", "1.5", "x"]),
    "MAX_CAPTURES_PER_RUN": ([("1", 1), ("10000000", 10_000_000)], ["0", "10000001", "1.5", "1e3", "1_000", "9" * 5000]),
    "CAPTURE_STORE": (
        [
            ("firestore", "firestore"),
            ("sqlite:///c.sqlite3", "sqlite:///c.sqlite3"),
            ("sqlite:////var/c", "sqlite:////var/c"),
        ],
        ["sqlite://c", "sqlite:///", "postgres://x", "sqlite:///a\0b", "Firestore"],
    ),
    "GOOGLE_CLOUD_PROJECT": ([("my-project", "my-project"), ("example.com:p", "example.com:p")], ["a/b", "-a", "p" * 101]),
    "FIRESTORE_DATABASE": ([("(default)", "(default)"), ("team-a", "team-a")], ["default)", "a/b", "A-b"]),
    "FIRESTORE_EMULATOR_HOST": (
        [("127.0.0.1:8080", "127.0.0.1:8080"), ("localhost:1", "localhost:1"), ("[::1]:8080", "[::1]:8080")],
        ["10.0.0.1:8080", "localhost", "localhost:0", "localhost:99999", "localhost:80/x", "evil.com:80"],
    ),
    "SECRET_MANAGER_ENDPOINT": ([("127.0.0.1:9", "127.0.0.1:9")], ["secretmanager.googleapis.com:443", ":9", "127.0.0.1:x"]),
    "PII_TEXT_ALLOWLIST": (
        [
            ("input", ("input",)),
            ("input, output,input", ("input", "output")),
            ("Prompt,response", ("Prompt", "response")),
            (
                "metadata.notes,evaluation.helpfulness-check.reasoning",
                ("metadata.notes", "evaluation.helpfulness-check.reasoning"),
            ),
            ("attributes.gen_ai.prompt", ("attributes.gen_ai.prompt",)),
        ],
        [
            "*",
            "input,*",
            "metadata.*",
            "metadata",
            "evaluation.x",
            "tags",
            "notes",
            "input.",
            ".input",
            "metadata.user_email",
            "a b",
        ],
    ),
    "PII_TEXT_OPEN": ([], ["output", "*", "metadata"]),
    "PII_EXPLANATIONS": ([("closed", "closed")], ["open", "none"]),
    "RETENTION_DAYS": ([("1", 1), ("3650", 3650)], ["0", "3651", "180.5", "ever"]),
    "EXPORT_DESTINATIONS": (
        [
            ("evals=/data/evals, b-1=rel", (("evals", "/data/evals"), ("b-1", "rel"))),
            ("g=gs://my-bucket/a/b_1,h=gs://bkt", (("g", "gs://my-bucket/a/b_1"), ("h", "gs://bkt"))),
            ("l=http://127.0.0.1:9/x", (("l", "http://127.0.0.1:9/x"),)),
            ("w=https://evals.example.com/hook?k=1", (("w", "https://evals.example.com/hook?k=1"),)),
        ],
        [
            "evals",
            "=x",
            "evals=",
            "a=1,a=2",
            "A=/x",
            "../x=/y",
            "a=/x\0",
            "a=gs://",
            "a=gs://B/x",
            "a=gs://bucket/../x",
            "a=gs://bucket//x",
            "a=gs:/bucket",
            "a=http://example.com",
            "a=https://",
            "a=https://user:pw@example.com/",
            "a=https://example.com/#x",
            "a=https://example.com /x",
            "a=s3://bucket",
            "a=file:///etc",
        ],
    ),
    "EXPORT_WEBHOOK_SECRET": (
        [(HOOK_SECRET, Secret(HOOK_SECRET)), (REFERENCE, Secret(REFERENCE))],
        ["hunter2", "whsec_hunter2", "projects/hunter2"],
    ),
    "CLOUD_STORAGE_ENDPOINT": (
        [("127.0.0.1:4443", "127.0.0.1:4443"), ("http://localhost:1", "localhost:1")],
        ["storage.googleapis.com:443", "localhost", "127.0.0.1:0"],
    ),
    "REVIEW_WEBHOOK_URL": (
        [(HOOK, Secret(HOOK)), ("http://127.0.0.1:9/x", Secret("http://127.0.0.1:9/x")), (REFERENCE, Secret(REFERENCE))],
        ["http://hooks.example.com/x", "hooks.example.com", "https://u:p@hooks.example.com/x", "https://é.example/x"],
    ),
    "REVIEW_WEBHOOK_SECRET": (
        [(HOOK_SECRET, Secret(HOOK_SECRET)), (f"{HOOK_SECRET} {HOOK_SECRET}", Secret(f"{HOOK_SECRET} {HOOK_SECRET}"))],
        ["hunter2" * 6, "whsec_AAAA", "whsec_" + "A" * 44, f"{HOOK_SECRET} x", "projects/p/secrets/s"],
    ),
    "REVIEW_BASE_URL": (
        [
            ("https://evalforge.example.com/", "https://evalforge.example.com"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("https://example.com/evalforge", "https://example.com/evalforge"),
        ],
        ["example.com", "javascript:alert(1)", "https://u@x", "https://x?y", "https://x/#y", 'https://x/"y', "https://x/ y"],
    ),
    "HOST": ([("127.0.0.1", "127.0.0.1"), ("::1", "::1")], ["a b", "a/b", "x" * 254]),
    "PORT": ([("0", 0), ("65535", 65535)], ["65536", "-1", "http", "80.0"]),
    "PUBLIC_HOSTS": (
        [("evalforge.example.com,b:8443", ("evalforge.example.com", "b:8443"))],
        ["https://x", "a/b", "*", "a b"],
    ),
    "SERVICE_API_KEYS": (
        [(f"ci=run+read:{'0a' * 32}", (KeyRow(Caller("ci", frozenset({Role.RUN, Role.READ})), bytes([10] * 32)),))],
        ["ci", "ci=run", f"ci=fly:{'0a' * 32}", f"Ci=run:{'0a' * 32}", "ci=run:0a", f"ci=run:evf_{'a' * 43}"],
    ),
    "SERVICE_OIDC_AUDIENCE": ([("https://evalforge.example.com", "https://evalforge.example.com")], ["a b", "x" * 501]),
    "SERVICE_OIDC_CALLERS": (
        [(f"{ACCOUNT}=run", (Caller(ACCOUNT, frozenset({Role.RUN})),))],
        ["someone@example.com=run", ACCOUNT, f"{ACCOUNT}=run,{ACCOUNT}=read", f"{ACCOUNT}=fly"],
    ),
    "SERVICE_OIDC_CERTS_URL": (
        [(GOOGLE_CERTS_URL, GOOGLE_CERTS_URL), ("http://127.0.0.1:80", "http://127.0.0.1:80")],
        ["https://evil.com/certs", "http://www.googleapis.com/oauth2/v1/certs"],
    ),
    "SERVICE_CALLERS_CHECKED_BY": ([("PLATFORM", "platform"), ("service", "service")], ["nobody", "platform,service"]),
    "LOG_FORMAT": ([("JSON", "json"), ("console", "console")], ["text"]),
    "OTEL_EXPORTER_OTLP_ENDPOINT": (
        [
            ("https://otlp.example.com/", "https://otlp.example.com"),
            ("https://10.0.0.1:4318/otlp", "https://10.0.0.1:4318/otlp"),
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("http://localhost:4318", "http://localhost:4318"),
        ],
        [
            "http://collector:4318",
            "http://10.0.0.1:4318",
            "http://127.0.0.1.evil.com",
            "https://user@otlp.example.com",
            "https://otlp.example.com/?key=1",
            "https://otlp.example.com/#x",
            "grpc://127.0.0.1:4317",
            "127.0.0.1:4318",
        ],
    ),
    "OTEL_EXPORTER_OTLP_HEADERS": (
        [("dd-api-key=hunter2", Secret("dd-api-key=hunter2")), (REFERENCE, Secret(REFERENCE))],
        ["hunter2", "=hunter2", "a b=hunter2", "host=hunter2", "x=hunter2%0d%0ay", "content-encoding=hunter2"],
    ),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ([("http/protobuf", "http/protobuf")], ["grpc", "http/json"]),
    "OTEL_EXPORTER_OTLP_TIMEOUT": ([("5000", 5000)], ["0", "60001", "5s"]),
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": ([("DELTA", "delta"), ("lowmemory", "lowmemory")], ["both"]),
    "OTEL_METRIC_EXPORT_INTERVAL": ([("1000", 1000)], ["99", "3600001", "1e3"]),
    "OTEL_METRICS_EXPORTER": ([("none", "none")], ["prometheus", "console", "otlp,none"]),
    "OTEL_TRACES_EXPORTER": ([("none", "none")], ["zipkin", "console"]),
    "OTEL_SERVICE_NAME": ([("evals", "evals")], ["a b", "-x", "x" * 101]),
    "OTEL_RESOURCE_ATTRIBUTES": (
        [("deployment.environment.name=prod,team=a%20b", (("deployment.environment.name", "prod"), ("team", "a b")))],
        ["prod", "1a=b", "a=" + "x" * 256, "a=%ff"],
    ),
}

GOOD = [(name, text, value) for name, (good, _) in TABLE.items() for text, value in good]
BAD = [(name, text) for name, (_, bad) in TABLE.items() for text in bad]
ROW = {setting.name: setting for setting in SETTINGS}
PARTNERS = {
    "SERVICE_OIDC_AUDIENCE": {"SERVICE_OIDC_CALLERS": f"{ACCOUNT}=run"},
    "SERVICE_OIDC_CALLERS": {"SERVICE_OIDC_AUDIENCE": "https://evalforge.example.com"},
    "REVIEW_WEBHOOK_URL": {"REVIEW_WEBHOOK_SECRET": HOOK_SECRET},
    "REVIEW_WEBHOOK_SECRET": {"REVIEW_WEBHOOK_URL": HOOK},
}
"""What a setting cannot go without."""


def test_the_table_has_a_row_per_setting() -> None:
    assert list(TABLE) == [setting.name for setting in SETTINGS]
    fields = [field.name for field in dataclasses.fields(Settings)]
    assert fields == [*(setting.attribute for setting in SETTINGS), "given"]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_defaults_of_the_table_are_those_of_the_class(setting: Any) -> None:
    default = getattr(Settings(), setting.attribute)
    if setting.default:
        assert parsed_value(setting.name, setting.default) == default
    else:
        assert default in (None, ())
    assert setting.meaning
    assert setting.wants


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_variable_is_an_unset_one(empty: str) -> None:
    settings = Settings.from_environment({setting.name: empty for setting in SETTINGS})
    assert settings == Settings()
    assert settings.given == frozenset()


@pytest.mark.parametrize(("name", "text", "value"), GOOD, ids=lambda part: ascii(part)[:40])
def test_good_values_are_taken(name: str, text: str, value: Any) -> None:
    partner = PARTNERS.get(name, {})
    settings = Settings.from_environment({name: text} | partner)
    assert getattr(settings, ROW[name].attribute) == value
    assert settings.given == {name, *partner}


@pytest.mark.parametrize(("name", "text"), BAD, ids=lambda part: ascii(part)[:40])
def test_bad_values_are_refused_by_name_with_what_is_wanted(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: text} | PARTNERS.get(name, {}))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}: got ")
    assert f"; wants {ROW[name].wants}" in problem
    assert problem.isprintable()
    if ROW[name].secret:
        assert text not in problem


@pytest.mark.parametrize("name", PARTNERS)
def test_a_setting_that_cannot_go_alone_names_the_other(name: str) -> None:
    (other,) = PARTNERS[name]
    with pytest.raises(SettingsError, match=f"{other}: got nothing"):
        Settings.from_environment({name: PARTNERS[other][name]})


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"PORT": "x", "HOST": "127.0.0.1", "DATADOG_SITE": "x", "PII_TEXT_OPEN": "input"})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["DATADOG_SITE", "PORT", "PII_TEXT_OPEN"]
    assert "PII_TEXT_ALLOWLIST does not name input" in caught.value.message


def test_open_texts_take_both_settings() -> None:
    environment = {"PII_TEXT_ALLOWLIST": "input,metadata.userNotes", "PII_TEXT_OPEN": "Input,metadata.user_notes"}
    with pytest.raises(SettingsError, match="PII_TEXT_ALLOWLIST does not name output"):
        Settings.from_environment(environment | {"PII_TEXT_OPEN": "output"})
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment | {"PII_TEXT_ALLOWLIST": "*"})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["PII_TEXT_ALLOWLIST"]


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@api.datadoghq.com",
        "https://user:hunt/er2@evil.com/",
        "https://" + "u" * 70 + ":hunter2@evil.com",
        "https://user:hunter2@evil@evil.com",
    ],
)
def test_a_password_in_a_url_is_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"DATADOG_API_URL": url})
    assert "hunt" not in caught.value.message


def test_a_foreign_api_host_needs_to_be_trusted_by_name() -> None:
    url = "https://proxy.example.com/dd"
    with pytest.raises(SettingsError, match="DATADOG_API_URL_TRUSTED"):
        Settings.from_environment({"DATADOG_API_URL": url, "DATADOG_API_URL_TRUSTED": "other.example.com"})
    settings = Settings.from_environment({"DATADOG_API_URL": url, "DATADOG_API_URL_TRUSTED": "proxy.example.com"})
    assert settings.api_url == url


def test_the_api_url_follows_the_site() -> None:
    assert Settings.from_environment({"DATADOG_SITE": "us3.datadoghq.com"}).api_url == "https://api.us3.datadoghq.com"


def test_secrets_never_show_themselves() -> None:
    settings = Settings.from_environment(
        {
            "DATADOG_API_KEY": "hunter2-api",
            "DATADOG_APP_KEY": REFERENCE,
            "PII_SALT": "hunter2-salt" * 4,
            "REVIEW_WEBHOOK_URL": HOOK,
            "REVIEW_WEBHOOK_SECRET": HOOK_SECRET,
        }
    )
    for shown in (repr(settings), str(settings), str(settings.shown()), f"{settings.datadog_api_key}", f"{settings!r:s}"):
        assert "hunter2" not in shown
        assert HOOK_SECRET not in shown
    assert settings.shown()["REVIEW_WEBHOOK_URL"] == "set"
    assert settings.shown()["DATADOG_API_KEY"] == "set"
    assert settings.shown()["DATADOG_APP_KEY"] == f"set, {REFERENCE}"
    assert settings.shown()["PORT"] == "8000"
    assert list(settings.shown()) == [setting.name for setting in SETTINGS]


def test_references_are_known_from_literals() -> None:
    assert Secret(REFERENCE).is_reference
    assert not Secret("projectile").is_reference
    assert not Secret(REFERENCE + "/x").is_reference
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_thresholds_and_the_sqlite_path_come_from_their_settings() -> None:
    settings = Settings.from_environment(
        {
            "QUALITY_THRESHOLD": "0.3",
            "TOXICITY_THRESHOLD": "0.8",
            "IGNORED_EVALUATIONS": "csat",
            "APPLICATION_THRESHOLDS": "Shop=quality:0.7+toxicity:0.25,chat=toxicity:1",
            "CAPTURE_STORE": "sqlite:////var/data/c.db",
        }
    )
    assert (settings.thresholds.quality, settings.thresholds.toxicity) == (0.3, 0.8)
    assert settings.thresholds.ignored_evaluations == {"csat"}
    assert settings.thresholds.applications == {"shop": Limits(0.7, 0.25), "chat": Limits(None, 1.0)}
    assert settings.shown()["APPLICATION_THRESHOLDS"] == "Shop=quality:0.7+toxicity:0.25,chat=toxicity:1"
    assert settings.sqlite_path == "/var/data/c.db"
    assert Settings().sqlite_path is None


def test_bytes_that_are_no_text_are_told_without_harm() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"DATADOG_SITE": "x\udcff\x1b[31m"})
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(("text", "port"), [("9000", 9000), ("", 7), ("nonsense", 7), ("70000", 7)])
def test_one_setting_can_be_read_while_others_are_wrong(text: str, port: int) -> None:
    assert one_setting("PORT", 7, {"PORT": text, "DATADOG_SITE": "evil.com"}) == port
