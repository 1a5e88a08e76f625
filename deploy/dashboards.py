"""Writes deploy/observability/: dashboards and alerts for Datadog, Grafana and Prometheus, from one table each.

`python -m deploy.dashboards`, with `--check` only to compare. Every query is made of rows of the table of instruments.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalforge.telemetry.instruments import INSTRUMENT_OF, Kind, prometheus_name

FOLDER = Path(__file__).parent / "observability"
DOCS = "docs/observability.md"
TITLE = "EvalForge ingestion"


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph of the dashboards: an instrument, split by some of its attributes."""

    title: str
    instrument: str
    by: tuple[str, ...] = ()
    asks: str = ""


PANELS: tuple[Panel, ...] = (
    Panel("Runs by outcome", "evalforge.runs", ("outcome",), "does it run, and do runs end well?"),
    Panel("Lag by source", "evalforge.lag", ("source",), "how far behind now is what was read?"),
    Panel("Duration of runs", "evalforge.run.duration", ("plan",), "do runs fit their schedule?"),
    Panel("Errors by code", "evalforge.errors", ("code",), "what ends runs?"),
    Panel("Spans read", "evalforge.spans.read", ("source",), "how much comes in?"),
    Panel("Spans that are healthy", "evalforge.spans.healthy", ("source",), "does the query narrow enough?"),
    Panel("Spans that fail", "evalforge.spans.failing", ("source",), "how much goes wrong in the applications?"),
    Panel("Spans rejected", "evalforge.spans.rejected", ("source",), "what could not be captured?"),
    Panel("New captures by failure type", "evalforge.captures.new", ("failure_type",), "what goes wrong?"),
    Panel("Captures by outcome", "evalforge.captures", ("outcome",), "what became of them?"),
    Panel("Values removed by kind", "evalforge.redactions", ("kind",), "what did sanitizing take out?"),
    Panel("Second-net hits", "evalforge.second_net.hits", (), "did sanitizing leave something for the second net?"),
    Panel("Requests to Datadog by answer", "evalforge.datadog.requests", ("code",), "how does Datadog answer?"),
    Panel("Retries by cause", "evalforge.datadog.retries", ("code",), "what has to be asked again?"),
    Panel("Quota left", "evalforge.datadog.quota.remaining", ("source",), "how much of the rate limit is left?"),
    Panel("Duration of requests", "evalforge.datadog.request.duration", ("source",), "how fast does Datadog answer?"),
    Panel("Write batches by outcome", "evalforge.store.write_batches", ("outcome",), "does the store take what is written?"),
    Panel("Duration of writes", "evalforge.store.write.duration", ("store",), "how fast does the store write?"),
    Panel("Duration of pages", "evalforge.page.duration", ("source",), "how fast are pages judged and stored?"),
    Panel("Dead letters by reason", "evalforge.dead_letters.kept", ("reason",), "why was it rejected?"),
    Panel("Dead letters in the store", "evalforge.dead_letters", (), "how many wait for somebody?"),
    Panel("Filter gaps by source", "evalforge.filter.gaps", ("source",), "does the query miss failures?"),
)


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, for Prometheus and for Datadog: when the number is beyond the threshold, somebody is told.

    `minutes` is how long that has to hold in Prometheus; Datadog's queries say themselves what they look at.
    """

    name: str
    severity: str
    promql: str
    datadog: str
    comparison: str
    threshold: float
    minutes: int
    meaning: str
    do: str
    no_data_minutes: int = 0


ALERTS: tuple[Alert, ...] = (
    Alert(
        "EvalForgeLags",
        "warning",
        "max by (source) (evalforge_lag_seconds)",
        "max(last_15m):max:evalforge.lag{*} by {source}",
        ">",
        7200.0,
        15,
        "what was read last ends two hours or more before now",
        "look at the last runs (`evalforge runs list`): do they run at all, and why are they incomplete? With a schedule "
        "slower than hourly raise the threshold",
    ),
    Alert(
        "EvalForgeIsSilent",
        "critical",
        "(sum(increase(evalforge_runs_total[4h])) or vector(0))",
        "sum(last_4h):sum:evalforge.runs{*}.as_count()",
        "<",
        1.0,
        5,
        "no run ended within four hours",
        "look at the scheduler, then at the service's `/health`",
        no_data_minutes=240,
    ),
    Alert(
        "EvalForgeRunsFail",
        "critical",
        'sum by (outcome) (increase(evalforge_runs_total{outcome=~"failed|not_begun"}[1h]))',
        "sum(last_1h):sum:evalforge.runs{outcome:failed OR outcome:not_begun}.as_count()",
        ">",
        0.0,
        0,
        "a run ended with an error, or could not begin; what it stored before stays",
        "the error's code stands in `evalforge runs list` and in `evalforge.errors`; "
        "docs/operations.md says what each one wants",
    ),
    Alert(
        "EvalForgeLostAWindow",
        "critical",
        "sum by (source) (increase(evalforge_windows_gone_total[1d]))",
        "sum(last_1d):sum:evalforge.windows.gone{*} by {source}.as_count()",
        ">",
        0.0,
        0,
        "Datadog no longer holds a window that no run has read: its failures are lost",
        "the report's `gone` names the window; run more often, or raise RUN_BUDGET_S and MAX_CAPTURES_PER_RUN",
    ),
    Alert(
        "EvalForgeFilterMisses",
        "warning",
        "max by (source) (evalforge_filter_gaps)",
        "max(last_1h):max:evalforge.filter.gaps{*} by {source}",
        ">",
        0.0,
        60,
        "a sample read without the query holds failures that the query does not find",
        "the report's `filter_gaps` names the places: add the evaluators to EVALUATIONS, or set DATADOG_FILTER=scan",
    ),
    Alert(
        "EvalForgeRejectsSpans",
        "warning",
        "sum by (source) (increase(evalforge_spans_rejected_total[1h])) / "
        "clamp_min(sum by (source) (increase(evalforge_spans_read_total[1h])), 1)",
        "sum(last_1h):sum:evalforge.spans.rejected{*} by {source}.as_count() / "
        "sum:evalforge.spans.read{*} by {source}.as_count()",
        ">",
        0.01,
        0,
        "more than one item in a hundred could not become a capture, nor be found healthy",
        "`evalforge dead-letters list` shows why, `evalforge dead-letters replay` tries again",
    ),
    Alert(
        "EvalForgeSecondNetHit",
        "warning",
        "sum(increase(evalforge_second_net_hits_total[1d]))",
        "sum(last_1d):sum:evalforge.second_net.hits{*}.as_count()",
        ">",
        0.0,
        0,
        "the second net closed what the sanitizer had left: nothing leaked, but a rule missed something",
        "the log's `second_net.hit` names the trace: `evalforge privacy explain` tells what was there; report the rule",
    ),
    Alert(
        "EvalForgeQuotaRunsOut",
        "warning",
        "min by (source) (evalforge_datadog_quota_remaining / evalforge_datadog_quota_limit)",
        "min(last_15m):min:evalforge.datadog.quota.remaining{*} by {source} / "
        "max:evalforge.datadog.quota.limit{*} by {source}",
        "<",
        0.1,
        15,
        "less than a tenth of Datadog's rate limit is left, whoever used it",
        "runs wait by themselves; run less often, or ask Datadog for a higher limit",
    ),
    Alert(
        "EvalForgeAsksAgain",
        "warning",
        "sum(increase(evalforge_datadog_retries_total[1h])) / "
        "clamp_min(sum(increase(evalforge_datadog_requests_total[1h])), 1)",
        "sum(last_1h):sum:evalforge.datadog.retries{*}.as_count() / sum:evalforge.datadog.requests{*}.as_count()",
        ">",
        0.2,
        0,
        "more than one request in five to Datadog had to be sent again",
        "`evalforge.datadog.retries` has the causes: 429 is the quota, 5xx is Datadog, no_answer the network between",
    ),
    Alert(
        "EvalForgeWritesFail",
        "critical",
        'sum by (store) (increase(evalforge_store_write_batches_total{outcome="failed"}[1h]))',
        "sum(last_1h):sum:evalforge.store.write_batches{outcome:failed} by {store}.as_count()",
        ">",
        0.0,
        0,
        "the store did not take a batch of captures; the run ended there, and the next one goes on from the page before",
        "look at the store's status and quotas, and at `/health`",
    ),
)
"""Every alert, in the order in which they are documented."""


def monitors() -> list[dict[str, Any]]:
    """Datadog's monitors, one for each alert."""
    made = []
    for alert in ALERTS:
        options: dict[str, Any] = {
            "thresholds": {"critical": alert.threshold},
            "include_tags": True,
            "notify_audit": False,
            "on_missing_data": "show_and_notify_no_data" if alert.no_data_minutes else "default",
        }
        made.append(
            {
                "name": f"{TITLE}: {alert.meaning}",
                "type": "query alert",
                "query": f"{alert.datadog} {alert.comparison} {alert.threshold:g}",
                "message": f"{alert.name}: {alert.meaning}.\n\n{alert.do}.\n\n{DOCS}",
                "tags": ["team:evalforge", f"alert:{alert.name}"],
                "priority": 2 if alert.severity == "critical" else 4,
                "options": options,
            }
        )
    return made


def prometheus_rules() -> dict[str, Any]:
    """Prometheus' rules, one for each alert."""
    rules = [
        {
            "alert": alert.name,
            "expr": f"{alert.promql} {alert.comparison} {alert.threshold:g}",
            "for": f"{alert.minutes}m",
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.meaning,
                "description": alert.do,
                "runbook": DOCS,
            },
        }
        for alert in ALERTS
    ]
    return {"groups": [{"name": "evalforge", "rules": rules}]}


def datadog_dashboard() -> dict[str, Any]:
    """Datadog's dashboard, a widget for each panel."""
    widgets = []
    for panel in PANELS:
        kind = INSTRUMENT_OF[panel.instrument].kind
        by = f" by {{{','.join(panel.by)}}}" if panel.by else ""
        over = {Kind.COUNTER: "sum", Kind.HISTOGRAM: "avg"}.get(kind, "max")
        query = f"{over}:{panel.instrument}{{$env,$service}}{by}{'.as_count()' if kind is Kind.COUNTER else ''}"
        request = {
            "response_format": "timeseries",
            "queries": [{"data_source": "metrics", "name": "query1", "query": query}],
            "formulas": [{"formula": "query1"}],
            "display_type": "bars" if kind is Kind.COUNTER else "line",
        }
        definition = {
            "type": "timeseries",
            "title": panel.title,
            "show_legend": True,
            "legend_layout": "auto",
            "requests": [request],
        }
        widgets.append({"definition": definition})
    return {
        "title": TITLE,
        "description": f"What EvalForge ingestion tells of itself. {DOCS}",
        "layout_type": "ordered",
        "reflow_type": "auto",
        "template_variables": [
            {"name": "env", "prefix": "env", "available_values": [], "default": "*"},
            {"name": "service", "prefix": "service", "available_values": [], "default": "*"},
        ],
        "widgets": widgets,
    }


def grafana_dashboard() -> dict[str, Any]:
    """Grafana's dashboard over a Prometheus data source, a panel for each of the table."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = []
    for number, panel in enumerate(PANELS):
        row = INSTRUMENT_OF[panel.instrument]
        target = {"refId": "A", "datasource": source, "expr": _grafana_query(panel), "legendFormat": _legend(panel.by)}
        unit = "s" if row.unit == "s" else "short"
        custom = {"drawStyle": "bars" if row.kind is Kind.COUNTER else "line", "fillOpacity": 20}
        panels.append(
            {
                "id": number + 1,
                "type": "timeseries",
                "title": panel.title,
                "description": panel.asks,
                "datasource": source,
                "gridPos": {"h": 8, "w": 8, "x": number % 3 * 8, "y": number // 3 * 8},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": []},
                "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
                "targets": [target],
            }
        )
    return {
        "uid": "evalforge-ingestion",
        "title": TITLE,
        "description": f"What EvalForge ingestion tells of itself. {DOCS}",
        "tags": ["evalforge"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
        },
        "panels": panels,
    }


def _grafana_query(panel: Panel) -> str:
    row = INSTRUMENT_OF[panel.instrument]
    name, by = prometheus_name(row), ", ".join(panel.by)
    grouped = f" by ({by})" if by else ""
    if row.kind is Kind.COUNTER:
        return f"sum{grouped} (increase({name}[$__rate_interval]))"
    if row.kind is Kind.HISTOGRAM:
        buckets = f"sum by ({', '.join(filter(None, ('le', by)))}) (rate({name}_bucket[$__rate_interval]))"
        return f"histogram_quantile(0.95, {buckets})"
    return f"max{grouped} ({name})"


def _legend(by: Sequence[str]) -> str:
    return " ".join(f"{{{{{name}}}}}" for name in by) or "all"


def files() -> Mapping[str, str]:
    """Every file with what it has to hold. YAML is written as JSON, which it contains."""
    made = {
        "datadog-dashboard.json": datadog_dashboard(),
        "datadog-monitors.json": monitors(),
        "grafana-dashboard.json": grafana_dashboard(),
        "prometheus-rules.yaml": prometheus_rules(),
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in made.items()}


def main(arguments: Sequence[str]) -> int:
    """Writes the files, or with `--check` names those that are out of date; the exit code says whether all were right."""
    stale = [name for name, text in files().items() if _present(name) != text]
    for name in stale:
        if "--check" not in arguments:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / name).write_text(files()[name])
        print(f"deploy/observability/{name}: {'out of date, run `make docs`' if '--check' in arguments else 'rewritten'}")
    return 1 if stale and "--check" in arguments else 0


def _present(name: str) -> str:
    path = FOLDER / name
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
