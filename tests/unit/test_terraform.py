"""The Terraform configuration: what it sets are settings, what it counts are events, and no secret is anywhere in it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import structlog

from evalforge.config import SETTINGS, Settings, parsed_value
from evalforge.core.sites import SITES
from evalforge.events import EVENTS, configure_logging, emit
from evalforge.runs.report import INCOMPLETE
from evalforge.service.app import routes
from evalforge.service.limits import MAX_IN_FLIGHT
from evalforge.service.requests import run_request
from tests import log_filters
from tests.terraform import (
    FOLDER,
    Block,
    Expression,
    configuration,
    expressions,
    local_value,
    named,
    strings,
)

SETTING = {setting.name: setting for setting in SETTINGS}
SECRET = {setting.name for setting in SETTINGS if setting.secret}
README = (FOLDER / "README.md").read_text()


# Functions and not constants: whoever only collects the tests does not have to parse anything.


def service() -> Block:
    return named("resource", "google_cloud_run_v2_service", "ingestion")


def schedule() -> Block:
    return named("resource", "google_cloud_scheduler_job", "ingest")


@cache
def metrics() -> dict[str, log_filters.Filter]:
    return {name: log_filters.parsed(metric["filter"]) for name, metric in local_value("log_metrics").items()}


def resources(kind: str = "") -> list[Block]:
    return [block for block in configuration() if block.kind == "resource" and block.labels[0].startswith(kind)]


def variables() -> dict[str, Block]:
    return {block.labels[0]: block for block in configuration() if block.kind == "variable"}


# -- variables and settings


def test_every_variable_and_output_says_what_it_is_and_the_readme_names_it() -> None:
    for name, variable in variables().items():
        assert len(variable["description"]) > 20, name
        assert "type" in variable.body, name
        assert f"`{name}`" in README, name
    assert all(len(block["description"]) > 20 for block in configuration() if block.kind == "output")


def test_what_is_used_is_declared_and_what_is_declared_is_used() -> None:
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.tf"))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(variables())
    declared = {name for block in configuration() if block.kind == "locals" for name in block.body}
    assert set(re.findall(r"\blocal\.(\w+)", text)) == declared


def test_every_environment_variable_is_a_declared_setting_and_fits_it() -> None:
    fixed, secrets = local_value("fixed_settings"), local_value("secret_names")
    assert fixed.keys() | secrets.keys() <= SETTING.keys()
    assert not fixed.keys() & SECRET
    for name, value in fixed.items():
        if not isinstance(value, Expression):
            parsed_value(name, value)
    assert "merge(var.settings, local.fixed_settings, local.secret_settings)" in local_value("environment")
    audit = named("resource", "google_cloud_run_v2_job", "audit")
    for place in (service().only("template", "containers"), audit.only("template", "template", "containers")):
        [env] = place["env"]
        assert env.body == {"for_each": "${local.environment}", "name": "${env.key}", "value": "${env.value}"}


def test_settings_of_ones_own_are_neither_those_that_are_set_nor_secrets() -> None:
    refused = [
        set(re.findall(r'"([A-Z][A-Z0-9_]+)"', validation["condition"]))
        for validation in variables()["settings"]["validation"]
    ]
    assert SECRET in refused
    # Cloud Run says itself on which port it wants to be answered, and refuses a variable of that name.
    assert local_value("fixed_settings").keys() | {"PORT"} in refused
    assert "PORT" not in local_value("fixed_settings")
    assert {"SERVICE_OIDC_"} in refused


def test_what_variables_allow_is_what_the_settings_take() -> None:
    sites = set(re.findall(r'"([a-z0-9.-]+\.(?:com|eu))"', variables()["datadog_site"].only("validation")["condition"]))
    assert sites == set(SITES)
    pattern = re.search(r'regex\("(\^.*?\$)"', variables()["collection_prefix"].only("validation")["condition"])
    assert pattern is not None
    for prefix, fits in (
        ("evalforge_", True),
        ("a", True),
        ("team-a_", True),
        ("_a", False),
        ("a" * 62, False),
        ("a/b", False),
    ):
        assert bool(re.fullmatch(pattern[1].strip("^$"), prefix)) is fits
        if fits:
            parsed_value("FIRESTORE_COLLECTION_PREFIX", prefix)


# -- secrets


def test_no_secret_is_in_the_configuration_or_in_its_state() -> None:
    """Secrets are made without a version, and the service is given their names."""
    assert not resources("google_secret_manager_secret_version")
    assert set(local_value("always_secret")) == {"DATADOG_API_KEY", "DATADOG_APP_KEY", "PII_SALT"}
    assert local_value("secret_names").keys() <= SECRET
    assert '"projects/${var.project}/secrets/${secret.secret_id}/versions/latest"' in local_value("secret_settings")
    for name in local_value("secret_names"):
        named_version = "projects/some-project/secrets/evalforge-x/versions/latest"
        assert parsed_value(name, named_version) is not None
    for name, variable in variables().items():
        default = variable.body.get("default")
        assert not re.search(r"[A-Za-z0-9+/_-]{24}", json.dumps(default)) or name == "ingress", name
    for text in (path.read_text() for path in FOLDER.iterdir() if path.is_file()):
        assert not re.search(r"whsec_[A-Za-z0-9]|evf_[A-Za-z0-9]|\b[0-9a-f]{32}\b|AIza|-----BEGIN", text)


def test_a_person_adds_the_versions_and_no_key_comes_into_the_shells_history() -> None:
    for secret in ("datadog-api-key", "datadog-app-key", "pii-salt"):
        [line] = [line for line in README.splitlines() if f"versions add evalforge-{secret}" in line]
        assert line.endswith("--data-file=-")


# -- one run at a time, and its time


def test_the_schedule_waits_as_long_as_a_request_may_take_and_a_run_ends_before() -> None:
    timeout_s = local_value("request_timeout_s")
    assert timeout_s == 1800
    wanted = '"${local.request_timeout_s}s"'
    assert (service().only("template")["timeout"], schedule()["attempt_deadline"]) == (wanted, wanted)
    # What a run still does after its budget: its page, users, what errors said, telling, its record.
    assert int(local_value("fixed_settings")["RUN_BUDGET_S"]) + 300 <= timeout_s
    assert int(local_value("fixed_settings")["STOP_GRACE_S"]) < 10


def test_one_instance_and_no_more_requests_than_the_service_takes() -> None:
    template = service().only("template")
    assert template.only("scaling")["max_instance_count"] == 1
    assert template["max_instance_request_concurrency"] <= MAX_IN_FLIGHT


def test_the_schedule_asks_for_a_run_as_the_service_understands_it() -> None:
    target = schedule().only("http_target")
    assert target["uri"] == '"${local.url}/ingestion/run-once"'
    assert ("POST", "/ingestion/run-once") in {(door.method, door.path) for door in routes.doors}
    assert "local.run_request" in target["body"]
    asked = run_request(list(local_value("run_request").items()))
    assert (asked.since_last, asked.dry_run, asked.lookback_hours) == (True, False, None)


def test_a_409_is_not_tried_again_and_no_alert_hears_of_it() -> None:
    assert schedule().only("retry_config").body == {"retry_count": 0}
    for policy in resources("google_monitoring_alert_policy"):
        assert "cloudscheduler" not in " ".join(strings(policy))


# -- who may come in


def test_only_the_schedule_may_call_unless_somebody_is_named() -> None:
    assert variables()["ingress"]["default"] == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    assert service()["invoker_iam_disabled"] is False
    assert variables()["invokers"]["default"] == []
    binding = named("resource", "google_cloud_run_v2_service_iam_binding", "invokers")
    assert binding["members"] == "${concat([google_service_account.scheduler.member], sort(var.invokers))}"
    oidc = schedule().only("http_target", "oidc_token")
    assert oidc.body == {
        "service_account_email": "${google_service_account.scheduler.email}",
        "audience": "${local.url}",
    }
    everything = " ".join(text for block in configuration() for text in strings(block))
    assert not re.search(r"allUsers|allAuthenticatedUsers|roles/(owner|editor|viewer)\b", everything)
    settings = Settings.from_environment({"HOST": "0.0.0.0", "SERVICE_CALLERS_CHECKED_BY": "platform"})
    assert settings.host == local_value("fixed_settings")["HOST"]


def test_every_role_has_a_row_that_says_why_it_is_the_least() -> None:
    given = {role for block in resources() if isinstance(role := block.body.get("role"), str)}
    section = README.partition("## Who may do what")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert given == {role for row in rows for role in re.findall(r"`(roles/[\w.]+)`", row.split("|")[2])}
    assert all(len(row.split("|")[4]) > 40 for row in rows)
    firestore = named("resource", "google_project_iam_member", "firestore")
    assert "databases/${google_firestore_database.captures.name}" in firestore.only("condition")["expression"]


# -- Firestore


def test_every_declared_index_is_mapped_and_none_is_left_out() -> None:
    """By the text alone; that Terraform makes the same of it is tested where Terraform is."""
    assert local_value("declared") == '${jsondecode(file("${path.module}/../firestore/firestore.indexes.json"))}'
    assert local_value("composites").startswith("${{for index in local.declared.indexes :")
    assert local_value("fields").startswith("${{for one in local.declared.fieldOverrides :")
    assert " if " not in local_value("composites") + local_value("fields")
    conditions = [named("resource", "google_firestore_field", name)["for_each"] for name in ("named", "others")]
    assert [re.search(r"if one\.field (..) \"\*\"", one)[1] for one in conditions] == ["!=", "=="]  # type: ignore[index]
    assert named("resource", "google_firestore_index", "composite")["for_each"] == "${local.composites}"
    [file] = named("resource", "google_firebaserules_ruleset", "deny").only("source")["files"]
    assert file["content"] == '${file("${path.module}/../firestore/firestore.rules")}'


def test_what_was_erased_is_not_kept_by_the_database() -> None:
    database = named("resource", "google_firestore_database", "captures")
    assert database["point_in_time_recovery_enablement"] == "POINT_IN_TIME_RECOVERY_DISABLED"
    assert (database["delete_protection_state"], database["deletion_policy"]) == ("DELETE_PROTECTION_ENABLED", "ABANDON")
    assert not resources("google_firestore_backup")


# -- alerts


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_every_filter_names_events_and_fields_of_theirs() -> None:
    events = {event.name: event for event in EVENTS}
    for way in [way for one in metrics().values() for way in one.ways]:
        [message] = [one for one, holds in way if one.field == "jsonPayload.message" and holds]
        [event_name] = message.values
        event = events[event_name]
        # A line that holds nothing but its message becomes the text of an entry, without jsonPayload.
        assert event.fields, event_name
        assert event.level != "DEBUG", "which is not written"
        for one, _ in way:
            assert one.field.removeprefix("jsonPayload.") in {"message", *event.fields}, (event_name, one.field)


def test_a_filter_that_names_no_event_is_seen() -> None:
    """The check above can fail."""
    [way] = log_filters.parsed('jsonPayload.message="run.ended" AND NOT jsonPayload.colour=("red" OR "blue")').ways
    assert [(one.field, one.values, holds) for one, holds in way] == [
        ("jsonPayload.message", ("run.ended",), True),
        ("jsonPayload.colour", ("red", "blue"), False),
    ]
    for wrong in ('a="b" AND c="d" OR e="f"', 'a~"b"', '(a="b"', 'a="b" c="d"', 'NOT (a="b" OR c="d")'):
        with pytest.raises(ValueError):  # noqa: PT011 - several kinds of mistake, one error
            log_filters.parsed(wrong)


BEHIND = {"time_budget", "cap", "stopped", "lease_lost", "partial", "error"}

CASES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("run.finished", {"outcome": "complete", "dry_run": False, "incomplete_because": []}, {"caught_up"}),
    ("run.finished", {"outcome": "complete", "dry_run": True, "incomplete_because": []}, set()),
    *(
        ("run.finished", {"dry_run": False, "incomplete_because": [code]}, set() if code in BEHIND else {"caught_up"})
        for code in INCOMPLETE
    ),
    ("run.finished", {"dry_run": False, "incomplete_because": ["query_mode", "cap"]}, set()),
    ("run.failed", {"code": "source_unavailable"}, {"failed"}),
    ("run.failed", {"code": "quota_exhausted", "retry_after_s": 60}, {"quota"}),
    ("run.refused", {"holder": "h", "since": "s"}, set()),
    ("run.started", {"run_id": "r"}, set()),
    ("service.misconfigured", {"problems": ["PORT"]}, {"failed"}),
    ("request.failed", {"code": "KeyError"}, {"failed"}),
    ("request.failed", {"route": 'jsonPayload.message="second_net.hit"'}, {"failed"}),
    ("item.rejected", {"reason": "no_trace_id"}, {"dead_letters"}),
    ("window.gone", {"source": "apm"}, {"gone"}),
    ("second_net.hit", {"count": 1}, {"leaks"}),
    ("audit.finished", {"documents": 10, "leaking": 0}, set()),
    ("audit.finished", {"documents": 10, "leaking": 2, "fixed": 2}, {"leaks"}),
    ("caller.refused", {"reason": "missing_role", "count": 900}, set()),
]


@pytest.mark.parametrize(("event", "fields", "counted"), CASES, ids=lambda value: str(value)[:60])
def test_a_line_of_the_log_is_counted_where_it_should_be(
    event: str, fields: dict[str, Any], counted: set[str], log: io.StringIO
) -> None:
    emit(event, **fields)
    [line] = log.getvalue().splitlines()
    entry = {"jsonPayload": json.loads(line)}
    assert {name for name, one in metrics().items() if one.holds(entry)} == counted


def test_every_metric_has_its_alert_and_every_alert_its_metric() -> None:
    alerts = local_value("alerts")
    assert metrics().keys() - {"caught_up"} == alerts.keys()
    assert 'events["caught_up"]' in local_value("caught_up")
    lag = named("resource", "google_monitoring_alert_policy", "lag").only(
        "conditions", "condition_prometheus_query_language"
    )
    assert lag["query"] == '"sum(increase(${local.caught_up})) < 1 or absent_over_time(${local.caught_up})"'
    for name, alert in alerts.items():
        assert len(alert["advice"]) > 40, name
    for policy in resources("google_monitoring_alert_policy"):
        assert policy["notification_channels"] == "${local.channels}"


def test_commands_that_alerts_advise_exist() -> None:
    from evalforge.cli import main

    advice = " ".join(strings([local_value("alerts")])) + " ".join(
        text for policy in resources("google_monitoring_alert_policy") for text in strings(policy)
    )
    commands = set(re.findall(r"evalforge ((?:audit|dead-letters|runs)(?: (?:list|replay|show))?)", advice))
    assert len(commands) >= 4
    for command in sorted(commands):
        assert main([*command.split(), "--help"]) == 0, command


def test_nothing_is_made_of_a_text_that_only_looks_like_an_expression() -> None:
    """The parser's own quirk: what is not literal keeps its quotes, so that a test cannot take it for a value."""
    assert next(expressions(schedule().only("http_target"))).startswith('"${local.url}')
