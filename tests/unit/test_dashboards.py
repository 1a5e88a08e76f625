"""Dashboards and alerts ask for metrics and values that there are, in shapes that Datadog and Grafana take."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.dashboards import ALERTS, FOLDER, PANELS, files, main
from evalforge.telemetry.instruments import INSTRUMENT_OF, INSTRUMENTS, Kind, prometheus_name

DATADOG = {row.name: {one.name: one.values for one in row.attributes} for row in INSTRUMENTS}
PROMETHEUS = {
    name: {**{one.name: one.values for one in row.attributes}, **({"le": frozenset()} if row.buckets else {})}
    for row in INSTRUMENTS
    for name in (
        [f"{prometheus_name(row)}_{part}" for part in ("bucket", "sum", "count")] if row.buckets else [prometheus_name(row)]
    )
}
OWN = {"env", "service"}


def loaded(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def texts_under(value: Any, *keys: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in keys and isinstance(inner, str):
                yield inner
            yield from texts_under(inner, *keys)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_under(inner, *keys)


DATADOG_QUERIES = [
    query for name in ("datadog-dashboard.json", "datadog-monitors.json") for query in texts_under(loaded(name), "query")
]
PROMETHEUS_QUERIES = [
    query for name in ("grafana-dashboard.json", "prometheus-rules.yaml") for query in texts_under(loaded(name), "expr")
]


def test_the_files_are_those_of_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out
    assert {path.name for path in FOLDER.iterdir()} == set(files())


@pytest.mark.parametrize("query", DATADOG_QUERIES)
def test_datadog_is_asked_for_metrics_that_there_are(query: str) -> None:
    asked = re.findall(r"(?:sum|avg|max|min):([a-z_.]+)\{([^}]*)\}(?: by \{([^}]*)\})?(\.as_count\(\))?", query)
    assert asked
    assert len(asked) == len(re.findall(r"evalforge", query))
    for name, scope, by, counted in asked:
        values = DATADOG[name]
        assert bool(counted) == (INSTRUMENT_OF[name].kind is Kind.COUNTER)
        assert {one for one in by.split(",") if one} <= set(values)
        for label, value in re.findall(r"(\w+):(\w+)", scope):
            assert value in values[label]


@pytest.mark.parametrize("query", PROMETHEUS_QUERIES)
def test_prometheus_is_asked_for_metrics_that_there_are(query: str) -> None:
    asked = re.findall(r"(evalforge_[a-z_]+)(?:\{([^}]*)\})?(\[[^]]+\])?", query)
    assert asked
    labels = set().union(*(PROMETHEUS[name] for name, _, _ in asked))
    for name, selector, window in asked:
        assert bool(window) == name.endswith(("_total", "_bucket"))
        for label, text in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            assert set(text.split("|")) <= PROMETHEUS[name][label]
    for by in re.findall(r"by \(([^)]*)\)", query):
        assert {one.strip() for one in by.split(",")} <= labels


def test_every_metric_of_the_table_has_a_graph() -> None:
    shown = {panel.instrument for panel in PANELS}
    assert {row.name for row in INSTRUMENTS} - shown == {"evalforge.windows.gone", "evalforge.datadog.quota.limit"}
    assert all("evalforge.windows.gone" in alert.datadog for alert in ALERTS if alert.name == "EvalForgeLostAWindow")


def test_alerts_are_named_once_and_the_same_in_both() -> None:
    names = [alert.name for alert in ALERTS]
    assert len(set(names)) == len(names)
    assert [rule["alert"] for rule in loaded("prometheus-rules.yaml")["groups"][0]["rules"]] == names
    assert [monitor["message"].split(":")[0] for monitor in loaded("datadog-monitors.json")] == names
    for alert in ALERTS:
        asked = {
            name for name, row in INSTRUMENT_OF.items() if re.search(rf"{prometheus_name(row)}(?![a-z_])", alert.promql)
        }
        assert asked == set(re.findall(r"evalforge\.[a-z_.]+[a-z]", alert.datadog)), alert.name


def test_datadogs_own_client_knows_every_field() -> None:
    # In a process of its own: the client patches what it imports.
    program = """
import json, sys
from datadog_api_client import ApiClient, Configuration
from datadog_api_client.model_utils import ModelNormal, UnparsedObject
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.monitor import Monitor

def odd(value, path):
    if isinstance(value, UnparsedObject) or getattr(value, "_unparsed", False):
        yield f"{path}: not parsed"
    elif isinstance(value, ModelNormal):
        names = set(type(value).attribute_map)
        for name, inner in value._data_store.items():
            if name not in names:
                yield f"{path}.{name}: unknown"
            yield from odd(inner, f"{path}.{name}")
    elif hasattr(value, "_composed_instances"):
        for inner in value._composed_instances:
            yield from odd(inner, path)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from odd(inner, f"{path}[{at}]")

client = ApiClient(Configuration())
read = lambda text, model: client.deserialize(text, (model,), True)
dashboard, monitors = json.loads(sys.stdin.read())
found = list(odd(read(json.dumps(dashboard), Dashboard), "dashboard"))
for monitor in monitors:
    found += odd(read(json.dumps(monitor), Monitor), monitor["name"])
print(json.dumps(found))
"""
    given = [loaded("datadog-dashboard.json"), loaded("datadog-monitors.json")]

    def checked(content: Any) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps(content), capture_output=True, text=True, check=True
        )
        found: list[str] = json.loads(done.stdout)
        return found

    assert checked(given) == []
    given[0]["widgets"][0]["definition"]["requests"][0]["display_type"] = "fireworks"
    given[1][0]["type"] = "no such alert"
    assert len(checked(given)) >= 2, "the check can fail"


def test_grafanas_dashboard_has_its_shape() -> None:
    dashboard = loaded("grafana-dashboard.json")
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert all(x + panel["gridPos"]["w"] <= 24 for (x, _), panel in zip(places, dashboard["panels"], strict=True))
    [variable] = dashboard["templating"]["list"]
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == f"${{{variable['name']}}}"
        assert {target["refId"] for target in panel["targets"]} == {"A"}
